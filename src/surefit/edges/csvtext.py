"""Delimited text: its encoding, delimiter, decimal sign and missing tokens are found and told."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import itertools
import lzma
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from surefit.errors import DataError
from surefit.results import Note
from surefit.sections import DataConfig

HEAD = 200_000  # bytes in which the dialect is looked for
SEPARATORS = ",;\t|:~^ "
# What pandas reads as missing, but for "None": a kind of veneer, alley or discount more often.
TOKENS = ("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
          "<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null")  # fmt: skip
# Missing only in a column that else holds numbers.
AMONG_NUMBERS = ("?", "-", "--", ".", "..", "*", "x", "X", "missing", "Missing", "unknown",
                 "Unknown", "None", "none", "na", "#", "#VALUE!", "#REF!", "#DIV/0!")  # fmt: skip
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", ":": "colon", " ": "space"}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a text file is to be read.

    Attributes:
        skip: lines above the header that belong to no table: Excel's `sep=;`, comments.
    """

    encoding: str
    separator: str
    decimal: str
    skip: int = 0


def sniff(file: Path, config: DataConfig, shown: str) -> tuple[Dialect, list[Note]]:
    """The dialect of a file, what the configuration says going first.

    Raises:
        DataError: when it is no text, or not of that encoding.
    """
    notes: list[Note] = []
    encoding = config.encoding or _encoding(file, shown)
    lines = _first_lines(file, encoding)
    skip, said = _preamble(lines, config.separator)
    lines = lines[skip:]
    separator = config.separator or said or _separator(lines)
    if skip and not said:
        notes.append(
            Note(text=f"comments above the header are left out: {skip} line" + "s" * (skip > 1))
        )
    decimal = config.decimal or _decimal(lines, separator)
    if config.encoding is None and not encoding.startswith("utf-8"):
        notes.append(Note(text=f"read as {encoding}: it is not UTF-8",
                          override='data.encoding = "latin-1"'))  # fmt: skip
    if config.separator is None and separator != ",":
        named = _NAMES.get(separator, repr(separator))
        notes.append(Note(text=f"columns are separated by {named}",
                          override='data.separator = ","'))  # fmt: skip
    if config.decimal is None and decimal != ".":
        notes.append(Note(text="numbers have a decimal comma", override='data.decimal = "."'))
    return Dialect(encoding=encoding, separator=separator, decimal=decimal, skip=skip), notes


def read(file: Path, dialect: Dialect, shown: str) -> pd.DataFrame:
    """The table; only empty fields are missing yet, see `typed`.

    Raises:
        DataError: when a line has more or fewer fields than the header.
    """
    with unpacked(file) as stream, nothing_left_out(shown):
        try:
            frame: pd.DataFrame = pd.read_csv(
                stream, decimal=dialect.decimal, low_memory=False, keep_default_na=False,
                na_values=[""], **layout(dialect),
            )  # fmt: skip
        except UnicodeDecodeError:
            raise DataError(
                f"{shown} is not {dialect.encoding}.", 'data.encoding = "cp1252"'
            ) from None
        except pd.errors.EmptyDataError:
            raise DataError(f"{shown} is empty.") from None
        except pd.errors.ParserError as error:
            raise DataError(parse_failure(str(error), shown)) from None
    if len(frame) and frame.shape[1] > 1 and frame.iloc[:, -1].isna().any():
        refuse_short_lines(file, dialect, frame.shape[1], shown)
    return frame


def parse_failure(text: str, shown: str) -> str:
    """What pandas could not parse, in our words."""
    match = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", text)
    if match:
        wanted, line, seen = match.groups()
        return f"{shown}: line {line} has {seen} fields, the header {wanted}. Correct that line."
    if "EOF inside string" in text:
        return f"{shown}: a quotation mark is never closed."
    return f"{shown} cannot be read: {text.strip().splitlines()[0]}"


def layout(dialect: Dialect) -> dict[str, Any]:
    """How pandas is to divide a file into fields: options of its `read_csv`.

    No column is an index, so that a separator at the ends of lines does no harm.
    """
    return {"sep": dialect.separator, "encoding": dialect.encoding, "skiprows": dialect.skip,
            "skipinitialspace": dialect.separator == " ", "index_col": False}  # fmt: skip


def names(file: Path, dialect: Dialect) -> list[str]:
    """The names in the header, as pandas calls those that are there twice or empty."""
    with unpacked(file) as stream:
        return list(map(str, pd.read_csv(stream, nrows=0, **layout(dialect)).columns))


