"""What local workers and Ray have in common: one contract, run against both; and what Ray adds."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile
from surefit.edges import raypool
from surefit.edges.jobs import Job, Outcome, Workers
from surefit.edges.pool import Pool
from surefit.edges.raypool import RayPool
from surefit.errors import MissingExtraError
from test_pool import alive, gone_within
from test_tune import CHOSEN, check_mirror, table

has_ray = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not has_ray, reason="ray is not installed: surefit[ray]")
SHARED = {"x": np.arange(200_000, dtype="float64")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One small Ray on this machine, which the searches of this file join."""
    warnings.simplefilter("ignore")
    with contextlib.ExitStack() as ended:
        kept = {k: os.environ.get(k) for k in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        with RayPool(hostile.call, address="ray", most=2, deadline=20, shared=SHARED) as pool:
            ended.callback(
                lambda: [os.environ.pop(k, None) for k, value in kept.items() if value is None]
            )
            yield pool


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=needs_ray)])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Two workers, of either kind."""
    if request.param == "ray":
        yield request.getfixturevalue("cluster")
    else:
        with Pool(hostile.call, workers=2, deadline=20, shared=SHARED) as pool:
            yield pool


def outcomes(workers: Workers, *jobs: tuple[Any, ...]) -> dict[Any, Outcome]:
    """All jobs' outcomes; a job's key is its place."""
    for key, args in enumerate(jobs):
        workers.submit(Job(key=key, args=args))
    found = {}
    while outcome := workers.next(timeout=120):
        assert outcome.key not in found
        found[outcome.key] = outcome
    return found


def test_every_job_has_one_outcome(workers: Workers) -> None:
    """Thirty jobs: thirty values, each its own; nothing is left on its way."""
    found = outcomes(workers, *[("double", i) for i in range(30)])
    assert {k: o.value for k, o in found.items()} == {i: 2 * i for i in range(30)}
    assert workers.idle == 2
    assert workers.next(timeout=1) is None


def test_hostile_jobs_fail_alone_with_the_same_reason(workers: Workers) -> None:
    """Raise, exit, die, segfault, MemoryError, no pickle: a reason each, and the others go on."""
    found = outcomes(
        workers, ("raising",), ("leaving",), ("vanishing", 3), ("segfault",), ("out_of_memory",),
        ("unpicklable",), ("double", 4),
    )  # fmt: skip
    assert [found[i].state for i in range(7)] == ["FAILED"] * 6 + ["DONE"]
    assert found[0].reason.startswith("ValueError")
    assert found[1].reason.startswith("SystemExit")
    assert found[2].reason == "exited with code 3"
    assert found[3].reason == "killed by SIGSEGV"
    assert found[4].reason.startswith("MemoryError")
    assert "pickle" in found[5].reason
    assert found[6].value == 8


def test_a_job_that_is_cancelled_gives_no_outcome(workers: Workers) -> None:
    """A job that would hang is forgotten, and its worker is free for the next."""
    workers.submit(Job(key="hang", args=("hang", 600.0)))
    time.sleep(0.2)
    workers.cancel("hang")
    workers.cancel("unknown")
    assert {o.value for o in outcomes(workers, ("double", 1), ("double", 2)).values()} == {2, 4}


def test_the_shared_value_is_there_and_read_only(workers: Workers) -> None:
    """Arrays reach the jobs whole, and cannot be written to."""
    (outcome,) = outcomes(workers, ("total",)).values()
    assert outcome.value == (float(SHARED["x"].sum()), False)


def test_peak_memory_is_the_jobs(workers: Workers) -> None:
    """One job that uses 100 MB, wherever it ran, is in what the workers had at once."""
    found = outcomes(workers, ("keep", 100_000_000), ("double", 1))
    assert 100e6 < found[0].peak_bytes < 150e6
    assert 100e6 < workers.peak_bytes < 200e6


def test_workers_import_no_store(workers: Workers) -> None:
    """No MLflow, Optuna or SQLite where jobs run, and one thread for each."""
    found = outcomes(workers, ("modules",), ("environment",))
    heavy = {"mlflow", "optuna", "sqlite3", "surefit.edges.journal"}
    assert not heavy & set(found[0].value)
    assert found[1].value["OMP_NUM_THREADS"] == "1"


@needs_ray
def test_a_job_that_waits_for_its_turn_is_not_late(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is a job's own: what it waited in the queue is no part of it."""
    monkeypatch.setattr(raypool, "LATE", 0.0)
    with RayPool(hostile.call, address="ray", most=1, deadline=6.0) as pool:
        for _ in range(5):  # until a worker is there: on a busy machine its start alone is late
            if outcomes(pool, ("double", 1))[0].value == 2:
                break
        found = outcomes(pool, ("hang", 3.5), ("hang", 3.5), ("hang", 3.5))
    assert [o.state for o in found.values()] == ["DONE"] * 3


