"""The numbers behind the pictures of many classes, each against the rest.

Arrays as in `curves`: `y` class codes (n,), `pred` probabilities (n, K). A class is left out where
all rows have it or none has; the tables are empty where none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from surefit.core.curves import Codes, Floats, cumulate, ones, roc_points, thin

MACRO = "macro"
WORST = 10  # classes with a curve of their own; the mean is of all
POINTS = 200
N_BINS = 20

Points = tuple[Floats, Floats, Floats, float]  # x, value, place along the curve; and its area


def class_scores(
    y: Codes, predicted: Codes, classes: Sequence[str], weights: Floats | None = None
) -> pd.DataFrame:
    """Precision, recall and F1 of each class that occurs, the worst first; 0 where undefined."""
    k, w, same = len(classes), ones(weights, len(y)), y == predicted
    n_true, n_named = np.bincount(y, minlength=k), np.bincount(predicted, minlength=k)
    true, named = (np.bincount(of, weights=w, minlength=k) for of in (y, predicted))
    right = np.bincount(y[same], weights=w[same], minlength=k)
    table = pd.DataFrame(
        {
            "class": [str(c) for c in classes],
            "n_rows": n_true,
            "n_predicted": n_named,
            "precision": right / np.where(named > 0, named, 1.0),
            "recall": right / np.where(true > 0, true, 1.0),
            "f1": 2 * right / np.where(true + named > 0, true + named, 1.0),
        }
    )
    table = table[(n_true + n_named) > 0]
    return table.sort_values("f1", kind="stable").reset_index(drop=True)


def roc_by_class(
    y: Codes, pred: Floats, classes: Sequence[str], weights: Floats | None = None
) -> pd.DataFrame:
    """One-vs-rest ROC curves: the mean over classes ("macro"), then the classes of least area."""

    def one(own: Codes, score: Floats) -> Points:
        fpr, tpr, _, area = roc_points(own, score, weights)
        return fpr, tpr, fpr + tpr, area

    def mean(grid: Floats, fpr: Floats, tpr: Floats) -> Floats:
        return np.asarray(np.interp(grid, fpr, tpr))

    names = ("false_positive_rate", "true_positive_rate", "roc_auc")
    table = _curves(_usable(y, pred, classes, weights), one, mean, names)
    start = table.head(1).assign(**{names[0]: 0.0, names[1]: 0.0})
    return pd.concat([start, table], ignore_index=True) if len(table) else table


def precision_recall_by_class(
    y: Codes, pred: Floats, classes: Sequence[str], weights: Floats | None = None
) -> pd.DataFrame:
    """One-vs-rest precision by recall: the mean precision over classes at each recall ("macro"),
    then the classes of least average precision."""

    def one(own: Codes, score: Floats) -> Points:
        _, positives, flagged = cumulate(own, score, weights)
        precision, recall = positives / flagged, positives / positives[-1]
        area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
        return recall, precision, recall + flagged / flagged[-1], area

    def mean(grid: Floats, recall: Floats, precision: Floats) -> Floats:
        at = np.searchsorted(recall, grid * (1 - 1e-12)).clip(0, len(recall) - 1)
        return np.asarray(precision[at])

    names = ("recall", "precision", "average_precision")
    return _curves(_usable(y, pred, classes, weights), one, mean, names)


def gain_by_class(
    y: Codes, pred: Floats, classes: Sequence[str], weights: Floats | None = None
) -> pd.DataFrame:
    """For each class, the share of its rows found among those of highest probability for it, and
    the lift over chance: the mean over classes ("macro"), then those of least ROC area."""

    def one(own: Codes, score: Floats) -> Points:
        _, positives, flagged = cumulate(own, score, weights)
        rows, found = flagged / flagged[-1], positives / positives[-1]
        wrong = np.append(0.0, (flagged - positives) / (flagged[-1] - positives[-1]))
        area = float(np.trapezoid(np.append(0.0, found), wrong))
        return rows, found, rows + found, area

    def mean(grid: Floats, rows: Floats, found: Floats) -> Floats:
        return np.asarray(np.interp(grid, np.append(0.0, rows), np.append(0.0, found)))

    names = ("share_of_rows", "share_of_class", "roc_auc")
    usable = _usable(y, pred, classes, weights)
    grid = np.geomspace(1 / max(len(y), POINTS), 1.0, POINTS)
    table = _curves(usable, one, mean, names, grid=grid)
    return table.assign(lift=table["share_of_class"] / table["share_of_rows"])


def scores_by_class(
    y: Codes, pred: Floats, classes: Sequence[str], weights: Floats | None = None
) -> pd.DataFrame:
    """How each class's probability is spread over its own rows and over all others.

    The class of least area under its ROC curve comes first. Columns: class, n_rows (its own),
    roc_auc, low, high (of a bin), share_of_class, share_of_rest.
    """
    edges, w, tables = np.linspace(0, 1, N_BINS + 1), ones(weights, len(y)), []
    for name, own, score in _usable(y, pred, classes, weights):
        mine = own == 1
        area = roc_points(own, score, weights)[3]
        inside, outside = (
            np.histogram(score[rows].clip(0, 1), bins=edges, weights=w[rows])[0]
            for rows in (mine, ~mine)
        )
        tables.append(pd.DataFrame({
            "class": name, "n_rows": int(mine.sum()), "roc_auc": area,
            "low": edges[:-1], "high": edges[1:],
            "share_of_class": inside / inside.sum(), "share_of_rest": outside / outside.sum(),
        }))  # fmt: skip
    if not tables:
        return pd.DataFrame()
    tables.sort(key=lambda table: float(table["roc_auc"].iloc[0]))
    return pd.concat(tables, ignore_index=True)


def _usable(
    y: Codes, pred: Floats, classes: Sequence[str], weights: Floats | None
) -> Iterator[tuple[str, Codes, Floats]]:
    """The name of each class that some rows have and some have not, who has it, and its score."""
    whole = np.bincount(y, weights=ones(weights, len(y)), minlength=len(classes))
    for k in np.flatnonzero((whole > 0) & (whole < whole.sum())):
        yield str(classes[int(k)]), (y == k).astype(np.int64), pred[:, k]


def _curves(
    usable: Iterable[tuple[str, Codes, Floats]],
    one: Callable[[Codes, Floats], Points],
    mean: Callable[[Floats, Floats, Floats], Floats],
    names: tuple[str, str, str],
    *,
    grid: Floats | None = None,
) -> pd.DataFrame:
    """The mean of the classes' curves on a grid, then the `WORST` curves of least area."""
    grid = np.linspace(0, 1, POINTS) if grid is None else grid
    total, parts = np.zeros(len(grid)), []
    for name, own, score in usable:
        x, value, place, area = one(own, score)
        total += mean(grid, x, value)
        keep = thin(place, POINTS)
        parts.append((name, x[keep], value[keep], area))
    if not parts:
        return pd.DataFrame({"class": [], **{name: [] for name in names}})
    mean_name = MACRO if all(part[0] != MACRO for part in parts) else f"{MACRO}, the mean"
    whole = (mean_name, grid, total / len(parts), float(np.mean([part[3] for part in parts])))
    parts.sort(key=lambda part: part[3])
    tables = [
        pd.DataFrame({"class": name, names[0]: x, names[1]: value, names[2]: area})
        for name, x, value, area in [whole, *parts[:WORST]]
    ]
    return pd.concat(tables, ignore_index=True)
