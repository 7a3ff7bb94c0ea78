"""The other side of the pool: the zygote, which forks and watches workers, and a worker's own loop.

driver (pool.py) --socketpair--> zygote --fork--> workers --socketpair each--> driver

The zygote is one thread that sleeps in poll(), forked from the nursery (nursery.py) with what is
safe to import. It maps the shared value, forks a worker when asked, passes on what each job printed
(head and tail), watches memory, kills and reaps workers, and says how each one ended. It never runs
a job.

What a worker prints goes into one pipe. At a job's end the worker writes a mark of its own there,
so it may begin the next job at once: the zygote knows whose words are whose.

Nobody outlives the driver: the zygote sees the end of its socket (or another parent, or the
nursery tells it) and kills every worker's process group; a worker dies with the zygote
(PR_SET_PDEATHSIG; where that is missing, a thread watches); an idle worker sees the end of its own
socket.

Imports the standard library and cloudpickle alone: this is paid at each start.
"""
# ruff: noqa: S301, PTH110, PTH123, PTH208
# S301: what is unpickled comes through a socketpair from the driver, which runs the same code
# PTH: plain os calls, which cost less in what runs around every job

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import io
import mmap
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import cloudpickle

from surefit.edges import messages, shelf
from surefit.edges.shelf import Shelf

KEPT_BYTES = 64 * 1024  # of what one job prints: half from its start, half from its end
LOOK_SECONDS = 0.2  # between two looks at the workers' memory
PARENT_SECONDS = 0.5  # between two looks at whether the parent is still there
TEXT_CHARACTERS = 64 * 1024  # of a traceback
REASON_CHARACTERS = 500

_TOKEN = struct.Struct("!Q")  # behind a mark: of which job it is the end
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


# --- what both the zygote and the workers need ---


