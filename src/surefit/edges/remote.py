"""Tables that lie elsewhere: a query to a database, a file at an address."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from surefit.edges import temporary
from surefit.errors import DataError, InputError, MissingExtraError, ServiceError, SurefitError
from surefit.redaction import redacted

TIMEOUT = 60.0  # seconds without an answer
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")
_DATABASES = {
    "postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql", "oracle", "duckdb",
    "snowflake", "bigquery", "redshift", "clickhouse", "trino", "presto", "db2", "cockroachdb",
    "databricks",
}  # fmt: skip
_LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs",
              "abfss": "adlfs", "az": "adlfs"}  # fmt: skip


def is_address(path: str) -> bool:
    """Whether a path starts with a scheme, as https://… or s3://… do."""
    return _ADDRESS.match(path) is not None


def is_database(path: str) -> bool:
    """Whether a path is a SQLAlchemy address."""
    match = _ADDRESS.match(path)
    return bool(match) and match["scheme"].lower().partition("+")[0] in _DATABASES  # type: ignore[index]


def filled(address: str) -> str:
    """The address with each `${NAME}` replaced by that environment variable.

    Raises:
        InputError: naming the variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise InputError(
                f"{redacted(address)} needs the environment variable {match[1]}, which is not set.",
                f"export {match[1]}=…   (passwords are not kept in files)",
            )
        return urllib.parse.quote(found, safe="")

    return re.sub(r"\$\{(\w+)\}", value, address)


# --- databases ---


def select(address: str, query: str | None, root: Path) -> pd.DataFrame:
    """What a query answers, read in one transaction that is rolled back.

    Raises:
        InputError: when the address or the query is wrong.
        ServiceError: when the database does not answer.
    """
    if not query:
        raise InputError(
            f"{redacted(address)} is a database, and needs a query.",
            'data.query = "SELECT * FROM table"',
        )
    import sqlalchemy
    from sqlalchemy import exc

    shown = redacted(address)
    try:
        engine = sqlalchemy.create_engine(_with_driver(_file_in(filled(address), root), shown))
    except (exc.ArgumentError, exc.NoSuchModuleError, ValueError) as error:
        raise InputError(f"{shown} is no address that SQLAlchemy reads: {_line(error)}") from None
    except ModuleNotFoundError as error:
        if address.lower().startswith("postgres"):
            raise MissingExtraError(str(error.name), "postgres", f"Reading {shown}") from None
        raise InputError(
            f"Reading {shown} needs {error.name}, which is not installed.",
            f"pip install {error.name}, or another driver that SQLAlchemy knows",
        ) from None
    try:
        with engine.connect() as connection:
            return _answer(connection, query)
    except (exc.ProgrammingError, exc.ResourceClosedError) as error:
        raise InputError(f"{shown} refuses the query: {_line(error)}") from None
    except exc.OperationalError as error:
        if address.startswith("sqlite"):
            raise InputError(f"{shown} refuses the query: {_line(error)}") from None
        raise ServiceError(f"{shown} does not answer: {_line(error)}") from None
    except exc.SQLAlchemyError as error:
        raise ServiceError(f"{shown} failed: {_line(error)}") from None
    finally:
        engine.dispose()


def _answer(connection: Any, query: str) -> pd.DataFrame:
    import sqlalchemy

    colons = re.sub(r"(?<![:\\\w]):(?=\w)", r"\\:", query)  # they would name parameters
    rows = connection.execute(sqlalchemy.text(colons))
    names = [str(c) for c in rows.keys()]  # noqa: SIM118
    frame = pd.DataFrame.from_records(rows.fetchall(), columns=names, coerce_float=True)
    repeated = sorted({c for c in names if names.count(c) > 1})
    if repeated:
        raise DataError(
            f"The query gives columns of one name: {', '.join(repeated)}.",
            f"SELECT … AS {repeated[0]}_2",
        )
    return frame


def _with_driver(address: str, shown: str) -> str:
    """PostgreSQL by the driver that is installed; SQLAlchemy's own choice is one of the two."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() not in ("postgresql", "postgres"):
        return address
    for driver in ("psycopg", "psycopg2"):
        with contextlib.suppress(ValueError):  # its import is blocked
            if importlib.util.find_spec(driver) is not None:
                return f"postgresql+{driver}://{rest}"
    raise MissingExtraError("psycopg or psycopg2", "postgres", f"Reading {shown}")


