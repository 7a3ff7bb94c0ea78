"""Reading `[tune.space]`: texts, lists and plain values → dimensions, or all mistakes at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from surefit.core.space import Choice, Dimension, FloatRange, IntRange, Space
from surefit.core.space_mistakes import (
    Draft,
    MistakeError,
    as_number,
    as_toml,
    check_options,
    finite,
    toml_key,
)
from surefit.errors import ConfigError

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
        except MistakeError as mistake:
            shown = f"{toml_key(key)} = {as_toml(raw[key])}: {mistake}"
            line = mistake.line
            mistakes.append((shown, line if "=" in line else f"{toml_key(key)} = {line}"))
    if mistakes:
        head = f"[{table}] has {'a mistake' if len(mistakes) == 1 else 'mistakes'}"
        lines = [f"\n  {shown}" for shown, _ in mistakes]
        raise ConfigError(f"{head}:{''.join(lines)}", "\n       ".join(c for _, c in mistakes))
    return MappingProxyType(space)


def _dimension(key: Any, value: Any) -> Dimension:
    if not isinstance(key, str) or not key.strip():
        raise MistakeError("a parameter needs a name", f"name = {as_toml(value)}")
    if isinstance(value, Mapping):
        raise _table(key, value)
    if isinstance(value, str):
        return _from_text(value.strip(), value)
    options = tuple(value) if isinstance(value, list | tuple) else (value,)
    check_options(options)
    return Choice(options)


def _from_text(text: str, written: str) -> Dimension:
    if text.startswith("["):
        return _from_list_text(text)
    if re.fullmatch(_NUM, text, re.IGNORECASE):
        better = as_number(float(text)) if math.isfinite(float(text)) else '"0..1"'
        why = f"is a number in quotes; for the text itself write [{as_toml(written)}]"
        raise MistakeError(why, better)
    match = _RANGE.fullmatch(text)
    if match is None:
        if _ALMOST.match(text):
            why = 'is no range; a range is "LOW..HIGH" after nothing, "log", "int" or "int log"'
            raise MistakeError(why, f"[{as_toml(written)}]  # if this text is meant, or a range")
        return Choice((written,))
    draft, whys = _draft(match)
    whys += draft.mend()
    if whys:
        raise MistakeError("; ".join(whys), draft.line())
    return _range(draft)


def _from_list_text(text: str) -> Choice:
    try:
        options = tuple(json.loads(text))
    except (ValueError, RecursionError):
        raise MistakeError(
            "is no list of options; in TOML a list needs no quotes", '["a", "b"]'
        ) from None
    check_options(options)
    return Choice(options)


def _draft(match: re.Match[str]) -> tuple[Draft, list[str]]:
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
    return Draft("int" in known, "log" in known, low, high, step), whys


def _range(draft: Draft) -> Dimension:
    if draft.whole:
        step = None if draft.step is None else int(draft.step)
        return IntRange(int(draft.low), int(draft.high), draft.log, step)
    return FloatRange(draft.low, draft.high, draft.log, draft.step)


def _table(key: str, value: Mapping[str, Any]) -> MistakeError:
    """A table where a value belongs: {low = 1, high = 9}, or a dotted name without quotes."""
    low, high = (value.get("low", value.get("min")), value.get("high", value.get("max")))
    if low is not None and high is not None:
        whole = all(isinstance(x, int) for x in (low, high))
        try:
            draft = Draft(whole, bool(value.get("log")), finite(low), finite(high), None)
        except ValueError:
            draft = Draft(False, False, 0.1, 1, None)
        draft.mend()
        return MistakeError('a range is a text, "LOW..HIGH"', draft.line())
    inner = next(iter(value), "name")
    why = "is a table; a name with a dot in it needs quotes"
    return MistakeError(why, f"{json.dumps(f'{key}.{inner}')} = {as_toml(value.get(inner, 1))}")
