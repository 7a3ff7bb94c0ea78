"""The promotion gate: a pure decision from predictions on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from surefit.core import gatetest, metrics, stats
from surefit.core.baseline import constant
from surefit.core.gatetest import FEWEST_FOR_A_VERDICT as FEWEST
from surefit.core.gatetest import GateTest
from surefit.core.metrics import Metric
from surefit.core.predictions import Scored
from surefit.core.ranking import enough_rows
from surefit.core.reliability import miscalibration
from surefit.core.strata import TOO_FEW, Slice
from surefit.errors import ConfigError, did_you_mean
from surefit.results import Check, Score, Task, Verdict
from surefit.sections import GateConfig
from surefit.wording import counted, signed

UNKNOWN_CHAMPION = "champion"  # the question's name where it cannot be scored at all
FEW_UNITS = "test rows"  # the same, where there are too few of them, or of their groups


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the gate's tests share.

    Attributes:
        metric: the one that decides.
        rows: the challenger's predictions with their targets.
        look: the look that the error is spent by.
        clusters: (n,) labels of rows that belong together, or None.
        constant: (n, K) or (n,) one answer for all rows, learnt from the training rows; by default
            the best that these very rows could have.
        more: metrics besides the standard ones that floors may name: the user's own, and costs.
        n_resamples: for the intervals of floors; fewer where the user's own metrics are slow.
    """

    metric: Metric
    rows: Scored = field(repr=False)
    config: GateConfig
    look: int
    clusters: np.ndarray | None = field(default=None, repr=False)
    constant: np.ndarray | None = field(default=None, repr=False)
    more: Sequence[Metric] = field(default=(), repr=False)
    n_resamples: int = 2000


def check_asked(
    config: GateConfig, task: Task, features: Sequence[str], more: Sequence[str] = ()
) -> None:
    """Refuse a gate that names what is not there, before a look is spent on it.

    Args:
        features: the columns that slices may be cut by.
        more: names of metrics besides the standard ones of the task.

    Raises:
        ConfigError: for an unknown metric or column, or calibration of numbers.
    """
    for name, limit in config.limits().items():
        if name in more:
            continue
        known = [*metrics.names(task), *more]
        if name not in known:
            raise ConfigError(
                f'gate.floors: no metric "{name}" for {task} targets; {did_you_mean(name, known)}',
                "floors = { roc_auc = 0.8 }; your own metrics are named in metric.also",
            )
        _refuse_out_of_reach(name, limit.value, metrics.find(name, task))
    for name in config.slices:
        if name not in features:
            raise ConfigError(
                f'gate.slices: "{name}" is no feature; {did_you_mean(name, features)}'
            )
    if config.calibration is not None and task == "regression":
        raise ConfigError("gate.calibration is for classes; this target is a number.")


def _refuse_out_of_reach(name: str, value: float, metric: Metric) -> None:
    least, greatest = metric.bounds
    if not least <= value <= greatest:
        share = greatest == 1 and 1 < value <= 100
        raise ConfigError(
            f"gate.floors: {name} = {value:g} lies outside what {name} can be, {least:g} to "
            f"{greatest:g}.",
            f"floors = {{ {name} = {value / 100:g} }}" if share else "",
        )


def decide(checks: Sequence[Check]) -> Verdict:
    """REJECTED if any check rejects, else INCONCLUSIVE if any is, else PROMOTED."""
    verdicts = {c.verdict for c in checks}
    if "REJECTED" in verdicts:
        return "REJECTED"
    return "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PROMOTED"


def advice(checks: Sequence[Check], config: GateConfig) -> str:
    """What to do after a verdict that is not PROMOTED."""
    verdict = decide(checks)
    if verdict == "REJECTED":
        return "surefit tune, or train another candidate"
    open_ones = {c.name for c in checks if c.verdict == verdict}
    if FEW_UNITS in open_ones:
        return "more test rows, and of more groups where there are groups: a larger split.test"
    if UNKNOWN_CHAMPION in open_ones:
        return 'fresh test rows, or --force --reason "why" if you know what you replace'
    if config.against == "not_worse":
        return "more test rows, or a wider gate.margin"
    if any("champion" in name for name in open_ones):
        return 'more test rows, or gate.against = "not_worse" with a margin'
    if any(name.startswith(("floor ", "ceiling ")) for name in open_ones):
        return 'more test rows, or judge that limit by = "point" (docs/promotion.md)'
    return "more test rows"


# --- the challenger alone ---


