"""Identity of a table: SHA-256 of every cell and the schema, and 64 bits a row.

Values count, not how they are held: 3 in a column of integers and 3.0 in one of floats are the
same row to `row_keys`, so that a missing value in an appended row changes no other row. The schema
in `ordered` and `unordered` is the kind of each column (integer, number, text, …), so that a Polars
frame and a pandas frame of the same cells agree.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

CHUNK = 1 << 15  # rows at a time: what is worked on stays in the processor's cache
_MISSING = np.uint64(0x9AE16A3B2F90404F)
_BIG = np.uint64(0xC949D7C7509E6557)  # marks integers that a float cannot hold
_LONGEST = 1 << 14  # characters of a text that have a multiplier of their own


@dataclass(frozen=True, kw_only=True)
class Digests:
    """SHA-256 (hex) of a table, its rows in this order, and in any order; 64 bits of each row."""

    ordered: str
    unordered: str
    row_keys: np.ndarray


def digest(table: pd.DataFrame) -> Digests:
    """Both digests and the row keys.

    `ordered` is SHA-256 over the bytes of all cells, column by column. `unordered` is SHA-256 over
    the sorted row keys: proof against accidents (two tables that differ in one number always
    differ, in one text but for odds of 2^-64), not against somebody who looks for a collision.
    """
    kinds = [(str(name), kind_of(table.iloc[:, i])) for i, name in enumerate(table.columns)]
    schema = "\n".join(f"{name!r} {kind}" for name, kind in kinds) + f"\n{len(table)}"
    keys, parts = _read_cells(table)
    ordered = hashlib.sha256(_text_bytes(schema))
    for part in parts:
        ordered.update(part)
    unordered = hashlib.sha256(_text_bytes("\n".join(sorted(schema.split("\n")))))
    unordered.update(np.sort(keys).tobytes())
    return Digests(ordered=ordered.hexdigest(), unordered=unordered.hexdigest(), row_keys=keys)


def row_keys(table: pd.DataFrame) -> np.ndarray:
    """(n,) uint64: equal for rows of equal cells, whatever the order of the columns.

    The sum over columns of a bijection of the cell and the column's name, so that one changed
    number always changes the row's key.
    """
    return _read_cells(table)[0]


class ColumnDigests:
    """A digest of each column's cells in their order, of a table that comes in batches.

    Cells count for what they say: 7 and the text 007 are one, as are true and True, and numbers
    count to the seven digits of a float32. So a table says the same in a CSV and a Parquet file.
    """

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def add(self, rows: pd.DataFrame) -> None:
        """The next rows, with the columns of the first."""
        for place, name in enumerate(map(str, rows.columns)):
            said = _said(rows.iloc[:, place])
            self._found.setdefault(name, hashlib.sha256()).update(row_keys(said).tobytes())

    def to_dict(self) -> dict[str, str]:
        """Column → 64 bits in hexadecimal."""
        return {name: found.hexdigest()[:16] for name, found in self._found.items()}


def _said(values: pd.Series) -> pd.DataFrame:
    """What cells say, as a column of numbers and one of other texts."""
    kind = kind_of(values)
    if kind in ("date", "duration"):
        return values.to_frame("date")
    text = None
    if kind in ("text", "boolean"):
        text = values.astype(object).astype(str).str.strip().str.lower().where(values.notna())
        numbers = pd.to_numeric(text, errors="coerce")
        text = text.where(numbers.isna())
    else:
        numbers = values
    with np.errstate(over="ignore"):
        rounded = numbers.to_numpy("float64", na_value=np.nan).astype("float32")
    return pd.DataFrame({"number": rounded, "text": text}, index=values.index)


def _read_cells(table: pd.DataFrame) -> tuple[np.ndarray, list[bytes]]:
    """The row keys, and SHA-256 of each column's cells, in one pass over the cells."""
    total = np.zeros(len(table), dtype="uint64")
    adding = threading.Lock()

    def column(i: int) -> bytes:
        values = table.iloc[:, i]
        name = hashlib.sha256(_text_bytes(str(table.columns[i]))).digest()
        salt = np.frombuffer(name[:8], "uint64")[0]
        if kind_of(values) == "text":
            array = _arrow_text(values)
            sha, found = _text_sha(array), _text_codes(array)
        else:
            sha, found = hashlib.sha256(), _number_codes(values)
        for start, codes in found:
            if kind_of(values) != "text":
                sha.update(codes)
            mixed_codes = mixed(codes ^ salt)
            with adding:
                total[start : start + len(codes)] += mixed_codes
        return bytes(sha.digest())

    with ThreadPoolExecutor(max(1, min(4, table.shape[1]))) as pool:
        parts = list(pool.map(column, range(table.shape[1])))
    return mixed(total), parts


