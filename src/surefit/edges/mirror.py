"""A search's journal written behind into MLflow: each finished trial a nested run, exactly once."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from typing import Any

from surefit.edges import runs, scratch
from surefit.edges.journal import Journal, Pending
from surefit.edges.runs import Run
from surefit.edges.store import Store
from surefit.errors import ServiceError
from surefit.results import Metric, Param

PAUSE = 0.2  # seconds between looks at the outbox
AWAY = 2.0  # seconds before a store that failed is tried again
PATIENCE = 45.0  # seconds that the end of a search waits for a store that is away


class Mirror:
    """A thread that empties the outbox; the search never waits for it."""

    def __init__(self, store: Store, journal: Journal, parent: str, *, search: str) -> None:
        self._store, self._journal, self._parent = store, journal, parent
        self._search = search
        self._known: dict[str, str] | None = None  # key → run, as the store has them
        self._last_round = threading.Event()  # write what is there, then stop
        self._stop = threading.Event()  # stop after the entry at hand
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="surefit-mirror", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def drain(self) -> None:
        """Write all that is left, and stop.

        Raises:
            ServiceError: when the store stays away; the outbox keeps what is not written.
        """
        self._last_round.set()
        self._thread.join()
        left = len(self._journal.outbox_pending())
        if left:
            raise ServiceError(
                f"{left} trials are not in MLflow yet: {self._failure}",
                "the same command writes them; no trial is run again",
            )

    def abandon(self) -> None:
        """Stop after the entry at hand; what is left is written by the next command."""
        self._stop.set()
        self._last_round.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            last = self._last_round.is_set()
            try:
                written = self._write_pending()
            except Exception as error:  # whatever it is, the journal has it all
                self._failure = error
                if last and time.monotonic() - self._failing_since() > PATIENCE:
                    return
                self._stop.wait(AWAY)
                continue
            self._since = None
            if last and not written:
                return
            self._last_round.wait(PAUSE)

    _since: float | None = None

    def _failing_since(self) -> float:
        self._since = self._since or time.monotonic()
        return self._since

    def _write_pending(self) -> int:
        pending = self._journal.outbox_pending()
        for entry in pending:
            if self._stop.is_set():
                break
            if self._known is None:
                self._known = self._in_store()
            self._journal.mark_attempt(entry.key)
            try:
                run_id = self._write(entry, self._known.get(entry.key))
            except BaseException:
                self._known = None  # the reply may be lost and the run be there: look again
                raise
            self._journal.mark_done(entry.key, run_id)
            for _, folder in entry.payload.get("calls", ()):
                shutil.rmtree(folder, ignore_errors=True)
        return len(pending)

    def _in_store(self) -> dict[str, str]:
        """The trials' runs that are in MLflow already, whatever the journal knows of them."""
        where = f"tags.`surefit.search` = '{self._search}' and tags.`surefit.kind` = 'trial'"
        return {r.tags["surefit.key"]: r.run_id for r in runs.search(self._store, where)}

    def _write(self, entry: Pending, run_id: str | None) -> str:
        trial: dict[str, Any] = dict(entry.payload)
        tags = {
            "surefit.key": entry.key,
            "surefit.trial": str(trial["number"]),
            "surefit.state": trial["state"],
            **trial["tags"],
        }
        if run_id is not None and not runs.reopen(self._store, run_id):
            run_id = None
        if run_id is None:
            run_id = runs.start(
                self._store, f"trial {trial['number']}", "trial", tags=tags, parent=self._parent,
                started=trial["started"],
            )  # fmt: skip
        run = Run(store=self._store, run_id=run_id, name=f"trial {trial['number']}")
        run.log([Param(key=k, value=v) for k, v in trial["params"].items()])
        run.log([Metric(key=k, value=v, step=step) for k, v, step in trial["metrics"]])
        scratch.record(run, trial.get("calls", ()))
        status = "FAILED" if trial["state"] == "FAILED" else "FINISHED"
        runs.end(self._store, run_id, status, reason=trial["reason"], ended=trial["ended"])
        return run_id


@contextlib.contextmanager
def mirroring(store: Store, journal: Journal, parent: str, *, search: str) -> Any:
    """Write behind while the block runs; drained at its end, abandoned when it fails."""
    mirror = Mirror(store, journal, parent, search=search)
    mirror.start()
    try:
        yield mirror
    except BaseException:
        mirror.abandon()
        raise
    mirror.drain()
