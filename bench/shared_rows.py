"""What preprocessing a fold once for all workers saves: python bench/shared_rows.py [WORKERS].

The same search's jobs by the same pool, with the workers' shelf and without it: seconds, CPU, and
the most memory of all workers together (what is shared counted once). Linux.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit import models
from surefit.core import data, fit, metrics, split
from surefit.core.fit import FoldResult, Problem
from surefit.edges import nursery
from surefit.edges.jobs import Job
from surefit.edges.pool import Pool
from surefit.sections import DataConfig, SplitConfig
from surefit.verbs.fold_job import of_trial

FOLDER = Path(os.environ.get("SUREFIT_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
FOLDS, TRIALS = 5, 4


def alone(problem: Problem, params: dict[str, Any], fold: int) -> FoldResult:
    """A job as it would be without the shelf."""
    return fit.fit_fold(problem, params, fold)


def large(n: int) -> pd.DataFrame:
    """As many numbers as covertype: 54 columns."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 54)).round(3)
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(54)])
    frame["y"] = np.where(x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=n) > 0, "a", "b")
    return frame


class Together(threading.Thread):
    """The most memory that the pool's processes had together, looked at every 0.1 s."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(daemon=True)
        self._pool, self._on, self.most = pool, True, 0

    def run(self) -> None:
        while self._on:
            files = {self._pool._shelf, getattr(self._pool._shared, "fd", -1)} - {-1}
            with contextlib.suppress(OSError):
                shared = sum(os.fstat(fd).st_blocks * 512 for fd in files)
                self.most = max(self.most, shared + sum(map(_private, _children(os.getpid()))))
            time.sleep(0.1)

    def end(self) -> int:
        self._on = False
        self.join()
        return self.most


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_children(child)]
    return found


def _private(pid: int) -> int:
    """A process's own memory, and its share of what it has in common with its parent."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


def measured(fn: Callable[..., Any], problem: Problem, params: dict[str, Any], workers: int) -> Any:
    """Seconds, CPU seconds and bytes of all jobs of a few trials; and the scores."""
    cpu, started = sum(os.times()[2:4]), time.perf_counter()
    with Pool(fn, workers=workers, preload=nursery.FOLDS, shared=problem) as pool:
        watch = Together(pool)
        watch.start()
        for number in range(TRIALS * FOLDS):
            pool.submit(Job(key=number, args=(params, number % FOLDS)))
        found = {}
        while outcome := pool.next():
            assert outcome.state == "DONE", outcome.reason
            found[outcome.key] = outcome.value.score
        seconds, most = time.perf_counter() - started, watch.end()
    return seconds, sum(os.times()[2:4]) - cpu, most, [found[k] for k in sorted(found)]


def main(workers: int) -> None:
    """Print a row a table, family and way."""
    tables = {"adult": (pd.read_csv(FOLDER / "adult_train.csv"), "income"),
              "400,000 x 54": (large(400_000), "y")}  # fmt: skip
    print(f"{TRIALS} trials of {FOLDS} folds, {workers} workers\n")
    print("| table | family | rows of a fold | seconds | CPU | memory of all workers |")
    print("|---|---|---|---|---|---|")
    for name, (frame, target) in tables.items():
        rows = data.prepare(frame, DataConfig(path=name, target=target))
        cut = split.make(rows, SplitConfig(folds=FOLDS))
        for family in ("lightgbm", "linear"):
            metric = metrics.default(rows.task).name
            problem = fit.problem(rows, cut, family=family, metric=metric, seed=0)
            few = {"num_iterations": 20} if family == "lightgbm" else {"C": 0.01}
            params = models.named(family).resolve(few, rows.task)
            scores = []
            for way, fn in {"a worker each": alone, "once": of_trial}.items():
                seconds, cpu, most, score = measured(fn, problem, params, workers)
                scores.append(score)
                print(f"| {name} | {family} | {way} | {seconds:.1f} | {cpu:.1f} | "
                      f"{most / 2**20:,.0f} MiB |", flush=True)  # fmt: skip
            assert scores[0] == scores[1], "the scores differ"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
