"""Promotions at once and promotions killed: one history, and alias and record agree."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from promoting import Trained, project
from surefit.core import decision
from surefit.edges import lock, registry, runs
from surefit.edges.store import Store
from surefit.errors import ServiceError
from surefit.verbs import moves, workspace
from surefit.verbs.history import history
from surefit.verbs.promote import promote
from surefit.verbs.reporter import Reporter

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pristine):
    found = project(tmp_path_factory.mktemp("races"), pristine, n=300)
    for name in ("good", "better", "poor"):
        found.version_of(name)
    return found


# Processes come from a server that has imported everything and opened no store: a connection that
# crossed a fork would not be SQLite's any more.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["mlflow.pyfunc", "mlflow.artifacts", "mlflow.store.tracking.sqlalchemy_store",
     "mlflow.store.model_registry.sqlalchemy_store", "surefit.verbs.history",
     "surefit.verbs.promote"]
)  # fmt: skip


def started(work, *arguments):
    """A process that does this work."""
    process = PROCESSES.Process(target=work, args=arguments)
    process.start()
    return process


def exit_codes(processes) -> list[int]:
    """How they all ended."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def opened(trained: Trained) -> Store:
    found = workspace.project(data=None, target=None, config=trained.config, overrides=())
    return workspace.open_store(found)


def move(trained: Trained, alias: str, name: str) -> None:
    """A move as `promote` makes one, of a version registered before, without the gate."""
    store = opened(trained)
    version = next(v for v in registry.versions(store) if v.run_id == trained.runs[name])
    with runs.recording(store, "promote", "promote", tags={"surefit.alias": alias}) as run:
        with moves.opened(store, alias, stages=False, reporter=QUIET) as log:
            facts = moves.facts(trained.config.parent, verdict="PROMOTED", why="")
            entry = moves.write(log, run, action="promote", version=version.version, moves=True,
                                facts=facts, evidence={})  # fmt: skip
            moves.carry_out(log, entry, version)


def consistent(trained: Trained, alias: str) -> tuple[decision.Entry, ...]:
    """The alias's log once the next command has settled it: whole, and what the registry says."""
    told = history(to=alias, config=trained.config, quiet=True)
    assert told.faults == ()
    entries = moves.read(opened(trained), alias)
    assert [e.sequence for e in entries] == list(range(1, len(entries) + 1))
    assert not [e for e in entries if e.outcome == "open"]
    assert decision.standing(entries) == trained.named(alias) == told.version
    return entries


def at_once(trained: Trained, count: int, alias: str) -> None:
    names = ["good", "better", "poor"]
    crowd = [started(move, trained, alias, names[k % 3]) for k in range(count)]
    assert exit_codes(crowd) == [0] * count
    entries = consistent(trained, alias)
    assert [e.outcome for e in entries] == ["done"] * count
    assert all(a.version == b.previous for a, b in itertools.pairwise(entries))


def test_twenty_at_once_over_sqlite(trained) -> None:
    """Twenty processes move one alias at once: twenty records, one chain, the last one stands."""
    at_once(trained, 20, "crowd")


def queue_tags(store: Store) -> list[str]:
    """What a lock has left in the experiment's tags."""
    tags = store.client.get_experiment(store.experiment_id).tags
    return [key for key in tags if key.startswith("surefit.lock")]


@pytest.fixture(scope="module")
def served(tmp_path_factory, pristine, server):
    found = project(tmp_path_factory.mktemp("served"), pristine, n=300, uri=server.uri)
    for name in found.runs:
        found.version_of(name)
    return found


def test_twenty_at_once_over_a_server(served) -> None:
    """The same over MLflow's own server, which has no lock of its own; nothing is left of ours."""
    at_once(served, 20, "crowd")
    assert queue_tags(opened(served)) == []


def promote_whole(trained: Trained, alias: str, name: str) -> None:
    """A whole promotion; its exit code says whether the alias moved."""
    decision = promote(trained.runs[name], to=alias, config=trained.config, quiet=True)
    told = [c.name for c in decision.checks if c.verdict != "PROMOTED"]
    sys.exit(0 if decision.moved else 1 if told == ["no other move meanwhile"] else 2)


def test_of_whole_promotions_at_once_the_losers_are_told(trained) -> None:
    """Judged against the same champion, one moves the alias and the others are told why not; any
    that came later were judged against the new one."""
    crowd = [started(promote_whole, trained, "both", name) for name in ("good", "better")]
    codes = exit_codes(crowd)
    assert 0 in codes
    assert set(codes) <= {0, 1}
    entries = consistent(trained, "both")
    assert sum(e.outcome == "done" for e in entries) == codes.count(0)


def late(work, begun, *arguments) -> None:
    """The work, told to the parent when it begins to write its record."""
    write = moves.write

    def told(*args, **named):
        begun.set()
        return write(*args, **named)

    moves.write = told
    work(*arguments)


