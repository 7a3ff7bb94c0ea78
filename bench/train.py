"""What recording a training run costs beside its fits: `python bench/train.py [ROWS]`.

Trains on a made-up table in a temporary folder, three times a model after a warm-up, and prints
the median seconds of the whole verb, of its fits, of writing the model's own files, of logging the
model beside that, and of the rest. Seconds are of this process's CPU, in brackets of the clock.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from unittest import mock

import numpy as np
import pandas as pd

import surefit
from surefit.core import fit
from surefit.edges import bundle

TIMES = 3
WATCHED = {"fits": [(fit, "fit_fold"), (fit, "fit_rows")], "log": [(bundle, "log")],
           "files": [(bundle, "_write_parts")]}  # fmt: skip


def main(rows: int) -> None:
    """A native booster, skops alone, and skops with skrub inside."""
    plain = table(rows)
    text = plain.assign(note=[f"row {k} of {rows}: {k % 97} words" for k in range(rows)])
    kinds = (
        ("lightgbm", "lightgbm", plain),
        ("linear (skops)", "linear", plain),
        ("linear on text (skops with skrub)", "linear", text),
    )
    for name, family, frame in kinds:
        spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for turn in range(TIMES + 1):
                times = timed(frame, family)
                for part, seconds in times.items() if turn else ():
                    spent[part].append(seconds)
        print(name + ": " + ", ".join(f"{part} {median(s)}" for part, s in spent.items()))


def table(rows: int) -> pd.DataFrame:
    """Ten numbers and a binary target."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 10)), columns=[f"x{i}" for i in range(10)])
    return frame.assign(y=np.where(frame["x0"] + rng.normal(size=rows) > 0, "yes", "no"))


def timed(frame: pd.DataFrame, family: str) -> dict[str, tuple[float, float]]:
    """Seconds of CPU and of the clock, by part, of one run."""
    spent = {part: np.zeros(2) for part in WATCHED}
    with contextlib.ExitStack() as stack:
        for part, places in WATCHED.items():
            for module, name in places:
                watched = _timed(getattr(module, name), spent[part])
                stack.enter_context(mock.patch.object(module, name, watched))
        whole = np.zeros(2)
        _timed(surefit.train, whole)(frame, target="y", set={"model.family": family}, quiet=True)
    logging = spent["log"] - spent["files"]
    rest = whole - spent["fits"] - spent["log"]
    parts = {"whole": whole, "fits": spent["fits"], "model's files": spent["files"],
             "logging it beside that": logging, "rest": rest}  # fmt: skip
    return {part: (float(cpu), float(clock)) for part, (cpu, clock) in parts.items()}


def _timed(function, spent):
    def call(*args, **kwargs):
        before = np.array([time.process_time(), time.perf_counter()])
        try:
            return function(*args, **kwargs)
        finally:
            spent[:] += np.array([time.process_time(), time.perf_counter()]) - before

    return call


def median(seconds: list[tuple[float, float]]) -> str:
    """CPU, and the clock in brackets."""
    cpu, clock = (statistics.median(s) for s in zip(*seconds, strict=True))
    return f"{cpu:.2f} s ({clock:.2f})"


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
