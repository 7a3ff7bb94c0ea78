"""`surefit tune`: a search → a parent run with one nested run a trial; it resumes by itself."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from surefit import config as configuration
from surefit.config import Project
from surefit.edges import nursery, scratch
from surefit.edges import store as stores
from surefit.edges.runs import Run
from surefit.errors import InputError
from surefit.results import TuneResult
from surefit.verbs import candidate as candidates
from surefit.verbs import conclude, ensembles, extras, recovery, searches, workspace
from surefit.verbs.objective import Direction, Objective, Space, tune_objective
from surefit.verbs.plan import plan
from surefit.verbs.reporter import Reporter, about
from surefit.verbs.running import Running, warm
from surefit.verbs.searches import Search
from surefit.verbs.train import fold_seconds
from surefit.verbs.workspace import Data, Overrides

SLOWER = 2.0  # a point of a space beside the defaults: by the formulas 1 to 5, 1.8 on the average


def tune(
    data: Data | Objective = None,
    space: Space | str | None = None,
    *,
    target: str | None = None,
    direction: Direction | None = None,
    trials: int | None = None,
    budget: str | None = None,
    method: str | None = None,
    ensemble: bool = False,
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
        data, target, config, set: as in `train`; or `data` is the objective, for which [tune] and
            [tracking] of the file count.
        space: what is varied, e.g. {"lr": "log 1e-4..0.1", "layers": "int 1..5"}; by default
            `tune.space`, else the family's published space. Or a function of an Optuna trial, for
            data as "model.py:space".
        direction: of an objective: "maximize", as by default, or "minimize".
        trials: how many; by default `tune.trials`.
        budget: end the search after this time, e.g. "10m"; the same trials, only fewer.
        method: "tpe", "random", "grid", "qmc", "hyperopt", or "optuna:" and a sampler's name.
        ensemble: add the best trials as one model, a candidate of its own, as `tune.ensemble` does.
        name: the parent run's name.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the space or the table cannot be used, or another process runs this search.
        UserCodeError: when every trial fails.
        ServiceError: when the MLflow store or the disk fails; the same call resumes.
    """
    flags = {"tune.trials": trials, "tune.budget": budget, "tune.method": method,
             "tune.ensemble": ensemble or None}  # fmt: skip
    given = {key: value for key, value in flags.items() if value is not None}
    if callable(data):
        if isinstance(space, str):
            raise InputError(
                "The space of your own objective is a mapping or a function of a trial.",
                'surefit.tune(objective, {"lr": "log 1e-4..0.1"})',
            )
        if target is not None or ensemble:
            raise InputError(
                f"{'target' if target is not None else 'ensemble'} is of a search on data, and "
                "this one is of a function.",
                "leave it out",
            )
        return tune_objective(
            data, space or {}, direction=direction, config=Path(config) if config else None,
            name=name, overrides=configuration.override_values(set) | given, quiet=quiet,
        )  # fmt: skip
    if direction is not None:
        raise InputError(
            "direction is of an objective; the metric says which way is better.",
            'set={"metric.optimize": "rmse"}',
        )
    if callable(space):
        raise InputError(
            "A function as the space of a model's search is named by its file, so that it is part "
            "of the record.",
            'surefit.tune(data, "model.py:space")',
        )
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    if given or space is not None:
        project = configuration.amend(project, given, space=space)
    return _search(project, data, name=name, reporter=Reporter(quiet=quiet))


def _search(project: Project, data: Data, *, name: str | None, reporter: Reporter) -> TuneResult:
    """Begin or go on with the search that the configuration asks for, to its end and record."""
    warm(project.config.tune, nursery.FOLDS)
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    chosen = candidates.candidate(work, keep=False)
    found = plan(work, chosen)
    with (
        searches.open_journal(project, found) as journal,
        Running(found, journal, reporter) as running,
    ):
        finished = len(journal.trials()) - len(journal.unfinished())
        started = time.monotonic()
        goes_on = bool(journal.trials()) and chosen.code is None
        if goes_on:  # its workers need not wait until MLflow has been imported
            _announce(found, finished, reporter)
            running.meanwhile(lambda: stores.preload(project.config.tracking.uri))
        store = workspace.open_store(project)
        configuration.remember(project)
        if not goes_on:
            if recovery.rebuild(store, found.fingerprint, journal, reporter):
                reporter.say(found.lost())
                finished = len(journal.trials()) - len(journal.unfinished())
            _announce(found, finished, reporter)

        def items(run: Run) -> None:
            run.log(workspace.setup_items(work))
            run.log(candidates.code_items(chosen))
            workspace.log_dataset(run, work)

        title = name or f"tune {found.family}"
        with searches.parent_run(
            store, found, journal, name=title, tags=work.tags(), items=items
        ) as parent:
            with chosen.redirected(store, search=found.fingerprint):
                workers = running.carry_out(store, parent)
                end = conclude.ended(work, found, journal)
                result = conclude.conclude(
                    parent, end, resumed=finished, started=started, reporter=reporter
                )
            parent.log([extras.memory(workers)])
            if found.tune.log_models == "all":
                conclude.log_every_model(parent, end, reporter)
            if found.tune.ensemble:
                result = replace(result, ensemble=ensembles.add(parent, end, reporter))
        scratch.sweep(project.root, found.fingerprint, searches.needed_calls(found, journal))
    chosen.forget()
    stores.analyze(store)
    return result


def _announce(found: Search, finished: int, reporter: Reporter) -> None:
    """Say what the search is and about what it costs."""
    left = max(0, found.tune.trials - finished)
    each = [fold_seconds(replace(found.shared, family=f), found.fixed[f]) for f in found.fixed]
    per_fold = float(np.mean(each))
    cost = SLOWER * left * found.n_folds * per_fold / found.workers
    budget = f", at most {found.tune.budget}" if found.tune.budget else ""
    families = ", ".join(found.fixed)
    reporter.say(
        f"Plan:  {left} trials of {families} by {found.tune.method}, {found.n_folds} folds "
        f"each, on {found.where()}: {about(cost)}{budget}"
    )
    if crowded := found.crowded():
        reporter.say(crowded)
    if finished:
        reporter.say(f"       {finished} trials are there already")
    reporter.say("Space: " + ", ".join(f"{k} {v}" for k, v in found.described().items()))