def _file_in(address: str, root: Path) -> str:
    """SQLite's file relative to the project; it must be there, else SQLite would make one."""
    if not address.startswith("sqlite:///"):
        return address
    file = (root / address.removeprefix("sqlite:///").partition("?")[0]).resolve()
    if not file.is_file():
        raise DataError(f"There is no database file {file.name}.")
    return f"sqlite:///file:{urllib.parse.quote(str(file))}?mode=ro&uri=true"


def _line(error: Exception) -> str:
    """The first line of what the database said, without the query and its link."""
    origin = getattr(error, "orig", None) or error
    text = (str(origin).strip().splitlines() or [type(origin).__name__])[0]
    return redacted(text)


# --- files at an address ---


@contextlib.contextmanager
def fetched(address: str) -> Iterator[list[Path]]:
    """Copies of the file at the address, or of the parts in a folder or by a pattern there.

    They keep their names, and last for the time of the block.

    Raises:
        DataError: when there is no such file.
        ServiceError: when the server does not answer, or stops half-way.
        MissingExtraError: when the library for the scheme is not installed.
    """
    name = Path(urllib.parse.urlsplit(address).path).name or "data.csv"
    with temporary.folder() as folder:
        file = Path(folder) / urllib.parse.unquote(name).replace("/", "_")
        if address.lower().startswith(("http://", "https://")):
            _download(address, file)
            yield [file]
        else:
            yield _copied(address, Path(folder))


def _download(address: str, file: Path) -> None:
    shown = redacted(address)
    try:
        request = urllib.request.Request(filled(address), headers={"User-Agent": "surefit"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, file.open("wb") as copy:  # noqa: S310
            shutil.copyfileobj(answer, copy)
            wanted = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        kind = DataError if 400 <= error.code < 500 and error.code != 429 else ServiceError
        raise kind(f"{shown} answers {error.code} {error.reason}.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServiceError(f"{shown} does not answer: {_line(Exception(str(reason)))}") from None
    if wanted is not None and file.stat().st_size != int(wanted):
        raise ServiceError(
            f"{shown} stopped after {file.stat().st_size:,} of {int(wanted):,} bytes."
        )


def _copied(address: str, folder: Path) -> list[Path]:
    shown, scheme = redacted(address), address.partition("://")[0].lower()
    try:
        import fsspec
    except ModuleNotFoundError:
        raise MissingExtraError("fsspec", _extra(scheme), f"Reading {shown}") from None
    try:
        system, place = fsspec.core.url_to_fs(filled(address))
        if not glob.has_magic(place) and not system.isdir(place):
            names = [place]
        else:
            found = system.glob(place) if glob.has_magic(place) else system.find(place)
            names = sorted(n for n in found if not _is_marker(n) and not system.isdir(n))
            if not names:
                raise DataError(f"No file matches {shown}.")
        for number, name in enumerate(names):
            part = folder / str(number) / name.rpartition("/")[2]
            part.parent.mkdir()
            with system.open(name, "rb") as source, part.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        return sorted(folder.glob("*/*"), key=lambda p: int(p.parent.name))
    except SurefitError:
        raise
    except ImportError:
        raise MissingExtraError(
            _LIBRARIES.get(scheme, scheme), _extra(scheme), f"Reading {shown}"
        ) from None
    except FileNotFoundError:
        raise DataError(f"There is no file {shown}.") from None
    except PermissionError:
        raise DataError(f"{shown} cannot be read: permission denied.") from None
    except ValueError as error:
        raise InputError(f"{shown} is no address that fsspec reads: {_line(error)}") from None
    except Exception as error:  # each file system has exceptions of its own
        raise ServiceError(f"{shown} cannot be read: {_line(error)}") from error


def _is_marker(name: str) -> bool:
    return name.rpartition("/")[2].startswith((".", "_"))


def _extra(scheme: str) -> str:
    return {"s3fs": "s3", "gcsfs": "gcs", "adlfs": "azure"}.get(_LIBRARIES.get(scheme, ""), "files")
