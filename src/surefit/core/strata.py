"""Slices of rows that the gate watches: the values of a column, numbers by quarters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from surefit.core.kinds import Column
from surefit.errors import ConfigError, did_you_mean

TOO_FEW = 30  # rows under which a slice is listed as too small to tell
MOST = 50  # values of a column that are told apart; the rarer ones are one slice together


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A named part of the rows; `member` (n,) is True for its rows."""

    name: str
    member: np.ndarray = field(repr=False)

    @property
    def n_rows(self) -> int:
        """How many rows it has."""
        return int(self.member.sum())


def slices(frame: pd.DataFrame, columns: Sequence[Column], names: Sequence[str]) -> list[Slice]:
    """The slices of the named columns, over the rows of `frame` (the model's view of them).

    A category's values are slices, its 50 commonest by themselves; a number's quarters; a missing
    value is a slice of its own.

    Raises:
        ConfigError: when a name is no feature.
    """
    kinds = {c.name: c.kind for c in columns}
    found = []
    for name in names:
        if name not in kinds:
            raise ConfigError(f'gate.slices: "{name}" is no feature; {did_you_mean(name, kinds)}')
        labels = _labels(frame[name], kinds[name])
        for label in sorted(labels.unique()):
            member = (labels == label).to_numpy()
            found.append(Slice(name=f"{name} = {label}", member=member))
    return found


def _labels(values: pd.Series, kind: str) -> pd.Series:
    if kind in ("number", "date") and values.nunique() > 4:
        codes = pd.qcut(values, 4, duplicates="drop")
        return codes.astype(str).where(values.notna(), "missing")
    text = values.astype(str).where(values.notna(), "missing")
    common = text.value_counts().index[:MOST]
    return text.where(text.isin(common), "(the rarer values)")
