"""What every family gives: how to fit, predict and save it, and where to search."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from surefit.errors import ConfigError, MissingExtraError, did_you_mean
from surefit.models.costs import Size
from surefit.results import Task

Encoding = Literal["ordinal", "onehot", "raw"]
Params = Mapping[str, Any]


class Pruned(BaseException):
    """A fit of a search that is given up: clearly behind. No `except Exception` stops it."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Preprocessed rows.

    Attributes:
        X: (n, d) dense or sparse; for encoding "raw" the user's own frame.
        y: (n,) class codes or values.
        categorical: which columns are category codes.
        numbers: the column of each number feature that is one column, by its name.
        weight: (n,) how much each row counts, or None.
    """

    X: Any = field(repr=False)
    y: np.ndarray = field(repr=False)
    categorical: tuple[int, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict, repr=False)
    weight: np.ndarray | None = field(default=None, repr=False)


LOG_TARGET = "log_target"  # of every family that learns a number; see `models.logs`
LOSS = "loss"  # of the boosting families in regression: what is fitted, in scikit-learn's names


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a fit needs besides rows and hyperparameters.

    Attributes:
        n_classes: K, or 0 in regression.
        threads: how many threads the fit may use; it must not change the result.
        curve: whether the training loss a step is wanted too.
        rounds: fit exactly so many steps, without early stopping; None: as the parameters say.
        cache: what a family may keep between fits of the same rows, e.g. binned data.
        job: which fit of the run this is: "fold 0", "all".
        limits: in a search, by epoch: a user's loop whose best loss so far is above is given up.
        most_steps: a user's loop takes no more.
    """

    task: Task
    n_classes: int
    seed: int
    threads: int = 1
    curve: bool = False
    rounds: int | None = None
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)
    job: str = "all"
    limits: tuple[float, ...] = ()
    most_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted estimator.

    Attributes:
        curve: (step, training loss, validation loss) a step, from 1; the validation loss is that
            of the rows given up for early stopping. Log-loss, or mean squared error, or `LOSS`.
        rounds: the steps used, for families that take steps.
        steps: (name, step, value) of further numbers that a user's loop logged.
        calls: the folders with what MLflow calls of the user's code wrote; the first answers of
            the estimator may add some.
        log: it answers logarithms, held within these; None: the target itself.
    """

    estimator: Any = field(repr=False)
    curve: tuple[tuple[int, float, float], ...] = ()
    rounds: int | None = None
    steps: tuple[tuple[str, int, float], ...] = field(default=(), repr=False)
    calls: Sequence[str] = ()
    log: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What a fitted estimator says itself of the columns of its matrix.

    Attributes:
        kind: "gain", "impurity" or "change" (of the prediction), which are shares; "log-odds" or
            "target", which are coefficients.
        values: (d,), or (K, d) where each class has its own.
    """

    kind: Literal["gain", "impurity", "change", "log-odds", "target"]
    values: np.ndarray = field(repr=False)


