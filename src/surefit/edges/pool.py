"""Supervised local processes that run pure jobs: each fails alone, and none outlives the driver.

    with Pool(fit_and_score, workers=2, shared=dataset, deadline=600) as pool:
        for fold in range(5):
            pool.submit(Job(key=(trial, fold), args=(params, fold)))
        while outcome := pool.next():
            ...

Why not multiprocessing or joblib: spawn and forkserver import the user's `__main__` again, and one
killed worker breaks the whole pool. Here a small process of the pool's own, the zygote (zygote.py),
forks a worker in a few milliseconds. Everything happens inside the calls of one thread; between
calls the workers go on, their memory watched by the zygote.

A job's outcome counts when its worker still holds the dispatch's token. Cancelling or overrunning
the deadline closes that worker's socket, so that nothing late can arrive.

A worker whose jobs are short has its next one in hand before it ends the last: it need not wait
until we look. What a worker has in hand goes to another that would otherwise be idle.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import pickle
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cloudpickle

from surefit.edges import messages, nursery, processes, shelf
from surefit.edges.jobs import ATTEMPTS, SHORT, Job, Outcome, Peaks
from surefit.edges.shared import SharedFile, unnamed_file, written
from surefit.edges.zygote import Zygote
from surefit.errors import ServiceError

BOOT_SECONDS = 120.0  # for a worker to start, the imports of the user's function included
BOOT_DEATHS = 3  # in a row; then the next job fails with the reason
RESTARTS = 5  # of the zygote
IN_HAND_BYTES = 1 << 12  # of such a job: more might not fit into the socket, and we would wait


@dataclass
class _Task:
    """A job on its way: pickled once, handed out perhaps again."""

    key: Hashable
    body: bytes
    attempts: int = 0


@dataclass(eq=False)
class _Handed:
    """A job that a worker was handed; its outcome waits for what it printed."""

    token: int
    task: _Task
    outcome: Outcome | None = None
    value: bytes = b""


@dataclass(eq=False)
class _Worker:
    """One worker, as far as the driver knows.

    Attributes:
        job: what it runs.
        in_hand: what it begins with as soon as that has ended.
        answered: what has ended, as long as it is not known what it printed.
        printed: what jobs printed, by token, whose answer we have not read yet.
        withdrawn: what was in its hand was taken back; it is ended if it has begun with it.
        quick: its last job was short.
        why: we end it.
    """

    uid: int
    sock: socket.socket
    state: Literal["booting", "idle", "busy", "silent", "dying"] = "booting"
    since: float = field(default_factory=time.monotonic)  # when it came into this state
    pid: int = 0
    job: _Handed | None = None
    in_hand: _Handed | None = None
    answered: list[_Handed] = field(default_factory=list)
    printed: dict[int, bytes] = field(default_factory=dict)
    withdrawn: bool = False
    quick: bool = False
    why: str = ""

    def __post_init__(self) -> None:
        self.inbox = messages.Inbox(self.sock)

    def turn(self, state: Literal["idle", "busy", "silent", "dying"]) -> None:
        self.state, self.since = state, time.monotonic()

    def begin(self, job: _Handed | None) -> None:
        """Run a job, or wait for one."""
        self.job = job
        if job:
            job.task.attempts += 1
        self.turn("busy" if job else "idle")

    def handed(self) -> Iterator[_Handed]:
        """All that it was handed and that has no outcome yet."""
        yield from (h for h in (*self.answered, self.job, self.in_hand) if h)


class Pool:
    """Processes that run `fn(shared, *args)` for one job after another. Used from one thread.

    Args:
        fn: any function that cloudpickle can pickle. Loaded once a worker.
        workers: processes at most; they start when there is work for them.
        threads: for OpenMP and its like in a job. workers x threads should not exceed
            `usable_cores()`. OpenBLAS always has one.
        deadline: seconds a job may take; else it is killed and FAILED.
        memory: bytes a worker may have of its own (the shared value and program files not
            counted, nor processes that it starts), looked at every 0.2 s.
        preload: modules to import once, before the workers are forked. Those that start threads
            are found out and left to the workers.
        shared: the first argument of every call; see `share`.

    Attributes:
        notes: what did not go as asked, for a log.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        workers: int,
        threads: int = 1,
        deadline: float | None = None,
        memory: int | None = None,
        preload: Iterable[str] = (),
        shared: Any = None,
    ) -> None:
        if workers < 1 or threads < 1:
            raise ValueError(f"workers={workers}, threads={threads}: both must be at least 1")
        self.notes: list[str] = []
        self._fn = cloudpickle.dumps(fn, protocol=5)
        self._n_workers, self._threads = workers, threads
        self._deadline, self._memory = deadline, memory or 0
        self._preload = tuple(preload)
        self._shared: SharedFile | None = None
        self._shelf = -1  # where workers put what they compute for each other (shelf.py)
        self._lazy = False  # each worker loads the shared value: loading it starts threads
        self._zygote: Zygote | None = None
        self._zygote_worked = False  # it gave us a worker
        self._n_restarts = self._n_boot_deaths = 0
        self._selector = selectors.DefaultSelector()
        self._numbers = itertools.count()
        self._workers: dict[int, _Worker] = {}  # by uid
        self._pending: collections.deque[_Task] = collections.deque()
        self._finished: collections.deque[Outcome] = collections.deque()
        self._peaks = Peaks(workers)
        self._closed = False
        if shared is not None:
            self.share(shared)

    def start(self) -> None:
        """Start the zygote, which imports what is to be preloaded; returns at once."""
        if self._closed:
            raise ValueError("this pool is closed")
        if self._zygote is None:
            # with nothing left to leave out, threads in the zygote are not its imports' fault
            strict = bool(self._preload) or not self._lazy
            parent = nursery.ready(self._preload, threads=self._threads)
            self._zygote = Zygote(parent, self._fn, memory=self._memory, strict=strict)
            self._zygote_worked = False
            self._selector.register(self._zygote, selectors.EVENT_READ, self._hear)
            if self._shelf < 0:
                self._shelf = unnamed_file("surefit-shelf")
                os.truncate(self._shelf, shelf.ENTRIES_BYTES)
            self._zygote.send(("lend",), fd=self._shelf)
            self._send_shared()

    def share(self, value: Any) -> None:
        """Set the first argument of every call, before the first job.

        Written to memory once; NumPy arrays in it are mapped read-only by all workers.
        """
        if self._shared or self._workers or self._pending:
            raise ValueError("a pool's shared value is set once, before its first job")
        self._shared = written(value)
        if self._zygote:
            self._send_shared()

    def submit(self, job: Job) -> None:
        """Hand a job over; it waits while all workers are busy. Keys in flight are unique."""
        known = {o.key for o in self._finished} | {t.key for t in self._tasks()}
        if job.key in known:
            raise ValueError(f"a job with the key {job.key!r} is on its way already")
        task = _Task(job.key, cloudpickle.dumps(job.args, protocol=5))
        self.start()
        self._pending.append(task)
        self._fill()

    def next(self, timeout: float | None = None) -> Outcome | None:
        """The next outcome, in the order in which jobs end; None after `timeout` seconds.

        None at once when no job is on its way.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._finished and (self._pending or any(self._tasks())):
            moments = [m for w in self._workers.values() if (m := self._moment(w)) is not None]
            moments += self._stuck_from()
            if until is not None:
                moments.append(until)
            self._turn(max(0.0, min(moments) - time.monotonic()) if moments else None)
            if until is not None and time.monotonic() >= until:
                break
        return self._finished.popleft() if self._finished else None

    @property
    def idle(self) -> int:
        """Jobs that could start now."""
        return max(0, self._n_workers - sum(1 for _ in self._tasks()))

    def cancel(self, key: Hashable) -> None:
        """Forget a job, and kill its worker if it runs: no outcome will come. Unknown keys pass."""
        for task in [t for t in self._pending if t.key == key]:
            self._pending.remove(task)
        for outcome in [o for o in self._finished if o.key == key]:
            self._finished.remove(outcome)
        for w in self._workers.values():
            w.answered = [h for h in w.answered if h.task.key != key]
            if w.in_hand and w.in_hand.task.key == key:
                self._withdraw(w)
            elif w.job and w.job.task.key == key:
                w.job = None
                self._end(w, "cancelled")

    @property
    def peak_bytes(self) -> int:
        """Memory of the jobs that ran at once, at most: of the largest, one for each worker."""
        return self._peaks.total

    def close(self) -> None:
        """End all processes, jobs included, within a second: SIGTERM, then SIGKILL."""
        self._stop(0.4)

    def kill(self) -> None:
        """End all processes at once."""
        self._stop(0.0)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop(0.4 if error is None else 0.0)

    # --- the rest is the machinery ---

    def _tasks(self) -> Iterable[_Task]:
        yield from self._pending
        yield from (h.task for w in self._workers.values() for h in w.handed())

    def _stop(self, seconds: float) -> None:
        self._closed = True
        self._pending.clear()
        for w in self._workers.values():
            self._hang_up(w)
        zygote, self._zygote = self._zygote, None
        if zygote:
            zygote.end(seconds)
        self._workers.clear()
        self._selector.close()
        if self._shared:
            os.close(self._shared.fd)
            self._shared = None
        if self._shelf >= 0:
            os.close(self._shelf)
            self._shelf = -1

    def _send_shared(self) -> None:
        if self._zygote and self._shared:
            s = self._shared
            heading = ("share", s.pickle_size, s.spans, self._lazy)
            self._zygote.send(heading, _surroundings(), fd=s.fd)

    def _turn(self, wait: float | None) -> None:
        """Wait for something to happen, and act on it; what arrived in time counts first."""
        for key, _ in self._selector.select(wait):
            key.data()
        now = time.monotonic()
        for w in list(self._workers.values()):
            moment = self._moment(w)
            if moment is not None and now >= moment:
                self._overdue(w)
        self._fill()

    def _fill(self) -> None:
        """Give waiting jobs to idle workers, have workers forked for the others, or hand ahead."""
        now = time.monotonic()
        for moment, w in zip(self._stuck_from(), self._holding(), strict=False):
            if now >= moment:
                self._pending.appendleft(self._withdraw(w))
        for w in self._workers.values():
            if self._pending and w.state == "idle":
                self._dispatch(w, self._pending.popleft())
        n_booting = sum(w.state == "booting" for w in self._workers.values())
        for _ in range(n_booting, len(self._pending)):
            if len(self._workers) < self._n_workers:
                self._fork()
        if self._pending and not n_booting and len(self._workers) >= self._n_workers:
            self._hand_ahead()

    def _hand_ahead(self) -> None:
        """Give workers whose jobs are short the next one, those first that will be ready first."""
        free = [w for w in self._workers.values()
                if w.state == "busy" and w.quick and not w.in_hand and not w.withdrawn]  # fmt: skip
        for w in sorted(free, key=lambda w: w.since):
            if self._pending and len(self._pending[0].body) <= IN_HAND_BYTES:
                self._dispatch(w, self._pending.popleft())

    def _holding(self) -> list[_Worker]:
        """Workers with a job in hand, the longest at their present one first."""
        return sorted((w for w in self._workers.values() if w.in_hand), key=lambda w: w.since)

    def _stuck_from(self) -> list[float]:
        """When what is in a hand had better gone to a worker that is idle, or could be forked."""
        n_idle = sum(w.state == "idle" for w in self._workers.values())
        n_idle += self._n_workers - len(self._workers)
        return [w.since + SHORT for w in self._holding()[:n_idle]]

    def _withdraw(self, w: _Worker) -> _Task:
        """Take back what a worker has in hand; it may have begun with it, so it is ended then."""
        assert w.in_hand
        with contextlib.suppress(OSError):  # it is gone
            messages.send(w.sock, ("skip", w.in_hand.token))
        task, w.in_hand, w.withdrawn = w.in_hand.task, None, True
        return task

    def _fork(self) -> None:
        assert self._zygote
        ours, theirs = socket.socketpair()
        w = _Worker(next(self._numbers), ours)
        with theirs:
            self._zygote.send(("fork", w.uid), _surroundings(), fd=theirs.fileno())
        self._workers[w.uid] = w
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._listen(w))

    def _dispatch(self, w: _Worker, task: _Task) -> None:
        handed = _Handed(next(self._numbers), task)
        try:
            messages.send(w.sock, ("job", handed.token), task.body)
        except OSError:  # killed from outside; the job has not begun
            self._pending.appendleft(task)
            if w.state == "idle":
                self._end(w, "did not take its job")
            return
        if w.job:
            w.in_hand = handed
        else:
            w.begin(handed)

    def _moment(self, w: _Worker) -> float | None:
        """When we lose patience with a worker."""
        if w.state == "idle":
            return None
        special = {"booting": BOOT_SECONDS, "busy": self._deadline}
        patience = special.get(w.state, processes.GONE_SECONDS)
        return None if patience is None else w.since + patience

    def _overdue(self, w: _Worker) -> None:
        if w.state == "busy":
            late = w.job
            self._hear_out(w)
            if w.state == "busy" and w.job is late:
                self._end(w, self._too_long())
        elif w.state == "booting":
            self._end(w, f"did not start within {BOOT_SECONDS:.0f} s")
        elif w.state == "silent":
            self._end(w, "closed its connection to the driver")
        else:  # SIGKILL has no effect while a process hangs in the kernel: go on without it
            self._bury(w, -signal.SIGKILL, 0, "", b"")

    def _hear_out(self, w: _Worker) -> None:
        """Read an answer to its end that has begun to arrive: we may be late, not the worker."""
        until, job = time.monotonic() + processes.GONE_SECONDS, w.job
        while w.inbox.partial and w.job is job and time.monotonic() < until:
            time.sleep(0.001)
            self._listen(w)

    def _too_long(self) -> str:
        return f"exceeded {float(self._deadline or 0)} s"

    def _end(self, w: _Worker, why: str) -> None:
        """Kill a worker; with its socket closed nothing late can come from it."""
        w.why = why
        if w.in_hand:
            self._pending.appendleft(w.in_hand.task)
            w.in_hand = None
        self._hang_up(w)
        w.turn("dying")
        if self._zygote:
            self._zygote.send(("kill", w.uid))

    def _hang_up(self, w: _Worker) -> None:
        if w.sock.fileno() >= 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(w.sock)
            w.sock.close()

    def _listen(self, w: _Worker) -> None:
        """Read what a worker says."""
        if w.sock.fileno() < 0:
            return
        messages, is_open = w.inbox.read()
        for heading, body in messages:
            match heading:
                case ("hello", pid) if w.state == "booting":
                    w.pid, self._n_boot_deaths, self._zygote_worked = pid, 0, True
                    w.turn("idle")
                case ("done", token, state, reason, trace, seconds, peak, retire) if (
                    w.job and w.job.token == token
                ):
                    w.job.outcome = Outcome(
                        key=w.job.task.key, state=state, reason=reason, traceback=trace,
                        seconds=seconds, peak_bytes=peak,
                    )  # fmt: skip
                    w.job.value = body
                    self._answered(w, w.job, retire=retire)
        if not is_open:
            self._hang_up(w)
            if w.state != "dying":
                w.turn("silent")  # its death should be told next

    def _answered(self, w: _Worker, job: _Handed, *, retire: bool) -> None:
        """A worker has ended a job, and begun with what it has in hand."""
        assert job.outcome
        w.answered.append(job)
        w.quick = job.outcome.seconds < SHORT
        following, w.in_hand = w.in_hand, None
        if retire:  # it ends by itself; what it printed comes with its death
            w.job = None
            w.turn("dying")
            if following:
                self._pending.appendleft(following.task)
        else:
            w.begin(following)
            if w.withdrawn:
                self._end(w, "cancelled")
        if job.token in w.printed:
            self._deliver(w, job, w.printed.pop(job.token))

    def _hear(self) -> None:
        """Read what the zygote says."""
        assert self._zygote
        messages, is_open = self._zygote.inbox.read()
        for heading, body in messages:
            match heading:
                case ("output", uid, token) if uid in self._workers:
                    self._printed(self._workers[uid], token, body)
                case ("dead", uid, code, peak, why) if uid in self._workers:
                    self._bury(self._workers[uid], code, peak, why, body)
                case ("note", text):
                    self.notes.append(text)
                case ("unsafe", name):
                    self._distrust(name)
        if not is_open:
            self._restart()

    def _printed(self, w: _Worker, token: int, text: bytes) -> None:
        """What a job printed, which may be known before its answer was read."""
        for job in w.answered:
            if job.token == token:
                self._deliver(w, job, text)
                return
        if any(h.token == token for h in w.handed()):
            w.printed[token] = text

    def _deliver(self, w: _Worker, job: _Handed, printed: bytes) -> None:
        """Turn a worker's answer into an outcome."""
        assert job.outcome
        w.answered.remove(job)
        outcome = job.outcome
        outcome = replace(outcome, output=printed.decode(errors="replace"))
        if self._deadline is not None and outcome.seconds > self._deadline:
            # we looked too late to kill it: the same outcome as if we had
            outcome = replace(outcome, state="FAILED", reason=self._too_long())
        elif outcome.state == "DONE":
            try:
                # Unpickling runs code: it comes from our own child, through a socket that nobody
                # else has, and that child runs the same user's code with the same rights.
                outcome = replace(outcome, value=pickle.loads(job.value))  # noqa: S301
            except Exception as error:
                reason = f"its value cannot be unpickled: {processes.one_line(error)}"
                outcome = replace(outcome, state="FAILED", reason=reason)
        self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        self._finished.append(outcome)
        self._peaks.add(outcome.peak_bytes)

    def _bury(self, w: _Worker, code: int, peak: int, why: str, printed: bytes) -> None:
        """A worker has ended: its job with it, unless the answer came before."""
        self._listen(w)
        self._hang_up(w)
        del self._workers[w.uid]
        reason = w.why or why or processes.how_it_ended(code)
        for job in list(w.answered):
            self._deliver(w, job, printed)
        if w.in_hand:
            self._pending.appendleft(w.in_hand.task)
        if w.job and self._was_killed(w, code, why) and w.job.task.attempts < ATTEMPTS:
            self._pending.appendleft(w.job.task)
        elif w.job:
            output = printed.decode(errors="replace")
            _, crash, where = output.rpartition("Fatal Python error: ")  # faulthandler's
            self._finish(Outcome(
                key=w.job.task.key, state="FAILED", reason=reason, traceback=crash + where if crash
                else "", seconds=time.monotonic() - w.since, peak_bytes=peak, output=output,
            ))  # fmt: skip
        elif not w.pid and not w.why.startswith("cancelled"):
            self._n_boot_deaths += 1
            if self._n_boot_deaths >= BOOT_DEATHS and self._pending:
                self._fail(self._pending.popleft(), f"its worker could not start: {reason}")

    def _was_killed(self, w: _Worker, code: int, why: str) -> bool:
        """Whether somebody else killed a worker: a person, or the kernel in need of memory."""
        return code == -signal.SIGKILL and not w.why and not why

    def _fail(self, task: _Task, reason: str) -> None:
        self._finished.append(Outcome(key=task.key, state="FAILED", reason=reason))

    def _distrust(self, name: str) -> None:
        """The zygote found threads, which do not survive a fork, and leaves: start a wiser one."""
        if name:
            self._preload = tuple(p for p in self._preload if p != name)
            self.notes.append(f"{name} was not preloaded: importing it starts threads")
        elif not self._lazy:
            self._lazy = True
            self.notes.append("loading the shared value starts threads: each worker loads it")
        else:
            return
        self._n_restarts -= 1  # no fault

    def _restart(self) -> None:
        """The zygote is gone and its workers with it: begin again with the jobs that ran."""
        assert self._zygote
        self._selector.unregister(self._zygote)
        zygote, self._zygote = self._zygote, None
        how = zygote.end(0.0)
        for w in list(self._workers.values()):
            if w.pid:
                with contextlib.suppress(OSError):
                    os.killpg(w.pid, signal.SIGKILL)
            self._hang_up(w)
            for job in list(w.answered):
                self._deliver(w, job, w.printed.pop(job.token, b""))
            if w.in_hand:
                self._pending.appendleft(w.in_hand.task)
            task = w.job.task if w.job else None
            if task and w.why:
                self._fail(task, w.why)
            elif task and task.attempts >= ATTEMPTS:
                self._fail(task, f"the parent of its worker ended {ATTEMPTS} times: {how}")
            elif task:
                self._pending.appendleft(task)
        self._workers.clear()
        self._n_restarts += 1
        if self._n_restarts > RESTARTS:
            raise ServiceError(
                f"The process that starts workers ended {self._n_restarts} times: {how}."
            )
        if self._n_restarts > 1 and not self._zygote_worked:  # perhaps its imports kill it
            self._preload, self._lazy = (), True
            self.notes.append(f"nothing is preloaded: the parent of the workers {how}")
        self.start()


def _surroundings() -> bytes:
    """The import path and the folder, as they are now."""
    try:
        folder = str(Path.cwd())
    except OSError:
        folder = "/"
    return pickle.dumps(([str(p) for p in sys.path], folder))
