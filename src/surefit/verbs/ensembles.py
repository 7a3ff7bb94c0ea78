"""`surefit tune --ensemble`: the best trials as one model, one more candidate beside the winner."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from surefit.core import ensemble as chosen_by
from surefit.core import fit, metrics
from surefit.core.fit import FoldResult, Model
from surefit.core.resampling import layout
from surefit.core.winner import METHOD
from surefit.edges import runs
from surefit.edges.runs import Run
from surefit.items import Item, Metric, Param, Tag
from surefit.models import ensemble
from surefit.models.ensemble import AsIs, Member
from surefit.models.family import Fitted
from surefit.results import EnsembleResult, Score, TrialRow
from surefit.verbs import extras, workspace
from surefit.verbs.board import as_score
from surefit.verbs.conclude import Ended, folds_of, scored_by
from surefit.verbs.fold_job import of_family
from surefit.verbs.reporter import Reporter
from surefit.verbs.train import final_model, record_model, row_weights
from surefit.verbs.workspace import Workspace

ANEW = "an ensemble is selected anew on parts of the rows"
OF = "surefit.ensemble_of"  # on the ensemble's run: the search that it is made of
MEMBERS = "surefit.ensemble"  # there and on the search's run: what makes it this ensemble
BEST_OF_EACH = 3  # trials of a family that are looked at before further ones of another


def add(parent: Run, end: Ended, reporter: Reporter) -> EnsembleResult | None:
    """Choose an ensemble from the trials, fit and record it as a run of its own, and score it.

    Its out-of-fold predictions are those of ensembles chosen on the other folds, so that
    `surefit compare` is not flattered. None where the best trial alone is not bettered.
    """
    trials = _candidates(end)
    scored = scored_by(end.work, end.folds)
    preds = [end.preds[t.number] for t in trials]
    rows = layout(len(scored.y), folds=scored.folds, weights=scored.weights)
    weights = chosen_by.select(
        end.metric, scored.y[rows.order], [p[rows.order] for p in preds], rows,
        np.ones(len(scored.y)),
    )  # fmt: skip
    members = {t.number: float(w) for t, w in zip(trials, weights, strict=True) if w > 0}
    if len(members) < 2:
        reporter.say("Ensemble: none betters the best trial alone")
        return None
    mixed = chosen_by.cross_fitted(
        end.metric, scored.y, preds, folds=scored.folds, weights=scored.weights
    )
    score = end.score(scored_by(end.work, list(_folds(end, mixed))))
    known = _known(parent, end, members, score)
    if known is not None:
        return known
    found = chosen_by.corrected(end.metric, scored.y, preds, **scored.drawn)
    true = as_score(found, [ANEW])
    chosen = [t for t in trials if t.number in members]
    return _recorded(parent, end, chosen, members, mixed, score, true)


def _identity(end: Ended, members: dict[int, float]) -> str:
    return json.dumps([end.found.fingerprint, sorted(members.items())])


def _known(
    parent: Run, end: Ended, members: dict[int, float], score: Score
) -> EnsembleResult | None:  # fmt: skip
    """The ensemble's run where the search has it already: nothing is fitted twice."""
    identity = _identity(end, members)
    where = f"tags.`{OF}` = '{parent.run_id}' and {runs.ENDED_WELL}"
    made = runs.search(parent.store, where)
    record = next((r for r in made if r.tags.get(MEMBERS) == identity), None)
    if record is None:
        return None
    _name(parent, record.run_id, identity)
    key = f"corrected_{end.work.metric}"
    true = replace(
        score, value=record.metrics[key], low=record.metrics[f"{key}_low"],
        high=record.metrics[f"{key}_high"], method=METHOD, note=ANEW,
    )  # fmt: skip
    return EnsembleResult(
        run_id=record.run_id, model_uri=f"models:/{record.tags['surefit.model']}",
        members=members, score=score, corrected=true,
    )  # fmt: skip


