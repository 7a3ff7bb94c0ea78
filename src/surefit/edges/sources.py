"""Tables from where the user keeps them: CSV, Parquet, Feather, JSON lines, scikit-learn's sets."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from surefit.errors import DataError, did_you_mean

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
_READERS = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "data": "csv",
    "parquet": "parquet", "pq": "parquet", "feather": "feather", "arrow": "feather",
    "jsonl": "jsonl", "ndjson": "jsonl",
}  # fmt: skip


def load(path: str, root: Path) -> pd.DataFrame:
    """The table at `path`, relative to the project's folder; types as pandas infers them.

    Args:
        path: a file (.csv, .tsv, .parquet, .feather, .jsonl; .gz where it is text), or
            "sklearn:NAME" for a set that scikit-learn brings along.

    Raises:
        DataError: when there is no such table or it cannot be read.
    """
    if path.startswith("sklearn:"):
        return _bundled(path.removeprefix("sklearn:"))
    file = (root / Path(path).expanduser()).resolve()
    if not file.exists():
        near = (
            did_you_mean(file.name, _siblings(file)) if _siblings(file) else "the folder is empty"
        )
        raise DataError(f"There is no file {path}; {near}")
    if file.is_dir():
        raise DataError(f"{path} is a folder.", "name a file in it")
    ending = next((s[1:] for s in reversed(file.suffixes) if s not in (".gz", ".bz2", ".xz")), "")
    reader = _READERS.get(ending.lower())
    if reader is None:
        raise DataError(
            f"{path}: tables ending in .{ending} are not read; {', '.join(_READERS)} are."
        )
    return _read(file, path, reader)


def _read(file: Path, path: str, reader: str) -> pd.DataFrame:
    if file.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    try:
        if reader == "csv":
            return _read_csv(file)
        if reader == "parquet":
            return pd.read_parquet(file)
        if reader == "feather":
            return pd.read_feather(file)
        return pd.read_json(file, lines=True)
    except PermissionError:
        raise DataError(f"{path} cannot be read: permission denied.") from None
    except (ValueError, OSError, EOFError, pd.errors.ParserError) as error:
        raise DataError(f"{path} cannot be read: {str(error).strip().splitlines()[0]}") from None


def _read_csv(file: Path) -> pd.DataFrame:
    try:
        return _read_text(file, "utf-8-sig")
    except UnicodeDecodeError:
        return _read_text(file, "cp1252")


def _read_text(file: Path, encoding: str) -> pd.DataFrame:
    separator = _separator(file, encoding)
    return pd.read_csv(file, sep=separator, encoding=encoding, low_memory=False)


def dialect(file: Path) -> tuple[str, str]:
    """A CSV file's separator and encoding, by its first lines."""
    try:
        return _separator(file, "utf-8-sig"), "utf-8-sig"
    except UnicodeDecodeError:
        return _separator(file, "cp1252"), "cp1252"


def _separator(file: Path, encoding: str) -> str:
    # Looked for in the file's start, decompressed by pandas' own rules.
    head = pd.read_csv(file, sep="\0", header=None, nrows=20, encoding=encoding, dtype=str)
    lines = "\n".join(str(v) for v in head.iloc[:, 0])
    try:
        return csv.Sniffer().sniff(lines, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


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
        return [p.name for p in file.parent.iterdir() if p.suffix[1:] in _READERS]
    except OSError:
        return []
