"""Who may write a journal: one process at a time, by a lock that dies with it, known by name."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

from surefit.errors import InputError

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """An exclusive OS lock, which the kernel frees when the holder dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _held.add(self)

    def release(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Let go without unlocking: a forked child would else keep its dead parent's lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)


def acquire(path: Path) -> Lock:
    """The lock beside a journal.

    Raises:
        InputError: naming the process that has it.
        OSError: where the lock's file cannot be made or written.
    """
    file = Path(f"{path}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_myself()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 4096, 0)
        os.close(descriptor)
        raise _occupied(path, holder) from None
    except OSError:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def _myself() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot_id": _boot_id(),
        "started_at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return ""


def _occupied(path: Path, holder: bytes) -> InputError:
    """Who has the lock; only for the message, so half-written facts do no harm."""
    try:
        facts = json.loads(holder)
        who = f"process {facts['pid']} on {facts['host']} since {facts['started_at']}"
        here = (facts["host"], facts["boot_id"]) == (socket.gethostname(), _boot_id())
        stop = f"kill {facts['pid']}" if here else f"kill {facts['pid']} on {facts['host']}"
    except (ValueError, KeyError, TypeError):
        who, stop = "another process", "stop that process"
    return InputError(
        f"This search is running already: {who} writes {path}.",
        f"wait for it, or stop it ({stop}) and run this command again; nothing is lost",
    )