@contextlib.contextmanager
def nothing_left_out(shown: str) -> Iterator[None]:
    """Refuse what pandas only warns of: fields behind the last name of the header.

    Raises:
        DataError: saying so.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            yield
        except pd.errors.ParserWarning:
            raise DataError(
                f"{shown}: the lines have more fields than the header has names.",
                "name every column in the first line",
            ) from None


def refuse_short_lines(file: Path, dialect: Dialect, n_columns: int, shown: str) -> None:
    """pandas fills short lines with missing values, silently.

    Raises:
        DataError: naming the first of them.
    """
    with unpacked(file) as stream, io.TextIOWrapper(stream, dialect.encoding, newline="") as text:
        for number, line in enumerate(text, start=1):
            if number <= dialect.skip:
                continue
            if line.count(dialect.separator) == n_columns - 1 or not line.strip():
                continue
            if '"' in line or dialect.separator == " ":
                _count_quoted(file, dialect, n_columns, shown)
                return
            seen = line.count(dialect.separator) + 1
            if seen < n_columns:
                raise _short(shown, number, seen, n_columns)


def _count_quoted(file: Path, dialect: Dialect, n_columns: int, shown: str) -> None:
    with unpacked(file) as stream, io.TextIOWrapper(stream, dialect.encoding, newline="") as text:
        rows = csv.reader(
            text, delimiter=dialect.separator, skipinitialspace=dialect.separator == " "
        )
        for row in rows:
            if row and len(row) < n_columns and rows.line_num > dialect.skip:
                raise _short(shown, rows.line_num, len(row), n_columns)


def _short(shown: str, line: int, seen: int, wanted: int) -> DataError:
    return DataError(
        f"{shown}: line {line} has {seen} fields, the header {wanted}.", "correct that line"
    )


def cut_short(file: Path, separator: str) -> str:
    """The last value, where the text seems to end within it; "" where it does not.

    A text that was cut has no last line break, and a number that was cut is shorter than all
    others in its column. Judged by the last 64 kB, from 20 lines on.
    """
    with unpacked(file) as stream:
        tail: bytes = stream.read()[-65_536:]
    if tail.endswith((b"\n", b"\r")):
        return ""
    lines = tail.decode("utf-8", "replace").splitlines()[1:]
    last = [line.rpartition(separator)[2] for line in lines]
    if len(last) > 20 and 0 < len(last[-1]) < min(map(len, last[:-1])):
        return last[-1]
    return ""


# --- what kind of text it is ---


def unpacked(file: Path) -> Any:
    """The file's bytes, unpacked where it is packed, by its first bytes and not by its name."""
    with file.open("rb") as start:
        magic = start.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(file, "rb")
    if magic.startswith(b"BZh"):
        return bz2.open(file, "rb")
    if magic.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(file, "rb")
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(file)), "zstd")
    return file.open("rb")


def _encoding(file: Path, shown: str) -> str:
    with unpacked(file) as stream:
        head = stream.read(4)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return name
        return "utf-8" if _is_utf8(stream, head, shown) else "cp1252"


def _is_utf8(stream: IO[bytes], head: bytes, shown: str) -> bool:
    """Whether all of it is UTF-8; on the way NUL bytes are refused."""
    decoder, good, line, chunk = codecs.getincrementaldecoder("utf-8")(), True, 1, head
    while chunk:
        at = chunk.find(b"\0")
        if at >= 0:
            line += chunk.count(b"\n", 0, at)
            raise DataError(
                f"{shown} holds NUL bytes (first in line {line}): it is no plain text.",
                'data.encoding = "utf-16" if that is what it is, else clean the file',
            )
        line += chunk.count(b"\n")
        if good:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                good = False
        chunk = stream.read(1 << 20)
    if good:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            good = False
    return good


def _first_lines(file: Path, encoding: str) -> list[str]:
    with unpacked(file) as stream:
        head = stream.read(HEAD)
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head)
    lines = text.splitlines()
    whole = lines[:-1] if len(head) == HEAD and len(lines) > 1 else lines
    return [line for line in whole if line.strip()][:200]


def _preamble(lines: Sequence[str], separator: str | None) -> tuple[int, str | None]:
    """How many of the first lines are no table, and the separator that Excel's `sep=;` names.

    A line that starts with # is a comment where it has other fields than the line below the
    comments; else it is a header whose first name starts so.
    """
    said = re.fullmatch(r'"?sep=(.)"?', lines[0].strip("\r\n")) if lines else None
    if said:
        return 1, said[1]
    n_comments = len(list(itertools.takewhile(lambda line: line.startswith("#"), lines)))
    below = lines[n_comments:]
    if not n_comments or len(below) < 2:
        return 0, None
    found = separator or _separator(below)
    widths = [len(r) for r in _rows([lines[n_comments - 1], *below[:2]], found)]
    is_header = widths[0] == widths[1] and widths[0] > 1
    return n_comments - is_header, None


def _rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=separator == " "))


def _separator(lines: Sequence[str]) -> str:
    """The separator that gives most lines the header's number of fields, at least two."""
    best, most = ",", (0.0, 0, 0)
    for separator in SEPARATORS:
        try:
            counts = [len(r) for r in _rows(lines, separator) if r]
        except csv.Error:
            continue
        if not counts or counts[0] < 2:
            continue
        same = sum(c == counts[0] for c in counts) / len(counts)
        score = (round(same, 1), 0 if separator in ":~^ " else 1, counts[0])
        if same >= 0.8 and score > most:
            best, most = separator, score
    return best


