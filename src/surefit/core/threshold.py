"""The threshold from which the positive class is called, chosen for a metric or a cost.

What a chosen threshold is worth is never read off the rows it was chosen on: for each fold it is
chosen on the other folds' rows, and the fold is scored with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surefit.core import formulas as by
from surefit.core import metrics, stats
from surefit.core.metrics import Floats, Metric
from surefit.core.predictions import Scored
from surefit.errors import ConfigError, did_you_mean
from surefit.results import Score

COST = "cost"
N_PARTS = 5


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A threshold and what it is worth.

    Attributes:
        value: chosen on all rows; what to use from now on.
        by_part: what each part of the rows was scored with, chosen on the other parts.
        scores: cross-fitted, the goal first.
        default: the same at 0.5.
    """

    goal: str
    value: float
    by_part: tuple[float, ...]
    scores: tuple[Score, ...] = field(repr=False)
    default: tuple[Score, ...] = field(repr=False)


def goals() -> tuple[str, ...]:
    """The metrics that a threshold can be chosen for; and "cost", where there is a matrix."""
    return tuple(
        name
        for name in metrics.names("binary")
        if metrics.find(name, "binary").columns is by.label_columns
    )


def parts(scored: Scored, clusters: np.ndarray | None = None) -> np.ndarray:
    """(n,) which part a row belongs to: its fold, or, without folds, one of five drawn parts.

    Rows of one cluster stay in one part.
    """
    if scored.folds is not None and len(np.unique(scored.folds)) > 1:
        return np.unique(scored.folds, return_inverse=True)[1]
    n = len(scored.y)
    unit = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    drawn = np.random.default_rng(0).permutation(int(unit.max(initial=0)) + 1) % N_PARTS
    return np.asarray(drawn[unit])


def divisible(scored: Scored, clusters: np.ndarray | None = None) -> bool:
    """Whether there are two parts, so that what is chosen on one can be scored on another."""
    return len(np.unique(parts(scored, clusters))) > 1


def others(part: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks of the rows outside each part and inside it."""
    for k in np.unique(part):
        yield part != k, part == k


def choose(goal: str, y: np.ndarray, p: np.ndarray, *, costs: Floats | None = None,
           weights: np.ndarray | None = None) -> float:  # fmt: skip
    """The threshold in [0, 1] of the best value of the goal; of equally good ones the highest.

    It lies midway between two neighbouring scores.
    """
    order = np.argsort(-p, kind="stable")
    w = np.ones(len(y)) if weights is None else weights
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    tp = np.append(0.0, np.cumsum((w * (y == 1))[order])[ends])
    fp = np.append(0.0, np.cumsum((w * (y == 0))[order])[ends])
    if costs is not None and goal == COST:
        missed, spared = tp[-1] - tp, fp[-1] - fp
        value = -(tp * costs[1, 1] + fp * costs[0, 1] + missed * costs[1, 0] + spared * costs[0, 0])
    else:
        value = np.nan_to_num(_of_counts(metrics.find(goal, "binary"), tp, fp), nan=-np.inf)
    best = int(np.argmax(value))
    cuts = np.concatenate([[1.0], p[order][ends], [0.0]])
    return float((cuts[best] + cuts[best + 1]) / 2)


def _of_counts(metric: Metric, tp: Floats, fp: Floats) -> Floats:
    """A label metric of each cut, from the true and false positives above it."""
    p, q = tp[-1], fp[-1]
    sums = [q, p, q - fp + p - tp, tp + fp, q - fp, tp]
    assert metric.combine is not None
    table = np.column_stack([np.broadcast_to(s, tp.shape) for s in sums])
    return metric.sign * metric.combine(table)


def check(goal: str, *, costs: Floats | None = None) -> None:
    """Refuse a goal that no threshold can be chosen for.

    Raises:
        ConfigError: the goal is no metric of labels.
    """
    known = goals() + ((COST,) if costs is not None else ())
    if goal not in known:
        raise ConfigError(
            f'metric.threshold = "{goal}": {did_you_mean(goal, known)}',
            'metric.threshold = "f1", a number, or "cost" beside metric.cost',
        )


def cross_fitted(
    goal: str, scored: Scored, *, costs: Floats | None = None, clusters: np.ndarray | None = None
) -> Choice:
    """A threshold for the goal, its worth cross-fitted over the folds.

    Raises:
        ConfigError: the goal is no metric of labels.
    """
    check(goal, costs=costs)
    p, w = scored.pred[:, 1], scored.weights
    cut, by_part = np.full(len(p), 0.5), []
    for rest, own in others(parts(scored, clusters)):
        own_weights = None if w is None else w[rest]
        by_part.append(choose(goal, scored.y[rest], p[rest], costs=costs, weights=own_weights))
        cut[own] = by_part[-1]
    return Choice(
        goal=goal, value=choose(goal, scored.y, p, costs=costs, weights=w), by_part=tuple(by_part),
        scores=at(cut, goal, scored, costs=costs, clusters=clusters),
        default=at(np.full(len(p), 0.5), goal, scored, costs=costs, clusters=clusters),
    )  # fmt: skip


def given(
    value: float, scored: Scored, *, costs: Floats | None = None, clusters: np.ndarray | None = None
) -> Choice:
    """A threshold that was not chosen here, and what it is worth."""

    def scores(cut: float) -> tuple[Score, ...]:
        goal = COST if costs is not None else "f1"
        return at(np.full(len(scored.y), cut), goal, scored, costs=costs, clusters=clusters)

    return Choice(goal="", value=value, by_part=(), scores=scores(value), default=scores(0.5))


def at(
    cut: np.ndarray,
    goal: str,
    scored: Scored,
    *,
    costs: Floats | None = None,
    clusters: np.ndarray | None = None,
) -> tuple[Score, ...]:
    """The metrics of labels when each row is called positive from its own `cut` on, goal first."""
    called = (scored.pred[:, 1] >= cut).astype(np.intp)
    names = sorted(goals(), key=lambda name: name != goal)
    shared: dict[str, Any] = {
        "folds": scored.folds,
        "clusters": clusters,
        "weights": scored.weights,
    }
    found = list(stats.scores([metrics.find(n, "binary") for n in names], scored.y,
                              np.column_stack([1.0 - called, called]), **shared))  # fmt: skip
    if costs is not None:
        bounds = (float(costs.min()), float(costs.max()))
        money = metrics.mean_of(COST, greater_is_better=False, bounds=bounds)
        paid = stats.score(money, costs[scored.y, called], np.zeros(len(cut)), **shared)
        found.insert(0 if goal == COST else 1, paid)
    return tuple(found)
