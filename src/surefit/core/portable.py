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
            and infinities become missing), "category" or "text" (object: str or NaN), "date"; and
            "style" where numbers have a decimal comma, dates begin with the day, or texts are
            "true" and "false" in whatever spelling.

    Raises:
        KeyError: naming the columns that are missing.
    """
    missing = [c["name"] for c in columns if c["name"] not in frame.columns]
    if missing:
        raise KeyError(f"the input lacks the columns {missing}")
    data: dict[str, pd.Series] = {}
    for column in columns:
        values, style = frame[column["name"]], column.get("style", "")
        if column["kind"] == "number":
            data[column["name"]] = as_number(values, decimal_comma=style == "decimal comma")
        elif column["kind"] == "date":
            data[column["name"]] = as_date(values, day_first=style == "day first")
        else:
            text = as_text(values)
            data[column["name"]] = as_truth(text) if style == "true or false" else text
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


def as_number(values: pd.Series, *, decimal_comma: bool = False) -> pd.Series:
    """float64, missing as NaN; text may have a currency, a percent sign, thousands set apart."""
    if values.dtype != "float64":
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        if not pd.api.types.is_numeric_dtype(values):
            # 1.234 is a whole number beside a decimal comma, though it can be read as another
            odd = numbers.isna() & values.notna()
            if decimal_comma:
                odd = values.map(lambda v: isinstance(v, str)).astype("bool")
            amounts = as_amount(values[odd].astype(str), decimal_comma)
            numbers = numbers.where(~odd, amounts.fillna(numbers) if decimal_comma else amounts)
        values = numbers
    infinite = np.isinf(values.to_numpy())
    return values.mask(infinite) if infinite.any() else values


def as_amount(text: pd.Series, decimal_comma: bool) -> pd.Series:
    """Numbers as people write them, such as "$1,234.50", "12 %" or "(1.234,50 €)"; else NaN."""
    apart, point = ("[.']", ",") if decimal_comma else ("[,']", r"\.")
    signs = r"\s*(?:[$€£¥%]|USD|EUR|GBP|CHF)?\s*"
    digits = rf"(?:\d{{1,3}}(?:{apart}\d{{3}})+|\d+)(?:{point}\d+)?"
    good = text.str.fullmatch(rf"{signs}\(?{signs}[-+]?{signs}{digits}{signs}\)?{signs}")
    less = text.str.contains("(", regex=False) | text.str.contains("-", regex=False)
    bare = text.str.replace("[^0-9,.]", "", regex=True)
    bare = bare.str.replace("." if decimal_comma else ",", "", regex=False)
    numbers = pd.to_numeric(bare.str.replace(",", ".", regex=False), errors="coerce")
    signed: pd.Series = numbers.astype("float64") * np.where(less, -1.0, 1.0)
    return signed.where(good.fillna(False).astype("bool"))


def as_text(values: pd.Series) -> pd.Series:
    """object: str, or NaN where missing; whole floats lose their ".0", so 3 and 3.0 are one.

    Each value is spelled by itself, whatever stands beside it.
    """
    missing = values.isna()
    text = values.astype(str).astype(object)
    if pd.api.types.is_float_dtype(values):
        number = values.to_numpy(dtype="float64", na_value=np.nan)
        whole = (np.abs(number) < 2**53) & (np.trunc(number) == number)
        text[whole] = number[whole].astype("int64").astype(str)
    return text.where(~missing, np.nan)


def as_truth(text: pd.Series) -> pd.Series:
    """ "True" and "False" where texts say so, however it is written; others as they are."""
    spelled = text.str.strip().str.lower().map({"true": "True", "false": "False"})
    return spelled.fillna(text)


def as_date(values: pd.Series, *, day_first: bool = False) -> pd.Series:
    """datetime64[ns] without time zone (UTC where there was one); what is no date is missing.

    So are dates before 1678 and after 2261, such as 9999-12-31. A number is a date where it has
    eight digits, such as 20240131.
    """
    if pd.api.types.is_numeric_dtype(values):
        dates = pd.to_datetime(as_text(values), errors="coerce", format="%Y%m%d", utc=True)
    elif _is_date(values):
        zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
        dates = values if zoned else values.dt.tz_localize("UTC")
    else:
        dates = _read_dates(values, day_first=False)
        if day_first:  # pandas would turn the month and day of 2024-03-04 round too
            turned = ~values.astype(str).str.match(r"\s*\d{4}")
            dates = dates.where(~turned, _read_dates(values.where(turned), day_first=True))
    dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    low, high = pd.Timestamp.min.ceil("s"), pd.Timestamp.max.floor("s")
    kept: pd.Series = dates.where((dates >= low) & (dates <= high)).astype("datetime64[ns]")
    return kept


def _read_dates(values: pd.Series, *, day_first: bool) -> pd.Series:
    return pd.to_datetime(values, errors="coerce", format="mixed", utc=True, dayfirst=day_first)


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
