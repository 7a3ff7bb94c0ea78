"""The promotion gate: a pure decision from predictions on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from surefit.config import GateConfig
from surefit.core import gatetest, metrics, stats
from surefit.core.evaluation import constant
from surefit.core.gatetest import GateTest
from surefit.core.metrics import Metric
from surefit.core.predictions import Scored
from surefit.results import Check, Score, Verdict

FEWEST = 10  # shared test rows below which nothing is decided


def decide(checks: Sequence[Check]) -> Verdict:
    """REJECTED if any check rejects, else INCONCLUSIVE if any is, else PROMOTED."""
    verdicts = {c.verdict for c in checks}
    if "REJECTED" in verdicts:
        return "REJECTED"
    return "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PROMOTED"


def floor_checks(floors: Mapping[str, float], rows: Scored, look: int, alpha: float) -> list[Check]:
    """Each floor against the one-sided interval at the alpha spent; for a loss it is a ceiling.

    Raises:
        ConfigError: when a floor names no metric of the task.
    """
    level = 1 - 2 * gatetest.spent(alpha, look)
    checks = []
    for name, floor in floors.items():
        metric = metrics.find(name, rows.task)
        score = stats.score(metric, rows.y, rows.pred, level=level)
        checks.append(_floor_check(score, floor))
    return checks


def _floor_check(score: Score, floor: float) -> Check:
    sign = 1 if score.greater_is_better else -1
    word = "floor" if sign > 0 else "ceiling"
    surest, kindest = sorted((sign * score.low, sign * score.high))
    verdict: Verdict = "INCONCLUSIVE"
    if surest >= sign * floor:
        verdict = "PROMOTED"
    elif not kindest >= sign * floor:
        verdict = "REJECTED"
    return Check(
        name=f"{word} {score.metric}", verdict=verdict, reason=f"{score}, {word} {floor:g}"
    )


def baseline_check(
    metric: Metric, rows: Scored, *, alpha: float, look: int, clusters: np.ndarray | None
) -> Check:
    """Whether the challenger beats one answer for all rows."""
    same_for_all = constant(rows.y, len(rows.classes))
    test = gatetest.gate(
        metric, rows.y, same_for_all, rows.pred, alpha=alpha, look=look, clusters=clusters
    )
    return Check(name="beats the baseline", verdict=test.verdict, reason=_in_words(metric, test))


def champion_check(
    metric: Metric,
    rows: Scored,
    champion: np.ndarray,
    config: GateConfig,
    *,
    look: int,
    clusters: np.ndarray | None,
) -> tuple[Check, GateTest | None]:
    """The challenger against the champion on the same rows, paired."""
    name = "better than the champion"
    if config.against == "not_worse":
        name = f"not worse than the champion by more than {config.margin:g}"
    if len(rows.y) < FEWEST:
        reason = f"only {len(rows.y)} test rows are untouched by both"
        return Check(name=name, verdict="INCONCLUSIVE", reason=reason), None
    test = gatetest.gate(
        metric, rows.y, champion, rows.pred, alpha=config.alpha, look=look, margin=config.margin,
        against=config.against, clusters=clusters,
    )  # fmt: skip
    return Check(name=name, verdict=test.verdict, reason=_in_words(metric, test)), test


def _in_words(metric: Metric, test: GateTest) -> str:
    text = (
        f"{metric.name} {test.difference:+.4g} in its favour, one-sided bounds "
        f"[{test.low:+.4g}, {test.high:+.4g}] at alpha {test.alpha_spent:.3g}"
    )
    if test.verdict == "INCONCLUSIVE" and test.rows_to_decide:
        text += f"; about {test.rows_to_decide:,} test rows would decide"
    return text