def mixed(x: np.ndarray) -> np.ndarray:
    """A bijection of 64 bits in which every bit moves every other.

    The finalizer of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
    generators"); changes nothing in place.
    """
    shifted = x >> np.uint64(30)
    x = x ^ shifted
    x *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(x, np.uint64(27), out=shifted)
    x ^= shifted
    x *= np.uint64(0x94D049BB133111EB)
    np.right_shift(x, np.uint64(31), out=shifted)
    x ^= shifted
    return x


def kind_of(values: pd.Series) -> str:
    """What a column holds: "integer", "number", "boolean", "date", "duration" or "text"."""
    types = pd.api.types
    if types.is_bool_dtype(values.dtype):
        return "boolean"
    if types.is_integer_dtype(values.dtype):
        return "integer"
    if types.is_float_dtype(values.dtype):
        whole_with_gaps = types.is_extension_array_dtype(values.dtype) and values.dtype.kind == "i"
        return "integer" if whole_with_gaps else "number"
    if types.is_datetime64_any_dtype(values.dtype):
        return "date"
    return "duration" if types.is_timedelta64_dtype(values.dtype) else "text"


# --- cells as 64 bits ---


def _number_codes(values: pd.Series) -> Iterator[tuple[int, np.ndarray]]:
    """The bits of the numbers as float64; of integers and times that do not fit, their own bits."""
    kind = kind_of(values)
    plain = isinstance(values.dtype, np.dtype) and values.dtype.kind == "f"
    for start in range(0, len(values), CHUNK):
        part = values.iloc[start : start + CHUNK]
        yield start, _float_bits(part.to_numpy()) if plain else _cell_bits(part, kind)


def _float_bits(cells: np.ndarray) -> np.ndarray:
    bits = (cells.astype("float64", copy=False) + 0.0).view("uint64")  # -0.0 and 0.0 are one value
    missing = np.isnan(cells)
    if missing.any():
        bits[missing] = _MISSING
    return bits


def _cell_bits(values: pd.Series, kind: str) -> np.ndarray:
    missing = values.isna().to_numpy() if values.hasnans else None
    if kind == "number" or (kind == "boolean" and missing is None):
        bits = (values.to_numpy(dtype="float64", na_value=np.nan) + 0.0).view("uint64")
    else:
        bits = _whole_bits(_whole(values, kind, missing))
    if missing is not None:
        bits[missing] = _MISSING
    return bits


def _whole(values: pd.Series, kind: str, missing: np.ndarray | None) -> np.ndarray:
    if kind == "date":
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            values = values.dt.tz_convert("UTC").dt.tz_localize(None)
        return values.to_numpy().astype("datetime64[us]").view("int64")
    if kind == "duration":
        return values.to_numpy().astype("timedelta64[us]").view("int64")
    empty: Any = False if kind == "boolean" else 0
    filled = values.fillna(empty) if missing is not None else values
    target = "uint64" if str(values.dtype).lower().startswith("uint64") else "int64"
    return filled.to_numpy(dtype=target)


