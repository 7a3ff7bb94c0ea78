"""`surefit tune`: a search → a parent run with one nested run a trial; the same command resumes."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit import config as configuration
from surefit.config import TuneConfig
from surefit.core import fit, metrics, predictions, space
from surefit.core.figures_search import search_history, search_slices
from surefit.core.fit import FoldResult, Problem
from surefit.core.predictions import Scored
from surefit.edges import environment, pool, runs, search
from surefit.edges import journal as journals
from surefit.edges import store as stores
from surefit.edges.journal import Fold, Journal, Message, Trial
from surefit.edges.mirror import mirroring
from surefit.edges.runs import Run
from surefit.edges.store import Store
from surefit.errors import ConfigError, InputError, UserCodeError
from surefit.results import Item, Metric, Param, Score, Table, Tag, Text, TrialRow, TuneResult
from surefit.verbs import candidate as candidates
from surefit.verbs import workspace
from surefit.verbs.candidate import Candidate
from surefit.verbs.compare import TRIALS, corrected
from surefit.verbs.engine import Engine, Rules, unpack
from surefit.verbs.reporter import Reporter, duration
from surefit.verbs.train import (
    Outcome,
    final_model,
    fold_seconds,
    in_row_order,
    preload,
    record_model,
)  # fmt: skip
from surefit.verbs.workspace import Data, Overrides, Workspace

SEARCHES = Path(".surefit") / "searches"
SLOWER = 3.0  # a trial's fit than the default's: slow learning rates are in every space
MOST_BYTES = 64 << 20  # of trials' predictions on the parent run; the best trials come first
DECIDES = ("lightgbm", "numpy", "optuna", "scikit-learn", "scipy", "skrub", "surefit")


def tune(
    data: Data = None,
    *,
    target: str | None = None,
    trials: int | None = None,
    budget: str | None = None,
    method: str | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    name: str | None = None,
    quiet: bool = False,
) -> TuneResult:
    """Search hyperparameters on validation rows, and refit and record the winner.

    Each trial is scored fold by fold in worker processes and becomes a nested run. The search is
    kept in a journal under `.surefit`: the same call again goes on where it stopped, and more
    `trials` extend it. The same search gives the same trials, whatever the workers and restarts.

    Args:
        data, target, config, set: as in `train`.
        trials: how many; by default `tune.trials`.
        budget: end the search after this time, e.g. "10m"; the same trials, only fewer.
        method: "tpe", "random", "grid" or "qmc".
        name: the parent run's name.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the space or the table cannot be used, or another process runs this search.
        UserCodeError: when every trial fails.
        ServiceError: when the MLflow store or the disk fails; the same call resumes.
    """
    reporter = Reporter(quiet=quiet)
    flags = {"tune.trials": trials, "tune.budget": budget, "tune.method": method}
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    given = [f"{k}={json.dumps(v)}" for k, v in flags.items() if v is not None]
    if given:
        project = configuration.amend(project, given)
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    chosen = candidates.candidate(work, keep=False)
    plan = _plan(work, chosen)
    store = workspace.open_store(project)
    configuration.remember(project)
    path = project.root / SEARCHES / f"{plan.fingerprint[:16]}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with journals.open(path, plan.fingerprint, {"space": space.describe(plan.space)}) as journal:
        finished = len(journal.trials()) - len(journal.unfinished())
        for line in plan.announce(finished):
            reporter.say(line)
        with _parent(store, work, plan, journal, name) as parent:
            parent.log(candidates.code_items(chosen))
            started = time.monotonic()
            if finished < plan.tune.trials:
                _search(store, parent, plan, journal, reporter)
            result = _conclude(parent, work, plan, journal, finished, started)
    chosen.forget()
    stores.analyze(store)
    return result


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A search, resolved: what is varied, what is fixed, and what identifies it."""

    problem: Problem = field(repr=False)
    tune: TuneConfig
    space: space.Space
    fixed: dict[str, Any]
    starts: tuple[dict[str, Any], ...]
    fingerprint: str
    greater_is_better: bool

    @property
    def workers(self) -> int:
        """Processes that fit, one thread each."""
        cores = pool.usable_cores()
        wanted = cores if self.tune.workers == "auto" else int(self.tune.workers)
        return max(1, min(wanted, self.tune.trials * self.problem.split.n_folds))

    def announce(self, finished: int) -> Iterator[str]:
        """What the search is and about what it costs."""
        left = max(0, self.tune.trials - finished)
        n = self.problem.split.n_folds
        cost = SLOWER * left * n * fold_seconds(self.problem) / self.workers
        budget = f", at most {self.tune.budget}" if self.tune.budget else ""
        yield (
            f"Plan:  {left} trials of {self.problem.family} by {self.tune.method}, {n} folds each, "
            f"on {self.workers} workers: about {duration(cost)}{budget}"
        )
        if finished:
            yield f"       {finished} trials are there already"
        yield "Space: " + ", ".join(f"{k} {v}" for k, v in space.describe(self.space).items())


