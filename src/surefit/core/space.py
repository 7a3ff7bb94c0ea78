"""A search space: what `[tune.space]` may say, as frozen values; knows no optimiser.

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
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

from surefit.errors import ConfigError

GRID_LIMIT = 100_000  # points; beyond it a grid is a mistake, not a plan
_LARGEST = 1e100  # bounds beyond it overflow inside optimisers
_LARGEST_INT = 2**53  # integers beyond it are not exact as floats, which optimisers compute in


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
        _refuse(_Draft(False, self.log, self.low, self.high, self.step))
        for name in ("low", "high", "step"):
            value = getattr(self, name)  # + 0.0: an int becomes a float and -0.0 becomes 0.0
            object.__setattr__(self, name, None if value is None else float(value) + 0.0)

    @property
    def axis(self) -> Axis:
        """Floats, or the rungs 0..n-1 of the ladder."""
        if self.step is None:
            return Axis(kind="float", low=self.low, high=self.high, log=self.log)
        return Axis(kind="int", low=0, high=_rungs(self.low, self.high, self.step))

    def encode(self, value: Any) -> float:
        """The place of `value` on the axis; ValueError says why it has none."""
        number = _number(value)
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
        return float(_exact(self.low) + int(place) * _exact(self.step))

    def points(self, n: int) -> tuple[float, ...]:
        """`n` values spread evenly (by ratio if log), ends included; all of them if stepped."""
        if self.step is not None:
            return tuple(self.decode(i) for i in range(_affordable(self.axis)))
        if n == 1:
            return (self.axis.at(0.5),)
        inside = [self.axis.at(i / (n - 1)) for i in range(1, n - 1)]
        return (self.low, *inside, self.high)

    def __str__(self) -> str:
        return _Draft(False, self.log, self.low, self.high, self.step).text()


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
        _refuse(_Draft(True, self.log, self.low, self.high, self.step))
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
        number = _number(value)
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
        return _Draft(True, self.log, self.low, self.high, self.step).text()


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
            _check_options(self.options)
        except _MistakeError as mistake:
            raise ConfigError(str(mistake), f"x = {mistake.line}") from None
        object.__setattr__(self, "options", tuple(self.options))
        object.__setattr__(self, "_keys", tuple(_key(option) for option in self.options))

    @property
    def axis(self) -> Axis:
        """The options' numbers, from 0."""
        return Axis(kind="choice", low=0, high=len(self.options) - 1)

    def encode(self, value: Any) -> float:
        """The number of the option `value`; ValueError when it is none of them."""
        if not isinstance(value, _SCALARS) or _key(value) not in self._keys:
            raise ValueError(f"{value!r} is none of {self}")
        return self._keys.index(_key(value))

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


def parse(raw: Mapping[str, Any], table: str = "tune.space") -> Space:
    """A search space from the values of `[tune.space]`, by name in alphabetical order.

    Args:
        table: what messages call it.
        raw: for each parameter one of
            "LOW..HIGH", "log LOW..HIGH", "int LOW..HIGH", "int log LOW..HIGH" (both ends included;
            `log` needs LOW > 0), without `log` also "... step STEP", where STEP divides HIGH - LOW;
            a list of options (or its text, as `describe` writes it); a plain value, which is fixed.

    Returns:
        A read-only mapping; the order of the lines in the file makes no difference.

    Raises:
        ConfigError: something is wrong; all mistakes at once, each with a line that would do.

    >>> print(parse({"depth": "int 2..8", "rate": "log 0.01..1"})["depth"])
    int 2..8
    """
    space: dict[str, Dimension] = {}
    mistakes: list[tuple[str, str]] = []
    for key in sorted(raw, key=str):
        try:
            space[key] = _dimension(key, raw[key])
        except _MistakeError as mistake:
            shown = f"{_toml_key(key)} = {_toml(raw[key])}: {mistake}"
            line = mistake.line
            mistakes.append((shown, line if "=" in line else f"{_toml_key(key)} = {line}"))
    if mistakes:
        head = f"[{table}] has {'a mistake' if len(mistakes) == 1 else 'mistakes'}"
        lines = [f"\n  {shown}" for shown, _ in mistakes]
        raise ConfigError(f"{head}:{''.join(lines)}", "\n       ".join(c for _, c in mistakes))
    return MappingProxyType(space)


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


# --- reading one value; a mistake carries the line that would do ---


class _MistakeError(Exception):
    """Why a value is wrong; `line` is what to write, without the key unless it has to change."""

    def __init__(self, why: str, line: str) -> None:
        super().__init__(why)
        self.line = line


