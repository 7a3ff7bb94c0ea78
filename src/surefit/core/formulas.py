"""The formulas behind the metrics: per-row columns, and their weighted sums to values.

Columns are (n, k), one row's share of each weighted sum. Sums are (..., k) and give (...). A value
is NaN where it is undefined. Metrics of a ranking are in `rankings`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ECE_BINS = 10
MIDDLE = 6  # roots of n on either side: twelve standard deviations of a resample's median rank


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


def log_error_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    square = np.full(len(y), np.nan)  # undefined as a whole where a logarithm is
    if np.all(np.asarray(y) > -1) and np.all(pred > -1):
        square = (np.log1p(pred) - np.log1p(y)) ** 2
    return np.column_stack([np.ones(len(y)), square])


def own_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    return np.column_stack([np.ones(len(y)), np.asarray(y, dtype=np.float64)])


def calibration_columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    """(n, 11): one, and hit less probability in the row's bin, of ten as wide as each other.

    Of two classes the positive one's probability, of more the greatest.
    """
    if pred.shape[1] == 2:
        p, hit = pred[:, 1], np.asarray(y) == 1
    else:
        p, hit = pred.max(axis=1), np.asarray(y) == pred.argmax(axis=1)
    out = np.zeros((len(p), 1 + ECE_BINS))
    out[:, 0] = 1.0
    bins = np.minimum((p * ECE_BINS).astype(np.intp), ECE_BINS - 1)
    out[np.arange(len(p)), 1 + bins] = hit - p
    return out


def top_columns(k: int, y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
    """(n, 2): one, and whether the true class is among the k of greatest probability."""
    own = pred[np.arange(len(y)), y][:, None]
    later = np.arange(pred.shape[1]) > np.asarray(y)[:, None]  # as scikit-learn breaks ties
    above = ((pred > own) | ((pred == own) & later)).sum(axis=1)
    defined = 1.0 if pred.shape[1] > k else np.nan
    return np.column_stack([np.ones(len(y)), np.where(above < k, defined, 0.0 * defined)])


# --- weights to values ---


def median_error(y: NDArray[Any], pred: NDArray[Any]) -> Any:
    """A function from weights (b, n) to the weighted median (b,) of the absolute errors.

    Of many rows only those around the middle are cumulated: where the median lies outside them,
    as with weights that differ much, all are.
    """
    error = np.abs(np.asarray(pred - y, dtype=np.float64))
    order = np.argsort(error, kind="stable")
    n = len(error)
    reach = int(MIDDLE * np.sqrt(n)) + 1
    first, last = max(n // 2 - reach, 0), min(n // 2 + reach, n)
    below = np.zeros(n)
    below[order[:first]] = 1.0

    def middle(weights: Floats, start: Floats, whole: Floats, places: NDArray[Any]) -> Floats:
        """The median among `places`, with the weight `start` before them; NaN where it is not."""
        ranked = error[places]
        cumulated = start[:, None] + np.cumsum(weights[:, places], axis=1)
        half = 0.5 * whole[:, None]
        slack = 1e-12 * half
        low = np.argmax(cumulated >= half - slack, axis=1)
        high = np.argmax(cumulated > half + slack, axis=1)
        inside = (cumulated[:, -1:] > half + slack)[:, 0] & (start[:, None] < half - slack)[:, 0]
        return np.where(inside & (whole > 0), (ranked[low] + ranked[high]) / 2, np.nan)

    def evaluate(weights: Floats) -> Floats:
        whole = weights.sum(axis=1)
        found = middle(weights, weights @ below, whole, order[first:last])
        missed = np.isnan(found) & (whole > 0)
        if missed.any():
            again = weights[missed]
            found[missed] = middle(again, np.zeros(len(again)), whole[missed], order)
        return found

    return evaluate


# --- sums to values ---


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where the whole is not positive."""
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=out, where=np.asarray(whole) > 0)
    return out


def kish(weights: Floats) -> float:
    """How many rows of equal weight say as much as rows of these weights (Kish 1965); 0 of none."""
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0


def mean_where(values: Floats, keep: NDArray[np.bool_]) -> Floats:
    """The mean over the last axis of the values kept; NaN where none is."""
    return ratio(np.where(keep, values, 0.0).sum(axis=-1), keep.sum(axis=-1).astype(np.float64))


def thirds(sums: Floats) -> tuple[Floats, Floats, Floats]:
    k = sums.shape[-1] // 3
    return sums[..., :k], sums[..., k : 2 * k], sums[..., 2 * k :]


def n_rows(sums: Floats) -> Floats:
    return np.asarray(thirds(sums)[0].sum(axis=-1))


def first_sum(sums: Floats) -> Floats:
    return sums[..., 0]


def n_actual(sums: Floats, k: int = 1) -> Floats:
    return thirds(sums)[0][..., k]


