"""A raw table into a Dataset: target, ids, features by kind, and what was inferred, in words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from surefit.config import DataConfig
from surefit.core.portable import as_date, coerce
from surefit.errors import DataError, did_you_mean
from surefit.results import Task

MAX_LEVELS = 40  # a text column with more distinct values is text, not a category
MAX_CLASSES = 200
_ID_NAME = re.compile(
    r"(^|[_\s-])(id|uuid|guid|key|index|rownum|row_?id)$|[a-z]I[dD]$", re.IGNORECASE
)
_NO_CELL = (bytes, bytearray, list, tuple, dict, set, frozenset, np.ndarray)
_DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[ -][A-Za-z]{3}[a-z]*[ -]\d{2,4}")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A feature: its name, its type as the user has it, and the kind the model sees."""

    name: str
    dtype: Literal["long", "double", "boolean", "string", "datetime"]
    kind: Literal["number", "category", "text", "date"]

    def to_dict(self) -> dict[str, str]:
        """Keys "name", "dtype", "kind"."""
        return {"name": self.name, "dtype": self.dtype, "kind": self.kind}


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something inferred, in words, with the line of TOML that overrides it."""

    text: str
    override: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows ready to be split and fitted.

    Attributes:
        raw: the feature columns as the user has them, one row each.
        frame: the same columns as the model sees them (`coerce`).
        y: class codes (int64, 0..K-1) or the target (float64).
        classes: the labels as the user wrote them, sorted, the positive one last; () in regression.
        row_id: the user's ids, or row numbers.
        unit: 64-bit identity of what must not straddle a split: the group, else the id, else the
            row's content, so that equal rows are one unit.
        row_key: 64-bit digest of each row's content.
        groups, time: codes of the group and the time of each row, where the user named a column.
        weight: how much each row counts, in fitting and in metrics, where the user named a column.
        digest: SHA-256 of every cell, the column names and the types.
    """

    task: Task
    raw: pd.DataFrame = field(repr=False)
    frame: pd.DataFrame = field(repr=False)
    columns: tuple[Column, ...]
    target: str
    y: np.ndarray = field(repr=False)
    classes: tuple[Any, ...]
    row_id: np.ndarray = field(repr=False)
    unit: np.ndarray = field(repr=False)
    row_key: np.ndarray = field(repr=False)
    groups: np.ndarray | None = field(repr=False)
    time: np.ndarray | None = field(repr=False)
    digest: str
    notes: tuple[Note, ...]
    weight: np.ndarray | None = field(default=None, repr=False)

    @property
    def n_rows(self) -> int:
        """Rows with a target."""
        return len(self.y)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as text, for column names such as `probability_Yes`."""
        return tuple(str(c) for c in self.classes)

    def describe(self) -> str:
        """One line, e.g. "7,043 rows, 19 features (16 category, 3 number), binary: Churn"."""
        kinds = [c.kind for c in self.columns]
        counts = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        what = f"{self.task}: {self.target}"
        if self.classes:
            what += (
                f" ({len(self.classes)} classes)"
                if len(self.classes) > 2
                else (f" ({' / '.join(self.class_names)})")
            )
        return f"{self.n_rows:,} rows, {len(self.columns)} features ({counts}), {what}"


def prepare(table: pd.DataFrame, config: DataConfig) -> Dataset:
    """A Dataset from a raw table; nothing is dropped, cast or chosen without a note.

    Raises:
        DataError: when the table cannot be used, saying what to change.
    """
    notes: list[Note] = []
    table = _without_objects(_checked(table, config), config, notes)
    labelled = table[config.target].notna().to_numpy()
    if not labelled.any():
        raise DataError(f'The target "{config.target}" is missing in every row.')
    if not labelled.all():
        lost = int((~labelled).sum())
        notes.append(Note(text=f"{lost:,} rows have no target and are left out"))
        table = table.loc[labelled]
    table = table.reset_index(drop=True)
    task, y, classes = _target(table[config.target], config, notes)
    row_id, features = _identity(table, config, notes)
    columns = _columns(table, features, config, notes)
    raw = table[[c.name for c in columns]]
    frame = coerce(raw, [c.to_dict() for c in columns])
    row_key = _hash(pd.concat([frame, table[config.target].astype(str).rename("\0target")], axis=1))
    groups = _codes(table, config.group)
    return Dataset(
        task=task, raw=raw, frame=frame, columns=columns, target=config.target, y=y,
        classes=classes, row_id=row_id, row_key=row_key, groups=groups,
        unit=_unit(table, config, row_key), time=_time(table, config.time),
        digest=_digest(table), notes=tuple(notes), weight=_weight(table, config.weight),
    )  # fmt: skip


def _checked(table: pd.DataFrame, config: DataConfig) -> pd.DataFrame:
    if len(table) == 0:
        raise DataError("The table has no rows.")
    names = [str(c) for c in table.columns]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise DataError(f"Column names must be unique; doubled: {', '.join(doubled)}.")
    table = table.set_axis(names, axis=1)
    wanted = {"target": config.target, "id": config.id, "group": config.group,
              "time": config.time, "weight": config.weight}  # fmt: skip
    named = [(f"data.{k}", v) for k, v in wanted.items() if v]
    named += [("data.drop", v) for v in config.drop] + [("data.types", v) for v in config.types]
    wrong = [f'{key} = "{v}": {did_you_mean(v, names)}' for key, v in named if v not in names]
    if wrong:
        raise DataError("The table has no such column:\n" + "\n".join(f"  - {w}" for w in wrong))
    if len(names) < 2:
        raise DataError("The table has one column; a model needs a target and a feature.")
    return table


def _without_objects(table: pd.DataFrame, config: DataConfig, notes: list[Note]) -> pd.DataFrame:
    """The table without the columns whose cells are no single values, such as lists or bytes."""
    named = {config.target, config.id, config.group, config.time, *config.types}
    for name in table.columns:
        if not pd.api.types.is_object_dtype(table[name]):
            continue
        kind = next((type(v).__name__ for v in table[name] if isinstance(v, _NO_CELL)), None)
        if kind and name in named:
            raise DataError(f"{name} holds a {kind} in a cell: text, numbers or dates are read.")
        if kind:
            notes.append(Note(text=f"{name} holds a {kind} in a cell: not a feature"))
            table = table.drop(columns=name)
    return table


def _target(
    values: pd.Series, config: DataConfig, notes: list[Note]
) -> tuple[Task, np.ndarray, tuple[Any, ...]]:
    task = config.task
    if pd.api.types.is_datetime64_any_dtype(values):
        raise DataError(
            f'The target "{config.target}" holds dates, which are neither classes nor numbers.',
            "make it a number, such as days since a fixed date",
        )
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    distinct = int(values.nunique())
    if task == "auto":
        whole = numeric and bool((values % 1 == 0).all())
        few = distinct <= 20 and distinct < max(3, len(values) * 0.05) and whole
        task = "classification" if few or distinct == 2 or not numeric else "regression"
        if numeric:
            other = "regression" if task == "classification" else "classification"
            notes.append(
                Note(
                    text=f"{config.target} has {distinct:,} distinct numbers: {task}",
                    override=f'data.task = "{other}"',
                )
            )
    if distinct < 2:
        raise DataError(
            f'The target "{config.target}" has one value only ({values.iloc[0]!r}); '
            "there is nothing to learn."
        )
    if task == "regression":
        return "regression", _real_target(values, config), ()
    return _class_target(values, config, distinct)


def _real_target(values: pd.Series, config: DataConfig) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce").astype("float64").to_numpy()
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        raise DataError(
            f'The target "{config.target}" must be a finite number for regression; '
            f"{int(wrong.sum()):,} rows are not, e.g. {values[wrong].iloc[0]!r}.",
            'data.task = "classification", or clean these rows',
        )
    return np.asarray(numbers)


def _class_target(
    values: pd.Series, config: DataConfig, distinct: int
) -> tuple[Task, np.ndarray, tuple[Any, ...]]:
    if distinct > MAX_CLASSES:
        raise DataError(
            f'The target "{config.target}" has {distinct:,} classes; at most {MAX_CLASSES} can be '
            "learned.",
            'data.task = "regression" if it is a number, else name the right column',
        )
    labels = [v.item() if hasattr(v, "item") else v for v in pd.unique(values)]
    try:
        labels.sort()
    except TypeError:
        labels.sort(key=lambda v: (type(v).__name__, str(v)))
    if config.positive is not None:
        if len(labels) != 2 or config.positive not in labels:
            raise DataError(
                f"data.positive = {config.positive!r} is not one of two classes; "
                f"the target has {labels[:5]!r}."
            )
        labels = sorted(labels, key=lambda v: v == config.positive)
    if len({str(v) for v in labels}) < len(labels):
        raise DataError(f"Two classes of the target read the same as text: {labels[:6]!r}.")
    codes = values.map({label: code for code, label in enumerate(labels)})
    task: Task = "binary" if len(labels) == 2 else "multiclass"
    return task, codes.to_numpy(dtype="int64"), tuple(labels)


def _identity(
    table: pd.DataFrame, config: DataConfig, notes: list[Note]
) -> tuple[np.ndarray, list[str]]:
    """Row ids, and the names of the columns that may be features."""
    out = {config.target, config.id, config.group, config.weight, *config.drop}
    features = [c for c in table.columns if c not in out]
    row_id = np.arange(len(table), dtype="int64")
    if config.id:
        row_id = _ids(table[config.id], config.id)
    for name in list(features):
        why = None if name in config.types or name == config.time else _id_like(table[name])
        if why:
            features.remove(name)
            notes.append(
                Note(text=f"{name} {why}: not a feature", override=_types_line(name, table[name]))
            )
            if (
                not config.id
                and row_id.dtype == "int64"
                and (row_id == np.arange(len(table))).all()
            ):
                row_id = _ids(table[name], name)
    return row_id, features


def _types_line(name: str, values: pd.Series) -> str:
    kind = "number" if pd.api.types.is_numeric_dtype(values) else "category"
    return f'data.types = {{ "{name}" = "{kind}" }}'


def _ids(values: pd.Series, name: str) -> np.ndarray:
    if values.isna().any() or values.duplicated().any():
        example = values[values.duplicated(keep=False) | values.isna()].iloc[0]
        raise DataError(
            f'data.id = "{name}" must name each row once; {example!r} does not.',
            f'use data.group = "{name}" when several rows belong to one thing',
        )
    if pd.api.types.is_integer_dtype(values):
        return values.to_numpy(dtype="int64")
    return values.astype(str).to_numpy(dtype=object)


def _id_like(values: pd.Series) -> str | None:
    n = len(values)
    if n < 20 or not values.is_unique or values.isna().any():
        return None
    if pd.api.types.is_integer_dtype(values):
        first = int(values.iloc[0])
        if first in (0, 1) and (values.to_numpy() == np.arange(first, first + n)).all():
            return "counts the rows"
        return "has another value in each row" if _ID_NAME.search(str(values.name)) else None
    if _is_text(values) and not values.astype(str).str.contains(r"\s").any():
        if pd.to_numeric(values, errors="coerce").notna().all() or _looks_like_dates(values):
            return None
        return "has another value in each row"
    return None


def _columns(
    table: pd.DataFrame, features: Sequence[str], config: DataConfig, notes: list[Note]
) -> tuple[Column, ...]:
    columns = []
    for name in features:
        values = table[name]
        if values.nunique() < 2 and name not in config.types:
            state = "is empty" if values.isna().all() else "has one value"
            notes.append(Note(text=f"{name} {state}: not a feature"))
            continue
        kind, note = _kind(values, config.types.get(name))
        if note:
            notes.append(note)
        columns.append(Column(name=name, dtype=_dtype(values), kind=kind))
    if not columns:
        raise DataError(
            "No column is left to learn from: each is empty, constant, an id or dropped."
        )
    return tuple(columns)


def _kind(values: pd.Series, chosen: Any) -> tuple[Any, Note | None]:
    if chosen:
        return chosen, None
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return "number", None
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date", None
    name, text = str(values.name), values.dropna().astype(str)
    filled = text[text.str.strip() != ""]
    if len(filled) and pd.to_numeric(filled, errors="coerce").notna().all():
        blank = f" ({len(text) - len(filled):,} blank)" if len(filled) < len(text) else ""
        return "number", Note(
            text=f"{name} holds numbers stored as text{blank}: read as number",
            override=f'data.types = {{ "{name}" = "category" }}',
        )
    if _looks_like_dates(values):
        return "date", Note(
            text=f"{name} holds dates stored as text: read as date",
            override=f'data.types = {{ "{name}" = "category" }}',
        )
    levels = int(text.nunique())
    if levels <= MAX_LEVELS:
        return "category", None
    return "text", Note(
        text=f"{name} has {levels:,} distinct texts: read as text",
        override=f'data.types = {{ "{name}" = "category" }}',
    )


def _looks_like_dates(values: pd.Series) -> bool:
    text = values.dropna().astype(str)
    sample = text.head(200)
    if len(sample) == 0 or not sample.str.match(_DATE_LIKE).all():
        return False
    return bool(as_date(text).notna().all())


def _is_text(values: pd.Series) -> bool:
    return bool(pd.api.types.is_string_dtype(values) or pd.api.types.is_object_dtype(values))


def _dtype(values: pd.Series) -> Any:
    if pd.api.types.is_bool_dtype(values):
        return "boolean"
    if pd.api.types.is_integer_dtype(values):
        return "long"
    if pd.api.types.is_float_dtype(values):
        return "double"
    return "datetime" if pd.api.types.is_datetime64_any_dtype(values) else "string"


def _codes(table: pd.DataFrame, name: str | None) -> np.ndarray | None:
    if not name:
        return None
    codes, _ = pd.factorize(table[name], use_na_sentinel=False)
    return np.asarray(codes, dtype="int64")


def _time(table: pd.DataFrame, name: str | None) -> np.ndarray | None:
    """Sortable int64 times; a date in nanoseconds, a number scaled so that order is kept."""
    if not name:
        return None
    values = table[name]
    if pd.api.types.is_numeric_dtype(values):
        order = values.astype("float64")
    else:
        order = as_date(values).astype("int64").where(as_date(values).notna()).astype("float64")
    if order.isna().any():
        raise DataError(
            f'data.time = "{name}" must be a date or a number in every row; '
            f"{int(order.isna().sum()):,} rows are not."
        )
    return np.unique(order, return_inverse=True)[1].astype("int64")


def _weight(table: pd.DataFrame, name: str | None) -> np.ndarray | None:
    if not name:
        return None
    weight = pd.to_numeric(table[name], errors="coerce").astype("float64").to_numpy()
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any() or not weight.any():
        raise DataError(
            f'data.weight = "{name}" must be a number from 0 up in every row, above 0 in some; '
            f"{int(wrong.sum()):,} rows are not."
        )
    return np.asarray(weight)


def _unit(table: pd.DataFrame, config: DataConfig, row_key: np.ndarray) -> np.ndarray:
    name = config.group or config.id
    return _hash(table[[name]].astype(str)) if name else row_key


def _hash(frame: pd.DataFrame) -> np.ndarray:
    return np.asarray(pd.util.hash_pandas_object(frame, index=False).to_numpy(dtype="uint64"))


def _digest(table: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for name in table.columns:
        digest.update(f"{name}\0{table[name].dtype}\0".encode())
    digest.update(_hash(table).tobytes())
    return digest.hexdigest()
