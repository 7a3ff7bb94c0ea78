"""A raw table into a Dataset: target, ids, features by kind, and what was inferred, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from surefit.core import copies, intake
from surefit.core.digest import digest, row_keys
from surefit.core.portable import as_date, as_number, coerce
from surefit.errors import DataError
from surefit.results import Note, Task, plain
from surefit.sections import DataConfig

MAX_LEVELS = 40  # a text column with more distinct values is text, not a category
MANY_LEVELS = 200  # unless each has many rows
MAX_CLASSES = 200
_ID_NAME = re.compile(
    r"(^|[_\s-])(id|uuid|guid|key|index|rownum|row_?id)$|[a-z]I[dD]$", re.IGNORECASE
)
_NO_CELL = (bytes, bytearray, list, tuple, dict, set, frozenset, np.ndarray)
# Texts that stand for no number among numbers, however the table was read.
_NO_NUMBER = ("", "?", "-", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none")
_DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[ -][A-Za-z]{3}[a-z]*[ -]\d{2,4}")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A feature: its name, its type as the user has it, and the kind the model sees.

    Attributes:
        style: how its texts are read, where that is not as usual.
    """

    name: str
    dtype: Literal["long", "double", "boolean", "string", "datetime"]
    kind: Literal["number", "category", "text", "date"]
    style: Literal["", "decimal comma", "day first"] = ""

    def to_dict(self) -> dict[str, str]:
        """Keys "name", "dtype", "kind"; and "style" where there is one."""
        told = {"name": self.name, "dtype": self.dtype, "kind": self.kind}
        return told | ({"style": self.style} if self.style else {})


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
            row's content, so that copies are one unit; `Split.unit` divides `usual` rows.
        row_key: 64 bits of each row's content, columns that only name the row left out.
        usual: which rows are of a kind too frequent to be copies (`copies.usual`).
        by_content: whether it is by its content that a row is known, not by an id or group.
        groups: codes of the group of each row, where the user named a column.
        time: nanoseconds since 1970, or the numbers as they are, where the user named a column.
        weight: how much each row counts, in fitting and in metrics, where the user named a column.
        part: where the user says each row belongs: "test", "train", "valid", a fold's number as
            text, or "" (nowhere); None where the split is ours to make.
        digest: SHA-256 of every cell, the column names and their kinds, the rows in this order.
        unordered: the same, the rows in any order.
        left_out: columns that are no features because of what they hold, and why.
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
    usual: np.ndarray = field(repr=False)
    by_content: bool
    groups: np.ndarray | None = field(repr=False)
    time: np.ndarray | None = field(repr=False)
    part: np.ndarray | None = field(repr=False)
    digest: str
    unordered: str
    left_out: dict[str, str] = field(repr=False)
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


def prepare(
    table: pd.DataFrame,
    config: DataConfig,
    *,
    part: np.ndarray | None = None,
    no_features: Sequence[str] = (),
) -> Dataset:
    """A Dataset from a raw table; nothing is dropped, cast or chosen without a note.

    Args:
        table: rows as the user has them.
        part: (n,) where each row belongs, as `Dataset.part`, where the user says so.
        no_features: columns with a meaning of their own, such as `split.column`.

    Raises:
        DataError: when the table cannot be used, saying what to change.
    """
    table, notes = intake.checked(table, config)
    labelled = table[config.target].notna().to_numpy()
    if not labelled.any():
        raise DataError(f'The target "{config.target}" is missing in every row.')
    if not labelled.all():
        lost = int((~labelled).sum())
        notes.append(Note(text=f"{lost:,} rows have no target and are left out"))
        table = table.loc[labelled]
        part = part[labelled] if part is not None else None
    if not (isinstance(table.index, pd.RangeIndex) and table.index.start == 0):
        table = table.reset_index(drop=True)
    task, y, classes = _target(table[config.target], config, notes)
    left_out: dict[str, str] = {}
    row_id, features = _identity(table, config, no_features, left_out)
    columns, more = _columns(table, features, config, left_out)
    notes += [
        Note(text=f"{name} {why}: not a feature", override=_types_line(name, table[name]))
        for name, why in left_out.items()
    ]
    notes += more
    raw = pd.DataFrame({c.name: table[c.name] for c in columns}, copy=False)
    frame = coerce(raw, [c.to_dict() for c in columns])
    identity = digest(table)
    naming = {c for c in table.columns if c != config.target and _id_like(table[c])}
    naming |= {config.id} if config.id else set()
    row_key = row_keys(table.drop(columns=list(naming))) if naming else identity.row_keys
    groups = _codes(table, config.group)
    return Dataset(
        task=task, raw=raw, frame=frame, columns=columns, target=config.target, y=y,
        classes=classes, row_id=row_id, row_key=row_key, groups=groups,
        unit=row_keys(table[[name]]) if (name := config.group or config.id) else row_key,
        by_content=not (config.group or config.id),
        usual=_usual(table.drop(columns=list(naming)), row_key, part),
        time=_time(table, config), part=part,
        left_out=left_out,
        digest=identity.ordered, unordered=identity.unordered, notes=tuple(notes),
        weight=_weight(table, config.weight),
    )  # fmt: skip


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
        if numeric and distinct <= MAX_CLASSES:
            other = "regression" if task == "classification" else "classification"
            notes.append(
                Note(
                    text=f"{config.target} has {distinct:,} distinct numbers: {task}",
                    override=f'data.task = "{other}"',
                )
            )
    elif task == "classification" and numeric and 20 < distinct <= MAX_CLASSES:
        notes.append(
            Note(
                text=f"{config.target} has {distinct:,} distinct numbers, each a class",
                override='data.task = "regression"',
            )
        )
    if distinct < 2:
        raise DataError(
            f'The target "{config.target}" has one value only ({plain(values.iloc[0])!r}); '
            "there is nothing to learn."
        )
    if task == "regression":
        return "regression", _real_target(values, config), ()
    notes += _alike(values, config)
    return _class_target(values, config, distinct)


