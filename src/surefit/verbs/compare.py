"""`surefit compare`: a leaderboard on the same rows, with paired differences and ties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import metrics, predictions, ranking, stats, winner
from surefit.core.figures_search import leaderboard
from surefit.core.page import Page, Section, TableBlock, render
from surefit.core.predictions import Scored
from surefit.core.ranking import Ranking
from surefit.edges import runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError, SurefitError
from surefit.results import (
    Comparison,
    Figure,
    Item,
    LeftOut,
    Metric,
    Param,
    Score,
    Standing,
    Table,
    Tag,
    Text,
)  # fmt: skip
from surefit.verbs import workspace
from surefit.verbs.evaluate import answer_of
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Data, Overrides

TRIALS = "predictions/trials.parquet"


@dataclass(frozen=True, kw_only=True)
class Board:
    """Candidates with their predictions on the same rows, best first."""

    metric: str
    records: Mapping[str, RunRecord]  # by the candidate's unique name
    scored: Mapping[str, Scored] = field(repr=False)
    ranking: Ranking
    left_out: tuple[LeftOut, ...]


def compare(
    candidates: Iterable[str] = (),
    *,
    where: str = "",
    metric: str | None = None,
    config: str | Path | None = None,
    data: Data = None,
    target: str | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Comparison:
    """Rank runs by their saved out-of-fold predictions, and say which cannot be told apart.

    Only runs on the same rows, divided the same way, are ranked; the others are listed with the
    reason. The best's score is corrected for having been picked.

    Args:
        candidates: runs (ids or names); by default all training runs and searches.
        where: MLflow's filter, e.g. "params.`model.family` = 'lightgbm'".
        metric: another metric than the one that decides.
        config, data, target, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when nothing can be compared.
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    store = workspace.open_store(project)
    board = assemble(store, list(candidates), where=where, metric=metric)
    reporter.say(f"Plan:  compare {len(board.records)} runs by {board.metric}, 2,000 resamples")
    corrected, n_candidates = corrected_best(store, board)
    with runs.recording(store, "compare", "compare", tags=_tags(board)) as run:
        result = _result(board, run.run_id, corrected, n_candidates)
        run.log(_items(result))
    return result


def assemble(
    store: Store, candidates: Sequence[str] = (), *, where: str = "", metric: str | None = None
) -> Board:
    """The candidates that can be ranked, ranked; and the others with the reason."""
    if candidates:
        records = [runs.find(store, reference) for reference in dict.fromkeys(candidates)]
    else:
        kinds = ("train", "tune")
        records = [
            r for r in runs.search(store, where) if r.kind in kinds or (where and not r.kind)
        ]
    complete, left_out = _sorted_out(records)
    if not complete:
        why = "\n".join(f"  - {o.name}: {o.reason}" for o in left_out)
        raise InputError(
            "There is no run to compare." + (f"\n{why}" if why else ""), "surefit train, then again"
        )
    named = _unique_names(complete)
    chosen = metric or complete[0].tags["surefit.metric"]
    task, classes = answer_of(complete[0])
    found = metrics.find(chosen, task)
    scored: dict[str, Scored] = {}
    for name, record in named.items():
        try:
            frame = runs.read_table(store, record.run_id, predictions.VALID)
            if frame is None:
                raise InputError(f"has no {predictions.VALID}")
            scored[name] = predictions.read(frame, task, classes)
        except SurefitError as error:
            left_out.append(LeftOut(run_id=record.run_id, name=record.name, reason=error.what))
    if not scored:
        raise InputError(f"No run has readable predictions: {left_out[-1].reason}")
    first = next(iter(scored.values()))
    ranked = ranking.rank(found, first.y, {n: s.pred for n, s in scored.items()}, folds=first.folds)
    return Board(
        metric=chosen, records={n: named[n] for n in ranked.values},
        scored={n: scored[n] for n in ranked.values}, ranking=ranked, left_out=tuple(left_out),
    )  # fmt: skip


def _sorted_out(records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[LeftOut]]:
    """Runs on the rows of the newest complete one, and why the others are not ranked."""
    usable, left_out = [], []
    for record in records:
        reason = _unusable(record)
        if reason:
            left_out.append(LeftOut(run_id=record.run_id, name=record.name, reason=reason))
        else:
            usable.append(record)
    same = []
    for record in usable:
        differs = [
            what for what, tag in (("data", "surefit.data"), ("split", "surefit.split"),
                                   ("task", "surefit.task"))
            if record.tags.get(tag) != usable[0].tags.get(tag)
        ]  # fmt: skip
        if differs:
            reason = f"another {' and '.join(differs)} than the newest run"
            left_out.append(LeftOut(run_id=record.run_id, name=record.name, reason=reason))
        else:
            same.append(record)
    return same, left_out


def _unusable(record: RunRecord) -> str:
    if record.kind not in ("train", "tune"):
        return f"of kind {record.kind}" if record.kind else "logged by another program"
    if record.status == "RUNNING":
        return "still running"
    if not record.complete:
        return f"{record.status}: {record.tags.get('surefit.reason', 'did not complete')}"
    return ""


def _unique_names(records: Sequence[RunRecord]) -> dict[str, RunRecord]:
    names = [r.name for r in records]
    return {r.name if names.count(r.name) == 1 else f"{r.name} {r.run_id[:6]}": r for r in records}


