"""How long `surefit compare` takes in a store of many runs, beside `mlflow.search_runs`.

    python bench/compare.py [--runs 1000,10000,100000] [--shape mixed|train] [--rows 1000]

"mixed" is 200 training runs, 10 searches and their trials; in "train" every run is a training run
that could be ranked. Imports are not counted; the store is analysed, as every search of surefit
leaves it. Each time is the better of two, in seconds of the clock and, in brackets, of this
process's CPU: on a machine that is busy with other work only the latter says much.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import filled_store
import mlflow

import surefit


def main() -> None:
    """Print one table row a store size."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", default="1000,10000,100000")
    arguments.add_argument("--shape", choices=("mixed", "train"), default="mixed")
    arguments.add_argument("--rows", type=int, default=1_000)
    arguments.add_argument("--limit", type=int, default=25)
    given = arguments.parse_args()
    columns = ("runs", "fill", "compare", "of it gather", "search_runs", "best of ordered")
    print(f"shape {given.shape}, {given.rows} rows, --limit {given.limit}")
    print(" | ".join(columns))
    for n_runs in map(int, given.runs.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            row = measure(Path(folder), n_runs, given)
        print(" | ".join([f"{n_runs:,}", *(f"{wall:.2f} ({cpu:.2f})" for wall, cpu in row)]),
              flush=True)  # fmt: skip


def measure(root: Path, n_runs: int, given: argparse.Namespace) -> list[tuple[float, float]]:
    """Seconds of filling, comparing, gathering alone, reading all, and MLflow's own best."""
    from surefit.verbs import board

    (root / "surefit.toml").write_text('name = "bench"\n[data]\npath = "none.csv"\ntarget = "y"\n')
    store, filled = timed(
        lambda: filled_store.fill(root, n_runs, shape=given.shape, n_rows=given.rows), times=1
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
