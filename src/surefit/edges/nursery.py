"""One process that has imported what jobs need; the parents of workers are forked from it.

driver (pool.py) --socketpair--> nursery --fork--> a zygote a pool (zygote.py) --fork--> workers

Importing pandas and scikit-learn takes a second. The nursery pays it once, while the driver opens
its store and reads its data, and a later pool of the same process has its workers in milliseconds.
It imports libraries and nothing of the user's; it runs no job, and a zygote never comes back to it.

It ends with the driver (its socket ends, or it has another parent), and when it was of no use for
`LINGER` seconds; it takes its zygotes along.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from surefit.edges import messages, processes, zygote
from surefit.errors import ServiceError

LINGER = 300.0  # seconds without a zygote after which a nursery ends
# What workers that fit folds have before their first job; importing these starts no threads.
FOLDS = ("pandas", "sklearn.compose", "lightgbm", "surefit.verbs.fold_job")
MOST = 3  # nurseries of one driver; they differ in what they imported

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
# the import path comes as arguments: the driver's own, so that imports resolve the same
_BOOT = (
    "import sys; fd, driver, guarded, *sys.path[:] = sys.argv[1:]; "
    "from surefit.edges.nursery import nursery; nursery(int(fd), int(driver), guarded == '1')"
)


# --- the driver's side ---


@dataclass(frozen=True)
class _Key:
    """What makes one nursery as good as another, within one process."""

    driver: int
    preload: tuple[str, ...]
    threads: int
    options: tuple[str, ...]


_nurseries: dict[_Key, Nursery] = {}
_lock = threading.RLock()


def ready(preload: tuple[str, ...], *, threads: int = 1) -> Nursery:
    """The nursery with these modules: the one there is, or a new one, which is still importing.

    Raises:
        ServiceError: on a system without fork.
    """
    if not hasattr(os, "fork"):
        raise ServiceError("Local workers need a system with fork (Linux, macOS).")
    key = _Key(os.getpid(), preload, threads, tuple(sys.warnoptions))
    with _lock:
        for old in [k for k, n in _nurseries.items() if k.driver != key.driver or not n.is_there]:
            gone = _nurseries.pop(old)
            if old.driver == key.driver:
                gone.close()
        for old in list(_nurseries)[: max(0, len(_nurseries) - MOST + 1)]:
            if old != key and not _nurseries[old].births:
                _nurseries.pop(old).close()
        if key not in _nurseries:
            _nurseries[key] = Nursery(preload, threads)
        return _nurseries[key]


@atexit.register
def close_all() -> None:
    """End the nurseries of this process, and what they forked."""
    with _lock:
        for key in [k for k, n in _nurseries.items() if k.driver == os.getpid()]:
            _nurseries.pop(key).close()


def close_idle() -> None:
    """End the nurseries of this process that no zygote came from, or none is left of."""
    with _lock:
        for key in [k for k, n in _nurseries.items() if k.driver == os.getpid() and not n.births]:
            _nurseries.pop(key).close()


class Nursery:
    """The driver's end of one nursery. Any thread may call any method."""

    def __init__(self, preload: tuple[str, ...], threads: int) -> None:
        self.births: set[int] = set()  # zygotes not known to have ended
        self._ended: dict[int, int] = {}  # and how the others did
        self._next = 0
        self._lock = threading.RLock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._control, theirs = socket.socketpair()
        main = threading.current_thread() is threading.main_thread()
        command = [sys.executable, "-P", *(f"-W{option}" for option in sys.warnoptions)]
        arguments = [str(theirs.fileno()), str(os.getpid()), str(int(main)), *map(str, sys.path)]
        with theirs:
            self._process = subprocess.Popen(
                [*command, "-c", _BOOT, *arguments],
                env=_environment(threads),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C in the terminal does not come there
            )
        self._threads = threads
        self._inbox = messages.Inbox(self._control)
        self._send((preload,))

    @property
    def is_there(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    def birth(self, control: socket.socket, errors: IO[bytes], *, strict: bool) -> int:
        """Have a zygote forked that obeys `control`; its number.

        Where an import started threads, which do not survive a fork, "unsafe" is said over
        `control` instead (unless not `strict`).
        """
        with self._lock:
            self._next += 1
            self.births.add(self._next)
            heading = ("zygote", self._next, strict, _environment(self._threads))
            self._send(heading, (control.fileno(), errors.fileno()))
            return self._next

    def ended(self, number: int, seconds: float) -> int | None:
        """Wait for a zygote to end; its exit code, negative for a signal; None: not in time."""
        until = time.monotonic() + seconds
        with self._lock:
            while number not in self._ended:
                left = until - time.monotonic()
                if left <= 0 or not select.select([self._control], [], [], left)[0]:
                    return None
                messages, is_open = self._inbox.read()
                self._ended |= {n: code for (_, n, code), _ in messages}
                if not is_open:  # its zygotes end by themselves
                    self._ended.setdefault(number, self._process.wait())
            self.births.discard(number)
            return self._ended.pop(number)

    def last_words(self) -> str:
        """The last line that its process wrote to standard error."""
        return processes.last_line(self._errors)

    def kill(self, number: int) -> None:
        """Kill a zygote; its workers die with it."""
        self._send(("kill", number))

    def close(self) -> None:
        """End it, and its zygotes."""
        self._control.close()
        if self.births:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        self._process.kill()  # it may still be importing
        self._process.wait()
        self._errors.close()

    def _send(self, heading: tuple[Any, ...], fds: tuple[int, ...] = ()) -> None:
        """Say something; when it is gone, whoever waits for a zygote sees that."""
        with self._lock, contextlib.suppress(OSError):
            messages.send(self._control, heading, fds=fds)


def _environment(threads: int) -> dict[str, str]:
    """Threads for the jobs; and none that NumPy or Arrow starts on import, before the fork."""
    wishes = {"GOMP_SPINCOUNT": "1000", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    ours = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return {**wishes, **os.environ, **ours, "OPENBLAS_NUM_THREADS": "1"}


# --- the process itself ---


class _Nursery:
    """Imports, then forks a zygote when asked, and says how each one ended."""

    def __init__(self, control: socket.socket, driver: int) -> None:
        self._control = control
        self._driver = driver
        self._notes: list[str] = []
        self._unsafe: str | None = None  # the import that started threads
        self._children: dict[int, int] = {}  # pid → number
        self._idle_since = time.monotonic()
        self._wake = processes.woken_by_children()

    def set_up(self) -> None:
        """Take the first message: what to import."""
        try:
            (preload,), _, _ = messages.receive(self._control)
        except (EOFError, OSError):
            os._exit(0)
        for name in preload:
            try:
                importlib.import_module(name)
            except BaseException as error:
                self._notes.append(f"{name} was not preloaded: {processes.one_line(error)}")
            if self._unsafe is None and processes.n_threads() > 1:  # OpenBLAS: see `_environment`
                self._unsafe = name
        gc.collect()
        gc.freeze()  # the collector leaves these objects alone, so their pages stay shared

    def serve(self) -> NoReturn:
        """Do what the driver asks until it is gone, or has asked nothing for long."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake[0], select.POLLIN)
        while True:
            for fd, _ in poll.poll(processes.PARENT_SECONDS * 1000):
                if fd == self._wake[0]:
                    os.read(fd, 1 << 12)
                    self._reap()
                else:
                    self._answer()
            idle = time.monotonic() - self._idle_since
            if os.getppid() != self._driver or (not self._children and idle > LINGER):
                self._end()

    def _answer(self) -> None:
        try:
            heading, _, fds = messages.receive(self._control)
        except (EOFError, OSError):
            self._end()
        match heading:
            case ("zygote", number, strict, environment):
                self._bear(number, strict, environment, *fds)
            case ("kill", number):
                for pid, n in self._children.items():
                    if n == number:
                        os.kill(pid, signal.SIGKILL)
        self._idle_since = time.monotonic()

    def _bear(
        self, number: int, strict: bool, environment: dict[str, str], control: int, errors: int
    ) -> None:
        sock = socket.socket(fileno=control)
        if self._unsafe is not None and strict:
            with contextlib.suppress(OSError):
                messages.send(sock, ("unsafe", self._unsafe))
            self._end()  # of no use to anybody
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_zygote(sock, errors, parent, environment, strict)
            finally:
                os._exit(70)
        self._children[pid] = number
        sock.close()
        os.close(errors)

    def _become_zygote(
        self, sock: socket.socket, errors: int, parent: int, environment: dict[str, str],
        strict: bool,
    ) -> NoReturn:  # fmt: skip
        os.setsid()
        signal.set_wakeup_fd(-1)
        self._control.close()
        for unused in self._wake:
            os.close(unused)
        os.dup2(errors, 2)
        os.close(errors)
        os.environ.clear()
        os.environ.update(environment)
        zygote.be_zygote(sock, parent, self._notes, strict=strict)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                number = self._children.pop(found[0], None)
                code = os.waitstatus_to_exitcode(found[1])
                with contextlib.suppress(OSError):
                    messages.send(self._control, ("ended", number, code))
        self._idle_since = time.monotonic()

    def _end(self) -> NoReturn:
        for pid in self._children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)  # a zygote kills its workers' groups, and goes
        os._exit(0)


def nursery(fd: int, driver: int, guarded: bool) -> NoReturn:
    """Be the nursery; `guarded` when the driver started it from its main thread."""
    processes.named(b"surefit-nursery")
    if guarded:  # importing may take long, and nothing watches the socket meanwhile
        processes.die_with(driver)
    server = _Nursery(socket.socket(fileno=fd), driver)
    server.set_up()
    if guarded:  # from here on it must live to end its zygotes
        processes.live_on()
    server.serve()