def _whole_bits(whole: np.ndarray) -> np.ndarray:
    floats = whole.astype("float64")
    bits = (floats + 0.0).view("uint64").copy()
    big = (whole > 1 << 53) | (whole < -(1 << 53)) if whole.dtype == "int64" else whole > 1 << 53
    if big.any():
        bits[big] = whole[big].view("uint64") ^ _BIG
    return bits


def _text_codes(array: Any) -> Iterator[tuple[int, np.ndarray]]:
    if len(array) > 4096 and len(array.slice(0, 4096).unique()) < 1024:
        encoded = array.dictionary_encode()
        levels = _hashed_texts(encoded.dictionary)
        levels = np.append(levels, _MISSING)
        codes = encoded.indices.fill_null(len(levels) - 1).to_numpy(zero_copy_only=False)
        yield 0, levels[codes]
        return
    for start in range(0, len(array), CHUNK):
        part = array.slice(start, CHUNK)
        codes = _hashed_texts(part)
        if part.null_count:
            codes[part.is_null().to_numpy(zero_copy_only=False)] = _MISSING
        yield start, codes


def _arrow_text(values: pd.Series) -> Any:
    """The texts as one Arrow array; other things in the column as what Python calls them."""
    import pyarrow as pa

    if isinstance(values.dtype, pd.CategoricalDtype):
        if values.cat.categories.dtype.kind in "iu":  # a missing one has no integer to become
            values = values.cat.rename_categories([str(v) for v in values.cat.categories])
        values = values.astype(values.cat.categories.dtype)
        if kind_of(values) != "text":
            values = values.astype("str")
    try:
        array = pa.array(values, type=pa.large_string(), from_pandas=True)
    except (pa.ArrowException, TypeError, UnicodeError):
        texts = [None if _is_missing(v) else _spelled(v) for v in values]
        array = pa.array(texts, type=pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], type=pa.large_string())
    return array


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value


def _spelled(value: Any) -> str:
    text = value if isinstance(value, str) else f"\0{type(value).__name__}\0{value!r}"
    return text.encode("utf-8", "backslashreplace").decode()


def _offsets(array: Any) -> np.ndarray:
    buffer = np.frombuffer(array.buffers()[1], "int64")
    return buffer[array.offset : array.offset + len(array) + 1]


def _text_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _tables() -> tuple[np.ndarray, np.ndarray]:
    counter = np.arange(1, 257, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15)
    places = np.arange(1, _LONGEST + 1, dtype="uint64") * np.uint64(0xD1342543DE82EF95)
    return mixed(counter), mixed(places) | np.uint64(1)


_BYTE, _PLACE = _tables()


def _hashed_texts(array: Any) -> np.ndarray:
    """(n,) uint64: the sum of a random number for each byte times an odd one for its place.

    One changed byte always changes it; the texts too long for the table of places go to SHA-256.
    """
    if len(array) == 0:
        return np.zeros(0, dtype="uint64")
    offsets, data = _offsets(array), array.buffers()[2]
    total = int(offsets[-1] - offsets[0])
    length = np.diff(offsets)
    codes = length.astype("uint64") * np.uint64(0x9E3779B97F4A7C15)
    if total:
        raw = np.frombuffer(data, "uint8")[offsets[0] : offsets[-1]]
        start = offsets[:-1] - offsets[0]
        place = np.arange(total) - np.repeat(start, length)
        cells = _BYTE[raw] * _PLACE[np.minimum(place, _LONGEST - 1)]
        filled = length > 0
        codes[filled] += np.add.reduceat(cells, start[filled])
        for i in np.flatnonzero(length > _LONGEST):
            text = raw[start[i] : start[i] + length[i]].tobytes()
            codes[i] = np.frombuffer(hashlib.sha256(text).digest()[:8], "uint64")[0]
    return mixed(codes)


def _text_sha(array: Any) -> Any:
    """SHA-256 fed with a column of texts: which are missing, their lengths, their bytes."""
    found = hashlib.sha256()
    found.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
    if len(array):
        offsets, data = _offsets(array), array.buffers()[2]
        found.update(np.diff(offsets).data)
        if data is not None:
            found.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    return found
