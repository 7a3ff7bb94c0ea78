"""Tables larger than memory: read in batches, written in parts that a later try can go on from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pandas as pd

from surefit.edges import csvtext, sources
from surefit.errors import DataError, InputError, ServiceError
from surefit.results import InputColumn
from surefit.sections import DataConfig

CELLS_A_BATCH = 1_000_000
_CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq")
_READ_AS = {"double": "float64", "float": "float64", "long": "Int64", "integer": "Int64"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file of rows: its column names, and what identifies this very content."""

    path: Path
    names: tuple[str, ...]
    n_rows: int | None  # None where only reading it through would tell
    dialect: csvtext.Dialect | None  # None of a Parquet file

    def identity(self) -> dict[str, Any]:
        """Path, size, time of change and dialect: another content has another identity."""
        found = self.path.stat()
        read = None if self.dialect is None else asdict(self.dialect)
        return {"path": str(self.path), "bytes": found.st_size, "changed": found.st_mtime_ns,
                "dialect": read}  # fmt: skip


def look(path: str, data: DataConfig) -> Table:
    """A CSV or Parquet file, its head read only.

    Args:
        data: how the training data were to be read, which goes before what the file looks like.

    Raises:
        DataError: when it is neither, or cannot be read.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise DataError(f"There is no file {path}.")
    ending = file.name.lower()
    try:
        if ending.endswith(_PARQUET):
            import pyarrow.parquet as pq

            with pq.ParquetFile(file) as opened:
                names = tuple(opened.schema_arrow.names)
                n_rows = opened.metadata.num_rows
                return Table(path=file, names=names, n_rows=n_rows, dialect=None)
        if ending.endswith(_CSV):
            dialect = sources.dialect_of_new(file, data)
            names = tuple(csvtext.names(file, dialect))
            return Table(path=file, names=names, n_rows=None, dialect=dialect)
    except (ValueError, OSError, EOFError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read: {said}") from None
    raise DataError(f"{path} is read in batches only as CSV or Parquet.", "a .csv or .parquet file")


def rows_a_batch(n_columns: int) -> int:
    """Rows of about a million cells, between 1,000 and 100,000."""
    return max(1_000, min(100_000, CELLS_A_BATCH // max(n_columns, 1)))


def read(
    table: Table, names: Sequence[str], wanted: Sequence[InputColumn], n_rows: int, *,
    missing: Sequence[str] | None = None,
) -> Iterator[tuple[pd.DataFrame, float]]:  # fmt: skip
    """Batches of the named columns, each with the share of the file that is then read.

    A CSV's columns are read as the signature has them, so that a batch's types do not depend on
    what happens to stand in it.

    Args:
        missing: `data.missing` of the training data; None where it was found out.

    Raises:
        DataError: when a batch cannot be read.
    """
    try:
        if table.dialect is not None:
            yield from _csv(table, table.dialect, names, wanted, n_rows, missing)
        else:
            yield from _parquet(table, names, n_rows)
    except pd.errors.ParserError as error:
        raise DataError(csvtext.parse_failure(str(error), table.path.name)) from None
    except (TypeError, ValueError, OSError, EOFError) as error:
        if table.dialect is not None and not isinstance(error, OSError):
            _refuse_unfit(table, table.dialect, wanted, missing)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{table.path.name} cannot be read: {said}") from None


def _parquet(
    table: Table, names: Sequence[str], n_rows: int
) -> Iterator[tuple[pd.DataFrame, float]]:
    import pyarrow.parquet as pq

    done = 0
    with pq.ParquetFile(table.path) as opened:
        for batch in opened.iter_batches(batch_size=n_rows, columns=list(names)):
            done += batch.num_rows
            yield batch.to_pandas(ignore_metadata=True), done / max(opened.metadata.num_rows, 1)


def _csv(
    table: Table, dialect: csvtext.Dialect, names: Sequence[str], wanted: Sequence[InputColumn],
    n_rows: int, missing: Sequence[str] | None,
) -> Iterator[tuple[pd.DataFrame, float]]:  # fmt: skip
    types = {w.name: _READ_AS.get(w.type, "str") for w in wanted}
    size, counted = max(table.path.stat().st_size, 1), False
    with table.path.open("rb") as handle:
        for chunk in _chunks(table, dialect, handle, types, n_rows, missing):
            if not counted and chunk.shape[1] > 1 and chunk.iloc[:, -1].isna().any():
                csvtext.refuse_short_lines(table.path, dialect, chunk.shape[1], table.path.name)
                counted = True
            yield chunk[list(names)], min(1.0, handle.tell() / size)


def _chunks(
    table: Table, dialect: csvtext.Dialect, handle: IO[bytes], types: Mapping[str, str],
    n_rows: int, missing: Sequence[str] | None,
) -> Iterator[pd.DataFrame]:  # fmt: skip
    """All columns, so that pandas sees lines that are too long; those without a type as texts."""
    texts = ["", *(csvtext.TOKENS if missing is None else missing)]
    numbers = [*texts, *csvtext.TOKENS, *csvtext.AMONG_NUMBERS]
    packed: Literal["gzip"] | None = "gzip" if table.path.suffix == ".gz" else None
    read_as = {n: types.get(n, "str") for n in table.names}  # ids as they stand
    absent: Any = {n: texts if kind == "str" else numbers for n, kind in read_as.items()}
    absent[len(read_as)] = [""]  # behind a separator that lines end in
    with pd.read_csv(
        handle, decimal=dialect.decimal, chunksize=n_rows, compression=packed,
        keep_default_na=False, dtype=read_as, na_values=absent,
        **csvtext.layout(dialect),
    ) as chunks:  # fmt: skip
        while True:
            with csvtext.nothing_left_out(table.path.name):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk


def _refuse_unfit(
    table: Table, dialect: csvtext.Dialect, wanted: Sequence[InputColumn],
    missing: Sequence[str] | None,
) -> None:  # fmt: skip
    """Name the first value that is no number of the kind that the model wants.

    Raises:
        DataError: where there is one.
    """
    done, numeric = 0, [w for w in wanted if w.type in _READ_AS and w.name in table.names]
    known = {*csvtext.TOKENS, *csvtext.AMONG_NUMBERS, *(missing or ())}
    with table.path.open("rb") as handle:
        for chunk in _chunks(table, dialect, handle, {}, rows_a_batch(len(table.names)), missing):
            for want in numeric:
                text = chunk[want.name].astype(object).where(~chunk[want.name].isin(known))
                plain = text.str.replace(",", ".") if dialect.decimal == "," else text
                value = pd.to_numeric(plain, errors="coerce")
                odd = text.notna() & value.isna()
                whole = _READ_AS[want.type] == "Int64"
                odd |= whole & value.notna() & (value % 1 != 0)
                if odd.any():
                    row = int(odd.to_numpy().argmax())
                    raise DataError(
                        f'{table.path.name}: {want.name} is "{text.iloc[row]}" in row '
                        f"{done + row + 1:,}, the model wants {'whole ' * whole}numbers."
                    )
            done += len(chunk)


# --- parts ---


class Parts:
    """Finished parts beside the output, kept until the whole is there.

    A part is renamed into place when it is complete, so that what is there is whole.
    """

    def __init__(self, out: Path, key: Mapping[str, Any]) -> None:
        self._out = out
        self._folder = out.with_name(f".{out.name}.parts")
        self._key = dict(key)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """How many parts of the very same work are there already; others are thrown away.

        Raises:
            InputError: when another process writes the same output, or it may not be written.
            ServiceError: when the disk is full, or fails.
        """
        import fcntl

        try:
            self._folder.mkdir(exist_ok=True)
            with (self._folder / "lock").open("a") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(f"Another process is writing {self._out.name}.") from None
                yield self._kept()
        except PermissionError as error:
            raise InputError(f"{self._out} cannot be written: {error.strerror}.") from None
        except OSError as error:
            raise self._failed(error) from None

    def _kept(self) -> int:
        state = self._folder / "state.json"
        with contextlib.suppress(OSError, ValueError):
            if json.loads(state.read_text("utf-8")) == self._key:
                count = 0
                while self._file(count).exists():
                    count += 1
                return count
        for file in self._folder.glob("part-*"):
            file.unlink()
        state.write_text(json.dumps(self._key), "utf-8")
        return 0

    def _file(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.parquet"

    def add(self, number: int, frame: pd.DataFrame) -> None:
        """Keep one part."""
        unfinished = self._file(number).with_suffix(".unfinished")
        frame.to_parquet(unfinished, index=False)
        unfinished.replace(self._file(number))

    def rows(self, count: int) -> int:
        """Rows in the first `count` parts."""
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(self._file(n)).num_rows for n in range(count))

    def finish(self, count: int, about: Mapping[str, str]) -> None:
        """Write all parts as one file, with what it is about; the file appears whole or not."""
        unfinished = self._folder / f"whole{self._out.suffix}"
        try:
            if self._out.suffix == ".parquet":
                self._write_parquet(unfinished, count, about)
            else:
                self._write_csv(unfinished, count)
                note = self._folder / "whole.meta.json"
                note.write_text(json.dumps(dict(about), indent=1, ensure_ascii=False), "utf-8")
                note.replace(sidecar(self._out))
            with unfinished.open("rb") as handle:
                os.fsync(handle.fileno())
            unfinished.replace(self._out)
        except OSError as error:
            raise self._failed(error) from None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _failed(self, error: OSError) -> ServiceError:
        why = os.strerror(error.errno) if error.errno else str(error)
        kept = len(list(self._folder.glob("part-*.parquet")))
        return ServiceError(
            f"{self._out} cannot be written: {why}.",
            f"make room; the same command goes on from the {kept} parts in {self._folder.name}",
        )

    def _write_parquet(self, file: Path, count: int, about: Mapping[str, str]) -> None:
        import pyarrow.parquet as pq

        schema = pq.read_schema(self._file(0))
        told = {k.encode(): v.encode() for k, v in about.items()}
        schema = schema.with_metadata({**(schema.metadata or {}), **told})
        with pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
            for number in range(count):
                table = pq.read_table(self._file(number)).cast(schema)
                writer.write_table(table.replace_schema_metadata(schema.metadata))

    def _write_csv(self, file: Path, count: int) -> None:
        with file.open("w", encoding="utf-8", newline="") as handle:
            for number in range(count):
                pd.read_parquet(self._file(number)).to_csv(handle, index=False, header=number == 0)


def told(out: Path) -> dict[str, str]:
    """What `Parts.finish` wrote of a file beside or into it; {} of another program's file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if out.suffix == ".parquet":
            found = {
                k.decode(): v.decode() for k, v in (pq.read_schema(out).metadata or {}).items()
            }
        else:
            found = json.loads(sidecar(out).read_text("utf-8"))
    except (OSError, ValueError, pa.ArrowException):
        return {}
    return found if isinstance(found, dict) and "surefit.manifest" in found else {}


def sidecar(out: Path) -> Path:
    """Where a CSV's metadata stand: beside it, as NAME.meta.json."""
    return out.with_name(f"{out.name}.meta.json")
