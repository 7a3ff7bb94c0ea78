"""How far predicted probabilities are from what is observed, and how far chance alone puts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core.formulas import kish
from surefit.core.resampling import CELLS_A_CHUNK

N_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Miscalibration:
    """The mean gap of predicted and observed shares; `chance`: what calibrated ones reach."""

    gap: float
    chance: float


def miscalibration(
    y: NDArray[np.int64],
    pred: NDArray[np.float64],
    *,
    alpha: float,
    weights: NDArray[np.float64] | None = None,
    clusters: NDArray[Any] | None = None,
    seed: int = 0,
) -> Miscalibration:
    """The expected calibration error over bins of equal weight, beside its distribution by chance.

    The weighted mean of |observed - mean predicted| over about sqrt(n)/2 bins, n being Kish's
    effective number of rows, of the positive class, or averaged over the classes where there are
    more than two. `chance` is its quantile 1 - alpha when targets are drawn from the predicted
    probabilities themselves (consistency resampling; Bröcker and Smith 2007). Of clusters, whose
    targets may go together, the gaps of all rows of one change their sign together, by the throw
    of a coin (the wild cluster bootstrap; Cameron, Gelbach and Miller 2008).

    Args:
        y: (n,) class codes.
        pred: (n, K) probabilities.
        weights: (n,) how much each row counts; None: all the same.
        clusters: (n,) labels of rows that belong together; None: rows are independent.
    """
    rng = np.random.default_rng(seed)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    codes = [1] if pred.shape[1] == 2 else range(pred.shape[1])
    together = None if clusters is None else np.unique(clusters, return_inverse=True)[1].ravel()
    most = int(np.clip(CELLS_A_CHUNK // max(len(y), 1), 1, N_DRAWS))
    gaps, chances = [], []
    for code in codes:
        order = np.argsort(pred[:, code], kind="stable")
        score, own = pred[order, code], w[order]
        starts, apart = _starts(own), (y[order] == code) - score
        by_chance = []
        for _ in range(0, N_DRAWS, most):
            if together is None:
                drawn = (rng.random((most, len(y))) < score) - score
            else:
                signs = rng.integers(0, 2, (most, int(together.max()) + 1)) * 2 - 1
                drawn = signs[:, together[order]] * apart
            by_chance.append(_gaps(drawn, own, starts))
        gaps.append(_gaps(apart[None], own, starts)[0])
        chances.append(np.quantile(np.concatenate(by_chance), 1 - alpha))
    return Miscalibration(gap=float(np.mean(gaps)), chance=float(np.mean(chances)))


def _starts(w: NDArray[np.float64]) -> NDArray[np.intp]:
    """Where each bin begins, among rows in order of score."""
    whole = w.sum()
    effective = kish(w)
    n_bins = int(np.clip(np.sqrt(effective) / 2, 2, 20))
    before = np.cumsum(w) - w
    cuts = whole * np.arange(n_bins) / n_bins
    starts = np.searchsorted(before, cuts * (1 - 1e-12), side="left")
    return np.unique(starts.clip(0, len(w) - 1))


def _gaps(
    apart: NDArray[np.float64], w: NDArray[np.float64], starts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(b,) weighted mean absolute gaps, a bin each, of rows (b, n) that are so far from theirs."""
    gap = np.add.reduceat(w * apart, starts, axis=1)
    return np.asarray(np.abs(gap).sum(axis=1) / max(float(w.sum()), 1e-300))
