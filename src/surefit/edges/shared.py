"""The value that a pool's jobs have in common: written once, mapped read-only by all workers.

driver: `written` --descriptor--> zygote: `Mapped`, which its workers inherit
"""
# ruff: noqa: S301
# S301: what is unpickled comes through a socketpair from the driver, which runs the same code

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import cloudpickle


@dataclass(frozen=True)
class SharedFile:
    """The shared value in an unnamed file: nothing is left of it when all who hold it are gone."""

    fd: int
    pickle_size: int
    spans: list[tuple[int, int]]  # of the out-of-band buffers: start, size


def unnamed_file(name: str) -> int:
    """An empty file that has no name: on Linux in memory, so that rows never touch a disk."""
    if sys.platform == "linux":
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as unnamed:
            fd = os.dup(unnamed.fileno())
    return fd


def written(value: Any) -> SharedFile:
    """Write a value so that its arrays can be mapped: shared between workers, and read-only."""
    buffers: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    fd = unnamed_file("surefit-shared")
    spans = []
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
        for buffer in buffers:
            with buffer.raw() as view:
                start = -(-file.tell() // mmap.PAGESIZE) * mmap.PAGESIZE
                file.seek(start)
                file.write(view)
                spans.append((start, view.nbytes))
    if sys.platform == "linux":
        # not F_SEAL_WRITE: Linux before 6.7 then refuses to map it, even read-only
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return SharedFile(fd, len(data), spans)


class Mapped:
    """A written value as workers have it: its large buffers stay in the file.

    Attributes:
        n_bytes: of the file, which are no one's own.
    """

    def __init__(self, fd: int, pickle_size: int, spans: list[tuple[int, int]]) -> None:
        self.n_bytes = os.fstat(fd).st_size
        self._map = memoryview(mmap.mmap(fd, self.n_bytes, access=mmap.ACCESS_READ))
        os.close(fd)
        self._pickle = self._map[:pickle_size]
        self._buffers = [self._map[start : start + size] for start, size in spans]
        self._value: Any = None
        self._is_loaded = False

    def value(self) -> Any:
        """The value, loaded when it is first asked for."""
        if not self._is_loaded:
            self._value = pickle.loads(self._pickle, buffers=self._buffers)
            self._is_loaded = True
        return self._value
