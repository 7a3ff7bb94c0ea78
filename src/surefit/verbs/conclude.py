"""The end of a search: the winner refitted and corrected, what is tied with it, all recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from surefit.core import contest, metrics, predictions, stats
from surefit.core.contest import Contest
from surefit.core.fit import FoldResult
from surefit.core.predictions import Scored
from surefit.edges import runs
from surefit.edges.journal import Journal
from surefit.edges.runs import Run
from surefit.errors import InputError
from surefit.items import Item, Metric, Table, Text
from surefit.results import Score, TrialRow, TuneResult
from surefit.verbs import extras, searches
from surefit.verbs.board import TRIALS, as_score
from surefit.verbs.fold_job import FAMILY, of_family
from surefit.verbs.plan import kept_fold, predict_again
from surefit.verbs.reporter import Reporter
from surefit.verbs.searches import Search
from surefit.verbs.train import (
    clusters,
    final_model,
    fit_folds,
    in_row_order,
    log_model,
    record_calls,
    record_model,
    row_weights,
    warn_of_files,
)
from surefit.verbs.workspace import Workspace

MOST_BYTES = 64 << 20  # of trials' predictions on the parent run; the best trials come first
RIVALS = 10  # complete trials that are asked whether they are tied with the best


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A search whose trials are done.

    Attributes:
        folds: the winner's, as the search fitted them.
        preds: out-of-fold predictions by trial, of the best that fit into the record.
    """

    work: Workspace = field(repr=False)
    found: Search = field(repr=False)
    journal: Journal = field(repr=False)
    rows: tuple[TrialRow, ...]
    best: TrialRow
    folds: tuple[FoldResult, ...] = field(repr=False)
    preds: Mapping[int, np.ndarray] = field(repr=False)

    @property
    def light(self) -> bool:
        """Whether trials were fitted on fewer rows, or for fewer steps, than the winner is."""
        return bool(self.found.tune.rows or self.found.tune.epochs)

    @property
    def metric(self) -> metrics.Metric:
        """What decides."""
        return metrics.find(self.work.metric, self.work.data.task)

    def score(self, scored: Scored) -> Score:
        """The deciding metric of out-of-fold predictions, with its interval."""
        return stats.score(self.metric, scored.y, scored.pred, **scored.drawn)


def ended(work: Workspace, found: Search, journal: Journal) -> Ended:
    """What the journal holds of a search that is at its end, or as far as its budget went.

    Raises:
        UserCodeError: when no trial completed.
    """
    rows = searches.trial_rows(found, journal)
    best = found.best(rows)
    _have_predictions(found, journal, best)
    return Ended(
        work=work, found=found, journal=journal, rows=tuple(rows), best=best,
        folds=tuple(folds_of(journal, best)),
        preds=_trial_preds(journal, work, [r for r in rows if r.value is not None], found.sign),
    )  # fmt: skip


def _have_predictions(found: Search, journal: Journal, trial: TrialRow) -> None:
    """Fit a trial's folds again where the journal was rebuilt, and has no predictions of it."""
    if journal.payload(trial.number, 0) is None:
        predict_again(found.shared, found.given(trial), journal, trial.number)


def conclude(
    parent: Run, end: Ended, *, resumed: int, started: float, reporter: Reporter
) -> TuneResult:
    """Refit the best trial, record it on the parent run, and give the result."""
    work, found, best = end.work, end.found, end.best
    scored = scored_by(work, end.folds)
    whole, model_id = _winner(parent, end, scored, reporter)
    score = end.score(whole)
    judged = _judged(end, scored)
    searched = end.score(scored) if end.light else None
    true = _corrected(judged, score, searched)
    tied = tuple(int(name.removeprefix("trial_")) for name in judged.ranking.tied[1:])
    weights = searches.importances(found, end.rows, best.family)
    parent.log(
        searches.outcome_items(
            found, end.rows, best, weights, corrected=true, name=found.family, tied=tied
        )
    )
    parent.log(_winner_items(work, found, best, true, searched))
    parent.log([Table(path=TRIALS, frame=predictions.trials_table(scored, dict(end.preds)))])
    return TuneResult(
        run_id=parent.run_id, name=parent.name, family=best.family, method=found.tune.method,
        metric=found.metric, trials=end.rows, best=best, score=score, corrected=true,
        importances=weights, model_uri=f"models:/{model_id}", seconds=time.monotonic() - started,
        resumed=resumed, next="surefit compare", tied=tied, searched=searched,
    )  # fmt: skip


def _winner(
    parent: Run, end: Ended, scored: Scored, reporter: Reporter
) -> tuple[Scored, str]:  # fmt: skip
    """The winner's out-of-fold predictions as its model deserves them, and the model's id.

    After a light search its folds are fitted in full first.
    """
    known = _recorded(parent, end)
    if known is not None:
        return (_stored(parent, end, scored) if end.light else scored), known
    problem, params = of_family(end.found.shared, end.found.given(end.best))
    folds: Sequence[FoldResult] = end.folds
    if end.light:
        reporter.say("The winner is fitted and scored in full")
        problem = replace(problem, most_rows=None, most_steps=None, memory={})
        folds = fit_folds(problem, params, reporter)
    model = final_model(problem, params, folds)
    outcome = record_model(parent, end.work, model, folds)
    warn_of_files(outcome.logged, reporter)
    parent.log(extras.of_model(end.work, model))
    record_calls(parent, model, (), imported=end.found.imported)
    return scored_by(end.work, folds), outcome.logged.model_id


