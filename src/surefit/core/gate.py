"""The promotion gate: a pure decision from predictions on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from surefit.config import GateConfig
from surefit.core import gatetest, metrics, stats
from surefit.core.evaluation import constant
from surefit.core.gatetest import GateTest
from surefit.core.metrics import Metric
from surefit.core.predictions import Scored
from surefit.core.reliability import miscalibration
from surefit.core.strata import TOO_FEW, Slice
from surefit.errors import ConfigError
from surefit.results import Check, Score, Verdict

FEWEST = 10  # shared test rows below which nothing is decided


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the gate's tests share.

    Attributes:
        metric: the one that decides.
        rows: the challenger's predictions with their targets.
        look: the look that the error is spent by.
        clusters: (n,) labels of rows that belong together, or None.
    """

    metric: Metric
    rows: Scored = field(repr=False)
    config: GateConfig
    look: int
    clusters: np.ndarray | None = field(default=None, repr=False)


def decide(checks: Sequence[Check]) -> Verdict:
    """REJECTED if any check rejects, else INCONCLUSIVE if any is, else PROMOTED."""
    verdicts = {c.verdict for c in checks}
    if "REJECTED" in verdicts:
        return "REJECTED"
    return "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PROMOTED"


# --- the challenger alone ---


def floor_checks(question: Question) -> list[Check]:
    """Each floor, for a loss a ceiling, against the interval's safe end or the point itself.

    The interval is one-sided at the alpha that this look may spend.

    Raises:
        ConfigError: when a floor names no metric of the task.
    """
    config, rows = question.config, question.rows
    level = 1 - 2 * gatetest.spent(config.alpha, question.look)
    checks = []
    for name, floor in config.floors.items():
        metric = metrics.find(name, rows.task)
        score = stats.score(metric, rows.y, rows.pred, level=level, clusters=question.clusters)
        checks.append(_floor_check(score, floor, by_point=config.floors_by == "point"))
    return checks


def _floor_check(score: Score, floor: float, *, by_point: bool) -> Check:
    sign = 1 if score.greater_is_better else -1
    word = "floor" if sign > 0 else "ceiling"
    surest, kindest = sorted((sign * score.low, sign * score.high))
    if by_point:
        surest = kindest = sign * score.value
    verdict: Verdict = "INCONCLUSIVE"
    if surest >= sign * floor:
        verdict = "PROMOTED"
    elif kindest < sign * floor:
        verdict = "REJECTED"
    how = " by the point" if by_point else ""
    return Check(
        name=f"{word} {score.metric}", verdict=verdict, reason=f"{score}, {word} {floor:g}{how}"
    )


def undecidable(question: Question) -> list[Check]:
    """Why these rows decide nothing: too few, or rows on which the metric is undefined."""
    rows, metric = question.rows, question.metric
    if len(rows.y) < FEWEST:
        reason = f"only {len(rows.y)} test rows"
    elif not np.isfinite(metrics.value(metric, rows.y, rows.pred)):
        reason = f"{metric.name} is undefined on these {len(rows.y)} test rows"
    else:
        return []
    return [Check(name="test rows", verdict="INCONCLUSIVE", reason=reason)]


def baseline_check(question: Question) -> tuple[Check, GateTest]:
    """Whether the challenger beats one answer for all rows."""
    rows = question.rows
    test = gatetest.gate(
        question.metric, rows.y, constant(rows.y, len(rows.classes)), rows.pred,
        alpha=question.config.alpha, look=question.look, clusters=question.clusters,
    )  # fmt: skip
    return Check(name="beats the baseline", verdict=test.verdict, reason=_in_words(test)), test


