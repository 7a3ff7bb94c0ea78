"""The context of a user's own training loop: rows, epochs, numbers, early stopping, resuming.

def train(ctx):
    for epoch, state in ctx.epochs(50, state={"net": net, "optimizer": optimizer}):
        ...one pass over ctx.train.X, ctx.train.y...
        ctx.log(train_loss=..., valid_loss=...)
    return net_with_predict
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from surefit.edges import checkpoints
from surefit.edges.checkpoints import Checkpoint
from surefit.items import check_name
from surefit.models.family import Pruned
from surefit.models.params import Params
from surefit.results import Task

PATIENCE = 10  # epochs without a better valid_loss
EVERY_SECONDS = 0.5  # between two checkpoints; the result does not depend on it


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some rows: the user's columns, class codes or values, and weights where there are some."""

    X: pd.DataFrame = field(repr=False)
    y: np.ndarray = field(repr=False)
    weight: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.y)

    def arrays(self, prepared: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """X as (n, d) float64, and y.

        Args:
            prepared: a transformer fitted on ctx.train.X, e.g. `surefit.preprocess(scale=True)`;
                without one the columns are taken as they are, and must be numbers.

        Raises:
            ValueError: for columns that are no numbers, by name.
        """
        if prepared is not None:
            found = prepared.transform(self.X)
            found = found.toarray() if hasattr(found, "toarray") else found
            return np.asarray(found, dtype="float64"), self.y
        kinds = self.X.dtypes
        text = [str(c) for c, kind in kinds.items() if not pd.api.types.is_numeric_dtype(kind)]
        if text:
            raise ValueError(
                f"columns are no numbers: {', '.join(text[:5])}; give arrays() and tensors() "
                "surefit.preprocess(scale=True).fit(ctx.train.X)"
            )
        return self.X.to_numpy(dtype="float64", na_value=np.nan), self.y

    def tensors(self, prepared: Any = None) -> tuple[Any, Any]:
        """X as a float32 tensor, and y: int64 class numbers, or float32 values."""
        import torch

        X, y = self.arrays(prepared)
        kind = "int64" if y.dtype.kind in "iu" else "float32"
        return torch.from_numpy(X.astype("float32")), torch.from_numpy(y.astype(kind))


class Context:
    """What a user's `train(ctx)` is given.

    Attributes:
        train: the rows to learn from.
        valid: rows carved from the fold's training rows, to watch; the scored rows never come here.
        params: hyperparameters, as attributes and as a mapping.
        seed: a number; Python's, NumPy's and torch's global generators are seeded with it already.
        task: "binary", "multiclass" or "regression".
        classes: the labels as the user wrote them; y holds their numbers. () in regression.
    """

    def __init__(
        self, *, train: Part, valid: Part, params: Params, seed: int, task: Task,
        classes: tuple[Any, ...], checkpoint: Checkpoint, most: int | None = None,
        limits: Sequence[float] = (),
    ) -> None:  # fmt: skip
        self.train, self.valid, self.params, self.seed = train, valid, params, seed
        self.task, self.classes = task, classes
        self._checkpoint, self._most, self._limits = checkpoint, most, limits
        self._epoch = 0
        self._logged: list[tuple[str, int, float]] = []
        self._best: tuple[float, int] | None = None
        self._best_state: Any = None

    def epochs(
        self, n: int, *, state: Any = None, patience: int | None = PATIENCE
    ) -> Iterator[tuple[int, Any]]:
        """Numbers 0, 1, … below `n`, each with the state.

        After each epoch the state and all random generators are kept, so that a killed run goes on
        here. It ends early when the `valid_loss` logged has not fallen for `patience` epochs (None:
        never), and leaves the state of the best epoch behind. In a search it is given up, once
        five trials are complete, where its best loss is above the median of theirs at that epoch.

        Args:
            n: epochs at most; a search with `tune.epochs` takes no more than that.
            state: what the loop changes: a dict of modules, optimizers, generators, arrays or plain
                values, or one such thing. Things are restored in place, plain values in the dict.
            patience: epochs without a better valid_loss before it stops.
        """
        n = n if self._most is None else min(n, self._most)
        first = self._resume(state)
        saved = time.monotonic()
        for epoch in range(first, n):
            if self._waited(epoch, patience):
                break
            self._epoch = epoch
            yield epoch, state
            self._judge(state)
            self._give_up_when_behind()
            if time.monotonic() - saved >= EVERY_SECONDS or epoch == n - 1:
                self._save(epoch + 1, state)
                saved = time.monotonic()
        if self._best is not None and state is not None:
            _restore(state, self._best_state)
        self._checkpoint.done()

    def log(self, **values: float) -> None:
        """Record numbers of this epoch, e.g. train_loss and valid_loss; they become step curves.

        Raises:
            ValueError: for a name that MLflow would refuse, as "recall@10".
        """
        for name, value in values.items():
            check_name(name)
            self._logged.append((name, self._epoch + 1, float(value)))

    @property
    def rounds(self) -> int | None:
        """The epochs up to the best one; None where no valid_loss was logged."""
        return self._best[1] if self._best else None

    def curve(self) -> tuple[tuple[int, float, float], ...]:
        """(step, train_loss, valid_loss), NaN where one was not logged."""
        by_step: dict[int, dict[str, float]] = {}
        for name, step, value in self._logged:
            by_step.setdefault(step, {})[name] = value
        found = [
            (step, v.get("train_loss", math.nan), v.get("valid_loss", math.nan))
            for step, v in sorted(by_step.items())
        ]
        return tuple(p for p in found if not (math.isnan(p[1]) and math.isnan(p[2])))

    def steps(self) -> tuple[tuple[str, int, float], ...]:
        """The other numbers logged."""
        return tuple(s for s in self._logged if s[0] not in ("train_loss", "valid_loss"))

    def _waited(self, epoch: int, patience: int | None) -> bool:
        return patience is not None and self._best is not None and epoch - self._best[1] >= patience

    def _give_up_when_behind(self) -> None:
        """In a search: whether half of the trials before were better at this epoch."""
        limit = self._limits[self._epoch] if self._epoch < len(self._limits) else math.inf
        if self._best and self._best[0] > limit:
            self._checkpoint.done()
            raise Pruned(f"behind after epoch {self._epoch + 1}")

    def _judge(self, state: Any) -> None:
        step = self._epoch + 1
        losses = [v for name, at, v in self._logged if name == "valid_loss" and at == step]
        if losses and math.isfinite(losses[-1]) and (not self._best or losses[-1] < self._best[0]):
            self._best, self._best_state = (losses[-1], step), _capture(state)

    def _save(self, done: int, state: Any) -> None:
        self._checkpoint.write({
            "done": done, "state": _capture(state), "generators": checkpoints.generators(),
            "logged": self._logged, "best": self._best, "best_state": self._best_state,
        })  # fmt: skip

    def _resume(self, state: Any) -> int:
        kept = self._checkpoint.read() if state is not None else None
        if kept is None:
            return 0
        _restore(state, kept["state"])
        checkpoints.restore_generators(kept["generators"])
        self._logged, self._best = kept["logged"], kept["best"]
        self._best_state = kept["best_state"]
        return int(kept["done"])


def _capture(thing: Any) -> Any:
    """A copy of a state that does not change with it."""
    if isinstance(thing, MutableMapping):
        return {key: _capture(value) for key, value in thing.items()}
    if hasattr(thing, "state_dict"):
        return copy.deepcopy(thing.state_dict())
    if isinstance(thing, np.random.Generator):
        return copy.deepcopy(thing.bit_generator.state)
    if hasattr(thing, "get_state") and hasattr(thing, "set_state"):
        return copy.deepcopy(thing.get_state())
    if hasattr(thing, "detach"):
        return thing.detach().clone()
    return copy.deepcopy(thing)


def _restore(thing: Any, kept: Any) -> Any:
    """Put a captured state back, in place where the thing can; the thing that holds it now."""
    if isinstance(thing, MutableMapping):
        for key in kept:
            thing[key] = _restore(thing.get(key), kept[key])
        return thing
    if hasattr(thing, "load_state_dict"):
        thing.load_state_dict(copy.deepcopy(kept))
    elif isinstance(thing, np.random.Generator):
        thing.bit_generator.state = kept
    elif hasattr(thing, "get_state") and hasattr(thing, "set_state"):
        thing.set_state(kept)
    elif hasattr(thing, "detach"):
        thing.detach().copy_(kept)
    elif isinstance(thing, np.ndarray):
        thing[...] = kept
    else:
        return copy.deepcopy(kept)
    return thing


PLAIN = (Part, _capture, _restore)  # of the context, what a script without surefit holds
