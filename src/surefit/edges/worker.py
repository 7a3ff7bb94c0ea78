"""A worker's own loop: it runs one job after another, and answers the driver.

It is forked by the zygote (zygote.py). A job that leaves a thread or much memory behind has its
worker end with it; what it did to stdout and stderr is put right.

Imports the standard library and cloudpickle alone: this is paid at each start.
"""
# ruff: noqa: S301, PTH123
# S301: what is unpickled comes through a socketpair from the driver, which runs the same code
# PTH: plain os calls, which cost less in what runs around every job

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import pickle
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import cloudpickle

from surefit.edges import messages, processes
from surefit.edges.shared import Mapped
from surefit.edges.shelf import Shelf

TOKEN = struct.Struct("!Q")  # behind a mark: of which job it is the end


def work(
    sock: socket.socket,
    out: int,
    mark: bytes,
    fn_pickle: bytes,
    shared: Mapped | None,
    shelf: Shelf | None,
    memory: int,
    *,
    watch: int | None,
) -> NoReturn:
    """Run jobs until the driver's end of the socket is gone."""
    processes.named(b"surefit-worker")
    _settle(out, sock.fileno() if watch is not None else -1, watch)
    me = os.getpid()
    run = _loaded(fn_pickle, shared)
    pipe = os.fstat(out)
    messages.send(sock, ("hello", me))
    for token, body in _jobs(sock):
        streams = _streams(out)
        before = set(threading.enumerate())
        _reset_peak()
        state, value, reason, trace, seconds = run(body)
        if os.getpid() != me:  # the job forked, and this is its child, which must not answer too
            os._exit(0)
        for stream in {*streams, sys.stdout, sys.stderr}:
            with contextlib.suppress(BaseException):
                stream.flush()
        processes.LIBC.fflush(None)
        now, peak = processes.own_bytes("self", common_bytes(shared, shelf))
        # a thread left running, memory kept, or a GPU left in error would fall upon the next job
        retire = (
            not before.issuperset(threading.enumerate())
            or bool(memory and now > memory / 2)
            or reason.startswith("MemoryError")
            or (state == "FAILED" and _on_gpu())
            or not _marked(out, pipe, mark, token)
        )  # its end is a mark, too
        messages.send(sock, ("done", token, state, reason, trace, seconds, peak, retire), value)
        del body, value
        if retire:
            break
    os._exit(0)


def _on_gpu() -> bool:
    """Whether torch has begun to use a GPU here: after one error there all that follows fails."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _jobs(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Token and body of one job after another, but for those taken back; until the driver goes."""
    waiting: dict[int, bytes] = {}
    while True:
        try:
            while not waiting or select.select([sock], [], [], 0)[0]:
                (what, token), body, _ = messages.receive(sock)
                if what == "job":
                    waiting[token] = body
                else:
                    waiting.pop(token, None)
        except (EOFError, OSError):
            return
        token = next(iter(waiting))
        yield token, waiting.pop(token)


def _marked(out: int, pipe: os.stat_result, mark: bytes, token: int) -> bool:
    """Whether the end of what a job printed could be marked: it may have closed all files."""
    try:
        now = os.fstat(out)
        is_there = (now.st_dev, now.st_ino) == (pipe.st_dev, pipe.st_ino)
        return is_there and os.write(out, mark + TOKEN.pack(token)) > 0
    except OSError:
        return False


def _settle(out: int, fd: int, watch: int | None) -> None:
    if watch is not None:
        threading.Thread(target=processes.watch_parent, args=(watch, fd), daemon=True).start()
    _streams(out)
    faulthandler.enable(2)  # a crash in C code prints where it was
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # out of memory, the kernel takes a worker rather than the driver
    random = sys.modules.get("numpy.random")
    if random is not None:  # like Python's own generator, which is seeded anew after a fork
        random.seed()


def _streams(out: int) -> tuple[io.TextIOBase, ...]:
    """Make stdout and stderr whole again, whatever the last job did to them."""
    for fd in (1, 2):
        os.dup2(out, fd)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.FileIO(fd, "w", closefd=False),
            encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True,
        )
        for fd in (1, 2)
    )  # fmt: skip
    return sys.stdout, sys.stderr


def _reset_peak() -> None:
    try:
        fd = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.write(fd, b"5")
    os.close(fd)


_Ran = tuple[str, bytes, str, str, float]


def _loaded(fn_pickle: bytes, shared: Mapped | None) -> Callable[[bytes], _Ran]:
    """The job runner; when the function cannot be loaded, one that says so of each job."""
    try:
        fn = pickle.loads(fn_pickle)
        data = shared.value() if shared else None
    except BaseException as error:
        failed: _Ran = ("FAILED", b"", processes.one_line(error), processes.full_text(error), 0.0)
        return lambda body: failed
    return lambda body: _ran(fn, data, body)


def _ran(fn: Callable[..., Any], shared: Any, body: bytes) -> _Ran:
    start = time.perf_counter()
    try:
        value = fn(shared, *pickle.loads(body))
    except BaseException as error:  # errors travel as text: their classes may exist only here
        seconds = time.perf_counter() - start
        return "FAILED", b"", processes.one_line(error), processes.full_text(error), seconds
    seconds = time.perf_counter() - start
    try:
        return "DONE", _pickled(value), "", "", seconds
    except BaseException as error:
        reason = f"its value cannot be pickled: {processes.one_line(error)}"
        reason = reason[: processes.REASON_CHARACTERS]
        return "FAILED", b"", reason, processes.full_text(error), seconds


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)  # several times faster
    except Exception:
        data: bytes = cloudpickle.dumps(value, 5)
        return data


def common_bytes(shared: Mapped | None, shelf: Shelf | None) -> int:
    """What workers have in common, which is no one's own."""
    return (shared.n_bytes if shared else 0) + (shelf.n_bytes if shelf else 0)
