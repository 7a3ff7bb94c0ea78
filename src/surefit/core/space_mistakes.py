"""What is wrong with a range or a list of options, and the nearest that is right."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from surefit.errors import ConfigError

_LARGEST = 1e100  # bounds beyond it overflow inside optimisers
_LARGEST_INT = 2**53  # integers beyond it are not exact as floats, which optimisers compute in
SCALARS = (bool, int, float, str, type(None))


class MistakeError(Exception):
    """Why a value is wrong; `line` is what to write, without the key unless it has to change."""

    def __init__(self, why: str, line: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass
class Draft:
    """A range while it is read; `mend` makes it a valid one and says what it changed."""

    whole: bool
    log: bool
    low: float
    high: float
    step: float | None

    def mend(self) -> list[str]:
        """Make it a range; why it was none, [] where it was."""
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
            yield f"it ends ({as_number(self.high)}) below its start ({as_number(self.low)})"
            self.low, self.high = self.high, self.low
        elif self.low == self.high:
            yield "it starts where it ends; a fixed value is written plainly"

    def _mend_log(self) -> Iterable[str]:
        least = 1 if self.whole else 1 / _LARGEST
        if self.log and self.low < least:
            yield f"a log range starts above 0, this one at {as_number(self.low)}"
            self.low = 1 if self.whole else self.high / 1000
            if self.high <= 1 if self.whole else self.low < least:
                self.low, self.high = (1, 10) if self.whole else (0.001, 1)

    def _mend_step(self) -> Iterable[str]:
        if self.step is None or self.low == self.high:
            return
        span = exact(self.high) - exact(self.low)
        if self.log:
            yield "a log range has no step"
            self.step = None
        elif not 0 < exact(self.step) <= span:
            yield f"a step is above 0 and at most {as_number(float(span))}, the whole range"
            self.step = None
        elif (self.high - self.low) / self.step > _LARGEST_INT:
            yield "its step is too small"
            self.step = None
        elif self._top() != self.high:
            yield f"steps of {as_number(self.step)} pass {as_number(self.high)} by"
            self.high = self._top()

    def _top(self) -> float:
        """The highest rung that is not above `high`."""
        assert self.step is not None
        rungs = last_rung(self.low, self.high, self.step)
        return float(exact(self.low) + rungs * exact(self.step))

    def text(self) -> str:
        """As `[tune.space]` says it: "int log 8..255"."""
        words = ("int " if self.whole else "") + ("log " if self.log else "")
        step = "" if self.step is None or (self.whole and self.step == 1) else self.step
        tail = f" step {as_number(step)}" if isinstance(step, float | int) else ""
        return f"{words}{as_number(self.low)}..{as_number(self.high)}{tail}"

    def line(self) -> str:
        """What to write behind the equals sign."""
        return as_number(self.low) if self.low == self.high else as_toml(self.text())


def refuse(draft: Draft) -> None:
    """ConfigError when a range made in Python is none."""
    said = draft.text()
    if whys := draft.mend():
        raise ConfigError(f'"{said}": {"; ".join(whys)}.', draft.line())


def check_options(options: tuple[Any, ...]) -> None:
    """MistakeError when these are no options of a choice."""
    if not options:
        raise MistakeError("a list needs at least one option", "[true, false]")
    if any(isinstance(option, list | tuple) for option in options):
        flat = _flat(options)
        raise MistakeError("a list inside a list is no option", as_toml(flat or [True, False]))
    for option in options:
        if not isinstance(option, SCALARS):
            why = f"{as_toml(option)} is no text, number, true or false"
            fixed = [x if isinstance(x, SCALARS) else str(x) for x in options]
            raise MistakeError(why, as_toml(_once(fixed)))
        if isinstance(option, float) and not math.isfinite(option):
            others = [x for x in options if not (isinstance(x, float) and not math.isfinite(x))]
            line = as_toml(_once(others)) if others else '"0..1"'
            raise MistakeError(f"{option} is no value to try", line)
    if len(_once(options)) < len(options):
        raise MistakeError("an option is there twice", as_toml(_once(options)))


def _flat(options: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for option in options:
        found += _flat(option) if isinstance(option, list | tuple) else [option]
    kept = [x for x in found if isinstance(x, SCALARS)]
    return _once([x for x in kept if not (isinstance(x, float) and not math.isfinite(x))])


def _once(options: Iterable[Any]) -> list[Any]:
    return list({identity(option): option for option in reversed(list(options))}.values())[::-1]


def identity(option: Any) -> tuple[str, Any]:
    """What makes options the same: 1 is 1.0 and is not true."""
    if isinstance(option, bool) or option is None:
        return (str(option), None)
    return ("text" if isinstance(option, str) else "number", option)


# --- numbers and text ---


def finite(value: Any) -> float:
    """A number as a float; ValueError for what is none, or infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def exact(number: float) -> Decimal:
    """The decimals that were written, not the binary float nearest to them."""
    return Decimal(repr(float(number)))


def last_rung(low: float, high: float, step: float) -> int:
    """How many steps fit between the two ends."""
    return int((exact(high) - exact(low)) // exact(step))


def as_number(number: float) -> str:
    """The shortest text that reads back as the same number."""
    if math.isfinite(number) and number == int(number) and abs(number) < 1e16:
        return str(int(number))
    return repr(float(number))


def toml_key(key: Any) -> str:
    """A key as TOML would write it."""
    plain = isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]+", key)
    return key if plain else json.dumps(str(key), ensure_ascii=False)


def as_toml(value: Any) -> str:
    """A value as TOML would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(x) for x in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{toml_key(k)} = {as_toml(v)}' for k, v in value.items())}}}"
    return repr(value) if isinstance(value, int | float) else str(value)
