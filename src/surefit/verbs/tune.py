"""`surefit tune`: a search → a parent run with one nested run a trial; it resumes by itself."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from surefit import config as configuration
from surefit.core import metrics, predictions, stats
from surefit.core.fit import FoldResult
from surefit.core.predictions import Scored
from surefit.edges import runs
from surefit.edges import store as stores
from surefit.edges.journal import Journal
from surefit.edges.runs import Run
from surefit.errors import InputError
from surefit.results import Item, Metric, Score, Table, Text, TrialRow, TuneResult
from surefit.verbs import candidate as candidates
from surefit.verbs import searches, workspace
from surefit.verbs.compare import TRIALS, corrected
from surefit.verbs.families import FAMILY
from surefit.verbs.objective import Direction, Objective, Space, tune_objective
from surefit.verbs.plan import of_family, plan
from surefit.verbs.reporter import Reporter, duration
from surefit.verbs.searches import Search
from surefit.verbs.train import (
    clusters,
    final_model,
    fold_seconds,
    in_row_order,
    record_model,
    reported,
)
from surefit.verbs.workspace import Data, Overrides, Workspace

SLOWER = 3.0  # a trial's fit than the default's: slow learning rates are in every space
MOST_BYTES = 64 << 20  # of trials' predictions on the parent run; the best trials come first


def tune(
    data: Data | Objective = None,
    space: Space | str | None = None,
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
            `tune.space`, else the family's published space. Or a function of an Optuna trial, for
            data as "model.py:space".
        direction: of an objective: "maximize" or "minimize".
        trials: how many; by default `tune.trials`.
        budget: end the search after this time, e.g. "10m"; the same trials, only fewer.
        method: "tpe", "random", "grid", "qmc", "hyperopt", or "optuna:" and a sampler's name.
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
        if isinstance(space, str):
            raise InputError(
                "The space of your own objective is a mapping or a function of a trial.",
                'surefit.tune(objective, {"lr": "log 1e-4..0.1"})',
            )
        return tune_objective(
            data, space or {}, direction=direction, name=name, overrides=overrides, quiet=quiet
        )
    reporter = Reporter(quiet=quiet)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    if space is not None and callable(space):
        raise InputError(
            "A function as the space of a model's search is named by its file, so that it is part "
            "of the record.",
            'surefit.tune(data, "model.py:space")',
        )
    if given or space is not None:
        project = configuration.amend(project, given, space=space)
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    chosen = candidates.candidate(work, keep=False)
    found = plan(work, chosen)
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
            if finished < found.tune.trials:
                searches.carry_out(store, parent, found, journal, reporter)
            result = _conclude(parent, work, found, journal, finished, started)
    chosen.forget()
    stores.analyze(store)
    return result


def _announce(found: Search, finished: int) -> Iterator[str]:
    """What the search is and about what it costs."""
    left = max(0, found.tune.trials - finished)
    per_fold = float(np.mean([fold_seconds(replace(found.shared, family=f)) for f in found.fixed]))
    cost = SLOWER * left * found.n_folds * per_fold / found.workers
    budget = f", at most {found.tune.budget}" if found.tune.budget else ""
    families = ", ".join(found.fixed)
    yield (
        f"Plan:  {left} trials of {families} by {found.tune.method}, {found.n_folds} folds "
        f"each, on {found.workers} workers: about {duration(cost)}{budget}"
    )
    if finished:
        yield f"       {finished} trials are there already"
    yield "Space: " + ", ".join(f"{k} {v}" for k, v in found.described().items())


def _conclude(
    parent: Run, work: Workspace, found: Search, journal: Journal, resumed: int, started: float
) -> TuneResult:
    """Refit the best trial, record it on the parent run, and give the result."""
    rows = searches.trial_rows(found, journal)
    best = found.best(rows)
    complete = [r for r in rows if r.value is not None]
    folds = [_fold_result(journal, best, number) for number in range(found.n_folds)]
    scored = _scored(work, folds)
    model_id = _recorded(parent, best)
    if model_id is None:
        model = final_model(*of_family(found.shared, found.given(best)), folds)
        model_id = record_model(parent, work, model, folds).logged.model_id
    preds = _trial_preds(journal, work, complete, found.sign)
    metric = metrics.find(work.metric, work.data.task)
    true = corrected(metric, scored, {f"trial_{number}": pred for number, pred in preds.items()})
    weights = searches.importances(found, rows, best.family)
    parent.log(
        searches.outcome_items(found, rows, best, weights, corrected=true, name=found.family)
    )
    parent.log(_winner_items(work, found, best, true))
    parent.log([Table(path=TRIALS, frame=predictions.trials_table(scored, preds))])
    return TuneResult(
        run_id=parent.run_id, name=parent.name, family=best.family, method=found.tune.method,
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


def _winner_items(work: Workspace, found: Search, best: TrialRow, true: Score) -> Iterator[Item]:
    for suffix, value in (("", true.value), ("_low", true.low), ("_high", true.high)):
        yield Metric(key=f"corrected_{work.metric}{suffix}", value=value)
    usual = found.fixed[best.family]
    unusual = {k: v for k, v in found.given(best).items() if k != FAMILY and usual.get(k) != v}
    chosen = {"params": {**work.config.model.params, **unusual}}
    family = {"family": best.family} if work.config.model.together else {}
    model = work.config.model.model_copy(update=chosen | family)
    # The whole configuration with the winner's hyperparameters, ready for `surefit train`.
    yield Text(path="best.toml", text=work.config.model_copy(update={"model": model}).to_toml())