def killed(trained: Trained, count: int, alias: str, seed: int, work=move) -> tuple[list[str], int]:
    """Kill so many promotions, half of them at random moments of their lives and half between
    record and end; alias and record agree after each, and at the end nothing is left running.

    Returns:
        The outcomes on record, and how many were killed when they had begun to write.
    """
    rng, good, hits, n_late = random.Random(seed), trained.version_of("good").version, 0, 0
    whole = end = 30.0  # seconds that a life, and its last part, took when they were not cut short
    while hits < count:
        name = "better" if trained.named(alias) == good else "good"
        begun, since = PROCESSES.Event(), time.monotonic()
        child = started(late, work, begun, trained, alias, name)
        if rng.random() < 0.5:
            while child.is_alive() and not begun.wait(0.05):
                pass
            wrote = time.monotonic()
            child.join(rng.uniform(0, end))
        else:
            child.join(rng.uniform(0, whole))
            wrote = 0.0
        child.kill()
        code = exit_codes([child])[0]
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            whole = time.monotonic() - since
            end = time.monotonic() - wrote if wrote else end
        else:
            hits, n_late = hits + 1, n_late + begun.is_set()
        entries = consistent(trained, alias)
    store = opened(trained)
    assert not store.client.search_runs([store.experiment_id], "attributes.status = 'RUNNING'")
    return [e.outcome for e in entries], n_late


def test_killed_at_ten_random_moments(trained) -> None:
    """kill -9 anywhere in a move: the next command finishes it or undoes it."""
    outcomes, n_late = killed(trained, 10, "killed", seed=1)
    assert set(outcomes) <= {"done", "undone"}
    assert n_late > 0


def die_in_a_move(trained: Trained, alias: str, number: str, moment: str) -> None:
    """Kill this process at the given moment of a move to a version."""
    store = opened(trained)
    run_id = runs.start(store, "promote", "promote", tags={"surefit.alias": alias})
    run = runs.Run(store=store, run_id=run_id, name="")
    version = registry.numbered(store, number)
    with moves.opened(store, alias, stages=False, reporter=QUIET) as log:
        if moment != "before the tags":
            facts = moves.facts(".", verdict="PROMOTED", why="")
            moves.write(log, run, action="promote", version=number, moves=True, facts=facts,
                        evidence={})  # fmt: skip
        if moment == "after the alias":
            registry.move(store, alias, version, stages=False)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("moment", "outcomes"),
    [("before the alias", ["done", "undone"]), ("after the alias", ["done", "done"]),
     ("before the tags", ["done"])],
)  # fmt: skip
def test_killed_at_the_moments_that_matter(trained, moment, outcomes) -> None:
    """Dead between record and move it is undone, between move and confirmation it is finished, and
    before its tags it does not count."""
    alias = moment.replace(" ", "-")
    move(trained, alias, "good")
    number = trained.version_of("better").version
    assert exit_codes([started(die_in_a_move, trained, alias, number, moment)]) == [-9]
    entries = consistent(trained, alias)
    assert [e.outcome for e in entries] == outcomes
    if moment == "after the alias":
        run = opened(trained).client.get_run(entries[-1].run_id)
        assert run.info.status == "FINISHED"


def die_holding(trained: Trained) -> None:
    """Die with a lock in hand."""
    with lock.held(opened(trained), "x"):
        os.kill(os.getpid(), signal.SIGKILL)


def hold_alone(trained: Trained, place: Path) -> None:
    """Fail where another process holds the same lock."""
    with lock.held(opened(trained), "x"):
        place.mkdir()
        time.sleep(0.05)
        place.rmdir()


def test_a_dead_holder_of_a_servers_lock_is_replaced(served, tmp_path) -> None:
    """Where the holder was killed those that wait go on, one at a time."""
    assert exit_codes([started(die_holding, served)]) == [-9]
    assert queue_tags(opened(served)) != []
    assert exit_codes([started(hold_alone, served, tmp_path / "now") for _ in range(4)]) == [0] * 4
    assert queue_tags(opened(served)) == []


def test_a_silent_holder_loses_the_lock_and_is_told(trained, monkeypatch) -> None:
    """A holder that shows no sign of life for a whole lease is passed over; it refuses to move
    anything afterwards, and its late signs take nothing from the next one."""
    monkeypatch.setattr(lock, "LEASE", 6.0)
    store = replace(opened(trained), uri="its lock is the queue in its tags")
    silent = lock._Place(store, "silent")
    silent.take(60)
    silent.check()
    silent._left.set()  # as a process that was stopped
    with lock.held(store, "silent") as still_held:
        silent._renew()
        with pytest.raises(ServiceError, match="was lost"):
            silent.check()
        still_held()
    silent.leave()
    with lock.held(store, "silent"):
        pass
    assert queue_tags(store) == []


def test_whoever_waits_too_long_is_told_who_holds_the_lock(trained) -> None:
    """Patience ends in one message, and the place in the queue is given up."""
    store = replace(opened(trained), uri="its lock is the queue in its tags")
    with lock.held(store, "busy"):
        with pytest.raises(ServiceError, match=f"holds the lock busy by .*/{os.getpid()}/"):
            with lock.held(store, "busy", patience=0.1):
                raise AssertionError("two hold it")
        assert len(queue_tags(store)) == 2
    assert queue_tags(store) == []
