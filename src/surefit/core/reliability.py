"""How far predicted probabilities are from what is observed, and how far chance alone puts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surefit.core.resampling import CELLS_A_CHUNK

N_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Miscalibration:
    """The mean gap of predicted and observed shares; `chance`: what calibrated ones reach."""

    gap: float
    chance: float


def miscalibration(
    y: NDArray[np.int64], pred: NDArray[np.float64], *, alpha: float, seed: int = 0
) -> Miscalibration:
    """The expected calibration error over equal-count bins, beside its distribution by chance.

    The share-weighted mean of |observed - mean predicted| over about sqrt(n)/2 bins, of the
    positive class, or averaged over the classes where there are more than two. `chance` is its
    quantile 1 - alpha when targets are drawn from the predicted probabilities themselves
    (consistency resampling; Bröcker and Smith 2007). Assumes independent rows.

    Args:
        y: (n,) class codes.
        pred: (n, K) probabilities.
    """
    rng = np.random.default_rng(seed)
    codes = [1] if pred.shape[1] == 2 else range(pred.shape[1])
    most = int(np.clip(CELLS_A_CHUNK // max(len(y), 1), 1, N_DRAWS))
    gaps, chances = [], []
    for code in codes:
        score, hit = pred[:, code], (y == code).astype(float)
        by_chance = []
        for _ in range(0, N_DRAWS, most):
            drawn = rng.random((most, len(y))) < score
            by_chance.append(_gaps(score, drawn.astype(float)))
        gaps.append(_gaps(score, hit[None])[0])
        chances.append(np.quantile(np.concatenate(by_chance), 1 - alpha))
    return Miscalibration(gap=float(np.mean(gaps)), chance=float(np.mean(chances)))


def _gaps(score: NDArray[np.float64], hits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(b,) mean absolute gaps of `hits` (b, n) to `score` (n,)."""
    n_bins = int(np.clip(np.sqrt(len(score)) / 2, 2, 20))
    order = np.argsort(score, kind="stable")
    starts = np.unique(np.arange(n_bins) * len(score) // n_bins)
    gap = np.add.reduceat((hits - score)[:, order], starts, axis=1)
    return np.asarray(np.abs(gap).sum(axis=1) / len(score))
