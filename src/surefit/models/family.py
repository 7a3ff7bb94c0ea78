"""What every family gives: how to fit, predict and save it, and where to search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from surefit.errors import ConfigError, did_you_mean
from surefit.results import Task

Encoding = Literal["ordinal", "onehot"]
Params = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Preprocessed rows: X (n, d) dense or sparse, y (n,), and which columns are category codes."""

    X: Any = field(repr=False)
    y: np.ndarray = field(repr=False)
    categorical: tuple[int, ...] = ()

    def take(self, chosen: np.ndarray) -> Rows:
        """The rows where `chosen` (a mask or row numbers) says so."""
        return Rows(X=self.X[chosen], y=self.y[chosen], categorical=self.categorical)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a fit needs besides rows and hyperparameters.

    Attributes:
        n_classes: K, or 0 in regression.
        threads: how many threads the fit may use; it must not change the result.
        curve: whether the training loss a step is wanted too.
        rounds: fit exactly so many steps, without early stopping; None: as the parameters say.
        cache: what a family may keep between fits of the same rows, e.g. binned data.
    """

    task: Task
    n_classes: int
    seed: int
    threads: int = 1
    curve: bool = False
    rounds: int | None = None
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted estimator.

    Attributes:
        curve: (step, training loss, validation loss) a step, from 1; the validation loss is that
            of the rows given up for early stopping. Log-loss, or mean squared error.
        rounds: the steps used, for families that take steps.
    """

    estimator: Any = field(repr=False)
    curve: tuple[tuple[int, float, float], ...] = ()
    rounds: int | None = None


class Fit(Protocol):
    """Fits `params` on `train`; `stop` rows decide when to stop, and are never scored."""

    def __call__(
        self, params: Params, train: Rows, stop: Rows | None, setting: Setting
    ) -> Fitted: ...


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of model.

    Attributes:
        encoding: how categories reach it; "onehot" also imputes and scales.
        iterative: whether it learns in steps, with a loss curve and early stopping.
        defaults: hyperparameters used unless the user sets them.
        known: every hyperparameter that may be set.
        space: the published search space, in the words of `[tune.space]`.
        starts: good configurations to try first.
        predict: (estimator, X, n_classes) → probabilities (n, K) or values (n,).
        save: writes the estimator's files into a folder, in the family's safest form.
        load: (folder, n_classes) → a function of X like `predict`; its source travels in the model.
        cost: about how many seconds one fit takes on one core: (rows, columns, outputs) → seconds.
        requires: the distributions that loading needs.
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
    cost: Callable[[int, int, int], float]
    requires: tuple[str, ...] = ()

    def resolve(self, params: Params, task: Task) -> dict[str, Any]:
        """The defaults with the user's choices over them.

        Raises:
            ConfigError: for a name that the family does not know.
        """
        known = self.known(task)
        wrong = [f"model.params.{k}: {did_you_mean(k, known)}" for k in params if k not in known]
        if wrong:
            raise ConfigError(f"{self.name} has no such parameter:\n  - " + "\n  - ".join(wrong))
        return {**self.defaults(task), **params}