def die_with(parent: int) -> bool:
    """Have the kernel kill this process when the thread that started it ends; False if it cannot.

    The signal follows the parent's *thread*: safe under the zygote, which has one thread.
    """
    done = False
    if sys.platform == "linux":
        done = bool(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    return done


def live_on() -> None:
    """Take `die_with` back."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def woken_by_children() -> tuple[int, int]:
    """A pipe that SIGCHLD writes to, so that poll() wakes up; Ctrl-C is left to the driver."""
    pipe = os.pipe()
    for fd in pipe:
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(pipe[1], warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return pipe


def named(name: bytes) -> None:
    """Give this process a name that `ps` and `top` show."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_NAME, name, 0, 0, 0)


def n_threads() -> int:
    """Threads of this process, those of C libraries included where the system tells."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def own_bytes(pid: int | str, shared_bytes: int = 0) -> tuple[int, int]:
    """A process's memory now and at its peak, in bytes, without program files and what is shared.

    (0, 0) when the process is gone.
    """
    if not os.path.exists("/proc/self/status"):
        return _own_bytes_by_ps(pid)
    kib = dict.fromkeys((b"VmHWM", b"VmRSS", b"RssFile", b"RssShmem"), 0)
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            lines = file.read().splitlines()
    except OSError:
        return 0, 0
    for line in lines:
        name, _, text = line.partition(b":")
        if name in kib:
            kib[name] = int(text.split()[0])
    elsewhere = kib[b"RssFile"] * 1024 + min(kib[b"RssShmem"] * 1024, shared_bytes)
    return kib[b"VmRSS"] * 1024 - elsewhere, kib[b"VmHWM"] * 1024 - elsewhere


def _own_bytes_by_ps(pid: int | str) -> tuple[int, int]:
    if pid == "self":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return 0, peak if sys.platform == "darwin" else peak * 1024
    import subprocess

    command = ["ps", "-o", "rss=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, check=False).stdout.strip()
    return (int(said) * 1024, int(said) * 1024) if said.isdigit() else (0, 0)


def one_line(error: BaseException) -> str:
    """An exception as one line, also when its own str() raises."""
    name = type(error).__name__
    try:
        text = str(error).strip().partition("\n")[0]
    except BaseException:
        text = "(its message cannot be shown)"
    return (f"{name}: {text}" if text else name)[:REASON_CHARACTERS]


def full_text(error: BaseException) -> str:
    """An exception with its traceback, long ones cut in the middle, without our calling frame."""
    try:
        below = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, below))
    except BaseException:  # out of memory, or a __str__ that raises
        return one_line(error)
    if len(text) <= TEXT_CHARACTERS:
        return text
    half = TEXT_CHARACTERS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


# --- the zygote ---


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
        size = len(self._mark) + _TOKEN.size
        while 0 <= (at := data.find(self._mark)) <= len(data) - size:
            self._keep(data[:at])
            (token,) = _TOKEN.unpack_from(data, at + len(self._mark))
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


class _Shared:
    """The value that all workers are given: a pickle whose large buffers stay in a mapped file."""

    def __init__(self, fd: int, pickle_size: int, spans: list[tuple[int, int]]) -> None:
        self.n_bytes = os.fstat(fd).st_size
        self._map = memoryview(mmap.mmap(fd, self.n_bytes, access=mmap.ACCESS_READ))
        os.close(fd)
        self._pickle = self._map[:pickle_size]
        self._buffers = [self._map[start : start + size] for start, size in spans]
        self._value: Any = None
        self._is_loaded = False

    def value(self) -> Any:
        if not self._is_loaded:
            self._value = pickle.loads(self._pickle, buffers=self._buffers)
            self._is_loaded = True
        return self._value


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
        self._shared: _Shared | None = None
        self._shelf: Shelf | None = None
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._wake = woken_by_children()
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
            seconds = LOOK_SECONDS if self._memory and self._children else PARENT_SECONDS
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
                self._share(_Shared(fds[0], pickle_size, spans), lazy)
            case ("end", seconds):
                self._end(seconds)

    def _surround(self, body: bytes) -> None:
        """Take on the driver's import path and folder, which may have changed since the start."""
        sys.path[:], folder = pickle.loads(body)
        with contextlib.suppress(OSError):
            os.chdir(folder)

    def _share(self, shared: _Shared, lazy: bool) -> None:
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
            self._tell(("dead", uid, 0, 0, f"no process could be started: {one_line(error)}"))
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
        watched = die_with(zygote)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._control.close()
        for unused in (*self._wake, pipe, *(c.pipe for c in self._children.values())):
            os.close(unused)
        for stream in (1, 2):
            os.dup2(out, stream)
        work(
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
        return own_bytes(child.pid, _common_bytes(self._shared, self._shelf))

    def _watch_memory(self) -> None:
        for child in self._children.values():
            now, child.peak_bytes = self._own_bytes(child)
            if now > self._memory and not child.why:
                child.why = f"exceeded {size_text(self._memory)} of memory"
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
        if self._strict and n_threads() > 1:
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


def size_text(n_bytes: int) -> str:
    """A size for people: "2.0 GiB", "300 MiB"."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def zygote(control: socket.socket, parent: int, notes: list[str], *, strict: bool) -> NoReturn:
    """Be the zygote that obeys `control`, forked by `parent`; `notes` are told first."""
    named(b"surefit-zygote")
    server = _Zygote(control, parent, notes, strict)
    server.set_up()
    server.serve()


# --- a worker ---


def work(
    sock: socket.socket,
    out: int,
    mark: bytes,
    fn_pickle: bytes,
    shared: _Shared | None,
    shelf: Shelf | None,
    memory: int,
    *,
    watch: int | None,
) -> NoReturn:
    """Run jobs until the driver's end of the socket is gone."""
    named(b"surefit-worker")
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
        _LIBC.fflush(None)
        now, peak = own_bytes("self", _common_bytes(shared, shelf))
        # a thread left running, or memory kept, would fall upon the next job: start afresh
        retire = (
            not before.issuperset(threading.enumerate())
            or bool(memory and now > memory / 2)
            or reason.startswith("MemoryError")
            or not _marked(out, pipe, mark, token)
        )  # its end is a mark, too
        messages.send(sock, ("done", token, state, reason, trace, seconds, peak, retire), value)
        del body, value
        if retire:
            break
    os._exit(0)


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
        return is_there and os.write(out, mark + _TOKEN.pack(token)) > 0
    except OSError:
        return False


def _common_bytes(shared: _Shared | None, shelf: Shelf | None) -> int:
    """What workers have in common, which is no one's own."""
    return (shared.n_bytes if shared else 0) + (shelf.n_bytes if shelf else 0)


def _settle(out: int, fd: int, watch: int | None) -> None:
    if watch is not None:
        threading.Thread(target=watch_parent, args=(watch, fd), daemon=True).start()
    _streams(out)
    faulthandler.enable(2)  # a crash in C code prints where it was
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # out of memory, the kernel takes a worker rather than the driver
    random = sys.modules.get("numpy.random")
    if random is not None:  # like Python's own generator, which is seeded anew after a fork
        random.seed()


def watch_parent(parent: int, fd: int) -> NoReturn:
    """Kill this process's group once its parent, or the other end of `fd`, is gone."""
    poll = select.poll()
    poll.register(fd, 0)  # tells of a hang-up and of nothing else
    while os.getppid() == parent and not poll.poll(PARENT_SECONDS * 1000):
        pass
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


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


def _loaded(fn_pickle: bytes, shared: _Shared | None) -> Callable[[bytes], _Ran]:
    """The job runner; when the function cannot be loaded, one that says so of each job."""
    try:
        fn = pickle.loads(fn_pickle)
        data = shared.value() if shared else None
    except BaseException as error:
        failed: _Ran = ("FAILED", b"", one_line(error), full_text(error), 0.0)
        return lambda body: failed
    return lambda body: _ran(fn, data, body)


def _ran(fn: Callable[..., Any], shared: Any, body: bytes) -> _Ran:
    start = time.perf_counter()
    try:
        value = fn(shared, *pickle.loads(body))
    except BaseException as error:  # errors travel as text: their classes may exist only here
        seconds = time.perf_counter() - start
        return "FAILED", b"", one_line(error), full_text(error), seconds
    seconds = time.perf_counter() - start
    try:
        return "DONE", _pickled(value), "", "", seconds
    except BaseException as error:
        reason = f"its value cannot be pickled: {one_line(error)}"[:REASON_CHARACTERS]
        return "FAILED", b"", reason, full_text(error), seconds


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)  # several times faster
    except Exception:
        data: bytes = cloudpickle.dumps(value, 5)
        return data
