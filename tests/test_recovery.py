"""Searches that lose their journal, their disk, their worker or their driver: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import hostile
from killing import (
    FIRE_SPACE,
    TRIALS,
    Driver,
    a_function,
    calls,
    committed,
    kill_worker,
    objective,
    recorded,
    repeated,
)
from surefit.edges import nested, runs
from surefit.edges.jobs import Job
from surefit.edges.nested import Nested
from surefit.edges.pool import Pool
from surefit.edges.runs import RunRecord
from surefit.edges.store import connect
from surefit.errors import InputError
from test_interrupted import running
from test_pool import appeared
from test_tune import CHOSEN, check_mirror, table, trials_of

SPACE = {"x": "0..1", "kind": ["a", "b"]}


def hill(params: dict[str, Any], context: Any) -> float:
    """A quick function of its parameters."""
    context.log(loss=params["x"])
    return float(-((params["x"] - 0.3) ** 2) - 0.1 * (params["kind"] == "b"))


def unchanged(before: RunRecord, after: RunRecord) -> bool:
    """Whether two runs hold the same, but for their ids, their owner and the clock."""
    own = {"surefit.owner", "surefit.key", "mlflow.source.name"}
    tags = [{k: v for k, v in r.tags.items() if k not in own} for r in (before, after)]
    return (before.params, before.metrics, before.status, before.started) == (
        after.params, after.metrics, after.status, after.started,
    ) and tags[0] == tags[1]  # fmt: skip


def test_rows_put_in_by_us_are_what_the_client_would_write(folder: Any) -> None:
    """Both ways give the same run: parameters, points, latest metrics, tags, times, artifacts."""
    store = connect(folder.uri, folder.path, "both")
    made = []
    for key in ("rows", "client"):
        made.append(Nested(
            key=key, name="trial 3", kind="trial", parent="0" * 32, status="FINISHED", reason="",
            started=1_700_000_000_000, ended=1_700_000_005_000, tags={"surefit.trial": "3"},
            params={"text": "a" * 7000, "number": 0.1, "flag": True, "word": "yes"},
            metrics=[("loss", 0.5, 0), ("loss", 0.25, 1), ("loss", 0.25, 1), ("value", -1.5, 0),
                     ("endless", float("inf"), 0)],
        ))  # fmt: skip
    written = nested.write_all(store, made[:1])
    assert written is not None
    ids = [written["rows"], nested.write(store, made[1], None)]
    assert nested.write_all(store, made[:1]) == {}
    rows, client = (runs.find(store, run_id) for run_id in ids)
    assert unchanged(rows, client)
    plain = [folder.client.get_run(i) for i in ids]
    assert plain[0].info.end_time == plain[1].info.end_time
    assert plain[0].info.artifact_uri.replace(ids[0], ids[1]) == plain[1].info.artifact_uri
    histories = [folder.client.get_metric_history(i, "loss") for i in ids]
    points = [[(p.step, p.value) for p in history] for history in histories]
    assert points[0] == points[1] == [(0, 0.5), (1, 0.25)]


def test_a_lost_journal_is_rebuilt_from_mlflow(folder: Any, searched: Any) -> None:
    """The same search is found, ended trials are not run again, and more trials go on from them."""
    first = folder.tune("sklearn:wine", target="target", trials=7, set=CHOSEN)
    for file in (folder.path / ".surefit" / "searches").iterdir():
        file.unlink()
    longer = folder.tune(trials=12, set=CHOSEN)
    assert longer.run_id == first.run_id
    assert longer.resumed == 7
    assert table(longer) == table(searched.tune(trials=12, set=CHOSEN))
    check_mirror(folder, longer)


@pytest.mark.parametrize("trials", [4, 6])
def test_a_search_whose_run_was_deleted_has_all_its_trials_again(folder: Any, trials: int) -> None:
    """Under a new run: trials that are left change their parent, those that are gone come back."""
    first = folder.tune("sklearn:wine", target="target", trials=4, set=CHOSEN)
    children = folder.runs("tags.`surefit.kind` = 'trial'")
    for run_id in (first.run_id, children[0].info.run_id, children[2].info.run_id):
        folder.client.delete_run(run_id)
    again = folder.tune(trials=trials, set=CHOSEN)
    assert again.run_id != first.run_id
    assert again.resumed == 4
    check_mirror(folder, again)


def test_a_rebuilt_search_can_be_written_again(folder: Any) -> None:
    """Its journal knows what each trial's run held, should the runs be deleted after that."""
    first = folder.tune(hill, SPACE, trials=4, name="hill")
    before = [(r.data.params, r.data.metrics) for r in trials_of(folder)]
    for file in (folder.path / ".surefit" / "searches").iterdir():
        file.unlink()
    folder.tune(hill, SPACE, trials=4, name="hill")
    for run in folder.runs():
        folder.client.delete_run(run.info.run_id)
    again = folder.tune(hill, SPACE, trials=4, name="hill")
    assert (again.resumed, again.trials) == (4, first.trials)
    assert [(r.data.params, r.data.metrics) for r in trials_of(folder)] == before


def test_every_trial_has_a_model_though_the_journal_was_rebuilt(folder: Any) -> None:
    """Predictions that it has no more are computed again."""
    folder.tune("sklearn:wine", target="target", trials=3, set=CHOSEN)
    for file in (folder.path / ".surefit" / "searches").iterdir():
        file.unlink()
    folder.tune(trials=3, set={**CHOSEN, "tune.log_models": "all"})
    assert all("surefit.model" in run.data.tags for run in trials_of(folder))


