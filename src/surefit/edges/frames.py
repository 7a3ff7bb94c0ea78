"""Tables that are in memory already: pandas, Polars, Arrow, whatever speaks Arrow's interface."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from surefit.errors import DataError

_NAMELESS = re.compile(r"__index_level_\d+__")


def is_table(value: Any) -> bool:
    """Whether `to_pandas` takes it: a frame of any library, not a path."""
    return isinstance(value, pd.DataFrame) or (
        not isinstance(value, str | bytes)
        and any(hasattr(value, name) for name in ("__arrow_c_stream__", "collect_schema"))
    )


def to_pandas(value: Any, *, what: str = "data") -> pd.DataFrame:
    """A pandas frame of the same cells; Arrow's buffers are shared where types allow.

    Raises:
        DataError: when it is no table.
    """
    if isinstance(value, pd.DataFrame):
        return value
    if hasattr(value, "collect_schema") and hasattr(value, "collect"):  # a lazy Polars frame
        value = value.collect()
    if hasattr(value, "__arrow_c_stream__"):
        import pyarrow as pa

        return from_arrow(pa.table(value))
    raise DataError(
        f"{what} gave {type(value).__name__}, which is no table.",
        "return a pandas, Polars or Arrow table",
    )


def _relabelled(column: Any, kind: Any) -> Any:
    """A dictionary-encoded column with its labels in another form of text."""
    import pyarrow as pa

    parts = [
        pa.DictionaryArray.from_arrays(c.indices, c.dictionary.cast(kind.value_type))
        for c in column.chunks
    ]
    return pa.chunked_array(parts, type=kind)


def from_arrow(table: Any) -> pd.DataFrame:
    """An Arrow table as pandas: dates as datetime64, categories as text, a named index as a column.

    An index without a name, which pandas stores where rows were filtered or sorted, is left out, as
    it is of a frame in memory: it is no column that anybody made.
    """
    import pyarrow as pa

    table = table.drop_columns([n for n in table.column_names if _NAMELESS.fullmatch(n)])
    repeated = {n for n in table.column_names if table.column_names.count(n) > 1}
    if repeated:
        raise DataError(f"Column names must be unique; doubled: {', '.join(sorted(repeated))}.")
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            kind = field.type.value_type
            if pa.types.is_string_view(kind):  # Polars' categories; Arrow has no such cast
                kind = pa.large_string()
                labels = pa.dictionary(field.type.index_type, kind)
                table = table.set_column(i, field.name, _relabelled(table.column(i), labels))
            table = table.set_column(i, field.name, table.column(i).cast(kind))
        elif pa.types.is_decimal(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.float64()))
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, ignore_metadata=True)
    return frame
