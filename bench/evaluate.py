"""How long an evaluation of many rows takes, and how much memory: python bench/evaluate.py [ROWS].

Made-up rows with two classes and ten columns; no store. Prints a line a part.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from surefit.core import calibration, metrics, slices, stats, worst
from surefit.core.data import Column
from surefit.core.figures import evaluation_figures
from surefit.core.predictions import Scored


def world(n: int) -> tuple[Scored, pd.DataFrame, tuple[Column, ...]]:
    """Calibrated scores, ten columns that say nothing."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=n)
    p = expit(1.2 * score)
    y = (rng.random(n) < p).astype(np.int64)
    features = pd.DataFrame(
        {f"number_{k}": rng.normal(size=n) for k in range(5)}
        | {f"category_{k}": rng.choice(list("abcd"), n) for k in range(5)}
    )
    columns = tuple(
        Column(name=c, dtype="string", kind="number" if c.startswith("n") else "category")
        for c in features
    )
    scored = Scored(task="binary", classes=("no", "yes"), row_id=np.arange(n), y=y,
                    pred=np.column_stack([1 - p, p]), folds=None)  # fmt: skip
    return scored, features, columns


def timed(what: str, call: Callable[[], Any]) -> None:
    """Run a part and print its seconds, those of the processor, and the most memory so far."""
    started, busy = time.perf_counter(), time.process_time()
    call()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:<44}{seconds:8.1f} s {busy:8.1f} s CPU {peak:8,.0f} MiB", flush=True)


def main() -> None:
    """All parts on as many rows as asked for, by default a million."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    scored, features, columns = world(n)
    found = metrics.reported("binary")
    print(f"{n:,} rows, 2,000 resamples, {len(found)} metrics")
    timed("rows made", lambda: None)
    timed("metrics with intervals", lambda: stats.scores(found, scored.y, scored.pred))
    auc = metrics.find("roc_auc", "binary")
    timed("slices by roc_auc (10 columns, 40 slices)",
          lambda: slices.find(auc, scored, features, columns))  # fmt: skip
    timed("calibration, three ways", lambda: calibration.measure(scored))
    timed("worst rows", lambda: worst.rows(scored, features))
    timed("pictures", lambda: evaluation_figures("binary", scored.y, scored.pred, ("no", "yes")))


if __name__ == "__main__":
    main()
