"""The engine alone, on a real journal and real workers: order, delays, restarts, giving up."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from surefit.core import space_text
from surefit.edges import journal as journals
from surefit.edges.journal import Fold, Message, Trial
from surefit.edges.pool import Pool
from surefit.edges.search import proposer
from surefit.errors import UserCodeError
from surefit.verbs.engine import Engine, Rules

SPACE = space_text.parse({"x": "0..1", "y": "log 0.01..1"})
FOLDS = 3


def job(shared: float, params: dict[str, Any], fold: int) -> float:
    """A fold's score, after a while that nobody can foresee."""
    time.sleep(random.SystemRandom().random() * shared)
    return float(-((params["x"] - 0.4) ** 2) * (1 + fold / 9) - abs(params["y"] - 0.1))


def search(
    folder: Path, fn: Any = job, *, workers: int = 2, trials: int = 30, space: Any = SPACE,
    method: str = "tpe", seconds: float = 1e9, delay: float = 0.01,
) -> list[Trial]:  # fmt: skip
    """Run, or go on with, a search whose journal lies in the folder; its trials."""
    folder.mkdir(exist_ok=True)
    rules = Rules(
        n_folds=FOLDS, window=8, race=True, greater_is_better=True, complete=dict,
        read=lambda value: (float(value), None), trials=trials, until=time.monotonic() + seconds,
    )  # fmt: skip

    def message(trial: Trial, folds: list[Fold]) -> Message:
        return Message(key=str(trial.number), kind="trial", payload=[f.score for f in folds])

    with (
        journals.open(folder / "j.sqlite", "f") as journal,
        Pool(fn, workers=workers, shared=delay) as pool,
    ):
        asked = proposer(method, space, seed=1, greater_is_better=True, window=8)
        Engine(
            journal, asked, pool, rules, message=message, advance=lambda done, note: None
        ).run()  # fmt: skip
        assert len(journal.outbox_pending()) == len(journal.trials()) - len(journal.unfinished())
        for trial in journal.trials():
            sent = [m.payload for m in journal.outbox_pending() if m.key == str(trial.number)]
            assert sent in ([], [[f.score for f in journal.folds(trial.number)]])
        return journal.trials()


def table(trials: list[Trial]) -> list[Any]:
    """What a search decides."""
    return [(t.number, t.params, t.thresholds, t.state, t.value) for t in trials]


def test_workers_and_delays_decide_nothing(tmp_path: Path) -> None:
    """One, two and eight workers, with jobs that last as they like: one and the same table."""
    found = [table(search(tmp_path / str(n), workers=n)) for n in (1, 2, 8)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 30


def test_a_time_budget_interrupts_and_the_rest_follows(tmp_path: Path) -> None:
    """Ended by the clock wherever it is, and gone on with: the table of one go."""
    whole = table(search(tmp_path / "whole"))
    for seconds in (0.5, 0.3, 0.6):
        part = search(tmp_path / "part", seconds=seconds, delay=0.1)
        ended = [t for t in table(part) if t[3] != "ASKED"]
        assert ended == [whole[t[0]] for t in ended]
    assert table(search(tmp_path / "part")) == whole


def test_a_search_ends_by_failures_in_the_order_of_trials(tmp_path: Path) -> None:
    """Five that fail end it, also where a sixth that works has ended before them."""

    def fragile(shared: float, params: dict[str, Any], fold: int) -> float:
        if params["i"] < 5:
            time.sleep(0.3)
            raise ValueError("no luck")
        return float(params["i"])

    chosen = {"space": space_text.parse({"i": list(range(12))}), "method": "grid", "trials": 12}
    for workers in (1, 8):
        with pytest.raises(UserCodeError, match="5 trials in a row"):
            search(tmp_path / str(workers), fragile, workers=workers, **chosen)


@pytest.mark.parametrize(("good", "ends"), [(0, 5), (10, 20)])
def test_equal_failures_in_a_row_end_a_search(tmp_path: Path, good: int, ends: int) -> None:
    """Five while nothing has worked, twenty after: the user's own error first; it can go on."""
    needed = tmp_path / "needed"

    def fragile(shared: float, params: dict[str, Any], fold: int) -> float:
        if params["i"] >= good and not needed.exists():
            raise FileNotFoundError("needed is gone")
        return float(params["i"])

    grid = space_text.parse({"i": list(range(60))})
    chosen = {"space": grid, "method": "grid", "trials": 60}
    with pytest.raises(UserCodeError, match=r"^FileNotFoundError: needed is gone\n") as told:
        search(tmp_path / "s", fragile, **chosen)
    said = re.search(r"(\d+) trials in a row", str(told.value))
    assert said
    assert ends <= int(said[1]) < ends + 8
    needed.touch()
    trials = search(tmp_path / "s", fragile, **chosen)
    assert ends <= sum(t.state == "FAILED" for t in trials) < ends + 10
    assert trials[-1].state == "COMPLETE"
