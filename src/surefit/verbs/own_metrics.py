"""What the configuration adds to the standard metrics: the user's own, and a cost in money."""

from __future__ import annotations

import time

from surefit.config import Project
from surefit.core import cost, metrics, own
from surefit.core.metrics import Floats, Metric
from surefit.core.predictions import Scored
from surefit.edges import project as user_code
from surefit.edges import scratch
from surefit.errors import ConfigError
from surefit.sections import MetricConfig
from surefit.verbs.reporter import Reporter, duration

RESAMPLES, FEWEST = 2000, 200
PATIENCE = 30.0  # seconds that the user's own functions may take for their intervals


def names(config: MetricConfig) -> list[str]:
    """The names of the metrics that `load` adds."""
    also = [s.rpartition(":")[2] if user_code.names_function(s) else s for s in config.also]
    return [*also, *(["cost"] if config.cost else [])]


def costs(config: MetricConfig, scored: Scored) -> Floats | None:
    """The cost matrix of the configuration, None where there is none.

    Raises:
        ConfigError: the target is a number, or a class is not one of its classes.
    """
    if not config.cost:
        return None
    if scored.task == "regression":
        raise ConfigError("metric.cost is for classes, and the target is a number.")
    return cost.matrix(config.cost, scored.classes)


def load(project: Project, scored: Scored, reporter: Reporter) -> tuple[list[Metric], int]:
    """The metrics of metric.also and metric.cost, and how many resamples their speed allows.

    Raises:
        ConfigError: there is no such file, function or metric.
        UserCodeError: the user's function fails.
    """
    config, found, slowest = project.config.metric, [], 0.0
    for spec in config.also:
        if not user_code.names_function(spec):
            found.append(metrics.find(spec, scored.task))
            continue
        calls = scratch.at_import(project.root, spec, called=True)
        function = user_code.function(spec, project.root, calls)
        started = time.perf_counter()
        per_row = own.gives_rows(function, scored.y, scored.pred, scored.task, scored.classes)
        if not per_row:
            slowest += time.perf_counter() - started
        name = spec.rpartition(":")[2]
        found.append(own.metric(name, function, scored.task, scored.classes, per_row=per_row))
    matrix = costs(config, scored)
    if matrix is not None:
        found.append(cost.metric(matrix))
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
