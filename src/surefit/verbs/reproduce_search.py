"""`surefit reproduce` of a search, or of one of its trials: the same trials, the same table?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit import masking
from surefit.core import fit, predictions
from surefit.core.fit import Problem
from surefit.edges import journal as journals
from surefit.edges import runs, temporary
from surefit.edges.journal import Journal
from surefit.edges.runs import RunRecord
from surefit.errors import InputError
from surefit.results import TrialRow
from surefit.verbs import again, conclude, recovery, searches
from surefit.verbs.again import Again
from surefit.verbs.fold_job import FAMILY, of_family
from surefit.verbs.plan import plan
from surefit.verbs.reporter import Reporter
from surefit.verbs.running import Running
from surefit.verbs.searches import Search
from surefit.verbs.train import final_model

MOST_TOLD = 5  # trials that are named where they differ


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """What running it again showed.

    Attributes:
        before, score: of the trial, or of the search's best.
        apart: the largest difference of any score or stored prediction; infinite where the tables
            of trials are not the same.
        differs: the trials that are not as they were, in words.
        seeded: the score with the fits' seed moved on by so many.
    """

    before: float
    score: float
    apart: float
    differs: tuple[str, ...]
    seeded: Callable[[int], float] = field(repr=False)


def of_trial(found: Again, trial: RunRecord) -> Rerun:
    """A trial's folds, as many as it had, fitted again as the search fits them.

    Raises:
        InputError: when its record does not say how, or there is no score to compare.
    """
    kept = json.loads(trial.tags.get(recovery.TAG) or "null")
    if kept is None:
        raise InputError(
            f"{trial.name} cannot be run again: its hyperparameters are not whole in its record.",
            "surefit reproduce the search",
        )
    stored = {int(fold): score for fold, _, score, _, _ in kept["folds"] if score is not None}
    if not stored:
        why = trial.tags.get("surefit.reason", "its record does not say why")
        raise InputError(
            f"{trial.name} failed, and has no score to compare: {why}",
            "surefit reproduce the search",
        )
    search = plan(found.work, found.chosen)
    params = kept["params"]
    row = TrialRow(
        number=int(trial.tags["surefit.trial"]), state="COMPLETE", value=kept["value"],
        params={k: v for k, v in params.items() if k != FAMILY},
        family=str(params.get(FAMILY, search.family)), fold_scores=(), seconds=0.0, reason="",
    )  # fmt: skip
    problem, chosen = of_family(search.shared, search.given(row))

    def scores(seed: int) -> list[float]:
        other = replace(problem, seed=problem.seed + seed, memory={})
        return [fit.fit_fold(other, chosen, fold).score for fold in stored]

    now = scores(0)
    gaps = np.abs(np.asarray(now) - np.asarray(list(stored.values())))
    return Rerun(
        before=float(np.mean(list(stored.values()))), score=float(np.mean(now)),
        apart=float(gaps.max()), differs=(), seeded=lambda seed: float(np.mean(scores(seed))),
    )  # fmt: skip


def of_search(found: Again, reporter: Reporter) -> Rerun:
    """All trials again, in a journal of their own, and the winner's last fit."""
    stored = runs.read_table(found.store, found.record.run_id, "trials.parquet")
    assert stored is not None
    numbers = set(stored["number"])
    search = _as_long(plan(found.work, found.chosen), 1 + max(numbers))
    reporter.say(f"Plan:  {search.tune.trials} trials again, on {search.where()}")
    with temporary.folder() as folder:
        path = Path(folder) / "search.sqlite"
        with journals.open(path, search.fingerprint) as journal:
            with Running(search, journal, reporter) as running:
                running.run(contextlib.nullcontext())
            rows = [r for r in searches.trial_rows(search, journal) if r.number in numbers]
            best = search.best(rows)
            problem, params = of_family(search.shared, search.given(best))
            told = list(_told(stored, rows))
            gap = _winner_gap(found, search, journal, best) if not told else float("inf")
    then = stored["value"].dropna()
    before = float(then.max() if search.greater_is_better else then.min())
    return Rerun(
        before=before, score=float(best.value or 0), apart=gap, differs=tuple(told[:MOST_TOLD]),
        seeded=lambda seed: _mean(problem, params, seed),
    )  # fmt: skip


def _as_long(search: Search, n_trials: int) -> Search:
    """The search up to the last of its trials, whatever ended it.

    Those that time interrupted, before one that ended, are run too.
    """
    return replace(search, tune=search.tune.model_copy(update={"trials": n_trials, "budget": None}))


def _told(stored: pd.DataFrame, rows: Sequence[TrialRow]) -> Iterator[str]:
    """Trials whose hyperparameters, end or score are not the same to the last bit."""
    if len(stored) != len(rows):
        yield f"{len(stored)} trials then, {len(rows)} now"
    names = [str(c) for c in stored if str(c).startswith("params.")]
    for then, now in zip(stored.to_dict("records"), rows, strict=False):
        kept = {name.removeprefix("params."): then[name] for name in names}
        params = {k: _plain(v) for k, v in kept.items() if not _missing(v)}
        ours = masking.masked(dict(now.params))
        same = params == {k: v for k, v in ours.items() if not _missing(v)}
        value = None if _missing(then["value"]) else float(then["value"])
        if not same or then["state"] != now.state or value != now.value:
            yield (
                f"trial {now.number}: {then['state']} {_number(value)} then, {now.state} "
                f"{_number(now.value)} now{'' if same else ', with other hyperparameters'}"
            )


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _winner_gap(found: Again, search: Search, journal: Journal, best: TrialRow) -> float:
    """The largest difference of the winner's stored predictions of test rows."""
    sealed = found.work.split.test_rows
    light = search.tune.rows or search.tune.epochs
    stored = runs.read_table(found.store, found.record.run_id, predictions.TEST)
    if not len(sealed) or light or stored is None:
        return 0.0
    problem, params = of_family(search.shared, search.given(best))
    model = final_model(problem, params, list(conclude.folds_of(journal, best)))
    frame = fit.view(found.work.data, model.family).iloc[sealed]
    table = predictions.blind_table(found.work.data, found.work.split, model.predict(frame))
    return again.largest(stored, table)


def _mean(problem: Problem, params: Any, seed: int) -> float:
    other = replace(problem, seed=problem.seed + seed, memory={})
    folds = range(problem.split.n_folds)
    return float(np.mean([fit.fit_fold(other, params, fold).score for fold in folds]))
