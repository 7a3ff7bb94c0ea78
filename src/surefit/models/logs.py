"""A target on a logarithmic scale: log(1 + y) is fitted, and exp(z) - 1 answered.

For amounts with a long tail (prices, counts, durations), whose errors grow with their size. What a
fit gives is then nearer the median than the mean of the rows alike. These functions travel in saved
models' `predict.py`, beside the families' own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LONG = 1.0  # skewness from which on a tail is long; 2 is an exponential's
LESS = 0.9  # of it is left on the logarithm, at most


def long_tail(y: np.ndarray) -> bool:
    """Whether targets (n,), none below 0, are skewed, and their logarithms less so."""
    if len(y) < 3 or float(y.min()) < 0:
        return False
    skewness = _skewness(y)
    return skewness > LONG and abs(_skewness(np.log1p(y))) < LESS * skewness


def _skewness(values: np.ndarray) -> float:
    apart = values - values.mean()
    spread = float((apart**2).mean())
    return float((apart**3).mean()) / spread**1.5 if spread > 0 else 0.0


def limits(logs: np.ndarray) -> list[float]:
    """Within which logarithms are answered: those fitted. Beyond, an exponential makes anything of
    a small slip."""
    return [float(logs.min()), float(logs.max())]


def unlogged(raw: Any, log: list[float] | None) -> Any:
    """Values (n,) from logarithms held within `log`; None: they are none, and stay as they are."""
    return raw if log is None else np.expm1(np.clip(raw, log[0], log[1]))
