"""Looks at test rows: counted before the targets are joined, whatever fails or dies meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from promoting import project
from surefit.edges import runs
from surefit.errors import ServiceError
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
