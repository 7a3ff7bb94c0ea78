"""The pool on Ray: the same jobs and the same outcomes, on the cores of a cluster.

A Ray task is one job, never retried by Ray. Inside the Ray worker it runs in a local pool of one
supervised process (pool.py), kept for the next task there: so a hang, a crash, or too much memory
ends as it does locally, with the same reason. What Ray itself loses (a node, a killed Ray worker)
is handed out again by us.

"ray" joins the cluster that RAY_ADDRESS names, or the one this process uses already, else it
starts one on this machine for the length of the search; "ray://host:port" is a cluster elsewhere,
whose machines have surefit and the same libraries. `ray stop` is never called: it ends every Ray on
a machine, whoever started it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import os
import secrets
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import cloudpickle

from surefit.edges.cores import usable_cores
from surefit.edges.jobs import ATTEMPTS, Job, Outcome, Peaks
from surefit.edges.pool import Pool
from surefit.edges.processes import one_line
from surefit.errors import MissingExtraError, ServiceError

LOOK_SECONDS = 0.1  # between two looks at whether the job was cancelled
LATE = 60.0  # seconds beyond its deadline after which a job is given up with its Ray worker


@dataclass(kw_only=True)
class _Sent:
    """A job on its way."""

    key: Hashable
    args: bytes
    since: float
    attempts: int = 1


class RayPool:
    """`Pool` on Ray; `fn`, `threads`, `deadline`, `memory`, `preload` and `shared` as there.

    Raises:
        MissingExtraError: when ray is not installed.
        ServiceError: when the cluster does not answer, or has no core.
    """

    def __init__(
        self, fn: Callable[..., Any], *, address: str, most: int, threads: int = 1,
        deadline: float | None = None, memory: int | None = None, preload: Iterable[str] = (),
        shared: Any = None,
    ) -> None:  # fmt: skip
        self.notes: list[str] = []
        self._ray = _imported(address)
        self._ours = _connected(self._ray, address)
        self._deadline = deadline
        try:
            cores = int(self._ray.cluster_resources().get("CPU", 0))
            if cores < threads:
                raise ServiceError(f"The Ray cluster {address} has {cores} free cores.")
            self.n_workers = max(1, min(most, cores // threads))
            recipe = {
                "work": cloudpickle.dumps((fn, shared), protocol=5), "threads": threads,
                "deadline": deadline, "memory": memory, "preload": tuple(preload),
                "path": list(sys.path), "folder": os.getcwd(),  # noqa: PTH109
            }  # fmt: skip
            self._recipe = self._ray.put(cloudpickle.dumps(recipe, protocol=5))
        except BaseException:
            self.kill()
            raise
        self._peaks = Peaks(self.n_workers)
        self._name = uuid.uuid4().hex
        # Loaded by import there: a function of ours, and no copy of this module.
        self._task = self._ray.remote(max_retries=0, num_cpus=threads, max_calls=0)(_run)
        self._sent: dict[Any, _Sent] = {}  # by Ray's reference
        self._finished: deque[Outcome] = deque()

    def submit(self, job: Job) -> None:
        """Hand a job over."""
        self._send(_Sent(key=job.key, args=cloudpickle.dumps(job.args, 5), since=time.monotonic()))

    def next(self, timeout: float | None = None) -> Outcome | None:
        """The next outcome, in the order in which jobs end; None after `timeout` seconds.

        None at once when no job is on its way.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._finished and self._sent:
            left = 1.0 if until is None else max(0.0, until - time.monotonic())
            with _explained():
                ready, _ = self._ray.wait(list(self._sent), num_returns=1, timeout=min(1.0, left))
            for reference in ready:
                self._take(reference)
            self._give_up_late()
            if until is not None and time.monotonic() >= until:
                break
        return self._finished.popleft() if self._finished else None

    @property
    def idle(self) -> int:
        """Jobs that could start now."""
        return max(0, self.n_workers - len(self._sent))

    @property
    def peak_bytes(self) -> int:
        """Memory of the jobs that ran at once, at most: of the largest, one for each worker."""
        return self._peaks.total

    def cancel(self, key: Hashable) -> None:
        """Forget a job, and stop it if it runs: no outcome will come. Unknown keys pass."""
        self._finished = deque(o for o in self._finished if o.key != key)
        for reference in [r for r, sent in self._sent.items() if sent.key == key]:
            del self._sent[reference]
            self._freed()
            with contextlib.suppress(Exception):
                self._ray.cancel(reference)

    def close(self) -> None:
        """Stop all jobs; a cluster that we started ends."""
        for sent in list(getattr(self, "_sent", {}).values()):
            self.cancel(sent.key)
        self.kill()

    def kill(self) -> None:
        """End a cluster that we started, or our part in one that we joined."""
        if self._ours:
            self._ours = False
            with contextlib.suppress(Exception):
                self._ray.shutdown()

    def __enter__(self) -> RayPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the rest is the machinery ---

    def _send(self, sent: _Sent) -> None:
        with _explained():
            # in a list: Ray would else fetch the recipe anew for each task
            self._sent[self._task.remote(self._name, [self._recipe], sent.args)] = sent

    def _take(self, reference: Any) -> None:
        sent = self._sent.pop(reference)
        self._freed()
        try:
            outcome: Outcome = self._ray.get(reference)
        except Exception as error:  # the job's own errors are values: this is Ray's
            if sent.attempts < ATTEMPTS:
                self._send(replace(sent, attempts=sent.attempts + 1, since=time.monotonic()))
                return
            reason = f"its Ray worker was lost {ATTEMPTS} times: {one_line(error)}"
            self._finished.append(Outcome(key=sent.key, state="FAILED", reason=reason))
            return
        self._peaks.add(outcome.peak_bytes)
        self._finished.append(replace(outcome, key=sent.key))

    def _freed(self) -> None:
        """A worker is free: the first of the jobs that waited may start now."""
        for waiting in list(self._sent.values())[self.n_workers - 1 :]:
            waiting.since = time.monotonic()

    def _give_up_late(self) -> None:
        """A job whose Ray worker no longer answers: the pool inside it should have ended it."""
        if self._deadline is None:
            return
        now = time.monotonic()
        for reference, sent in list(self._sent.items())[: self.n_workers]:  # the others wait
            if now - sent.since > self._deadline + LATE:
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)
                del self._sent[reference]
                reason = f"exceeded {float(self._deadline)} s"
                self._finished.append(Outcome(key=sent.key, state="FAILED", reason=reason))


