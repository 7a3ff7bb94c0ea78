"""A table as it came → columns that each hold one kind of value, or a refusal in one line."""

from __future__ import annotations

import datetime
import decimal
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from surefit.errors import DataError, did_you_mean
from surefit.results import Note
from surefit.sections import DataConfig

_SCALARS = (str, bool, int, float, np.generic, decimal.Decimal, datetime.date, datetime.datetime,
            pd.Timestamp, type(None), type(pd.NA), type(pd.NaT))  # fmt: skip


def checked(table: pd.DataFrame, config: DataConfig) -> tuple[pd.DataFrame, list[Note]]:
    """The table with named columns of plain values, and what was changed on the way.

    Raises:
        DataError: when it has no rows, doubled or empty names, lacks a column that the
            configuration names, or a column holds what is neither number, text, date nor boolean.
    """
    if table.shape[1] == 0:
        raise DataError("The table has no columns.")
    if len(table) == 0:
        raise DataError("The table has no rows.")
    table = table.set_axis(_names(table.columns), axis=1)
    _refuse_unknown(config, set(table.columns))
    if table.shape[1] < 2:
        raise DataError("The table has one column; a model needs a target and a feature.")
    notes: list[Note] = []
    changed = {}
    for name in table.columns:
        if name in config.drop:
            continue
        new = _plain(table[name], notes)
        if new is not None:
            changed[name] = new
    if changed:
        table = table.copy(deep=False)
        for name, values in changed.items():
            table[name] = values
    return table, notes


def _names(columns: Iterable[Any]) -> list[str]:
    names = ["/".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in columns]
    doubled = sorted(n for n, count in Counter(names).items() if count > 1)
    if doubled:
        raise DataError(f"Column names must be unique; doubled: {', '.join(doubled[:5])}.")
    if any(not n.strip() for n in names):
        where = [i + 1 for i, n in enumerate(names) if not n.strip()]
        raise DataError(f"Column {where[0]} has an empty name.", "give each column a name")
    return names


def _refuse_unknown(config: DataConfig, names: set[str]) -> None:
    wanted = {"target": config.target, "id": config.id, "group": config.group,
              "time": config.time, "weight": config.weight}  # fmt: skip
    named = [(f"data.{k}", v) for k, v in wanted.items() if v]
    named += [("data.drop", v) for v in config.drop] + [("data.types", v) for v in config.types]
    wrong = [f'{key} = "{v}": {_advice(v, names)}' for key, v in named if v not in names]
    if wrong:
        raise DataError("The table has no such column:\n" + "\n".join(f"  - {w}" for w in wrong))


def _advice(name: str, names: set[str]) -> str:
    if len(names) <= 40:
        return did_you_mean(name, names)
    known = did_you_mean(name, names)
    return known if known.startswith("did") else f"none of its {len(names):,} columns"


def _plain(values: pd.Series, notes: list[Note]) -> pd.Series | None:
    """The column as one kind of value; None where it is so already."""
    name, dtype = str(values.name), values.dtype
    types = pd.api.types
    if isinstance(dtype, pd.ArrowDtype):
        values = _from_arrow(values)
        again = _plain(values, notes)
        return again if again is not None else values
    if isinstance(dtype, pd.SparseDtype):
        return pd.Series(np.asarray(values), index=values.index, name=values.name)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _in_utc(values, notes)
    if isinstance(dtype, pd.PeriodDtype):
        return pd.Series(values.array.to_timestamp(), index=values.index, name=values.name)
    if isinstance(dtype, pd.IntervalDtype):
        return values.astype("str")
    if types.is_complex_dtype(dtype):
        raise DataError(f'The column "{name}" holds complex numbers.', _drop(name))
    if types.is_timedelta64_dtype(dtype):
        notes.append(Note(text=f"{name} holds durations: read as seconds"))
        return pd.Series(values.dt.total_seconds())
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories(values)
    return _objects(values, notes) if types.is_object_dtype(dtype) else None


def _from_arrow(values: pd.Series) -> pd.Series:
    """A column held by Arrow as pandas holds it; what it has no type for as Python objects."""
    import pyarrow as pa

    kind = values.dtype.pyarrow_dtype  # type: ignore[union-attr]
    array = pa.array(values.array)
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
    elif pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
    moved = array.to_pandas(date_as_object=False)
    return pd.Series(moved.array, index=values.index, name=values.name)


def seconds_of_day(time: datetime.time) -> float:
    """Since midnight."""
    return time.hour * 3600 + time.minute * 60 + time.second + time.microsecond / 1e6


def _categories(values: pd.Series) -> pd.Series | None:
    """Categories that are numbers stay what they are; texts are unpacked, others spelled out."""
    levels = values.cat.categories
    if pd.api.types.is_numeric_dtype(levels.dtype):
        return None
    spelled = pd.Series(levels.map(str)).astype("str")
    chosen = spelled.reindex(values.cat.codes)
    return pd.Series(chosen.array, index=values.index, name=values.name)


def _objects(values: pd.Series, notes: list[Note]) -> pd.Series | None:
    name = str(values.name)
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred == "time":
        notes.append(Note(text=f"{name} holds times of day: read as seconds since midnight"))
        return values.map(seconds_of_day, na_action="ignore").astype("float64")
    if inferred == "string":
        return _encodable(values, notes)
    if inferred in ("empty", "boolean"):
        return None
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        numbers = pd.to_numeric(values.map(float, na_action="ignore"), errors="coerce")
        notes.append(Note(text=f"{name} holds numbers as Python objects: read as number"))
        return numbers.astype("float64")
    if inferred in ("date", "datetime", "datetime64"):
        dates = pd.to_datetime(values, errors="coerce", utc=_mixed_zones(values))
        return _in_utc(dates, notes) if isinstance(dates.dtype, pd.DatetimeTZDtype) else dates
    odd = next((v for v in values if not isinstance(v, _SCALARS)), None)
    if odd is not None:
        raise DataError(
            f'The column "{name}" holds Python objects ({type(odd).__name__}), no plain values.',
            _drop(name),
        )
    notes.append(Note(text=f"{name} mixes {_mixture(values)}: read as text"))
    return values.map(str, na_action="ignore").astype("str")


def _encodable(values: pd.Series, notes: list[Note]) -> pd.Series | None:
    """Texts that no file can hold (lone surrogates) with these signs spelled out."""
    try:
        values.astype("str")
        return None
    except UnicodeError:
        notes.append(Note(text=f"{values.name} holds signs that are no Unicode: spelled out"))
        return values.map(_spelled_out, na_action="ignore").astype("str")


def _spelled_out(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _in_utc(values: pd.Series, notes: list[Note]) -> pd.Series:
    """Times without a zone, those of UTC."""
    zone = values.dtype.tz  # type: ignore[union-attr]
    notes.append(Note(text=f"{values.name} has times with a zone ({zone}): they are taken in UTC"))
    return pd.Series(values.dt.tz_convert("UTC").dt.tz_localize(None))


def _mixed_zones(values: pd.Series) -> bool:
    zones = {getattr(v, "tzinfo", None) for v in values.dropna()}
    return zones != {None}


def _mixture(values: pd.Series) -> str:
    counts = Counter(type(v).__name__ for v in values.dropna())
    return " and ".join(f"{name} ({n:,})" for name, n in counts.most_common(3))


def _drop(name: str) -> str:
    return f'data.drop = ["{name}"], or turn it into text or numbers'
