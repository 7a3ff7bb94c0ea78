"""`surefit tune`: a search → a parent run with one nested run a trial; it resumes by itself."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from surefit import config as configuration
from surefit.config import TuneConfig
from surefit.core import fit, metrics, predictions, stats
from surefit.core import space as spaces
from surefit.core.fit import FoldResult, Problem
from surefit.core.predictions import Scored
from surefit.edges import environment, runs, scratch
from surefit.edges import store as stores
from surefit.edges.journal import Journal
from surefit.edges.runs import Run
from surefit.errors import ConfigError, InputError
from surefit.results import Item, Metric, Score, Table, Text, TrialRow, TuneResult
from surefit.verbs import candidate as candidates
from surefit.verbs import extras, searches, workspace
from surefit.verbs.candidate import Candidate
from surefit.verbs.compare import TRIALS, corrected
from surefit.verbs.engine import GivenUpError
from surefit.verbs.objective import Direction, Objective, tune_objective
from surefit.verbs.reporter import Reporter, duration
from surefit.verbs.searches import Search
from surefit.verbs.train import (
    clusters,
    final_model,
    fold_seconds,
    in_row_order,
    preload,
    record_calls,
    record_model,
    reported,
)
from surefit.verbs.workspace import Data, Overrides, Workspace

SLOWER = 3.0  # a trial's fit than the default's: slow learning rates are in every space
MOST_BYTES = 64 << 20  # of trials' predictions on the parent run; the best trials come first
DECIDES = ("lightgbm", "numpy", "optuna", "scikit-learn", "scipy", "skrub", "surefit")


def tune(
    data: Data | Objective = None,
    space: Mapping[str, Any] | None = None,
    *,
    target: str | None = None,
    direction: Direction = "maximize",
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

    Instead of data, a function `objective(params, context) -> float` of your own can be searched,
    with any library inside: each trial is a call in a worker process, and the search is journaled,
    resumed and recorded in the same way. What raises, hangs, dies or returns no finite number is a
    failed trial with its reason. `context.seed` seeds it and `context.log(loss=…, step=…)` logs.

    Args:
        data, target, config, set: as in `train`; or `data` is the objective.
        space: what is varied, e.g. {"lr": "log 1e-4..0.1", "layers": "int 1..5"}; by default
            `tune.space`, else the family's published space.
        direction: of an objective: "maximize" or "minimize".
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
    flags = {"tune.trials": trials, "tune.budget": budget, "tune.method": method}
    given = {key: value for key, value in flags.items() if value is not None}
    if callable(data):
        overrides = configuration.override_values(set) | given
        return tune_objective(
            data, space or {}, direction=direction, name=name, overrides=overrides, quiet=quiet
        )
    reporter = Reporter(quiet=quiet)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    if given or space is not None:
        project = configuration.amend(project, given, space=space)
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    chosen = candidates.candidate(work, keep=False)
    found = _search(work, chosen)
    store = workspace.open_store(project)
    configuration.remember(project)
    with searches.open_journal(project.root, found) as journal:
        finished = len(journal.trials()) - len(journal.unfinished())
        for line in _announce(found, finished):
            reporter.say(line)

        def items(run: Run) -> None:
            run.log(workspace.setup_items(work))
            run.log(candidates.code_items(chosen))
            workspace.log_dataset(run, work)

        title = name or f"tune {found.family}"
        with searches.parent_run(
            store, found, journal, name=title, tags=work.tags(), items=items
        ) as parent:
            started = time.monotonic()
            with chosen.redirected(store, search=found.fingerprint):
                if finished < found.tune.trials:
                    searches.carry_out(store, parent, found, journal, reporter)
                result = _conclude(parent, work, found, journal, finished, started)
        scratch.sweep(project.root, found.fingerprint, searches.needed_calls(found, journal))
    chosen.forget()
    stores.analyze(store)
    return result


def _announce(found: Search, finished: int) -> Iterator[str]:
    """What the search is and about what it costs."""
    left = max(0, found.tune.trials - finished)
    cost = SLOWER * left * found.n_folds * fold_seconds(found.shared) / found.workers
    budget = f", at most {found.tune.budget}" if found.tune.budget else ""
    yield (
        f"Plan:  {left} trials of {found.family} by {found.tune.method}, {found.n_folds} folds "
        f"each, on {found.workers} workers: about {duration(cost)}{budget}"
    )
    if finished:
        yield f"       {finished} trials are there already"
    yield "Space: " + ", ".join(f"{k} {v}" for k, v in spaces.describe(found.space).items())


def _search(work: Workspace, chosen: Candidate) -> Search:
    problem, tune_config, family = chosen.problem, work.config.tune, chosen.problem.model
    raw = tune_config.space or family.space(work.data.task)
    if not raw:
        raise ConfigError(
            f"{family.name} has no space to search.",
            "--set 'tune.space.learning_rate=\"log 0.001..0.1\"', or [tune.space] in surefit.toml",
        )
    family.resolve(raw, work.data.task)  # refuses unknown names
    dimensions = spaces.parse(raw)
    fixed = {k: v for k, v in chosen.params.items() if k not in dimensions}
    starts = _starts(family.starts(work.data.task), dimensions)
    if tune_config.method == "grid":
        count = len(spaces.grid(dimensions))
        tune_config = tune_config.model_copy(update={"trials": min(count, tune_config.trials)})
        starts = ()
    metric = metrics.find(work.metric, work.data.task)
    return Search(
        family=problem.family, metric=work.metric, greater_is_better=metric.greater_is_better,
        n_folds=work.split.n_folds, tune=tune_config, space=dimensions, fixed=fixed,
        starts=starts, fingerprint=_fingerprint(work, tune_config, dimensions, fixed, chosen),
        shared=problem, job=_fit_job, read=_read, preload=preload(), calls=_calls,
        losses=_losses if work.config.model.train else None,
    )  # fmt: skip


def _fit_job(
    problem: Problem, params: dict[str, Any], fold: int, limits: tuple[float, ...] = ()
) -> FoldResult:
    return fit.fit_fold(problem, params, fold, limits=limits)


def _read(result: FoldResult) -> tuple[float, bytes]:
    """The score, and the predictions and rounds as bytes; float32 is plenty for scores of rows."""
    if result.pruned:
        raise GivenUpError(result.pruned)
    buffer = io.BytesIO()
    rounds = -1 if result.rounds is None else result.rounds
    losses = np.fmin.accumulate(np.asarray([loss for _, _, loss in result.curve]))
    np.savez(
        buffer, pred=result.pred.astype("float32"), rounds=rounds, losses=losses,
        calls=np.array(result.calls),
    )  # fmt: skip
    return result.score, buffer.getvalue()


def _losses(payload: bytes) -> list[float]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as kept:
        return [float(v) for v in kept["losses"]]


def _calls(payload: bytes) -> str:
    with np.load(io.BytesIO(payload), allow_pickle=False) as kept:
        return str(kept["calls"])


def _starts(
    known: Sequence[dict[str, Any]], dimensions: spaces.Space
) -> tuple[dict[str, Any], ...]:
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
    work: Workspace,
    config: TuneConfig,
    dimensions: spaces.Space,
    fixed: Mapping[str, Any],
    chosen: Candidate,
) -> str:
    """SHA-256 of all that decides the table of trials; budgets and workers do not."""
    parts = {
        "data": work.data.digest, "split": work.split.digest, "metric": work.metric,
        "family": chosen.problem.family, "code": chosen.code_digest(),
        "seeds": [work.config.model.seed, config.seed],
        "space": spaces.digest(dimensions), "fixed": dict(fixed), "method": config.method,
        "window": config.window, "race": config.race,
        "versions": environment.versions_of((*DECIDES, *chosen.problem.model.requires)),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _conclude(
    parent: Run, work: Workspace, found: Search, journal: Journal, resumed: int, started: float
) -> TuneResult:
    """Refit the best trial, record it on the parent run, and give the result."""
    rows = searches.trial_rows(journal)
    best = found.best(rows)
    complete = [r for r in rows if r.value is not None]
    folds = [_fold_result(journal, best, number) for number in range(found.n_folds)]
    scored = _scored(work, folds)
    model_id = _recorded(parent, best)
    if model_id is None:
        model = final_model(found.shared, {**found.fixed, **best.params}, folds)
        model_id = record_model(parent, work, model, folds).logged.model_id
        parent.log(extras.latency(work, model))
        record_calls(parent, model, ())
    preds = _trial_preds(journal, work, complete, found.sign)
    metric = metrics.find(work.metric, work.data.task)
    true = corrected(metric, scored, {f"trial_{number}": pred for number, pred in preds.items()})
    weights = searches.importances(found, rows)
    parent.log(
        searches.outcome_items(found, rows, best, weights, corrected=true, name=found.family)
    )
    parent.log(_winner_items(work, best, true))
    parent.log([Table(path=TRIALS, frame=predictions.trials_table(scored, preds))])
    return TuneResult(
        run_id=parent.run_id, name=parent.name, family=found.family, method=found.tune.method,
        metric=found.metric, trials=tuple(rows), best=best, score=_score(work, scored),
        corrected=true, importances=weights, model_uri=f"models:/{model_id}",
        seconds=time.monotonic() - started, resumed=resumed, next="surefit compare",
    )  # fmt: skip


def _recorded(parent: Run, best: TrialRow) -> str | None:
    """The model that the run has of this very trial already: nothing is fitted twice."""
    tags = runs.find(parent.store, parent.run_id).tags
    return tags.get("surefit.model") if tags.get("surefit.best_trial") == str(best.number) else None


def _score(work: Workspace, scored: Scored) -> Score:
    rows = work.split.scored_rows
    return stats.scores(
        reported(work), scored.y, scored.pred, folds=scored.folds, clusters=clusters(work, rows)
    )[0]


def _fold_result(journal: Journal, trial: TrialRow, fold: int) -> FoldResult:
    payload = journal.payload(trial.number, fold)
    if payload is None:
        raise InputError(
            f"The journal has no predictions of trial {trial.number} any more.",
            "surefit tune --set tune.seed=1 starts another search",
        )
    with np.load(io.BytesIO(payload), allow_pickle=False) as kept:
        rounds = int(kept["rounds"])
        pred = kept["pred"].astype("float64")
    return FoldResult(
        fold=fold, pred=pred, score=trial.fold_scores[fold], curve=(),
        rounds=None if rounds < 0 else rounds, seconds=trial.seconds / len(trial.fold_scores),
    )  # fmt: skip


def _scored(work: Workspace, folds: Sequence[FoldResult]) -> Scored:
    rows = work.split.scored_rows
    return Scored(
        task=work.data.task, classes=work.data.classes, row_id=work.data.row_id[rows],
        y=work.data.y[rows], pred=in_row_order(work.split, folds), folds=work.split.fold_of_rows(),
        groups=clusters(work, rows),
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


def _winner_items(work: Workspace, best: TrialRow, true: Score) -> Iterator[Item]:
    for suffix, value in (("", true.value), ("_low", true.low), ("_high", true.high)):
        yield Metric(key=f"corrected_{work.metric}{suffix}", value=value)
    chosen = {**work.config.model.params, **best.params}
    model = work.config.model.model_copy(update={"params": chosen})
    # The whole configuration with the winner's hyperparameters, ready for `surefit train`.
    yield Text(path="best.toml", text=work.config.model_copy(update={"model": model}).to_toml())
