"""A search space: ranges and choices as frozen values; knows no optimiser.

    learning_rate = "log 0.005..0.3"       a float, drawn evenly on a log scale
    subsample     = "0.5..1 step 0.1"      a float on a ladder, both ends included
    num_leaves    = "int log 8..255"       an integer
    extra_trees   = [true, false]          one of these
    booster       = "gbdt"                 always this

Every dimension is also an `Axis` (a plain interval of floats, integers or option numbers), which is
all that an optimiser needs to see: `encode` goes there, `decode` comes back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from surefit.core.space_mistakes import (
    SCALARS,
    Draft,
    MistakeError,
    check_options,
    exact,
    finite,
    identity,
    last_rung,
    refuse,
)
from surefit.errors import ConfigError

GRID_LIMIT = 100_000  # points; beyond it a grid is a mistake, not a plan


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A dimension as an optimiser sees it: an interval with both ends included.

    Attributes:
        kind: "float"; "int"; or "choice", whose numbers 0..high have no order.
        low, high: the ends; integers unless `kind` is "float".
        log: whether distances are ratios; then low > 0.
    """

    kind: Literal["float", "int", "choice"]
    low: float
    high: float
    log: bool = False

    def at(self, fraction: float) -> float:
        """The number at `fraction` in [0, 1] of the way; integers get equal shares of it."""
        half = 0.0 if self.kind == "float" else 0.5
        low, high = self.low - half, self.high + half
        if self.log:
            number = math.exp(math.log(low) * (1 - fraction) + math.log(high) * fraction)
        else:
            number = low * (1 - fraction) + high * fraction
        number = number if self.kind == "float" else math.floor(number + 0.5)
        return min(max(number, self.low), self.high)


@dataclass(frozen=True)
class FloatRange:
    """Any float in [low, high]; with `step`, one of low, low + step, ..., high.

    Raises:
        ConfigError: the bounds are no range; see `parse` for the rules.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        refuse(Draft(False, self.log, self.low, self.high, self.step))
        for name in ("low", "high", "step"):
            value = getattr(self, name)  # + 0.0: an int becomes a float and -0.0 becomes 0.0
            object.__setattr__(self, name, None if value is None else float(value) + 0.0)

    @property
    def axis(self) -> Axis:
        """Floats, or the rungs 0..n-1 of the ladder."""
        if self.step is None:
            return Axis(kind="float", low=self.low, high=self.high, log=self.log)
        return Axis(kind="int", low=0, high=last_rung(self.low, self.high, self.step))

    def encode(self, value: Any) -> float:
        """The place of `value` on the axis; ValueError says why it has none."""
        number = finite(value)
        if not self.low <= number <= self.high:
            raise ValueError(f"{value!r} is outside {self}")
        if self.step is None:
            return number
        rung = round((number - self.low) / self.step)
        if not math.isclose(self.decode(rung), number, rel_tol=1e-9, abs_tol=self.step * 1e-9):
            raise ValueError(f"{value!r} is not on a step of {self}")
        return rung

    def decode(self, place: float) -> float:
        """The float at a place on the axis; exact to the decimals written (0.3, not 0.1 + 0.2)."""
        if self.step is None:
            return min(max(float(place), self.low), self.high)
        return float(exact(self.low) + int(place) * exact(self.step))

    def points(self, n: int) -> tuple[float, ...]:
        """`n` values spread evenly (by ratio if log), ends included; all of them if stepped."""
        if self.step is not None:
            return tuple(self.decode(i) for i in range(_affordable(self.axis)))
        if n == 1:
            return (self.axis.at(0.5),)
        inside = [self.axis.at(i / (n - 1)) for i in range(1, n - 1)]
        return (self.low, *inside, self.high)

    def __str__(self) -> str:
        return Draft(False, self.log, self.low, self.high, self.step).text()


@dataclass(frozen=True)
class IntRange:
    """Any integer in [low, high]; with `step`, one of low, low + step, ..., high.

    Raises:
        ConfigError: the bounds are no range; see `parse` for the rules.
    """

    low: int
    high: int
    log: bool = False
    step: int | None = None

    def __post_init__(self) -> None:
        refuse(Draft(True, self.log, self.low, self.high, self.step))
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))
        # A step of 1 is what an integer range has anyway: one form, so that equal spaces are equal.
        step = None if self.step is None or self.step == 1 else int(self.step)
        object.__setattr__(self, "step", step)

    @property
    def axis(self) -> Axis:
        """The integers, or the rungs 0..n-1 of the ladder."""
        if self.step is None:
            return Axis(kind="int", low=self.low, high=self.high, log=self.log)
        return Axis(kind="int", low=0, high=(self.high - self.low) // self.step)

    def encode(self, value: Any) -> float:
        """The place of `value` on the axis; ValueError says why it has none."""
        number = finite(value)
        if not self.low <= number <= self.high:
            raise ValueError(f"{value!r} is outside {self}")
        if number != int(number) or (int(number) - self.low) % (self.step or 1):
            raise ValueError(f"{value!r} is not on a step of {self}")
        return int(number) if self.step is None else (int(number) - self.low) // self.step

    def decode(self, place: float) -> int:
        """The integer at a place on the axis."""
        return int(place) if self.step is None else self.low + int(place) * self.step

    def points(self, n: int) -> tuple[int, ...]:
        """All values if stepped or at most `n`; else about `n` spread evenly, ends included."""
        if self.step is not None or self.high - self.low < n:
            return tuple(self.decode(self.axis.low + i) for i in range(_affordable(self.axis)))
        even = FloatRange(self.low, self.high, self.log).points(n)
        return tuple(sorted({min(max(math.floor(x + 0.5), self.low), self.high) for x in even}))

    def __str__(self) -> str:
        return Draft(True, self.log, self.low, self.high, self.step).text()


@dataclass(frozen=True)
class Choice:
    """One of `options` (text, numbers, true, false, None), which have no order; one alone is fixed.

    Raises:
        ConfigError: there is no option, one is there twice, or one is no scalar.
    """

    options: tuple[Any, ...]
    _keys: tuple[Any, ...] = field(init=False, repr=False, compare=True)

    def __post_init__(self) -> None:
        try:
            check_options(self.options)
        except MistakeError as mistake:
            raise ConfigError(str(mistake), f"x = {mistake.line}") from None
        object.__setattr__(self, "options", tuple(self.options))
        object.__setattr__(self, "_keys", tuple(identity(option) for option in self.options))

    @property
    def axis(self) -> Axis:
        """The options' numbers, from 0."""
        return Axis(kind="choice", low=0, high=len(self.options) - 1)

    def encode(self, value: Any) -> float:
        """The number of the option `value`; ValueError when it is none of them."""
        if not isinstance(value, SCALARS) or identity(value) not in self._keys:
            raise ValueError(f"{value!r} is none of {self}")
        return self._keys.index(identity(value))

    def decode(self, place: float) -> Any:
        """The option with that number."""
        return self.options[int(place)]

    def points(self, n: int) -> tuple[Any, ...]:
        """Every option, whatever `n`."""
        return self.options

    def __str__(self) -> str:
        return json.dumps(self.options, ensure_ascii=False)


