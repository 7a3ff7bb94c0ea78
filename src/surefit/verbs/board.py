"""Which runs are on the board, with predictions on the same rows; which are not, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from surefit.comparison import LeftOut
from surefit.core import contest, filters, metrics, predictions, ranking
from surefit.core.contest import Contest
from surefit.core.predictions import Scored
from surefit.core.ranking import Ranking
from surefit.core.winner import METHOD, Corrected
from surefit.edges import candidates, runs
from surefit.edges.candidates import Question
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import DataError, InputError, SurefitError
from surefit.results import Score, Task

TRIALS = "predictions/trials.parquet"
LIMIT = 25  # runs whose predictions are read: each costs reading and 2,000 resamples
STORED = 1e-6  # trials are kept as float32
OUTSIDERS = 50  # runs of other programs that are looked into


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Runs with predictions on the same rows, and the others with their reasons."""

    metric: metrics.Metric
    first: RunRecord
    records: Mapping[str, RunRecord]  # by unique name
    scored: Mapping[str, Scored] = field(repr=False)
    left_out: tuple[LeftOut, ...]
    unranked: Mapping[str, RunRecord] = field(repr=False)  # those left out, by id
    more: bool

    @property
    def rows(self) -> Scored:
        """The rows all are compared on."""
        return next(iter(self.scored.values()))

    @property
    def preds(self) -> dict[str, np.ndarray]:
        """Predictions by name."""
        return {name: scored.pred for name, scored in self.scored.items()}


@dataclass(frozen=True, kw_only=True)
class Board:
    """Candidates with their predictions on the same rows, best first."""

    metric: str
    records: Mapping[str, RunRecord]  # by the candidate's unique name
    scored: Mapping[str, Scored] = field(repr=False)
    ranking: Ranking
    left_out: tuple[LeftOut, ...]


def find(store: Store, reference: str) -> RunRecord:
    """The run of that id, a beginning of its id, or name; "last"; or "best", the first by value.

    Raises:
        InputError: when none or several match, or nothing can be ranked.
    """
    if reference != "best":
        return runs.find(store, reference)
    board = assemble(store)
    return board.records[board.ranking.best]


def assemble(
    store: Store, candidates: Sequence[str] = (), *, where: str = "", metric: str | None = None
) -> Board:
    """Our own runs that can be ranked, ranked; and the others with the reason."""
    found = gather(store, candidates, where=where, metric=metric, outside=False)
    ranked = ranking.rank(found.metric, found.rows.y, found.preds, **found.rows.drawn)
    return Board(
        metric=found.metric.name, records={n: found.records[n] for n in ranked.values},
        scored={n: found.scored[n] for n in ranked.values}, ranking=ranked,
        left_out=found.left_out,
    )  # fmt: skip


def gather(
    store: Store, names: Sequence[str] = (), *, where: str = "", metric: str | None = None,
    limit: int = LIMIT, outside: bool = True,
) -> Entries:  # fmt: skip
    """The runs asked for, those that can be ranked with their predictions.

    Args:
        store: the store.
        names: ids or names; by default all training runs, searches and runs of other programs.
        where: `--where`.
        metric: another metric than the one that decides.
        limit: so many runs' predictions are read, the best by recorded metric.
        outside: look at runs of other programs too.

    Raises:
        InputError: when nothing can be compared.
    """
    if names:
        chosen = _named(store, names)
    else:
        chosen = _searched(store, _question(where), metric, limit, outside=outside)
    return _with_predictions(store, chosen, metric, where)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    ours: list[RunRecord]
    outside: list[RunRecord]
    unranked: list[tuple[RunRecord, str]]
    more: bool = False
    order: tuple[str, ...] = ()  # ids, as equals are to stand on the board; else as they are here


def _question(where: str) -> Question:
    """`--where`, divided into what the server decides and what is decided here."""
    server, rest = filters.server_part(filters.parse(where))
    if rest == filters.All(parts=()):
        return Question(server=server)

    def keep(record: RunRecord) -> bool:
        attributes = {
            "run_id": record.run_id,
            "run_name": record.name,
            "status": record.status,
            "start_time": record.started,
            "user_id": record.tags.get("mlflow.user"),
        }
        facts = {
            "metrics": record.metrics,
            "params": record.params,
            "tags": record.tags,
            "attributes": attributes,
        }
        return filters.matches(rest, facts)

    return Question(server=server, keep=keep)


