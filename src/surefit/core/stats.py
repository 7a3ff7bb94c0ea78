"""Intervals of one score by the bootstrap, or Wilson's for proportions.

What is estimated: the score of these fitted models on new rows (or whole clusters) of the same
kind. The variation from fitting again on other training rows is not in the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from surefit.core import manyrows
from surefit.core.metrics import Floats, Metric, evaluator
from surefit.core.rankings import average_precision
from surefit.core.resampling import Layout, ends, influence, layout, mean_of_folds, rarest
from surefit.core.resampling import resample_counts as resample_counts
from surefit.results import Score

FEW_OF_A_CLASS = 10


def wilson(share: Floats | float, n: Floats | float, tail: float) -> tuple[Floats, Floats]:
    """Wilson's interval (1927) of proportions among `n` independent rows; NaN where n is 0."""
    z, n = float(-ndtri(tail)), np.where(np.asarray(n) > 0, n, np.nan)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


def score(
    metric: Metric,
    y: NDArray[Any],
    pred: NDArray[Any],
    *,
    folds: Any = None,
    clusters: Any = None,
    weights: Any = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Score:
    """A metric's value with its interval; see `scores`, which shares work between metrics."""
    return scores(
        [metric], y, pred, folds=folds, clusters=clusters, weights=weights, level=level,
        n_resamples=n_resamples, seed=seed,
    )[0]  # fmt: skip


def scores(
    metrics: Sequence[Metric],
    y: NDArray[Any],
    pred: NDArray[Any],
    *,
    folds: Any = None,
    clusters: Any = None,
    weights: Any = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[Score, ...]:
    """The metrics' values with intervals, from one set of resamples.

    Args:
        metrics: any number, of one task.
        y, pred: as in `core.metrics`, n rows.
        folds: (n,) labels; the metric is computed a fold and averaged, never pooled, and rows are
            drawn within folds. A fold where it is undefined is left out, and the note says so.
        clusters: (n,) labels of rows that belong together (a group, a block of time); whole
            clusters are drawn.
        weights: (n,) how much each row counts in the metric; rows are drawn alike all the same.
        level: coverage aimed at, in (0, 1).
        n_resamples: resamples; cost is this times n. Work is never reduced silently.
        seed: the same seed, the same ends.

    Assumes that rows (or clusters) are independent draws of one population, and the models fixed.
    Proportions (accuracy, precision, recall, specificity) without clusters or weights have
    Wilson's interval, with folds around the folds' mean with the rows of all folds. Everything else
    has BCa's (Efron 1987) with quantiles expanded by Student's t (Hesterberg 2015), its degrees of
    freedom fewer for heavy tails; percentile where a metric has no cheap leave-one-out. From
    50,000 rows on, resamples are made as `core.manyrows` says. In simulation the same over
    clusters covered as well as, or better than, t intervals by a cluster jackknife.
    `reliable` is False under 20 clusters or rows, under 10 rows of a class for ranking metrics (of
    a fold for average precision, which few rows raise), where a fold has no row that a proportion
    is taken of, where resamples have no spread or the metric is undefined in over 5 % of them, and
    for metrics that noise alone raises (ks, ece), whose intervals lie too high.

    Raises:
        DataError: lengths differ, or a prediction is not finite.
    """
    if len(y) >= manyrows.MANY and np.ndim(pred) == 2:
        y, pred, folds, clusters, weights = _by_score(y, pred, folds, clusters, weights)
    rows = layout(len(y), folds=folds, clusters=clusters, weights=weights)
    y, pred = np.asarray(y)[rows.order], np.asarray(pred)[rows.order]
    by_fold = _by_fold(metrics, y, pred, rows)
    defined = (~np.isnan(by_fold)).sum(axis=0)
    values = np.where(defined, np.nansum(by_fold, axis=0) / np.maximum(defined, 1), np.nan)
    drawn = [
        j for j, m in enumerate(metrics)
        if not (np.isnan(values[j]) or rows.spare < 1 or _wilson_fits(m, rows))
    ]  # fmt: skip
    units = {j: influence(metrics[j], y, pred, rows) for j in drawn}
    draws = np.full((n_resamples, len(metrics)), np.nan)
    draws[:, drawn] = manyrows.draws(
        [metrics[j] for j in drawn], y, pred, rows, values=values[drawn],
        units=[units[j] for j in drawn], n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    counted = _counted(metrics, y, pred, rows)
    return tuple(
        scored(metric, y, pred, rows=rows, value=float(values[j]), draws=draws[:, j], level=level,
               units=units.get(j), by_fold=by_fold[:, j], counted=counted.get(j))
        for j, metric in enumerate(metrics)
    )  # fmt: skip


def _by_fold(
    metrics: Sequence[Metric], y: NDArray[Any], pred: NDArray[Any], rows: Layout
) -> Floats:
    """The metrics (n_folds, m) of each fold alone."""
    return np.stack([
        evaluator(metrics, y[f], pred[f], rows.weights_of(f))(np.ones((1, len(y[f]))))[0]
        for f in rows.folds
    ])  # fmt: skip


def _counted(
    metrics: Sequence[Metric], y: NDArray[Any], pred: NDArray[Any], rows: Layout
) -> dict[int, float]:
    """The rows that each proportion is taken of; a table of columns is made once for many."""
    found, sums = {}, {}
    for j, metric in enumerate(metrics):
        if metric.columns is None or metric.counted is None or not _wilson_fits(metric, rows):
            continue
        key = (metric.columns, metric.threshold)
        if key not in sums:
            sums[key] = metric.columns(y, pred, metric.threshold).sum(axis=0)
        found[j] = float(metric.counted(sums[key]))
    return found


def _by_score(y: Any, pred: Any, *more: Any) -> list[Any]:
    """Rows in order of the last class's probability: a ranking then reads memory in sequence."""
    if len(y) != len(pred):
        return [y, pred, *more]  # refused where it is said how
    order = np.argsort(-np.asarray(pred)[:, -1], kind="stable")
    return [None if part is None else np.asarray(part)[order] for part in (y, pred, *more)]


def mean_value(
    metric: Metric, y: NDArray[Any], pred: NDArray[Any], *, folds: Any = None, weights: Any = None
) -> float:
    """The metric's value alone: a fold at a time where there are folds, then averaged."""
    rows = layout(len(y), folds=folds, weights=weights)
    evaluate = mean_of_folds([metric], y[rows.order], pred[rows.order], rows)
    return float(evaluate(np.ones((1, len(y))))[0, 0])


def _wilson_fits(metric: Metric, rows: Layout) -> bool:
    return metric.counted is not None and rows.clusters is None and rows.weights is None


def scored(
    metric: Metric,
    y: NDArray[Any],
    pred: NDArray[Any],
    *,
    rows: Layout,
    value: float,
    draws: Floats,
    level: float,
    units: Floats | None = None,
    by_fold: Floats | None = None,
    counted: float | None = None,
) -> Score:
    """A value with its interval from its values (b,) in resamples; all in `rows.order`.

    Found here where they are not at hand: `units`, the metric's `influence`; `by_fold`, its value
    in each fold; `counted`, the rows that a proportion is taken of.
    """
    if by_fold is None:
        by_fold = _by_fold([metric], y, pred, rows)[:, 0]
    tail = (1 - level) / 2
    kept = draws[~np.isnan(draws)]
    notes, doubts = _left_out(metric, by_fold), _of_none(metric, y, pred, rows, by_fold)
    low = high = float("nan")
    method = ""
    if np.isnan(value):
        doubts.append(f"{metric.name} is undefined on these rows")
    elif _wilson_fits(metric, rows):
        if counted is None:
            counted = _counted([metric], y, pred, rows)[0]
        low, high = map(float, wilson(value, counted, tail))
        method = "Wilson"
    elif rows.spare < 1 or len(kept) < 2:
        doubts.append("too few rows or clusters to tell a spread")
    else:
        units = influence(metric, y, pred, rows) if units is None else units
        least, most = metric.bounds
        reach = most if np.isinf(least) else np.inf
        found = ends(value, kept, units, rows=rows, tail=tail, most=reach)
        low, high = np.clip(found, least, most)
        low, high = min(low, value), max(high, value)  # a biased metric's may miss it (ece)
        method = _method(units, rows)
        doubts += _doubts(metric, y, draws, rows)
    return Score(
        metric=metric.name, value=value, low=float(low), high=float(high), n_rows=len(y),
        greater_is_better=metric.greater_is_better, level=level, method=method,
        reliable=not doubts, note="; ".join(doubts + notes),
    )  # fmt: skip


def _method(units: Floats | None, rows: Layout) -> str:
    if rows.clusters is not None:
        return "cluster bootstrap"
    return "percentile bootstrap" if units is None else "BCa bootstrap"


def _left_out(metric: Metric, by_fold: Floats) -> list[str]:
    """A note on the folds where the metric is undefined, when only some are."""
    bad = int(np.isnan(by_fold).sum())
    if not 0 < bad < len(by_fold):
        return []
    return [f"{bad} of {len(by_fold)} folds left out: {metric.name} is undefined there"]


def _of_none(
    metric: Metric, y: NDArray[Any], pred: NDArray[Any], rows: Layout, by_fold: Floats
) -> list[str]:
    """A doubt where a proportion counts as 0 since a fold has no row that it is taken of."""
    if metric.columns is None or metric.counted is None or not (by_fold == 0).any():
        return []
    table = metric.columns(y, pred, metric.threshold)
    none = sum(
        value == 0 and not metric.counted(table[f].sum(axis=0)) > 0
        for f, value in zip(rows.folds, by_fold, strict=True)
    )
    where = f"{none} of {len(by_fold)} folds have" if len(by_fold) > 1 else "there is"
    return [f"{where} no row that {metric.name} is a share of, which counts as 0"] if none else []


def _doubts(metric: Metric, y: NDArray[Any], draws: Floats, rows: Layout) -> list[str]:
    """Why the interval may cover less than it says."""
    found = [rows.doubt] if rows.doubt else []
    if metric.curve is not None:
        parts = list(rows.folds) if metric.curve is average_precision else [slice(None)]
        where = " in a fold" if len(parts) > 1 else ""
        n, effective = rarest(y, rows, parts)
        if effective < FEW_OF_A_CLASS:
            like = "" if n < FEW_OF_A_CLASS else f" weigh like {effective:.0f}"
            found.append(f"{n} rows of the rarest class{where}{like}, fewer than {FEW_OF_A_CLASS}")
    if metric.raised_by_noise:
        found.append("noise alone raises it, so that the interval lies too high")
    missing = float(np.isnan(draws).mean())
    if missing > 0.05:
        found.append(f"undefined in {missing:.0%} of the resamples")
    if np.nanmax(draws) - np.nanmin(draws) < 1e-12:
        found.append("no spread among the resamples")
    return found
