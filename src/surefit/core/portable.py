"""What a saved model needs besides its parts; the source of these functions travels inside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def coerce(frame: pd.DataFrame, columns: list[dict[str, str]]) -> pd.DataFrame:
    """The model's view of a raw frame: the given columns, in order, each as its kind says.

    Args:
        frame: rows as the user has them; further columns are ignored.
        columns: dicts with "name" and "kind": "number" (float64; text is parsed, what is no number
            and infinities become missing), "category" or "text" (object: str or NaN), "date".

    Raises:
        KeyError: naming the columns that are missing.
    """
    missing = [c["name"] for c in columns if c["name"] not in frame.columns]
    if missing:
        raise KeyError(f"the input lacks the columns {missing}")
    read = {"number": as_number, "date": as_date, "category": as_text, "text": as_text}
    data = {c["name"]: read[c["kind"]](frame[c["name"]]) for c in columns}
    return pd.DataFrame(data, index=frame.index, copy=False)


def as_given(frame: pd.DataFrame, columns: list[dict[str, str]]) -> pd.DataFrame:
    """The user's own columns, in order, with one type each in training and in serving.

    Args:
        frame: rows as the user has them; further columns are ignored.
        columns: dicts with "name" and "dtype": "long" (int64; float64 where some are missing),
            "double", "boolean" (float64 where some are missing), "datetime", "string" (object).

    Raises:
        KeyError: naming the columns that are missing.
    """
    missing = [c["name"] for c in columns if c["name"] not in frame.columns]
    if missing:
        raise KeyError(f"the input lacks the columns {missing}")
    data: dict[str, pd.Series] = {}
    for column in columns:
        values, dtype = frame[column["name"]], column["dtype"]
        if dtype == "string":
            data[column["name"]] = as_text(values)
        elif dtype == "datetime":
            data[column["name"]] = as_date(values)
        else:
            whole: Any = {"long": "int64", "boolean": "bool"}.get(dtype, "float64")
            data[column["name"]] = values.astype("float64" if values.isna().any() else whole)
    return pd.DataFrame(data, index=frame.index)


def as_number(values: pd.Series) -> pd.Series:
    """float64, missing as NaN."""
    if values.dtype != "float64":
        values = pd.to_numeric(values, errors="coerce").astype("float64")
    infinite = np.isinf(values.to_numpy())
    return values.mask(infinite) if infinite.any() else values


def as_text(values: pd.Series) -> pd.Series:
    """object: str, or NaN where missing; whole floats lose their ".0", so 3 and 3.0 are one."""
    missing = values.isna()
    if pd.api.types.is_float_dtype(values):
        whole = (values.dropna() % 1 == 0).all()
        values = values.fillna(0).astype("int64") if whole else values
    text = values.astype(str).astype(object)
    return text.where(~missing, np.nan)


def as_date(values: pd.Series) -> pd.Series:
    """datetime64[ns] without time zone (UTC where there was one); what is no date is missing.

    So are dates before 1678 and after 2261, such as 9999-12-31.
    """
    if _is_date(values):
        zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
        dates = values if zoned else values.dt.tz_localize("UTC")
    else:
        dates = pd.to_datetime(values, errors="coerce", format="mixed", utc=True)
    dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    low, high = pd.Timestamp.min.ceil("s"), pd.Timestamp.max.floor("s")
    kept: pd.Series = dates.where((dates >= low) & (dates <= high)).astype("datetime64[ns]")
    return kept


def _is_date(values: pd.Series) -> bool:
    return bool(pd.api.types.is_datetime64_any_dtype(values))


def answer(raw: np.ndarray, classes: list[Any], threshold: float) -> pd.DataFrame:
    """A model's answer: `prediction`, and `probability_<class>` for each class.

    Args:
        raw: probabilities (n, K), or predicted values (n,) when `classes` is empty.
        classes: the labels as the user wrote them; of two, the second is the positive one.
        threshold: the positive class is predicted from this probability on (two classes only).
    """
    if not classes:
        return pd.DataFrame({"prediction": raw.astype("float64")})
    chosen = raw[:, 1] >= threshold if len(classes) == 2 else raw.argmax(axis=1)
    columns = {"prediction": np.asarray(classes)[chosen.astype("int64")]}
    columns |= {f"probability_{label}": raw[:, code] for code, label in enumerate(classes)}
    return pd.DataFrame(columns)