def test_a_race_goes_on_the_same_from_a_rebuilt_journal(folder: Any) -> None:
    """Rivals whose predictions were lost are fitted again: the same trials are dropped."""
    chosen = {**CHOSEN, "split.folds": 4, "tune.space": {"C": "log 0.00001..100"}}
    whole, _ = (
        folder.tune("sklearn:wine", target="target", trials=trials, method="random",
                    set={**chosen, "name": name})
        for name, trials in (("whole", 24), ("lost", 18))
    )  # fmt: skip
    assert whole.count("PRUNED") >= 2
    for file in (folder.path / ".surefit" / "searches").iterdir():
        file.unlink()
    again = folder.tune(trials=24, method="random", set={**chosen, "name": "lost"})
    assert (again.resumed, table(again)) == (18, table(whole))


def test_what_a_kill_kept_from_mlflow_is_written_though_all_trials_ended(folder: Any) -> None:
    """A search whose trials are done, but not all in MLflow, is completed by the same command."""
    result = folder.tune(hill, SPACE, trials=5, name="hill")
    last = trials_of(folder)[-1].info.run_id
    with sqlite3.connect(folder.path / "mlflow.db") as store:
        for name in ("metrics", "latest_metrics", "params", "tags", "runs"):
            store.execute(f"DELETE FROM {name} WHERE run_uuid = ?", (last,))
    (file,) = (folder.path / ".surefit" / "searches").glob("*.sqlite")
    with sqlite3.connect(file) as journal:
        journal.execute("UPDATE outbox SET done = 0, run_id = NULL WHERE key LIKE '%/4'")
    again = folder.tune(hill, SPACE, trials=5, name="hill")
    assert again.resumed == 5
    assert [r.data.tags["surefit.trial"] for r in trials_of(folder)] == list("01234")
    assert again.trials == result.trials


def test_the_same_search_in_another_folder_is_told_while_it_runs(
    folder: Any, tmp_path: Any
) -> None:
    """Two tunes at once on one store, from two folders: the second is told who has it."""
    folder.tune(hill, SPACE, trials=3, name="hill")
    (parent,) = folder.runs("tags.`surefit.kind` = 'tune'")
    client = folder.client
    client.update_run(parent.info.run_id, status="RUNNING")
    from surefit.edges import environment

    owner = environment.owner()
    host, boot, _, _ = owner.split("/")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = environment._started(other.pid)
        client.set_tag(parent.info.run_id, "surefit.owner", f"{host}/{boot}/{other.pid}/{started}")
        (next((folder.path / ".surefit" / "searches").glob("*.sqlite"))).unlink()
        with pytest.raises(InputError, match="from another folder"):
            folder.tune(hill, SPACE, trials=5, name="hill")
    finally:
        other.kill()
        other.communicate()


def test_a_full_disk_ends_the_search_cleanly_and_it_resumes(folder: Any) -> None:
    """Exit code 3 and one message; with room again the same trials, none of them run twice."""
    script = folder.path / "search.py"
    script.write_text(
        "import resource, sys\n"
        "import surefit\n"
        "from surefit.errors import ServiceError\n"
        "def f(params, context): return params['x']\n"
        "space = {'x': '0..1', 'text': ['a' * 100_000, 'b' * 100_000]}\n"
        "if sys.argv[1] != '0':\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
        "try:\n"
        "    r = surefit.tune(f, space, trials=20, name='f', method='random', quiet=True)\n"
        "except ServiceError as error:\n"
        "    sys.exit(f'FULL {error}')\n"
        "print(r.resumed, [t.value for t in r.trials])\n"
    )

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", script, str(limit)], cwd=folder.path, text=True,
            capture_output=True, timeout=300,
        )  # fmt: skip

    full = run((folder.path / "mlflow.db").stat().st_size + 1_200_000)
    assert "FULL" in full.stderr, full
    assert "cannot be written" in full.stderr
    assert "Traceback" not in full.stderr
    done = run(0)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 0
    assert len(trials_of(folder)) == 20
    assert running(folder) == 0


def test_a_worker_killed_by_somebody_costs_no_trial(tmp_path: Path) -> None:
    """kill -9 of a worker: its job runs again elsewhere; a job that always dies so has failed."""
    said = tmp_path / "pid"
    with Pool(_once_killed, workers=1) as pool:
        pool.submit(Job(key=0, args=(str(said),)))
        killer = threading.Thread(target=lambda: os.kill(int(appeared(said)), signal.SIGKILL))
        killer.start()
        outcome = pool.next(timeout=60)
        killer.join()
        assert outcome is not None
        assert outcome.value == "done"
    with Pool(hostile.call, workers=1) as pool:
        pool.submit(Job(key=0, args=("killed", int(signal.SIGKILL))))
        outcome = pool.next(timeout=60)
        assert outcome is not None
        assert outcome.reason == "killed by SIGKILL"


def _once_killed(shared: Any, path: str) -> str:
    if not Path(path).exists():
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)
    return "done"


def test_a_search_whose_driver_and_worker_are_killed_ends_in_the_same_table(folder: Any) -> None:
    """kill -9 at a call of its stores, then of a worker: none lost, none twice, the same values."""
    driver = Driver(folder=folder.path, search=a_function)
    driver.start(at=90)
    assert driver.ended() == -signal.SIGKILL
    done = committed(folder.path)
    begun = len(calls(folder.path))
    driver.start()
    kill_worker(driver, random.Random(0))
    found = driver.finished()
    assert recorded(folder.path) == {"lost": 0, "twice": 0, "running": 0}
    assert not repeated(folder.path, [(begun, done)], refits=False)
    quiet = folder.tune(objective, FIRE_SPACE, trials=TRIALS, name="calm")
    assert found == [
        [t.number, t.state, t.value, dict(t.params), list(t.fold_scores)] for t in quiet.trials
    ]