def _plan(work: Workspace, chosen: Candidate) -> Plan:
    problem, tune_config, family = chosen.problem, work.config.tune, chosen.problem.model
    raw = tune_config.space or family.space(work.data.task)
    if not raw:
        raise ConfigError(
            f"{family.name} has no space to search.",
            "--set 'tune.space.learning_rate=\"log 0.001..0.1\"', or [tune.space] in surefit.toml",
        )
    family.resolve(raw, work.data.task)  # refuses unknown names
    dimensions = space.parse(raw)
    fixed = {
        k: v
        for k, v in chosen.params.items()
        if k not in dimensions
    }
    if tune_config.method == "grid":
        count = len(space.grid(dimensions))
        tune_config = tune_config.model_copy(update={"trials": min(count, tune_config.trials)})
    starts = (
        () if tune_config.method == "grid" else _starts(family.starts(work.data.task), dimensions)
    )
    metric = metrics.find(work.metric, work.data.task)
    return Plan(
        problem=problem, tune=tune_config, space=dimensions, fixed=fixed, starts=starts,
        fingerprint=_fingerprint(work, tune_config, dimensions, fixed, chosen),
        greater_is_better=metric.greater_is_better,
    )  # fmt: skip


def _starts(known: Sequence[dict[str, Any]], dimensions: space.Space) -> tuple[dict[str, Any], ...]:
    """The family's starting points, as far as they lie inside the space."""
    usable = []
    for start in known:
        inside = {k: v for k, v in start.items() if k in dimensions}
        try:
            for key, value in inside.items():
                dimensions[key].encode(value)
        except ValueError:
            continue
        if inside and inside not in usable:
            usable.append(inside)
    return tuple(usable)


