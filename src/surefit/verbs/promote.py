"""`surefit promote`: the gate decides on the sealed test rows, then one alias moves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import baseline, dependence, gate, metrics, power, predictions, strata
from surefit.core.gate import Question
from surefit.core.gatetest import GateTest
from surefit.edges import lock, registry, runs
from surefit.edges.registry import Version
from surefit.edges.runs import Run, RunRecord
from surefit.edges.store import Store
from surefit.errors import ConfigError, InputError, SurefitError
from surefit.items import Metric, Param, Tag
from surefit.results import Check, Decision, plain
from surefit.verbs import (
    board,
    findings,
    looks,
    moves,
    own_metrics,
    rivals,
    trial,
    workspace,
)
from surefit.verbs import check as data_check
from surefit.verbs.evaluate import check_same_data, inherited, joined, rows_of
from surefit.verbs.findings import Found
from surefit.verbs.own_metrics import Own
from surefit.verbs.reporter import Reporter
from surefit.verbs.rivals import Rivals
from surefit.verbs.workspace import Data, Overrides, Workspace


def promote(
    run: str = "best",
    *,
    to: str = "production",
    dry_run: bool = False,
    force: bool = False,
    reason: str = "",
    data: Data = None,
    target: str | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Decision:
    """Register a run's model, put it through the gate, and move the alias if it passes.

    The gate looks at the sealed test rows, and the look is counted: floors, the baseline, and the
    champion (the version the alias names now) on the rows that neither was trained on, at the
    alpha spent so far. Before the alias moves, the registered model must repeat its stored
    predictions in a fresh process that cannot import surefit.

    Args:
        run: a run (id, start of an id, or name), or "best": the first of `compare`.
        to: the alias.
        dry_run: decide, and move nothing. It is a look all the same.
        force: move the alias whatever the gate says; `reason` is then required, and recorded. A
            model whose files were changed, or that does not repeat its predictions, stays out.
        reason: why, for the record.
        data, target, config, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when there is no such run, or its test rows are not at hand.
        ServiceError: when the MLflow store fails.
    """
    if force and not reason.strip():
        raise ConfigError("--force is written into the record with a reason.", '--reason "why"')
    reporter = Reporter(quiet=quiet)
    workspace.check_alias(to)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    store = workspace.open_store(project)
    record = _chosen(store, run)
    stages = project.config.gate.stages
    with moves.opened(store, to, stages=stages, reporter=reporter) as log:
        champion = log.named
        if champion is not None and champion.holds(record):
            if stages and not dry_run:  # asked for since, or moved away in MLflow's UI
                log.still_locked()
                registry.move(store, to, champion, stages=True)
            return _already(record, champion, to)
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    check_same_data(record, work)
    gate.check_asked(work.config.gate, work.data.task, [c.name for c in work.data.columns],
                     own_metrics.names(work.config.metric))  # fmt: skip
    case = Case(
        store=store, work=work, record=record, champion=champion, alias=to,
        own=own_metrics.find(work.project, work.data.task, work.data.classes),
        rivals=rivals.between(store, work, record, champion),
        findings=findings.for_gate(store, work, lambda: _check(store, work, reporter)),
    )  # fmt: skip
    tags = inherited(record) | {"surefit.alias": to}
    with runs.recording(store, f"promote {record.name}", "promote", tags=tags) as open_run:
        case = _looked_at(case, open_run, reporter, force=force)
        judged = _judge(case, reporter, force=force)
        with moves.opened(store, to, stages=stages, reporter=reporter) as log:
            return _conclude(case, judged, log, open_run, dry_run=dry_run, force=force, why=reason)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the gate judges: a challenger, its champion, and the rows both are judged on.

    Attributes:
        look: which look at these rows it is; 0 while none was taken.
        too_few: why the test rows cannot decide, where that is known without a look.
    """

    store: Store = field(repr=False)
    work: Workspace = field(repr=False)
    record: RunRecord
    champion: Version | None
    rivals: Rivals = field(repr=False)
    findings: Found = field(repr=False)
    own: Own = field(repr=False)
    alias: str
    look: int = 0
    too_few: str = ""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The gate's answers, the tests behind them, and the registered version."""

    checks: tuple[Check, ...]
    tests: tuple[GateTest, ...]
    version: Version
    sound: bool  # the registered version repeats its predictions; nothing overrules that
    p95_ms: float | None


