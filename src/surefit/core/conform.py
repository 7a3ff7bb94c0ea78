"""A raw frame made to meet a model's signature: columns compared, safe casts, each told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from surefit.core.intake import seconds_of_day
from surefit.core.portable import as_date, as_text
from surefit.errors import DataError, nearest
from surefit.results import InputColumn

MOST_LINES, MOST_NAMES = 5, 20  # of missing columns that are told one by one, or by name

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def conform(frame: pd.DataFrame, wanted: Sequence[InputColumn]) -> tuple[pd.DataFrame, list[str]]:
    """The wanted columns in order and type, and what was cast, in words.

    A cast changes no value: whole numbers become float64 and back, text that holds numbers or
    dates is read, durations and times of day are seconds as in training. Where a whole-number
    column has missing values it stays float64, which MLflow's own check would refuse.

    Raises:
        DataError: with every difference, when a column is missing or cannot be cast.
    """
    missing = [w.name for w in wanted if w.name not in frame.columns]
    wrong = _missing(missing, set(map(str, frame.columns)) - {w.name for w in wanted})
    columns, notes = {}, []
    for want in wanted:
        if want.name in missing:
            continue
        values = frame[want.name]
        try:
            columns[want.name] = _cast(values, want.type)
        except (TypeError, ValueError, OverflowError) as error:
            example = _example(values, want.type)
            wrong.append(f"{want.name} is {values.dtype}, the model wants {want.type}: "
                         f"{example or error}")  # fmt: skip
            continue
        if not _alike(columns[want.name].dtype, values.dtype):
            notes.append(f"{want.name}: {values.dtype} read as {columns[want.name].dtype}"
                         + _why(columns[want.name], want.type))  # fmt: skip
    if wrong:
        raise DataError("The input does not fit the model's signature:\n"
                        + "\n".join(f"  - {w}" for w in wrong))  # fmt: skip
    return pd.DataFrame(columns, index=frame.index), notes


def _missing(names: Sequence[str], there: set[str]) -> list[str]:
    """One line for each column that may be there by another name, and one for all others."""
    near = {name: nearest(name, there) for name in names}
    told = [f'{name} is missing; is it "{other}"?' for name, other in near.items() if other]
    lost = [name for name, other in near.items() if not other]
    if len(lost) <= MOST_LINES:
        return [*told, *(f"{name} is missing" for name in lost)]
    more = f" and {len(lost) - MOST_NAMES} more" if len(lost) > MOST_NAMES else ""
    return [*told, f"{len(lost)} columns are missing: {', '.join(lost[:MOST_NAMES])}{more}"]


def ignored(names: Sequence[str], wanted: Sequence[InputColumn]) -> list[str]:
    """The input's columns that the model does not ask for."""
    known = {w.name for w in wanted}
    return [n for n in names if n not in known]


def _alike(one: Any, other: Any) -> bool:
    """Whether two types say the same: text is text, and Int64 without gaps is int64."""
    text = [pd.api.types.is_string_dtype(t) or t == object for t in (one, other)]  # noqa: E721
    return all(text) or str(one).lower() == str(other).lower()


def _why(values: pd.Series, kind: str) -> str:
    whole = kind in ("long", "integer") and pd.api.types.is_float_dtype(values)
    return " (the signature says whole numbers; some are missing)" if whole else ""


def _cast(values: pd.Series, kind: str) -> pd.Series:
    if kind in ("double", "float"):
        numbers = pd.to_numeric(_plain(values))
        return numbers.astype("float64") if kind == "double" else numbers.astype("float32")
    if kind in ("long", "integer"):
        return _whole(pd.to_numeric(_plain(values)), "int64" if kind == "long" else "int32")
    if kind == "boolean":
        return _truth(values)
    if kind == "datetime":
        dates = as_date(values)
        if (dates.isna() & values.notna()).any():
            raise ValueError("some are no dates")
        return dates
    if kind == "string" and not pd.api.types.is_object_dtype(values):
        return as_text(values)
    return values


def _plain(values: pd.Series) -> pd.Series:
    """Blank text counts as missing, as in the model's own reading of numbers."""
    if pd.api.types.is_timedelta64_dtype(values):
        return pd.Series(values.dt.total_seconds())
    if pd.api.types.is_datetime64_any_dtype(values):
        raise ValueError("dates are no numbers")
    if values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) == "time":
        return values.map(seconds_of_day, na_action="ignore").astype("float64")
    if pd.api.types.is_string_dtype(values) or pd.api.types.is_object_dtype(values):
        text = values.astype(object)
        blank = text.map(lambda v: isinstance(v, str) and not v.strip()).astype("bool")
        return text.where(values.notna() & ~blank, np.nan)
    if pd.api.types.is_extension_array_dtype(values.dtype) and values.isna().any():
        return values.astype("float64")
    return values


def _whole(values: pd.Series, dtype: Literal["int64", "int32"]) -> pd.Series:
    if values.isna().any():
        floats = values.astype("float64")
        if (floats.dropna() % 1 != 0).any():
            raise ValueError("some have fractions")
        return floats
    cast = values.astype(dtype)
    if bool((cast != values).any()):
        raise ValueError("some have fractions or are too large")
    return cast


def _truth(values: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(values.dtype) and not values.isna().any():
        return values.astype("bool")
    read = values.astype(str).str.lower().map(_TRUTH)
    if (read.isna() & values.notna()).any():
        raise ValueError("some are neither true nor false")
    read = read.astype(object).where(values.notna(), None)
    return read.astype("bool") if not values.isna().any() else read


def _example(values: pd.Series, kind: str) -> str:
    """The first value that stands in the way."""
    for value in values.dropna().head(10_000):
        try:
            _cast(pd.Series([value]), kind)
        except (TypeError, ValueError, OverflowError):
            return f"e.g. {value!r}"
    return ""