def _named(store: Store, names: Sequence[str]) -> _Chosen:
    found = {r.run_id: r for r in (runs.find(store, name) for name in dict.fromkeys(names))}
    unranked = [(r, why) for r in found.values() if (why := candidates.unusable(r))]
    wrong = {r.run_id for r, _ in unranked}
    ours = [r for r in found.values() if r.kind and r.run_id not in wrong]
    unranked += [(r, why) for r in ours[1:] if (why := candidates.unlike(r, ours[0]))]
    wrong = {r.run_id for r, _ in unranked}
    return _Chosen(
        ours=[r for r in ours if r.run_id not in wrong],
        outside=[r for r in found.values() if not r.kind], unranked=unranked,
    )  # fmt: skip


def _searched(
    store: Store, asked: Question, metric: str | None, limit: int, *, outside: bool
) -> _Chosen:
    first = candidates.newest(store, asked)
    ours: list[RunRecord] = []
    unranked: list[tuple[RunRecord, str]] = []
    more, order = False, tuple[str, ...]()
    if first is not None:
        found = metrics.find(metric or first.tags["surefit.metric"], first.answer[0])
        ours, unranked, more = candidates.comparable(
            store, asked, first, metric=found.name, greater_is_better=found.greater_is_better,
            limit=limit,
        )  # fmt: skip
        order = tuple(r.run_id for r in ours)  # as MLflow sorts them, so that it picks the same
        ours.sort(key=lambda r: -r.started)
    known = {r.run_id for r in ours} | {r.run_id for r, _ in unranked}
    unranked += [(r, why) for r, why in candidates.others(store, asked, first)
                 if r.run_id not in known]  # fmt: skip
    strangers = candidates.outside(store, asked, limit=OUTSIDERS) if outside else []
    return _Chosen(ours=ours, outside=strangers, unranked=unranked, more=more, order=order)


def _with_predictions(store: Store, chosen: _Chosen, wanted: str | None, where: str) -> Entries:
    """Read the predictions, and set aside what is not on the rows of the first that has any."""
    everyone = [*chosen.ours, *chosen.outside]
    tables = dict(zip(
        (r.run_id for r in everyone), [
            *runs.read_first(store, chosen.ours, (predictions.VALID,)),
            *runs.read_first(store, chosen.outside, predictions.FOREIGN),
        ], strict=True,
    ))  # fmt: skip
    first = next((r for r in everyone if isinstance(tables[r.run_id], pd.DataFrame)), None)
    unranked = list(chosen.unranked)
    if first is None:
        without = [(r, _why(r, tables[r.run_id])) for r in everyone]
        raise _nothing([*unranked, *without], where)
    task, classes = _answer(first, tables[first.run_id])
    metric = metrics.find(
        wanted or first.tags.get("surefit.metric") or metrics.default(task).name, task
    )
    names = _unique_names(everyone)
    scored: dict[str, Scored] = {}
    for name, record in names.items():
        table = tables[record.run_id]
        try:
            if not isinstance(table, pd.DataFrame):
                raise DataError(_why(record, table))
            known = table if record.kind else predictions.documented(table)
            found = predictions.read(known, task, classes)
            base = next(iter(scored.values()), None)
            scored[name] = found if base is None else predictions.aligned(found, base)
        except SurefitError as error:
            unranked.append((record, error.what))
    if not scored:
        raise _nothing(unranked, where)
    groups = next((s.groups for s in scored.values() if s.groups is not None), None)
    scored = {n: replace(s, groups=groups) for n, s in scored.items()}  # all drawn alike
    place = {run_id: k for k, run_id in enumerate(chosen.order)}
    scored = {
        n: scored[n] for n in sorted(scored, key=lambda n: place.get(names[n].run_id, len(place)))
    }
    return Entries(
        metric=metric, first=first, records={n: names[n] for n in scored}, scored=scored,
        left_out=tuple(_left_out(r, why, metric.name) for r, why in unranked),
        unranked={r.run_id: r for r, _ in unranked}, more=chosen.more,
    )  # fmt: skip


def _why(record: RunRecord, table: pd.DataFrame | SurefitError | None) -> str:
    """Why a run without a readable table is not ranked."""
    if isinstance(table, SurefitError):
        return table.what
    if record.kind:
        return f"has no {predictions.VALID}"
    if record.status in ("RUNNING", "FAILED", "KILLED"):
        return f"logged by another program, {record.status}"
    return f"logged by another program, without {predictions.VALID}"


def _answer(record: RunRecord, table: object) -> tuple[Task, list[Any]]:
    if record.kind or "surefit.task" in record.tags:
        return record.answer
    assert isinstance(table, pd.DataFrame)
    return predictions.guess(table)


def _nothing(unranked: Sequence[tuple[RunRecord, str]], where: str) -> InputError:
    why = "\n".join(f"  - {r.run_id[:8]} {r.name}: {reason}" for r, reason in unranked[:40])
    said = "There is no run to compare" + (f" where {where}." if where else ".")
    return InputError(
        said + (f"\n{why}" if why else ""),
        "a wider --where, or surefit compare without it" if where else "surefit train, then again",
    )


