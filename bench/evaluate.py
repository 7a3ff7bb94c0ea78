"""How long an evaluation of many rows takes, and how much memory: bench/evaluate.py [ROWS] [TASK].

Made-up rows with ten columns that say nothing: two classes, ten classes ("multiclass") or numbers
("regression"); no store. Prints a line a part. A process a task, as memory is the most so far.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from surefit.core import calibration, evaluation, metrics, slices, stats, threshold, worst
from surefit.core.figures import evaluation_figures
from surefit.core.kinds import Column
from surefit.core.page import Page, Section, render
from surefit.core.predictions import Scored
from surefit.items import Figure
from surefit.results import Task

N_CLASSES = 10


def world(n: int, task: Task) -> tuple[Scored, pd.DataFrame, tuple[Column, ...]]:
    """Calibrated scores, or numbers with lognormal errors, and ten columns that say nothing."""
    rng = np.random.default_rng(0)
    classes: tuple[str, ...] = ()
    y: Any
    if task == "binary":
        classes = ("no", "yes")
        p = expit(1.2 * rng.normal(size=n))
        y, pred = (rng.random(n) < p).astype(np.int64), np.column_stack([1 - p, p])
    elif task == "multiclass":
        classes = tuple(f"class {k}" for k in range(N_CLASSES))
        pred = softmax(1.5 * rng.normal(size=(n, N_CLASSES)), axis=1)
        y = (rng.random((n, 1)) > pred.cumsum(axis=1)).sum(axis=1).clip(0, N_CLASSES - 1)
    else:
        pred = rng.gamma(2, 100, n)
        y = pred + rng.lognormal(3, 1, n)
    features = pd.DataFrame(
        {f"number_{k}": rng.normal(size=n) for k in range(5)}
        | {f"category_{k}": rng.choice(list("abcd"), n) for k in range(5)}
    )
    columns = tuple(
        Column(name=c, dtype="string", kind="number" if c.startswith("n") else "category")
        for c in map(str, features)
    )
    scored = Scored(task=task, classes=classes, row_id=np.arange(n), y=y, pred=pred, folds=None)
    return scored, features, columns


def timed(what: str, call: Callable[[], Any]) -> Any:
    """Run a part and print its seconds, those of the processor, and the most memory so far."""
    started, busy = time.perf_counter(), time.process_time()
    found = call()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:<44}{seconds:8.1f} s {busy:8.1f} s CPU {peak:8,.0f} MiB", flush=True)
    return found


def page_bytes(pictures: list[Figure]) -> int:
    """The size of a page that shows all the pictures."""
    return len(render(Page(title="", sections=[Section(title="", figures=pictures)])))


def main() -> None:
    """All parts on as many rows as asked for, by default a million of two classes."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    task: Any = sys.argv[2] if len(sys.argv) > 2 else "binary"
    scored, features, columns = world(n, task)
    first = metrics.default(task)
    found = evaluation.in_order(scored, evaluation.Ask(first=first.name))
    print(f"{task}: {n:,} rows, 2,000 resamples, {len(found)} metrics")
    timed("rows made", lambda: None)
    timed("metrics with intervals", lambda: stats.scores(found, scored.y, scored.pred))
    timed(f"slices by {first.name} (10 columns, 40 slices)",
          lambda: slices.find(first, scored, features, columns))  # fmt: skip
    if task != "regression":
        timed("calibration, three ways", lambda: calibration.measure(scored))
    if task == "binary":
        timed("threshold for f1", lambda: threshold.cross_fitted("f1", scored))
    if task == "multiclass":
        timed("by class", lambda: evaluation.by_class(scored, {}))
    timed("worst rows", lambda: worst.rows(scored, features))
    pictures = timed(
        "pictures", lambda: evaluation_figures(task, scored.y, scored.pred, scored.classes)
    )
    print(f"a page of {len(pictures)} pictures: {page_bytes(pictures) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