def _decimal(lines: Sequence[str], separator: str) -> str:
    """A comma where fields such as 1,5 occur, and none such as 1.5, beside another separator.

    1,234 and 1.234 may have thousands set apart: where others tell, they do not count.
    """
    if separator == ",":
        return "."
    fields = list(itertools.chain.from_iterable(_rows(lines[1:], separator)))
    commas, points = (
        [f for f in fields if re.fullmatch(rf"\s*[-+]?\d+{sign}\d+(e[-+]?\d+)?\s*", f, re.I)]
        for sign in (",", r"\.")
    )
    thousands = re.compile(r"\s*[-+]?\d{1,3}([,.]\d{3})+\s*")
    clear = [[f for f in found if not thousands.fullmatch(f)] for found in (commas, points)]
    if any(clear):
        commas, points = clear
    return "," if commas and not points else "."


# --- missing values and types ---


def typed(
    frame: pd.DataFrame, dialect: Dialect, config: DataConfig
) -> tuple[pd.DataFrame, list[Note]]:
    """The table with missing tokens set to missing, and columns of numbers as numbers.

    `data.missing` replaces what is looked for. Otherwise the usual tokens (NA, null, …) count
    everywhere, and signs such as "?" in columns that else hold numbers.
    """
    seen: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    changed = {}
    for name in frame.columns:
        values = frame[name]
        if not _is_text(values):
            continue
        tokens = set(config.missing) if config.missing is not None else set(TOKENS)
        new = _without(values, tokens, config.missing is None, dialect.decimal, seen, columns)
        if new is not None:
            changed[name] = new
    if changed:
        frame = frame.copy(deep=False)
        for name, values in changed.items():
            frame[name] = values
    notes = _renamed_notes(frame)
    twin = f"{config.target}.1"
    if twin in _twins(frame) and twin not in config.drop:
        raise DataError(
            f'Two columns are called "{config.target}", the target; one is read as "{twin}".',
            f'give each column a name of its own, or data.drop = ["{twin}"]',
        )
    return frame, _missing_notes(seen, columns, config) + notes


def _is_text(values: pd.Series) -> bool:
    return bool(pd.api.types.is_string_dtype(values) or pd.api.types.is_object_dtype(values))


def _without(
    values: pd.Series, tokens: set[str], infer: bool, decimal: str,
    seen: Counter[str], columns: Counter[str],
) -> pd.Series | None:  # fmt: skip
    """The column without its missing tokens, as numbers where nothing else is left; else None."""
    texts = values
    if values.dtype == object:  # of several parts, some of which hold numbers already
        texts = values.where(values.map(lambda v: isinstance(v, str)).astype("bool"))
    counts = texts.astype("str").value_counts()
    found = {str(v): int(n) for v, n in counts.items() if str(v).strip() in tokens}
    rest = [str(v) for v in counts.index if str(v) not in found]
    if infer:
        signs = {v for v in rest if v.strip() in AMONG_NUMBERS}
        if signs and len(signs) <= 2 and _numbers([v for v in rest if v not in signs], decimal):
            found |= {v: int(counts[v]) for v in signs}
            rest = [v for v in rest if v not in signs]
    if not found:
        return None
    for token, count in found.items():
        seen[token.strip()] += count
        columns[token.strip()] += 1
    left = values.mask(values.isin(list(found)))
    if rest and not _numbers(rest, decimal):
        return left
    if decimal == ",":
        left = left.map(lambda v: v.replace(",", ".") if isinstance(v, str) else v)
    return pd.to_numeric(left) if rest else left.astype("float64")


def _numbers(texts: Sequence[str], decimal: str) -> bool:
    if not texts:
        return False
    if decimal == ",":
        if any("." in t for t in texts):
            return False  # thousands set apart, which the kinds of columns see to
        texts = [t.replace(",", ".") for t in texts]
    parsed = pd.to_numeric(pd.Series(texts, dtype="str"), errors="coerce").to_numpy()
    return bool(np.isfinite(parsed.astype("float64")).all())


def _missing_notes(seen: Counter[str], columns: Counter[str], config: DataConfig) -> list[Note]:
    if config.missing is not None or not seen:
        return []
    told = ", ".join(
        f'"{token}" ({count:,} in {columns[token]} column{"s" * (columns[token] > 1)})'
        for token, count in seen.most_common(4)
    )
    return [Note(text=f"read as missing: {told}", override='data.missing = [""]')]


def _renamed_notes(frame: pd.DataFrame) -> list[Note]:
    """What pandas calls columns that share a name or have none."""
    names = [str(c) for c in frame.columns]
    notes = []
    bare = [n for n in names if n != n.strip()]
    if bare:
        notes.append(Note(text=f"names with blanks around them: {_few([repr(n) for n in bare])}"))
    twins = _twins(frame)
    if twins:
        notes.append(Note(text=f"columns share a name; the later ones are called {_few(twins)}"))
    nameless = [n for n in names if re.fullmatch(r"Unnamed: \d+", n)]
    if nameless:
        notes.append(Note(text=f"columns without a name are called {_few(nameless)}"))
    return notes


def _twins(frame: pd.DataFrame) -> list[str]:
    """The names that pandas gave to columns that share one."""
    names = [str(c) for c in frame.columns]
    return [n for n in names if re.fullmatch(r".+\.\d+", n) and n.rpartition(".")[0] in names]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
