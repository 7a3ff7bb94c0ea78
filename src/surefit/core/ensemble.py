"""Greedy selection of an ensemble from out-of-fold predictions.

Caruana, Niculescu-Mizil, Crew and Ksikes 2004, "Ensemble Selection from Libraries of Models": from
the best candidate on, the one whose addition helps most is added, again and again, with
replacement; the best ensemble met on the way is kept. The members' share is their weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core.metrics import Floats, Metric
from surefit.core.resampling import Layout, layout, mean_of_folds
from surefit.core.winner import Corrected, elsewhere, summed_up
from surefit.errors import DataError

STEPS = 10  # additions at most
MOST = 8  # candidates at most: those beyond the best few of each family bring nothing
PARTS = 5  # of the rows, where there is one validation set, to choose on four and predict on one
PATIENCE = 3  # additions without a better ensemble, after which no more are tried
LEAST_RESAMPLES, MOST_RESAMPLES = 40, 100
WORK = 4e8  # values looked at over all resamples, and as many over all parts


def select(
    metric: Metric, y: NDArray[Any], preds: Sequence[NDArray[Any]], rows: Layout, counts: Floats
) -> Floats:
    """Weights (m,) of the candidates, summing to 1, chosen on rows that count (n,) times.

    `y` and each of `preds` are in `rows.order`. Ties go to the candidate given first.
    """
    drawn = counts[None, :]

    def value(pred: NDArray[Any]) -> float:
        found = metric.sign * float(mean_of_folds([metric], y, pred, rows)(drawn)[0, 0])
        return found if np.isfinite(found) else -np.inf

    alone = [value(pred) for pred in preds]
    members = [int(np.argmax(alone))]
    total = np.asarray(preds[members[0]], dtype="float64")
    best, best_size = alone[members[0]], 1
    for size in range(2, STEPS + 1):
        tried = [value((total + pred) / size) for pred in preds]
        winner = int(np.argmax(tried))
        members.append(winner)
        total = total + preds[winner]
        if tried[winner] > best:
            best, best_size = tried[winner], size
        elif size - best_size >= PATIENCE:
            break
    counted = np.bincount(members[:best_size], minlength=len(preds))
    return np.asarray(counted / best_size, dtype="float64")


def mixed(preds: Sequence[NDArray[Any]], weights: Floats) -> NDArray[Any]:
    """The weighted mean of predictions."""
    parts = (w * np.asarray(p, dtype="float64") for w, p in zip(weights, preds, strict=True) if w)
    return np.asarray(sum(parts))


def cross_fitted(
    metric: Metric, y: NDArray[Any], preds: Sequence[NDArray[Any]], *, folds: Any = None,
    weights: Any = None,
) -> NDArray[Any]:  # fmt: skip
    """Predictions of each fold's rows by the ensemble that is chosen on the other folds.

    So that no row helped to choose what it is scored with. With one fold, fifths of the rows.
    """
    part = np.zeros(len(y), dtype="int64") if folds is None else np.asarray(folds)
    if len(np.unique(part)) == 1:
        part = np.arange(len(y)) % PARTS
    out = np.zeros_like(np.asarray(preds[0], dtype="float64"))
    for label in np.unique(part):
        rest, mine = part != label, part == label
        rows = layout(
            int(rest.sum()), folds=None if folds is None else np.asarray(folds)[rest],
            weights=None if weights is None else np.asarray(weights)[rest],
        )  # fmt: skip
        sorted_preds = [p[rest][rows.order] for p in preds]
        chosen = select(metric, y[rest][rows.order], sorted_preds, rows, np.ones(int(rest.sum())))
        out[mine] = mixed([p[mine] for p in preds], chosen)
    return out


def corrected(
    metric: Metric,
    y: NDArray[Any],
    preds: Sequence[NDArray[Any]],
    *,
    folds: Any = None,
    clusters: Any = None,
    weights: Any = None,
    level: float = 0.95,
    seed: int = 0,
) -> Corrected:
    """The ensemble's score, corrected for having been chosen on these rows.

    As `winner` does it, with the ensemble selected anew in the place of the pick: on
    parts of the rows for the value, in resamples for the interval.

    Raises:
        DataError: the metric is undefined on these rows.
    """
    rows = layout(len(y), folds=folds, clusters=clusters, weights=weights)
    y = np.asarray(y)[rows.order]
    preds = [np.asarray(p)[rows.order] for p in preds]
    whole = mixed(preds, select(metric, y, preds, rows, np.ones(len(y))))
    judge = mean_of_folds([metric], y, whole, rows)
    raw = judge(np.ones((1, len(y))))[0]
    if np.isnan(raw).any():
        raise DataError(f"{metric.name} is undefined on these {len(y)} rows.")
    n = _affordable(preds)

    def anew(counts: Floats, kept: Floats, left: Floats) -> Floats:
        """What of the value of the ensemble selected by `counts` (n,) is not in the rows kept."""
        chosen = mixed(preds, select(metric, y, preds, rows, counts))
        both = mean_of_folds([metric], y, chosen, rows)(np.vstack([np.ones(len(y)), kept]))
        return elsewhere(both[0], both[1], left)

    parts, drawn = [], []
    for kept in itertools.chain.from_iterable(rows.kept(PARTS, -(-n // PARTS), seed)):
        left = rows.share(1 - kept[None, :])
        best = elsewhere(raw, judge(kept[None, :])[:, 0], left)
        parts.append([left, anew(kept, kept, left), best])
    for counts in itertools.chain.from_iterable(rows.draws(n, seed)):
        kept = (counts > 0).astype(np.float64)
        left = rows.share(1 - kept[None, :])
        drawn.append([left, anew(counts, kept, left)])
    return summed_up(
        metric, ["ensemble"], raw, np.asarray(parts)[:, :, 0], np.asarray(drawn)[:, :, 0],
        rows=rows, level=level,
    )  # fmt: skip


def _affordable(preds: Sequence[NDArray[Any]]) -> int:
    """Resamples, fewer where there are many rows: their scores differ less there."""
    each = sum(p.size for p in preds) * STEPS
    return int(np.clip(WORK / each, LEAST_RESAMPLES, MOST_RESAMPLES))
