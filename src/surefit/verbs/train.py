"""`surefit train`: one candidate → a run, its model, its predictions, and, asked for, a version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit import config as configuration
from surefit.core import (
    baseline,
    dependence,
    fit,
    metrics,
    portable,
    predictions,
    preprocess,
    stats,
)
from surefit.core.figures_search import loss_curves
from surefit.core.fit import FoldResult, Model, Problem
from surefit.edges import bundle, jobs, nursery, registry, runs, scratch
from surefit.edges import store as stores
from surefit.edges.cores import usable_cores
from surefit.edges.pool import Pool
from surefit.edges.registry import Version
from surefit.edges.runs import Run, RunRecord
from surefit.edges.store import Store
from surefit.errors import ConfigError, InputError, SurefitError, UserCodeError
from surefit.items import Figure, Item, Metric, Table, Tag  # fmt: skip
from surefit.models.costs import Size
from surefit.results import Score, TrainResult  # fmt: skip
from surefit.verbs import candidate as candidates
from surefit.verbs import extras, fold_job, moves, workspace
from surefit.verbs.reporter import Reporter, about
from surefit.verbs.workspace import Data, Overrides, Workspace
from surefit.wording import decimals, short  # fmt: skip

WORTH_A_POOL = 6.0  # seconds of fitting from which starting workers pays
PICKLED = (
    "Model: its own class leaves no safer form than a pickle with its code: loading it runs that "
    "code\n       [tag surefit.pickle = true; a scikit-learn pipeline alone needs none]"
)
ELSEWHERE = (
    "Model: its tensors are on {where}: it can be loaded only where there is such a device\n"
    "       → return it on the CPU (net.cpu()), and move rows to where it is as it predicts"
)
CURVE_POINTS = 100  # steps of a loss curve that are recorded, beside the last


def train(
    data: Data = None,
    *,
    target: str | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    name: str | None = None,
    register: bool = False,
    to: str | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train one candidate and record it as an MLflow run.

    Preprocessing and model are fitted inside each fold and scored on its held-out rows; then one
    model is fitted on all training rows, and is the one that is logged. Predictions on the test
    rows are stored without their targets.

    Args:
        data: a file, "sklearn:NAME", or a DataFrame; by default what the configuration names.
        target: the column to predict.
        config: a TOML file; by default surefit.toml in the current folder.
        set: overrides, as {"model.params.learning_rate": 0.05} or ["model.family=linear"].
        name: the run's name.
        register: make the model a registered version.
        to: point this alias ("staging", …) at the version at once, without a gate; the move is in
            the alias's history like any other.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the configuration or the table cannot be used.
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    if to == "production":
        raise InputError(
            "A model reaches production through the gate.", "surefit promote RUN --to production"
        )
    if to:
        workspace.check_alias(to)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    if project.config.model.together:
        raise InputError(
            'model.family = "auto" is a search over families.',
            "surefit tune --set model.family=auto; surefit train fits one",
        )
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    chosen = candidates.candidate(work)
    problem, params = chosen.problem, chosen.params
    reporter.say(f"Plan:  {_plan(problem, params, work)}")
    store = workspace.open_store(project)
    configuration.remember(project)
    tags = work.tags() | {"surefit.family": problem.family}
    title = name or f"train {problem.family}"
    with chosen.redirected(store), runs.recording(store, title, "train", tags=tags) as run:
        run.log(workspace.setup_items(work))
        run.log(candidates.items(work, chosen))
        workspace.log_dataset(run, work)
        folds = fit_folds(problem, params, reporter)
        model = final_model(problem, params, folds)
        outcome = record_model(run, work, model, folds)
        run.log(extras.items(work, model))
        run.log([extras.memory(sum(sorted(f.peak_bytes for f in folds)[-usable_cores() :]))])
        record_calls(run, model, folds, imported=chosen.code.calls if chosen.code else ())
        warn_of_files(outcome.logged, reporter)
    chosen.forget()
    stores.analyze(store)
    version = _register(work, store, run, to, reporter) if register or to else None
    return _result(work, run, outcome, version, problem.family)


def warn_of_files(logged: bundle.Logged, reporter: Reporter) -> None:
    """Say what a model's files ask of whoever loads them."""
    if logged.is_pickle:
        reporter.say(PICKLED)
    if logged.devices:
        reporter.say(ELSEWHERE.format(where=" and ".join(logged.devices)))


