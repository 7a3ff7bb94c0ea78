"""How long `surefit compare` takes in a store of many runs, beside `mlflow.search_runs`.

    python bench/compare.py [--runs 1000,10000,100000] [--shape mixed|train] [--rows 1000]
    ... --on postgresql      the same in a PostgreSQL database, which is started for it (pgserver)
    ... --on server          the same through an MLflow server over HTTP, in front of PostgreSQL

"mixed" is 200 training runs, 10 searches and their trials; in "train" every run is a training run
that could be ranked. Imports are not counted; the store is analysed, as every search of surefit
leaves it. Each time is the better of two, in seconds of the clock and, in brackets, of this
process's CPU: on a machine that is busy with other work only the latter says much (a server's own
CPU is not in it).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import filled_store
import mlflow

import surefit


def main() -> None:
    """Print one table row a store size."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")  # a page of 1,000 whole runs
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", default="1000,10000,100000")
    arguments.add_argument("--shape", choices=("mixed", "train"), default="mixed")
    arguments.add_argument("--rows", type=int, default=1_000)
    arguments.add_argument("--limit", type=int, default=25)
    arguments.add_argument("--on", choices=("sqlite", "postgresql", "server"), default="sqlite")
    given = arguments.parse_args()
    columns = ("runs", "fill", "compare", "of it gather", "search_runs", "best of ordered")
    print(f"shape {given.shape}, {given.rows} rows, --limit {given.limit}, on {given.on}")
    print(" | ".join(columns))
    for n_runs in map(int, given.runs.split(",")):
        with tempfile.TemporaryDirectory() as folder, PLACES[given.on](Path(folder)) as place:
            row = measure(Path(folder), n_runs, given, place)
        print(" | ".join([f"{n_runs:,}", *(f"{wall:.2f} ({cpu:.2f})" for wall, cpu in row)]),
              flush=True)  # fmt: skip


@contextlib.contextmanager
def on_sqlite(root: Path) -> Iterator[dict[str, str]]:
    """The embedded store."""
    yield {"uri": "sqlite:///mlflow.db"}


@contextlib.contextmanager
def on_postgresql(root: Path) -> Iterator[dict[str, str]]:
    """A PostgreSQL server of our own, as the store itself."""
    import pgserver

    server = pgserver.get_server(str(root / "pg"))
    try:
        yield {"uri": server.get_uri(), "database": server.get_uri()}
    finally:
        server.cleanup()


@contextlib.contextmanager
def on_server(root: Path) -> Iterator[dict[str, str]]:
    """An MLflow server that hands out the artifacts too, its runs in PostgreSQL."""
    with socket.socket() as probe, on_postgresql(root) as place:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
                   "--backend-store-uri", place["database"],
                   "--artifacts-destination", root.as_uri()]  # fmt: skip
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PATH": path}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            uri = f"http://127.0.0.1:{port}"
            await_health(process, uri)
            yield {"uri": uri, "database": place["database"],
                   "artifacts": "mlflow-artifacts:/shared"}  # fmt: skip
        finally:
            process.terminate()
            process.wait()


def await_health(process: subprocess.Popen[bytes], uri: str) -> None:
    """Return once the server answers; an error where it ended."""
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
            return
        time.sleep(0.5)
    raise RuntimeError(f"the server ended with {process.returncode}")


PLACES = {"sqlite": on_sqlite, "postgresql": on_postgresql, "server": on_server}


def measure(
    root: Path, n_runs: int, given: argparse.Namespace, place: dict[str, str]
) -> list[tuple[float, float]]:
    """Seconds of filling, comparing, gathering alone, reading all, and MLflow's own best."""
    from surefit.verbs import board

    (root / "surefit.toml").write_text(
        'name = "bench"\n[data]\npath = "none.csv"\ntarget = "y"\n'
        f'[tracking]\nuri = "{place["uri"]}"\n'
    )
    store, filled = timed(
        lambda: filled_store.fill(root, n_runs, shape=given.shape, n_rows=given.rows, **place),
        times=1,
    )
    config = str(root / "surefit.toml")
    surefit.compare(config=config, limit=2, quiet=True)  # imports are not counted
    _, compared = timed(lambda: surefit.compare(config=config, limit=given.limit, quiet=True))
    _, gathered = timed(lambda: board.gather(store, limit=given.limit))
    mlflow.set_tracking_uri(store.uri)
    _, all_runs = timed(lambda: mlflow.search_runs([store.experiment_id]), times=1)
    _, best = timed(lambda: mlflow.search_runs(
        [store.experiment_id], order_by=["metrics.valid_roc_auc DESC"], max_results=1
    ))  # fmt: skip
    return [filled, compared, gathered, all_runs, best]


def timed(call: Callable[[], object], times: int = 2) -> tuple[object, tuple[float, float]]:
    """What it gives, and its shortest time: seconds of the clock, and of CPU."""
    seconds = []
    for _ in range(times):
        start, busy = time.perf_counter(), time.process_time()
        found = call()
        seconds.append((time.perf_counter() - start, time.process_time() - busy))
    return found, min(seconds)


if __name__ == "__main__":
    main()
