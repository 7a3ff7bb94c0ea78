"""What a run can record, as values: computing code yields these, `edges/runs.py` writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Param:
    """One parameter of a run; immutable once written."""

    key: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a run, at a step for curves."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One tag of a run."""

    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A frame stored as an artifact; Parquet or CSV by the path's ending."""

    path: str
    frame: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text stored as an artifact."""

    path: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture stored as `plots/<name>.png`, with its numbers as `plots/<name>.csv`."""

    name: str
    title: str
    png: bytes = field(repr=False)
    numbers: pd.DataFrame = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.png


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the user's, stored as it is.

    Attributes:
        source: where it is now.
    """

    path: str
    source: str


_REFUSED = re.compile(r"[^/\w.\- :]")  # MLflow takes no such character in a name


def safe_name(name: str) -> str:
    """A name as MLflow takes it: other characters become "_"."""
    return _REFUSED.sub("_", name)


def check_name(name: str) -> None:
    """Refuse a name that MLflow would refuse, where it is given.

    Raises:
        ValueError: with the character, and a name that would do.
    """
    if wrong := _REFUSED.search(name):
        raise ValueError(
            f'MLflow takes no "{wrong.group()}" in the name "{name}"; log it as "{safe_name(name)}"'
        )


Item = Param | Metric | Tag | Table | Text | Figure | File
