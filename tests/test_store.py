"""The store's traps: first use at once, statistics, infinities, long values, the caller's state."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from surefit.errors import InputError, ServiceError, TerminatedError
from surefit.items import Metric, Param, Tag

PLAIN = {"model.family": "dummy", "split.folds": 2}

FIRST_USE = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from surefit.edges import runs, store
opened = store.connect("sqlite:///mlflow.db", Path(sys.argv[1]), "shared")
with runs.recording(opened, sys.argv[2], "train", tags={}) as run:
    pass
"""


def opened(folder, name="p"):
    """The folder's store, as verbs open it."""
    from surefit.edges import store

    return store.connect("sqlite:///mlflow.db", folder.path, name)


def test_six_processes_may_make_the_store_at_once(tmp_path):
    """Each gets a working store and one and the same experiment."""
    import conftest

    processes = [
        subprocess.Popen([sys.executable, "-c", FIRST_USE, tmp_path, f"run {k}"], text=True,
                         stderr=subprocess.PIPE)
        for k in range(6)
    ]  # fmt: skip
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    found = conftest.Folder(path=tmp_path).runs()
    assert sorted(r.info.run_name for r in found) == [f"run {k}" for k in range(6)]
    assert {r.info.status for r in found} == {"FINISHED"}
    assert len({r.info.experiment_id for r in found}) == 1


def test_an_embedded_store_has_wal_and_statistics(trained):
    """Readers do not wait for writers, and ordering by a metric is planned with statistics."""
    connection = sqlite3.connect(trained.path / "mlflow.db")
    try:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        counted = dict(connection.execute("SELECT tbl, idx FROM sqlite_stat1").fetchall())
        assert "metrics" in counted or "latest_metrics" in counted
    finally:
        connection.close()


def test_infinities_and_nan_are_never_written(folder):
    """MLflow would rank them first; the finite ones beside them are kept."""
    from surefit.edges import runs

    store = opened(folder)
    values = {"fine": 1.5, "up": float("inf"), "down": float("-inf"), "none": float("nan")}
    with runs.recording(store, "r", "train", tags={}) as run:
        run.log(Metric(key=k, value=v) for k, v in values.items())
    assert folder.client.get_run(run.run_id).data.metrics == {"fine": 1.5}


def test_long_values_are_cut_with_a_note_and_many_are_split_into_batches(folder):
    """6,000 characters a parameter, 8,000 a tag, hundreds of each: nothing is refused."""
    from surefit.edges import runs

    with runs.recording(opened(folder), "r", "train", tags={}) as run:
        run.log([Param(key="long", value="x" * 9000), Tag(key="long", value="y" * 9000)])
        run.log(Param(key=f"p{k}", value=k) for k in range(230))
        run.log(Metric(key="curve", value=k, step=k) for k in range(2300))
    data = folder.client.get_run(run.run_id).data
    assert len(data.params["long"]) <= 6000
    assert data.params["long"].endswith("(whole in config.toml)")
    assert len(data.tags["long"]) <= 8000
    assert len(data.params) == 231
    assert len(folder.client.get_metric_history(run.run_id, "curve")) == 2300


def test_a_run_that_raises_is_failed_with_its_reason_and_is_never_complete(folder):
    """An exception, an interrupt, a signal and an exit each leave what happened."""
    from surefit.edges import runs

    store = opened(folder)
    for error, status in ((ValueError("no luck\nat all"), "FAILED"),
                          (KeyboardInterrupt(), "KILLED"), (TerminatedError(143), "KILLED"),
                          (SystemExit(3), "FAILED")):  # fmt: skip
        with pytest.raises(type(error)), runs.recording(store, "r", "train", tags={}) as run:
            raise error
        found = folder.client.get_run(run.run_id)
        assert found.info.status == status
        assert "surefit.status" not in found.data.tags
    assert "ValueError: no luck" in {r.data.tags["surefit.reason"] for r in folder.runs()}


@pytest.fixture
def users_mlflow(tmp_path, pristine, monkeypatch, mlflow_at):
    """A person's own MLflow session with another store; put back as it was."""
    import shutil

    import mlflow
    from mlflow.tracking import fluent

    shutil.copy(pristine, tmp_path / "own.db")
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # set_experiment sets it: taken back at the end
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    mlflow_at(f"sqlite:///{tmp_path / 'own.db'}")
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()


