"""The most memory a training run takes, in sizes of its frame.

    python bench/memory.py [ROWS] [FAMILY]

The frame is in memory when the count starts, and is one of the sizes. Only this process is
counted, so training stays in it (one worker); the model's artifacts go to a temporary folder.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from surefit import models
from surefit.core import data as tables
from surefit.core import fit, metrics, split
from surefit.sections import DataConfig, SplitConfig

PAGE = resource.getpagesize()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Peak(threading.Thread):
    """Watches the process and keeps the largest value."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.on = 0, True

    def run(self) -> None:
        while self.on:
            self.most = max(self.most, resident())
            time.sleep(0.01)


def table(n: int) -> pd.DataFrame:
    """30 numeric columns, one of them the target."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 29))
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(29)], copy=False)
    frame["y"] = (x[:, 0] + rng.normal(size=n) > 0).astype("float64")
    return frame


def main(n: int, family: str) -> None:
    """Prepare, divide and fit one fold after the other, then all training rows."""
    os.chdir(tempfile.mkdtemp())
    warm = tables.prepare(table(500), DataConfig(path="t", target="y"))
    train(warm, family)  # imports
    before = resident()
    frame = table(n)
    size = int(frame.memory_usage(index=False).sum())
    peak = Peak()
    peak.start()
    started = time.perf_counter()
    data = tables.prepare(frame, DataConfig(path="t", target="y"))
    prepared = resident() - before
    train(data, family)
    peak.on = False
    peak.join()
    most = peak.most - before
    print(f"{n:,} rows x {frame.shape[1]} columns, {size / 2**20:,.0f} MiB as a DataFrame")
    print(f"after prepare {prepared / size:.2f} sizes, at most {most / size:.2f} sizes "
          f"({family}, {time.perf_counter() - started:.0f} s)")  # fmt: skip


def train(data: tables.Dataset, family: str) -> None:
    divided = split.make(data, SplitConfig(folds=3))
    metric = metrics.default(data.task).name
    problem = fit.problem(data, divided, family=family, metric=metric, seed=0)
    wanted = {"num_iterations": 20} if family == "lightgbm" else {}
    params = models.named(family).resolve(wanted, data.task)
    for number in range(divided.n_folds):
        fit.fit_fold(problem, params, number)
        problem.forget()
    fit.fit_all(problem, params, rounds=[20])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000,
         sys.argv[2] if len(sys.argv) > 2 else "lightgbm")  # fmt: skip
