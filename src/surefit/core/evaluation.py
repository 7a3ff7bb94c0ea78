"""An evaluation's baseline and its report page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from surefit.core import metrics
from surefit.core.metrics import Metric
from surefit.core.page import Page, Section, TableBlock
from surefit.core.predictions import Scored
from surefit.results import Evaluation, Figure


def constant_value(metric: Metric, scored: Scored) -> float:
    """The metric of one answer for all rows: the class shares, or the mean, of these very rows.

    A constant fitted on the rows it is scored on can only look better than an honest one, so a
    model that beats it beats the baseline. A fold at a time where there are folds.
    """
    folds = scored.folds if scored.folds is not None else np.zeros(len(scored.y), dtype="int64")
    values = []
    for fold in np.unique(folds):
        y = scored.y[folds == fold]
        values.append(metrics.value(metric, y, constant(y, len(scored.classes))))
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def constant(y: np.ndarray, n_classes: int) -> np.ndarray:
    """The class shares (n, K), or the mean (n,), as everyone's prediction."""
    if not n_classes:
        return np.full(len(y), y.mean())
    return np.tile(np.bincount(y, minlength=n_classes) / len(y), (len(y), 1))


def page(result: Evaluation, pictures: Sequence[Figure], *, facts: list[tuple[str, str]]) -> Page:
    """The report of an evaluation as a value."""
    first = result.scores[0]
    beats = (first.value > result.baseline) == first.greater_is_better
    rows = [(s.metric, s.value, s.low, s.high, s.method, s.note) for s in result.scores]
    warning = (
        ""
        if result.verified
        else ("These predictions come from outside: they may be in-sample, and promote nothing.")
    )
    return Page(
        title=f"Evaluation of {result.subject}",
        verdict=f"{first}"
        + ("" if beats else f": no better than the baseline ({result.baseline:.4g})"),
        subtitle=warning or f"The baseline, which looks at no feature, has {result.baseline:.4g}.",
        tone="good" if beats and result.verified else "bad" if not beats else "neutral",
        facts=facts,
        sections=[
            Section(
                title="How good, and how sure",
                text="Each metric with its 95 % interval: the range for new rows "
                "of the same kind, for this fitted model.",
                table=TableBlock(
                    columns=("metric", "value", "low", "high", "interval by", "mind"), rows=rows
                ),
            ),
            Section(title="Pictures", figures=pictures),
            Section(title="Again", code=f"surefit evaluate {result.subject}"),
        ],
        footer="Written by surefit. The numbers behind each picture lie beside it as CSV.",
    )