def _left_out(record: RunRecord, reason: str, metric: str) -> LeftOut:
    value = recorded(record, metric)[0]
    return LeftOut(
        run_id=record.run_id, name=record.name, reason=reason,
        value=value if math.isfinite(value) else None,
    )  # fmt: skip


def recorded(record: RunRecord, metric: str) -> tuple[float, float, float]:
    """The metric as a run logged it, with its interval; NaN where it did not."""
    for key in (f"valid_{metric}", f"val_{metric}", f"validation_{metric}", metric):
        if key in record.metrics and not candidates.without(record, key):
            ends = (record.metrics.get(f"{key}_{end}", math.nan) for end in ("low", "high"))
            return (record.metrics[key], *ends)  # type: ignore[return-value]
    return math.nan, math.nan, math.nan


def _unique_names(records: Sequence[RunRecord]) -> dict[str, RunRecord]:
    names = [r.name for r in records]
    return {r.name if names.count(r.name) == 1 else f"{r.name} {r.run_id[:6]}": r for r in records}


# --- the statistics ---


def judge(store: Store, entries: Entries) -> tuple[Contest, Score, int]:
    """The ranking, the best's score corrected for having been picked, and from among how many.

    All complete trials of the searches on the board are candidates too.
    """
    trials: dict[str, np.ndarray] = {}
    notes = []
    for name, record in entries.records.items():
        if record.kind == "tune":
            found, note = _trials(store, record, entries.rows)
            best = f"trial_{record.tags.get('surefit.best_trial')}"
            if best in found and np.allclose(found[best], entries.preds[name], atol=STORED):
                del found[best]  # it is the search's own entry; that of a light search is not
            trials |= {f"{name}/{k}": p for k, p in found.items()}
            notes += [f"{name}: {note}"] if note else []
    rows = entries.rows
    whole = contest.judge(entries.metric, rows.y, entries.preds, trials, **rows.drawn)
    n_candidates = len(entries.scored) + len(trials)
    if whole.corrected is None:
        return whole, whole.scores[whole.ranking.best], n_candidates
    return whole, as_score(whole.corrected, notes), n_candidates


def _trials(store: Store, record: RunRecord, rows: Scored) -> tuple[dict[str, np.ndarray], str]:
    """The predictions of a search's complete trials, and what is missing of them."""
    table = runs.read_table(store, record.run_id, TRIALS)
    if table is None:
        return {}, "its trials' predictions are not there, so the correction does not know of them"
    try:
        found = predictions.read_trials(table, rows)
    except DataError as error:
        return {}, error.what
    complete = int(record.metrics.get("trials_complete", len(found)))
    lost = complete - len(found)
    return found, f"{lost} lesser trials were too many to keep" if lost > 0 else ""


def as_score(found: Corrected, notes: Sequence[str]) -> Score:
    """The corrected value as a Score, which says that its interval is wide."""
    return Score(
        metric=found.metric, value=found.value, low=found.low, high=found.high,
        n_rows=found.n_rows, greater_is_better=found.greater_is_better,
        method=METHOD, reliable=found.reliable,
        note="; ".join(["a cautious interval, wider than need be", *notes]),
    )  # fmt: skip


def repeats(store: Store, entries: Entries, values: Mapping[str, float]) -> list[list[float]]:
    """The values of runs that are equal but for `model.seed`; groups of two or more."""
    alike: dict[str, list[str]] = {}
    for name, record in entries.records.items():
        if record.kind == "train":
            known = json.dumps(sorted(record.params.items()))
            alike.setdefault(known, []).append(name)
    groups = []
    for names in alike.values():
        configs = {entries.records[n].tags.get("surefit.config") for n in names}
        if len(configs) > 1:
            groups += _by_config(store, entries, names, values)
    return groups


def _by_config(
    store: Store, entries: Entries, names: Sequence[str], values: Mapping[str, float]
) -> list[list[float]]:
    import tomllib

    found: dict[str, dict[int, float]] = {}
    for name in names:
        record = entries.records[name]
        text = runs.read_text(store, record.run_id, "config.toml")
        if text is not None:
            config = tomllib.loads(text)
            seed = config.get("model", {}).pop("seed", 0)
            about = [config, record.tags.get("mlflow.source.git.commit", "")]
            found.setdefault(json.dumps(about, sort_keys=True, default=str), {})[seed] = values[
                name
            ]
    return [list(by_seed.values()) for by_seed in found.values() if len(by_seed) > 1]
