"""Searches under fire: `kill -9` of driver or worker at random moments, and at every store call."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from proving import Outcome, Row, Section

KILLS = 3
AT_ONCE = 3  # searches side by side
SECONDS = 2.0  # a worker may outlive its driver


def under_fire(n_datasets: int, seed: int, search: str) -> Outcome:
    """Searches that are killed three times each, beside an undisturbed one."""
    import killing

    sums = {"lost": 0, "twice": 0, "running": 0, "repeated": 0}
    kills = same = 0
    outlived = 0.0
    with folders() as fresh:
        undisturbed = killing.calm(fresh("calm"), getattr(killing, search))

        def one(number: int) -> tuple[Path, Any]:
            place = fresh(str(number))
            return place, killing.search_under_fire(
                place, seed=seed + number, n_kills=KILLS, search=getattr(killing, search)
            )

        for place, fire in side_by_side(one, range(n_datasets)):
            same += fire.table == undisturbed
            kills, outlived = kills + fire.kills, max(outlived, fire.outlived)
            counts = killing.recorded(place) | {"repeated": fire.repeated}
            sums = {key: sums[key] + counts[key] for key in sums}
            shutil.rmtree(place)
    held = same == n_datasets and not any(sums.values()) and outlived <= SECONDS
    held &= kills >= 0.8 * KILLS * n_datasets  # a search may end before its last kill
    cells = [str(n_datasets), str(kills), *map(str, sums.values()), f"{outlived:.2f} s"]
    return Outcome(cells=[*cells, f"{same}/{n_datasets}"], held=held)


def at_every_call(n_datasets: int, seed: int, search: str, made: bool) -> Outcome:
    """Searches whose drivers are killed at a call of their stores: at places over all there are."""
    import killing

    chosen = getattr(killing, search)
    sums = {"lost": 0, "twice": 0, "running": 0}
    kills = same = 0
    with folders(made=made) as fresh:
        undisturbed = killing.calm(calm := fresh("calm"), chosen)
        total = killing.store_calls(calm)
        step = max(1, total // n_datasets)

        def one(call: int) -> tuple[Path, tuple[bool, list[Any]]]:
            place = fresh(str(call))
            return place, killing.search_killed_at(place, call, chosen)

        calls = range(1 + seed % step, total, step)
        for place, (killed, found) in side_by_side(one, calls):
            kills += killed
            same += found == undisturbed
            counts = killing.recorded(place)
            sums = {key: sums[key] + counts[key] for key in sums}
            shutil.rmtree(place)
    held = same == len(calls) and not any(sums.values()) and kills >= 0.9 * len(calls)
    cells = [str(total), str(len(calls)), str(kills), *map(str, sums.values())]
    return Outcome(cells=[*cells, f"{same}/{len(calls)}"], held=held)


def by_workers(search: str) -> Outcome:
    """One search by 1, 2 and 8 workers, whose fits last as long as they like each time."""
    import killing

    def one(place: int, workers: int) -> list[Any]:
        return killing.calm(fresh(str(place)), getattr(killing, search),
                            **{"tune.workers": workers})  # fmt: skip

    with folders() as fresh:
        tables = [one(*each) for each in enumerate((1, 2, 8, 8))]
    same = all(table == tables[0] for table in tables)
    return Outcome(cells=[str(len(tables[0])), "yes" if same else "NO"], held=same)


def side_by_side(one: Callable[[int], Any], numbers: Any) -> Iterator[Any]:
    """What comes of each number, a few at a time."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(one, numbers)


@contextlib.contextmanager
def folders(*, made: bool = True) -> Iterator[Callable[[str], Path]]:
    """Makes folders by name, each with a store of its own where it is `made` before."""
    import killing

    with tempfile.TemporaryDirectory() as root:
        store = killing.made_store(Path(root) / "made") if made else None

        def fresh(name: str) -> Path:
            place = Path(root) / name
            place.mkdir()
            if store:
                shutil.copy(store, place)
            return place

        yield fresh


WORDS = {"a_function": "a function", "a_table": "a model, three folds, refitted and logged"}
SECTIONS = [
    Section(
        title="Searches under fire",
        about="A search of 16 trials on two workers, killed with `kill -9` three times and started "
        "again by the same command: the driver or one of its workers, at places drawn from all of "
        "its course. Promise: no trial lost, none twice, no run left RUNNING, no finished fold "
        "fitted again, no worker alive 2 s after its driver, and the same table as undisturbed.",
        columns=("search", "seed", "searches", "kills", "lost", "twice", "RUNNING",
                 "folds again", "longest outlived", "same table", ""),
        alone=True,
        rows=[
            Row(words=(WORDS[search],), call=under_fire, seed=seed, repeats=repeats, fewest=2,
                arguments={"search": search})
            for search, seed, repeats in (("a_function", 1, 40), ("a_table", 101, 20))
        ],
    ),
    Section(
        title="Searches killed at each step of their stores",
        about="The driver dies at a statement or commit of journal or MLflow store, at another "
        "place in each search, evenly over all that it makes; then the same command. The same "
        "promises.",
        columns=("search", "folder", "seed", "calls", "searches", "killed", "lost", "twice",
                 "RUNNING", "same table", ""),
        alone=True,
        rows=[
            Row(words=(WORDS[search], "with a store" if made else "empty"), call=at_every_call,
                seed=seed, repeats=repeats, fewest=3, arguments={"search": search, "made": made})
            for search, made, seed, repeats in (
                ("a_function", True, 1, 100), ("a_function", False, 7, 40),
                ("a_table", True, 3, 40))
        ],
    ),
    Section(
        title="The same table whoever computes",
        about="1, 2, 8 and again 8 workers, each fit as long as it likes. Promise: one table.",
        columns=("search", "trials", "same table", ""), alone=True,
        rows=[
            Row(words=(words,), call=by_workers, arguments={"search": search})
            for search, words in WORDS.items()
        ],
    ),
]  # fmt: skip