def _fingerprint(
    work: Workspace, config: TuneConfig, dimensions: space.Space, fixed: Mapping[str, Any],
    chosen: Candidate,
) -> str:  # fmt: skip
    """SHA-256 of all that decides the table of trials; budgets and workers do not."""
    parts = {
        "data": work.data.digest, "split": work.split.digest, "metric": work.metric,
        "family": chosen.problem.family, "code": chosen.code_digest(),
        "seeds": [work.config.model.seed, config.seed],
        "space": space.digest(dimensions), "fixed": dict(fixed), "method": config.method,
        "window": config.window, "race": config.race,
        "versions": environment.versions_of((*DECIDES, *chosen.problem.model.requires)),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _parent(store: Store, work: Workspace, plan: Plan, journal: Journal, name: str | None) -> Any:
    """The search's own run: the one it had, or a new one."""
    known = journal.parent_run_id
    title = name or f"tune {plan.problem.family}"
    if known and runs.reopen(store, known):
        return runs.closing(Run(store=store, run_id=known, name=title))
    tags = work.tags() | {"surefit.family": plan.problem.family, "surefit.search": plan.fingerprint}
    run_id = runs.start(store, title, "tune", tags=tags)
    journal.set_parent(run_id)
    run = Run(store=store, run_id=run_id, name=title)
    run.log(workspace.setup_items(work))
    run.log(_plan_items(plan))
    workspace.log_dataset(run, work)
    return runs.closing(run)


def _plan_items(plan: Plan) -> Iterator[Item]:
    yield Param(key="model.family", value=plan.problem.family)
    for key in ("method", "seed", "window", "race"):
        yield Param(key=f"tune.{key}", value=getattr(plan.tune, key))
    for key, text in space.describe(plan.space).items():
        yield Param(key=f"tune.space.{key}", value=text)
    for key, value in plan.fixed.items():
        yield Param(key=f"fixed.{key}", value=value)


def _search(store: Store, parent: Run, plan: Plan, journal: Journal, reporter: Reporter) -> None:
    proposer = search.proposer(
        plan.tune.method, plan.space, seed=plan.tune.seed,
        greater_is_better=plan.greater_is_better, starts=plan.starts, window=plan.tune.window,
    )  # fmt: skip
    until = math.inf
    if plan.tune.budget:
        until = time.monotonic() + configuration.seconds(plan.tune.budget)
    rules = Rules(
        n_folds=plan.problem.split.n_folds, window=plan.tune.window, race=plan.tune.race,
        greater_is_better=plan.greater_is_better, fixed=plan.fixed, trials=plan.tune.trials,
        until=until,
    )  # fmt: skip

    def message(trial: Trial, folds: list[Fold]) -> Message:
        return Message(
            key=f"{plan.fingerprint}/{trial.number}", kind="trial",
            payload=_trial_payload(plan, trial, folds),
        )  # fmt: skip

    with (
        pool.Pool(_fit_job, workers=plan.workers, deadline=plan.tune.deadline, preload=preload(),
                  shared=plan.problem) as workers,
        mirroring(store, journal, parent.run_id),
        reporter.progress("trials", plan.tune.trials) as advance,
    ):  # fmt: skip
        Engine(journal, proposer, workers, rules, message=message, advance=advance).run()


def _fit_job(problem: Problem, params: dict[str, Any], fold: int) -> FoldResult:
    return fit.fit_fold(problem, params, fold)


def _trial_payload(plan: Plan, trial: Trial, folds: list[Fold]) -> dict[str, Any]:
    """What a trial's nested run holds: the parameters it varies and its family, and its scores."""
    metric = plan.problem.metric
    scores = {f"fold_{f.fold}_{metric}": f.score for f in folds if f.score is not None}
    found = {**scores, "fit_seconds": sum(f.seconds for f in folds)}
    if trial.value is not None:
        found[f"valid_{metric}"] = trial.value
    return {
        "number": trial.number,
        "state": trial.state,
        "reason": trial.reason,
        "started": int(trial.started * 1000),
        "ended": int((trial.ended or trial.started) * 1000),
        "params": {"model.family": plan.problem.family}
        | {f"model.params.{k}": v for k, v in trial.params.items()},
        "metrics": found,
        "tags": {"surefit.search": plan.fingerprint, "surefit.family": plan.problem.family},
    }


def _conclude(
    parent: Run, work: Workspace, plan: Plan, journal: Journal, resumed: int, started: float
) -> TuneResult:
    """Refit the best trial, record it on the parent run, and give the result."""
    rows = _trial_rows(journal)
    complete = [r for r in rows if r.state == "COMPLETE"]
    if not complete:
        if not rows:
            raise InputError("The time was up before the first trial ended.", "a longer --budget")
        raise UserCodeError(f"None of {len(rows)} trials completed; the first: {rows[0].reason}")
    sign = 1 if plan.greater_is_better else -1
    best = max(complete, key=lambda r: (sign * float(r.value or 0), -r.number))
    folds = [_fold_result(journal, best, number) for number in range(plan.problem.split.n_folds)]
    model = final_model(plan.problem, {**plan.fixed, **best.params}, folds)
    outcome = record_model(parent, work, model, folds)
    scored = _scored(work, folds)
    preds = _trial_preds(journal, work, complete, sign)
    metric = metrics.find(work.metric, work.data.task)
    pool_of = {f"trial_{number}": pred for number, pred in preds.items()}
    true = corrected(metric, scored, pool_of)
    importances = search.importances(
        plan.space, [(dict(r.params), float(r.value)) for r in complete if r.value is not None]
    )
    parent.log(_result_items(work, plan, rows, best, true, importances))
    parent.log([Table(path=TRIALS, frame=predictions.trials_table(scored, preds))])
    return _result(parent, plan, rows, best, outcome, true, importances, resumed, started)


def _trial_rows(journal: Journal) -> list[TrialRow]:
    """The trials up to the first that has not ended: a budget ends a sequence, never thins it."""
    folds = journal.folds()
    rows = []
    for trial in journal.trials():
        if trial.state == "ASKED":
            break
        mine = [f for f in folds if f.trial == trial.number]
        row = TrialRow(
            number=trial.number, state=trial.state, value=trial.value, params=trial.params,
            fold_scores=tuple(f.score for f in mine if f.score is not None),
            seconds=sum(f.seconds for f in mine), reason=trial.reason,
        )  # fmt: skip
        rows.append(row)
    return rows


def _fold_result(journal: Journal, trial: TrialRow, fold: int) -> FoldResult:
    payload = journal.payload(trial.number, fold)
    if payload is None:
        raise InputError(
            f"The journal has no predictions of trial {trial.number} any more.",
            "surefit tune --set tune.seed=1 starts another search",
        )
    pred, rounds = unpack(payload)
    return FoldResult(
        fold=fold, pred=pred, score=trial.fold_scores[fold], curve=(), rounds=rounds,
        seconds=trial.seconds / len(trial.fold_scores),
    )  # fmt: skip


def _scored(work: Workspace, folds: Sequence[FoldResult]) -> Scored:
    rows = work.split.scored_rows
    return Scored(
        task=work.data.task, classes=work.data.classes, row_id=work.data.row_id[rows],
        y=work.data.y[rows], pred=in_row_order(work.split, folds), folds=work.split.fold_of_rows(),
    )  # fmt: skip


def _trial_preds(
    journal: Journal, work: Workspace, complete: Sequence[TrialRow], sign: int
) -> dict[int, np.ndarray]:
    """Out-of-fold predictions of the complete trials, the best first, as many as fit."""
    preds: dict[int, np.ndarray] = {}
    used = 0
    for trial in sorted(complete, key=lambda r: -sign * float(r.value or 0)):
        folds = [_fold_result(journal, trial, f) for f in range(work.split.n_folds)]
        pred = in_row_order(work.split, folds)
        used += pred.size * 4
        if used > MOST_BYTES and preds:
            break
        preds[trial.number] = pred
    return dict(sorted(preds.items()))


def _result_items(
    work: Workspace,
    plan: Plan,
    rows: Sequence[TrialRow],
    best: TrialRow,
    true: Score,
    importances: Mapping[str, float],
) -> Iterator[Item]:
    metric = work.metric
    yield Metric(key=f"corrected_{metric}", value=true.value)
    yield Metric(key=f"corrected_{metric}_low", value=true.low)
    yield Metric(key=f"corrected_{metric}_high", value=true.high)
    yield Metric(key="trials", value=len(rows))
    for state in ("COMPLETE", "PRUNED", "FAILED"):
        yield Metric(key=f"trials_{state.lower()}", value=sum(r.state == state for r in rows))
    yield Tag(key="surefit.best_trial", value=str(best.number))
    yield Text(path="best.toml", text=_best_toml(work, plan, best))
    table = _trials_table(rows)
    yield Table(path="trials.parquet", frame=table)
    values = table["value"].astype("float64")
    states = pd.DataFrame({"trial": table["number"], "value": values, "state": table["state"]})
    yield search_history(states, metric=metric, greater_is_better=plan.greater_is_better)
    complete = [r for r in rows if r.state == "COMPLETE"]
    logged = [k for k, d in plan.space.items() if d.axis.log]
    yield search_slices(
        pd.DataFrame([dict(r.params) for r in complete]), [r.value for r in complete],
        metric=metric, log=logged,
    )  # fmt: skip
    if importances:
        yield Text(path="importances.json", text=json.dumps(dict(importances), indent=1))


def _best_toml(work: Workspace, plan: Plan, best: TrialRow) -> str:
    """The whole configuration with the winner's hyperparameters, ready for `surefit train`."""
    chosen = {**work.config.model.params, **best.params}
    model = work.config.model.model_copy(update={"params": chosen})
    return work.config.model_copy(update={"model": model}).to_toml()


def _trials_table(rows: Sequence[TrialRow]) -> pd.DataFrame:
    """A row a trial; parameters and fold scores in columns of their own."""
    records = []
    for r in rows:
        record: dict[str, Any] = {
            "number": r.number, "state": r.state, "value": r.value, "seconds": r.seconds,
            "reason": r.reason,
        }  # fmt: skip
        record |= {f"fold_{i}": score for i, score in enumerate(r.fold_scores)}
        records.append(record | {f"params.{k}": v for k, v in r.params.items()})
    return pd.DataFrame(records)


def _result(
    parent: Run,
    plan: Plan,
    rows: Sequence[TrialRow],
    best: TrialRow,
    outcome: Outcome,
    true: Score,
    importances: Mapping[str, float],
    resumed: int,
    started: float,
) -> TuneResult:
    return TuneResult(
        run_id=parent.run_id, name=parent.name, family=plan.problem.family,
        method=plan.tune.method, metric=plan.problem.metric, trials=tuple(rows), best=best,
        score=outcome.score, corrected=true, importances=dict(importances),
        model_uri=f"models:/{outcome.logged.model_id}", seconds=time.monotonic() - started,
        resumed=resumed, next="surefit compare",
    )  # fmt: skip