Dimension = FloatRange | IntRange | Choice
Space = Mapping[str, Dimension]


def describe(space: Space) -> dict[str, str]:
    """The canonical text of each dimension; `parse(describe(space)) == space`."""
    return {key: str(space[key]) for key in sorted(space)}


def digest(space: Space) -> str:
    """SHA-256 (64 hex digits) of the space's canonical text."""
    text = json.dumps(describe(space), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def grid(space: Space, points: int = 5) -> list[dict[str, Any]]:
    """Every combination, the alphabetically last parameter varying fastest.

    Args:
        space: the space; a range without `step` gives `points` values, log ranges by ratio.
        points: at least 1.

    Raises:
        ConfigError: there would be more than 100,000 combinations; shows the count a parameter.
    """
    counts = {key: _count(space[key], points) for key in sorted(space)}
    total = math.prod(counts.values())
    if total > GRID_LIMIT:
        shown = " x ".join(f"{key} {n:,}" for key, n in counts.items())
        raise ConfigError(
            f"A grid over this space has {total:,} points ({shown}); {GRID_LIMIT:,} is the most.",
            'use method = "tpe" or "random", or give fewer options and wider steps',
        )
    columns = [space[key].points(points) for key in counts]
    return [dict(zip(counts, values, strict=True)) for values in itertools.product(*columns)]


def _count(dimension: Dimension, points: int) -> int:
    if isinstance(dimension, Choice) or dimension.step is not None:
        return int(dimension.axis.high) + 1
    return len(dimension.points(points))


def _affordable(axis: Axis) -> int:
    """How many values a ladder has, unless nobody could want them all."""
    n = int(axis.high - axis.low) + 1
    if n > GRID_LIMIT:
        raise ConfigError(f"A step gives {n:,} values, too many for a grid.", "widen the step")
    return n