_SCALARS = (bool, int, float, str, type(None))
_NUM = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:inf|nan)"
_RANGE = re.compile(
    rf"(?P<words>[A-Za-z][A-Za-z ]*\s)??\s*(?P<low>{_NUM})\s*(?P<dots>\.{{2,}}|…|\bto\b|[-–:])\s*"
    rf"(?P<high>{_NUM})(?:\s+step\s+(?P<step>{_NUM}))?",
    re.IGNORECASE,
)
_ALMOST = re.compile(r"(?=.*\d).*\.\.|(?:int|log|float)\b.*\d|.*\d\s+step\b", re.IGNORECASE)
_WORDS = {  # what people write, and what it means here
    "int": "int", "integer": "int", "randint": "int", "quniform": "", "log": "log",
    "loguniform": "log", "float": "", "uniform": "", "real": "", "linear": "",
}  # fmt: skip


def _dimension(key: Any, value: Any) -> Dimension:
    if not isinstance(key, str) or not key.strip():
        raise _MistakeError("a parameter needs a name", f"name = {_toml(value)}")
    if isinstance(value, Mapping):
        raise _table(key, value)
    if isinstance(value, str):
        return _from_text(value.strip(), value)
    options = tuple(value) if isinstance(value, list | tuple) else (value,)
    _check_options(options)
    return Choice(options)


def _from_text(text: str, written: str) -> Dimension:
    if text.startswith("["):
        return _from_list_text(text)
    if re.fullmatch(_NUM, text, re.IGNORECASE):
        better = _short(float(text)) if math.isfinite(float(text)) else '"0..1"'
        why = f"is a number in quotes; for the text itself write [{_toml(written)}]"
        raise _MistakeError(why, better)
    match = _RANGE.fullmatch(text)
    if match is None:
        if _ALMOST.match(text):
            why = 'is no range; a range is "LOW..HIGH" after nothing, "log", "int" or "int log"'
            raise _MistakeError(why, f"[{_toml(written)}]  # if this text is meant, or a range")
        return Choice((written,))
    draft, whys = _draft(match)
    whys += draft.mend()
    if whys:
        raise _MistakeError("; ".join(whys), draft.line())
    return draft.dimension()


def _from_list_text(text: str) -> Choice:
    try:
        options = tuple(json.loads(text))
    except (ValueError, RecursionError):
        raise _MistakeError(
            "is no list of options; in TOML a list needs no quotes", '["a", "b"]'
        ) from None
    _check_options(options)
    return Choice(options)


def _draft(match: re.Match[str]) -> tuple[_Draft, list[str]]:
    """What a range's text says, and what is wrong with how it says it."""
    whys = []
    words = (match["words"] or "").split()
    known = [_WORDS.get(word.lower(), "") for word in words]
    if words not in ([], ["int"], ["log"], ["int", "log"]):
        whys.append('before the numbers stands nothing, "log", "int" or "int log"')
    if match["dots"] != "..":
        whys.append("the ends of a range have two dots between them")
    step = None if match["step"] is None else float(match["step"])
    low, high = float(match["low"]), float(match["high"])
    return _Draft("int" in known, "log" in known, low, high, step), whys


@dataclass
class _Draft:
    """A range while it is read; `mend` makes it a valid one and says what it changed."""

    whole: bool
    log: bool
    low: float
    high: float
    step: float | None

    def mend(self) -> list[str]:
        whys = [*self._mend_numbers()]
        if not whys:  # what follows compares and divides
            whys += self._mend_order()
            whys += self._mend_log()
            whys += self._mend_step()
        return whys

    def _mend_numbers(self) -> Iterable[str]:
        most = _LARGEST_INT if self.whole else _LARGEST
        numbers = [self.low, self.high] if self.step is None else [self.low, self.high, self.step]
        if not all(math.isfinite(x) and abs(x) <= most for x in numbers):
            yield f"its numbers must be finite and at most {most:g}"
            self.low, self.high, self.step = (1, 10, None) if self.whole else (0.01, 1, None)
        elif self.whole and any(x != int(x) for x in numbers):
            yield '"int" needs whole numbers'
            self.whole = False
            yield from self.mend()

    def _mend_order(self) -> Iterable[str]:
        if self.low > self.high:
            yield f"it ends ({_short(self.high)}) below its start ({_short(self.low)})"
            self.low, self.high = self.high, self.low
        elif self.low == self.high:
            yield "it starts where it ends; a fixed value is written plainly"

    def _mend_log(self) -> Iterable[str]:
        least = 1 if self.whole else 1 / _LARGEST
        if self.log and self.low < least:
            yield f"a log range starts above 0, this one at {_short(self.low)}"
            self.low = 1 if self.whole else self.high / 1000
            if self.high <= 1 if self.whole else self.low < least:
                self.low, self.high = (1, 10) if self.whole else (0.001, 1)

    def _mend_step(self) -> Iterable[str]:
        if self.step is None or self.low == self.high:
            return
        span = _exact(self.high) - _exact(self.low)
        if self.log:
            yield "a log range has no step"
            self.step = None
        elif not 0 < _exact(self.step) <= span:
            yield f"a step is above 0 and at most {_short(float(span))}, the whole range"
            self.step = None
        elif (self.high - self.low) / self.step > _LARGEST_INT:
            yield "its step is too small"
            self.step = None
        elif self._top() != self.high:
            yield f"steps of {_short(self.step)} pass {_short(self.high)} by"
            self.high = self._top()

    def _top(self) -> float:
        """The highest rung that is not above `high`."""
        assert self.step is not None
        rungs = _rungs(self.low, self.high, self.step)
        return float(_exact(self.low) + rungs * _exact(self.step))

    def dimension(self) -> Dimension:
        if self.whole:
            step = None if self.step is None else int(self.step)
            return IntRange(int(self.low), int(self.high), self.log, step)
        return FloatRange(self.low, self.high, self.log, self.step)

    def text(self) -> str:
        words = ("int " if self.whole else "") + ("log " if self.log else "")
        step = "" if self.step is None or (self.whole and self.step == 1) else self.step
        tail = f" step {_short(step)}" if isinstance(step, float | int) else ""
        return f"{words}{_short(self.low)}..{_short(self.high)}{tail}"

    def line(self) -> str:
        return _short(self.low) if self.low == self.high else _toml(self.text())


