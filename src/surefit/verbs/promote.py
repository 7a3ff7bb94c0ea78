"""`surefit promote`: the gate decides on the sealed test rows, then one alias moves."""

from __future__ import annotations

import datetime
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import gate, metrics, predictions
from surefit.core.predictions import Scored
from surefit.edges import bundle, environment, isolated, registry, runs
from surefit.edges.registry import Version
from surefit.edges.runs import Run, RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError, IntegrityError
from surefit.results import Check, Decision, Metric, Param, Tag, Text, plain
from surefit.verbs import compare, findings, looks, workspace
from surefit.verbs.evaluate import check_same_data, inherited, rows_of
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Data, Overrides, Workspace

TRIED_ROWS = 200  # test rows on which the registered model must repeat its stored predictions
TOLERANCE = 1e-9  # largest difference of a probability, or relative difference of a value


def promote(
    run: str = "best",
    *,
    to: str = "production",
    dry_run: bool = False,
    data: Data = None,
    target: str | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Decision:
    """Register a run's model, put it through the gate, and move the alias if it passes.

    The gate looks at the sealed test rows, and the look is counted: floors, the baseline, and the
    champion (the version the alias names now) on the same rows, at the alpha spent so far. Before
    the alias moves, the registered model must repeat its stored predictions in a fresh process
    that cannot import surefit.

    Args:
        run: a run (id, start of an id, or name), or "best": the first of `compare`.
        to: the alias.
        dry_run: decide, and move nothing. It is a look all the same.
        data, target, config, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when there is no such run, or its test rows are not at hand.
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    workspace.check_alias(to)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    store = workspace.open_store(project)
    record = _chosen(store, run)
    champion = registry.by_alias(store, to)
    if champion is not None and champion.run_id == record.run_id:
        return _already(record, champion, to)
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    check_same_data(record, work)
    blind = runs.read_table(store, record.run_id, predictions.TEST)
    if blind is None:
        raise InputError("This project has no test rows to judge on.", "split.test = 0.2")
    tags = inherited(record) | {"surefit.alias": to}
    with runs.recording(store, f"promote {record.name}", "promote", tags=tags) as open_run:
        case = _open_case(store, work, record, champion, blind, to)
        reporter.say(f"Plan:  {_plan(case)}")
        looks.take(open_run, work.data.row_key[rows_of(case.blind, work)], case.look)
        checks = _checks(case)
        about_data = findings.gate_check(store, work.data.digest)
        checks += [about_data] if about_data else []
        version = registry.register(store, record)
        if gate.decide(checks) == "PROMOTED":
            checks.append(_tried(store, case, version))
        decision = _decision(case, version, checks, open_run, dry_run=dry_run)
        _carry_out(case, decision, version, open_run)
    return decision


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the gate judges: a challenger, its champion, and the rows both are judged on."""

    store: Store = field(repr=False)
    work: Workspace = field(repr=False)
    record: RunRecord
    champion: Version | None
    blind: pd.DataFrame = field(repr=False)
    champion_blind: pd.DataFrame | None = field(repr=False)
    alias: str
    look: int


def _chosen(store: Store, run: str) -> RunRecord:
    if run != "best":
        record = runs.find(store, run)
        if record.kind not in ("train", "tune") or not record.complete:
            raise InputError(
                f'Run {record.run_id[:8]} "{record.name}" is no complete training run or search.',
                "surefit compare lists those that can be promoted",
            )
        return record
    board = compare.assemble(store)
    return board.records[board.ranking.best]


def _already(record: RunRecord, champion: Version, to: str) -> Decision:
    return Decision(
        verdict="PROMOTED", run_id=record.run_id, subject=record.name, version=champion.version,
        alias=to, previous=champion.version, checks=(), look=0, n_rows=0, moved=False,
        uri=champion.uri(to), next=f"mlflow models serve -m {champion.uri(to)} --env-manager local",
    )  # fmt: skip


def _open_case(
    store: Store, work: Workspace, record: RunRecord, champion: Version | None,
    blind: pd.DataFrame, alias: str,
) -> Case:  # fmt: skip
    """Both models' test predictions, on the rows that neither was trained on."""
    theirs = None
    if champion is not None:
        theirs = runs.read_table(store, champion.run_id, predictions.TEST)
        if theirs is not None:
            blind = blind[blind["row_id"].isin(theirs["row_id"])]
            theirs = theirs.set_index("row_id").loc[blind["row_id"]].reset_index()
    look = looks.next_look(store, work.data.row_key[rows_of(blind, work)])
    return Case(
        store=store, work=work, record=record, champion=champion, blind=blind,
        champion_blind=theirs, alias=alias, look=look,
    )  # fmt: skip


def _plan(case: Case) -> str:
    against = (
        f"champion version {case.champion.version}" if case.champion else "floors and baseline"
    )
    return f"look {case.look} at {len(case.blind):,} test rows, against {against}"


def _checks(case: Case) -> list[Check]:
    work, config = case.work, case.work.config.gate
    rows = _scored(case.blind, work)
    metric = metrics.find(work.metric, work.data.task)
    groups = work.data.groups
    clusters = groups[rows_of(case.blind, work)] if groups is not None else None
    checks = gate.floor_checks(config.floors, rows, case.look, config.alpha)
    checks.append(
        gate.baseline_check(metric, rows, alpha=config.alpha, look=case.look, clusters=clusters)
    )
    if case.champion is None:
        return checks
    if case.champion_blind is None:
        reason = f"version {case.champion.version} has no predictions on these test rows"
        return [*checks, Check(name="champion", verdict="INCONCLUSIVE", reason=reason)]
    theirs = _scored(case.champion_blind, work).pred
    check, _ = gate.champion_check(metric, rows, theirs, config, look=case.look, clusters=clusters)
    return [*checks, check]


def _scored(blind: pd.DataFrame, work: Workspace) -> Scored:
    joined = predictions.join(blind, work.data)
    return predictions.read(joined, work.data.task, work.data.classes)


def _tried(store: Store, case: Case, version: Version) -> Check:
    """Load the registered version as its user will, and compare with the stored predictions."""
    name = "loads without surefit and repeats its predictions"
    stored = case.blind.head(TRIED_ROWS)
    rows = case.work.data.raw.iloc[rows_of(stored, case.work)].reset_index(drop=True)
    try:
        with tempfile.TemporaryDirectory(prefix="surefit-") as folder:
            local = registry.download(store, version, Path(folder))
            bundle.verify(local, case.record.tags.get("surefit.manifest", ""))
            answered = isolated.predict(local, rows)
    except IntegrityError as error:
        return Check(name=name, verdict="REJECTED", reason=error.what)
    largest = _largest_difference(answered, stored)
    verdict: Any = "PROMOTED" if largest <= TOLERANCE else "REJECTED"
    reason = f"{len(rows)} rows in a fresh process, largest difference {largest:.2g}"
    return Check(name=name, verdict=verdict, reason=reason)


def _largest_difference(answered: pd.DataFrame, stored: pd.DataFrame) -> float:
    columns = [c for c in stored.columns if c.startswith("probability_")] or ["prediction"]
    a, b = (f[columns].to_numpy(dtype="float64") for f in (answered, stored))
    scale = np.maximum(1.0, np.abs(b)) if columns == ["prediction"] else 1.0
    return float(np.abs((a - b) / scale).max())


def _decision(
    case: Case, version: Version, checks: list[Check], run: Run, *, dry_run: bool
) -> Decision:
    verdict = gate.decide(checks)
    nexts = {
        "PROMOTED": f"mlflow models serve -m {version.uri(case.alias)} --env-manager local",
        "REJECTED": "surefit tune, or train another candidate",
        "INCONCLUSIVE": 'more test rows, or gate.against = "not_worse" with a margin',
    }
    return Decision(
        verdict=verdict, run_id=run.run_id, subject=case.record.name, version=version.version,
        alias=case.alias, previous=case.champion.version if case.champion else None,
        checks=tuple(checks), look=case.look, n_rows=len(case.blind),
        moved=verdict == "PROMOTED" and not dry_run, uri=version.uri(case.alias),
        next=nexts[verdict],
    )  # fmt: skip


def _carry_out(case: Case, decision: Decision, version: Version, run: Run) -> None:
    """The record first, then the move: an alias that moved always has its evidence."""
    run.log([
        Text(path="decision.json", text=json.dumps(_evidence(case, decision), indent=1)),
        Param(key="version", value=decision.version), Param(key="alias", value=decision.alias),
        Metric(key="look", value=decision.look), Tag(key="surefit.verdict", value=decision.verdict),
        Tag(key="mlflow.note.content", value="\n\n".join(decision.lines()[:-2])),
    ])  # fmt: skip
    if decision.moved:
        registry.move(case.store, case.alias, version, stages=case.work.config.gate.stages)
        registry.tag(
            case.store, version, {"surefit.gate": "promoted", "surefit.decision": run.run_id}
        )


def _evidence(case: Case, decision: Decision) -> dict[str, Any]:
    """The decision with what it rests on: digests, gate, who, when."""
    config = case.work.config
    return dict(plain(decision)) | {
        "metric": case.work.metric,
        "gate": config.gate.model_dump(),
        "data": case.work.data.digest,
        "split": case.work.split.digest,
        "challenger": {"run": case.record.run_id, "model": case.record.tags.get("surefit.model"),
                       "manifest": case.record.tags.get("surefit.manifest")},
        "champion": {"run": case.champion.run_id, "version": case.champion.version}
        if case.champion else None,
        "who": environment.user(),
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
