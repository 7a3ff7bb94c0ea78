"""Contract of the pool, with real processes: every job ends once, however badly it behaves."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import hostile
from surefit.edges import cores as cores_module
from surefit.edges import messages, nursery, processes, zygote
from surefit.edges import pool as pool_module
from surefit.edges.cores import usable_cores
from surefit.edges.jobs import Job, Outcome
from surefit.edges.pool import Pool
from surefit.errors import ServiceError

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(pool: Pool, name: str, *args: Any) -> Outcome:
    """One job's outcome, and it alone."""
    pool.submit(Job(key=name, args=(name, *args)))
    outcome = pool.next(timeout=30)
    assert outcome is not None, "nothing came"
    assert outcome.key == name
    return outcome


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone_within(seconds: float, *pids: int) -> bool:
    """Whether all processes end in time."""
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


def appeared(path: Path, seconds: float = 20) -> str:
    """A file's text, once there is any."""
    until = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)
    return path.read_text()


@pytest.fixture(scope="module")
def two() -> Iterator[Pool]:
    """Two workers for all the tests that leave a pool usable, which is what they show."""
    with Pool(hostile.call, workers=2, deadline=20) as pool:
        yield pool


@pytest.fixture(autouse=True)
def still_usable(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the shared pool has no job on its way, two free workers, and works."""
    yield
    if "two" in request.fixturenames:
        pool = request.getfixturevalue("two")
        assert pool.next(timeout=5) is None
        assert pool.idle == 2
        assert run(pool, "double", 21).value == 42


# --- jobs that behave ---


def test_every_job_comes_back_once(two: Pool) -> None:
    """Two hundred jobs on two workers give two hundred outcomes, each with its own value."""
    start = time.perf_counter()
    for i in range(200):
        two.submit(Job(key=(i, "fold"), args=("double", i)))
    got = [two.next(timeout=10) for _ in range(200)]
    print(f"{(time.perf_counter() - start) / 200 * 1e3:.2f} ms a job")
    assert {o.key: o.value for o in got if o} == {(i, "fold"): 2 * i for i in range(200)}
    assert all(o and o.state == "DONE" and o.reason == "" for o in got)


def test_outcomes_come_in_the_order_in_which_jobs_end(two: Pool) -> None:
    """A short job submitted later overtakes a long one."""
    two.submit(Job(key="long", args=("hang", 1.0)))
    two.submit(Job(key="short", args=("hang", 0.0)))
    assert [o.key for o in (two.next(), two.next()) if o] == ["short", "long"]


def test_idle_counts_jobs_that_could_start(two: Pool) -> None:
    """Waiting jobs count as running ones; a timeout gives None and loses nothing."""
    for key in range(3):
        two.submit(Job(key=key, args=("hang", 0.3)))
        assert two.idle == max(0, 1 - key)
    assert two.next(timeout=0) is None
    assert two.next(timeout=0.05) is None
    assert {o.key for _ in range(3) if (o := two.next())} == {0, 1, 2}


def test_a_failure_on_a_gpu_does_not_fall_upon_the_next_job() -> None:
    """Where a job failed after torch began to use a GPU the next one has a process of its own; on
    a CPU the process stays."""

    def job(shared: Any, what: str) -> int:
        import types

        if what == "gpu":
            cuda = types.SimpleNamespace(is_initialized=lambda: True)
            sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)  # type: ignore[assignment]
        if what != "look":
            raise RuntimeError("on purpose")
        return os.getpid()

    with Pool(job, workers=1) as pool:
        found = []
        for key, what in enumerate(("look", "cpu", "look", "gpu", "look")):
            pool.submit(Job(key=key, args=(what,)))
            outcome = pool.next(timeout=30)
            found.append(outcome.value if outcome and outcome.state == "DONE" else None)
    assert found[0] == found[2] != found[4]


def test_a_key_in_flight_is_refused(two: Pool) -> None:
    """One key names one job at a time."""
    two.submit(Job(key=1, args=("hang", 0.1)))
    with pytest.raises(ValueError, match="key 1"):
        two.submit(Job(key=1, args=("hang", 0.1)))
    assert two.next() is not None


def test_large_arguments_and_values_travel(two: Pool) -> None:
    """Megabytes pass both ways."""
    with Pool(lambda shared, x: x[::-1], workers=1) as pool:
        pool.submit(Job(key=0, args=(bytes(range(256)) * 40_000,)))
        outcome = pool.next()
    assert outcome is not None
    assert outcome.value == (bytes(range(256)) * 40_000)[::-1]


def test_closures_and_lambdas_are_jobs(two: Pool) -> None:
    """Functions without a name to import travel, as does a lambda that comes back."""
    assert run(two, "a_lambda").value(1) == 2


def test_what_a_job_prints_is_its_own(two: Pool) -> None:
    """Output from Python, children and C comes with its job, and not with the next."""
    output = run(two, "say", "one").output
    assert sorted(output.split("one")) == sorted(["", " python\n", " child\n", " C"])
    assert run(two, "double", 1).output == ""


@linux
def test_peak_memory_is_a_job_s_own() -> None:
    """A job that uses 100 MB says so; the next in the same worker does not."""
    with Pool(hostile.call, workers=1) as pool:
        large, small = run(pool, "keep", 100_000_000), run(pool, "double", 1)
    assert 100e6 < large.peak_bytes < 150e6
    assert small.peak_bytes < 50e6
    assert pool.peak_bytes == large.peak_bytes  # of one worker at a time


def test_processes_can_be_used_inside_a_job(two: Pool) -> None:
    """A job may use multiprocessing."""
    assert run(two, "with_processes").value == [1, 2]


# --- the shared value ---


def test_the_shared_value_is_mapped_and_read_only() -> None:
    """Workers see the arrays of the driver, cannot write them, and hold no copy."""
    x = np.arange(5_000_000, dtype=np.float64)
    with Pool(hostile.call, workers=2, shared={"x": x}, preload=["numpy"]) as pool:
        outcome = run(pool, "total")
    assert outcome.value == (x.sum(), False)
    assert outcome.peak_bytes < 60e6
    assert pool.notes == []


def test_the_shared_value_can_follow_the_start() -> None:
    """The pool starts while the driver still loads its data; once set, the value stays."""
    with Pool(hostile.call, workers=1) as pool:
        pool.start()
        pool.share({"x": np.ones(10)})
        with pytest.raises(ValueError, match="once"):
            pool.share(None)
        assert run(pool, "total").value == (10.0, False)


def test_a_shared_value_that_cannot_be_loaded_fails_each_job(tmp_path: Path) -> None:
    """The jobs say why, and the pool survives."""
    with Pool(hostile.call, workers=1, shared=hostile.OnlyHere()) as pool:
        for _ in range(2):
            outcome = run(pool, "double", 1)
            assert (outcome.state, outcome.reason) == ("FAILED", "RuntimeError: not in the driver")


class StartsThread:
    """A value whose loading starts a thread."""

    def __reduce__(self) -> Any:
        return start_thread, ()


def start_thread() -> str:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return "loaded"


def test_nothing_is_forked_while_threads_run(tmp_path: Path, monkeypatch: Any) -> None:
    """Modules and values that start threads are found out and left to the workers."""
    (tmp_path / "threaded.py").write_text("from test_pool import start_thread\nstart_thread()")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Pool(
        lambda shared: shared,
        workers=1,
        preload=["threaded", "json"],
        shared=StartsThread(),
    ) as pool:
        pool.submit(Job(key=1))
        outcome = pool.next(timeout=30)
    assert outcome is not None
    assert outcome.value == "loaded"
    assert [note.split(":")[0] for note in pool.notes] == [
        "threaded was not preloaded",
        "loading the shared value starts threads",
    ]


# --- jobs that do not ---


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("raising", (), "ValueError: on purpose"),
        ("unspeakable", (), "Unspeakable: (its message cannot be shown)"),
        ("leaving", (), "SystemExit: 3"),
        ("vanishing", (0,), "exited with code 0"),
        ("vanishing", (3,), "exited with code 3"),
        ("killed", (signal.SIGKILL,), "killed by SIGKILL"),
        ("killed", (signal.SIGTERM,), "killed by SIGTERM"),
        ("killed", (signal.SIGINT,), "KeyboardInterrupt"),
        ("segfault", (), "killed by SIGSEGV"),
        ("out_of_memory", (), "MemoryError"),
        ("unpicklable", (), "its value cannot be pickled: TypeError: cannot pickle '_thread.lock'"),
        ("only_here", (), "its value cannot be unpickled: RuntimeError: not in the driver"),
        ("close_all", (), "exited with code 70"),
    ],
)
def test_a_bad_job_fails_alone(two: Pool, name: str, args: Any, reason: str) -> None:
    """Whatever a job does, its outcome says what in one line, and the next jobs run."""
    outcome = run(two, name, *args)
    assert (outcome.state, outcome.value) == ("FAILED", None)
    assert outcome.reason.startswith(reason)
    assert "\n" not in outcome.reason


def test_tracebacks_are_the_user_s(two: Pool) -> None:
    """An exception's text begins in the user's function; a crash in C code tells its place."""
    assert "worker.py" not in run(two, "raising").traceback
    assert "on purpose\nand a second line" in run(two, "raising").traceback
    assert "string_at" in run(two, "segfault").traceback


def test_a_flood_of_output_is_cut(two: Pool) -> None:
    """100 MB of output neither block nor stay: the first and the last words are kept."""
    outcome = run(two, "flood", 100 << 20)
    assert outcome.value == "done"
    assert len(outcome.output) < zygote.KEPT_BYTES + 100
    assert outcome.output.startswith("first words")
    assert outcome.output.endswith("last words\n")
    assert "bytes left out" in outcome.output


def test_a_flood_does_not_need_the_driver(two: Pool) -> None:
    """A job that prints much ends while the driver is busy elsewhere."""
    run(two, "double", 1)
    two.submit(Job(key=1, args=("flood", 5 << 20)))  # to a worker that is ready
    time.sleep(1.5)
    outcome = two.next()
    assert outcome is not None
    assert outcome.seconds < 1.4


def test_closed_streams_are_opened_again(two: Pool) -> None:
    """A job that closes stdout and stderr harms no other."""
    assert run(two, "spoil_streams").state == "DONE"
    assert "python" in run(two, "say", "again").output


def test_a_thread_left_running_takes_its_worker_along(two: Pool) -> None:
    """The job's value counts; the next job meets a clean process."""
    outcome = run(two, "leave_thread")
    assert outcome.state == "DONE"
    assert outcome.value not in {run(two, "who").value[0] for _ in range(4)}


def test_a_job_that_forks_answers_once(two: Pool) -> None:
    """The child that comes back from a fork in a job says nothing."""
    assert run(two, "fork_and_return").value == 1


def test_a_function_that_cannot_be_loaded_fails_each_job() -> None:
    """An import error in the worker is every job's reason."""
    with Pool(hostile.OnlyHere(), workers=1) as pool:  # type: ignore[arg-type]
        pool.submit(Job(key=1))
        outcome = pool.next(timeout=10)
    assert outcome is not None
    assert outcome.reason == "RuntimeError: not in the driver"


class Crash:
    """A function whose loading kills the process."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


def test_workers_that_cannot_start_fail_the_jobs() -> None:
    """A worker that dies at its start is tried three times a job, and not for ever."""
    with Pool(Crash(), workers=2) as pool:  # type: ignore[arg-type]
        for key in range(2):
            pool.submit(Job(key=key))
        reasons = [o.reason for _ in range(2) if (o := pool.next(timeout=10))]
    assert reasons == ["its worker could not start: exited with code 9"] * 2


# --- limits ---


def test_a_job_past_its_deadline_is_killed() -> None:
    """In Python or in C code, it is FAILED in time, its output is kept, and nothing comes late."""
    with Pool(hostile.call, workers=2, deadline=0.4) as pool:
        assert run(pool, "double", 1).value == 2
        for name in ("hang", "hang_in_c"):
            start = time.monotonic()
            outcome = run(pool, name)
            assert time.monotonic() - start < 2.0
            assert (outcome.state, outcome.reason) == ("FAILED", "exceeded 0.4 s")
            assert run(pool, "double", 2).value == 4
        assert pool.next(timeout=0.5) is None


def test_a_large_answer_in_time_counts_when_the_driver_looks_late() -> None:
    """An answer that no socket holds at once is read to its end, whatever the time is then."""
    with Pool(hostile.call, workers=1, deadline=1.0) as pool:
        assert run(pool, "double", 1).value == 2
        for n_bytes in (400_000, 3_000_000) * 3:
            pool.submit(Job(key=n_bytes, args=("blob", n_bytes)))
            outcome = pool.next(timeout=0)  # reads what has begun to arrive
            if outcome is None:
                time.sleep(1.3)
                outcome = pool.next(timeout=10)
            assert outcome is not None
            assert outcome.state == "DONE", outcome.reason
            assert len(outcome.value) == n_bytes


def test_a_deadline_holds_when_the_driver_looks_late() -> None:
    """A job that took too long is FAILED also if it ended before anybody looked."""
    with Pool(hostile.call, workers=1, deadline=0.3) as pool:
        assert run(pool, "double", 1).state == "DONE"
        pool.submit(Job(key=1, args=("hang", 0.5)))
        time.sleep(1.0)
        outcome = pool.next()
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("FAILED", "exceeded 0.3 s")


def test_a_job_in_time_counts_when_the_driver_looks_late() -> None:
    """An answer that waited for the driver is not late."""
    with Pool(hostile.call, workers=1, deadline=0.5) as pool:
        assert run(pool, "double", 1).state == "DONE"
        pool.submit(Job(key=1, args=("hang", 0.1)))
        time.sleep(1.0)
        outcome = pool.next()
    assert outcome is not None
    assert outcome.state == "DONE"


def test_a_job_past_its_memory_is_killed() -> None:
    """A job that takes more than allowed is FAILED and its neighbour is not."""
    with Pool(hostile.call, workers=2, memory=300 << 20) as pool:
        pool.submit(Job(key="innocent", args=("hang", 1.0)))
        pool.submit(Job(key="glutton", args=("devour", 3 << 30)))
        outcomes = {o.key: o for _ in range(2) if (o := pool.next(timeout=20))}
        assert outcomes["innocent"].state == "DONE"
        assert outcomes["glutton"].reason == "exceeded 300 MiB of memory"
        assert outcomes["glutton"].peak_bytes > 300 << 20
        assert run(pool, "double", 1).value == 2


def test_memory_is_watched_while_the_driver_is_busy() -> None:
    """The limit holds also between calls of the pool."""
    with Pool(hostile.call, workers=1, memory=200 << 20) as pool:
        pid = run(pool, "who").value[0]
        pool.submit(Job(key=1, args=("devour", 3 << 30)))
        assert gone_within(5, pid)
        outcome = pool.next(timeout=5)
    assert outcome is not None
    assert outcome.reason == "exceeded 200 MiB of memory"


def test_a_cancelled_job_gives_no_outcome(two: Pool) -> None:
    """Running, waiting or finished: after cancel nothing comes, and the worker is free again."""
    for key in range(3):
        two.submit(Job(key=key, args=("hang", 0.2 if key else 60)))
    two.cancel(2)
    two.cancel(0)
    two.cancel("unknown")
    assert two.idle == 1
    assert [o.key for _ in range(2) if (o := two.next(timeout=5))] == [1]
    two.submit(Job(key=0, args=("double", 4)))
    assert [o.value for _ in range(2) if (o := two.next(timeout=5))] == [8]


# --- jobs in hand ---


@pytest.fixture
def quick() -> Iterator[Pool]:
    """One worker whose last job was short: it is handed the next job before it ends one."""
    with Pool(hostile.call, workers=1, deadline=2) as pool:
        run(pool, "double", 1)
        yield pool


def outcomes(pool: Pool, *jobs: tuple[Any, ...]) -> list[Outcome]:
    """All outcomes of jobs handed over at once, by their order there."""
    for key, args in enumerate(jobs):
        pool.submit(Job(key=key, args=args))
    got = [pool.next(timeout=20) for _ in jobs]
    return sorted((o for o in got if o), key=lambda o: o.key)


def test_short_jobs_keep_their_own_words(quick: Pool) -> None:
    """A worker goes on at once, and what each of a hundred jobs printed stays its own."""
    for key, outcome in enumerate(outcomes(quick, *[("say", f"<{k}>") for k in range(100)])):
        assert outcome.output.count(f"<{key}>") == 3
        assert outcome.output.count("<") == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(("vanishing", 5), "exited with code 5"), (("hang", 60), "exceeded 2.0 s"),
     (("segfault",), "killed by SIGSEGV"), (("leave_thread",), ""), (("close_pipes",), "")],
)  # fmt: skip
def test_a_job_in_hand_outlives_its_worker(
    quick: Pool, tmp_path: Path, bad: tuple[Any, ...], reason: str
) -> None:
    """The job that ended the worker alone fails; the next one runs, once, in another process."""
    file = tmp_path / "notes"
    worse, following = outcomes(quick, bad, ("note", str(file)))
    assert worse.reason == reason
    assert following.state == "DONE"
    assert file.read_text() == "here\n"


def test_a_job_in_hand_can_be_cancelled(quick: Pool) -> None:
    """It gives no outcome, the one before it does, and the pool is free again."""
    quick.submit(Job(key="first", args=("hang", 0.3)))
    quick.submit(Job(key="in hand", args=("hang", 1.0)))
    quick.cancel("in hand")
    assert [o.key for _ in range(2) if (o := quick.next(timeout=5))] == ["first"]
    assert quick.idle == 1
    assert run(quick, "double", 4).value == 8


@pytest.mark.parametrize("other", [("hang", 0.4), ("vanishing", 1)])
def test_no_job_waits_in_a_hand_beside_a_free_worker(tmp_path: Path, other: Any) -> None:
    """A job behind one that takes long goes to a worker that is idle, or new, and runs once."""
    file = tmp_path / "notes"
    with Pool(hostile.call, workers=2) as pool:
        outcomes(pool, ("hang", 0.05), ("hang", 0.05))
        jobs = {"long": ("hang", 3.0), "other": other, "in hand": ("note", str(file))}
        for key, args in jobs.items():
            pool.submit(Job(key=key, args=args))
        assert [o.key for _ in range(2) if (o := pool.next())] == ["other", "in hand"]
        time.sleep(4)  # nobody looks when the long one ends
        assert [o.key for _ in range(2) if (o := pool.next())] == ["long"]
    assert file.read_text() == "here\n"


@pytest.mark.parametrize("seed", range(3))
def test_each_of_many_jobs_ends_once_and_as_itself(seed: int) -> None:
    """Good, bad, deadly and slow ones in any order, some cancelled: one outcome each, its own."""
    random = Random(seed)
    kinds = {
        "double": ((21,), ""), "hang": ((0.02,), ""), "say": (("word",), ""),
        "vanishing": ((4,), "exited with code 4"), "leave_thread": ((), ""),
        "raising": ((), "ValueError: on purpose"), "close_pipes": ((), ""),
    }  # fmt: skip
    given = {key: random.choice(list(kinds)) for key in range(120)}
    cancelled = set()
    got: dict[Any, Outcome] = {}
    with Pool(hostile.call, workers=2, deadline=20) as pool:
        waiting = list(given)
        while waiting or len(got) + len(cancelled) < len(given):
            for key in waiting[: random.randint(1, 5)]:
                waiting.remove(key)
                pool.submit(Job(key=key, args=(given[key], *kinds[given[key]][0])))
            if random.random() < 0.2 and (key := random.randrange(120)) not in {*waiting, *got}:
                pool.cancel(key)
                cancelled.add(key)
            while outcome := pool.next(timeout=0.05 if waiting else 5):
                assert outcome.key not in {*got, *cancelled}
                got[outcome.key] = outcome
    assert set(got) | cancelled == set(given)
    for key, outcome in got.items():
        assert outcome.reason == kinds[given[key]][1]
        assert outcome.output.count("word") == (3 if given[key] == "say" else 0)


def test_large_arguments_wait_for_a_free_worker(quick: Pool) -> None:
    """Handing over what a socket does not hold never waits for a busy worker."""
    quick.submit(Job(key="busy", args=("hang", 1.0)))
    quick.submit(Job(key="large", args=("double", b"x" * (8 << 20))))
    assert quick.next(timeout=0) is None
    assert [o.key for _ in range(2) if (o := quick.next(timeout=10))] == ["busy", "large"]


# --- death ---


@linux
def test_a_worker_killed_from_outside_is_replaced(two: Pool) -> None:
    """An idle worker's death costs nothing; a busy one's costs its job."""
    pid, session, zygote = run(two, "who").value
    assert session == pid
    assert zygote != os.getpid()
    os.kill(pid, signal.SIGKILL)
    assert gone_within(2, pid)
    start = time.perf_counter()
    pids = {run(two, "who").value[0] for _ in range(2)}
    print(f"replaced in {(time.perf_counter() - start) * 1e3:.0f} ms")
    assert pid not in pids


@linux
def test_what_a_job_started_ends_with_its_worker(two: Pool, tmp_path: Path) -> None:
    """Children of a worker are killed when it dies, by itself or by the deadline."""
    assert run(two, "leave_child_and_die", str(tmp_path / "pid")).reason == "exited with code 1"
    assert gone_within(1, int(appeared(tmp_path / "pid")))


@linux
def test_closing_ends_all_within_a_second(tmp_path: Path) -> None:
    """Close and kill end busy workers, those in C code, and what they started."""
    for how in ("close", "kill"):
        pool = Pool(hostile.call, workers=2)
        child, first = run(pool, "leave_child").value
        pool.submit(Job(key=1, args=("hang_in_c", str(tmp_path / how))))
        pool.submit(Job(key=2, args=("hang",)))
        while not (tmp_path / how).exists():
            pool.next(timeout=0.05)
        start = time.monotonic()
        getattr(pool, how)()
        getattr(pool, how)()
        assert time.monotonic() - start < 1.0
        assert gone_within(0.5, child, first, int(appeared(tmp_path / how)))
        assert pool.next() is None
        with pytest.raises(ValueError, match="closed"):
            pool.submit(Job(key=3))


def test_a_dead_zygote_is_replaced(two: Pool, tmp_path: Path) -> None:
    """Jobs that ran under it run again; one that kills it each time fails."""
    with Pool(hostile.call, workers=2) as pool:
        outcome = run(pool, "kill_zygote_once", str(tmp_path / "once"))
        assert outcome.value == "second time"
        outcome = run(pool, "kill_zygote")
        assert outcome.reason == "the parent of its worker ended 3 times: killed by SIGKILL"
        assert run(pool, "double", 1).value == 2


def test_a_zygote_that_always_dies_is_given_up(monkeypatch: Any) -> None:
    """The error names how it ended and its last words."""
    monkeypatch.setattr(nursery, "_BOOT", "import sys; sys.exit('no luck')")
    monkeypatch.setattr(nursery, "_nurseries", {})
    with Pool(hostile.call, workers=1) as pool:
        with pytest.raises(ServiceError, match="exited with code 1: no luck"):
            run(pool, "double", 1)
    nursery.close_all()


def test_a_second_pool_has_its_libraries_at_once() -> None:
    """Pools that need the same imports have different parents, forked from one process."""
    parents = []
    for _ in range(2):
        with Pool(hostile.call, workers=1, preload=["json", "fractions"]) as pool:
            zygote = run(pool, "who").value[2]
            above = Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()[1]
            assert run(pool, "imported", "fractions").value
        assert gone_within(2, zygote)
        parents.append((zygote, above))
    (first, one), (second, other) = parents
    assert first != second
    assert one == other


def test_a_killed_nursery_is_replaced() -> None:
    """Its zygotes end with it, and the pool goes on with those of another."""
    with Pool(hostile.call, workers=1, preload=["json", "numbers"]) as pool:
        zygote = run(pool, "who").value[2]
        above = Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()[1]
        os.kill(int(above), signal.SIGKILL)
        assert gone_within(3, zygote)
        assert run(pool, "double", 21).value == 42


SCRIPT = """
import os, sys, time
print("main runs", __name__)
from surefit.edges.jobs import Job
from surefit.edges.pool import Pool

class Here:
    def __init__(self, x): self.x = x

def jobs(shared, path, seconds):
    import ctypes, subprocess
    child = subprocess.Popen(["sleep", "60"])
    with open(path, "w") as f: f.write(f"{os.getpid()} {os.getppid()} {child.pid} ")
    if seconds: ctypes.PyDLL(None).sleep(seconds)
    child.kill(); child.wait()
    return Here(os.path.basename(path))

pool = Pool(jobs, workers=2)
pool.start()
if sys.argv[3] == "True" and os.fork() == 0:
    time.sleep(60)
for i in range(2):
    pool.submit(Job(key=i, args=(f"{sys.argv[1]}/{i}", int(sys.argv[2]))))
try:
    for i in range(2):
        outcome = pool.next()
        print(type(outcome.value) is Here, outcome.value.x)
    pool.close()
except KeyboardInterrupt:
    start = time.monotonic()
    pool.close()
    print(f"interrupted, closed in time: {time.monotonic() - start < 1}")
"""


def script(tmp_path: Path, seconds: int, forks: bool = False) -> subprocess.Popen[str]:
    """A user's script without a guard for its main part; `forks` a child that holds its files."""
    file = tmp_path / "user.py"
    file.write_text(textwrap.dedent(SCRIPT))
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(file), str(tmp_path), str(seconds), str(forks)],
        env={**os.environ, "PYTHONPATH": str(Path(pool_module.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def pids_of(tmp_path: Path) -> list[int]:
    return [int(pid) for i in range(2) for pid in appeared(tmp_path / str(i)).split()]


def test_a_script_without_a_guard_works(tmp_path: Path) -> None:
    """The user's main module is not run again, and its classes travel both ways."""
    said, _ = script(tmp_path, 0).communicate(timeout=30)
    assert sorted(said.splitlines()) == ["True 0", "True 1", "main runs __main__"]


@linux
@pytest.mark.parametrize("forks", [False, True])
def test_nobody_outlives_a_killed_driver(tmp_path: Path, forks: bool) -> None:
    """kill -9 of the driver ends zygote, workers in C code and their children within 2 s.

    Also where a fork of the driver keeps its end of the socket open.
    """
    with script(tmp_path, 60, forks) as driver:
        pids = pids_of(tmp_path)
        driver.kill()
        start = time.monotonic()
        assert gone_within(2, *pids)
        print(f"all gone after {time.monotonic() - start:.3f} s")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)


def test_a_pool_outlives_the_thread_that_started_it() -> None:
    """It can be started in the background by a thread that ends."""
    with Pool(hostile.call, workers=1, preload=["json", "decimal"]) as pool:
        thread = threading.Thread(target=pool.start)
        thread.start()
        thread.join()
        assert run(pool, "double", 1).value == 2
        assert pool._n_restarts == 0


@linux
def test_dead_workers_leave_no_files_open() -> None:
    """Neither in the driver nor in the zygote."""
    with Pool(hostile.call, workers=1) as pool:
        zygote = run(pool, "who").value[2]
        folders = [Path("/proc/self/fd"), Path(f"/proc/{zygote}/fd")]
        before = [len(list(folder.iterdir())) for folder in folders]
        for _ in range(20):
            assert run(pool, "vanishing", 1).state == "FAILED"
        run(pool, "double", 1)
        assert [len(list(folder.iterdir())) for folder in folders] == before


@linux
def test_ctrl_c_reaches_the_driver_alone(tmp_path: Path) -> None:
    """The terminal's interrupt leaves workers quiet; closing then takes less than a second."""
    with script(tmp_path, 60) as driver:
        pids = pids_of(tmp_path)
        os.killpg(driver.pid, signal.SIGINT)
        said, _ = driver.communicate(timeout=5)
        assert said.splitlines() == ["main runs __main__", "interrupted, closed in time: True"]
        assert gone_within(0.5, *pids)


@linux
@pytest.mark.parametrize("how", ["parent gone", "hang-up"])
def test_the_watcher_ends_a_worker_where_the_kernel_does_not(how: str) -> None:
    """Without PR_SET_PDEATHSIG a thread notices that the parent or the socket's end is gone."""
    import socket

    ours, theirs = socket.socketpair()
    code = "import sys, time; from surefit.edges.processes import *; "
    code += "threading.Thread(target=watch_parent, args=(int(sys.argv[2]), int(sys.argv[1])), "
    code += "daemon=True).start(); print('up', flush=True); time.sleep(60)"
    parent = os.getpid() if how == "hang-up" else 1 << 30
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno()), str(parent)],
            env={**os.environ, "PYTHONPATH": str(Path(pool_module.__file__).parents[2])},
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout
        if how == "hang-up":
            assert process.stdout.readline() == b"up\n"
            theirs.close()
            ours.close()
        assert process.wait(timeout=2) == -signal.SIGKILL
        process.stdout.close()


