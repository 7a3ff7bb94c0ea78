"""The formulas behind the metrics: per-row columns, sums to values, curves to values.

Columns are (n, k), one row's share of each weighted sum. Sums are (..., k) and give (...). Curves
are true and false positives (..., g), cumulated from the highest score down, at the end of each of
g groups of tied scores. A value is NaN where it is undefined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


# --- per-row columns ---


def label_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    """(n, 3K): the true class, the predicted class and their agreement, each one-hot."""
    n_classes = pred.shape[1]
    labels = pred[:, 1] >= threshold if n_classes == 2 else pred.argmax(axis=1)
    classes = np.arange(n_classes)
    actual = np.asarray(y)[:, None] == classes
    predicted = labels.astype(np.intp)[:, None] == classes
    return np.hstack([actual, predicted, actual & predicted]).astype(np.float64)


def log_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    eps = np.finfo(pred.dtype).eps  # scikit-learn's clip: that of the dtype given
    chosen = np.clip(pred, eps, 1 - eps)[np.arange(len(y)), y].astype(np.float64)
    return np.column_stack([np.ones(len(y)), -np.log(chosen)])


def square_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    truth = np.asarray(y)[:, None] == np.arange(pred.shape[1])
    scale = 0.5 if pred.shape[1] == 2 else 1.0
    return np.column_stack([np.ones(len(y)), scale * ((pred - truth) ** 2).sum(axis=1)])


def error_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    """(n, 5): one, centred target and its square, squared and absolute error."""
    centred = y - y.mean()  # R2 does not change, and its sums lose no digits
    error = np.asarray(pred - y, dtype=np.float64)
    return np.column_stack([np.ones(len(y)), centred, centred**2, error**2, np.abs(error)])


def relative_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    share = np.full(len(y), np.nan)  # undefined as a whole where one target is 0
    if np.all(y != 0):
        share = np.abs(pred - y) / np.abs(y)
    return np.column_stack([np.ones(len(y)), share])


# --- sums to values ---


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where the whole is not positive."""
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=out, where=np.asarray(whole) > 0)
    return out


def mean_where(values: Floats, keep: NDArray[np.bool_]) -> Floats:
    """The mean over the last axis of the values kept; NaN where none is."""
    return _ratio(np.where(keep, values, 0.0).sum(axis=-1), keep.sum(axis=-1).astype(np.float64))


def thirds(sums: Floats) -> tuple[Floats, Floats, Floats]:
    k = sums.shape[-1] // 3
    return sums[..., :k], sums[..., k : 2 * k], sums[..., 2 * k :]


def n_rows(sums: Floats) -> Floats:
    return np.asarray(thirds(sums)[0].sum(axis=-1))


def n_actual(sums: Floats) -> Floats:
    return thirds(sums)[0][..., 1]


def n_negative(sums: Floats) -> Floats:
    return thirds(sums)[0][..., 0]


def n_predicted(sums: Floats) -> Floats:
    return thirds(sums)[1][..., 1]


def second_mean(sums: Floats) -> Floats:
    return _ratio(sums[..., 1], sums[..., 0])


def accuracy(sums: Floats) -> Floats:
    actual, _, hit = thirds(sums)
    return _ratio(hit.sum(axis=-1), actual.sum(axis=-1))


def balanced_accuracy(sums: Floats) -> Floats:
    actual, _, hit = thirds(sums)
    return mean_where(_ratio(hit, actual), actual > 0)


def _f1_by_class(sums: Floats) -> Floats:
    actual, predicted, hit = thirds(sums)
    return _ratio(2 * hit, actual + predicted)


def f1(sums: Floats) -> Floats:
    return _f1_by_class(sums)[..., 1]


def f1_macro(sums: Floats) -> Floats:
    actual, predicted, _ = thirds(sums)
    return mean_where(_f1_by_class(sums), actual + predicted > 0)


def f1_weighted(sums: Floats) -> Floats:
    actual, _, _ = thirds(sums)
    share = np.where(actual > 0, _f1_by_class(sums), 0.0) * actual
    return _ratio(share.sum(axis=-1), actual.sum(axis=-1))


