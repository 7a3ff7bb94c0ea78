"""One at a time: a file lock beside an embedded store, a name in the registry of a server.

A server gives no lock, but it gives a name to one asker only: the lock is a registered model that
exists while it is held. A holder that died is known by its process (on this machine) or by its
token standing unchanged for a minute; its lock is renamed away, which only one waiter can do.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from surefit.edges import environment
from surefit.edges.store import Store
from surefit.errors import ServiceError

LEASE = 60.0  # seconds after which a holder of another machine that shows no change is given up
PATIENCE = 300.0
_STALE = 3600 * 1000  # milliseconds after which the name of a broken lock is free again


@contextlib.contextmanager
def held(store: Store, what: str, *, patience: float = PATIENCE) -> Iterator[Callable[[], None]]:
    """Hold the lock `what` of this project's model; gives a function that checks it still is held.

    Raises:
        ServiceError: when another process keeps it for longer than `patience` seconds, or, from
            the check, when the lock was lost.
    """
    if store.uri.startswith("sqlite:///"):
        with _file_lock(store, what, patience):
            yield lambda: None
        return
    name, token = f"{store.experiment}.lock.{what}", uuid.uuid4().hex
    _take(store, name, token, patience)
    try:
        yield lambda: _still_held(store, name, token)
    finally:
        with contextlib.suppress(ServiceError):
            if _token(store, name) == token:
                _delete(store, name)


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


def _take(store: Store, name: str, token: str, patience: float) -> None:
    until = time.monotonic() + patience
    seen, since = "", time.monotonic()
    while not _create(store, name, token):
        tags = _tags(store, name)
        holder = tags.get("surefit.token", "")
        if holder != seen:
            seen, since = holder, time.monotonic()
        if holder and _gone(tags.get("surefit.owner", ""), time.monotonic() - since):
            _break(store, name, holder)
            continue
        if time.monotonic() > until:
            raise _busy(name, tags.get("surefit.owner", ""))
        time.sleep(0.05 + 0.15 * random.random())  # noqa: S311


def _gone(owner: str, unchanged: float) -> bool:
    """Whether a holder is dead: known of a process of this machine, else told by its silence."""
    if not environment.owner_alive(owner):
        return True
    elsewhere = owner.split("/")[0] != environment.owner().split("/")[0]
    return elsewhere and unchanged > LEASE


def _create(store: Store, name: str, token: str) -> bool:
    """Whether the name is ours; a lost reply that was asked again is ours all the same."""
    from mlflow.exceptions import MlflowException

    tags = {"surefit.token": token, "surefit.owner": environment.owner(),
            "surefit.kind": "lock"}  # fmt: skip
    try:
        store.client.create_registered_model(
            name, tags=tags, description="Held by surefit while an alias moves."
        )
    except MlflowException:
        return _token(store, name) == token
    return True


def _tags(store: Store, name: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return dict(store.client.get_registered_model(name).tags or {})
    except MlflowException:
        return {}


def _token(store: Store, name: str) -> str:
    return _tags(store, name).get("surefit.token", "")


def _still_held(store: Store, name: str, token: str) -> None:
    if _token(store, name) != token:
        raise ServiceError("The lock on this alias was lost: nothing was moved.", "the same again")


def _break(store: Store, name: str, holder: str) -> None:
    """Rename a dead holder's lock away; the new name is its token's, so it happens once."""
    from mlflow.exceptions import MlflowException

    for found in _all(store, f"{name}.broken-"):
        if time.time() * 1000 - found.creation_timestamp > _STALE:
            _delete(store, found.name)
    with contextlib.suppress(MlflowException, ServiceError):
        store.client.rename_registered_model(name, f"{name}.broken-{holder[:12]}")


def _all(store: Store, prefix: str) -> list[Any]:
    found = store.client.search_registered_models(f"name LIKE '{prefix}%'")
    return list(found)


def _delete(store: Store, name: str) -> None:
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):
        store.client.delete_registered_model(name)


def _busy(what: str, owner: str) -> ServiceError:
    who = f" by {owner}" if owner else ""
    return ServiceError(
        f"Another promotion holds the lock {what}{who} (this process is {os.getpid()}).",
        "the same command again when it has ended",
    )
