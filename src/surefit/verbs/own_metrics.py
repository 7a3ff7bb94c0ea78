"""What the configuration adds to the standard metrics: the user's own, and a cost in money."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from surefit.config import Project
from surefit.core import cost, metrics, own
from surefit.core.metrics import Floats, Metric
from surefit.core.predictions import Scored
from surefit.edges import project as user_code
from surefit.edges import scratch
from surefit.errors import ConfigError
from surefit.results import Task
from surefit.sections import MetricConfig
from surefit.verbs.reporter import Reporter, duration

RESAMPLES, FEWEST = 2000, 200
PATIENCE = 30.0  # seconds that the user's own functions may take for their intervals


@dataclass(frozen=True, kw_only=True)
class Own:
    """What the configuration adds, found but not called: no target was needed for it.

    Attributes:
        named: by name the metrics of metric.also, of which the user's are functions still.
        costs: the cost matrix; None where there is none.
    """

    named: tuple[tuple[str, Metric | Callable[..., Any]], ...] = field(repr=False)
    costs: Floats | None = field(repr=False)


def names(config: MetricConfig) -> list[str]:
    """The names of the metrics that `load` adds."""
    also = [s.rpartition(":")[2] if user_code.names_function(s) else s for s in config.also]
    return [*also, *(["cost"] if config.cost else [])]


def find(project: Project, task: Task, classes: Sequence[Any]) -> Own:
    """The metrics of metric.also and the matrix of metric.cost.

    Raises:
        ConfigError: there is no such file, function, metric or class.
        UserCodeError: the user's file fails as it is imported.
    """
    config = project.config.metric
    return Own(
        named=tuple(_found(project, spec, task) for spec in config.also),
        costs=_costs(config, task, classes),
    )


def _found(project: Project, spec: str, task: Task) -> tuple[str, Metric | Callable[..., Any]]:
    if not user_code.names_function(spec):
        return spec, metrics.find(spec, task)
    calls = scratch.at_import(project.root, spec, called=True)
    return spec.rpartition(":")[2], user_code.function(spec, project.root, calls)


def _costs(config: MetricConfig, task: Task, classes: Sequence[Any]) -> Floats | None:
    if not config.cost:
        return None
    if task == "regression":
        raise ConfigError("metric.cost is for classes, and the target is a number.")
    return cost.matrix(config.cost, classes)


def load(asked: Own, scored: Scored, reporter: Reporter) -> tuple[list[Metric], int]:
    """The metrics that the configuration adds, and how many resamples their speed allows.

    Raises:
        UserCodeError: the user's function fails.
    """
    found: list[Metric] = []
    slowest = 0.0
    for name, given in asked.named:
        if isinstance(given, Metric):
            found.append(given)
            continue
        started = time.perf_counter()
        per_row = own.gives_rows(given, scored.y, scored.pred, scored.task, scored.classes)
        if not per_row:
            slowest += time.perf_counter() - started
        found.append(own.metric(name, given, scored.task, scored.classes, per_row=per_row))
    if asked.costs is not None:
        found.append(cost.metric(asked.costs))
    return found, _resamples(slowest, reporter)


def _resamples(seconds: float, reporter: Reporter) -> int:
    if seconds * RESAMPLES <= PATIENCE:
        return RESAMPLES
    fewer = max(FEWEST, int(PATIENCE / seconds))
    reporter.say(
        f"       your own metrics take {duration(seconds)} a call: {fewer} resamples, "
        f"not {RESAMPLES:,}"
    )
    return fewer
