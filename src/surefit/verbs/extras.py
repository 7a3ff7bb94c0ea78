"""What a training run records beside its scores: importance, latency, memory, seeds, the diff."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from surefit.core import fit, importance, inside, metrics
from surefit.core.fit import Model
from surefit.edges import environment
from surefit.items import Item, Metric, Tag, Text
from surefit.verbs.reporter import duration
from surefit.verbs.workspace import Workspace

LATENCY_ROWS = 1000
LATENCY_TIMES = 15
LONGEST = 20.0  # seconds that importances may take; more only for models that answer very slowly


def items(work: Workspace, model: Model) -> Iterator[Item]:
    """Of the final model: how fast it answers, what it relies on; and what is not committed."""
    yield from of_model(work, model)
    diff = environment.git_diff(work.project.root)
    if diff:
        yield Text(path="git.diff", text=diff)


def memory(workers: int) -> Metric:
    """This process at its peak, and the bytes that its workers had at once at most."""
    return Metric(key="peak_memory_bytes", value=environment.peak_memory() + workers)


def of_model(work: Workspace, model: Model) -> Iterator[Item]:
    """How fast a model answers, and what it relies on."""
    fast = speed(work, model)
    yield from fast
    yield importances(work, model, rows_per_second=fast[0].value)
    own = inside.numbers(model, work.data.classes)
    if own is not None:
        yield inside.draw(own)


def importances(work: Workspace, model: Model, *, rows_per_second: float) -> Item:
    """The picture of permutation importance; a tag with the reason where it is left out."""
    seen = fit.view(work.data, model.family)
    rows, n_features = work.split.scored_rows, seen.shape[1]
    n_rows = min(len(rows), importance.rows_for(n_features))
    seconds = importance.REPEATS * n_rows * n_features / rows_per_second
    if seconds > LONGEST:
        reason = f"skipped: it would take about {duration(seconds)}"
        return Tag(key="surefit.importance", value=reason)
    metric = metrics.find(work.metric, work.data.task)
    numbers = importance.permuted(
        model.predict, seen.iloc[rows], work.data.y[rows], metric, seed=work.config.model.seed,
        weights=None if work.data.weight is None else work.data.weight[rows],
    )  # fmt: skip
    if numbers is None:
        reason = f"skipped: {work.metric} is not defined on its rows"
        return Tag(key="surefit.importance", value=reason)
    return importance.draw(numbers, metric=work.metric)


def speed(work: Workspace, model: Model) -> list[Metric]:
    """Rows a second in one batch, and the median time of one row, preprocessing included."""
    frame = fit.view(work.data, model.family).iloc[work.split.scored_rows[:LATENCY_ROWS]]
    started = time.perf_counter()
    model.predict(frame)
    rows_per_second = len(frame) / (time.perf_counter() - started)
    times = []
    for place in range(min(LATENCY_TIMES, len(frame))):
        started = time.perf_counter()
        model.predict(frame.iloc[[place]])
        times.append(time.perf_counter() - started)
        if sum(times) > 0.3:
            break
    return [
        Metric(key="predict_rows_per_second", value=rows_per_second),
        Metric(key="predict_one_row_ms", value=1000 * float(np.median(times))),
    ]