def _name(parent: Run, run_id: str, identity: str) -> None:
    """Say on the search's run which run its ensemble is; `_known` does not rely on it."""
    parent.log([
        Tag(key="surefit.ensemble_run", value=run_id), Tag(key=MEMBERS, value=identity),
    ])  # fmt: skip


def _candidates(end: Ended) -> list[TrialRow]:
    """The best few of each family, the best first, then the next best."""
    kept = sorted((r for r in end.rows if r.number in end.preds), key=lambda r: _rank(end, r))
    seen: dict[str, int] = {}
    first: list[TrialRow] = []
    later: list[TrialRow] = []
    for row in kept:
        seen[row.family] = seen.get(row.family, 0) + 1
        (first if seen[row.family] <= BEST_OF_EACH else later).append(row)
    chosen = (first + later)[: chosen_by.MOST]
    return sorted(chosen, key=lambda r: _rank(end, r))


def _rank(end: Ended, row: TrialRow) -> tuple[float, int]:
    return -end.found.sign * float(row.value or 0), row.number


def _recorded(
    parent: Run, end: Ended, trials: Sequence[TrialRow], members: dict[int, float],
    mixed: np.ndarray, score: Score, true: Score,
) -> EnsembleResult:  # fmt: skip
    """A run and a model of the ensemble's own, under the search."""
    work = end.work
    identity = _identity(end, members)
    tags = work.tags() | {"surefit.family": ensemble.NAME, OF: parent.run_id, MEMBERS: identity}
    name = f"ensemble of {len(members)}"
    with runs.recording(parent.store, name, "train", tags=tags, parent=parent.run_id) as run:
        run.log(workspace.setup_items(work))
        run.log(_items(trials, members, true, work))
        workspace.log_dataset(run, work)
        model = _fitted(end, trials, members)
        outcome = record_model(run, work, model, list(_folds(end, mixed)))
        run.log(extras.speed(work, model))
    _name(parent, run.run_id, identity)
    return EnsembleResult(
        run_id=run.run_id, model_uri=f"models:/{outcome.logged.model_id}", members=members,
        score=score, corrected=true,
    )  # fmt: skip


def _items(
    trials: Sequence[TrialRow], members: dict[int, float], true: Score, work: Workspace
) -> Iterator[Item]:
    yield Param(key="model.family", value=ensemble.NAME)
    for trial in trials:
        yield Param(
            key=f"ensemble.trial_{trial.number}",
            value=f"{members[trial.number]:.4g} of {trial.family}",
        )
    for suffix, value in (("", true.value), ("_low", true.low), ("_high", true.high)):
        yield Metric(key=f"corrected_{work.metric}{suffix}", value=value)


def _folds(end: Ended, mixed: np.ndarray) -> Iterator[FoldResult]:
    """The ensemble's predictions, fold by fold."""
    split, y = end.work.split, end.work.data.y
    for number in range(split.n_folds):
        rows = split.fold(number)[1]
        pred = mixed[np.searchsorted(split.scored_rows, rows)]
        score = metrics.value(end.metric, y[rows], pred, weights=row_weights(end.work, rows))
        yield FoldResult(fold=number, pred=pred, score=score, curve=(), rounds=None, seconds=0.0)


def _fitted(end: Ended, trials: Sequence[TrialRow], members: dict[int, float]) -> Model:
    """Every member fitted on all training rows."""
    fitted = []
    for trial in trials:
        problem, params = of_family(end.found.shared, end.found.given(trial))
        model = final_model(problem, params, list(folds_of(end.journal, trial)))
        name = f"trial {trial.number}"
        fitted.append(Member(name=name, weight=members[trial.number], model=model))
    first = fitted[0].model
    assert isinstance(first, fit.Model)
    return Model(
        family=ensemble.of(fitted), preprocess=AsIs(), fitted=Fitted(estimator=fitted),
        columns=first.columns, n_classes=first.n_classes,
        seconds=sum(m.model.seconds for m in fitted if isinstance(m.model, fit.Model)),
    )  # fmt: skip