def _recorded(parent: Run, end: Ended) -> str | None:
    """The model that the run has of this very trial already: nothing is fitted twice."""
    tags = runs.find(parent.store, parent.run_id).tags
    same = tags.get("surefit.best_trial") == str(end.best.number)
    return tags.get("surefit.model") if same else None


def _stored(parent: Run, end: Ended, scored: Scored) -> Scored:
    """The predictions in full that the run has already."""
    table = runs.read_table(parent.store, parent.run_id, predictions.VALID)
    if table is None:
        return scored
    kept = predictions.read(table, end.work.data.task, end.work.data.classes)
    return replace(scored, pred=kept.pred)


def _judged(end: Ended, scored: Scored) -> Contest:
    """The best few ranked against each other, and the best corrected for all that took part."""
    rank = {r.number: -end.found.sign * float(r.value or 0) for r in end.rows}
    order = sorted(end.preds, key=lambda n: (n != end.best.number, rank[n]))
    near = {f"trial_{n}": end.preds[n] for n in order[:RIVALS]}
    rest = {f"trial_{n}": end.preds[n] for n in order[RIVALS:]}
    return contest.judge(end.metric, scored.y, near, rest, **scored.drawn)


def _corrected(judged: Contest, score: Score, searched: Score | None) -> Score:
    """The winner's score less what having been picked flatters it by.

    After a light search the flattery is that of the light scores.
    """
    if judged.corrected is None:
        return score
    true = as_score(judged.corrected, [])
    if searched is None:
        return true
    shift = score.value - searched.value
    ends = (true.value + shift, true.low + shift, true.high + shift)
    return replace(
        true, value=ends[0], low=ends[1], high=ends[2],
        note=f"{true.note}; by how much a light score flatters",
    )  # fmt: skip


def folds_of(journal: Journal, trial: TrialRow) -> Iterator[FoldResult]:
    """A complete trial's folds, from the journal."""
    for fold, score in enumerate(trial.fold_scores):
        payload = journal.payload(trial.number, fold)
        if payload is None:
            raise InputError(
                f"The journal has no predictions of trial {trial.number} any more.",
                "surefit tune --set tune.seed=1 starts another search",
            )
        pred, rounds = kept_fold(payload)
        yield FoldResult(
            fold=fold, pred=pred, score=score, curve=(), rounds=rounds,
            seconds=trial.seconds / len(trial.fold_scores),
        )  # fmt: skip


def scored_by(work: Workspace, folds: Sequence[FoldResult]) -> Scored:
    """Out-of-fold predictions of all scored rows, with their targets."""
    rows = work.split.scored_rows
    return Scored(
        task=work.data.task, classes=work.data.classes, row_id=work.data.row_id[rows],
        y=work.data.y[rows], pred=in_row_order(work.split, folds), folds=work.split.fold_of_rows(),
        groups=clusters(work, rows),
        weights=row_weights(work, rows),
    )  # fmt: skip


def _trial_preds(
    journal: Journal, work: Workspace, complete: Sequence[TrialRow], sign: int
) -> dict[int, np.ndarray]:
    """Out-of-fold predictions of the complete trials, the best first, as many as fit."""
    preds: dict[int, np.ndarray] = {}
    used = 0
    for trial in sorted(complete, key=lambda r: -sign * float(r.value or 0)):
        if journal.payload(trial.number, 0) is None:  # of a journal that was rebuilt
            continue
        pred = in_row_order(work.split, list(folds_of(journal, trial)))
        used += pred.size * 4
        if used > MOST_BYTES and preds:
            break
        preds[trial.number] = pred
    return dict(sorted(preds.items()))


def _winner_items(
    work: Workspace, found: Search, best: TrialRow, true: Score, searched: Score | None
) -> Iterator[Item]:
    for prefix, score in (("corrected", true), ("searched", searched)):
        if score is not None:
            yield Metric(key=f"{prefix}_{work.metric}", value=score.value)
            yield Metric(key=f"{prefix}_{work.metric}_low", value=score.low)
            yield Metric(key=f"{prefix}_{work.metric}_high", value=score.high)
    usual = found.fixed[best.family]
    unusual = {k: v for k, v in found.given(best).items() if k != FAMILY and usual.get(k) != v}
    chosen = {"params": {**work.config.model.params, **unusual}}
    family = {"family": best.family} if work.config.model.together else {}
    model = work.config.model.model_copy(update=chosen | family)
    # The whole configuration with the winner's hyperparameters, ready for `surefit train`.
    yield Text(path="best.toml", text=work.config.model_copy(update={"model": model}).to_toml())


def log_every_model(parent: Run, end: Ended, reporter: Reporter) -> None:
    """A model for each complete trial on its own run, fitted on all training rows: as asked for."""
    mine = [r for r in end.rows if r.value is not None]
    nested = f"tags.`mlflow.parentRunId` = '{parent.run_id}' and tags.`surefit.kind` = 'trial'"
    by_number = {r.tags.get("surefit.trial"): r for r in runs.search(parent.store, nested)}
    with reporter.progress("models", len(mine)) as advance:
        for done, trial in enumerate(mine, start=1):
            record = by_number.get(str(trial.number))
            if record is not None and "surefit.model" not in record.tags:
                problem, params = of_family(end.found.shared, end.found.given(trial))
                _have_predictions(end.found, end.journal, trial)
                folds = list(folds_of(end.journal, trial))
                run = Run(store=parent.store, run_id=record.run_id, name=record.name)
                pred = in_row_order(end.work.split, folds)
                log_model(run, end.work, final_model(problem, params, folds), pred)
            advance(done, "")