# --- what is inside a worker ---


def test_workers_know_neither_mlflow_nor_optuna(two: Pool) -> None:
    """Nothing of ours in a worker imports what only the driver may use."""
    loaded = {name.partition(".")[0] for name in run(two, "modules").value}
    assert not loaded & {"mlflow", "optuna", "sqlalchemy", "pandas", "numpy", "click"}


def test_threads_are_set_before_anything_is_imported() -> None:
    """OpenMP gets the pool's threads, OpenBLAS one, and spinning is bounded."""
    with Pool(hostile.call, workers=1, threads=2) as pool:
        value = run(pool, "environment").value
    assert (value["OMP_NUM_THREADS"], value["OPENBLAS_NUM_THREADS"]) == ("2", "1")
    assert value["GOMP_SPINCOUNT"] == os.environ.get("GOMP_SPINCOUNT", "1000")


def test_imports_and_paths_resolve_as_in_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import path and the folder are those at the time of the fork, not of the start."""
    with Pool(hostile.call, workers=1) as pool:
        pool.start()
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path / "modules"))
        path, folder = run(pool, "signature").value
    assert path == sys.path
    assert folder == str(tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_lightgbm_works_after_the_fork(threads: int) -> None:
    """Preloaded numerical libraries start no thread, and OpenMP works in each worker."""
    preload = ["numpy", "pandas", "sklearn", "lightgbm"]
    with Pool(hostile.call, workers=2, threads=threads, preload=preload) as pool:
        for key in range(4):
            pool.submit(Job(key=key, args=("lightgbm_fit", threads)))
        outcomes = [o for _ in range(4) if (o := pool.next(timeout=60))]
    assert [o.reason for o in outcomes] == [""] * 4
    assert len({o.value for o in outcomes}) == 1
    assert pool.notes == []


def test_workers_do_not_share_random_numbers() -> None:
    """NumPy's global generator differs between workers, as Python's own does."""
    with Pool(hostile.call, workers=2, preload=["numpy.random"]) as pool:
        for key in range(2):
            pool.submit(Job(key=key, args=("random_number",)))
        assert len({o.value for _ in range(2) if (o := pool.next(timeout=20))}) == 2


def test_a_missing_preload_is_noted() -> None:
    """The pool works without it."""
    with Pool(hostile.call, workers=1, preload=["no_such_module"]) as pool:
        assert run(pool, "double", 1).value == 2
    assert "no_such_module" in pool.notes[0]


# --- parts ---


def test_usable_cores_is_at_least_one() -> None:
    """On any machine."""
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "250000 100000", "a/b/cpu.max": "max 100000"}, 2.5),
        ("0::/not/here", {"cpu.max": "50000 100000"}, 0.5),
        (
            "3:cpu,cpuacct:/x\n2:memory:/y",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            3.0,
        ),
        ("", {}, None),
    ],
)
def test_a_container_s_quota_is_found(
    tmp_path: Path, membership: str, files: dict[str, str], cores: float | None
) -> None:
    """Control groups of both versions, also where the own group is not to be seen."""
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert cores_module._cgroup_cores(tmp_path / "cgroup", tmp_path / "fs") == cores


@pytest.mark.parametrize("workers", [0, -1])
def test_a_pool_needs_a_worker(workers: int) -> None:
    """No workers is a mistake and not a mode."""
    with pytest.raises(ValueError, match="at least 1"):
        Pool(hostile.call, workers=workers)


def test_nothing_starts_before_it_is_needed() -> None:
    """A pool that is never used costs no process."""
    with Pool(hostile.call, workers=1) as pool:
        assert pool.next() is None
        assert pool.idle == 1


def test_memory_can_be_read_without_proc() -> None:
    """Elsewhere than on Linux, `ps` tells a process's memory."""
    with contextlib.suppress(FileNotFoundError):
        now, _ = processes._own_bytes_by_ps(os.getpid())
        assert now > 1 << 20
    assert processes._own_bytes_by_ps("self")[1] > 1 << 20


def test_messages_survive_being_cut_anywhere() -> None:
    """A stream's pieces, of any size, make the same messages."""
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        inbox = messages.Inbox(theirs)
        data = b"".join(messages.packed((i, "x"), b"y" * i) + b"y" * i for i in range(3))
        got = []
        for i in range(len(data)):
            ours.send(data[i : i + 1])
            got += inbox.read()[0]
        assert got == [((i, "x"), b"y" * i) for i in range(3)]
        ours.close()
        assert inbox.read() == ([], False)


def test_outcomes_are_plain_values() -> None:
    """An outcome without a value of the user's own can be stored."""
    outcome = Outcome(key=(1, 2), state="FAILED", reason="why")
    assert pickle.loads(pickle.dumps(outcome)) == outcome
