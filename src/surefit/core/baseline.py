"""What a model must beat: one answer for all rows, and the best that one column alone can do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from surefit.core import metrics, stats
from surefit.core.data import Dataset
from surefit.core.metrics import Metric
from surefit.core.predictions import Scored
from surefit.core.split import Split

N_BINS = 20
PRIOR_ROWS = 10  # rows of the overall mean that each value's mean is drawn towards


@dataclass(frozen=True, kw_only=True)
class FeatureBaseline:
    """The best that the means of the target by one column's values give."""

    column: str
    value: float


def constant_value(metric: Metric, data: Dataset, split: Split) -> float:
    """The metric of one answer for all rows, learnt from the training rows of each fold.

    What the family `dummy` would score: a fold at a time, then averaged.
    """
    rows = split.scored_rows
    weights = None if data.weight is None else data.weight[rows]
    return stats.mean_value(
        metric, data.y[rows], constant_answers(data, split, rows), folds=split.fold_of_rows(),
        weights=weights,
    )  # fmt: skip


def constant_answers(
    data: Dataset, split: Split, at: np.ndarray, *, test: bool = False, given: bool = False
) -> np.ndarray:
    """The class shares (n, K), or means (n,), that the rows numbered `at` have as one answer.

    Learnt from the training rows as in `best_feature`, which says what `test` and `given` do.
    """
    n_classes = len(data.classes)
    out = np.full((data.n_rows, n_classes) if n_classes else data.n_rows, np.nan)
    for train, scored in _pairs(data, split, at, test=test, given=given):
        weights = None if data.weight is None else data.weight[train]
        out[scored] = constant(data.y[train], n_classes, weights)[0]
    return np.asarray(out[at])


def of_these_rows(metric: Metric, scored: Scored) -> float:
    """The metric of the class shares, or the mean, of these very rows: training rows are gone."""
    answers = constant(scored.y, len(scored.classes), scored.weights)
    return stats.mean_value(metric, scored.y, answers, folds=scored.folds, weights=scored.weights)


def constant(y: np.ndarray, n_classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The class shares (n, K), or the mean (n,), as everyone's prediction."""
    if not n_classes:
        return np.full(len(y), np.average(y, weights=weights))
    counts = np.bincount(y, weights=weights, minlength=n_classes)
    return np.tile(counts / max(counts.sum(), 1e-300), (len(y), 1))


def best_feature(
    metric: Metric,
    data: Dataset,
    split: Split,
    *,
    test: bool = False,
    given: np.ndarray | None = None,
) -> FeatureBaseline | None:
    """The column whose target means, by value or by 20 bins, score best on the scored rows.

    Means come from the training rows of each fold (with `test`, from all training rows, scored on
    the test rows), each drawn towards the overall mean by ten rows of it. Bins are cut without the
    target. The column is picked on the rows it is scored on, which flatters it, not the model.
    With `given`, row numbers from outside, each fifth of these has the means of the training rows
    without it, and all of them are scored together. None where no column gives a value.
    """
    rows = split.scored_rows if given is None else given
    pairs = _pairs(data, split, rows, test=test, given=given is not None)
    best: FeatureBaseline | None = None
    for column in data.columns:
        codes = _codes(data.frame[column.name], column.kind)
        value = _value(metric, data, codes, pairs, pooled=given is not None)
        gain = -math.inf if math.isnan(value) else metric.sign * value
        if not math.isnan(value) and (best is None or gain > metric.sign * best.value):
            best = FeatureBaseline(column=column.name, value=value)
    return best


def _codes(values: pd.Series, kind: str) -> np.ndarray:
    """0..k-1 for each row, missing values a code of their own."""
    if kind in ("number", "date") and values.nunique() > N_BINS:
        cuts = values.dropna().quantile(np.linspace(0, 1, N_BINS + 1)[1:-1]).unique()
        found = 1 + np.searchsorted(np.sort(np.asarray(cuts)), values.to_numpy())
        return np.where(values.isna().to_numpy(), 0, found)
    return np.asarray(pd.factorize(values)[0] + 1)


def _pairs(
    data: Dataset, split: Split, at: np.ndarray, *, test: bool, given: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is learnt from, and what is then scored."""
    if given:
        return _fifths(split, at)
    return [(split.train_rows, split.test_rows)] if test else list(split.folds())


def _fifths(split: Split, given: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training rows without a fifth of the given rows, that fifth); units stay whole."""
    unit = np.unique(split.unit[given], return_inverse=True)[1].ravel()
    part = np.random.default_rng(0).permutation(int(unit.max()) + 1)[unit] % 5
    pairs = []
    for k in np.unique(part):
        own = given[part == k]
        train = split.train_rows[~np.isin(split.unit[split.train_rows], split.unit[own])]
        pairs.append((train, own))
    return [(train, own) for train, own in pairs if len(train)]


def _value(
    metric: Metric,
    data: Dataset,
    codes: np.ndarray,
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    pooled: bool,
) -> float:
    if pooled:
        pairs = list(pairs)
        if not pairs:
            return math.nan
        rows = np.concatenate([own for _, own in pairs])
        pred = np.concatenate([_means(data, codes, train)[codes[own]] for train, own in pairs])
        weights = None if data.weight is None else data.weight[rows]
        return metrics.value(metric, data.y[rows], pred, weights=weights)
    values = []
    for train, scored in pairs:
        pred = _means(data, codes, train)[codes[scored]]
        weights = None if data.weight is None else data.weight[scored]
        values.append(metrics.value(metric, data.y[scored], pred, weights=weights))
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def _means(data: Dataset, codes: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Class shares (k, K), or means (k,), of the training rows of each code."""
    k = int(codes.max()) + 1
    weights = np.ones(len(train)) if data.weight is None else data.weight[train]
    rows = np.bincount(codes[train], weights=weights, minlength=k)
    y, n_classes = data.y[train], len(data.classes)
    if not n_classes:
        sums = np.bincount(codes[train], weights=weights * y, minlength=k)
        mean = np.average(y, weights=weights)
        return np.asarray((sums + PRIOR_ROWS * mean) / (rows + PRIOR_ROWS))
    whole = np.bincount(y, weights=weights, minlength=n_classes) / weights.sum()
    flat = np.bincount(codes[train] * n_classes + y, weights=weights, minlength=k * n_classes)
    return np.asarray(
        (flat.reshape(k, n_classes) + PRIOR_ROWS * whole) / (rows[:, None] + PRIOR_ROWS)
    )
