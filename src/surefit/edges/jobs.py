"""Jobs and how they end: what a search says to its workers, wherever they are."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

ATTEMPTS = 3  # of a job whose worker died with its parent, or was killed by somebody else
SHORT = 0.1  # seconds of a job after which its worker is trusted with one more in hand


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of the pool's function, `fn(shared, *args)`; `key` names it in its outcome."""

    key: Hashable
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one job ended.

    Attributes:
        value: what the function returned; None when it FAILED.
        reason: one line, empty when DONE: "ValueError: …", "killed by SIGSEGV", "exceeded 3.0 s",
            "exceeded 2.0 GiB of memory", "exited with code 3".
        traceback: of the exception, or where a crash was; empty otherwise.
        seconds: inside the function; of a killed job, since it was handed out.
        peak_bytes: the worker's own memory at most, without program files and the shared value.
        output: what the job printed, 64 kB at most: its start and its end.
    """

    key: Hashable
    state: Literal["DONE", "FAILED"]
    value: Any = None
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    output: str = ""


class Peaks:
    """The memory that jobs had at once at most: of the largest, one for each worker."""

    def __init__(self, n_workers: int) -> None:
        self._largest = [0] * n_workers

    def add(self, n_bytes: int) -> None:
        """A job's own memory at its peak."""
        self._largest = sorted([*self._largest, n_bytes])[1:]

    @property
    def total(self) -> int:
        """The sum, in bytes."""
        return sum(self._largest)


class Workers(Protocol):
    """What runs a search's jobs: `Pool` here, `RayPool` on a cluster. Used from one thread."""

    def submit(self, job: Job) -> None:
        """Hand a job over."""

    def next(self, timeout: float | None = None) -> Outcome | None:
        """The next outcome; None after `timeout` seconds, and when no job is on its way."""

    @property
    def idle(self) -> int:
        """Jobs that could start now."""

    def cancel(self, key: Hashable) -> None:
        """Forget a job, and stop it if it runs."""

    @property
    def peak_bytes(self) -> int:
        """Memory of the jobs that ran at once, at most, on whichever machines."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
