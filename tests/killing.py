"""Small searches as processes, killed with -9 at chosen moments, and what is left of them.

Drivers come from a server that has everything imported, into folders whose store may have been made
before: they work and die like those of the command line, at a fifth of the cost. Moments are places
of the search (so many folds committed, so many trials in MLflow), not times, so that a loaded
machine kills at the same places as an idle one. Fits last as long as they like.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TRIALS = 16
FOLDS = 3
FIRE_SPACE = {"x": "0..1", "kind": ["a", "b"]}
CALLS = "calls.txt"  # a line for each time that a fit was begun: the parameter that tells it
PATIENCE = 600  # seconds until something that must happen counts as a hang

DRIVERS = multiprocessing.get_context("forkserver")
DRIVERS.set_forkserver_preload([
    "mlflow.artifacts", "mlflow.pyfunc", "mlflow.models", "optuna", "matplotlib.pyplot",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store",
    "scipy.stats", "sklearn.ensemble", "surefit.verbs.objective", "surefit.verbs.tune",
])  # fmt: skip

# Starting one process asks after all others, and two threads that ask after one at once would tear
# its answer apart.
_TURNS = threading.Lock()

MODEL = '''
import random
import time

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import surefit


def build(params):
    """A linear model; that its fit is begun is noted first."""
    with open({calls!r}, "a") as file:
        file.write(f"{{params.C!r}}\\n")
    time.sleep(0.03)
    return make_pipeline(surefit.preprocess(), LogisticRegression(C=params.C))
'''


# --- two searches: of a function, and of a model on a table ---


def objective(params: dict[str, Any], context: Any) -> float:
    """A function of its parameters that takes as long as it likes; that it is begun is noted."""
    with Path(CALLS).open("a") as file:
        file.write(f"{params['x']!r}\n")
    time.sleep(random.SystemRandom().random() * 0.1)
    context.log(loss=params["x"])
    return float(-((params["x"] - 0.3) ** 2) - 0.1 * (params["kind"] == "b"))


def a_function(folder: Path, **keys: Any) -> Any:
    """The search of `objective`."""
    import surefit

    return surefit.tune(objective, FIRE_SPACE, trials=TRIALS, name="fire", quiet=True,
                        set={"tune.workers": 2} | keys)  # fmt: skip


def a_table(folder: Path, **keys: Any) -> Any:
    """The search of a model with three folds, its winner refitted and logged."""
    import surefit
    from tables import mixed

    chosen = {"model.build": "model.py:build", "split.folds": FOLDS, "split.test": 0.0,
              "tune.space": {"C": "log 0.001..100"}, "tune.workers": 2}  # fmt: skip
    if not (folder / "model.py").exists():
        mixed(120)[["size", "age", "city", "y"]].to_csv(folder / "rows.csv", index=False)
        (folder / "model.py").write_text(MODEL.format(calls=str(folder / CALLS)))  # the last
    return surefit.tune("rows.csv", target="y", trials=TRIALS, quiet=True, set=chosen | keys)


# --- drivers ---


@dataclass(kw_only=True)
class Driver:
    """A search in a process of its own, in a folder of its own."""

    folder: Path
    search: Callable[..., Any]
    keys: Mapping[str, Any] = field(default_factory=dict)
    process: Any = None

    def start(self, *, at: int = 0) -> None:
        """Start it, or start it again; it kills itself at that call of its stores."""
        self.folder.mkdir(parents=True, exist_ok=True)
        work = (self.folder, self.search, dict(self.keys), at)
        with _TURNS:
            self.process = DRIVERS.Process(target=_drive, args=work)
            self.process.start()

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        with _TURNS:
            return bool(self.process.is_alive())

    def ended(self) -> int | None:
        """Its exit code, once it has ended; None where it hangs."""
        until = time.monotonic() + PATIENCE
        while self.alive and time.monotonic() < until:
            time.sleep(0.01)
        code: int | None = self.process.exitcode
        return code

    def finished(self) -> list[Any]:
        """The table of trials that it gives at its end."""
        assert self.ended() == 0, self._said()
        table: list[Any] = json.loads((self.folder / "table.json").read_text())
        return table

    def _said(self) -> str:
        error = self.folder / "error.txt"
        said = error.read_text() if error.exists() else ""
        return f"ended with {self.process.exitcode}: {said}"


def _drive(folder: Path, search: Callable[..., Any], keys: dict[str, Any], at: int) -> None:
    """What a driver does: search, and write down its table and how often it called its stores."""
    os.chdir(folder)
    warnings.simplefilter("ignore")
    counted = _counting(at)
    try:
        result = search(folder, **keys)
    except BaseException:
        Path("error.txt").write_text(traceback.format_exc())
        raise
    table = [[t.number, t.state, t.value, dict(t.params), t.fold_scores] for t in result.trials]
    Path("table.json").write_text(json.dumps(table))
    Path("store_calls.txt").write_text(str(counted()))
    sys.stdout.flush()


def _counting(at: int) -> Callable[[], int]:
    """From now on each statement and commit of journal and store counts; number `at` kills."""
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)

    class Cursor(sqlite3.Cursor):
        def execute(self, *arguments: Any) -> Any:
            call()
            return super().execute(*arguments)

        def executemany(self, *arguments: Any) -> Any:
            call()
            return super().executemany(*arguments)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def commit(self) -> None:
            call()
            super().commit()

    connect = sqlite3.connect
    counting: Any = lambda *a, **k: connect(*a, **{"factory": Connection, **k})  # noqa: E731
    sqlite3.connect = counting
    sqlite3.dbapi2.connect = counting  # type: ignore[attr-defined]
    return lambda: calls


# --- under fire ---


@dataclass(kw_only=True)
class Fire:
    """What came of a search that was killed.

    Attributes:
        table: its trials in the end.
        kills: those that hit; a search may have ended before the last.
        outlived: seconds that workers lived on after their driver, at most.
        repeated: finished folds that were begun again after a kill.
    """

    table: list[Any]
    kills: int = 0
    outlived: float = 0.0
    repeated: int = 0


def made_store(folder: Path) -> Path:
    """A store as surefit makes it on first use; copied, it saves a search most of its calls."""
    from surefit.edges import store

    folder.mkdir(parents=True)
    work = (f"sqlite:///{folder / 'mlflow.db'}", folder / "mlruns")
    maker = DRIVERS.Process(target=store._create_once, args=work)
    maker.start()
    maker.join()
    assert maker.exitcode == 0
    return folder / "mlflow.db"


def calm(folder: Path, search: Callable[..., Any] = a_function, **keys: Any) -> list[Any]:
    """The table of the search when nothing happens to it."""
    driver = Driver(folder=folder, search=search, keys=keys)
    driver.start()
    return driver.finished()


def search_under_fire(
    folder: Path, *, seed: int, n_kills: int, search: Callable[..., Any] = a_function
) -> Fire:
    """A search that is killed so many times at places drawn from the seed, and goes on.

    Each kill hits the driver, which is started again, or one of its workers.
    """
    rng = random.Random(seed)
    jobs = TRIALS * (FOLDS if search is a_table else 1)
    places = sorted(rng.randint(0, jobs + TRIALS) for _ in range(n_kills))
    driver, fire = Driver(folder=folder, search=search), Fire(table=[])
    marks: list[tuple[int, Counter[str]]] = []  # after each kill: calls begun, folds committed
    driver.start()
    for place in places:
        hits_driver = rng.random() < 0.6 or place >= jobs  # then there may be no worker any more
        wait_for(driver, lambda place=place: progress(folder) >= place)  # type: ignore[misc]
        time.sleep(rng.random() * 0.2)
        hit = kill_driver(driver, fire) if hits_driver else kill_worker(driver, rng)
        fire.kills += hit
        done = committed(folder)  # first: the search may go on meanwhile
        marks.append((len(calls(folder)), done))
        if hit and hits_driver:
            driver.start()
    fire.table = driver.finished()
    fire.repeated = repeated(folder, marks, refits=search is a_table)
    return fire


def search_killed_at(
    folder: Path, call: int, search: Callable[..., Any] = a_function
) -> tuple[bool, list[Any]]:
    """Whether the driver lived to make that many calls of its stores and died, and the table.

    It is killed at the call; the same command goes on.
    """
    driver = Driver(folder=folder, search=search)
    driver.start(at=call)
    killed = driver.ended() == -signal.SIGKILL
    driver.start()
    return killed, driver.finished()


def store_calls(folder: Path) -> int:
    """How many calls of its stores the last driver made that came to its end."""
    return int((folder / "store_calls.txt").read_text())


def wait_for(driver: Driver, condition: Callable[[], Any]) -> None:
    """Until something holds, or the driver has ended."""
    until = time.monotonic() + PATIENCE
    while driver.alive and not condition():
        assert time.monotonic() < until, "nothing happens any more"
        time.sleep(0.01)


def kill_driver(driver: Driver, fire: Fire | None = None) -> bool:
    """Kill the driver; whether it was alive. Its workers must follow, and how fast is noted."""
    if not driver.alive:
        return False
    workers = workers_of(driver.process.pid)
    driver.process.kill()
    started = time.monotonic()
    code = driver.ended()
    while any(map(_alive, workers)):
        assert time.monotonic() < started + PATIENCE, "workers outlive their driver"
        time.sleep(0.01)
    if fire is not None:
        fire.outlived = max(fire.outlived, time.monotonic() - started)
    return code == -signal.SIGKILL


def kill_worker(driver: Driver, rng: random.Random) -> bool:
    """Kill one of its workers, once it has any; whether one was hit."""
    wait_for(driver, lambda: workers_of(driver.process.pid))
    workers = workers_of(driver.process.pid)
    if not workers or not driver.alive:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(workers), signal.SIGKILL)
        return True
    return False


def workers_of(driver: int) -> list[int]:
    """The workers below a driver, however far down."""
    parents: dict[int, int] = {}
    named: set[int] = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            head, _, rest = (place / "stat").read_text().rpartition(")")
            parents[int(place.name)] = int(rest.split()[1])
            if head.endswith("(surefit-worker"):
                named.add(int(place.name))
    below, more = set(), {driver}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more}
        below |= more
    return sorted(below & named)


def _alive(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) not in "ZX"
    except OSError:
        return False


# --- what is there ---


def asked(file: Path, sql: str) -> list[Any]:
    """Rows of a database that another process may be making just now."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)
        ) as connection,
    ):
        return connection.execute(sql).fetchall()
    return []


