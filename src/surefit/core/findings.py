"""What `surefit check` may find: a code, plain words, the evidence, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from surefit.core.baseline import best_feature, constant_value
from surefit.core.data import Dataset
from surefit.core.digest import row_keys
from surefit.core.metrics import Metric
from surefit.core.split import Split
from surefit.core.strength import Target, cells, correlation, explained, predicted

Severity = Literal["serious", "warning", "note"]
MOST_ROWS = 50_000  # rows on which columns are judged; more are sampled

# Code → what it is about; public, documented in docs/check.md.
CODES = {
    "LEAK01": "one column tells the target",
    "LEAK02": "two columns together tell the target",
    "LEAK03": "whether a value is there tells the target",
    "LEAK04": "known only after the fact",
    "GROUP01": "rows of one group on both sides of a split",
    "TIME01": "rows have a time, and the split ignores it",
    "DUP01": "equal rows on both sides of a split",
    "ID01": "a column that only names the row",
    "COL01": "a constant or empty column",
    "COL02": "numbers and texts in one column",
    "COL03": "a column that repeats another",
    "CAT01": "levels that training rows do not have",
    "NOISE01": "equal rows with other targets",
    "CLASS01": "a class too small for the folds",
    "DRIFT01": "test rows differ from training rows",
    "OUT01": "targets far from all others",
}


ECHOES = ("LEAK01", "CAT01", "COL02", "DRIFT01")  # of a column that is a serious finding anyway


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something to look at before a model is trained.

    Attributes:
        severity: "serious" blocks promotion unless waived; "warning" and "note" do not.
        columns: what it is about; () for the rows as a whole.
        evidence: the numbers it rests on.
        advice: what to do; a line of TOML where one does it.
        waived: the reason given in `[check] waive`, or "".
    """

    code: str
    severity: Severity
    columns: tuple[str, ...]
    words: str
    evidence: Mapping[str, Any]
    advice: str
    waived: str = ""

    @property
    def key(self) -> str:
        """By which it is waived: the code, with the columns where there are some."""
        return f"{self.code}:{','.join(self.columns)}" if self.columns else self.code

    @property
    def blocks(self) -> bool:
        """Whether it stops a promotion."""
        return self.severity == "serious" and not self.waived


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a check may look at: features of all rows, targets of the training rows only.

    Attributes:
        train, test: features as the model sees them.
        raw: the training rows' features as the user has them.
        key, test_key: 64 bits of each row's features, equal for equal rows.
        at, test_at: the numbers of these rows in the data.
        target: the training rows' target.
        alone: the share of the target that each column explains by itself.
    """

    data: Dataset = field(repr=False)
    split: Split = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    raw: pd.DataFrame = field(repr=False)
    key: np.ndarray = field(repr=False)
    test_key: np.ndarray = field(repr=False)
    at: np.ndarray = field(repr=False)
    test_at: np.ndarray = field(repr=False)
    block: np.ndarray = field(repr=False)
    target: Target = field(repr=False)
    alone: dict[str, float] = field(repr=False)
    baseline: float
    best_column: str
    best_score: float

    @property
    def n_classes(self) -> int:
        """K; 0 in regression."""
        return self.target.n_classes


def rows_of(data: Dataset, split: Split, metric: Metric) -> Rows:
    """The rows a check looks at, a sample where they are many, each column judged by itself."""
    rng = np.random.default_rng(0)
    rows, sealed = (_sample(r, rng) for r in (split.train_rows, split.test_rows))
    train = data.frame.iloc[rows].reset_index(drop=True)
    target = Target.of(data.y[rows], len(data.classes), unit=split.unit[rows])
    alone = {}
    for name in train.columns:
        answer = predicted(cells(train[name]), target)
        alone[name] = explained(answer, target)
        if pd.api.types.is_float_dtype(train[name].dtype):
            alone[name] = max(alone[name], correlation(train[name].to_numpy(), target))
    best = best_feature(metric, data, split)
    test = data.frame.iloc[sealed].reset_index(drop=True)
    return Rows(
        data=data, split=split, train=train, test=test, target=target, alone=alone,
        key=row_keys(train), test_key=row_keys(test), at=rows, test_at=sealed,
        raw=data.raw.iloc[rows].reset_index(drop=True), block=split.block[rows],
        baseline=constant_value(metric, data, split),
        best_column=best.column if best else "", best_score=best.value if best else math.nan,
    )  # fmt: skip


def _sample(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= MOST_ROWS else np.sort(rng.choice(rows, MOST_ROWS, replace=False))


def without_echoes(found: Iterable[Finding]) -> list[Finding]:
    """The findings, less those that only say again what a serious one says of the same column."""
    told = list(found)
    known = {c for f in told if f.severity == "serious" for c in f.columns}
    return [
        f for f in told
        if f.severity == "serious" or f.code not in ECHOES or not known.issuperset(f.columns)
    ]  # fmt: skip


def waive(found: Iterable[Finding], reasons: Mapping[str, str]) -> tuple[list[Finding], list[str]]:
    """The findings with their reasons, worst first; and the waived keys that nothing was found for.

    A key is a code ("LEAK01"), or a code and columns ("LEAK01:boat").
    """
    order: list[Severity] = ["serious", "warning", "note"]
    told = [replace(f, waived=reasons.get(f.key, reasons.get(f.code, ""))) for f in found]
    used = {key for f in told for key in (f.key, f.code)}
    told.sort(key=lambda f: (bool(f.waived), order.index(f.severity), f.code, f.columns))
    return told, [key for key in reasons if key not in used]
