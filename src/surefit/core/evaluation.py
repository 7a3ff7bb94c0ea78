"""All that an evaluation finds out, from predictions and, where they are at hand, features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import baseline, calibration, metrics, slices, stats, threshold, worst
from surefit.core.baseline import FeatureBaseline
from surefit.core.calibration import Calibration
from surefit.core.kinds import Column
from surefit.core.metrics import Floats, Metric
from surefit.core.predictions import Scored
from surefit.core.threshold import Choice
from surefit.errors import ConfigError
from surefit.results import Score, SliceScore


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is to be found out.

    Attributes:
        first: the name of the metric that decides.
        more: metrics beyond the standard ones: the user's own, a cost.
        own_resamples: resamples for those of `more` that are slow.
        threshold: a goal to choose the threshold for, or a threshold; None: neither.
        costs: (K, K), true by predicted class.
        calibrate: "isotonic" or "platt": all metrics of probabilities so calibrated, too.
        features, columns: the scored rows as the model sees them; None: no slices.
        raw: the same as the user has them, for the worst rows.
        single: the best single feature, known beforehand.
        constant: (n, K) or (n,) one answer for all rows, learnt from rows that are not scored.
        baseline: where that is not at hand, what it was worth to the first metric.
        clusters: (n,) labels of rows that belong together.
    """

    first: str
    more: Sequence[Metric] = ()
    own_resamples: int = 2000
    threshold: str | float | None = None
    costs: Floats | None = None
    calibrate: str | None = None
    features: pd.DataFrame | None = field(default=None, repr=False)
    columns: Sequence[Column] = ()
    raw: pd.DataFrame | None = field(default=None, repr=False)
    single: FeatureBaseline | None = None
    constant: np.ndarray | None = field(default=None, repr=False)
    baseline: float | None = None
    clusters: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found out; `scores` has the deciding metric first.

    Attributes:
        left_out: what could not be computed, each with the reason.
        baseline: the deciding metric of one answer for all rows.
        worst: the rows that are most wrong.
        classes: a row a class, of three classes and more.
        calibrated: what was asked to be calibrated, cross-fitted; None: nothing was.
    """

    scores: tuple[Score, ...]
    left_out: tuple[str, ...]
    baseline: float
    single: FeatureBaseline | None
    slices: tuple[SliceScore, ...]
    worst: pd.DataFrame = field(repr=False)
    classes: pd.DataFrame | None = field(repr=False)
    threshold: Choice | None
    calibration: Calibration | None
    calibrated: Calibrated | None = None


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Cross-fitted calibrated probabilities (n, K) of the scored rows, and what they are worth."""

    method: str
    pred: np.ndarray = field(repr=False)
    scores: tuple[Score, ...] = field(repr=False)


def assess(scored: Scored, ask: Ask) -> Findings:
    """Everything asked for; no model is opened."""
    chosen = in_order(scored, ask)
    shared = _shared(scored, ask)
    scores = stats.scores(chosen, scored.y, scored.pred, **shared)
    scores += stats.scores(ask.more, scored.y, scored.pred, n_resamples=ask.own_resamples, **shared)
    one_class = scored.task != "regression" and len(np.unique(scored.y)) < 2
    rankings = {m.name for m in chosen if m.curve and one_class}
    lost = [s.metric for s in scores if not np.isfinite(s.value) or s.metric in rankings]
    kept = tuple(s for s in scores if s.metric not in lost) + quantile_scores(scored, shared)
    left_out = tuple(f"{name}: {_why(name, scored)}" for name in lost) + _undivided(scored, ask)
    first = next(m for m in (*chosen, *ask.more) if m.name == kept[0].metric)
    found: tuple[SliceScore, ...] = ()
    if ask.features is not None:
        found = slices.find(first, scored, ask.features, ask.columns, clusters=ask.clusters)
    single = ask.single if ask.single and first.name == ask.first else None
    return Findings(
        scores=kept, left_out=left_out, baseline=_baseline(first, scored, ask),
        single=single, slices=found, worst=worst.rows(scored, ask.raw),
        classes=by_class(scored, shared), threshold=_threshold(scored, ask),
        calibration=_calibration(scored, ask), calibrated=_calibrated(scored, ask, chosen),
    )  # fmt: skip


def _baseline(first: Metric, scored: Scored, ask: Ask) -> float:
    """The metric of one answer for all rows; of these very rows where no other is known."""
    if ask.constant is not None and np.isfinite(ask.constant).all():
        return stats.mean_value(
            first, scored.y, ask.constant, folds=scored.folds, weights=scored.weights
        )
    if ask.baseline is not None and first.name == ask.first:
        return ask.baseline
    return baseline.of_these_rows(first, scored)


def in_order(scored: Scored, ask: Ask) -> list[Metric]:
    """The standard metrics, the deciding one first; those of many classes only where they are."""
    first = metrics.find(ask.first, scored.task)
    found = [first, *(m for m in metrics.reported(scored.task) if m.name != first.name)]
    return [m for m in found if m.name != "top_3_accuracy" or len(scored.classes) > 3]


