"""The parent of a pool's workers: it forks and watches them, and says how each one ended.

driver (pool.py) --socketpair--> zygote --fork--> workers (worker.py) --socketpair each--> driver

The zygote is one thread that sleeps in poll(), forked from the nursery (nursery.py) with what is
safe to import. It maps the shared value, forks a worker when asked, passes on what each job printed
(head and tail), watches memory, kills and reaps workers. It never runs a job.

What a worker prints goes into one pipe. At a job's end the worker writes a mark of its own there,
so it may begin the next job at once: the zygote knows whose words are whose.

Nobody outlives the driver: the zygote sees the end of its socket (or another parent, or the
nursery tells it) and kills every worker's process group; a worker dies with the zygote
(PR_SET_PDEATHSIG; where that is missing, a thread watches); an idle worker sees the end of its own
socket.
"""
# ruff: noqa: S301
# S301: what is unpickled comes through a socketpair from the driver, which runs the same code

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from surefit.edges import messages, processes, shelf, worker
from surefit.edges.shared import Mapped
from surefit.edges.shelf import Shelf

if TYPE_CHECKING:  # which forks this
    from surefit.edges.nursery import Nursery

KEPT_BYTES = 64 * 1024  # of what one job prints: half from its start, half from its end
LOOK_SECONDS = 0.2  # between two looks at the workers' memory


# --- the driver's side ---


