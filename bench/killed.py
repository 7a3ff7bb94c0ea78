"""What three `kill -9` of a search's driver cost in time, and that they change nothing.

    python bench/killed.py [--trials N] [--rounds N]

The same `surefit tune` of LightGBM on scikit-learn's digits by two workers, each in a new folder:
once left alone, once killed after a quarter, a half and three quarters of its trials and typed
again each time. Rounds alternate; the median of each round's ratio is printed, and whether the
tables of trials are the same.
"""

import argparse
import contextlib
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

KILLS = 3
ENDED = "SELECT count(ended) FROM trial"
TABLE = ("SELECT number, state, params, value FROM trial ORDER BY number",
         "SELECT trial, fold, state, score FROM fold ORDER BY trial, fold")  # fmt: skip
COMMAND = ("tune", "sklearn:digits", "--target", "target", "--quiet",
           "--set", "tune.workers=2", "--set", "model.params.num_iterations=150")  # fmt: skip


def started(folder: Path, trials: int) -> subprocess.Popen[str]:
    """The command, with all that it forks in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "surefit", *COMMAND, "--trials", str(trials)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def asked(folder: Path, query: str) -> list[Any]:
    """What the search's journal answers; nothing where there is none yet."""
    for file in folder.glob(".surefit/searches/*.sqlite"):
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal,
        ):
            return journal.execute(query).fetchall()
    return []


def searched(trials: int, kills: int) -> tuple[float, Any]:
    """Seconds from the first command to the last one's end, and its table of trials."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        for kill in range(kills):
            process = started(folder, trials)
            enough = trials * (kill + 1) // (kills + 1)
            while asked(folder, ENDED) < [(enough,)]:
                if process.poll() is not None:
                    raise SystemExit(f"ended before it was killed: {process.stderr.read()}")  # type: ignore[union-attr]
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        process = started(folder, trials)
        _, err = process.communicate()
        taken = time.perf_counter() - begun
        if process.returncode:
            raise SystemExit(f"exit code {process.returncode}: {err[-1500:]}")
        return taken, [asked(folder, query) for query in TABLE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ratios, same = [], True
    for _ in range(given.rounds):
        alone, table = searched(given.trials, 0)
        killed, other = searched(given.trials, KILLS)
        ratios.append(killed / alone)
        same &= table == other
        print(
            f"{alone:.1f} s alone, {killed:.1f} s with {KILLS} kills: {ratios[-1]:.2f}", flush=True
        )
    print(
        f"median ratio {statistics.median(ratios):.2f}; the same table: {'yes' if same else 'NO'}"
    )


if __name__ == "__main__":
    main()
