"""Messages between a driver, its nursery, zygotes and workers: a pickled tuple, bytes, descriptors.

Imports the standard library alone: this is paid at each start.
"""
# ruff: noqa: S301 (what is unpickled comes through a socketpair from a process of our own)

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

_HEADER = struct.Struct("!QQ")  # bytes of the pickled heading, bytes of the body


def packed(heading: tuple[Any, ...], body: bytes = b"") -> bytes:
    """A message's bytes up to its body, which follows."""
    head = pickle.dumps(heading, 5)
    return _HEADER.pack(len(head), len(body)) + head


def send(
    sock: socket.socket, heading: tuple[Any, ...], body: bytes = b"", fds: Sequence[int] = ()
) -> None:
    """Write one message; blocks until the other side has room."""
    head = packed(heading, body)
    if fds:
        head = head[socket.send_fds(sock, [head], fds) :]
    if len(body) < 1 << 16:
        sock.sendall(head + body)
    else:
        sock.sendall(head)
        sock.sendall(body)


def receive(sock: socket.socket) -> tuple[tuple[Any, ...], bytes, list[int]]:
    """Read one message; blocks. Raises EOFError when the other side is gone."""
    data, fds, _, _ = socket.recv_fds(sock, _HEADER.size, 2)
    for fd in fds:
        os.set_inheritable(fd, False)
    size, body_size = _HEADER.unpack(data + _exactly(sock, _HEADER.size - len(data), data))
    return pickle.loads(_exactly(sock, size)), _exactly(sock, body_size), fds


def _exactly(sock: socket.socket, size: int, before: bytes = b"begun") -> bytes:
    if not before:
        raise EOFError
    data = bytearray(size)
    view = memoryview(data)
    while view:
        n = sock.recv_into(view)
        if n == 0:
            raise EOFError
        view = view[n:]
    return bytes(data)


class Inbox:
    """Puts messages together from a socket without ever waiting for one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = bytearray()

    @property
    def partial(self) -> bool:
        """Whether a message has begun to arrive."""
        return bool(self._data)

    def read(self) -> tuple[list[tuple[tuple[Any, ...], bytes]], bool]:
        """The messages complete by now, and whether the other side is still there."""
        is_open = True
        while True:
            try:
                chunk = self._sock.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                is_open = False
                break
            self._data += chunk
        return list(self._complete()), is_open

    def _complete(self) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        while len(self._data) >= _HEADER.size:
            size, body_size = _HEADER.unpack_from(self._data)
            start, end = _HEADER.size + size, _HEADER.size + size + body_size
            if len(self._data) < end:
                return
            view = memoryview(self._data)
            heading = pickle.loads(view[_HEADER.size : start])
            body = bytes(view[start:end])
            view.release()
            del self._data[:end]
            yield heading, body