def journal(folder: Path) -> Path:
    """The journal of the folder's search, or a file that is not there."""
    return next((folder / ".surefit" / "searches").glob("*.sqlite"), folder / "no journal")


def progress(folder: Path) -> int:
    """How far a search is: folds committed, and trials that MLflow is known to have."""
    found = asked(journal(folder), "SELECT (SELECT count(*) FROM fold) + "
                                   "(SELECT count(*) FROM outbox WHERE done)")  # fmt: skip
    return int(found[0][0]) if found else 0


def committed(folder: Path) -> Counter[str]:
    """For each trial (by the parameter that its calls note), how many folds need no further fit."""
    found: Counter[str] = Counter()
    rows = asked(journal(folder), "SELECT params, state, count(fold.trial) FROM trial "
                 "LEFT JOIN fold ON fold.trial = trial.number GROUP BY trial.number")  # fmt: skip
    for text, state, folds in rows:
        values = json.loads(text)
        key = repr(values.get("x", values.get("C")))
        found[key] = folds if state == "ASKED" else FOLDS
    return found


def calls(folder: Path) -> list[str]:
    """The fits begun so far, as the objective or the model noted them."""
    file = folder / CALLS
    return file.read_text().splitlines() if file.exists() else []


def repeated(folder: Path, marks: list[tuple[int, Counter[str]]], *, refits: bool) -> int:
    """Finished folds that were fitted again after a kill; refits of the winner are none.

    A fold that a kill cut short is begun twice: one such is allowed to a trial that had not ended.
    """
    begun, again = calls(folder), 0
    ends = [n for n, _ in marks[1:]] + [len(begun)]
    for (start, done), end in zip(marks, ends, strict=True):
        for key, times in Counter(begun[start:end]).items():
            left = (FOLDS if refits else 1) - min(done[key], FOLDS if refits else 1)
            again += max(0, times - left - (left > 0))
    return again


def recorded(folder: Path) -> dict[str, int]:
    """What the store holds of the search: trials lost, those there twice, runs left RUNNING."""
    numbers = [int(n) for (n,) in asked(
        folder / "mlflow.db", "SELECT value FROM tags JOIN runs USING (run_uuid) "
        "WHERE key = 'surefit.trial' AND lifecycle_stage = 'active'",
    )]  # fmt: skip
    ((running,),) = asked(folder / "mlflow.db",
                          "SELECT count(*) FROM runs WHERE status = 'RUNNING'")  # fmt: skip
    return {
        "lost": TRIALS - len(set(numbers)), "twice": len(numbers) - len(set(numbers)),
        "running": running,
    }  # fmt: skip
