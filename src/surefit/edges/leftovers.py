"""What dead processes left on the disk: journals of searches, checkpoints, drafts, scratch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from surefit.edges import checkpoints, journal, temporary
from surefit.edges.mirror import mirroring
from surefit.edges.store import Store

ABANDONED = 24 * 3600.0  # seconds without a change after which a scratch folder is nobody's


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A search's journal, looked at without opening it for writing.

    Attributes:
        running: whether a process writes it.
        unfinished: trials that were asked for and have not ended.
        pending: trials that are not known to be in MLflow.
        problem: why it cannot be read; "" where it can.
    """

    path: Path
    running: bool = False
    fingerprint: str = ""
    parent_run_id: str | None = None
    trials: int = 0
    unfinished: int = 0
    pending: int = 0
    problem: str = ""


def searches(folder: Path) -> list[Seen]:
    """The journals in a folder."""
    return [_seen(file) for file in sorted(folder.glob("*.sqlite"))]


def _seen(file: Path) -> Seen:
    running = _locked(Path(f"{file}.lock"))
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=10)
        ) as sql:
            said = sql.execute("PRAGMA quick_check(1)").fetchone()[0]
            version = sql.execute("PRAGMA user_version").fetchone()[0]
            if said != "ok" or version != journal.SCHEMA_VERSION:
                why = said if said != "ok" else f"format {version}, of another version of surefit"
                return Seen(path=file, running=running, problem=why)
            fingerprint, parent = sql.execute(
                "SELECT fingerprint, parent_run_id FROM search"
            ).fetchone()
            trials, unfinished = sql.execute(
                "SELECT count(*), coalesce(sum(state = 'ASKED'), 0) FROM trial"
            ).fetchone()
            pending = sql.execute("SELECT count(*) FROM outbox WHERE done = 0").fetchone()[0]
    except (sqlite3.Error, TypeError) as error:
        return Seen(path=file, running=running, problem=str(error))
    return Seen(path=file, running=running, fingerprint=fingerprint, parent_run_id=parent,
                trials=trials, unfinished=unfinished, pending=pending)  # fmt: skip


def _locked(file: Path) -> bool:
    """Whether a living process holds a lock file."""
    try:
        with file.open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def write_behind(store: Store, seen: Seen) -> None:
    """Write a dead search's trials into MLflow, each once; none is run.

    Raises:
        InputError: when the search runs meanwhile.
        ServiceError: when the store fails; what is not written stays in the journal.
    """
    assert seen.parent_run_id is not None
    with journal.open(seen.path, seen.fingerprint) as opened:
        with mirroring(store, opened, seen.parent_run_id, search=seen.fingerprint):
            pass


# --- checkpoints and scratch ---


@dataclass(frozen=True, kw_only=True)
class Heap:
    """Files of one kind that lie there: how many, how large, and how long unchanged (days)."""

    paths: tuple[Path, ...]
    n_bytes: int
    days: float


def saved_states(root: Path) -> Heap:
    """Checkpoints of users' loops: of runs that were cut short, to be resumed or forgotten."""
    return _heap(sorted((root / checkpoints.FOLDER).glob("*/*.ckpt")))


def drafts(root: Path) -> Heap:
    """Checkpoints half written by processes that are dead."""
    found = (root / checkpoints.FOLDER).glob("*/*.*")
    return _heap([f for f in found if f.suffix[1:].isdigit() and not _alive(int(f.suffix[1:]))])


def scratch() -> Heap:
    """Temporary folders of ours that no process uses and nothing changed in for a day."""
    used, found = _used(), []
    for folder in temporary.marked():
        with contextlib.suppress(OSError):
            old = _mine(folder) and time.time() - _changed(folder) > ABANDONED
            if old and not any(p.startswith(f"{folder.resolve()}") for p in used):
                found.append(folder)
    return _heap(found)


def remove(heap: Heap) -> None:
    """Delete what lies there."""
    for path in heap.paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _heap(paths: list[Path]) -> Heap:
    files = [f for p in paths for f in ([p] if p.is_file() else p.rglob("*"))]
    sizes = [f.lstat().st_size for f in files if f.exists() and not f.is_dir()]
    newest = max((_changed(p) for p in paths), default=time.time())
    return Heap(paths=tuple(paths), n_bytes=sum(sizes), days=(time.time() - newest) / 86400)


def _changed(path: Path) -> float:
    inside = path.rglob("*") if path.is_dir() else ()
    return max(float(p.lstat().st_mtime) for p in (path, *inside))


def _mine(path: Path) -> bool:
    return path.stat().st_uid == os.getuid()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _used() -> set[str]:
    """Every path that a process of this user has open or works in, as far as Linux tells."""
    found = set()
    for link in (*Path("/proc").glob("[0-9]*/fd/*"), *Path("/proc").glob("[0-9]*/cwd")):
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()))
    return found
