"""Whether probabilities mean what they say, and what isotonic or Platt's calibration would give.

A calibrator is never scored on rows it was fitted on: for each fold it is fitted on the other
folds' rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, log_softmax, logit, softmax

from surefit.core import metrics, stats, threshold
from surefit.core.formulas import ECE_BINS, kish
from surefit.core.predictions import Scored
from surefit.results import Score

Calibrator = Callable[[np.ndarray], np.ndarray]
METHODS = ("as it is", "Platt", "isotonic")
FEW_ROWS = 100
N_RESAMPLES = 500  # for each of the methods: these intervals are for comparing, not for reporting
EDGE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well calibrated the probabilities are, as they are and calibrated, cross-fitted.

    Attributes:
        by_noise: the expected calibration error that perfectly calibrated probabilities, these
            very ones, would show on as many rows: what of the error is no evidence of any.
        scores: of each method, in the order log_loss, brier, ece.
    """

    by_noise: float
    scores: dict[str, tuple[Score, ...]] = field(repr=False)

    @property
    def best(self) -> str:
        """The method of least log-loss."""
        return min(self.scores, key=lambda method: self.scores[method][0].value)


def measure(scored: Scored, *, clusters: np.ndarray | None = None) -> Calibration:
    """Log-loss, Brier score and calibration error, as they are and cross-fitted by each method.

    With two classes Platt's sigmoid and isotonic regression of the positive probability; with more
    a common temperature (Guo et al. 2017), and isotonic regression a class against the rest, then
    scaled to add up to 1. Under 100 rows nothing is fitted, nor where all rows are of one cluster.
    """
    fits = len(scored.y) >= FEW_ROWS and threshold.divisible(scored, clusters)
    chosen = [metrics.find(name, scored.task) for name in ("log_loss", "brier", "ece")]
    found = {}
    for method in METHODS if fits else METHODS[:1]:
        pred = cross_fitted(scored, method, clusters=clusters)
        found[method] = stats.scores(
            chosen,
            scored.y,
            pred,
            folds=scored.folds,
            clusters=clusters,
            weights=scored.weights,
            n_resamples=N_RESAMPLES,
        )
    return Calibration(by_noise=by_noise(scored), scores=found)


def cross_fitted(scored: Scored, method: str, *, clusters: np.ndarray | None = None) -> np.ndarray:
    """(n, K) probabilities, each part's calibrated by a calibrator fitted on the other parts."""
    if method == METHODS[0]:
        return scored.pred
    out = np.empty_like(scored.pred)
    for rest, own in threshold.others(threshold.parts(scored, clusters)):
        weights = None if scored.weights is None else scored.weights[rest]
        out[own] = fit(method, scored.y[rest], scored.pred[rest], weights)(scored.pred[own])
    return out


def fit(method: str, y: np.ndarray, pred: np.ndarray, weights: np.ndarray | None) -> Calibrator:
    """A function from probabilities (n, K) to calibrated ones."""
    if method == "isotonic":
        return _isotonic(y, pred, weights)
    return _platt(y, pred, weights) if pred.shape[1] == 2 else _temperature(y, pred, weights)


def _platt(y: np.ndarray, pred: np.ndarray, weights: np.ndarray | None) -> Calibrator:
    """Platt's sigmoid (1999) on the log-odds, with his targets a little inside 0 and 1.

    Weights are scaled to sum to Kish's effective number of rows, so that their unit says nothing.
    """
    from scipy.optimize import minimize

    w = (
        np.ones(len(y))
        if weights is None
        else weights * (kish(weights) / max(weights.sum(), 1e-300))
    )
    n1, n0 = w[y == 1].sum(), w[y == 0].sum()
    target = np.where(y == 1, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))
    x = _log_odds(pred)

    def loss(ab: np.ndarray) -> tuple[float, np.ndarray]:
        z = ab[0] * x + ab[1]
        gap = w * (expit(z) - target)
        value = w @ (np.logaddexp(0, z) - target * z)
        return float(value / w.sum()), np.array([gap @ x, gap.sum()]) / w.sum()

    a, b = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x

    def calibrate(p: np.ndarray) -> np.ndarray:
        positive = expit(a * _log_odds(p) + b)
        return np.column_stack([1 - positive, positive])

    return calibrate


def _log_odds(pred: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(pred[:, 1], EDGE, 1 - EDGE)))


def _temperature(y: np.ndarray, pred: np.ndarray, weights: np.ndarray | None) -> Calibrator:
    from scipy.optimize import minimize_scalar

    def scaled(p: np.ndarray, power: float) -> np.ndarray:
        return np.asarray(power * np.log(np.clip(p, EDGE, None)))

    def loss(power: float) -> float:
        chosen = log_softmax(scaled(pred, power), axis=1)[np.arange(len(y)), y]
        return float(-np.average(chosen, weights=weights))

    power = float(minimize_scalar(loss, bounds=(0.05, 20.0), method="bounded").x)
    return lambda p: np.asarray(softmax(scaled(p, power), axis=1))


def _isotonic(y: np.ndarray, pred: np.ndarray, weights: np.ndarray | None) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    def one(k: int) -> IsotonicRegression:
        curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        return curve.fit(pred[:, k], (y == k).astype(float), sample_weight=weights)

    if pred.shape[1] == 2:
        positive = one(1)

        def of_two(p: np.ndarray) -> np.ndarray:
            found = np.clip(positive.predict(p[:, 1]), EDGE, 1 - EDGE)
            return np.column_stack([1 - found, found])

        return of_two
    curves = [one(k) for k in range(pred.shape[1])]

    def of_many(p: np.ndarray) -> np.ndarray:
        found = np.column_stack([c.predict(p[:, k]) for k, c in enumerate(curves)])
        found = np.clip(found, EDGE, None)
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    return of_many


def by_noise(scored: Scored) -> float:
    """The mean calibration error of perfectly calibrated probabilities like these on these rows.

    In each bin the sum of hits less probabilities is then about normal around 0.
    """
    folds = np.zeros(len(scored.y)) if scored.folds is None else scored.folds
    weights = np.ones(len(scored.y)) if scored.weights is None else scored.weights
    top = scored.pred[:, 1] if scored.task == "binary" else scored.pred.max(axis=1)
    values = []
    for fold in np.unique(folds):
        p, w = top[folds == fold], weights[folds == fold]
        bins = np.minimum((p * ECE_BINS).astype(int), ECE_BINS - 1)
        spread = np.sqrt(np.bincount(bins, weights=w**2 * p * (1 - p), minlength=ECE_BINS))
        values.append(np.sqrt(2 / np.pi) * spread.sum() / max(float(w.sum()), 1e-300))
    return float(np.mean(values))