def _alike(values: pd.Series, config: DataConfig) -> Iterator[Note]:
    """Classes that only blanks or the case of letters set apart: most often one class."""
    seen: dict[str, str] = {}
    for label in sorted(map(str, pd.unique(values))) if _is_text(values) else ():
        first = seen.setdefault(label.strip().casefold(), label)
        if first != label:
            yield Note(
                text=f"{config.target} has the classes {first!r} and {label!r}: one class, "
                "written in two ways?"
            )


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
    table: pd.DataFrame, config: DataConfig, no_features: Sequence[str], left_out: dict[str, str]
) -> tuple[np.ndarray, list[str]]:
    """Row ids, and the names of the columns that may be features."""
    out = {
        config.target, config.id, config.group, config.weight, *config.drop, *no_features
    }  # fmt: skip
    features = [c for c in table.columns if c not in out]
    row_id = np.arange(len(table), dtype="int64")
    if config.id:
        row_id = _ids(table[config.id], config.id)
    for name in list(features):
        why = None if name in config.types or name == config.time else _id_like(table[name])
        if why:
            features.remove(name)
            left_out[name] = why
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
        wrong = values.duplicated(keep=False) | values.isna()
        example = "an empty one" if values.isna().any() else repr(values[wrong].tolist()[0])
        raise DataError(
            f'data.id = "{name}" must name each row once; {example} does not '
            f"({int(wrong.sum()):,} rows).",
            f'use data.group = "{name}" when several rows belong to one thing',
        )
    if pd.api.types.is_integer_dtype(values):
        return values.to_numpy(dtype="int64")
    return values.astype(str).to_numpy(dtype=object)


def _id_like(values: pd.Series) -> str | None:
    n = len(values)
    if n < 20 or pd.api.types.is_float_dtype(values) or not _all_differ(values):
        return None
    if pd.api.types.is_integer_dtype(values):
        first = int(values.iloc[0])
        if first in (0, 1) and (values.to_numpy() == np.arange(first, first + n)).all():
            return "counts the rows"
        return "has another value in each row" if _ID_NAME.search(str(values.name)) else None
    if _is_text(values) and not values.astype(str).str.contains(r"\s").any():
        if _number_style(values) is not None or _looks_like_dates(values):
            return None
        return "has another value in each row"
    return None


def _all_differ(values: pd.Series) -> bool:
    """Whether no value repeats or is missing; the first rows mostly tell."""
    try:
        return bool(values.head(1000).is_unique and values.is_unique and not values.isna().any())
    except TypeError:  # lists or the like, in a column that is dropped
        return False


def _columns(
    table: pd.DataFrame, features: Sequence[str], config: DataConfig, left_out: dict[str, str]
) -> tuple[tuple[Column, ...], list[Note]]:
    columns, notes = [], []
    for name in features:
        values = table[name]
        if values.nunique() < 2 and name not in config.types:
            left_out[name] = "is empty" if values.isna().all() else "has one value"
            continue
        kind, style, note = _kind(values, config.types.get(name))
        if note:
            notes.append(note)
        columns.append(Column(name=name, dtype=_dtype(values), kind=kind, style=style))
    if not columns:
        raise DataError(
            "No column is left to learn from: each is empty, constant, an id or dropped."
        )
    return tuple(columns), notes