class Zygote:
    """The process that forks workers: started, spoken to, ended."""

    def __init__(self, nursery: Nursery, fn: bytes, *, memory: int, strict: bool) -> None:
        self._nursery = nursery
        self._control, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        with theirs:
            self._number = self._nursery.birth(theirs, self._errors, strict=strict)
        self.inbox = messages.Inbox(self._control)
        self.send((memory, sys.argv), fn)

    def fileno(self) -> int:
        return self._control.fileno()

    def send(self, heading: tuple[Any, ...], body: bytes = b"", *, fd: int = -1) -> None:
        """Say something; when the zygote is gone, its end of the socket tells that."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            fds = () if fd < 0 else (fd,)
            messages.send(self._control, heading, body, fds)

    def end(self, seconds: float) -> str:
        """End it and all its workers within `seconds` and a little; how it ended, in words."""
        self.send(("end", seconds))
        code = self._nursery.ended(self._number, seconds + 0.5)
        if code is None:
            self._nursery.kill(self._number)  # its workers die with it
            code = self._nursery.ended(self._number, processes.GONE_SECONDS)
        self._control.close()
        with self._errors:
            last = processes.last_line(self._errors) or self._nursery.last_words()
        how = processes.how_it_ended(-signal.SIGKILL if code is None else code)
        return f"{how}: {last}" if last else how


# --- the process itself ---


class _Child:
    """A worker as the zygote sees it: its process, and what its jobs printed.

    Attributes:
        printed: (job's token, what it printed) of jobs that have ended, to be passed on.
    """

    def __init__(self, uid: int, pid: int, pipe: int, mark: bytes) -> None:
        self.uid = uid
        self.pid = pid
        self.pipe = pipe
        self.peak_bytes = 0
        self.why = ""
        self.printed: list[tuple[int, bytes]] = []
        self._mark = mark
        self._unsorted = b""  # the last bytes read, which may be the beginning of a mark
        self._head = bytearray()
        self._tail = bytearray()
        self._n_lost = 0

    def drain(self) -> bool:
        """Take what is in the pipe; False at its end.

        Stops after 1 MiB, the most that a pipe holds: a flood may go on for ever.
        """
        for _ in range(16):
            try:
                chunk = os.read(self.pipe, 1 << 16)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._sort(chunk)
        return True

    def last_words(self) -> bytes:
        """What was printed after the last mark, once it has ended."""
        self.drain()
        self._keep(self._unsorted)
        self._unsorted = b""
        return self._text()

    def _sort(self, chunk: bytes) -> None:
        data = self._unsorted + chunk
        size = len(self._mark) + worker.TOKEN.size
        while 0 <= (at := data.find(self._mark)) <= len(data) - size:
            self._keep(data[:at])
            (token,) = worker.TOKEN.unpack_from(data, at + len(self._mark))
            self.printed.append((token, self._text()))
            data = data[at + size :]
        sure = max(0, len(data) - size + 1)
        self._keep(data[:sure])
        self._unsorted = data[sure:]

    def _keep(self, data: bytes) -> None:
        room = KEPT_BYTES // 2 - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        over = len(self._tail) - KEPT_BYTES // 2
        if over > 0:
            del self._tail[:over]
            self._n_lost += over

    def _text(self) -> bytes:
        """What was kept, its middle left out when it is long."""
        gap = f"\n... {self._n_lost} bytes left out ...\n".encode() if self._n_lost else b""
        text = bytes(self._head) + gap + bytes(self._tail)
        self._head, self._tail, self._n_lost = bytearray(), bytearray(), 0
        return text

    def signal(self, number: int) -> None:
        """Signal its whole group; and itself, which may not have made its group yet."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(self.pid, number)


class _Zygote:
    """The process that all workers of a pool are forked from."""

    def __init__(self, control: socket.socket, parent: int, notes: list[str], strict: bool) -> None:
        self._control = control
        self._parent = parent
        self._notes = notes
        self._strict = strict
        self._outgoing = bytearray()  # never waits for the driver, which may be busy
        self._children: dict[int, _Child] = {}  # by pid
        self._fn = b""
        self._memory = 0
        self._shared: Mapped | None = None
        self._shelf: Shelf | None = None
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._wake = processes.woken_by_children()
        signal.signal(signal.SIGTERM, lambda *_: self._end(0.0))
        self._poll.register(self._wake[0], select.POLLIN)

    def set_up(self) -> None:
        """Take the first message: the function, the memory limit and the driver's arguments."""
        try:
            heading, self._fn, _ = messages.receive(self._control)
        except (EOFError, OSError):
            self._end(0.0)
        self._memory, sys.argv[:] = heading
        for note in self._notes:
            self._tell(("note", note))

    def serve(self) -> NoReturn:
        """Do what the driver asks until it is gone."""
        look = 0.0
        while True:
            seconds = LOOK_SECONDS if self._memory and self._children else processes.PARENT_SECONDS
            for fd, events in self._poll.poll(seconds * 1000):
                if fd == self._control.fileno():
                    if events & select.POLLOUT:
                        self._flush()
                    if events & ~select.POLLOUT:
                        self._answer()
                elif fd == self._wake[0]:
                    os.read(fd, 1 << 12)
                    self._reap()
                else:
                    self._read(fd)
            if os.getppid() != self._parent:
                self._end(0.0)
            if self._memory and time.monotonic() >= look:
                look = time.monotonic() + LOOK_SECONDS
                self._watch_memory()

    def _answer(self) -> None:
        try:
            heading, body, fds = messages.receive(self._control)
        except (EOFError, OSError):
            self._end(0.0)
        match heading:
            case ("fork", uid):
                self._surround(body)
                self._fork(uid, fds[0])
            case ("kill", uid):
                for child in self._children.values():
                    if child.uid == uid:
                        child.peak_bytes = self._own_bytes(child)[1]
                        child.signal(signal.SIGKILL)
            case ("lend",):
                self._shelf = shelf.lend(fds[0])
            case ("share", pickle_size, spans, lazy):
                self._surround(body)
                self._share(Mapped(fds[0], pickle_size, spans), lazy)
            case ("end", seconds):
                self._end(seconds)

    def _surround(self, body: bytes) -> None:
        """Take on the driver's import path and folder, which may have changed since the start."""
        sys.path[:], folder = pickle.loads(body)
        with contextlib.suppress(OSError):
            os.chdir(folder)

    def _share(self, shared: Mapped, lazy: bool) -> None:
        """Load the value here, once for all workers; if that fails each worker will say why."""
        self._shared = shared
        if lazy:
            return
        with contextlib.suppress(BaseException):
            shared.value()
        self._check_threads("")
        gc.collect()
        gc.freeze()

    def _fork(self, uid: int, fd: int) -> None:
        self._check_threads("")
        zygote = os.getpid()
        pipe, out = os.pipe()
        os.set_blocking(pipe, False)
        mark = os.urandom(16)  # which no job can print by chance
        try:
            pid = os.fork()
        except OSError as error:
            why = f"no process could be started: {processes.one_line(error)}"
            self._tell(("dead", uid, 0, 0, why))
            for unused in (pipe, out, fd):
                os.close(unused)
            return
        if pid == 0:
            try:
                self._become_worker(zygote, fd, out, pipe, mark)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        os.close(fd)
        os.close(out)
        self._children[pid] = _Child(uid, pid, pipe, mark)
        self._poll.register(pipe, select.POLLIN)

    def _become_worker(self, zygote: int, fd: int, out: int, pipe: int, mark: bytes) -> NoReturn:
        os.setsid()  # Ctrl-C in the terminal does not come here; its children are killed as a group
        watched = processes.die_with(zygote)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._control.close()
        for unused in (*self._wake, pipe, *(c.pipe for c in self._children.values())):
            os.close(unused)
        for stream in (1, 2):
            os.dup2(out, stream)
        worker.work(
            socket.socket(fileno=fd), out, mark, self._fn, self._shared, self._shelf,
            self._memory, watch=None if watched else zygote,
        )  # fmt: skip

    def _read(self, pipe: int) -> None:
        for child in self._children.values():
            if child.pipe == pipe:
                if not child.drain():
                    self._poll.unregister(pipe)
                self._pass_on(child)

    def _pass_on(self, child: _Child) -> None:
        for token, text in child.printed:
            self._tell(("output", child.uid, token), text)
        child.printed.clear()

    def _own_bytes(self, child: _Child) -> tuple[int, int]:
        return processes.own_bytes(child.pid, worker.common_bytes(self._shared, self._shelf))

    def _watch_memory(self) -> None:
        for child in self._children.values():
            now, child.peak_bytes = self._own_bytes(child)
            if now > self._memory and not child.why:
                child.why = f"exceeded {processes.size_text(self._memory)} of memory"
                child.signal(signal.SIGKILL)

    def _reap(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is None:
                continue
            child.signal(signal.SIGKILL)  # what it started
            printed = child.last_words()
            self._pass_on(child)
            with contextlib.suppress(KeyError):
                self._poll.unregister(child.pipe)
            os.close(child.pipe)
            maxrss = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            code = os.waitstatus_to_exitcode(status)
            self._tell(("dead", child.uid, code, child.peak_bytes or maxrss, child.why), printed)

    def _tell(self, heading: tuple[Any, ...], body: bytes = b"") -> None:
        self._outgoing += messages.packed(heading, body) + body
        self._flush()

    def _flush(self) -> None:
        try:
            del self._outgoing[: self._control.send(self._outgoing, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()  # the driver is gone; its end of the socket says so next
        self._poll.modify(self._control, select.POLLIN | (select.POLLOUT if self._outgoing else 0))

    def _check_threads(self, cause: str) -> None:
        """Give up rather than fork with threads: the driver starts another zygote, and wiser."""
        if self._strict and processes.n_threads() > 1:
            self._tell(("unsafe", cause))
            self._end(0.0)

    def _end(self, seconds: float) -> NoReturn:
        """End all workers, gently for `seconds`, and this process."""
        for number in (signal.SIGTERM, signal.SIGKILL) if seconds else (signal.SIGKILL,):
            for child in self._children.values():
                child.signal(number)
            until = time.monotonic() + (seconds or 1.0)
            while self._children and time.monotonic() < until:
                self._reap()
                if self._children:
                    time.sleep(0.002)
        os._exit(0)


def be_zygote(control: socket.socket, parent: int, notes: list[str], *, strict: bool) -> NoReturn:
    """Be the zygote that obeys `control`, forked by `parent`; `notes` are told first."""
    processes.named(b"surefit-zygote")
    server = _Zygote(control, parent, notes, strict)
    server.set_up()
    server.serve()
