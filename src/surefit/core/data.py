"""A raw table into a Dataset: target, ids, features by kind, and what was inferred, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import copies, intake
from surefit.core.digest import digest, row_keys
from surefit.core.kinds import Column, columns_of, day_first, id_like, is_text, types_line
from surefit.core.portable import as_date, coerce
from surefit.errors import DataError
from surefit.results import Note, Task, plain
from surefit.sections import DataConfig
from surefit.wording import counted

MAX_CLASSES = 200


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows ready to be split and fitted.

    Attributes:
        raw: the feature columns as the user has them, one row each.
        frame: the same columns as the model sees them (`coerce`).
        y: class codes (int64, 0..K-1) or the target (float64).
        classes: the labels as the user wrote them, sorted, the positive one last; () in regression.
        row_id: the user's ids, or the rows' numbers in the table as it came.
        named: the column that `row_id` is of; None where rows are numbered.
        unlabelled: the ids of rows without a target, as text.
        unit: 64-bit identity of what must not straddle a split: the group, else the id, else the
            row's content, so that copies are one unit; `Split.unit` divides `usual` rows.
        row_key: 64 bits of each row's content, columns that only name the row left out.
        usual: which rows are of a kind too frequent to be copies (`copies.usual`).
        by_content: whether it is by its content that a row is known, not by an id or group.
        groups: codes of the group of each row, where the user named a column; a row that has no
            value there is a group of its own.
        time: nanoseconds since 1970, or the numbers as they are, where the user named a column.
        dated: whether `time` is of dates.
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
    named: str | None = None
    unlabelled: frozenset[str] = field(default=frozenset(), repr=False)
    weight: np.ndarray | None = field(default=None, repr=False)
    dated: bool = False

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
    whole = table
    if not labelled.all():
        lost = int((~labelled).sum())
        notes.append(Note(text=f"{lost:,} rows have no target and are left out"))
        table = table.loc[labelled]
        part = part[labelled] if part is not None else None
    if not (isinstance(table.index, pd.RangeIndex) and table.index.start == 0):
        table = table.reset_index(drop=True)
    task, y, classes = _target(table[config.target], config, notes)
    left_out: dict[str, str] = {}
    named, features = _identity(table, whole, config, no_features, left_out)
    row_id = _ids(table[named], named) if named else np.flatnonzero(labelled)
    unlabelled: frozenset[str] = frozenset()
    if not labelled.all():
        every = whole[named].astype(str) if named else map(str, range(len(whole)))
        unlabelled = frozenset(every) - frozenset(map(str, row_id))
    columns, more = columns_of(
        table, features, config.types, left_out, decimal_comma=config.decimal == ","
    )
    notes += [
        Note(text=f"{name} {why}: not a feature", override=types_line(name, table[name]))
        for name, why in left_out.items()
    ]
    notes += more
    raw = pd.DataFrame({c.name: table[c.name] for c in columns}, copy=False)
    frame = coerce(raw, [c.to_dict() for c in columns])
    identity = digest(table)
    naming = {c for c in table.columns if c != config.target and _names_rows(c, table, whole)}
    naming |= {config.id} if config.id else set()
    row_key = row_keys(table.drop(columns=list(naming))) if naming else identity.row_keys
    groups, unit = _groups(table, config, row_key, notes)
    time, dated = _time(table, config)
    return Dataset(
        task=task, raw=raw, frame=frame, columns=columns, target=config.target, y=y,
        classes=classes, row_id=row_id, row_key=row_key, groups=groups,
        unit=unit, by_content=not (config.group or config.id),
        usual=_usual(table.drop(columns=list(naming)), config.target, row_key, part),
        time=time, dated=dated, part=part,
        left_out=left_out, named=named, unlabelled=unlabelled,
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
    for label in sorted(map(str, pd.unique(values))) if is_text(values) else ():
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
    if all(type(whole(v)) is int for v in labels):  # a gap has made floats of whole numbers
        labels = [whole(v) for v in labels]
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


def whole(label: Any) -> Any:
    """A label, as a whole number where it is a float that holds one: 1.0 is the class 1."""
    if not isinstance(label, float | np.floating):
        return label
    value = float(label)
    return int(value) if value.is_integer() and abs(value) < 2**53 else label


def _names_rows(name: str, table: pd.DataFrame, whole: pd.DataFrame) -> str | None:
    """Why a column only names the row, or would if rows without a target were there."""
    return id_like(table[name]) or (id_like(whole[name]) if len(whole) > len(table) else None)


def _identity(
    table: pd.DataFrame, whole: pd.DataFrame, config: DataConfig, no_features: Sequence[str],
    left_out: dict[str, str],
) -> tuple[str | None, list[str]]:  # fmt: skip
    """The column that names the rows, if one does, and those that may be features."""
    out = {
        config.target, config.id, config.group, config.weight, *config.drop, *no_features
    }  # fmt: skip
    features = [c for c in table.columns if c not in out]
    named = config.id
    for name in list(features):
        chosen = name in config.types or name == config.time
        why = None if chosen else _names_rows(name, table, whole)
        if why:
            features.remove(name)
            left_out[name] = why
            if named is None or (named != config.id and _from_zero(whole[named])):
                named = name
    return named, features


def _from_zero(values: pd.Series) -> bool:
    """Whether it only counts the rows: another name says more."""
    numbers = pd.api.types.is_integer_dtype(values)
    return bool(numbers and (values.to_numpy() == np.arange(len(values))).all())


def _ids(values: pd.Series, name: str) -> np.ndarray:
    if values.isna().any() or values.duplicated().any():
        wrong = values.duplicated(keep=False) | values.isna()
        example = "an empty one" if values.isna().any() else repr(values[wrong].tolist()[0])
        if pd.api.types.is_float_dtype(values) and values.abs().max() > 2**53:
            raise DataError(
                f'data.id = "{name}" holds numbers of more digits than a number keeps.',
                "write them as text in the file, e.g. with a letter before",
            )
        raise DataError(
            f'data.id = "{name}" must name each row once; {example} does not '
            f"({int(wrong.sum()):,} rows).",
            f'use data.group = "{name}" when several rows belong to one thing',
        )
    if pd.api.types.is_integer_dtype(values) and values.max() < 2**63:
        return values.to_numpy(dtype="int64")
    return values.astype(str).to_numpy(dtype=object)


def _groups(
    table: pd.DataFrame, config: DataConfig, row_key: np.ndarray, notes: list[Note]
) -> tuple[np.ndarray | None, np.ndarray]:
    """(codes of the groups, `Dataset.unit`); each row without a group is one of its own."""
    own, name = row_keys(table[[config.id]]) if config.id else row_key, config.group
    if not name:
        return None, own
    codes, levels = pd.factorize(table[name])
    groups, unit, alone = codes.astype("int64"), row_keys(table[[name]]), codes < 0
    if alone.all():
        raise DataError(f'data.group = "{name}" is missing in every row.', "leave data.group out")
    if alone.any():
        groups[alone] = len(levels) + np.arange(alone.sum())
        unit = np.where(alone, copies.apart(own), unit)
        told = f'{counted(int(alone.sum()), "row")} without a value of data.group = "{name}"'
        notes.append(Note(text=f"{told}: each a group of its own"))
    return groups, unit


def _time(table: pd.DataFrame, config: DataConfig) -> tuple[np.ndarray | None, bool]:
    """Dates in nanoseconds (int64), numbers as they are; and whether they are dates."""
    name = config.time
    if not name:
        return None, False
    values = table[name]
    dated = not pd.api.types.is_numeric_dtype(values)
    if not dated:
        missing = values.isna().to_numpy()
        found = values.fillna(0).to_numpy()
    else:
        chosen = config.types.get(name)
        first = chosen == "day-first date" or (chosen is None and is_text(values)
                                               and day_first(values)[0])  # fmt: skip
        dates = as_date(values, day_first=first)
        missing, found = dates.isna().to_numpy(), dates.to_numpy().astype("int64")
    if missing.any():
        raise DataError(
            f'data.time = "{name}" must be a date or a number in every row; '
            f"{int(missing.sum()):,} rows are not, e.g. {plain(values[missing].iloc[0])!r}.",
            "name the column of the time, clean these rows, or leave data.time out",
        )
    return np.asarray(found), dated


def _weight(table: pd.DataFrame, name: str | None) -> np.ndarray | None:
    if not name:
        return None
    weight = pd.to_numeric(table[name], errors="coerce").astype("float64").to_numpy()
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any() or not weight.any():
        told = f"{int(wrong.sum()):,} rows are not" if wrong.any() else "all are 0"
        raise DataError(
            f'data.weight = "{name}" must be a number from 0 up in every row, above 0 in some; '
            f"{told}."
        )
    return np.asarray(weight)


def _usual(
    table: pd.DataFrame, target: str, row_key: np.ndarray, part: np.ndarray | None
) -> np.ndarray:
    """Judged by the rows that are no given test rows."""
    counted = np.ones(len(table), dtype=bool) if part is None else np.asarray(part != "test")
    return copies.usual(row_key, table, target, counted)