def _chosen(store: Store, run: str) -> RunRecord:
    record = board.find(store, run)
    if record.kind not in ("train", "tune") or not record.complete:
        raise InputError(
            f'Run {record.run_id[:8]} "{record.name}" is no complete training run or search.',
            "surefit compare lists those that can be promoted",
        )
    return record


def _check(store: Store, work: Workspace, reporter: Reporter) -> None:
    """Look for leaks where nobody has: a model that was told the answer passes every other test."""
    reporter.say("Check: no check of these data is on record; they are checked now")
    data_check.of(store, work)


def _already(record: RunRecord, champion: Version, to: str) -> Decision:
    return Decision(
        verdict="PROMOTED", run_id=record.run_id, subject=record.name, version=champion.version,
        alias=to, previous=champion.version, checks=(), look=0, n_rows=0, moved=False,
        uri=champion.uri(to), next=f"mlflow models serve -m {champion.uri(to)} --env-manager local",
    )  # fmt: skip


# --- the look ---


def _looked_at(case: Case, run: Run, reporter: Reporter, *, force: bool) -> Case:
    """Count the look and write it down, saying first what it costs; two at once are two looks.

    Where findings in the data are in the way already, or the rows are too few, they stay unseen.
    """
    store, work, found, config = case.store, case.work, case.rivals, case.work.config.gate
    blocked = not force and findings.check(case.findings, config).verdict != "PROMOTED"
    too_few = "" if force or blocked else _too_few(work, found.blind)
    if why := "what was found in the data comes first" if blocked else too_few:
        reporter.say(f"Plan:  no look at the test rows: {why}")
        unseen = Rivals(blind=found.blind.iloc[:0], how=f"none: {why}")
        return replace(case, rivals=unseen, too_few=too_few)
    keys = looks.keys(work, rows_of(found.blind, work))
    against = (
        f"champion version {case.champion.version}" if case.champion else "floors and baseline"
    )
    with lock.held(store, "looks") as still_locked:
        question = _question(work, found)
        before = looks.asked_before(store, question)
        look = before or looks.next_look(store, keys)
        again = " (the same was asked before: nothing more is spent)" if before else ""
        reporter.say(f"Plan:  look {look}, against {against}, at {found.how}{again}")
        reporter.say(f"       {_cost(case, look)}")
        still_locked()
        if before:
            looks.repeat(run, look)
        else:
            looks.take(run, keys, look, question=question)
    spends = 1 if config.reuse == "ignore" else look
    run.log([Metric(key="look", value=look), Metric(key="look_spent", value=spends)])
    return replace(case, look=look)


def _too_few(work: Workspace, blind: pd.DataFrame) -> str:
    """Why there are too few groups, blocks of time or distinct rows among the test rows, or ""."""
    units = dependence.units(work.data, work.split, rows_of(blind, work))
    return gate.too_few(units, len(blind), dependence.named(work.data)) if len(blind) else ""


def _question(work: Workspace, found: Rivals) -> str:
    """The digest of all that the gate's answer on the test rows depends on."""
    config = work.config
    asked = [
        work.data.digest, work.metric, config.metric.model_dump(mode="json"),
        config.gate.model_dump(mode="json", exclude={"stages", "latency_ms", "size_mb", "check"}),
        _digest(found.blind), _digest(found.theirs),
    ]  # fmt: skip
    units = dependence.units(work.data, work.split, rows_of(found.blind, work))
    if dependence.named(work.data) == "copies_of" and units is not None:
        asked.append(hashlib.sha256(units.tobytes()).hexdigest())
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _cost(case: Case, look: int) -> str:
    config, n_rows = case.work.config.gate, len(case.rivals.blind)
    if config.reuse == "ignore":
        return f"gate.reuse = ignore: alpha {config.alpha:g} whole, as if these rows were fresh"
    error = None
    if case.champion is not None and case.rivals.theirs is not None and n_rows:
        error = _standard_error(case.store, case.work, case.record, case.champion, n_rows)
    return power.cost_in_words(alpha=config.alpha, look=look, error=error, metric=case.work.metric)