def floor_checks(question: Question) -> list[Check]:
    """Each floor, for a loss a ceiling, against the interval's safe end or the point itself.

    The interval is one-sided at the alpha that this look may spend. Which of the two is a choice
    of each floor.

    Raises:
        ConfigError: when a floor names no metric of the task.
    """
    config, rows = question.config, question.rows
    level = 1 - 2 * gatetest.spent(config.alpha, question.look)
    checks = []
    for name, floor in config.limits().items():
        own = [m for m in question.more if m.name == name]
        metric = own[0] if own else metrics.find(name, rows.task)
        score = stats.score(
            metric, rows.y, rows.pred, level=level, clusters=question.clusters,
            weights=rows.weights,
            n_resamples=question.n_resamples,
        )  # fmt: skip
        checks.append(_floor_check(score, floor.value, by_point=floor.by == "point"))
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
    more = None
    if verdict == "INCONCLUSIVE":
        gap = sign * score.value - sign * floor
        reach = sign * score.value - surest if gap > 0 else kindest - sign * score.value
        more = enough_rows(score.n_rows, gap, reach)
    how = " by the point" if by_point else ""
    reason = f"{score}, {word} {floor:,.10g}{how}{_would_decide(more)}"
    return Check(name=f"{word} {score.metric}", verdict=verdict, reason=reason, rows_to_decide=more)


def too_few(units: np.ndarray | None, n_rows: int, what: str) -> str:
    """Why so few rows, or groups, blocks of time or copies of them, decide nothing; "" if they may.

    It is known without the targets, so no look need be spent on them.
    """
    n = n_rows if units is None else len(np.unique(units))
    if n >= FEWEST:
        return ""
    if units is None:
        return f"only {counted(n, 'test row')}: fewer than {FEWEST} decide nothing"
    told = {"group": "group", "block": "block of time"}.get(what, "distinct row")
    return f"the {n_rows:,} test rows are of {counted(n, told)}: fewer than {FEWEST} decide nothing"


def undecidable(question: Question) -> list[Check]:
    """Why these rows decide nothing: too few, or rows on which the metric is undefined."""
    rows, metric = question.rows, question.metric
    if len(rows.y) < FEWEST:
        reason = f"only {len(rows.y)} test rows"
    elif not np.isfinite(metrics.value(metric, rows.y, rows.pred, weights=rows.weights)):
        reason = f"{metric.name} is undefined on these {len(rows.y)} test rows"
    else:
        return []
    return [Check(name=FEW_UNITS, verdict="INCONCLUSIVE", reason=reason)]


def baseline_check(question: Question) -> tuple[Check, GateTest]:
    """Whether the challenger beats one answer for all rows."""
    rows, answers = question.rows, question.constant
    if answers is None:
        answers = constant(rows.y, len(rows.classes), rows.weights)
    test = gatetest.gate(
        question.metric, rows.y, answers, rows.pred,
        alpha=question.config.alpha, look=question.look, clusters=question.clusters,
        weights=rows.weights,
    )  # fmt: skip
    return _tested("beats the baseline", test), test


def calibration_check(question: Question) -> list[Check]:
    """The mean gap between predicted and observed shares, where `gate.calibration` limits it."""
    limit, rows = question.config.calibration, question.rows
    if limit is None:
        return []
    found = miscalibration(
        rows.y, rows.pred, alpha=question.config.alpha, weights=rows.weights,
        clusters=question.clusters,
    )  # fmt: skip
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
        name = f"not worse than the champion by more than {config.margin:,.10g}"
    test = gatetest.gate(
        question.metric, rows.y, champion, rows.pred, alpha=config.alpha, look=question.look,
        margin=config.margin, against=config.against, clusters=question.clusters,
        weights=rows.weights,
    )  # fmt: skip
    return _tested(name, test), test


def slice_check(question: Question, champion: np.ndarray, slices: Sequence[Slice]) -> list[Check]:
    """Whether any slice is shown worse than under the champion by more than `slice_margin`.

    The error is divided by the number of slices tested (Bonferroni), so that the chance of
    rejecting a challenger that harms none of them is at most the alpha spent by this look.
    """
    if not slices:
        return []
    config = question.config
    large = [s for s in slices if _large(question, s)]
    small = [s.name for s in slices if s not in large]
    worse = []
    for part in large:
        test = _slice_test(question, champion, part, alpha=config.alpha / len(large))
        if test.verdict == "REJECTED":
            worse.append(f"{part.name} ({signed(test.difference)} on {part.n_rows:,} rows)")
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
        weights=rows.weights[keep] if rows.weights is not None else None,
    )  # fmt: skip


def _large(question: Question, part: Slice) -> bool:
    """Whether anything can be told of a slice: of one group, however large, nothing can."""
    rows, keep, clusters = question.rows, part.member, question.clusters
    if part.n_rows < TOO_FEW or (clusters is not None and len(np.unique(clusters[keep])) < FEWEST):
        return False
    weights = None if rows.weights is None else rows.weights[keep]
    found = metrics.value(question.metric, rows.y[keep], rows.pred[keep], weights=weights)
    return bool(np.isfinite(found))


def _tested(name: str, test: GateTest) -> Check:
    side = "in its favour" if test.difference >= 0 else "not in its favour"
    text = (
        f"{test.metric} {signed(test.difference)} {side}, one-sided bounds "
        f"[{signed(test.low)}, {signed(test.high)}] at alpha {test.alpha_spent:.3g}"
    )
    more = test.rows_to_decide if test.verdict == "INCONCLUSIVE" else None
    return Check(
        name=name, verdict=test.verdict, reason=text + _would_decide(more), rows_to_decide=more
    )


def _would_decide(rows: int | None) -> str:
    return f"; about {rows:,} test rows would decide" if rows else ""
