"""The shelf: what one worker computes, all map; nothing half done counts, and nothing is left."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from surefit.core import data, fit, split
from surefit.edges import processes, shelf
from surefit.edges.jobs import Job, Outcome
from surefit.edges.pool import Pool
from surefit.sections import DataConfig, SplitConfig
from surefit.verbs.fold_job import of_trial
from tables import mixed

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def outcomes(pool: Pool, *calls: tuple[Any, ...]) -> list[Outcome]:
    """The outcomes of some calls, in their order."""
    for number, args in enumerate(calls):
        pool.submit(Job(key=number, args=args))
    found = {}
    while outcome := pool.next():
        found[outcome.key] = outcome
    return [found[number] for number in range(len(calls))]


def rows(log: Path) -> dict[str, Any]:
    """A value of every kind that preprocessing gives; the log knows who computed it."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.2)  # so that others come meanwhile
    rng = np.random.default_rng(0)
    return {
        "dense": rng.normal(size=(200_000, 10)), "columns": np.asfortranarray(np.eye(40)),
        "sparse": sparse.random(50, 20, 0.2, "csr", random_state=0), "none": np.empty((0, 3)),
        "frame": pd.DataFrame({"x": [1.5, 2.5], "text": ["a", None]}),
    }  # fmt: skip


def use(shared: Any, log: Path, key: str) -> tuple[Any, ...]:
    """Take the value, and write to what nobody else should see; what it was, and who wrote last."""
    found = shelf.once(("rows", key), lambda: rows(log))
    total = float(found["dense"].sum() + found["sparse"].sum())
    mapped = not found["dense"].flags.owndata and found["columns"].flags.f_contiguous
    last, found["columns"][0, 1] = float(found["columns"][0, 1]), os.getpid()
    return (total, mapped, found["none"].shape, found["frame"].to_csv()), {last, 0.0, os.getpid()}


def test_a_value_is_computed_by_one_worker_and_mapped_by_all(tmp_path: Path) -> None:
    """Four workers ask for two keys: two computations, equal values, none sees another's writes."""
    log = tmp_path / "log"
    with Pool(use, workers=4, preload=["numpy"]) as pool:
        found = outcomes(pool, *((log, f"{i % 2}") for i in range(12)))
    assert len(log.read_text().split()) == 2
    assert {o.value[0] for o in found} == {found[0].value[0]}
    assert found[0].value[0][1:3] == (True, (0, 3))
    assert {len(o.value[1]) for o in found} == {2}


def weighed(shared: Any, log: Path) -> tuple[int, int]:
    """How much the worker's own memory grows by a value that it maps, and the value's size."""
    before = processes.own_bytes("self")[0]
    found = shelf.once("rows", lambda: rows(log))["dense"]
    found.sum()
    return processes.own_bytes("self", found.nbytes)[0] - before, found.nbytes


@linux
def test_what_is_shared_is_nobody_s_own_memory(tmp_path: Path) -> None:
    """Sixteen megabytes on the shelf do not count towards the limit of whoever maps them."""
    with Pool(weighed, workers=1, preload=["numpy", "pandas", "scipy.sparse"]) as pool:
        (found,) = outcomes(pool, (tmp_path / "log",))
    assert found.value[0] < found.value[1] / 2


def dies(shared: Any, log: Path) -> float:
    """The first who computes is killed as its value is pickled; others are not."""

    def make() -> Any:
        first = not log.exists()
        return (rows(log)["dense"], Deadly() if first else None)

    return float(shelf.once("rows", make)[0].sum())


class Deadly:
    """Whoever pickles this dies of it."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_worker_killed_over_it_leaves_it_to_the_next(tmp_path: Path) -> None:
    """The locks go with the dead: the fold is computed by another worker, and no job is lost."""
    log = tmp_path / "log"
    with Pool(dies, workers=2, preload=["numpy"]) as pool:
        found = outcomes(pool, (log,), (log,), (log,))
    assert [o.state for o in found] == ["DONE"] * 3
    assert len({o.value for o in found}) == 1
    assert len(log.read_text().split()) == 2


def cramped(shared: Any, log: Path) -> tuple[float, bool]:
    """No file may grow beyond a megabyte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    found = shelf.once("rows", lambda: rows(log))
    return float(found["dense"].sum()), bool(found["dense"].flags.owndata)


def test_without_room_each_worker_has_its_own(tmp_path: Path) -> None:
    """A full disk or memory costs the sharing and nothing else."""
    with Pool(cramped, workers=1, preload=["numpy"]) as pool:
        first, second = outcomes(pool, (tmp_path / "log",), (tmp_path / "log",))
    assert first.value == second.value
    assert first.value[1]


def test_without_a_shelf_a_value_is_simply_made() -> None:
    """In the driver's own process nothing is shared."""
    assert shelf.once("key", lambda: 3) == 3


@pytest.mark.parametrize("family", ["lightgbm", "linear"])
def test_shared_rows_give_the_folds_that_own_rows_give(family: str) -> None:
    """A fold fitted on the shelf's rows, by whichever worker, equals one fitted here."""
    frame = mixed(200, task="binary").drop(columns="note")
    table = data.prepare(frame, DataConfig(path="t", target="y"))
    cut = split.make(table, SplitConfig(folds=2))
    problem = fit.problem(table, cut, family=family, metric="roc_auc", seed=0)
    params = problem.model.resolve({}, table.task)
    with Pool(of_trial, workers=2, shared=problem) as pool:
        found = outcomes(pool, *((params, fold) for fold in (0, 1, 0, 1)))
    for fold in (0, 1):
        here = fit.fit_fold(problem, params, fold)
        for outcome in found[fold::2]:
            assert outcome.value.score == here.score
            assert (outcome.value.pred == here.pred).all()
