"""Looks at test rows: counted before the targets are joined, whatever fails or dies meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import pandas as pd
import pytest

import surefit
from promoting import project
from surefit.edges import lock, runs
from surefit.errors import ConfigError, DataError, ServiceError, UserCodeError
from surefit.verbs import looks, workspace
from surefit.verbs.promote import promote
from surefit.verbs.reporter import Reporter

PROCESSES = multiprocessing.get_context("forkserver")
# Its floor is out of reach, so that no process is started to try the model.
SETTINGS = {"gate.reuse": "spend", "gate.check": "skip", "gate.floors": {"log_loss": 0.0}}


@pytest.fixture
def trained(tmp_path, pristine):
    return project(tmp_path, pristine, n=300, names=("good",))


def go(trained):
    return promote("good", config=trained.config, set=SETTINGS, quiet=True)


def next_look(trained) -> int:
    """Which look at the project's test rows the coming one is."""
    found = workspace.project(data=None, target=None, config=trained.config, overrides=())
    work = workspace.load(found, frame=None, reporter=Reporter(quiet=True))
    return looks.next_look(trained.store(), looks.keys(work, work.split.test_rows))


def die_in_a_look(trained, writes: int) -> None:
    """Promote, and kill this process once the store has had so many writes of the look."""
    from mlflow import MlflowClient

    left = [writes]

    def dying(write):
        def call(*arguments, **options):
            answer = write(*arguments, **options)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    taken = looks.take

    def take(*arguments, **options):
        for name in ("log_batch", "log_artifacts"):
            setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
        taken(*arguments, **options)

    looks.take = take
    go(trained)


@pytest.mark.parametrize(("writes", "retried"), [(1, 2), (2, 1)])
def test_a_look_cut_short_is_never_uncounted(trained, writes, retried) -> None:
    """Killed once the rows are written down, the same again is a second look; killed once the
    question is too, it is the first one still; either way the next count knows of it."""
    process = PROCESSES.Process(target=die_in_a_look, args=(trained, writes))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert next_look(trained) == 2
    assert go(trained).look == retried
    assert next_look(trained) == retried + 1


def test_a_look_whose_rows_were_not_stored_was_none(trained, monkeypatch) -> None:
    """Where the table of rows cannot be stored the command fails before the join, and the same
    again is a first look that counts."""
    from mlflow import MlflowClient

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", full)
        with pytest.raises(ServiceError):
            go(trained)
    (failed,) = runs.search(trained.store(), "tags.`surefit.kind` = 'promote'")
    assert (failed.status, looks.QUESTION in failed.tags) == ("FAILED", False)
    assert next_look(trained) == 1
    assert go(trained).look == 1
    assert next_look(trained) == 2


