"""Fit a configuration on a fold or on all training rows: pure functions that workers can run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from surefit import models
from surefit.core import metrics, preprocess
from surefit.core.data import Dataset
from surefit.core.kinds import Column
from surefit.core.portable import as_given
from surefit.core.split import Split
from surefit.errors import ConfigError, InputError, SurefitError
from surefit.models import logs
from surefit.models.family import LOG_TARGET, LOSS, Family, Fitted, Params, Pruned, Rows, Setting
from surefit.results import Task

Share = Callable[[Any, Callable[[], Any]], Any]  # (key, make) → the value, perhaps made elsewhere

_OF_AMOUNTS = {"poisson": "counts from 0 on", "gamma": "amounts above 0"}  # losses, and of what
REFIT_ROUNDS = 1.1  # rounds of the refit over the mean best of the folds, which saw fewer rows


@dataclass(frozen=True, kw_only=True)
class Problem:
    """All that a fit needs but the hyperparameters; sent once to each worker.

    Attributes:
        frame: the rows as the model sees them.
        family: the family's name, or of the user's own function.
        own: the user's function as a family, or None.
        most_rows: of a fold's training rows, so many are fitted on; None: all.
        most_steps: steps that an iterative family takes at most; None: as its parameters say.
    """

    task: Task
    frame: pd.DataFrame = field(repr=False)
    y: np.ndarray = field(repr=False)
    columns: tuple[Column, ...]
    n_classes: int
    split: Split
    family: str
    metric: str
    seed: int
    weight: np.ndarray | None = field(default=None, repr=False)
    own: Family | None = field(default=None, repr=False)
    most_rows: int | None = None
    most_steps: int | None = None
    memory: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def model(self) -> Family:
        """What is fitted: the user's own function, or a built-in family."""
        return self.own or models.named(self.family)

    def rows(self, X: Any, chosen: np.ndarray) -> Rows:
        """Preprocessed rows with their targets and weights."""
        encoding = self.model.encoding
        return Rows(
            X=X, y=self.y[chosen],
            categorical=preprocess.categorical_columns(self.columns, encoding),
            numbers=preprocess.number_columns(self.columns) if encoding == "ordinal" else {},
            weight=None if self.weight is None else self.weight[chosen],
        )  # fmt: skip

    def forget(self) -> None:
        """Let go of the preprocessed rows that `fit_fold` keeps for the next fit of a fold."""
        self.memory.clear()


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """One fold's outcome.

    Attributes:
        pred: (n_scored, K) probabilities or (n_scored,) values, rows in the split's order.
        score: the problem's metric on the scored rows; NaN where it is undefined.
        curve: (step, training loss, validation loss) a step.
        rounds: the best number of steps, for iterative families.
        steps: (name, step, value) of further numbers that a user's loop logged.
        calls: the folders with what MLflow calls of the user's code wrote.
        pruned: why the fit was given up, "" where it was not; then there are no predictions.
        peak_bytes: memory of the process that it was fitted in, 0 where that is this one.
    """

    fold: int
    pred: np.ndarray = field(repr=False)
    score: float
    curve: tuple[tuple[int, float, float], ...] = field(repr=False)
    rounds: int | None
    seconds: float
    steps: tuple[tuple[str, int, float], ...] = field(default=(), repr=False)
    calls: tuple[str, ...] = ()
    pruned: str = ""
    peak_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Model:
    """A fitted preprocessing and estimator, ready to predict and to be saved."""

    family: Family
    preprocess: Any = field(repr=False)
    fitted: Fitted
    columns: tuple[Column, ...]
    n_classes: int
    seconds: float

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """(n, K) probabilities, or (n,) values, for rows in the model's view (`view`)."""
        return _answers(self.family, self.fitted, self.preprocess.transform(frame), self.n_classes)


def view(data: Dataset, family: Family) -> pd.DataFrame:
    """The rows as a family sees them: by kind (`coerce`), or as the user has them."""
    if family.encoding == "raw":
        return as_given(data.raw, [c.to_dict() for c in data.columns])
    return data.frame


def problem(
    data: Dataset, split: Split, *, family: str, metric: str, seed: int, own: Family | None = None
) -> Problem:
    """The problem that a dataset, a split and a family, or the user's own function, pose."""
    return Problem(
        task=data.task, frame=view(data, own or models.named(family)), y=data.y,
        columns=data.columns, n_classes=len(data.classes), split=split, family=family,
        metric=metric, seed=seed, weight=data.weight, own=own,
    )  # fmt: skip


