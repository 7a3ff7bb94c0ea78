"""What is wrong with a configuration, in words: the place, why, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from surefit.errors import ConfigError, did_you_mean


def not_toml(path: Path, text: str, said: str) -> ConfigError:
    """What is wrong with the file, the line itself, and for the common mistakes what to write."""
    place = re.search(r"at line (\d+)", said)
    lines = text.rstrip().splitlines() or [""]
    line = lines[int(place[1]) - 1 if place and int(place[1]) <= len(lines) else -1].strip()
    return ConfigError(f"{path} is not valid TOML: {said}.\n  {line}", _toml_fix(line, said))


def _toml_fix(line: str, said: str) -> str:
    """What to write instead of a line that is no TOML."""
    value = re.fullmatch(r"([\w.-]+)\s*=\s*([A-Za-z_][^\"'#\[\]{}=]*?)\s*(?:#.*)?", line)
    if "declare" in said:
        return "give each [section] once, and put all its keys under it"
    if "overwrite" in said:
        return "give each key once"
    if "\\" in line:
        return r"a path with \ stands in single quotes: path = 'C:\data\churn.csv'"
    if value and value[2].lower() in ("true", "false"):
        return f"{value[1]} = {value[2].lower()}"
    return f'{value[1]} = "{value[2]}"' if value else 'key = "text", key = 1, or key = ["a", "b"]'


def listed(
    errors: list[dict[str, Any]], tables: Mapping[str, Any], whole: type[BaseModel]
) -> list[str]:
    """One line a key; where a key takes several types, each says what it would have taken.

    Args:
        errors: as pydantic gives them.
        whole: the model that `tables` should have been of, for the names that there are.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for error in errors:
        place, said = _mistake(error, tables, whole)
        shown = "" if isinstance(error["input"], Mapping) else f" = {error['input']!r}"
        if error["type"] in ("extra_forbidden", "missing"):
            shown = ""
        found.setdefault(place, (shown, []))[1].append(said)
    return [f"{place}{shown}: {', or '.join(said)}" for place, (shown, said) in found.items()]


def _mistake(
    error: dict[str, Any], tables: Mapping[str, Any], whole: type[BaseModel]
) -> tuple[str, str]:
    """The dotted key of a mistake, and what is wrong with it."""
    place = _place(error["loc"], tables)
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        advice = did_you_mean(str(error["loc"][-1]), _known(error["loc"][:-1], whole))
        return place, f"there is no such key; {advice}"
    if kind == "missing":
        return place, "is required"
    if kind == "string_pattern_mismatch":
        message = "use letters, digits, '.', '_' and '-' only (at most 100)"
    return place, f"{message[:1].lower()}{message[1:]}"


def _place(loc: tuple[Any, ...], tables: Any) -> str:
    """The dotted key; what pydantic adds to it, to name a branch of a union, is left out."""
    parts = []
    for part in loc:
        if not isinstance(tables, Mapping | list):
            break
        parts.append(str(part))
        missing = isinstance(tables, Mapping) and part not in tables
        tables = None if missing else tables[part]
    return ".".join(parts)


def _known(place: tuple[Any, ...], section: type[BaseModel]) -> list[str]:
    for part in place:
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *get_args(annotation)]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(section.model_fields)
