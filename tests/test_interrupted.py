"""Killed and interrupted at any moment: nothing lost, nothing twice, nothing left running."""

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from test_tune import check_mirror, table

SLOW = ("sklearn:digits", "--target", "target", "--set", "split.folds=3")
SEARCH = {
    "split.folds": 3, "model.family": "forest", "model.params.n_estimators": 60,
    "tune.space": {"max_features": "0.2..1", "min_samples_leaf": "int log 1..32"},
}  # fmt: skip
N_TRIALS = 16


def search_command():
    """The same search as a command."""
    options = ["sklearn:iris", "--target", "target", "--trials", str(N_TRIALS)]
    for key, value in SEARCH.items():
        text = value if not isinstance(value, dict) else "{ " + ", ".join(
            f'{k} = "{v}"' for k, v in value.items()) + " }"  # fmt: skip
        options += ["--set", f"{key}={text}"]
    return ["tune", *options]


def wait_until(condition, process, seconds=200):
    """Until the condition holds, while the process runs."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def asked(file, sql):
    """One number from a database that another process may be making just now."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)
        ) as connection,
    ):
        return connection.execute(sql).fetchone()[0]
    return 0


def running(folder):
    """How many runs of the store are RUNNING."""
    return asked(folder.path / "mlflow.db", "SELECT count(*) FROM runs WHERE status = 'RUNNING'")


def ended_trials(folder):
    """How many trials the journal holds that have ended."""
    files = list((folder.path / ".surefit" / "searches").glob("*.sqlite"))
    return asked(files[0], "SELECT count(*) FROM trial WHERE state <> 'ASKED'") if files else 0


def mirrored_trials(folder):
    """How many trials of the journal MLflow is known to have."""
    files = list((folder.path / ".surefit" / "searches").glob("*.sqlite"))
    return asked(files[0], "SELECT count(*) FROM outbox WHERE done") if files else 0


def helpers_of(pid):
    """The processes that a driver started for its jobs, and that still live."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if any(b"surefit.edges.nursery" in w for w in words) and str(pid).encode() in words:
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
                found += [place.name] if state != "Z" else []
    return found


def check_no_helpers(pid, seconds=10):
    """All of them are gone within a few seconds."""
    until = time.monotonic() + seconds
    while helpers_of(pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not helpers_of(pid)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, pristine):
    """The table of the search when nothing happens to it."""
    import conftest

    folder = conftest.new_folder(tmp_path_factory.mktemp("undisturbed"), pristine)
    return table(folder.tune("sklearn:iris", target="target", trials=N_TRIALS, set=SEARCH))


def test_a_killed_training_run_is_closed_as_failed_by_the_next_command(folder):
    """kill -9 leaves RUNNING; whatever comes next says what happened, and lists it."""
    process = folder.started("train", *SLOW)
    wait_until(lambda: running(folder), process)
    process.kill()
    process.communicate()
    assert running(folder) == 1
    folder.train("sklearn:digits", target="target", set={"model.family": "dummy"})
    (dead,) = folder.runs("attributes.status = 'FAILED'")
    assert dead.data.tags["surefit.reason"] == "its process died"
    assert "surefit.status" not in dead.data.tags
    assert running(folder) == 0
    board = folder.compare()
    assert any("its process died" in o.reason for o in board.left_out)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_run_is_killed_in_the_store_too(folder, number, code):
    """Ctrl-C and SIGTERM: the documented exit code, no traceback, KILLED, nothing RUNNING."""
    process = folder.started("train", *SLOW, "-q")
    wait_until(lambda: running(folder), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    (run,) = folder.runs()
    assert run.info.status == "KILLED"
    assert run.data.tags["surefit.reason"] == "interrupted"
    check_no_helpers(process.pid)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_search_goes_on_with_the_next_command(folder, undisturbed, number, code):
    """It ends within seconds, leaves no worker and nothing RUNNING, and resumes to the same."""
    process = folder.started(*search_command(), "-q")
    wait_until(lambda: ended_trials(folder) >= 3, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert running(folder) == 0
    check_no_helpers(process.pid)
    result = folder.tune(trials=N_TRIALS, set=SEARCH)
    assert result.resumed >= 3
    assert table(result) == undisturbed
    check_mirror(folder, result)


def test_a_search_killed_again_and_again_ends_in_the_same_table(folder, undisturbed):
    """kill -9 at the first trial, in the middle of mirroring, near the end; then one resume."""
    moments = (lambda: ended_trials(folder) >= 1, lambda: mirrored_trials(folder) >= 5,
               lambda: ended_trials(folder) >= N_TRIALS - 4)  # fmt: skip
    for moment in moments:
        process = folder.started(*search_command(), "-q")
        wait_until(moment, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        check_no_helpers(process.pid)
    result = folder.tune(trials=N_TRIALS, set=SEARCH)
    assert table(result) == undisturbed
    assert result.resumed >= N_TRIALS - 4
    check_mirror(folder, result)
    for run in folder.runs("tags.`surefit.kind` = 'trial' and attributes.status = 'FINISHED'"):
        assert run.data.tags.get("surefit.reason", "") != "its process died"
    parents = folder.runs("tags.`surefit.kind` = 'tune' and attributes.status = 'FINISHED'")
    assert [p.info.run_id for p in parents] == [result.run_id]
    assert parents[0].data.params["data.path"] == "sklearn:iris"
    assert len(parents[0].inputs.dataset_inputs) == 1


def test_a_search_that_goes_on_computes_before_its_store_is_open(folder, undisturbed):
    """Trials end while MLflow is imported, and count though the store turns out to be broken."""
    process = folder.started(*search_command(), "-q")
    wait_until(lambda: ended_trials(folder) >= 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = ended_trials(folder)
    store, away = folder.path / "mlflow.db", folder.path / "away.db"
    with contextlib.closing(sqlite3.connect(store)) as connection:  # all in one file
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.rename(away)
    store.write_text("this is no database", "utf-8")
    process = folder.started(*search_command(), "-q")
    _, err = process.communicate(timeout=60)
    assert "cannot be opened" in err
    assert "Traceback" not in err
    assert process.returncode not in (0, 1)
    check_no_helpers(process.pid)
    assert before < (ended := ended_trials(folder)) <= N_TRIALS
    away.replace(store)
    result = folder.tune(trials=N_TRIALS, set=SEARCH)
    assert result.resumed == ended
    assert table(result) == undisturbed
    check_mirror(folder, result)


def test_a_search_whose_owner_lives_is_not_touched(folder):
    """Another command at the same time neither closes its runs nor writes its journal."""
    process = folder.started(*search_command(), "-q")
    wait_until(lambda: ended_trials(folder) >= 1, process)
    ended = folder.command(*search_command(), "-q")
    if process.poll() is None:
        assert ended.code == 2
        assert "running already" in ended.err
    folder.train("sklearn:iris", target="target", set={"model.family": "dummy"})
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert not folder.runs("attributes.status != 'FINISHED'")
