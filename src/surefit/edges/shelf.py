"""What one worker computes for all: values in one file without a name, which each worker maps.

A search's workers need the same preprocessed rows of each fold. The first that needs them computes
them and puts them on the shelf; the others wait for it and map what it wrote, so that they are
computed once and lie in memory once. The file has no name on the disk (on Linux it is memory), so
nothing is left of it when the last process is gone, however it ended.

file: [an entry a value] [arrays at page boundaries, then their pickle] [arrays, pickle] ...

Bytes are locked (by POSIX: a process's own, gone with it): one for a key while it is computed, and
byte 0 while a value is put at the end. Imports the standard library and cloudpickle alone, as
worker.py does.
"""
# ruff: noqa: S301
# S301: what is unpickled was written by another worker of the same search, which runs the same code

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

_ENTRY = struct.Struct("!16sQQQ")  # a key's digest; its value's start, pickle's offset, and size
_N_ENTRIES = 1600
ENTRIES_BYTES = _N_ENTRIES * _ENTRY.size
_APPEND = 0  # the byte that is locked while a value is put at the end
_KEYS = 1 << 62  # bytes behind it, one of which is a key's

_Place = tuple[int, ...]


class Shelf:
    """Values by key in a file that other processes have open too; an object a process.

    Args:
        fd: a file of at least `ENTRIES_BYTES`, the first of them zero.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._known: dict[bytes, Any] = {}
        # Kept for good: closing a map closes a descriptor, and that drops this process's locks.
        self._maps: list[mmap.mmap] = []

    @property
    def n_bytes(self) -> int:
        """The size of all that is on it."""
        return os.fstat(self._fd).st_size

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key: computed by whoever asks first, mapped by all, its maker too.

        Its arrays may be written: what one process changes in them, others do not see. Where there
        is no room for the value its maker keeps it, and others make it anew.
        """
        digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
        if digest not in self._known:
            with self._locked(1 + int.from_bytes(digest[:8], "big") % _KEYS):
                self._known[digest] = self._taken(digest, make)
        return self._known[digest]

    def _taken(self, digest: bytes, make: Callable[[], Any]) -> Any:
        place = self._find(digest)
        if place is None:
            value = make()
            try:
                place = self._put(digest, value)
            except (OSError, MemoryError, pickle.PicklingError):
                return value
        return self._mapped(*place)

    @contextlib.contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, byte)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, byte)

    def _entries(self) -> Iterator[tuple[bytes, int, int, int]]:
        return _ENTRY.iter_unpack(os.pread(self._fd, ENTRIES_BYTES, 0))

    def _find(self, digest: bytes) -> _Place | None:
        return next((tuple(place) for known, *place in self._entries() if known == digest), None)

    def _put(self, digest: bytes, value: Any) -> _Place:
        """Write a value, and its entry last: what a death cuts short has none and does not count.

        Raises:
            OSError, MemoryError: where there is no room.
        """
        buffers: list[pickle.PickleBuffer] = []
        body = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        sizes = [buffer.raw().nbytes for buffer in buffers]
        ends = [0]
        for size in sizes:
            ends.append(_to_page(ends[-1] + size))
        spans = list(zip(ends, sizes, strict=False))
        tail = pickle.dumps((spans, body), 5)
        with self._locked(_APPEND):
            free = (i for i, (known, *_) in enumerate(self._entries()) if not any(known))
            number = next(free, None)
            if number is None:
                raise OSError("all entries are taken")
            start = _to_page(self.n_bytes)
            place = (start, ends[-1], ends[-1] + len(tail))
            try:
                for buffer, (offset, _) in zip(buffers, spans, strict=True):
                    self._write(buffer.raw(), start + offset)
                self._write(tail, start + ends[-1])
            except BaseException:
                os.truncate(self._fd, start)
                raise
            self._write(_ENTRY.pack(digest, *place), number * _ENTRY.size)
        return place

    def _write(self, data: bytes | memoryview, at: int) -> None:
        left = memoryview(data)
        while left:
            done = os.pwrite(self._fd, left, at)
            left, at = left[done:], at + done

    def _mapped(self, start: int, offset: int, size: int) -> Any:
        self._maps.append(mmap.mmap(self._fd, size, access=mmap.ACCESS_COPY, offset=start))
        view = memoryview(self._maps[-1])
        spans, body = pickle.loads(view[offset:])
        return pickle.loads(body, buffers=[view[at : at + n] for at, n in spans])


def _to_page(n: int) -> int:
    return -(-n // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


_lent: list[Shelf] = []


def lend(fd: int) -> Shelf:
    """Have `once` use this file, in this process and those forked from it."""
    _lent[:] = [Shelf(fd)]
    return _lent[0]


def once(key: Any, make: Callable[[], Any]) -> Any:
    """As `Shelf.once`, on the shelf that this process was lent; without one, simply made."""
    return _lent[0].once(key, make) if _lent else make()