def n_negative(sums: Floats) -> Floats:
    return thirds(sums)[0][..., 0]


def n_predicted(sums: Floats, k: int = 1) -> Floats:
    return thirds(sums)[1][..., k]


def second_mean(sums: Floats) -> Floats:
    return ratio(sums[..., 1], sums[..., 0])


def accuracy(sums: Floats) -> Floats:
    actual, _, hit = thirds(sums)
    return ratio(hit.sum(axis=-1), actual.sum(axis=-1))


def balanced_accuracy(sums: Floats) -> Floats:
    actual, _, hit = thirds(sums)
    return mean_where(ratio(hit, actual), actual > 0)


def _f1_by_class(sums: Floats) -> Floats:
    actual, predicted, hit = thirds(sums)
    return ratio(2 * hit, actual + predicted)


def f1(sums: Floats, k: int = 1) -> Floats:
    return _f1_by_class(sums)[..., k]


def f1_macro(sums: Floats) -> Floats:
    actual, predicted, _ = thirds(sums)
    return mean_where(_f1_by_class(sums), actual + predicted > 0)


def f1_weighted(sums: Floats) -> Floats:
    actual, _, _ = thirds(sums)
    share = np.where(actual > 0, _f1_by_class(sums), 0.0) * actual
    return ratio(share.sum(axis=-1), actual.sum(axis=-1))


def precision(sums: Floats, k: int = 1) -> Floats:
    actual, predicted, hit = thirds(sums)
    found = ratio(hit[..., k], predicted[..., k])
    none_found = (predicted[..., k] <= 0) & (actual.sum(axis=-1) > 0)
    return np.where(none_found, 0.0, found)  # scikit-learn's convention


def recall(sums: Floats, k: int = 1) -> Floats:
    actual, _, hit = thirds(sums)
    return ratio(hit[..., k], actual[..., k])


def specificity(sums: Floats) -> Floats:
    actual, _, hit = thirds(sums)
    return ratio(hit[..., 0], actual[..., 0])


def _specificity_by_class(sums: Floats) -> tuple[Floats, Floats]:
    """The share of the other classes' rows that are not called the class, and its rows."""
    actual, predicted, hit = thirds(sums)
    others = actual.sum(axis=-1, keepdims=True) - actual
    return ratio(others - (predicted - hit), others), actual


def specificity_macro(sums: Floats) -> Floats:
    value, actual = _specificity_by_class(sums)
    return mean_where(np.nan_to_num(value), (actual + thirds(sums)[1] > 0) & ~np.isnan(value))


def specificity_weighted(sums: Floats) -> Floats:
    value, actual = _specificity_by_class(sums)
    share = np.where(np.isnan(value), 0.0, actual)
    return ratio((np.nan_to_num(value) * share).sum(axis=-1), share.sum(axis=-1))


def recall_macro(sums: Floats) -> Floats:
    actual, predicted, hit = thirds(sums)
    return mean_where(np.nan_to_num(ratio(hit, actual)), actual + predicted > 0)


def _precision_by_class(sums: Floats) -> tuple[Floats, Floats]:
    """Precision a class, 0 where it is never predicted, and the rows of the class."""
    actual, predicted, hit = thirds(sums)
    return np.where(predicted > 0, np.nan_to_num(ratio(hit, predicted)), 0.0), actual


def precision_macro(sums: Floats) -> Floats:
    value, actual = _precision_by_class(sums)
    return mean_where(value, actual + thirds(sums)[1] > 0)


def precision_weighted(sums: Floats) -> Floats:
    value, actual = _precision_by_class(sums)
    return ratio((value * actual).sum(axis=-1), actual.sum(axis=-1))


def ece(sums: Floats) -> Floats:
    """Expected calibration error (Naeini, Cooper, Hauskrecht 2015): mean gap, bins by their rows.

    Biased upwards: noise alone makes gaps, so that a calibrated model has more than 0.
    """
    return ratio(np.abs(sums[..., 1:]).sum(axis=-1), sums[..., 0])


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
    return ratio(hits * total - chance, np.where(room > 1e-12 * total**2, room, 0.0))


def root_second_mean(sums: Floats) -> Floats:
    return np.sqrt(np.maximum(second_mean(sums), 0.0))


def rmse(sums: Floats) -> Floats:
    return np.sqrt(np.maximum(ratio(sums[..., 3], sums[..., 0]), 0.0))


def mae(sums: Floats) -> Floats:
    return np.maximum(ratio(sums[..., 4], sums[..., 0]), 0.0)


def r2(sums: Floats) -> Floats:
    about_mean = sums[..., 2] - np.nan_to_num(ratio(sums[..., 1] ** 2, sums[..., 0]))
    about_mean = np.where(about_mean > 1e-12 * sums[..., 2], about_mean, 0.0)
    return 1.0 - ratio(sums[..., 3], about_mean)
