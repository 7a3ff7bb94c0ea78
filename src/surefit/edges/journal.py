"""The durable record of one search: an SQLite file that is the truth while the search runs.

Written by one process (an OS lock that dies with it), one transaction a commit. A kill of the
process at any moment loses at most what was not yet committed. The
outbox in the same file holds what MLflow has yet to be told: a trial and its message are recorded
together.

    search   one row: fingerprint, the parent run's id
    trial    number, params, thresholds, ASKED | COMPLETE | PRUNED | FAILED, value, reason
    fold     (trial, fold): state, score, seconds, out-of-fold predictions
    outbox   key, kind, payload, run id, done
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from surefit.edges import journal_lock
from surefit.edges.journal_lock import Lock
from surefit.errors import InputError, ServiceError, SurefitError

Ended = Literal["COMPLETE", "PRUNED", "FAILED"]

SCHEMA_VERSION = 2
_APPLICATION_ID = 0x73757265  # "sure": tells our files from other SQLite files
_LEASE_BITS = 20  # a token is the opening's number, then the number of the lease within it

_SCHEMA = """
CREATE TABLE search (
    id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL, parent_run_id TEXT,
    created REAL NOT NULL, openings INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE trial (
    number INTEGER PRIMARY KEY, params TEXT NOT NULL, thresholds TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ASKED', 'COMPLETE', 'PRUNED', 'FAILED')),
    value REAL, reason TEXT NOT NULL DEFAULT '', started REAL NOT NULL, ended REAL
);
CREATE TABLE fold (
    trial INTEGER NOT NULL REFERENCES trial (number), fold INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('COMPLETE', 'PRUNED', 'FAILED')),
    score REAL, seconds REAL NOT NULL, payload BLOB, reason TEXT NOT NULL,
    UNIQUE (trial, fold)
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, payload TEXT NOT NULL,
    run_id TEXT, done INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX outbox_pending ON outbox (id) WHERE done = 0;
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial; `value` is finite when COMPLETE, `started` and `ended` are Unix seconds."""

    number: int
    params: dict[str, Any]
    thresholds: Any
    state: Literal["ASKED", "COMPLETE", "PRUNED", "FAILED"]
    value: float | None
    reason: str
    started: float
    ended: float | None


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fold of a trial, without its predictions (`Journal.payload` has them)."""

    trial: int
    fold: int
    state: Ended
    score: float | None
    seconds: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something MLflow is to be told, once: `key` is unique, `payload` is any JSON value."""

    key: str
    kind: str
    payload: Any


@dataclass(frozen=True, kw_only=True)
class Pending(Message):
    """A message that is not known to have arrived."""

    run_id: str | None


def open(path: str | Path, fingerprint: str) -> Journal:
    """The journal at `path`, created if it is not there, locked until `close` or our death.

    Args:
        path: the file; `<path>.lock` is written beside it and stays.
        fingerprint: identity of the search; must be the one the file was created with.

    Raises:
        InputError: another process writes this journal; or it holds another search, another
            program's data, or was written by a newer surefit.
        ServiceError: it cannot be opened or written, or is damaged.
    """
    file = Path(path)
    try:
        lock = journal_lock.acquire(file)
    except OSError as error:
        raise _unwritable(Path(f"{file}.lock"), error) from error
    try:
        return Journal(file, lock, fingerprint)
    except BaseException:
        lock.release()
        raise


class Journal:
    """An open journal; made by `open`. Any thread may call any method."""

    def __init__(self, path: Path, lock: Lock, fingerprint: str) -> None:
        self.path = path
        self._lock = lock
        self._mutex = threading.RLock()
        self._leases: dict[tuple[int, int], int] = {}  # (trial, fold) -> its latest token
        self._leased = 0
        with _explained(path):
            self._sql = sqlite3.connect(
                path, timeout=10, isolation_level=None, check_same_thread=False
            )
        try:
            with _explained(path):
                self._prepare(fingerprint)
        except BaseException:
            self._sql.close()
            raise

    # --- the search ---

    @property
    def parent_run_id(self) -> str | None:
        """The run that the trials' runs hang under, once it is known."""
        found: str | None = self._one("SELECT parent_run_id FROM search")[0]
        return found

    def set_parent(self, run_id: str) -> None:
        """Keep the id of the search's own run."""
        with self._transaction():
            self._sql.execute("UPDATE search SET parent_run_id = ?", (run_id,))

    # --- trials ---

    def ask(self, number: int, params: Mapping[str, Any], thresholds: Any = None) -> None:
        """Record that trial `number` was asked; again with the same values does nothing.

        Args:
            number: 0, 1, 2, ... without gaps.
            params: JSON values, no NaN.
            thresholds: any JSON value that the drop rules need later.

        Raises:
            SurefitError: a gap, or other values than recorded (our bug).
        """
        row = (_json(params), _json(thresholds))
        with self._transaction():
            found = self._sql.execute(
                "SELECT params, thresholds FROM trial WHERE number = ?", (number,)
            ).fetchone()
            if found is not None:
                _require(found == row, f"trial {number} is recorded with other params: {found[0]}")
                return
            due = self._one("SELECT count(*) FROM trial")[0]
            _require(number == due, f"trial {number} was asked where {due} is due")
            self._sql.execute(
                "INSERT INTO trial (number, params, thresholds, state, started)"
                " VALUES (?, ?, ?, 'ASKED', ?)",
                (number, *row, time.time()),
            )

    def finish_trial(
        self,
        number: int,
        state: Ended,
        value: float | None = None,
        reason: str = "",
        *,
        last: int | None = None,
        message: Message | None = None,
    ) -> None:
        """End a trial and put its message in the outbox, both or neither.

        The same end again does nothing.

        Args:
            last: the fold that decided. Those behind it, which a free worker may have finished
                meanwhile, are forgotten: what a trial has done depends on no worker's speed.

        Raises:
            SurefitError: it was never asked, has another end, or COMPLETE has no finite value.
        """
        _require_score(f"trial {number}", state, value)
        value = None if value is None else float(value)
        with self._transaction():
            found = self._sql.execute(
                "SELECT state, value FROM trial WHERE number = ?", (number,)
            ).fetchone()
            _require(found is not None, f"trial {number} ended before it was asked")
            if found[0] != "ASKED":
                same = found == (state, value)
                _require(same, f"trial {number} ended {found}, and again ({state}, {value})")
                return
            self._sql.execute(
                "UPDATE trial SET state = ?, value = ?, reason = ?, ended = ? WHERE number = ?",
                (state, value, reason, time.time(), number),
            )
            if last is not None:
                self._sql.execute("DELETE FROM fold WHERE trial = ? AND fold > ?", (number, last))
            if message is not None:
                self._put(message)

    def adopt(
        self, parent: str, trials: Iterable[tuple[Trial, Iterable[Fold], Message, str]]
    ) -> None:
        """Fill an empty journal with trials that have ended: each with its folds and its run.

        All of them or none. Predictions are not among what can be adopted; see `put_payload`.
        """
        with self._transaction():
            self._sql.execute("UPDATE search SET parent_run_id = ?", (parent,))
            for t, folds, message, run_id in trials:
                self._sql.execute(
                    "INSERT INTO trial VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (t.number, _json(t.params), _json(t.thresholds), t.state, t.value, t.reason,
                     t.started, t.ended),
                )  # fmt: skip
                self._sql.executemany(
                    "INSERT INTO fold VALUES (?, ?, ?, ?, ?, NULL, ?)",
                    [(f.trial, f.fold, f.state, f.score, f.seconds, f.reason) for f in folds],
                )  # fmt: skip
                self._put(message)
                self._sql.execute(
                    "UPDATE outbox SET done = 1, run_id = ? WHERE key = ?", (run_id, message.key)
                )

    def trials(self) -> list[Trial]:
        """All trials by number."""
        return self._trials("")

    def unfinished(self) -> list[Trial]:
        """The trials that are still ASKED, by number."""
        return self._trials("ASKED")

    # --- folds ---

    def lease(self, trial: int, fold: int) -> int:
        """A token for one attempt at a fold; it makes the tokens given before for it worthless.

        Costs no write. Tokens of an earlier opening of the file are worthless too.
        """
        with self._mutex:
            self._leased += 1
            token = (self._opening << _LEASE_BITS) + self._leased
            self._leases[trial, fold] = token
            return token

    def commit_fold(
        self,
        trial: int,
        fold: int,
        *,
        token: int,
        state: Ended,
        score: float | None = None,
        seconds: float = 0.0,
        payload: bytes | None = None,
        reason: str = "",
    ) -> bool:
        """Record how a fold ended; counts once, however often it was run.

        Args:
            token: from `lease`.
            score: finite when COMPLETE.
            payload: the out-of-fold predictions.

        Returns:
            True when it counted. False when it came late (the fold was leased anew, or its trial
            has ended) or was there already with the same state and score.

        Raises:
            SurefitError: it is recorded with another state or score, so the job is not
                deterministic; or the trial was never asked, or COMPLETE has no finite score.
        """
        _require_score(f"fold {fold} of trial {trial}", state, score)
        score = None if score is None else float(score)
        with self._transaction():
            if self._leases.get((trial, fold)) != token:
                return False
            found = self._sql.execute(
                "SELECT state, score FROM fold WHERE trial = ? AND fold = ?", (trial, fold)
            ).fetchone()
            if found is not None:
                what = f"fold {fold} of trial {trial} gave {found} and now ({state}, {score})"
                _require(found == (state, score), what)
                return False
            ended = self._one("SELECT max(state <> 'ASKED') FROM trial WHERE number = ?", trial)[0]
            _require(ended is not None, f"fold {fold} ended before trial {trial} was asked")
            if ended:
                return False
            self._sql.execute(
                "INSERT INTO fold VALUES (?, ?, ?, ?, ?, ?, ?)",
                (trial, fold, state, score, seconds, payload, reason),
            )
            return True

    def folds(self, trial: int | None = None) -> list[Fold]:
        """The folds of one trial, or of all, by trial and fold."""
        rows = self._all(
            "SELECT trial, fold, state, score, seconds, reason FROM fold"
            " WHERE ? IS NULL OR trial = ? ORDER BY trial, fold",
            trial,
            trial,
        )
        names = ("trial", "fold", "state", "score", "seconds", "reason")
        return [Fold(**dict(zip(names, row, strict=True))) for row in rows]

    def folds_by_trial(self) -> dict[int, list[Fold]]:
        """The folds of each trial that has some."""
        found: dict[int, list[Fold]] = {}
        for fold in self.folds():
            found.setdefault(fold.trial, []).append(fold)
        return found

    def payload(self, trial: int, fold: int) -> bytes | None:
        """A fold's predictions; None when it has none, or they were dropped."""
        rows = self._all("SELECT payload FROM fold WHERE trial = ? AND fold = ?", trial, fold)
        return rows[0][0] if rows else None

    def put_payload(self, trial: int, fold: int, payload: bytes) -> None:
        """Keep the predictions of a fold that is recorded without them."""
        with self._transaction():
            self._sql.execute(
                "UPDATE fold SET payload = ? WHERE trial = ? AND fold = ?", (payload, trial, fold)
            )

    def drop_payloads(self, trials: Iterable[int]) -> None:
        """Forget the predictions of these trials; the file reuses their space."""
        with self._transaction():
            self._sql.executemany(
                "UPDATE fold SET payload = NULL WHERE trial = ?", [(trial,) for trial in trials]
            )

    # --- the outbox ---

    def outbox_pending(self) -> list[Pending]:
        """The messages not known to have arrived, oldest first."""
        rows = self._all("SELECT key, kind, payload, run_id FROM outbox WHERE done = 0 ORDER BY id")
        return [
            Pending(key=k, kind=kind, payload=json.loads(p), run_id=run) for k, kind, p, run in rows
        ]

    def mark_done(self, key: str, run_id: str | None = None) -> None:
        """Record that a message arrived, and as which run."""
        with self._transaction():
            self._change("UPDATE outbox SET done = 1, run_id = ? WHERE key = ?", run_id, key)

    def mark_all_done(self, arrived: Mapping[str, str]) -> None:
        """Record that these messages arrived, and as which runs (key → run), in one transaction."""
        with self._transaction():
            self._sql.executemany(
                "UPDATE outbox SET done = 1, run_id = ? WHERE key = ?",
                [(run_id, key) for key, run_id in arrived.items()],
            )

    def send_again(self, keys: Iterable[str]) -> None:
        """Take these messages for not arrived; what MLflow calls wrote is not in them any more."""
        with self._transaction():
            for key in keys:
                (text,) = self._one("SELECT payload FROM outbox WHERE key = ?", key)
                payload = json.dumps({k: v for k, v in json.loads(text).items() if k != "calls"})
                self._sql.execute(
                    "UPDATE outbox SET done = 0, run_id = NULL, payload = ? WHERE key = ?",
                    (payload, key),
                )

    def arrived(self) -> dict[str, str]:
        """The messages that arrived, and as which runs."""
        rows = self._all("SELECT key, run_id FROM outbox WHERE done = 1")
        return {key: run_id for key, run_id in rows if run_id}

    def close(self) -> None:
        """Close the file and free the lock; a second call does nothing."""
        with self._mutex:
            self._sql.close()
            self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside ---

    def _prepare(self, fingerprint: str) -> None:
        """Check whose file it is, create the tables in a new one, count this opening."""
        application, version = (
            self._one(f"PRAGMA {name}")[0] for name in ("application_id", "user_version")
        )
        empty = not self._one("SELECT count(*) FROM sqlite_master")[0]
        if not empty:
            self._check_owner(application, version)
        self._sql.execute("PRAGMA journal_mode = WAL")
        # Survives any process's death. A power cut may take the last commits, never the file: they
        # are computed again, and the mirror finds the runs that they had.
        self._sql.execute("PRAGMA synchronous = NORMAL")
        self._sql.execute("PRAGMA foreign_keys = ON")
        with self._transaction():
            if empty:
                self._create(fingerprint)
            found = self._one("SELECT fingerprint FROM search")[0]
            if found != fingerprint:
                raise InputError(
                    f"{self.path} holds another search ({found[:12]}..., this one is"
                    f" {fingerprint[:12]}...).",
                    f"name another file, or: mv {self.path} {self.path}.old",
                )
            self._sql.execute("UPDATE search SET openings = openings + 1")
            self._opening = int(self._one("SELECT openings FROM search")[0])

    def _check_owner(self, application: int, version: int) -> None:
        if application != _APPLICATION_ID:
            raise InputError(
                f"{self.path} is another program's database.", "name another file for the search"
            )
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{self.path} was written by another version of surefit (format {version}, this"
                f" one reads {SCHEMA_VERSION}).",
                f"use that version, or start anew: mv {self.path} {self.path}.old",
            )
        problem = self._one("PRAGMA quick_check(1)")[0]
        if problem != "ok":
            raise _damaged(self.path, problem)

    def _create(self, fingerprint: str) -> None:
        for statement in filter(str.strip, _SCHEMA.split(";")):  # executescript would commit
            self._sql.execute(statement)
        self._sql.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._sql.execute(
            "INSERT INTO search (id, fingerprint, created) VALUES (1, ?, ?)",
            (fingerprint, time.time()),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block or nothing of it, on disk when it ends; one thread at a time."""
        with self._mutex, _explained(self.path):
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:  # SQLite ends it by itself when the disk is full
                    self._sql.execute("ROLLBACK")
                raise

    def _put(self, message: Message) -> None:
        self._sql.execute(
            "INSERT INTO outbox (key, kind, payload) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
            (message.key, message.kind, _json(message.payload)),
        )

    def _change(self, sql: str, *values: Any) -> None:
        changed = self._sql.execute(sql, values).rowcount
        _require(changed == 1, f"the outbox has no message {values[-1]}")

    def _trials(self, state: str) -> list[Trial]:
        rows = self._all(
            "SELECT number, params, thresholds, state, value, reason, started, ended"
            " FROM trial WHERE ? = '' OR state = ? ORDER BY number",
            state,
            state,
        )
        return [
            Trial(
                number=n,
                params=json.loads(params),
                thresholds=json.loads(thresholds),
                state=now,
                value=value,
                reason=reason,
                started=started,
                ended=ended,
            )
            for n, params, thresholds, now, value, reason, started, ended in rows
        ]

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._mutex, _explained(self.path):
            return self._sql.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: Any) -> Any:
        return self._all(sql, *values)[0]


# --- what can go wrong ---


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise SurefitError(f"The journal {path} is closed, or misused: {error}.") from error
    except sqlite3.IntegrityError as error:
        raise SurefitError(f"The journal {path} refused a row: {error}.") from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(error)) from error
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> ServiceError:
    return ServiceError(
        f"The search's journal {path} cannot be written: {error}.",
        "make room or give access there, then run the same command: it goes on where it was",
    )


def _damaged(path: Path, problem: str) -> ServiceError:
    return ServiceError(
        f"The search's journal {path} is damaged: {problem.strip()}.",
        f'move it away with its companions: for f in "{path}"*; do mv "$f" "$f.damaged"; done;'
        " then run the same command",
    )


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise SurefitError(
            f"The search's record contradicts itself: {what}.",
            "this is a bug of surefit, or a job that is not deterministic; please report it",
        )


def _require_score(name: str, state: str, score: float | None) -> None:
    finite = score is not None and math.isfinite(score)
    _require(finite or state != "COMPLETE", f"{name} is COMPLETE with the score {score}")
    _require(finite or score is None, f"{name} has the score {score}")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise SurefitError(f"The search's journal cannot keep {value!r}: {error}.") from error