def corrected_best(store: Store, board: Board) -> tuple[Score, int]:
    """The best's score corrected for having been picked, and from among how many.

    All complete trials of the searches on the board are candidates too.
    """
    best = board.ranking.best
    first = board.scored[best]
    pool = {name: scored.pred for name, scored in board.scored.items()}
    for name, record in board.records.items():
        if record.kind == "tune":
            table = runs.read_table(store, record.run_id, TRIALS)
            if table is not None:
                pool |= {f"{name}/{k}": p for k, p in predictions.read_trials(table, first).items()}
    metric = metrics.find(board.metric, first.task)
    return corrected(metric, first, pool), len(pool)


def corrected(metric: metrics.Metric, rows: Scored, pool: Mapping[str, np.ndarray]) -> Score:
    """Bootstrap bias correction over all candidates (`winner.corrected_best`), as a Score."""
    if len(pool) == 1:
        (pred,) = pool.values()
        return stats.score(metric, rows.y, pred, folds=rows.folds)
    found = winner.corrected_best(metric, rows.y, pool, folds=rows.folds)
    return Score(
        metric=metric.name, value=found.value, low=found.low, high=found.high, n_rows=len(rows.y),
        greater_is_better=metric.greater_is_better, method="bootstrap bias correction",
        note="the interval is wider than it need be",
    )  # fmt: skip


def _tags(board: Board) -> dict[str, str]:
    first = next(iter(board.records.values()))
    keys = ("surefit.data", "surefit.split", "surefit.task")
    return {k: first.tags[k] for k in keys} | {"surefit.metric": board.metric}


def _result(board: Board, run_id: str, corrected: Score, n_candidates: int) -> Comparison:
    standings = [
        _standing(board, place, name) for place, name in enumerate(board.ranking.values, start=1)
    ]
    best = standings[0]
    return Comparison(
        run_id=run_id, metric=board.metric, n_rows=board.ranking.n_rows,
        standings=tuple(standings), corrected=corrected, n_candidates=n_candidates,
        left_out=board.left_out, next=f"surefit promote best   (that is {best.run_id[:8]})",
    )  # fmt: skip


def _standing(board: Board, place: int, name: str) -> Standing:
    record, scored = board.records[name], board.scored[name]
    metric = metrics.find(board.metric, scored.task)
    difference = board.ranking.differences.get(name)
    return Standing(
        rank=place, run_id=record.run_id, name=name, kind=record.kind,
        family=record.params.get("model.family", ""),
        score=stats.score(metric, scored.y, scored.pred, folds=scored.folds),
        worse_by=difference.value if difference else 0.0,
        low=difference.low if difference else 0.0, high=difference.high if difference else 0.0,
        tied=name in board.ranking.tied,
        rows_to_decide=difference.rows_to_decide if difference else None,
        fit_seconds=record.metrics.get("fit_seconds"), model_bytes=_whole(record),
    )  # fmt: skip


def _whole(record: RunRecord) -> int | None:
    size = record.metrics.get("model_bytes")
    return int(size) if size is not None else None


def _items(result: Comparison) -> list[Item]:
    table = pd.DataFrame([_row(s) for s in result.standings])
    picture = leaderboard(
        pd.DataFrame({
            "name": table["name"], "value": table["value"], "low": table["low"],
            "high": table["high"], "tied": table["tied"],
        }),
        metric=result.metric, greater_is_better=result.best.score.greater_is_better,
    )  # fmt: skip
    best = result.best
    return [
        Param(key="best", value=best.run_id), Param(key="candidates", value=result.n_candidates),
        Metric(key=f"best_{result.metric}", value=best.score.value),
        Metric(key=f"corrected_{result.metric}", value=result.corrected.value),
        Metric(key="tied", value=len(result.tied)),
        Tag(key="surefit.best", value=best.run_id),
        Tag(key="mlflow.note.content", value=f"**{result.lines()[0]}**"),
        Table(path="leaderboard.csv", frame=table), picture,
        Text(path="report.html", text=render(_page(result, table, picture))),
    ]  # fmt: skip


def _row(s: Standing) -> dict[str, Any]:
    return {
        "rank": s.rank, "name": s.name, "run_id": s.run_id, "kind": s.kind, "family": s.family,
        "value": s.score.value, "low": s.score.low, "high": s.score.high, "worse_by": s.worse_by,
        "worse_low": s.low, "worse_high": s.high, "tied": s.tied,
        "rows_to_decide": s.rows_to_decide, "fit_seconds": s.fit_seconds,
        "model_bytes": s.model_bytes,
    }  # fmt: skip


def _page(result: Comparison, table: pd.DataFrame, picture: Figure) -> Page:
    left_out = [(o.name, o.run_id[:8], o.reason) for o in result.left_out]
    sections = [
        Section(
            title="Leaderboard",
            text="“worse by” is the paired difference to the best on the same rows; its interval "
            "holds for all candidates together. Tied: it cannot be told from the best.",
            figures=[picture],
            table=TableBlock(
                columns=list(table.columns), rows=table.to_numpy(dtype=object).tolist()
            ),
        )
    ]
    if left_out:
        block = TableBlock(columns=("name", "run", "reason"), rows=left_out)
        sections.append(Section(title="Not ranked", table=block))
    return Page(
        title="Comparison", verdict=result.lines()[0],
        subtitle=f"Corrected for having been picked among {result.n_candidates}: "
        f"{result.corrected}",
        facts=[("Rows", f"{result.n_rows:,}"), ("Ranked", str(len(result.standings))),
               ("Tied with the best", str(len(result.tied)))],
        sections=sections, footer="Written by surefit.",
    )  # fmt: skip
