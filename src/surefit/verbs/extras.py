"""What a training run records beside its scores: importance, latency, memory, seeds, the diff."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from surefit.core import fit, importance, metrics
from surefit.core.fit import Model
from surefit.edges import environment
from surefit.results import Item, Metric, Tag, Text
from surefit.verbs.workspace import Workspace

LATENCY_ROWS = 1000
LATENCY_TIMES = 15


def items(work: Workspace, model: Model) -> Iterator[Item]:
    """Of the final model: how fast it answers, what it relies on; and of the process: the rest."""
    yield from latency(work, model)
    seen = fit.view(work.data, model.family)
    rows = work.split.scored_rows
    metric = metrics.find(work.metric, work.data.task)
    budget = max(model.seconds, 0.5)
    numbers = importance.permuted(
        model.predict, seen.iloc[rows], work.data.y[rows], metric, seed=work.config.model.seed,
        seconds=budget,
    )  # fmt: skip
    if numbers is None:
        skipped = f"skipped: it would cost more than the fit ({budget:.1f} s)"
        yield Tag(key="surefit.importance", value=skipped)
    else:
        yield importance.draw(numbers, metric=work.metric)
    yield Metric(key="peak_memory_bytes", value=environment.peak_memory())
    diff = environment.git_diff(work.project.root)
    if diff:
        yield Text(path="git.diff", text=diff)


def latency(work: Workspace, model: Model) -> Iterator[Item]:
    """Rows a second in one batch, and the median time of one row, preprocessing included."""
    frame = fit.view(work.data, model.family).iloc[work.split.scored_rows[:LATENCY_ROWS]]
    started = time.perf_counter()
    model.predict(frame)
    yield Metric(key="predict_rows_per_second", value=len(frame) / (time.perf_counter() - started))
    times = []
    for place in range(min(LATENCY_TIMES, len(frame))):
        started = time.perf_counter()
        model.predict(frame.iloc[[place]])
        times.append(time.perf_counter() - started)
        if sum(times) > 0.3:
            break
    yield Metric(key="predict_one_row_ms", value=1000 * float(np.median(times)))