def test_rows_cut_short_are_no_look_and_stop_none(trained, monkeypatch) -> None:
    """Killed while the rows were being copied, a run has seen no target: it does not count, and
    the next look is not stopped by its damaged table; one that was counted and is damaged is."""
    real = looks.take
    monkeypatch.setattr(looks, "take", lambda *a, **o: (real(*a, **o), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        go(trained)
    monkeypatch.undo()
    (cut,) = runs.search(trained.store(), "tags.`surefit.kind` = 'promote'")
    (table,) = trained.config.parent.glob(f"mlruns/**/{cut.run_id}/artifacts/{looks.ROWS}")
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(ServiceError, match="damaged"):
        next_look(trained)
    trained.store().client.delete_tag(cut.run_id, looks.LOOK)
    trained.store().client.delete_tag(cut.run_id, looks.QUESTION)
    assert next_look(trained) == 1
    assert go(trained).look == 1


# --- evaluate ---


@pytest.fixture
def iris(folder):
    """A trained iris project, and a function of the user's that fails on what it is given."""
    folder.train("sklearn:iris", target="target", set={"split.folds": 3, "model.family": "linear"})
    (folder.path / "mine.py").write_text("def fails(y_true, y_pred):\n    return 1 / 0\n", "utf-8")
    return folder


def failed(iris) -> list:
    """The evaluations that failed."""
    return iris.runs("tags.`surefit.kind` = 'evaluate' and attributes.status = 'FAILED'")


def test_a_metric_that_fails_has_looked(iris) -> None:
    """A function of the user's that fails on the test rows' targets has seen them: the look is
    counted, in a run that says why it failed."""
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        iris.evaluate(test=True, set={"metric.also": ["mine.py:fails"]})
    (run,) = failed(iris)
    assert run.data.tags["surefit.look"] == "1"
    assert "ZeroDivisionError" in run.data.tags["surefit.reason"]
    assert iris.evaluate(test=True).look == 2


@pytest.mark.parametrize(
    "wrong",
    [{"metric.also": ["mine.py:fail"]}, {"metric.also": ["their.py:fails"]},
     {"metric.also": ["roc_auk"]}, {"metric.threshold": "f2"},
     {"metric.cost": {"maybe": {"no": 1}}}],
)  # fmt: skip
def test_a_wrong_setting_spends_no_look(trained, wrong) -> None:
    """What is wrong without any target is refused before a look is counted or a run is made."""
    (trained.config.parent / "mine.py").write_text("def fails(y_true, y_pred):\n    return 1 / 0\n")
    made = len(list(runs.search(trained.store())))
    with pytest.raises(ConfigError):
        surefit.evaluate("good", test=True, config=trained.config, set=wrong, quiet=True)
    if "metric.threshold" not in wrong:  # which the gate does not ask for
        with pytest.raises(ConfigError):
            promote("good", config=trained.config, set=SETTINGS | wrong, quiet=True)
    assert len(list(runs.search(trained.store()))) == made
    assert next_look(trained) == 1


def test_a_file_is_compared_with_targets_once_that_counts(iris) -> None:
    """Of a file on test rows, numbers that cannot be scored are refused without a look; whether
    its targets are the data's is told for one."""
    (made,) = iris.runs("tags.`surefit.kind` = 'train'")
    place = iris.client.download_artifacts(made.info.run_id, "predictions/test.parquet")
    blind, file = pd.read_parquet(place), iris.path / "theirs.csv"
    blind.assign(probability_setosa=2.0).to_csv(file, index=False)
    with pytest.raises(DataError, match="outside"):
        iris.evaluate("theirs.csv")
    assert failed(iris) == []
    blind.assign(target="setosa").to_csv(file, index=False)
    with pytest.raises(DataError, match="are not those of the same row ids"):
        iris.evaluate("theirs.csv")
    assert [run.data.tags["surefit.look"] for run in failed(iris)] == ["1"]
    blind.to_csv(file, index=False)
    assert iris.evaluate("theirs.csv").look == 2


def test_two_evaluations_at_once_are_two_looks(iris) -> None:
    """Two evaluations wait for the lock that promotions take, and get a number each."""
    found = workspace.project(
        data="sklearn:iris", target="target", config=None, overrides={"tracking.uri": iris.uri}
    )
    with lock.held(workspace.open_store(found), "looks"):
        commands = [iris.started("evaluate", "--test", "--json") for _ in range(2)]
        until = time.monotonic() + 120
        while len(iris.runs("tags.`surefit.kind` = 'evaluate'")) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(0.5)
        assert iris.runs("tags.`surefit.look` LIKE '%'") == []
    answers = [json.loads(command.communicate(timeout=120)[0]) for command in commands]
    assert sorted(answer["look"] for answer in answers) == [1, 2]


def test_a_look_outlives_its_run(trained) -> None:
    """Deleting the run of a look in MLflow does not make it uncounted."""
    assert go(trained).look == 1
    (run,) = runs.search(trained.store(), f"tags.`{looks.LOOK}` LIKE '%'")
    trained.store().client.delete_run(run.run_id)
    assert next_look(trained) == 2
