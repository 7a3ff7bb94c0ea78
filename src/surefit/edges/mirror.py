"""A search's journal written behind into MLflow: each finished trial a nested run, exactly once."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from surefit.edges import nested, runs, scratch
from surefit.edges.journal import Journal, Pending
from surefit.edges.nested import Nested
from surefit.edges.runs import Run, RunRecord
from surefit.edges.store import Store, first_line
from surefit.errors import ServiceError
from surefit.items import Tag

BATCH = 50  # trials written at a time
PAUSE = 0.5  # seconds between looks at the outbox
AWAY = 2.0  # seconds before a store that failed is tried again
PATIENCE = 45.0  # seconds that the end of a search waits for a store that is away


Say = Callable[[str], object]


class Mirror:
    """A thread that empties the outbox; the search never waits for it.

    What MLflow refuses stays in the outbox, and waits for the next command.
    """

    def __init__(
        self, store: Store, journal: Journal, parent: str, *, search: str, say: Say | None = None
    ) -> None:
        self._store, self._journal, self._parent = store, journal, parent
        self._search, self._say = search, say
        self._refused: dict[str, str] = {}  # why, by key
        self._known: dict[str, RunRecord] | None = None  # by key, as the store has them
        self._last_round = threading.Event()  # write what is there, then stop
        self._stop = threading.Event()  # stop after the entry at hand
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="surefit-mirror", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def drain(self) -> None:
        """Write all that is left, and stop; say what MLflow refused.

        Raises:
            ServiceError: when the store stays away; the outbox keeps what is not written.
        """
        self._last_round.set()
        self._thread.join()
        left = len(self._pending())
        if self._refused and self._say:
            n, why = len(self._refused), next(iter(self._refused.values()))
            self._say(
                f"Note:  {n} trial{'s' * (n != 1)} of this search counted, and MLflow refused to "
                f"record {'them' if n > 1 else 'it'}: {why}"
            )
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
                if last and not written:
                    self._remove_doubles()
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

    def _pending(self) -> list[Pending]:
        return [e for e in self._journal.outbox_pending() if e.key not in self._refused]

    def _write_pending(self) -> int:
        pending = self._pending()
        for start in range(0, len(pending), BATCH):
            if self._stop.is_set():
                break
            self._write_batch(pending[start : start + BATCH])
        return len(pending)

    def _write_batch(self, batch: list[Pending]) -> None:
        """In one transaction where the store allows it, else one by one."""
        alone = [entry for entry in batch if not entry.payload.get("calls")]
        written = nested.write_all(self._store, [self._nested(entry) for entry in alone])
        if written:
            self._journal.mark_all_done(written)
        for entry in batch:
            if entry.key not in (written or {}) and not self._stop.is_set():
                self._write_one(entry)

    def _write_one(self, entry: Pending) -> None:
        if self._known is None:
            self._known = {key: found[0] for key, found in self._in_store().items()}
        try:
            trial = self._nested(entry)
            run_id = nested.write(self._store, trial, self._known.get(entry.key))
            self._record_calls(entry, trial, run_id)
        except BaseException as error:
            self._known = None  # the reply may be lost and the run be there: look again
            if not runs.refuses(error):
                raise
            self._set_aside(entry, first_line(error))
            return
        self._journal.mark_done(entry.key, run_id)
        for _, folder in entry.payload.get("calls", ()):
            shutil.rmtree(folder, ignore_errors=True)

    def _set_aside(self, entry: Pending, why: str) -> None:
        """Write it no more in this round; its run, where one was begun, ends with the reason."""
        self._refused[entry.key] = why
        for record in self._in_store().get(entry.key, ()):
            runs.end(self._store, record.run_id, "FAILED", reason=f"MLflow refused it: {why}")

    def _record_calls(self, entry: Pending, trial: Nested, run_id: str) -> None:
        """What MLflow calls of the user's code wrote, beside what is ours."""
        calls = entry.payload.get("calls", ())
        if calls:
            taken = {*trial.params, *trial.tags, *(key for key, _, _ in trial.metrics)}
            run = Run(store=self._store, run_id=run_id, name=trial.name, written=taken)
            scratch.record(run, calls)

    def _in_store(self) -> dict[str, list[RunRecord]]:
        """The trials' runs that are in MLflow already, whatever the journal knows of them."""
        found: dict[str, list[RunRecord]] = {}
        for record in trials_of(self._store, self._search):
            found.setdefault(record.tags["surefit.key"], []).append(record)
        return found

    def _remove_doubles(self) -> None:
        """Delete second runs of a trial: a request given up for lost may have arrived late."""
        if not self._store.uri.startswith("http"):
            return
        arrived = self._journal.arrived()
        for key, found in self._in_store().items():
            for record in found if len(found) > 1 and key in arrived else ():
                if record.run_id != arrived[key]:
                    self._store.client.delete_run(record.run_id)

    def _nested(self, entry: Pending) -> Nested:
        trial: dict[str, Any] = dict(entry.payload)
        tags = {
            "surefit.trial": str(trial["number"]), "surefit.state": trial["state"], **trial["tags"]
        }  # fmt: skip
        return Nested(
            key=entry.key, name=f"trial {trial['number']}", kind="trial", parent=self._parent,
            status="FAILED" if trial["state"] == "FAILED" else "FINISHED", reason=trial["reason"],
            started=trial["started"], ended=trial["ended"], tags=tags, params=trial["params"],
            metrics=[(k, v, step) for k, v, step in trial["metrics"]],
        )  # fmt: skip


def trials_of(store: Store, search: str) -> Iterator[RunRecord]:
    """The runs of a search's trials, the newest first."""
    return runs.search(
        store, f"tags.`surefit.search` = '{search}' and tags.`surefit.kind` = 'trial'"
    )


def adopt(store: Store, journal: Journal, parent: Run, *, search: str) -> None:
    """Put the trials' runs under another parent; those that are gone are written again.

    For a search whose own run was deleted in MLflow, alone or with its trials.
    """
    there = set()
    for record in trials_of(store, search):
        Run(store=store, run_id=record.run_id, name=record.name).log(
            [Tag(key="mlflow.parentRunId", value=parent.run_id)]
        )
        there.add(record.tags["surefit.key"])
    journal.send_again(key for key in journal.arrived() if key not in there)


@contextlib.contextmanager
def mirroring(
    store: Store, journal: Journal, parent: str, *, search: str, say: Say | None = None
) -> Any:
    """Write behind while the block runs; drained at its end, abandoned when it fails.

    Args:
        say: is told what MLflow refused, at the end.
    """
    mirror = Mirror(store, journal, parent, search=search, say=say)
    mirror.start()
    try:
        yield mirror
    except BaseException:
        mirror.abandon()
        raise
    mirror.drain()
