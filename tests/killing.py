"""A small search as a process, killed with -9 at chosen moments, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TRIALS = 16
SCRIPT = """
import json, os, signal, sqlite3, sys, time

at, calls = int(os.environ.get("FIRE_AT", 0)), 0

class Counting(sqlite3.Connection):  # every statement and commit of journal and store is a call
    def call(self, name, *arguments):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(super(), name)(*arguments)

    def execute(self, *arguments):
        return self.call("execute", *arguments)

    def commit(self):
        return self.call("commit")

if at:
    connect = sqlite3.connect
    sqlite3.connect = sqlite3.dbapi2.connect = lambda *a, **k: connect(
        *a, **{"factory": Counting, **k}
    )

import surefit

sys.path.insert(0, %r)
from killing import FIRE_SPACE, TRIALS, objective

result = surefit.tune(
    objective, FIRE_SPACE, trials=TRIALS, name="fire", quiet=True, set={"tune.workers": 2}
)
print(json.dumps([[t.number, t.state, t.value, dict(t.params)] for t in result.trials]))
"""
FIRE_SPACE = {"x": "0..1", "kind": ["a", "b"]}


def objective(params: dict[str, Any], context: Any) -> float:
    """A short function of its parameters."""
    time.sleep(0.05)
    context.log(loss=params["x"])
    return float(-((params["x"] - 0.3) ** 2) - 0.1 * (params["kind"] == "b"))


def search_under_fire(folder: Path, *, seed: int, n_kills: int) -> list[Any]:
    """The table of a search that was killed so many times.

    Each kill hits the driver or one of its workers, at a moment drawn from the seed; a killed
    driver is started anew by the same command.
    """
    rng = random.Random(seed)
    process = start(folder)
    for _ in range(n_kills):
        wait_for_workers(process)
        time.sleep(rng.random() * 1.5)
        process = kill_one(process, folder, driver=rng.random() < 0.6, rng=rng)
    return finished(process)


def calm(folder: Path) -> list[Any]:
    """The table of the search when nothing happens to it."""
    folder.mkdir(parents=True, exist_ok=True)
    return finished(start(folder))


def recorded(folder: Path) -> dict[str, int]:
    """What the store holds of the search: its trials, those there twice, and runs left RUNNING."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        numbers = [int(n) for (n,) in store.execute(
            "SELECT value FROM tags JOIN runs USING (run_uuid) WHERE key = 'surefit.trial'"
            " AND lifecycle_stage = 'active'"
        )]  # fmt: skip
        (running,) = store.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()
    return {
        "lost": TRIALS - len(set(numbers)), "twice": len(numbers) - len(set(numbers)),
        "running": running,
    }  # fmt: skip


def search_killed_at(folder: Path, call: int) -> tuple[bool, list[Any]]:
    """Whether a search lived to make that many calls of its stores, and the table after one more.

    It is killed at the call; the same command goes on.
    """
    process = start(folder, FIRE_AT=str(call))
    process.communicate(timeout=300)
    return process.returncode == -signal.SIGKILL, finished(start(folder))


def start(folder: Path, **more: str) -> subprocess.Popen[str]:
    """The search as a process of its own."""
    script = folder / "fire.py"
    if not script.exists():
        script.write_text(SCRIPT % str(Path(__file__).parent))
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", script], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, **more},
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> list[Any]:
    """The table that it prints at its end."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    table: list[Any] = json.loads(out.strip().splitlines()[-1])
    return table


def wait_for_workers(process: subprocess.Popen[str]) -> None:
    """Until it has workers, or has ended."""
    until = time.monotonic() + 120
    while process.poll() is None and not workers_of(process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def kill_one(
    process: subprocess.Popen[str], folder: Path, *, driver: bool, rng: random.Random
) -> subprocess.Popen[str]:
    """Kill the driver, and start it anew; or one of its workers."""
    workers = workers_of(process.pid)
    if process.poll() is not None:
        return process
    if not driver:
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
        return process
    process.kill()
    process.communicate()
    alive_after(workers, 2.0)
    return start(folder)


def alive_after(pids: list[int], seconds: float) -> None:
    """That all are gone in time; a loaded machine may need a while more to say so."""
    until = time.monotonic() + 5 * seconds
    while any(map(_alive, pids)):
        assert time.monotonic() < until, "workers outlive their driver"
        time.sleep(0.02)


def workers_of(driver: int) -> list[int]:
    """The processes below the driver's zygote."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(place.name)] = int(
                (place / "stat").read_text().rpartition(")")[2].split()[1]
            )
    children = {pid for pid, parent in parents.items() if parent == driver}
    return sorted(pid for pid, parent in parents.items() if parent in children)


def _alive(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) not in "ZX"
    except OSError:
        return False
