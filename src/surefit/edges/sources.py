"""Tables from where the user keeps them: files, folders, databases, addresses, functions."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from surefit.edges import csvtext, frames, remote
from surefit.errors import DataError, did_you_mean
from surefit.redaction import redacted
from surefit.results import Note
from surefit.sections import DataConfig

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
_READERS = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "data": "csv", "tab": "csv", "psv": "csv",
    "parquet": "parquet", "pq": "parquet",
    "feather": "feather", "arrow": "feather", "ipc": "feather",
    "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
}  # fmt: skip
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_FUNCTION = re.compile(r"(?P<file>[^:]+\.py):(?P<name>[A-Za-z_]\w*)")


_UNKEPT = "what {path} logs with MLflow is not kept: no run is open yet as the table is loaded"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A table as it came, and what was inferred on the way; the decimal sign of its text."""

    frame: pd.DataFrame
    notes: tuple[Note, ...] = ()
    decimal: str | None = None


def load(path: str, root: Path) -> pd.DataFrame:
    """The table at `path`, everything inferred; see `read`."""
    return read(DataConfig(path=path, target="-"), root).frame


def read(config: DataConfig, root: Path, *, path: str | None = None) -> Loaded:
    """The table that the configuration names, with notes on what was inferred.

    Args:
        config: `path` is a file (CSV, Parquet, Feather or Arrow, JSON lines; text may be packed),
            a folder or pattern of parts, an address (http, https, or any fsspec knows), a
            SQLAlchemy address (with `query`), "data.py:load" or "sklearn:NAME".
        root: the project's folder, from which relative paths count.
        path: read this one instead of the configuration's, the same way.

    Raises:
        DataError: when there is no such table or it cannot be read.
        ServiceError: when a database or a server does not answer.
        UserCodeError: when the user's own function fails.
    """
    path = path or config.path
    if path.startswith("sklearn:"):
        return Loaded(frame=_bundled(path.removeprefix("sklearn:")))
    function = _FUNCTION.fullmatch(path)
    if function:
        from surefit.edges import scratch, userdata

        with scratch.at_import(root, path).redirected() as written:
            made = userdata.call(root / function["file"], function["name"])
        unkept = (Note(text=_UNKEPT.format(path=path)),) if written else ()
        return Loaded(frame=frames.to_pandas(made, what=path), notes=unkept)
    if config.query is not None or remote.is_database(path):
        return Loaded(frame=remote.select(path, config.query, root))
    if remote.is_address(path):
        with remote.fetched(path) as files:
            return _read_files(files, config, path)
    return _read_files(_files(path, root), config, path)


def refuse_cut_short(path: str, root: Path) -> None:
    """Refuse delimited text that seems to end within its last value.

    Raises:
        DataError: saying so.
    """
    for file in _files(path, root) if is_file(path) else []:
        if _ending(file) not in ("csv", "tsv"):
            continue
        last = csvtext.cut_short(file, dialect(file).separator)
        if last:
            raise DataError(
                f'{path} ends without a line break, in "{last}", which is shorter than the values '
                "above it: it looks cut short.",
                "write the file again; if it is whole, end it with a line break",
            )