def fold_seconds(problem: Problem, params: Mapping[str, Any]) -> float:
    """About how many seconds one fold takes on one core, by the family's formula.

    Args:
        params: of which the family's defaults are filled in.
    """
    rows = len(problem.split.train_rows)
    rows = min(rows, problem.most_rows or rows)
    kinds = [c.kind for c in problem.columns]
    texts, categories = kinds.count("text"), kinds.count("category")
    size = Size(
        task=problem.task, rows=rows, categories=categories,
        numbers=len(kinds) - categories - texts + preprocess.TEXT_COMPONENTS * texts,
        outputs=problem.n_classes if problem.n_classes > 2 else 1,
    )  # fmt: skip
    family = problem.model
    whole = fit.capped({**family.defaults(problem.task), **params}, family, problem.most_steps)
    return family.cost(size, whole) + 5e-5 * rows * texts


def _plan(problem: Problem, params: Mapping[str, Any], work: Workspace) -> str:
    n = problem.split.n_folds
    fits = f"{n + 1} fits of {problem.family} ({n} folds, then all training rows)"
    if work.config.split.valid is not None:
        fits = f"1 fit of {problem.family}, scored on the validation rows"
    share = 1 if not _worth_a_pool(problem, params) else min(n, usable_cores())
    return f"{fits}, {about((n / share + 1) * fold_seconds(problem, params))}"


def _worth_a_pool(problem: Problem, params: Mapping[str, Any]) -> bool:
    total = problem.split.n_folds * fold_seconds(problem, params)
    return problem.split.n_folds > 1 and usable_cores() > 1 and total > WORTH_A_POOL


def fit_folds(problem: Problem, params: dict[str, Any], reporter: Reporter) -> list[FoldResult]:
    """All folds of one configuration, in this process or, when it pays, one a core."""
    with reporter.progress("folds", problem.split.n_folds) as advance:
        if _worth_a_pool(problem, params):
            return _fit_in_pool(problem, params, advance)
        folds = []
        for number in range(problem.split.n_folds):
            folds.append(fit.fit_fold(problem, params, number, curve=True))
            problem.forget()  # one candidate fits each fold once
            advance(number + 1, f"{problem.metric} {decimals(folds[-1].score)}")
        return folds


def _fit_in_pool(problem: Problem, params: dict[str, Any], advance: Any) -> list[FoldResult]:
    n = problem.split.n_folds
    workers = min(n, usable_cores())
    folds: dict[int, FoldResult] = {}
    with Pool(fold_job.of_run, workers=workers, preload=nursery.FOLDS, shared=problem) as pool:
        for number in range(n):
            pool.submit(jobs.Job(key=number, args=(params, number)))
        while len(folds) < n:
            outcome = pool.next()
            if outcome is None:
                continue
            if outcome.state == "FAILED":
                raise failure(outcome)
            folds[outcome.value.fold] = replace(outcome.value, peak_bytes=outcome.peak_bytes)
            advance(len(folds), f"{problem.metric} {decimals(outcome.value.score)}")
    return [folds[number] for number in range(n)]


def failure(outcome: jobs.Outcome) -> SurefitError:
    """Why a fold failed: what was told of it in its process, where that was for people."""
    for kind in (UserCodeError, ConfigError, InputError):
        _, found, told = outcome.traceback.rpartition(f"surefit.errors.{kind.__name__}: ")
        if found:
            what, _, fix = told.strip().partition("\n  Fix: ")
            return kind(what, fix or None)
    return UserCodeError(f"Fold {outcome.key} failed: {outcome.reason}\n{outcome.traceback}")