@needs_ray
def test_a_search_gives_the_same_table_on_ray(folder: Any, cluster: Any) -> None:
    """The same command with another kind of workers: the same trials, and each once in MLflow."""
    local = folder.tune("sklearn:wine", target="target", trials=12, set={**CHOSEN, "name": "a"})
    there = {**CHOSEN, "tune.workers": "ray", "name": "b"}
    remote = folder.tune(trials=7, set=there)
    assert remote.resumed == 0
    assert table(remote) == table(local)[:7]
    remote = folder.tune(trials=12, set=there)
    assert remote.resumed == 7
    assert table(remote) == table(local)
    again = folder.tune(trials=12, set={**CHOSEN, "name": "b"})
    assert again.run_id == remote.run_id
    where = f" and tags.`mlflow.parentRunId` = '{local.run_id}'"
    for run in folder.runs("tags.`surefit.kind` = 'trial'" + where):
        folder.client.delete_run(run.info.run_id)
    check_mirror(folder, remote)


@needs_ray
def test_workers_of_a_cluster_that_would_idle_are_told(
    folder: Any, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many there are is known once the cluster has answered."""
    few = {"tune.window": 1, "tune.workers": "ray"}
    folder.tune(lambda params, context: params["x"], {"x": "0..1"}, trials=3, set=few, quiet=False)
    assert "2 workers have at most 1 job at once: tune.window = 2" in capsys.readouterr().err


@needs_ray
def test_nothing_of_ray_outlives_a_killed_driver(tmp_path: Path) -> None:
    """kill -9 of the process that started the cluster: its jobs and the cluster are gone."""
    script = (
        "import os, sys, time\n"
        "from surefit.edges.jobs import Job\n"
        "from surefit.edges.raypool import RayPool\n"
        "def job(shared, path):\n"
        "    open(path, 'w').write(str(os.getpid())); time.sleep(600)\n"
        "pool = RayPool(job, address='ray', most=1)\n"
        "pool.submit(Job(key=0, args=(sys.argv[1],)))\n"
        "pool.next()\n"
    )
    said = tmp_path / "pid"
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    driver = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, said], env=plain, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (said.exists() and said.read_text()):
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    worker = int(said.read_text())
    assert alive(worker)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert gone_within(30, worker)


@needs_ray
def test_a_cluster_that_does_not_answer_is_one_message() -> None:
    """Exit code 3, with what to do."""
    script = (
        "from surefit.edges.raypool import RayPool\n"
        "from surefit.errors import ServiceError\n"
        "try: RayPool(print, address='ray://127.0.0.1:9', most=1)\n"
        "except ServiceError as error: print(error)\n"
    )
    second = dict.fromkeys(
        (f"RAY_CLIENT_{which}_CONNECTION_TIMEOUT_S" for which in ("INITIAL", "MAX")), "1"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True,
        env={**os.environ, **second}, timeout=300,
    )  # fmt: skip
    told = "The Ray cluster ray://127.0.0.1:9 cannot be used: ConnectionError"
    assert told in done.stdout, done.stderr
    assert "tune.workers=auto" in done.stdout


def test_without_ray_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tune.workers = "ray"` where ray is not installed says what to type."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'surefit\[ray\]'"):
        RayPool(print, address="ray", most=1)
