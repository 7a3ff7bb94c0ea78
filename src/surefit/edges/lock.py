"""One at a time: a file lock beside an embedded store, on a server a queue in experiment tags.

A server gives no lock and no compare-and-swap, but Lamport's bakery needs neither: whoever wants
the lock announces itself in a tag of its own, takes a number above all that are there, and waits
until nobody who is announced has a lower one or is still to take one. No tag is ever written by
two processes, so a request that is repeated or lands late changes nothing for anybody else.

A place in the queue is a lease: its holder renews it, and believes in it for half the time only
after which others take it for dead. A place whose process is known to be dead goes at once.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from surefit.edges import environment
from surefit.edges.store import Store
from surefit.errors import ServiceError

LEASE = 60.0  # seconds without a sign of life after which a place is taken away
PATIENCE = 300.0


@contextlib.contextmanager
def held(store: Store, what: str, *, patience: float = PATIENCE) -> Iterator[Callable[[], None]]:
    """Hold the lock `what` of this project's model; gives a function that checks it still is held.

    Raises:
        ServiceError: when others keep it for longer than `patience` seconds, or, from the check,
            when the lock was lost.
    """
    if store.uri.startswith("sqlite:///"):
        with _file_lock(store, what, patience):
            yield lambda: None
        return
    place = _Place(store, what)
    try:
        place.take(patience)
        yield place.check
    finally:
        place.leave()


@contextlib.contextmanager
def _file_lock(store: Store, what: str, patience: float) -> Iterator[None]:
    import fcntl

    file = Path(store.uri.removeprefix("sqlite:///"))
    path = file.with_name(f".{file.name}.{store.experiment}.{what}.lock")
    until = time.monotonic() + patience
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise _busy(what, "") from None
                time.sleep(0.02 + 0.05 * random.random())  # noqa: S311
        yield


# --- the queue on a server ---


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """A place in the queue as its tags tell it; no number while it is still to be taken."""

    id: str
    owner: str
    number: int | None
    signs: str  # what changes with each sign of life

    def before(self, number: int, id: str) -> bool:
        """Whether its turn comes before this one's, or may."""
        return self.number is None or (self.number, self.id) < (number, id)


class _Place:
    """Our place in the queue: a tag that announces it, a tag with its number and signs of life."""

    def __init__(self, store: Store, what: str) -> None:
        self._store = store
        self._what = what
        self._prefix = f"surefit.lock.{what}."
        self._id = uuid.uuid4().hex[:16]
        self._number = 0
        self._signs = 0
        self._sure_until = 0.0  # on this process's own clock
        self._left = threading.Event()
        self._writing = threading.Lock()
        self._seen: dict[str, tuple[str, float]] = {}

    def take(self, patience: float) -> None:
        """Wait until it is our turn."""
        until = time.monotonic() + patience
        self._write("who", environment.owner())
        self._number = 1 + max((p.number or 0 for p in self._queue().values()), default=0)
        self._renew()
        threading.Thread(target=self._keep, daemon=True).start()
        while True:
            queue = self._queue()
            if self._id not in queue or time.monotonic() > self._sure_until:
                raise _lost(self._what)
            ahead = [p for p in queue.values() if p.before(self._number, self._id)]
            ahead = [p for p in ahead if p.id != self._id and not self._gone(p)]
            if not ahead:
                return
            if time.monotonic() > until:
                raise _busy(self._what, min(ahead, key=lambda p: p.number or 0).owner)
            time.sleep(min(1.0, 0.1 * len(ahead)) * (0.5 + random.random()))  # noqa: S311

    def check(self) -> None:
        """Raise a ServiceError where the lock is no longer ours."""
        if self._id not in self._queue() or time.monotonic() > self._sure_until:
            raise _lost(self._what)

    def leave(self) -> None:
        """Give the place up, also one that was never had; what is left of it others take away."""
        self._left.set()
        with self._writing, contextlib.suppress(ServiceError):
            self._remove(self._id)

    def _keep(self) -> None:
        """Show signs of life until we leave; never once others may take the place for dead."""
        while not self._left.wait(LEASE / 6) and time.monotonic() < self._sure_until:
            with self._writing, contextlib.suppress(ServiceError):
                if not self._left.is_set():
                    self._renew()

    def _renew(self) -> None:
        asked, self._signs = time.monotonic(), self._signs + 1
        self._write("turn", f"{self._number} {self._signs}")
        self._sure_until = asked + LEASE / 2

    def _gone(self, place: _Waiting) -> bool:
        """Whether a place's process is dead: then it is taken out of the queue."""
        signs, since = self._seen.get(place.id, ("", 0.0))
        if signs != place.signs:
            self._seen[place.id] = place.signs, time.monotonic()
        silent = signs == place.signs and time.monotonic() - since > LEASE
        if not silent and environment.owner_alive(place.owner):
            return False
        self._remove(place.id)
        return True

    def _queue(self) -> dict[str, _Waiting]:
        """The queue as one reading of the tags tells it."""
        tags = self._store.client.get_experiment(self._store.experiment_id).tags
        cut = len(self._prefix)
        mine = {k[cut:]: v for k, v in tags.items() if k.startswith(self._prefix)}
        found = {}
        for key, owner in mine.items():
            id, _, kind = key.partition(".")
            if kind != "who":
                continue
            turn = mine.get(f"{id}.turn", "")
            number = int(turn.split()[0]) if turn else None
            found[id] = _Waiting(id=id, owner=owner, number=number, signs=f"{owner} {turn}")
        for key in mine:  # a number that nobody stands behind
            if key.endswith(".turn") and key.removesuffix(".turn") not in found:
                self._delete(key)
        return found

    def _write(self, kind: str, value: str) -> None:
        key = f"{self._prefix}{self._id}.{kind}"
        self._store.client.set_experiment_tag(self._store.experiment_id, key, value)

    def _remove(self, id: str) -> None:
        """First what announces it: what is left is then no place any more."""
        for kind in ("who", "turn"):
            self._delete(f"{id}.{kind}")

    def _delete(self, key: str) -> None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # gone already
            self._store.client.delete_experiment_tag(
                self._store.experiment_id, f"{self._prefix}{key}"
            )


def _lost(what: str) -> ServiceError:
    return ServiceError(
        f"The lock {what} was lost while the server did not answer: nothing was moved.",
        "the same again",
    )


def _busy(what: str, owner: str) -> ServiceError:
    who = f" by {owner}" if owner else ""
    return ServiceError(
        f"Another command holds the lock {what}{who} (this process is {os.getpid()}).",
        "the same command again when it has ended",
    )