def precision(sums: Floats) -> Floats:
    actual, predicted, hit = thirds(sums)
    found = _ratio(hit[..., 1], predicted[..., 1])
    none_found = (predicted[..., 1] <= 0) & (actual.sum(axis=-1) > 0)
    return np.where(none_found, 0.0, found)  # scikit-learn's convention


def recall(sums: Floats) -> Floats:
    actual, _, hit = thirds(sums)
    return _ratio(hit[..., 1], actual[..., 1])


def specificity(sums: Floats) -> Floats:
    actual, _, hit = thirds(sums)
    return _ratio(hit[..., 0], actual[..., 0])


def _agreement(sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Total, hits, the product of the margins, and the two margins' squares for correlation."""
    actual, predicted, hit = thirds(sums)
    total = actual.sum(axis=-1)
    chance = (actual * predicted).sum(axis=-1)
    spread = (total**2 - (predicted**2).sum(axis=-1)) * (total**2 - (actual**2).sum(axis=-1))
    return total, hit.sum(axis=-1), chance, spread


def mcc(sums: Floats) -> Floats:
    total, hits, chance, spread = _agreement(sums)
    one_class = (thirds(sums)[0] > 0).sum(axis=-1) < 2
    tiny = 1e-12 * np.maximum(total, 1e-300) ** 4
    defined = np.where(spread > tiny, spread, np.inf)  # one label predicted: 0
    return np.where(one_class, np.nan, (hits * total - chance) / np.sqrt(defined))


def kappa(sums: Floats) -> Floats:
    total, hits, chance, _ = _agreement(sums)
    room = total**2 - chance
    return _ratio(hits * total - chance, np.where(room > 1e-12 * total**2, room, 0.0))


def rmse(sums: Floats) -> Floats:
    return np.sqrt(np.maximum(_ratio(sums[..., 3], sums[..., 0]), 0.0))


def mae(sums: Floats) -> Floats:
    return np.maximum(_ratio(sums[..., 4], sums[..., 0]), 0.0)


def r2(sums: Floats) -> Floats:
    about_mean = sums[..., 2] - np.nan_to_num(_ratio(sums[..., 1] ** 2, sums[..., 0]))
    about_mean = np.where(about_mean > 1e-12 * sums[..., 2], about_mean, 0.0)
    return 1.0 - _ratio(sums[..., 3], about_mean)


# --- curves to values ---


def _previous(cumulated: Floats) -> Floats:
    return np.concatenate([np.zeros_like(cumulated[..., :1]), cumulated[..., :-1]], axis=-1)


def area(tp: Floats, fp: Floats) -> Floats:
    steps = np.diff(fp, axis=-1, prepend=0.0)
    half = 0.5 * np.diff(tp, axis=-1, prepend=0.0)  # a tied pair counts one half
    return _ratio(np.einsum("...i,...i->...", steps, tp - half), tp[..., -1] * fp[..., -1])


def area_without(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Each row's placement among the other class, taken from the area (DeLong 1988)."""
    p, q = tp[-1], fp[-1]
    whole = np.nan_to_num(area(tp, fp)) * p * q
    below = q - (fp + _previous(fp)) / 2
    above = (tp + _previous(tp)) / 2
    return _ratio(whole - below, (p - 1) * q), _ratio(whole - above, p * (q - 1))


def average_precision(tp: Floats, fp: Floats) -> Floats:
    found = tp + fp
    precision = np.divide(tp, found, out=np.zeros_like(tp), where=found > 0)
    steps = np.diff(tp, axis=-1, prepend=0.0)
    return _ratio(np.einsum("...i,...i->...", steps, precision), tp[..., -1])


def average_precision_without(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Exact: a row changes the precision at its own score and at lower ones, none above."""
    steps, found = np.diff(tp, prepend=0.0), tp + fp
    fewer = np.maximum(found - 1, 1)
    kept = np.cumsum(steps * tp / found) - steps * tp / found
    tail = _from_end(steps * (tp - 1) / fewer)
    at = (steps - 1) * (tp - 1) / fewer
    positive = _ratio(kept + at + tail - steps * (tp - 1) / fewer, tp[-1:] - 1)
    negative = _ratio(kept + _from_end(steps * tp / fewer), tp[-1:])
    return positive, negative


def _from_end(values: Floats) -> Floats:
    return np.cumsum(values[::-1])[::-1]