def _shared(scored: Scored, ask: Ask) -> dict[str, Any]:
    return {"folds": scored.folds, "clusters": ask.clusters, "weights": scored.weights}


def _why(metric: str, scored: Scored) -> str:
    if scored.task != "regression" and len(np.unique(scored.y)) < 2:
        return f"all rows are of one class ({scored.classes[scored.y[0]]}), and it needs two"
    if metric.startswith("top_") and scored.task == "multiclass":
        return f"there are only {len(scored.classes)} classes"
    known = {
        "mape": "a target is 0",
        "rmsle": "a target or a prediction is -1 or below",
        "r2": "the target is the same in all rows",
    }
    return known.get(metric, "it is undefined on these rows")


def quantile_scores(scored: Scored, shared: dict[str, Any]) -> tuple[Score, ...]:
    """Pinball loss of each predicted quantile, and the coverage of each symmetric pair."""
    if scored.quantiles is None:
        return ()
    found = []
    for level, q in zip(scored.levels, scored.quantiles.T, strict=True):
        gap = scored.y - q
        loss = np.maximum(level * gap, (level - 1) * gap)
        pinball = metrics.mean_of(
            f"pinball_{level:g}", greater_is_better=False, bounds=(0.0, np.inf)
        )
        found.append(stats.score(pinball, loss, np.zeros(len(loss)), **shared))
    for i, level in enumerate(scored.levels):
        pair = [j for j, other in enumerate(scored.levels) if abs(level + other - 1) < 1e-9]
        if level < 0.5 and pair:
            low, high = scored.quantiles[:, i], scored.quantiles[:, pair[0]]
            inside = ((low <= scored.y) & (scored.y <= high)).astype(np.float64)
            coverage = metrics.mean_of(
                f"coverage_{1 - 2 * level:g}", greater_is_better=True, bounds=(0.0, 1.0)
            )
            found.append(stats.score(coverage, inside, np.zeros(len(inside)), **shared))
    return tuple(found)


def by_class(scored: Scored, shared: dict[str, Any]) -> pd.DataFrame | None:
    """Precision and recall of each of three classes or more with intervals, F1, and area."""
    if scored.task != "multiclass":
        return None
    found = stats.scores(
        [metrics.of_class(name, k) for k in range(len(scored.classes))
         for name in ("precision", "recall", "f1")],
        scored.y, scored.pred, n_resamples=400, **shared,
    )  # fmt: skip
    area = metrics.find("roc_auc", "binary")
    own = {"folds": scored.folds, "weights": scored.weights}
    table = []
    for k, name in enumerate(scored.classes):
        y, (p, r, f) = (scored.y == k).astype(np.int64), found[3 * k : 3 * k + 3]
        soft = np.column_stack([1 - scored.pred[:, k], scored.pred[:, k]])
        table.append(
            {
                "class": str(name),
                "n_rows": int(y.sum()),
                "f1": f.value,
                "precision": p.value,
                "precision_low": p.low,
                "precision_high": p.high,
                "recall": r.value,
                "recall_low": r.low,
                "recall_high": r.high,
                "roc_auc": stats.mean_value(area, y, soft, **own),
            }
        )
    return pd.DataFrame(table).sort_values("f1", kind="stable").reset_index(drop=True)


def _undivided(scored: Scored, ask: Ask) -> tuple[str, ...]:
    """That rows of one group leave none to score what would be chosen on the others."""
    if scored.task == "regression" or threshold.divisible(scored, ask.clusters):
        return ()
    goal = isinstance(ask.threshold, str)
    what = f"calibration{' and the choice of a threshold' * goal}"
    return (f"{what}: all rows are of one group, and none are left to score it on",)


def _threshold(scored: Scored, ask: Ask) -> Choice | None:
    if ask.threshold is not None and scored.task != "binary":
        raise ConfigError(
            f"metric.threshold = {ask.threshold!r} is for two classes, and this is {scored.task}.",
            "leave it out",
        )
    if ask.threshold is None or len(np.unique(scored.y)) < 2:
        return None
    if isinstance(ask.threshold, str):
        if not threshold.divisible(scored, ask.clusters):
            return None
        return threshold.cross_fitted(ask.threshold, scored, costs=ask.costs, clusters=ask.clusters)
    return threshold.given(ask.threshold, scored, costs=ask.costs, clusters=ask.clusters)


def _calibration(scored: Scored, ask: Ask) -> Calibration | None:
    if scored.task == "regression" or len(np.unique(scored.y)) < 2:
        return None
    return calibration.measure(scored, clusters=ask.clusters)


def _calibrated(scored: Scored, ask: Ask, chosen: Sequence[Metric]) -> Calibrated | None:
    if ask.calibrate is None or scored.task == "regression" or len(np.unique(scored.y)) < 2:
        return None
    if len(scored.y) < calibration.FEW_ROWS or not threshold.divisible(scored, ask.clusters):
        return None
    method = {"platt": "Platt"}.get(ask.calibrate, ask.calibrate)
    pred = calibration.cross_fitted(scored, method, clusters=ask.clusters)
    scores = stats.scores(chosen, scored.y, pred, **_shared(scored, ask))
    return Calibrated(method=method, pred=pred, scores=scores)