class Fit(Protocol):
    """Fits `params` on `train`; `stop` rows decide when to stop, and are never scored."""

    def __call__(
        self, params: Params, train: Rows, stop: Rows | None, setting: Setting
    ) -> Fitted: ...


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of model.

    Attributes:
        encoding: how categories reach it; "onehot" also imputes and scales, "raw" leaves the
            user's columns as they are.
        iterative: whether it learns in steps, with a loss curve and early stopping.
        defaults: hyperparameters used unless the user sets them.
        known: every hyperparameter that may be set, but `LOG_TARGET`, which `core.fit` sees to.
        space: the published search space, in the words of `[tune.space]`.
        starts: good configurations to try first.
        predict: (estimator, X, n_classes) → probabilities (n, K) or values (n,).
        save: writes the estimator's files into a folder, in the family's safest form.
        load: (folder, n_classes) → a function of X like `predict`; its source travels in the model.
        cost: (the table's size, hyperparameters) → about the seconds of one fit on one core.
        losses: what `LOSS` may be in regression, the usual one first, with its library's name of
            it; empty where there is no choice.
        objective: (task, hyperparameters) → how its library is told what to fit; {}: it is not.
        aliases: other names of its hyperparameters → the one that is used here, for advice.
        requires: the distributions that loading needs.
        helpers: functions that `load` calls; their source travels too.
        carves: whether the last fit gives up rows for early stopping, as those of the folds do.
        steps: the hyperparameter that says how many steps it takes at most, "" where none does.
        extrapolates: whether answers grow without end beyond the rows seen; a search leaves its
            target as it is, since an exponential makes anything of a slip there.
        open: whether hyperparameters are the user's own and any name is good.
        members: the families of an ensemble's members; it preprocesses nothing itself.
        needs: (fitted estimator) → further distributions that loading needs.
        inside: (fitted estimator) → what it says itself of its columns; None: nothing.
    """

    name: str
    encoding: Encoding
    iterative: bool
    defaults: Callable[[Task], dict[str, Any]]
    known: Callable[[Task], set[str]]
    space: Callable[[Task], dict[str, Any]]
    starts: Callable[[Task], tuple[dict[str, Any], ...]]
    fit: Fit
    predict: Callable[[Any, Any, int], np.ndarray]
    save: Callable[[Any, Path], None]
    load: Callable[[Path, int], Callable[[Any], np.ndarray]]
    cost: Callable[[Size, Params], float]
    losses: Mapping[str, str] = field(default_factory=dict)
    objective: Callable[[Task, Params], dict[str, Any]] = lambda task, params: {}
    aliases: Callable[[], Mapping[str, str]] = dict
    requires: tuple[str, ...] = ()
    helpers: tuple[Callable[..., Any], ...] = ()
    carves: bool = False
    extrapolates: bool = False
    open: bool = False
    steps: str = ""
    members: tuple[Family, ...] = ()
    needs: Callable[[Any], tuple[str, ...]] = lambda estimator: ()
    inside: Callable[[Any], Inside | None] = lambda estimator: None

    def resolve(self, params: Params, task: Task) -> dict[str, Any]:
        """The defaults with the user's choices over them.

        Raises:
            ConfigError: for a name that the family does not know, or a loss.
        """
        if self.open:
            return dict(params)
        known = self.known(task) | ({LOG_TARGET} if self.logs(task) else set())
        wrong = [f"model.params.{k}: {self._advice(k, known)}" for k in params if k not in known]
        if wrong:
            raise ConfigError(f"{self.name} has no such parameter:\n  - " + "\n  - ".join(wrong))
        asked = params.get(LOSS) if task == "regression" else None
        for loss in asked if isinstance(asked, list | tuple) else [asked]:  # a space's choices too
            if loss is not None:
                fitted_loss({LOSS: loss}, self.losses)
        return {**self.defaults(task), **params}

    def logs(self, task: Task) -> bool:
        """Whether it can be fitted on the target's logarithm."""
        return task == "regression" and not self.open

    def _advice(self, name: str, known: set[str]) -> str:
        same = self.aliases().get(name)
        return f'here it is "{same}"' if same in known else did_you_mean(name, known)


def fitted_loss(params: Params, losses: Mapping[str, str]) -> str:
    """The library's name of the loss that is asked for, else of the usual one; "" without choice.

    Raises:
        ConfigError: for one that there is not.
    """
    if not losses:
        return ""
    asked = params.get(LOSS, next(iter(losses)))
    if asked not in losses:
        raise ConfigError(
            f"model.params.{LOSS} = {asked!r} is not among {', '.join(losses)}.",
            did_you_mean(str(asked), losses),
        )
    return losses[asked]


def needed(library: str, purpose: str, *, extra: str | None = None) -> Any:
    """An optional library.

    Raises:
        MissingExtraError: when it is not installed, naming the install line.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError:
        raise MissingExtraError(library, extra or library, purpose) from None


def weights(params: Params, rows: Rows, n_classes: int) -> np.ndarray | None:
    """Row weights: `data.weight` times `class_weight`; None when neither is set.

    `class_weight` is "balanced" (each class counts the same) or a weight for each class code.
    """
    chosen = params.get("class_weight")
    if chosen is None or not n_classes:
        return rows.weight
    counts = np.bincount(rows.y, minlength=n_classes)
    if chosen == "balanced":
        by_class = len(rows.y) / (n_classes * np.maximum(counts, 1))
    elif isinstance(chosen, list | tuple) and len(chosen) == n_classes:
        by_class = np.asarray(chosen, dtype="float64")
    else:
        raise ConfigError(
            f"model.params.class_weight = {chosen!r} is not understood.",
            f'"balanced", or a list of {n_classes} weights in the order of the classes',
        )
    return np.asarray(by_class[rows.y] * (1.0 if rows.weight is None else rows.weight))


def monotone(params: Params, rows: Rows) -> list[int] | None:
    """A direction (-1, 0, 1) for each column of X; None when `monotone` is not set.

    Raises:
        ConfigError: for a feature that is no number, or another direction.
    """
    chosen = params.get("monotone")
    if not chosen:
        return None
    wrong = [f"{k}: {did_you_mean(k, rows.numbers)}" for k in chosen if k not in rows.numbers]
    wrong += [f"{k} = {v!r}: give 1, -1 or 0" for k, v in chosen.items() if v not in (-1, 0, 1)]
    if wrong:
        lines = "\n".join(f"  - {w}" for w in wrong)
        raise ConfigError(f"model.params.monotone takes number features:\n{lines}")
    directions = [0] * int(rows.X.shape[1])
    for name, direction in chosen.items():
        directions[rows.numbers[name]] = int(direction)
    return directions