def _standard_error(
    store: Store, work: Workspace, record: RunRecord, champion: Version, n_rows: int
) -> float | None:
    """Of the difference on so many test rows, told from both models' validation rows."""
    try:
        if not champion.holds(runs.find(store, champion.run_id)):
            return None  # a search that went on: its rows there are another model's
    except InputError:
        return None
    tables = [
        runs.read_table(store, i, predictions.VALID) for i in (record.run_id, champion.run_id)
    ]
    if any(t is None for t in tables):
        return None
    try:
        ours, theirs = (predictions.read(t, *record.answer) for t in tables if t is not None)
    except SurefitError:
        return None
    if not np.array_equal(ours.row_id, theirs.row_id):
        return None
    metric = metrics.find(work.metric, work.data.task)
    return power.standard_error(
        metric, ours.y, theirs.pred, ours.pred, n_rows, clusters=ours.groups, weights=ours.weights
    )


# --- the judgement ---


def _judge(case: Case, reporter: Reporter, *, force: bool) -> Judged:
    config = case.work.config.gate
    checks, tests = _on_test_rows(case, reporter) if len(case.rivals.blind) else ([], [])
    if case.too_few:
        checks.append(Check(name=gate.FEW_UNITS, verdict="INCONCLUSIVE", reason=case.too_few))
    if case.rivals.trouble:
        checks.append(
            Check(name=gate.UNKNOWN_CHAMPION, verdict="INCONCLUSIVE", reason=case.rivals.trouble)
        )
    checks.append(findings.check(case.findings, config))
    version = registry.register(case.store, case.record)
    found = trial.Trial(checks=())
    if force or gate.decide(checks) == "PROMOTED":
        found = _tried(case, version)
    checks += found.checks
    checks += gate.limit_checks(
        config, p95_ms=found.p95_ms, n_bytes=case.record.metrics.get("model_bytes")
    )
    return Judged(
        checks=tuple(checks), tests=tuple(tests), version=version, p95_ms=found.p95_ms,
        sound=bool(found.checks) and gate.decide(found.checks) == "PROMOTED",
    )  # fmt: skip


def _on_test_rows(case: Case, reporter: Reporter) -> tuple[list[Check], list[GateTest]]:
    work, blind = case.work, case.rivals.blind
    rows = joined(blind, work)
    at = rows_of(blind, work)
    more, n_resamples = own_metrics.load(case.own, rows, reporter)
    question = Question(
        metric=metrics.find(work.metric, work.data.task), rows=rows, config=work.config.gate,
        look=1 if work.config.gate.reuse == "ignore" else case.look,
        clusters=dependence.units(work.data, work.split, at), more=more, n_resamples=n_resamples,
        constant=baseline.constant_answers(work.data, work.split, at, test=True),
    )  # fmt: skip
    undecidable = gate.undecidable(question)
    if undecidable:
        return undecidable, []
    checks = gate.floor_checks(question) + gate.calibration_check(question)
    check, test = gate.baseline_check(question)
    checks, tests = [*checks, check], [test]
    if case.rivals.theirs is not None:
        theirs = joined(case.rivals.theirs, work).pred
        check, against = gate.champion_check(question, theirs)
        parts = strata.slices(work.data.frame.iloc[at], work.data.columns, work.config.gate.slices)
        checks += [check, *gate.slice_check(question, theirs, parts)]
        tests.append(against)
    return checks, tests


def _tried(case: Case, version: Version) -> trial.Trial:
    stored = runs.read_table(case.store, case.record.run_id, predictions.TEST)
    assert stored is not None
    stored = stored.head(trial.TRIED_ROWS)
    rows = case.work.data.raw.iloc[rows_of(stored, case.work)].reset_index(drop=True)
    manifest = case.record.tags.get("surefit.manifest", "")
    return trial.repeats(case.store, version, manifest=manifest, rows=rows, stored=stored)


# --- the decision and its effect ---