def fit_fold(
    problem: Problem, params: Params, fold: int, *, curve: bool = False, threads: int = 1,
    limits: tuple[float, ...] = (), share: Share = lambda key, make: make(),
) -> FoldResult:  # fmt: skip
    """Fit on a fold's training rows and predict its scored rows.

    The rows given up for early stopping come out of the training rows; the scored rows are seen
    by `predict` alone. Preprocessed rows are kept in `problem.memory` for the next fit, and made
    through `share`, so that other processes need not make them again.
    """
    started = time.perf_counter()
    family = problem.model
    parts = _fold_rows(problem, family, fold, share)
    setting = Setting(
        task=problem.task, n_classes=problem.n_classes, seed=problem.seed, threads=threads,
        curve=curve, cache=parts.cache, job=f"fold {fold}", most_steps=problem.most_steps,
        limits=limits,
    )  # fmt: skip
    params = capped(params, family, problem.most_steps)
    with _one_blas_thread():
        try:
            fitted = _fitted(family, params, parts.train, parts.stop, setting)
        except Pruned as given_up:
            return FoldResult(
                fold=fold, pred=np.empty(0), score=float("nan"), curve=(), rounds=None,
                seconds=time.perf_counter() - started, pruned=str(given_up),
            )  # fmt: skip
        pred = _answers(family, fitted, parts.scored.X, problem.n_classes)
    metric = metrics.find(problem.metric, problem.task)
    score = metrics.value(metric, parts.scored.y, pred, weights=parts.scored.weight)
    return FoldResult(
        fold=fold, pred=pred, score=score,
        curve=fitted.curve, rounds=fitted.rounds, seconds=time.perf_counter() - started,
        steps=fitted.steps, calls=tuple(fitted.calls),
    )  # fmt: skip


def fit_all(problem: Problem, params: Params, *, rounds: list[int], threads: int = 1) -> Model:
    """Fit on all training rows; an iterative family takes the folds' mean best rounds × 1.1."""
    return fit_rows(
        problem,
        params,
        problem.split.train_rows,
        rounds=max(1, round(REFIT_ROUNDS * float(np.mean(rounds)))) if rounds else None,
        threads=threads,
    )


def fit_rows(
    problem: Problem, params: Params, rows: np.ndarray, *, rounds: int | None, threads: int = 1
) -> Model:
    """Fit on the given rows; `rounds` None with an iterative family means all its steps.

    A family that carves gives up stop rows here too, and chooses its steps anew.
    """
    started = time.perf_counter()
    family = problem.model
    transformer = preprocess.make(problem.columns, family.encoding)
    matrix = partial(
        preprocess.matrix, transformer, problem.columns, family.encoding, problem.frame
    )
    given_up = rows[:0]
    if family.carves:
        stop = problem.split.stop_rows(rows)
        rows, given_up, rounds = rows[~stop], rows[stop], None
    with _one_blas_thread():
        train = problem.rows(matrix(rows, fit=True), rows)
        kept = None
        if len(given_up):
            kept = problem.rows(matrix(given_up, fit=False), given_up)
        setting = Setting(
            task=problem.task, n_classes=problem.n_classes, seed=problem.seed, threads=threads,
            rounds=rounds,
        )  # fmt: skip
        fitted = _fitted(family, params, train, kept, setting)
    return Model(
        family=family, preprocess=transformer, fitted=fitted, columns=problem.columns,
        n_classes=problem.n_classes, seconds=time.perf_counter() - started,
    )  # fmt: skip


# --- one fit; on the target's logarithm, where that is asked for ---


def _fitted(
    family: Family, params: Params, train: Rows, stop: Rows | None, setting: Setting
) -> Fitted:
    """A fit of the user's own code, or of a library that may refuse a parameter's value.

    Raises:
        InputError: with what the library said.
    """
    if family.open:
        return family.fit(params, train, stop, setting)
    try:
        return _fitted_by_library(family, params, train, stop, setting)
    except (SurefitError, MemoryError):
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        raise InputError(
            f"{family.name} could not be fitted: {type(error).__name__}: {said}",
            "a value among model.params that its library takes",
        ) from error