def final_model(problem: Problem, params: dict[str, Any], folds: Sequence[FoldResult]) -> Model:
    """The model that is logged: of all training rows, or the one that the validation set scored."""
    rounds = [f.rounds for f in folds if f.rounds]
    # threads that wait for each other cost more than they bring on few rows, or on a busy machine
    threads = usable_cores() if fold_seconds(problem, params) > WORTH_A_POOL else 1
    if problem.split.n_folds > 1:
        return fit.fit_all(problem, params, rounds=rounds, threads=threads)
    train_rows, _ = problem.split.fold(0)
    family = problem.model
    given_up = family.iterative and not family.carves
    kept = train_rows[~problem.split.stop_rows(train_rows)] if given_up else train_rows
    return fit.fit_rows(
        problem, params, kept, rounds=rounds[0] if rounds else None, threads=threads
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a recorded model showed."""

    scores: tuple[Score, ...]
    fold_scores: tuple[float, ...]
    baseline: float
    fit_seconds: float
    logged: bundle.Logged

    @property
    def score(self) -> Score:
        """The deciding metric."""
        return self.scores[0]


def record_model(run: Run, work: Workspace, model: Model, folds: Sequence[FoldResult]) -> Outcome:
    """Log scores, curves, predictions and the model's files to an open run."""
    data, split = work.data, work.split
    rows = split.scored_rows
    pred = in_row_order(split, folds)
    scores = stats.scores(
        reported(work),
        data.y[rows],
        pred,
        folds=split.fold_of_rows(),
        clusters=clusters(work, rows),
        weights=row_weights(work, rows),
    )
    base = baseline.constant_value(metrics.find(work.metric, data.task), data, split)
    seconds = float(np.mean([f.seconds for f in folds]))
    run.log(score_items("valid", scores, base))
    run.log(_fold_items(folds, work.metric))
    run.log(Metric(key=k, value=v) for k, v in (("fit_seconds", model.seconds),
                                                ("fold_seconds", seconds)))  # fmt: skip
    logged = log_model(run, work, model, pred)
    run.log([Tag(key="mlflow.note.content", value=_note(work, scores[0], base))])
    return Outcome(
        scores=scores, fold_scores=tuple(f.score for f in folds), baseline=base,
        fit_seconds=model.seconds, logged=logged,
    )  # fmt: skip


def log_model(run: Run, work: Workspace, model: Model, pred: np.ndarray) -> bundle.Logged:
    """Log a model's files, and its predictions of scored rows (`pred`) and of test rows."""
    data = work.data
    run.log(_prediction_items(work, model, pred))
    logged = bundle.log(
        run, model, columns=[c.to_dict() for c in data.columns], classes=data.classes,
        example=data.raw.iloc[work.split.train_rows[:5]].reset_index(drop=True), portable=portable,
    )  # fmt: skip
    run.log([
        Metric(key="model_bytes", value=logged.n_bytes),
        Tag(key="surefit.pickle", value=str(logged.is_pickle).lower()),
        *([Tag(key="surefit.device", value=", ".join(logged.devices))] if logged.devices else []),
        Tag(key="surefit.model", value=logged.model_id),
        Tag(key="surefit.manifest", value=logged.digest),
        Tag(key="surefit.classes", value=json.dumps(data.classes)),
    ])  # fmt: skip
    return logged


def record_calls(
    run: Run, model: Model, folds: Sequence[FoldResult], *, imported: Sequence[str]
) -> None:
    """What MLflow calls of the user's code wrote: its import, the last fit, and the folds."""
    jobs = [("", (*imported, *model.fitted.calls)), *((f"fold_{f.fold}", f.calls) for f in folds)]
    scratch.record(run, [(label, folder) for label, folders in jobs for folder in folders])


def reported(work: Workspace) -> list[metrics.Metric]:
    """The metrics shown for the task, the deciding one first."""
    first = metrics.find(work.metric, work.data.task)
    return [first, *(m for m in metrics.reported(work.data.task) if m.name != first.name)]


def clusters(work: Workspace, rows: np.ndarray) -> np.ndarray | None:
    """What is not independent among the scored rows: groups, or blocks of time, if named."""
    return dependence.units(work.data, work.split, rows, work.split.fold_of_rows())


def row_weights(work: Workspace, rows: np.ndarray) -> np.ndarray | None:
    """How much each of the rows counts; None: all the same."""
    return None if work.data.weight is None else work.data.weight[rows]


def in_row_order(split: Any, folds: Sequence[FoldResult]) -> np.ndarray:
    """Out-of-fold predictions of all folds, in the order of `split.scored_rows`."""
    order = np.argsort(np.concatenate([split.fold(f.fold)[1] for f in folds]), kind="stable")
    return np.asarray(np.concatenate([f.pred for f in folds])[order])


def score_items(rows: str, scores: Sequence[Score], base: float | None) -> Iterator[Item]:
    """Metrics `valid_<name>` with `_low` and `_high`, and the baseline's."""
    for score in scores:
        key = f"{rows}_{score.metric}"
        yield Metric(key=key, value=score.value)
        yield Metric(key=f"{key}_low", value=score.low)
        yield Metric(key=f"{key}_high", value=score.high)
    if base is not None:
        yield Metric(key=f"baseline_{scores[0].metric}", value=base)


def _fold_items(folds: Sequence[FoldResult], metric: str) -> Iterator[Item]:
    for f in folds:
        yield Metric(key=f"fold_{f.fold}_{metric}", value=f.score)
        if f.rounds:
            yield Metric(key=f"fold_{f.fold}_rounds", value=f.rounds)
        for name, step, value in f.steps:
            yield Metric(key=f"fold_{f.fold}_{name}", value=value, step=step)
    curves = {f.fold: f.curve for f in folds if f.curve}
    if not curves:
        return
    shortest = min(len(c) for c in curves.values())
    for number, curve in curves.items():
        yield from _curve_items(f"fold_{number}_", curve)
    mean = [
        (points[0][0], *(float(np.mean([p[i] for p in points])) for i in (1, 2)))
        for points in zip(*(c[:shortest] for c in curves.values()), strict=True)
    ]
    yield from _curve_items("", mean)
    yield _curve_figure(curves)


def _curve_items(prefix: str, curve: Sequence[Any]) -> Iterator[Item]:
    every = max(1, len(curve) // CURVE_POINTS)
    for step, train_loss, valid_loss in [*curve[:-1:every], curve[-1]]:
        yield Metric(key=f"{prefix}train_loss", value=train_loss, step=step)
        yield Metric(key=f"{prefix}valid_loss", value=valid_loss, step=step)


def _curve_figure(curves: dict[int, Any]) -> Figure:
    points = [(number, *point) for number, curve in curves.items() for point in curve]
    return loss_curves(pd.DataFrame(points, columns=["fold", "step", "train_loss", "valid_loss"]))


def _prediction_items(work: Workspace, model: Model, pred: np.ndarray) -> Iterator[Item]:
    yield Table(path=predictions.VALID, frame=predictions.valid_table(work.data, work.split, pred))
    sealed = work.split.test_rows
    seen = fit.view(work.data, model.family)
    if len(sealed):
        blind = predictions.blind_table(work.data, work.split, model.predict(seen.iloc[sealed]))
        yield Table(path=predictions.TEST, frame=blind)


def _note(work: Workspace, score: Score, base: float) -> str:
    return (
        f"**{score}** on validation rows (baseline {short(base)}).\n\n"
        f"{work.data.describe()}\n\n{work.split.describe()}"
    )


def _register(work: Workspace, store: Store, run: Run, to: str | None, reporter: Reporter) -> str:
    record: RunRecord = runs.find(store, run.run_id)
    version = registry.register(store, record, description="registered by surefit train, ungated")
    registry.tag(store, version, {"surefit.gate": "ungated"})
    if to:
        _move(work, store, version, to, reporter)
    return version.uri(to)


def _move(work: Workspace, store: Store, version: Version, to: str, reporter: Reporter) -> None:
    """Point an alias at what was just trained, on record as a move that no gate was asked for."""
    tags = {"surefit.alias": to, "surefit.of": version.run_id}
    facts = moves.facts(work.project.root, verdict="UNGATED", why=f"trained straight to {to}")
    with (
        runs.recording(store, f"train to {to}", "promote", tags=tags) as run,
        moves.opened(store, to, stages=work.config.gate.stages, reporter=reporter) as log,
    ):
        entry = moves.write(
            log, run, action="train", version=version.version, moves=True, facts=facts,
            evidence=None,
        )  # fmt: skip
        was = f" (was {entry.previous})" if entry.previous else ""
        told = f"UNGATED: {version.uri(to)} is version {version.version}{was}"
        run.log([Tag(key="mlflow.note.content", value=told)])
        moves.carry_out(log, entry, version)


def _result(
    work: Workspace, run: Run, outcome: Outcome, version: str | None, family: str
) -> TrainResult:
    return TrainResult(
        run_id=run.run_id, name=run.name, family=family, score=outcome.score,
        scores=outcome.scores, fold_scores=outcome.fold_scores, baseline=outcome.baseline,
        model_uri=f"models:/{outcome.logged.model_id}", version=version,
        fit_seconds=outcome.fit_seconds, model_bytes=outcome.logged.n_bytes,
        inferred=tuple(n.text for n in work.data.notes), data=work.data.describe(),
        split=work.split.describe(), next="surefit evaluate last   (or: surefit tune)",
    )  # fmt: skip