def _conclude(
    case: Case, judged: Judged, log: moves.Log, run: Run, *, dry_run: bool, force: bool, why: str
) -> Decision:
    """The record first, then the move: an alias that moved always has its evidence."""
    lost = moves.overtaken(log, case.champion.version if case.champion else None)
    checks = (*judged.checks, *lost)
    verdict = gate.decide(checks)
    forced = force and verdict != "PROMOTED" and judged.sound and not lost
    moved = (verdict == "PROMOTED" or forced) and not dry_run
    facts = moves.facts(case.work.project.root, verdict=verdict, why=why, forced=forced)
    evidence = _evidence(case, judged, checks)
    entry = moves.write(
        log, run, action="promote", version=judged.version.version, moves=moved, facts=facts,
        evidence=evidence,
    )  # fmt: skip
    decision = Decision(
        verdict=verdict, run_id=run.run_id, subject=case.record.name,
        version=judged.version.version, alias=case.alias, checks=checks, look=case.look,
        previous=case.champion.version if case.champion else None,
        n_rows=len(case.rivals.blind), moved=moved, uri=judged.version.uri(case.alias),
        next=_next(case, checks, lost=bool(lost), moved=moved),
        forced=forced and moved, why=why, record=entry.sequence, evidence=evidence,
    )  # fmt: skip
    run.log([
        Param(key="version", value=decision.version), Param(key="alias", value=decision.alias),
        *([Metric(key="latency_p95_ms", value=judged.p95_ms)] if judged.p95_ms else []),
        Tag(key="mlflow.note.content", value="\n\n".join(decision.lines()[:-2])),
    ])  # fmt: skip
    if moved:
        moves.carry_out(log, entry, judged.version)
    return decision


def _next(case: Case, checks: Sequence[Check], *, lost: bool, moved: bool) -> str:
    if lost:
        return "the same command again: it is judged against the new champion"
    if moved:
        uri = f"models:/{case.store.experiment}@{case.alias}"
        back = f"   (back: surefit rollback{_to(case)})" if case.champion is not None else ""
        return f"mlflow models serve -m {uri} --env-manager local{back}"
    if gate.decide(checks) == "PROMOTED":
        return f"surefit promote {case.record.run_id[:8]}{_to(case)}"
    unsettled = findings.advice(case.findings, case.work.config.gate)
    return unsettled or gate.advice(checks, case.work.config.gate)


def _to(case: Case) -> str:
    """What names the alias in a command."""
    return "" if case.alias == "production" else f" --to {case.alias}"


def _evidence(case: Case, judged: Judged, checks: Sequence[Check]) -> dict[str, Any]:
    """What the decision rests on: checks, tests, digests and the gate itself."""
    work, record, champion = case.work, case.record, case.champion
    return {
        "checks": plain(checks),
        "tests": plain(judged.tests),
        "metric": work.metric,
        "gate": work.config.gate.model_dump(mode="json"),
        "checked": case.findings.run_id or None,
        "waived": case.findings.waived,
        "look": case.look,
        "n_rows": len(case.rivals.blind),
        "rows": case.rivals.how,
        "latency_p95_ms": judged.p95_ms,
        "data": work.data.digest,
        "split": work.split.digest,
        "config": work.config.digest(),
        "challenger": {
            "run": record.run_id,
            "model": record.tags.get("surefit.model"),
            "manifest": record.tags.get("surefit.manifest"),
            "predictions": _digest(case.rivals.blind),
        },
        "champion": champion and {
            "run": champion.run_id,
            "version": champion.version,
            "predictions": _digest(case.rivals.theirs),
        },
    }  # fmt: skip


def _digest(table: pd.DataFrame | None) -> str | None:
    """SHA-256 of the predictions that were judged: row ids and numbers, as they stand."""
    if table is None or table.empty:
        return None
    numbers = table.select_dtypes("number").drop(columns="row_id", errors="ignore")
    digest = hashlib.sha256("\0".join(table["row_id"].astype(str)).encode())
    digest.update(np.ascontiguousarray(numbers.to_numpy(dtype="float64")).tobytes())
    return digest.hexdigest()