def _kind(values: pd.Series, chosen: Any) -> tuple[Any, Any, Note | None]:
    """(kind, style, what to tell) of a feature."""
    if chosen and chosen.endswith("date"):
        return "date", "day first" if chosen != "date" else "", None
    if chosen:
        return chosen, (_number_style(values) or "") if chosen == "number" else "", None
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return "number", "", None
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date", "", None
    name, as_category = str(values.name), f'data.types = {{ "{values.name}" = "category" }}'
    style = _number_style(values)
    if style is not None:
        told = f"{name} holds numbers stored as text{_blanks(values)}: read as number"
        return "number", style, Note(text=told + f", {style}" * bool(style), override=as_category)
    if _looks_like_dates(values):
        first, how, other = _day_first(values)
        text = f"{name} holds dates stored as text{how}: read as date"
        override = f'data.types = {{ "{name}" = "{other}" }}' if other else as_category
        return "date", "day first" if first else "", Note(text=text, override=override)
    levels = int(values.nunique())
    if levels <= most_levels(len(values)):
        return "category", "", None
    told = f"{name} has {levels:,} distinct texts: read as text"
    return "text", "", Note(text=told, override=as_category)


def most_levels(n_rows: int) -> int:
    """How many levels a category may have: 40, more where each has a hundred rows on average."""
    return max(MAX_LEVELS, min(MANY_LEVELS, n_rows // 100))


def _number_style(values: pd.Series) -> Any:
    """How a column of texts holds numbers: "" or "decimal comma"; None where it does not.

    Blanks and the usual tokens for missing do not count against it: what is left must be numbers.
    """
    if not _is_text(values):
        return None
    text = values.dropna().astype(str)
    stripped = text.str.strip()
    text = text[~stripped.isin(_NO_NUMBER)]
    for style in ("", "decimal comma") if len(text) else ():
        comma = style != ""
        if (
            as_number(text.head(200), decimal_comma=comma).notna().all()
            and as_number(text, decimal_comma=comma).notna().all()
        ):
            return style
    return None


def _blanks(values: pd.Series) -> str:
    """How many of a column's texts stand for a missing number, e.g. " (11 blank)"."""
    text = values.dropna().astype(str).str.strip()
    none = text[text.isin(_NO_NUMBER)]
    if not len(none):
        return ""
    blank = int((none == "").sum())
    told = [f"{blank:,} blank"] if blank else []
    told += [f'{n:,} "{v}"' for v, n in none[none != ""].value_counts().head(2).items()]
    return f" ({', '.join(told)})"


def _day_first(values: pd.Series) -> tuple[bool, str, str]:
    """(whether the day comes first, how to say so, the kind to override it with) of text dates.

    By the dates that can be read in one way only; where none tells, dots mean the day first.
    """
    parts = values.dropna().astype(str).str.extract(r"^\s*(\d{1,2})([-/.])(\d{1,2})[-/.]\d{2,4}")
    parts = parts.dropna()
    if not len(parts):
        return False, "", ""
    day, month = ((parts[k].astype("int64") > 12).any() for k in (0, 2))
    first = bool(day and not month) or bool(not day and not month and (parts[1] == ".").all())
    how, other = ("day", "date") if first else ("month", "day-first date")
    doubt = "" if day or month else " (none tells which)"
    return first, f", the {how} first{doubt}", other


def _looks_like_dates(values: pd.Series) -> bool:
    text = values.dropna().astype(str)
    sample = text.head(200)
    if len(sample) == 0 or not sample.str.match(_DATE_LIKE).all():
        return False
    return bool(as_date(text, day_first=_day_first(text)[0]).notna().all())


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


def _time(table: pd.DataFrame, config: DataConfig) -> np.ndarray | None:
    """A date in nanoseconds (int64), a number as it is."""
    name = config.time
    if not name:
        return None
    values = table[name]
    if pd.api.types.is_numeric_dtype(values):
        missing = values.isna().to_numpy()
        found = values.fillna(0).to_numpy()
    else:
        chosen = config.types.get(name)
        first = chosen == "day-first date" or (chosen is None and _is_text(values)
                                               and _day_first(values)[0])  # fmt: skip
        dates = as_date(values, day_first=first)
        missing, found = dates.isna().to_numpy(), dates.to_numpy().astype("int64")
    if missing.any():
        raise DataError(
            f'data.time = "{name}" must be a date or a number in every row; '
            f"{int(missing.sum()):,} rows are not, e.g. {plain(values[missing].iloc[0])!r}.",
            "name the column of the time, clean these rows, or leave data.time out",
        )
    return np.asarray(found)


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


def _usual(table: pd.DataFrame, row_key: np.ndarray, part: np.ndarray | None) -> np.ndarray:
    """Judged by the rows that are no given test rows."""
    counted = np.ones(len(table), dtype=bool) if part is None else np.asarray(part != "test")
    return copies.usual(row_key, table, counted)