def sha256(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def dialect(file: Path, config: DataConfig | None = None) -> csvtext.Dialect:
    """How a CSV file is to be read: as the configuration says, else by its first lines."""
    asked = config or DataConfig(path=str(file), target="-")
    return csvtext.sniff(file, asked, file.name)[0]


def dialect_of_new(file: Path, config: DataConfig) -> csvtext.Dialect:
    """How further rows are to be read: as the training rows were, but UTF-8 where they are that."""
    found = dialect(file, config.model_copy(update={"encoding": None}))
    return found if found.encoding.startswith("utf-") else dialect(file, config)


def is_file(path: str) -> bool:
    """Whether a data path names files of this machine."""
    return not (path.startswith("sklearn:") or remote.is_address(path) or _FUNCTION.fullmatch(path))


def _files(path: str, root: Path) -> list[Path]:
    """The files a path names: one, those of a folder, or those that match a pattern."""
    # normalised by its words: the folder that a path climbs out of may not be there yet
    place = Path(os.path.normpath(root / Path(path).expanduser()))
    if place.is_dir():
        found = sorted(f for f in place.rglob("*") if f.is_file() and not _hidden(f, place))
        if not found:
            raise DataError(f"The folder {path} has no files to read.")
        known = [f for f in found if _ending(f) in _READERS]
        if not known:
            raise DataError(f"The folder {path} has no table; {_ENDINGS} are read.")
        return known
    if place.exists():
        return [place.resolve()]
    if glob.has_magic(path):
        matches = sorted(Path(f) for f in glob.glob(str(place), recursive=True))  # noqa: PTH207
        found = [f for f in matches if f.is_file()]
        if not found:
            raise DataError(f"No file matches {path}.")
        return found
    siblings = _siblings(place)
    near = did_you_mean(place.name, siblings) if siblings else "its folder holds no table"
    raise DataError(f"There is no file {path}; {near}")


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def _ending(file: Path) -> str:
    suffixes = [s for s in file.suffixes if s not in _PACKED]
    return suffixes[-1][1:].lower() if suffixes else ""


_ENDINGS = ", ".join(f".{e}" for e in _READERS)


def _reader(file: Path, config: DataConfig, path: str) -> str:
    if config.format:
        return config.format
    ending = _ending(file)
    if ending in ("xlsx", "xls", "xlsm", "ods"):
        raise DataError(
            f"{redacted(path)} is a workbook, which is not read.",
            'save the sheet as CSV; or data.path = "data.py:load", a function that calls '
            "pandas.read_excel",
        )
    if ending not in _READERS:
        raise DataError(
            f"{redacted(path)}: tables ending in .{ending} are not read; {_ENDINGS} are.",
            'data.format = "csv"   (or parquet, feather, jsonl)',
        )
    return _READERS[ending]


def _read_files(files: Sequence[Path], config: DataConfig, path: str) -> Loaded:
    shown = redacted(path)
    kinds = {_reader(f, config, path) for f in files}
    if len(kinds) > 1:
        raise DataError(
            f"{shown} mixes {' and '.join(sorted(kinds))} files.",
            f'data.path = "{path.rstrip("/")}/*.{sorted(kinds)[0]}"',
        )
    kind = kinds.pop()
    if kind == "csv":
        return _read_csv(files, config, shown)
    read: Callable[[Path], pd.DataFrame] = {
        "parquet": _parquet, "feather": _feather, "jsonl": _jsonl
    }[kind]  # fmt: skip
    parts = [_guarded(read, f, _name(f, files, shown)) for f in files]
    notes = (_parts_note(files),) if len(files) > 1 else ()
    return Loaded(frame=_joined(parts, files), notes=notes)


def _read_csv(files: Sequence[Path], config: DataConfig, shown: str) -> Loaded:
    """All parts by the first one's dialect; missing values and types are judged on the whole."""
    names = [_name(f, files, shown) for f in files]
    sniff = partial(csvtext.sniff, config=config, shown=names[0])
    dialect, notes = _guarded(sniff, files[0], names[0])
    parts = [
        _guarded(partial(csvtext.read, dialect=dialect, shown=name), f, name)
        for f, name in zip(files, names, strict=True)
    ]
    frame, more = csvtext.typed(_joined(parts, files), dialect, config)
    if len(files) > 1:
        notes = [_parts_note(files), *notes]
    return Loaded(frame=frame, notes=(*notes, *more), decimal=dialect.decimal)


def _name(file: Path, files: Sequence[Path], shown: str) -> str:
    return shown if len(files) == 1 else file.name


def _parts_note(files: Sequence[Path]) -> Note:
    return Note(text=f"{len(files)} files: {files[0].name} … {files[-1].name}")


def _guarded(read: Callable[[Path], Any], file: Path, shown: str) -> Any:
    """What `read` gives, failures of the file told in one line."""
    try:
        if file.stat().st_size == 0:
            raise DataError(f"{shown} is empty.")
        return read(file)
    except PermissionError:
        raise DataError(f"{shown} cannot be read: permission denied.") from None
    except MemoryError:
        raise DataError(f"{shown} does not fit into memory.") from None
    except (ValueError, OSError, EOFError, KeyError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{shown} cannot be read: {lines[0].rstrip('.')}.") from None


def _joined(parts: list[pd.DataFrame], files: Sequence[Path]) -> pd.DataFrame:
    """The parts below each other; all must have the same columns."""
    wanted = list(parts[0].columns)
    for part, file in zip(parts, files, strict=True):
        if set(part.columns) != set(wanted):
            lost = [str(c) for c in wanted if c not in set(part.columns)]
            more = [str(c) for c in part.columns if c not in set(wanted)]
            what = [f"lacks {', '.join(lost[:5])}"] if lost else []
            what += [f"has besides {', '.join(more[:5])}"] if more else []
            raise DataError(
                f"The parts do not have the same columns: {file.name} {' and '.join(what)}, "
                f"unlike {files[0].name}."
            )
    parts = [_with_folders(part, file, files) for part, file in zip(parts, files, strict=True)]
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _with_folders(part: pd.DataFrame, file: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Columns written as folders (`year=2024/`), as Spark and Arrow write them."""
    if len(files) == 1:
        return part
    pairs = [p.split("=", 1) for p in PurePosixPath(file).parts[:-1] if p.count("=") == 1]
    new = {key: value for key, value in pairs if key not in part.columns}
    return part.assign(**new) if new else part


def _parquet(file: Path) -> pd.DataFrame:
    import pyarrow.parquet

    return frames.from_arrow(pyarrow.parquet.ParquetFile(file).read())


def _feather(file: Path) -> pd.DataFrame:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        try:
            table = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_stream(source).read_all()
        return frames.from_arrow(table)


def _jsonl(file: Path) -> pd.DataFrame:
    # Not pandas.read_json: it makes dates of columns by their names, and numbers of digits.
    listed = _json_list(file)
    if listed is not None:
        return pd.DataFrame.from_records(listed)
    rows = []
    with csvtext.unpacked(file) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is no JSON: {error}") from None
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no JSON object")
                rows.append(row)
    return pd.DataFrame.from_records(rows)


def _json_list(file: Path) -> list[dict[str, Any]] | None:
    """The objects of a file that is one JSON list of them; None where it is JSON lines."""
    with csvtext.unpacked(file) as stream:
        if not stream.read(4096).lstrip().startswith(b"["):
            return None
        stream.seek(0)
        try:
            found = json.load(stream)
        except ValueError:
            return None
    every = isinstance(found, list) and found and all(isinstance(row, dict) for row in found)
    return found if every else None


def _bundled(name: str) -> pd.DataFrame:
    if name not in BUNDLED:
        raise DataError(f'There is no bundled set "{name}"; {did_you_mean(name, BUNDLED)}')
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame.copy()
    if "target_names" in bunch and name != "digits":
        labels = dict(enumerate(map(str, bunch.target_names)))
        frame["target"] = frame["target"].map(labels)
    return frame


def _siblings(file: Path) -> list[str]:
    try:
        return [p.name for p in file.parent.iterdir() if _ending(p) in _READERS]
    except OSError:
        return []