def _fitted_by_library(
    family: Family, params: Params, train: Rows, stop: Rows | None, setting: Setting
) -> Fitted:
    """`family.fit`, on the logarithm of 1 + the target with `log_target`.

    Raises:
        ConfigError: where a target has none, or is none that the loss is of.
    """
    if params.get(LOSS) in _OF_AMOUNTS:
        _check_amounts(params, train)
    if LOG_TARGET not in params:
        return family.fit(params, train, stop, setting)
    asked = params[LOG_TARGET]
    params = {k: v for k, v in params.items() if k != LOG_TARGET}
    if not isinstance(asked, bool):
        raise ConfigError(f"model.params.{LOG_TARGET} = {asked!r} is not understood.",
                          f"{LOG_TARGET} = true")  # fmt: skip
    if not asked:
        return family.fit(params, train, stop, setting)
    kept = setting.cache.setdefault(LOG_TARGET, {})  # what is kept of rows holds their target
    train, stop = _logged(train), stop and _logged(stop)
    fitted = family.fit(params, train, stop, replace(setting, cache=kept))
    return replace(fitted, log=logs.limits(train.y))


def _check_amounts(params: Params, rows: Rows) -> None:
    """Refuse a loss that takes the logarithm of what it fits, where that has none."""
    loss, least = params[LOSS], float(rows.y.min())
    if params.get(LOG_TARGET):
        raise ConfigError(
            f'model.params.{LOSS} = "{loss}" fits a logarithm by itself.', f"{LOG_TARGET} = false"
        )
    if least < 0 or (least == 0 and loss == "gamma"):
        raise ConfigError(
            f'model.params.{LOSS} = "{loss}" is for {_OF_AMOUNTS[loss]}, and the target has values '
            f"down to {least:g}.",
            f'{LOSS} = "squared_error"',
        )


def _logged(rows: Rows) -> Rows:
    least = float(rows.y.min())
    if least <= -1:
        raise ConfigError(
            f"model.params.{LOG_TARGET} takes the logarithm of 1 + the target, which has values "
            f"down to {least:g}.",
            f"{LOG_TARGET} = false",
        )
    return replace(rows, y=np.log1p(rows.y))


def _answers(family: Family, fitted: Fitted, X: Any, n_classes: int) -> np.ndarray:
    """Probabilities (n, K), or values (n,) in the target's own unit."""
    raw = family.predict(fitted.estimator, X, n_classes)
    return np.asarray(logs.unlogged(raw, fitted.log))


@dataclass(frozen=True, kw_only=True)
class _FoldRows:
    train: Rows
    stop: Rows | None
    scored: Rows
    cache: dict[Any, Any]


def _fold_rows(problem: Problem, family: Family, fold: int, share: Share) -> _FoldRows:
    """A fold's rows, preprocessed once for all the fits that share an encoding."""
    key = (fold, family.encoding, family.iterative, problem.most_rows)
    if key not in problem.memory:
        make = partial(_prepared, problem, family, fold)
        # the user's own code gets rows as they are: there is nothing to compute
        problem.memory[key] = make() if family.encoding == "raw" else share(key, make)
    kept: _FoldRows = problem.memory[key]
    return kept


def _prepared(problem: Problem, family: Family, fold: int) -> _FoldRows:
    train, scored = problem.split.fold(fold)
    if problem.most_rows is not None and len(train) > problem.most_rows:
        train = train[_sample(problem, train, problem.most_rows, fold)]
    stop = problem.split.stop_rows(train) if family.iterative else np.zeros(len(train), dtype=bool)
    transformer = preprocess.make(problem.columns, family.encoding)
    matrix = partial(
        preprocess.matrix, transformer, problem.columns, family.encoding, problem.frame
    )
    with _one_blas_thread():
        fitted_on = matrix(train[~stop], fit=True)
        rest = [matrix(rows, fit=False) if len(rows) else None for rows in (train[stop], scored)]
    return _FoldRows(
        train=problem.rows(fitted_on, train[~stop]),
        stop=problem.rows(rest[0], train[stop]) if stop.any() else None,
        scored=problem.rows(rest[1], scored),
        cache={},
    )


def _sample(problem: Problem, rows: np.ndarray, most: int, fold: int) -> np.ndarray:
    """Positions of about `most` of the rows, in order; each class keeps its share, and a row."""
    rng = np.random.default_rng([problem.seed, fold, most])
    code = problem.y[rows] if problem.n_classes else np.zeros(len(rows), dtype="int64")
    chosen = []
    for label in np.unique(code):
        mine = np.flatnonzero(code == label)
        n = max(1, round(most * len(mine) / len(rows)))
        chosen.append(rng.permutation(mine)[:n])
    return np.sort(np.concatenate(chosen))


def capped(params: Params, family: Family, most: int | None) -> Params:
    """The parameters, with no more steps than `most`."""
    if most is None or not family.steps:
        return params
    return {**params, family.steps: min(most, int(params.get(family.steps, most)))}


def _one_blas_thread() -> Any:
    """Sums in BLAS depend on how many threads share them: one thread, one result."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")