def calibration_check(question: Question) -> list[Check]:
    """The mean gap between predicted and observed shares, where `gate.calibration` limits it.

    Raises:
        ConfigError: in regression, which has no shares.
    """
    limit, rows = question.config.calibration, question.rows
    if limit is None:
        return []
    if rows.task == "regression":
        raise ConfigError("gate.calibration is for classes; this target is a number.")
    found = miscalibration(rows.y, rows.pred, alpha=question.config.alpha)
    verdict: Verdict = "PROMOTED" if found.gap <= limit else "INCONCLUSIVE"
    if found.gap - found.chance > limit:
        verdict = "REJECTED"
    reason = f"mean gap {found.gap:.3g}, limit {limit:g}; chance alone gives up to "
    return [Check(name="calibration", verdict=verdict, reason=f"{reason}{found.chance:.3g}")]


def limit_checks(config: GateConfig, *, p95_ms: float | None, n_bytes: float | None) -> list[Check]:
    """Latency and size of the registered model against their limits, where there are any."""
    megabytes = None if n_bytes is None else n_bytes / 1e6
    given = (
        ("latency", config.latency_ms, p95_ms, "ms a row, p95"),
        ("size", config.size_mb, megabytes, "MB"),
    )
    checks = []
    for name, limit, value, unit in given:
        if limit is None:
            continue
        verdict: Verdict = "INCONCLUSIVE"
        if value is not None:
            verdict = "PROMOTED" if value <= limit else "REJECTED"
        shown = "not measured" if value is None else f"{value:.3g} {unit}"
        checks.append(Check(name=name, verdict=verdict, reason=f"{shown}, limit {limit:g}"))
    return checks


# --- against the champion ---


def champion_check(question: Question, champion: np.ndarray) -> tuple[Check, GateTest]:
    """The challenger against the champion on the same rows, paired."""
    rows, config = question.rows, question.config
    name = "better than the champion"
    if config.against == "not_worse":
        name = f"not worse than the champion by more than {config.margin:g}"
    test = gatetest.gate(
        question.metric, rows.y, champion, rows.pred, alpha=config.alpha, look=question.look,
        margin=config.margin, against=config.against, clusters=question.clusters,
    )  # fmt: skip
    return Check(name=name, verdict=test.verdict, reason=_in_words(test)), test


def slice_check(question: Question, champion: np.ndarray, slices: Sequence[Slice]) -> list[Check]:
    """Whether any slice is shown worse than under the champion by more than `slice_margin`.

    The error is divided by the number of slices tested (Bonferroni), so that the chance of
    rejecting a challenger that harms none of them is at most the alpha spent by this look.
    """
    if not slices:
        return []
    config = question.config
    large = [s for s in slices if s.n_rows >= TOO_FEW and _defined(question, s)]
    small = [s.name for s in slices if s not in large]
    worse = []
    for part in large:
        test = _slice_test(question, champion, part, alpha=config.alpha / len(large))
        if test.high < -config.slice_margin:
            worse.append(f"{part.name} ({test.difference:+.3g} on {part.n_rows:,} rows)")
    said = f"shown worse: {', '.join(worse)}" if worse else "none is shown worse"
    reason = f"{said}, of {len(large)} tested"
    if small:
        reason += f"; too small to tell: {', '.join(small)}"
    return [Check(name="slices", verdict="REJECTED" if worse else "PROMOTED", reason=reason)]


def _slice_test(question: Question, champion: np.ndarray, part: Slice, *, alpha: float) -> GateTest:
    rows, keep = question.rows, part.member
    return gatetest.gate(
        question.metric, rows.y[keep], champion[keep], rows.pred[keep], alpha=alpha,
        look=question.look, margin=question.config.slice_margin, against="not_worse",
        clusters=question.clusters[keep] if question.clusters is not None else None,
    )  # fmt: skip


def _defined(question: Question, part: Slice) -> bool:
    rows, keep = question.rows, part.member
    return bool(np.isfinite(metrics.value(question.metric, rows.y[keep], rows.pred[keep])))


def _in_words(test: GateTest) -> str:
    text = (
        f"{test.metric} {test.difference:+.4g} in its favour, one-sided bounds "
        f"[{test.low:+.4g}, {test.high:+.4g}] at alpha {test.alpha_spent:.3g}"
    )
    if test.verdict == "INCONCLUSIVE" and test.rows_to_decide:
        text += f"; about {test.rows_to_decide:,} test rows would decide"
    return text
