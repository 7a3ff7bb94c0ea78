"""What kind of feature each column is, told by its values, and which name rows instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from surefit.core.portable import as_date, as_number
from surefit.errors import DataError
from surefit.results import Note
from surefit.wording import counted

MAX_LEVELS = 40  # a text column with more distinct values is text, not a category
MANY_LEVELS = 200  # unless each has many rows
_ID_NAME = re.compile(  # no word that happens to end so, as paid, bid or valid
    r"(^|[_\s-])(id|uuid|guid|key|index|rownum)$|(?-i:[a-z]I[dD])$|"
    r"(^|[_\s-])(row|user|customer|client|order|patient|account|passenger|product|session)id$",
    re.IGNORECASE,
)
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
    style: Literal["", "decimal comma", "day first", "true or false"] = ""

    def to_dict(self) -> dict[str, str]:
        """Keys "name", "dtype", "kind"; and "style" where there is one."""
        told = {"name": self.name, "dtype": self.dtype, "kind": self.kind}
        return told | ({"style": self.style} if self.style else {})


def columns_of(
    table: pd.DataFrame,
    features: Sequence[str],
    types: Mapping[str, str],
    left_out: dict[str, str],
    *,
    decimal_comma: bool = False,
) -> tuple[tuple[Column, ...], list[Note]]:
    """The features with their kinds, and what was inferred; why others are none is put down.

    Args:
        types: kinds that were chosen.
        decimal_comma: whether numbers have one where a text can be read in both ways.

    Raises:
        DataError: when none is left, or one cannot be of the kind that was chosen.
    """
    columns, notes = [], []
    for name in features:
        values = table[name]
        if values.nunique() < 2 and name not in types:
            left_out[name] = "is empty" if values.isna().all() else "has one value"
            continue
        kind, style, note = _kind(values, types.get(name), decimal_comma)
        if note:
            notes.append(note)
        columns.append(Column(name=name, dtype=_dtype(values), kind=kind, style=style))
    if not columns:
        raise DataError(
            "No column is left to learn from: each is empty, constant, an id or dropped."
        )
    return tuple(columns), notes


def _kind(values: pd.Series, chosen: Any, comma: bool) -> tuple[Any, Any, Note | None]:
    """(kind, style, what to tell) of a feature."""
    truth = is_text(values) and pd.api.types.infer_dtype(values, skipna=True) == "boolean"
    if chosen:
        return _chosen(values, chosen, comma, truth)
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return "number", "", _infinite(values)
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date", "", None
    name, as_category = str(values.name), f'data.types = {{ "{values.name}" = "category" }}'
    if truth:  # with gaps; a file may spell them otherwise than pandas
        return "category", "true or false", None
    style = _number_style(values, comma)
    if style is not None:
        told = f"{name} holds numbers stored as text{_blanks(values)}: read as number"
        return "number", style, Note(text=told + f", {style}" * bool(style), override=as_category)
    if _looks_like_dates(values):
        first, how, other = day_first(values)
        text = f"{name} holds dates stored as text{how}: read as date"
        override = f'data.types = {{ "{name}" = "{other}" }}' if other else as_category
        return "date", "day first" if first else "", Note(text=text, override=override)
    levels = int(values.nunique())
    if levels <= most_levels(len(values)):
        return "category", "", None
    told = f"{name} has {levels:,} distinct texts: read as text"
    return "text", "", Note(text=told, override=as_category)


def _chosen(
    values: pd.Series, chosen: str, comma: bool, truth: bool
) -> tuple[Any, Any, Note | None]:
    """The same of a feature whose kind was chosen, and how much of it cannot be read so."""
    if chosen.endswith("date"):
        first = chosen != "date"
        unread = as_date(values, day_first=first).isna() & values.notna()
        told = _unread(values, unread, "dates", whole=not is_text(values))
        return "date", "day first" if first else "", told
    if chosen != "number":
        return chosen, "true or false" if truth else "", None
    if not is_text(values) or truth:
        return "number", "", None
    missed = {
        style: as_number(values, decimal_comma=style != "").isna() & values.notna()
        for style in _styles(comma)
    }
    style = min(missed, key=lambda s: int(missed[s].sum()))
    return "number", style, _unread(values, missed[style], "numbers")


def _unread(values: pd.Series, unread: pd.Series, what: str, *, whole: bool = False) -> Note | None:
    """What is taken as missing, since it is none of what was chosen; blanks and tokens are so.

    Raises:
        DataError: where `whole` says that nothing may be.
    """
    odd = values[unread & ~values.astype(str).str.strip().isin(_NO_NUMBER)]
    if not len(odd):
        return None
    count = len(odd)
    if whole:
        raise DataError(
            f'data.types says that "{values.name}" holds {what}, and {counted(count, "value")} '
            f"cannot be read as such, e.g. {odd.iloc[0]}.",
            "numbers are dates of eight digits, such as 20240131",
        )
    return Note(text=f"{values.name}: {counted(count, 'text')}, e.g. {str(odd.iloc[0])[:40]!r}, "
                     f"cannot be read as {what}: taken as missing")  # fmt: skip


def _infinite(values: pd.Series) -> Note | None:
    """A word on infinite numbers, which no model is given."""
    if not pd.api.types.is_float_dtype(values):
        return None
    n = int(np.isinf(values.to_numpy(dtype="float64", na_value=np.nan)).sum())
    told = f"{values.name} is infinite in {counted(n, 'row')}: taken as missing"
    return Note(text=told) if n else None


def most_levels(n_rows: int) -> int:
    """How many levels a category may have: 40, more where each has a hundred rows on average."""
    return max(MAX_LEVELS, min(MANY_LEVELS, n_rows // 100))


def _styles(comma: bool) -> tuple[str, ...]:
    return ("decimal comma", "") if comma else ("", "decimal comma")


def _number_style(values: pd.Series, comma: bool = False) -> Any:
    """How a column of texts holds numbers: "" or "decimal comma"; None where it does not.

    With `comma` it is one where both can be.

    Blanks and the usual tokens for missing do not count against it: what is left must be numbers.
    """
    if not is_text(values):
        return None
    text = values.dropna().astype(str)
    stripped = text.str.strip()
    text = text[~stripped.isin(_NO_NUMBER)]
    for style in _styles(comma) if len(text) else ():
        if all(
            as_number(part, decimal_comma=style != "").notna().all()
            for part in (text.head(200), text)
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


def day_first(values: pd.Series) -> tuple[bool, str, str]:
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
    return bool(as_date(text, day_first=day_first(text)[0]).notna().all())


def is_text(values: pd.Series) -> bool:
    """Whether it holds texts, or anything else that is no number and no date."""
    return bool(pd.api.types.is_string_dtype(values) or pd.api.types.is_object_dtype(values))


def _dtype(values: pd.Series) -> Any:
    if pd.api.types.is_bool_dtype(values):
        return "boolean"
    if pd.api.types.is_integer_dtype(values):
        return "long"
    if pd.api.types.is_float_dtype(values):
        return "double"
    return "datetime" if pd.api.types.is_datetime64_any_dtype(values) else "string"


def id_like(values: pd.Series) -> str | None:
    """Why a column only names its rows; None where it does not."""
    n = len(values)
    if n < 20 or pd.api.types.is_float_dtype(values) or not _all_differ(values):
        return None
    if pd.api.types.is_integer_dtype(values):
        first = int(values.iloc[0])
        if first in (0, 1) and (values.to_numpy() == np.arange(first, first + n)).all():
            return "counts the rows"
        return "differs in each row" if _ID_NAME.search(str(values.name)) else None
    if is_text(values) and not values.astype(str).str.contains(r"\s").any():
        if _number_style(values) is not None or _looks_like_dates(values):
            return None
        return "differs in each row"
    return None


def _all_differ(values: pd.Series) -> bool:
    """Whether no value repeats or is missing; the first rows mostly tell."""
    try:
        return bool(values.head(1000).is_unique and values.is_unique and not values.isna().any())
    except TypeError:  # lists or the like, in a column that is dropped
        return False


def types_line(name: str, values: pd.Series) -> str:
    """The line of the configuration that makes a feature of it all the same."""
    kind = "number" if pd.api.types.is_numeric_dtype(values) else "category"
    return f'data.types = {{ "{name}" = "{kind}" }}'
