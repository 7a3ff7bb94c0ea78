"""Searches under fire: `kill -9` of driver or worker at random moments, and at every store call."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from proving import Outcome, Row, Section

KILLS = 3
STEP = 17  # statements and commits between two places at which a search is killed


def under_fire(n_datasets: int, seed: int) -> Outcome:
    """Searches that are killed three times each, beside an undisturbed one."""
    import killing

    sums = {"lost": 0, "twice": 0, "running": 0}
    same, slower = 0, []
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        undisturbed = killing.calm(Path(folder) / "calm")
        calm_seconds = time.monotonic() - started
        for number in range(n_datasets):
            place = Path(folder) / str(number)
            place.mkdir()
            started = time.monotonic()
            found = killing.search_under_fire(place, seed=seed + number, n_kills=KILLS)
            slower.append((time.monotonic() - started) / calm_seconds)
            same += found == undisturbed
            for key, count in killing.recorded(place).items():
                sums[key] += count
    held = same == n_datasets and not any(sums.values())
    cells = [str(n_datasets), *map(str, sums.values()), f"{same}/{n_datasets}"]
    return Outcome(cells=[*cells, f"{sorted(slower)[len(slower) // 2]:.1f}"], held=held)


def at_every_call(n_datasets: int, seed: int) -> Outcome:
    """Searches killed at one statement or commit of journal and store, each at another."""
    import killing

    sums = {"lost": 0, "twice": 0, "running": 0}
    same = done = 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = killing.calm(Path(folder) / "calm")
        for number in range(n_datasets):
            place = Path(folder) / str(number)
            place.mkdir()
            killed, found = killing.search_killed_at(place, seed + STEP * number)
            same += found == undisturbed
            done += 1
            for key, count in killing.recorded(place).items():
                sums[key] += count
            if not killed:  # it makes no more calls than that
                break
    held = same == done and not any(sums.values())
    return Outcome(cells=[str(done), *map(str, sums.values()), f"{same}/{done}", ""], held=held)


SECTIONS = [
    Section(
        title="Searches under fire",
        about="A search of 16 trials on two workers, killed with `kill -9` and started again by "
        "the same command. Promise: no trial lost, none twice, no run left RUNNING, no worker "
        "alive after its driver, and the same table as undisturbed.",
        columns=("killed", "seed", "searches", "lost", "twice", "RUNNING", "same table",
                 "time, of undisturbed", ""),
        alone=True,
        rows=[
            Row(words=("driver or a worker, three times at random",), call=under_fire, seed=1,
                repeats=60, fewest=2),
            Row(words=(f"driver, at every {STEP}th call of its stores",), call=at_every_call,
                seed=1, repeats=100, fewest=3),
        ],
    ),
]  # fmt: skip
