"""The state of a store itself: whole, of MLflow's schema, tuned, its artifacts in reach."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from surefit.edges.store import Store

BIG = 2**30  # bytes of a database that are not read through to see whether it is whole


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """An embedded store's file, looked at without changing it.

    Attributes:
        problem: what SQLite found wrong; "" where it is whole, or too large to be read through.
        schema: the revision of MLflow's tables; None where there are none.
        wal: whether readers and writers do not wait for each other.
        analysed: whether SQLite has the statistics that make ordered searches fast.
    """

    path: Path
    n_bytes: int
    problem: str = ""
    schema: str | None = None
    wal: bool = False
    analysed: bool = False


def file_of(uri: str, root: Path) -> Path | None:
    """The file of an embedded store, None for another kind."""
    prefix = "sqlite:///"
    return (root / uri.removeprefix(prefix)).resolve() if uri.startswith(prefix) else None


def look(file: Path) -> Embedded:
    """What an embedded store's file is like; it is read only."""
    n_bytes = file.stat().st_size
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=10)
        ) as sql:
            said = sql.execute("PRAGMA quick_check(1)").fetchone()[0] if n_bytes < BIG else "ok"
            tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_master")}
            schema = None
            if "alembic_version" in tables:
                found = sql.execute("SELECT version_num FROM alembic_version").fetchone()
                schema = found[0] if found else None
            analysed = _analysed(sql, tables)
            wal = sql.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    except sqlite3.Error as error:
        return Embedded(path=file, n_bytes=n_bytes, problem=str(error))
    return Embedded(path=file, n_bytes=n_bytes, problem="" if said == "ok" else said,
                    schema=schema, wal=wal, analysed=analysed)  # fmt: skip


def _analysed(sql: sqlite3.Connection, tables: set[str]) -> bool:
    """Whether there are statistics, where there is something to count."""
    if (
        "latest_metrics" not in tables
        or not sql.execute("SELECT 1 FROM latest_metrics LIMIT 1").fetchone()
    ):
        return True
    return "sqlite_stat1" in tables and bool(
        sql.execute("SELECT 1 FROM sqlite_stat1 WHERE tbl = 'latest_metrics' LIMIT 1").fetchone()
    )


def schemas() -> list[str]:
    """The revisions of its tables that the MLflow installed here knows, the newest first."""
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    folder = Path(str(mlflow.store.db_migrations.__file__)).parent
    return [str(s.revision) for s in ScriptDirectory(str(folder)).walk_revisions()]


def set_wal(file: Path) -> bool:
    """Let readers and writers of an embedded store not wait for each other; False when busy."""
    with contextlib.closing(sqlite3.connect(file, timeout=10)) as sql:
        with contextlib.suppress(sqlite3.OperationalError):
            return bool(sql.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal")
    return False


def server_version(store: Store) -> str | None:
    """The MLflow that a server runs; None where it does not say."""
    parts = urlsplit(store.uri)
    host = parts.netloc.rpartition("@")[2]
    plain = parts._replace(netloc=host, path=f"{parts.path.rstrip('/')}/version").geturl()
    try:
        with urllib.request.urlopen(plain, timeout=10) as reply:  # noqa: S310
            said = reply.read(100).decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return said if said[:1].isdigit() else None


def artifacts(store: Store) -> str:
    """Where the experiment's artifacts lie, as MLflow has it."""
    return str(store.client.get_experiment(store.experiment_id).artifact_location)


def unwritable(folder: Path) -> str:
    """Why no file can be written in a folder, or in the first above it that is there, else ""."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    try:
        descriptor, name = tempfile.mkstemp(prefix=".surefit-", dir=there)
        try:
            os.write(descriptor, b"x")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        return f"{there}: {error.strerror}"
    return ""