def _refuse(draft: _Draft) -> None:
    """ConfigError when a range made in Python is none."""
    said = draft.text()
    if whys := draft.mend():
        raise ConfigError(f'"{said}": {"; ".join(whys)}.', draft.line())


def _check_options(options: tuple[Any, ...]) -> None:
    if not options:
        raise _MistakeError("a list needs at least one option", "[true, false]")
    if any(isinstance(option, list | tuple) for option in options):
        flat = _flat(options)
        raise _MistakeError("a list inside a list is no option", _toml(flat or [True, False]))
    for option in options:
        if not isinstance(option, _SCALARS):
            why = f"{_toml(option)} is no text, number, true or false"
            fixed = [x if isinstance(x, _SCALARS) else str(x) for x in options]
            raise _MistakeError(why, _toml(_once(fixed)))
        if isinstance(option, float) and not math.isfinite(option):
            finite = [x for x in options if not (isinstance(x, float) and not math.isfinite(x))]
            line = _toml(_once(finite)) if finite else '"0..1"'
            raise _MistakeError(f"{option} is no value to try", line)
    if len(_once(options)) < len(options):
        raise _MistakeError("an option is there twice", _toml(_once(options)))


def _flat(options: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for option in options:
        found += _flat(option) if isinstance(option, list | tuple) else [option]
    kept = [x for x in found if isinstance(x, _SCALARS)]
    return _once([x for x in kept if not (isinstance(x, float) and not math.isfinite(x))])


def _once(options: Iterable[Any]) -> list[Any]:
    return list({_key(option): option for option in reversed(list(options))}.values())[::-1]


def _key(option: Any) -> tuple[str, Any]:
    """What makes options the same: 1 is 1.0 and is not true."""
    if isinstance(option, bool) or option is None:
        return (str(option), None)
    return ("text" if isinstance(option, str) else "number", option)


def _table(key: str, value: Mapping[str, Any]) -> _MistakeError:
    """A table where a value belongs: {low = 1, high = 9}, or a dotted name without quotes."""
    low, high = (value.get("low", value.get("min")), value.get("high", value.get("max")))
    if low is not None and high is not None:
        whole = all(isinstance(x, int) for x in (low, high))
        try:
            draft = _Draft(whole, bool(value.get("log")), _number(low), _number(high), None)
        except ValueError:
            draft = _Draft(False, False, 0.1, 1, None)
        draft.mend()
        return _MistakeError('a range is a text, "LOW..HIGH"', draft.line())
    inner = next(iter(value), "name")
    why = "is a table; a name with a dot in it needs quotes"
    return _MistakeError(why, f"{json.dumps(f'{key}.{inner}')} = {_toml(value.get(inner, 1))}")


# --- numbers and text ---


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _exact(number: float) -> Decimal:
    """The decimals that were written, not the binary float nearest to them."""
    return Decimal(repr(float(number)))


def _rungs(low: float, high: float, step: float) -> int:
    return int((_exact(high) - _exact(low)) // _exact(step))


def _short(number: float) -> str:
    """The shortest text that reads back as the same number."""
    if math.isfinite(number) and number == int(number) and abs(number) < 1e16:
        return str(int(number))
    return repr(float(number))


def _toml_key(key: Any) -> str:
    plain = isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]+", key)
    return key if plain else json.dumps(str(key), ensure_ascii=False)


def _toml(value: Any) -> str:
    """A value as TOML would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(x) for x in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml_key(k)} = {_toml(v)}' for k, v in value.items())}}}"
    return repr(value) if isinstance(value, int | float) else str(value)
