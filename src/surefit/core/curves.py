"""The numbers behind the pictures of an evaluation: arrays in, small tables without NaN out.

In classification `y` holds class codes (n,) and `pred` probabilities (n, K); where there are two
classes, `y` is 0 or 1 and `score` (n,) is the probability of class 1. A row is flagged at a
threshold where `score >= threshold`. In regression `y` and `pred` are floats (n,), and an error
is true minus predicted. A curve has at most MAX_POINTS rows, however many rows were scored.
`weights` (n,) say how much each row counts, None: all the same; n_rows counts rows all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from surefit.core import stats

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

MAX_POINTS = 500
SCATTER_ROWS = 5_000  # above this, hexagons with counts


def thin(position: Floats, limit: int = MAX_POINTS) -> NDArray[np.int64]:
    """Which of the points at ascending positions to keep: both ends, and the rest evenly spread."""
    n = len(position)
    if n <= limit:
        return np.arange(n)
    targets = np.linspace(position[0], position[-1], limit - 1)
    kept = np.searchsorted(position, targets).clip(0, n - 1)
    return np.unique(np.append(kept, n - 1)).astype(np.int64)


def ones(weights: Floats | None, n: int) -> Floats:
    return np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)


def cumulate(
    y: Codes, score: Floats, weights: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Distinct scores, falling, with the weight of positives and of rows flagged at each."""
    order = np.argsort(score)[::-1]
    ranked, w = score[order], ones(weights, len(score))[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # ties are flagged together
    positives, flagged = np.cumsum(w * (y[order] == 1))[last], np.cumsum(w)[last]
    found = flagged > 0  # rows of no weight flag nothing
    return ranked[last][found], positives[found], flagged[found]


def roc_points(
    y: Codes, score: Floats, weights: Floats | None = None
) -> tuple[Floats, Floats, Floats, float]:
    """False and true positive rates from (0, 0) to (1, 1), thresholds, and the area."""
    cuts, positives, flagged = cumulate(y, score, weights)
    tp = np.append(0.0, positives)
    fp = np.append(0.0, flagged - positives)
    above = np.nextafter(cuts[0], np.inf)  # flags nothing, yet finite
    corner = np.r_[True, (np.diff(tp, 2) != 0) | (np.diff(fp, 2) != 0), True]
    fpr, tpr = fp[corner] / fp[-1], tp[corner] / tp[-1]
    return fpr, tpr, np.append(above, cuts)[corner], float(np.trapezoid(tpr, fpr))


def roc(y: Codes, score: Floats, weights: Floats | None = None) -> pd.DataFrame:
    """The ROC curve: false_positive_rate, true_positive_rate, threshold; roc_auc is exact."""
    fpr, tpr, cuts, area = roc_points(y, score, weights)
    keep = thin(fpr + tpr)
    return pd.DataFrame(
        {
            "false_positive_rate": fpr[keep],
            "true_positive_rate": tpr[keep],
            "threshold": cuts[keep],
            "roc_auc": area,
        }
    )


def precision_recall(y: Codes, score: Floats, weights: Floats | None = None) -> pd.DataFrame:
    """Precision by recall, from the highest score to all rows; average_precision is exact."""
    cuts, positives, flagged = cumulate(y, score, weights)
    precision, recall = positives / flagged, positives / positives[-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    keep = thin(recall + flagged / flagged[-1])
    return pd.DataFrame(
        {
            "recall": recall[keep],
            "precision": precision[keep],
            "threshold": cuts[keep],
            "average_precision": area,
        }
    )


def thresholds(y: Codes, score: Floats, weights: Floats | None = None) -> pd.DataFrame:
    """Precision, recall, F1 and the share of rows flagged, by rising threshold."""
    cuts, positives, flagged = (part[::-1] for part in cumulate(y, score, weights))
    n_positives, n_rows = float(positives[0]), float(flagged[0])
    keep = thin(cuts)
    cuts, positives, flagged = cuts[keep], positives[keep], flagged[keep]
    return pd.DataFrame(
        {
            "threshold": cuts,
            "precision": positives / flagged,
            "recall": positives / n_positives,
            "f1": 2 * positives / (flagged + n_positives),
            "share_flagged": flagged / n_rows,
        }
    )


def gain(y: Codes, score: Floats, weights: Floats | None = None) -> pd.DataFrame:
    """The share of positives found in the highest-scored rows, and the lift over chance."""
    _, positives, flagged = cumulate(y, score, weights)
    rows, found = flagged / flagged[-1], positives / positives[-1]
    keep = thin(rows)
    rows, found = rows[keep], found[keep]
    return pd.DataFrame({"share_of_rows": rows, "share_of_positives": found, "lift": found / rows})


def _equal_count_ends(ranked: Floats, n_bins: int) -> NDArray[np.int64]:
    """Ends (exclusive) of about equal bins of sorted values; equal values share a bin."""
    n = len(ranked)
    wanted = np.round(np.arange(1, n_bins + 1) * n / n_bins).astype(int)
    moved = np.searchsorted(ranked, ranked[np.maximum(wanted, 1) - 1], side="right")
    return np.unique(moved).astype(np.int64)


def calibration(hit: Codes, score: Floats, weights: Floats | None = None) -> pd.DataFrame:
    """Predicted against observed share of `hit` (0 or 1) in equal-count bins of the score.

    low and high are Wilson's 95 % interval of the observed share, with Kish's effective number of
    rows where they are weighted. Rows of equal score share a bin; there are about sqrt(n) / 2
    bins, from 2 to 20.
    """
    n_bins = int(np.clip(np.sqrt(len(score)) / 2, 2, 20))
    order = np.argsort(score, kind="stable")
    ends = _equal_count_ends(score[order], n_bins)
    starts = np.append(0, ends[:-1])
    w = ones(weights, len(score))[order]
    whole = np.add.reduceat(w, starts)
    some = np.where(whole > 0, whole, 1.0)
    observed = np.add.reduceat(w * hit[order], starts) / some
    predicted = np.add.reduceat(w * score[order], starts) / some
    n = whole**2 / np.where(whole > 0, np.add.reduceat(w**2, starts), 1.0)
    low, high = stats.wilson(observed, np.maximum(n, 1.0), 0.025)
    table = pd.DataFrame(
        {
            "n_rows": ends - starts,
            "mean_predicted": predicted,
            "share_observed": observed,
            "low": low,
            "high": high,
        }
    )
    return table[whole > 0].reset_index(drop=True)


def confusion(
    y: Codes, predicted: Codes, classes: Sequence[str], weights: Floats | None = None
) -> pd.DataFrame:
    """Rows by true and predicted class, true class first; share_of_true is 0 where it has none."""
    k = len(classes)
    counts = np.bincount(y * k + predicted, minlength=k * k).reshape(k, k)
    sums = np.bincount(y * k + predicted, weights=ones(weights, len(y)), minlength=k * k)
    sums = sums.reshape(k, k)
    whole = sums.sum(axis=1, keepdims=True)
    share = sums / np.where(whole > 0, whole, 1.0)
    names = np.array([str(c) for c in classes], dtype=object)
    return pd.DataFrame(
        {
            "true": np.repeat(names, k),
            "predicted": np.tile(names, k),
            "n_rows": counts.ravel(),
            "share_of_true": share.ravel(),
        }
    )


def score_histogram(
    y: Codes, score: Floats, classes: Sequence[str], weights: Floats | None = None
) -> pd.DataFrame:
    """How the score is spread in each class that occurs: bins, rows, and share of the class."""
    n_bins = int(np.clip(2 * len(score) ** (1 / 3), 10, 40))
    low, high = np.floor(score.min() * 20) / 20, np.ceil(score.max() * 20) / 20
    edges = np.linspace(low, high if high > low else low + 0.05, n_bins + 1)
    parts, w = [], ones(weights, len(y))
    for k in np.unique(y):
        n = np.histogram(score[y == k], bins=edges)[0]
        share = np.histogram(score[y == k], bins=edges, weights=w[y == k])[0]
        parts.append(
            pd.DataFrame(
                {
                    "class": str(classes[k]),
                    "low": edges[:-1],
                    "high": edges[1:],
                    "n_rows": n,
                    "share_of_class": share / (share.sum() or 1.0),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


# --- regression ---


def view(values: Floats) -> tuple[float, float]:
    """The range to show: all values, or, where a few lie far out, 99.9 % of them and a margin."""
    low, high = float(values.min()), float(values.max())
    if len(values) >= 1_000:
        inner_low, inner_high = np.quantile(values, [0.0005, 0.9995])
        margin = 0.25 * (inner_high - inner_low)
        if margin > 0:
            low, high = max(low, inner_low - margin), min(high, inner_high + margin)
    if high <= low:
        pad = max(abs(low), 1.0) * 0.05
        return low - pad, high + pad
    return float(low), float(high)


def cloud(x: Floats, y: Floats, x_name: str, y_name: str, *, square: bool = False) -> pd.DataFrame:
    """Points (x, y), or above SCATTER_ROWS hexagons with the rows in each.

    Columns: the two names (in hexagons: their centres), n_rows, n_clipped (rows beyond the view,
    counted in the hexagon at its edge), cell_width and cell_height (0 for points). `square` gives
    both axes one view.
    """
    if len(x) <= SCATTER_ROWS:
        points = pd.DataFrame({x_name: x, y_name: y})
        return points.assign(n_rows=1, n_clipped=0, cell_width=0.0, cell_height=0.0)
    (x_low, x_high), (y_low, y_high) = view(x), view(y)
    if square:
        x_low, x_high = y_low, y_high = min(x_low, y_low), max(x_high, y_high)
    beyond = (x < x_low) | (x > x_high) | (y < y_low) | (y > y_high)
    across, down = 44, 25
    width, height = (x_high - x_low) / across, (y_high - y_low) / down
    column, row, odd = _hexagons(
        (x.clip(x_low, x_high) - x_low) / width, (y.clip(y_low, y_high) - y_low) / height
    )
    key = (odd * (down + 2) + row) * (across + 2) + column
    cells, index = np.unique(key, return_inverse=True)
    shift = cells // ((across + 2) * (down + 2)) * 0.5
    return pd.DataFrame(
        {
            x_name: x_low + (cells % (across + 2) + shift) * width,
            y_name: y_low + (cells // (across + 2) % (down + 2) + shift) * height,
            "n_rows": np.bincount(index),
            "n_clipped": np.bincount(index, weights=beyond).astype(int),
            "cell_width": width,
            "cell_height": height,
        }
    )


def _hexagons(x: Floats, y: Floats) -> tuple[Codes, Codes, Codes]:
    """The nearest centre in two shifted lattices of unit cells: column, row, which lattice."""
    column, row = np.round(x), np.round(y)
    column_odd, row_odd = np.floor(x), np.floor(y)
    even = (x - column) ** 2 + 3 * (y - row) ** 2
    odd = ((x - column_odd - 0.5) ** 2 + 3 * (y - row_odd - 0.5) ** 2) < even
    chosen = np.where(odd, column_odd, column), np.where(odd, row_odd, row), odd
    return tuple(part.astype(np.int64) for part in chosen)  # type: ignore[return-value]


def residual_histogram(y: Floats, pred: Floats) -> pd.DataFrame:
    """Rows by error, true minus predicted; errors beyond the view are in the outermost bins."""
    error = y - pred
    low, high = view(error)
    n_bins = int(np.clip(2 * len(error) ** (1 / 3), 8, 50))
    edges = np.linspace(low, high, n_bins + 1)
    n = np.histogram(error.clip(low, high), bins=edges)[0]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n_rows": n})


def error_by_decile(y: Floats, pred: Floats, weights: Floats | None = None) -> pd.DataFrame:
    """Errors in up to ten equal-count bins of the prediction, at least five rows a bin on average.

    mean_error is the mean of true minus predicted: above 0 the model predicts too low.
    """
    order = np.argsort(pred, kind="stable")
    ranked, error = pred[order], (y - pred)[order]
    ends = _equal_count_ends(ranked, int(np.clip(len(y) // 5, 1, 10)))
    starts = np.append(0, ends[:-1])
    w = ones(weights, len(y))[order]
    whole = np.add.reduceat(w, starts)
    whole = np.where(whole > 0, whole, 1.0)
    return pd.DataFrame(
        {
            "bin": np.arange(1, len(ends) + 1),
            "low": ranked[starts],
            "high": ranked[ends - 1],
            "n_rows": ends - starts,
            "mean_absolute_error": np.add.reduceat(w * np.abs(error), starts) / whole,
            "root_mean_squared_error": np.sqrt(np.add.reduceat(w * error**2, starts) / whole),
            "mean_error": np.add.reduceat(w * error, starts) / whole,
        }
    )
