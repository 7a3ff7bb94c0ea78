"""Proofs for the search: every method on every task the same again, and what racing costs."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from typing import Any

import racing
from proving import Outcome, Row, Section

METHODS = (
    "grid", "random", "qmc", "tpe", "hyperopt", "optuna:NSGAIISampler", "optuna:GPSampler",
    *(["optuna:CmaEsSampler"] if importlib.util.find_spec("cmaes") else []),
)  # fmt: skip
TASKS = ("binary", "multiclass", "regression")


def twice(method: str, task: str) -> Outcome:
    """A search by two workers, and in two parts by one worker: one table."""
    import surefit
    from tables import mixed

    rows = mixed(160, task=task)[["size", "age", "city", "y"]]
    space = {"alpha" if task == "regression" else "C": "log 0.001..100", "fit_intercept":
             [True, False]}  # fmt: skip
    keys: dict[str, Any] = {"model.family": "linear", "split.folds": 3, "tune.space": space}

    def table(workers: int, *trials: int) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for n in trials:
                found = surefit.tune(rows, target="y", method=method, trials=n, quiet=True,
                                     set=keys | {"tune.workers": workers})  # fmt: skip
        return [(t.state, t.value, dict(t.params), t.fold_scores) for t in found.trials]

    whole, parts = table(2, 20), table(1, 7, 20)
    same = whole == parts
    complete = sum(state == "COMPLETE" for state, *_ in whole)
    return Outcome(
        cells=[str(len(whole)), str(complete), "yes" if same else "NO"],
        held=same and len(whole) == (10 if method == "grid" else 20),
    )


def raced(table: str, trials: int) -> Outcome:
    """How often the winner is dropped over random orders, by the rule in force."""
    found = racing.judged(table, trials)[racing.RULES[-1]]
    cells = [f"{found.dropped:.1%}", f"{found.regret:.3%}", f"{found.saved:.0%}"]
    return Outcome(cells=cells, held=found.regret < 0.001)


SECTIONS = [
    Section(
        title="Every method on every task",
        about="Promise: the same table by two workers in one go and by one worker in two parts.",
        columns=("method", "task", "trials", "complete", "same table", ""), alone=True,
        rows=[
            Row(words=(method, task), call=twice, arguments={"method": method, "task": task})
            for method in METHODS for task in TASKS
        ],
    ),
    Section(
        title="What racing drops",
        about="Random trials of LightGBM on real tables, the race run in 300 random orders. "
        "Promise: the best trial that is left is worse than the best of all by less than a "
        "thousandth of the score on average.",
        columns=("table", "winner dropped", "score lost", "fits saved", ""), alone=True,
        rows=[
            Row(words=(table,), call=raced, arguments={"table": table, "trials": 40})
            for table in racing.TABLES if (racing.FOLDER / table).is_file()
        ],
    ),
]  # fmt: skip
