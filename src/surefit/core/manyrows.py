"""Resamples of very many rows: what the bootstrap gives, at a fraction of its work.

Three ways, each for the metrics it suits; what is left is evaluated on whole resamples.

- Metrics of labels see a row only as its pair of true and called class. Drawing n rows is then
  drawing how many there are of each pair, from a multinomial: the same distribution.
- The area under the ROC curve and average precision are smooth in the rows' weights where each
  class has very many rows (Kish's number, of weighted ones). They are expanded to first order by
  the jackknife's influence of each row (Efron 1982, "The jackknife, the bootstrap and other
  resampling plans", chapter 6), so that a resample is one product. What is neglected is some
  hundredths of the spread. The greatest distance and the lift are not smooth, and are not expanded.
- Sums over rows are summed for many resamples at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core import formulas as by
from surefit.core import rankings
from surefit.core.metrics import Floats, Metric
from surefit.core.resampling import CELLS_A_CHUNK, Layout, layout, mean_of_folds, rarest

MANY = 50_000  # rows below which every metric is evaluated on whole resamples
MANY_OF_A_CLASS = 1_000  # in each fold, for rankings to be expanded
SMOOTH = (rankings.area, rankings.average_precision)
CELLS_OF_SUMS = 8_000_000  # 64 MB


def draws(
    metrics: Sequence[Metric],
    y: NDArray[Any],
    pred: NDArray[Any],
    rows: Layout,
    *,
    values: Floats,
    units: Sequence[Floats | None],
    n_resamples: int,
    seed: int,
) -> Floats:
    """The metrics (b, m) in resamples; `y` and `pred` are in `rows.order`.

    Args:
        values: (m,) the metrics on all rows.
        units: of each metric the influence of each row, where it has a cheap leave-one-out.
    """
    out = np.full((n_resamples, len(metrics)), np.nan)
    labels, smooth, rest = _sorted(metrics, y, rows, units)
    if labels:
        chosen = [metrics[j] for j in labels]
        out[:, labels] = _of_labels(chosen, y, pred, rows, n_resamples, seed)
    exact = [metrics[j] for j in rest]
    whole = any(m.curve is not None for m in exact)
    evaluate = mean_of_folds(exact, y, pred, rows)
    influence = np.column_stack([smooth[j] for j in smooth]) if smooth else np.empty((len(y), 0))
    start = 0
    if not exact and not smooth:
        return out
    cells = CELLS_A_CHUNK if whole or len(y) < MANY else CELLS_OF_SUMS
    for counts in rows.draws(n_resamples, seed, cells=cells):
        part = slice(start, start + len(counts))
        if exact:
            out[part, rest] = evaluate(counts)
        if smooth:
            out[part, list(smooth)] = values[list(smooth)] + counts @ influence
        start += len(counts)
    return out


def _sorted(
    metrics: Sequence[Metric], y: NDArray[Any], rows: Layout, units: Sequence[Floats | None]
) -> tuple[list[int], dict[int, Floats], list[int]]:
    """Numbers of the metrics of labels, of those that are expanded with each row's influence, and
    of the rest."""
    many = rows.n_units >= MANY and rows.clusters is None
    classes = np.issubdtype(y.dtype, np.integer)
    of_many_of_each = many and classes and rarest(y, rows, rows.folds)[1] >= MANY_OF_A_CLASS
    labels: list[int] = []
    smooth: dict[int, Floats] = {}
    rest: list[int] = []
    for j, metric in enumerate(metrics):
        influence = units[j] if metric.curve in SMOOTH and of_many_of_each else None
        if many and rows.weights is None and metric.columns is by.label_columns:
            labels.append(j)
        elif influence is not None:
            smooth[j] = influence
        else:
            rest.append(j)
    return labels, smooth, rest


def _of_labels(
    metrics: Sequence[Metric], y: NDArray[Any], pred: NDArray[Any], rows: Layout, b: int, seed: int
) -> Floats:
    """Metrics of labels (b, m) from how often each pair of true and called class is drawn."""
    k = pred.shape[1]
    fold = np.repeat(np.arange(len(rows.folds)), np.diff(rows.edges))
    if k == 2:  # a call at each of the thresholds asked for
        cuts = sorted({m.threshold for m in metrics})
        calls = [(pred[:, 1] >= cut).astype(np.int64) for cut in cuts]
    else:
        calls = [pred.argmax(axis=1)]
    sizes = (len(rows.folds), k, *([k] * len(calls)))
    pattern = np.ravel_multi_index((fold, y, *calls), sizes)
    found, at, counts = np.unique(pattern, return_index=True, return_counts=True)
    rng = np.random.default_rng(seed)
    few = layout(len(found), folds=fold[at])
    drawn = np.hstack([
        rng.multinomial(own.sum(), own / own.sum(), size=b)
        for own in (counts[part] for part in few.folds)
    ])  # fmt: skip
    evaluate = mean_of_folds(metrics, y[at], pred[at], few)
    return evaluate(drawn.astype(np.float64))