def _imported(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    alone = address == "ray" and "RAY_ADDRESS" not in os.environ and "ray" not in sys.modules
    if alone and "RAY_AUTH_MODE" not in os.environ:
        # Ray reads this on import: a token that only our own cluster knows, and no file of it.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise MissingExtraError("ray", "ray", 'tune.workers = "ray"') from None


def _connected(ray: Any, address: str) -> bool:
    """Join or start a cluster; whether it is ours to leave."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    elsewhere = address if address.startswith("ray://") else os.environ.get("RAY_ADDRESS")
    if address.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise MissingExtraError("Ray's client", "ray", f'tune.workers = "{address}"')
    try:
        if elsewhere:
            ray.init(elsewhere, **quiet)
            return True
        ray.init(  # one on this machine, for it alone
            address="local", num_cpus=usable_cores(), include_dashboard=False,
            _node_ip_address="127.0.0.1", **quiet,
        )  # fmt: skip
    except Exception as error:
        where = elsewhere or "on this machine"
        raise ServiceError(
            f"The Ray cluster {where} cannot be used: {one_line(error)}",
            'start it, name another in tune.workers = "ray://host:10001", or '
            "--set tune.workers=auto",
        ) from error
    return True


@contextlib.contextmanager
def _explained() -> Any:
    """Ray's own failures as ours."""
    try:
        yield
    except (KeyboardInterrupt, ServiceError):
        raise
    except Exception as error:
        raise ServiceError(
            f"The Ray cluster failed: {one_line(error)}", "the same command goes on where it was"
        ) from error


# --- inside a Ray worker ---

_pools: dict[str, Pool] = {}


def _run(name: str, recipe: list[Any], args: bytes) -> Outcome:
    """Run one job in this Ray worker's own supervised process."""
    pool = _pools.get(name)
    if pool is None:
        pool = _pools[name] = _opened(recipe[0])
    interrupted: list[int] = []
    # Ray cancels by what looks like Ctrl-C: noted, and acted on between two steps of the pool.
    before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    try:
        pool.submit(Job(key=0, args=cloudpickle.loads(args)))
        while not interrupted:
            outcome = pool.next(LOOK_SECONDS)
            if outcome is not None:
                return outcome
        pool.cancel(0)
    except BaseException:
        _pools.pop(name).kill()
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    raise KeyboardInterrupt


def _opened(reference: Any) -> Pool:
    recipe = cloudpickle.loads(importlib.import_module("ray").get(reference))
    sys.path[:] = [*recipe["path"], *(p for p in sys.path if p not in recipe["path"])]
    with contextlib.suppress(OSError):
        os.chdir(recipe["folder"])
    for other in list(_pools):  # of an earlier search
        _pools.pop(other).kill()
    fn, shared = cloudpickle.loads(recipe["work"])  # found by the driver's import path
    pool = Pool(
        fn, workers=1, threads=recipe["threads"], deadline=recipe["deadline"],
        memory=recipe["memory"], preload=recipe["preload"], shared=shared,
    )  # fmt: skip
    atexit.register(pool.kill)
    pool.start()
    return pool