def test_the_callers_mlflow_session_is_left_alone(users_mlflow, folder):
    """Store, registry, experiment and active run are the caller's, within their own run too."""
    mlflow = users_mlflow
    uri = mlflow.get_tracking_uri()
    location = (folder.path / "theirs").as_uri()
    mlflow.create_experiment("theirs", artifact_location=location)
    mlflow.set_experiment("theirs")
    with mlflow.start_run() as mine:
        mlflow.log_param("a", 1)
        folder.train("sklearn:iris", target="target", set={**PLAIN, "model.family": "linear"})
        folder.evaluate()
        folder.tune(trials=2, set={**PLAIN, "model.family": "linear"})
        folder.compare()
        folder.promote()
        assert mlflow.active_run().info.run_id == mine.info.run_id
        assert mlflow.get_tracking_uri() == uri
        assert mlflow.get_registry_uri() == uri
        mlflow.log_param("b", 2)
    theirs = mlflow.MlflowClient().search_runs(
        [mlflow.get_experiment_by_name("theirs").experiment_id]
    )
    assert [r.data.params for r in theirs] == [{"a": "1", "b": "2"}]
    assert not theirs[0].data.metrics
    assert len(folder.runs()) >= 5
    assert not [r for r in folder.runs() if r.info.run_id == mine.info.run_id]


def test_the_environment_names_no_other_store(folder, tmp_path, monkeypatch):
    """MLFLOW_TRACKING_URI of the shell does not divert runs that tracking.uri places."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    folder.train("sklearn:iris", target="target", set=PLAIN)
    assert len(folder.runs()) == 1
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_deleted_experiment_says_how_to_get_it_back(folder):
    """MLflow keeps the name of a deleted experiment: the message has the command to restore it."""
    folder.train("sklearn:iris", target="target", set=PLAIN)
    found = folder.client.get_experiment_by_name("iris")
    folder.client.delete_experiment(found.experiment_id)
    with pytest.raises(InputError, match=f"restore --experiment-id {found.experiment_id}"):
        folder.train()
    folder.client.restore_experiment(found.experiment_id)
    folder.train()
    assert len(folder.runs()) == 2


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns", "ftp://x/y", ""])
def test_a_store_of_files_is_refused_with_one_that_works(folder, uri):
    """MLflow 3 writes no file store any more; the message names the embedded one."""
    with pytest.raises(InputError, match=r"sqlite:///mlflow\.db"):
        folder.train("sklearn:iris", target="target", set={**PLAIN, "tracking.uri": uri})
    assert not (folder.path / "mlruns").exists()


def test_a_store_that_is_no_database_is_a_service_that_failed(tmp_path):
    """Exit code 3 and what to do, not a traceback; the file is left as it was."""
    import conftest

    folder = conftest.Folder(path=tmp_path)
    (tmp_path / "mlflow.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(ServiceError) as caught:
        folder.train("sklearn:iris", target="target", set=PLAIN)
    assert caught.value.exit_code == 3
    assert (tmp_path / "mlflow.db").read_bytes().startswith(b"this is no database")


def test_an_owner_that_is_gone_is_told_from_one_that_lives():
    """A process is known by host, boot, number and start; one of another host counts as alive."""
    from surefit.edges import environment

    me = environment.owner()
    assert environment.owner_alive(me)
    host, boot, pid, started = me.split("/")
    assert not environment.owner_alive(f"{host}/{boot}/{pid}/{int(started) + 1}")
    assert not environment.owner_alive(f"{host}/other-boot/{pid}/{started}")
    assert environment.owner_alive(f"elsewhere/{boot}/{pid}/{started}")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not environment.owner_alive(f"{host}/{boot}/{gone.pid}/{started}")
    assert os.getpid() == int(pid)


def test_importing_mlflow_ahead_leaves_its_telemetry_off(tmp_path: Path) -> None:
    """No file of MLflow's telemetry appears in the home of who goes on with a search."""
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_CURRENT_TEST")}
    env |= {"HOME": str(tmp_path)}
    env.pop("MLFLOW_DISABLE_TELEMETRY", None)
    code = "from surefit.edges import store; store.preload('sqlite:///mlflow.db')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("telemetry.json"))
