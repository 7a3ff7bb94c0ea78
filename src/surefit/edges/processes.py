"""What nursery, zygote and workers need of processes: names, ends, threads, memory, last words.

Imports the standard library alone: this is paid at each start.
"""
# ruff: noqa: PTH110, PTH123, PTH208 (plain os calls, which cost less in what runs around every job)

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import threading
import traceback
from typing import IO, NoReturn

GONE_SECONDS = 2.0  # to wait for a killed process (it may hang in the kernel)
PARENT_SECONDS = 0.5  # between two looks at whether the parent is still there
TEXT_CHARACTERS = 64 * 1024  # of a traceback
REASON_CHARACTERS = 500

LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def die_with(parent: int) -> bool:
    """Have the kernel kill this process when the thread that started it ends; False if it cannot.

    The signal follows the parent's *thread*: safe under the zygote, which has one thread.
    """
    done = False
    if sys.platform == "linux":
        done = bool(LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    return done


def live_on() -> None:
    """Take `die_with` back."""
    if sys.platform == "linux":
        LIBC.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


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
        LIBC.prctl(_PR_SET_NAME, name, 0, 0, 0)


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


def size_text(n_bytes: int) -> str:
    """A size for people: "2.0 GiB", "300 MiB"."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def last_line(file: IO[bytes]) -> str:
    """The last line of what was written to a file of ours."""
    file.seek(0)
    return file.read().decode(errors="replace").strip().rpartition("\n")[2]


def how_it_ended(code: int) -> str:
    """An exit code in words; a negative one is a signal."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def watch_parent(parent: int, fd: int) -> NoReturn:
    """Kill this process's group once its parent, or the other end of `fd`, is gone."""
    poll = select.poll()
    poll.register(fd, 0)  # tells of a hang-up and of nothing else
    while os.getppid() == parent and not poll.poll(PARENT_SECONDS * 1000):
        pass
    os.killpg(0, signal.SIGKILL)
    os._exit(1)
