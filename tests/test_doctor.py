"""`surefit doctor`: what is dead is closed, what is loose is tuned, what is wrong is said."""

import json
import os
import sqlite3
import tempfile
import time

import pytest

import boards
import conftest
from surefit.edges import journal, registry, runs
from surefit.edges.environment import Requirement, owner
from surefit.edges.journal import Message
from surefit.edges.temporary import make
from surefit.verbs import doctor, moves
from surefit.verbs.reporter import Reporter
from surefit.verbs.searches import SEARCHES

# MLflow's own use of SQLAlchemy warns on its first query; nothing of ours does.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
DEAD = owner().rpartition("/")[0].rpartition("/")[0] + "/999999999/1"
TOML = 'name = "p"\n[data]\npath = "sklearn:iris"\ntarget = "target"\n'


@pytest.fixture
def place(folder):
    """A project's folder, its store open as `store`."""
    (folder.path / "surefit.toml").write_text(TOML)
    project = boards.make(folder.path, "p")
    return folder, project


def states(found, what):
    """The states of what was said about one thing."""
    return [s.state for s in found.symptoms if s.what == what]


def said(found, what):
    """All that was said about one thing, fixes included."""
    return " ".join(f"{s.words} {s.fix}" for s in found.symptoms if s.what == what)


def test_an_empty_folder_is_left_empty(tmp_path, monkeypatch):
    """Without a project the machine is looked at, nothing is written, and it says what to type."""
    monkeypatch.chdir(tmp_path)
    found = doctor.doctor(quiet=True)
    assert states(found, "project") == ["note"]
    assert states(found, "libraries") == ["fine"]
    assert "surefit init" in said(found, "project")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "surefit.toml").write_text(TOML)
    assert "is made by the first command" in said(doctor.doctor(quiet=True), "store")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_sound_project_has_exit_code_0(place):
    """The command prints the verdict, or JSON with every symptom."""
    folder, project = place
    y, made = boards.world(50)
    project.add("good", y, made(1.0))
    ended = folder.command("doctor")
    assert (ended.code, ended.out.partition(":")[0]) == (0, "Sound"), ended
    found = json.loads(folder.command("doctor", "--json", "-q").out)
    assert {s["state"] for s in found["symptoms"]} <= {"fine", "note", "mended"}
    assert found["next"] == "surefit compare"


def test_a_table_in_the_home_folder_is_there(folder, monkeypatch):
    """`~` in data.path is the home folder, as it is for training; without the file it is missed."""
    monkeypatch.setenv("HOME", str(folder.path))
    (folder.path / "surefit.toml").write_text('[data]\npath = "~/x.csv"\ntarget = "y"\n')
    assert "~/x.csv is not there" in said(folder.doctor(), "data")
    (folder.path / "x.csv").write_text("x,y\n1,0\n")
    assert states(folder.doctor(), "data") == []


def test_a_trial_without_artifacts_has_lost_none(place):
    """The newest run is a search's trial, as after every search: it never had artifacts."""
    folder, project = place
    y, made = boards.world(50)
    project.add("good", y, made(1.0))
    trial = runs.start(project.store, "trial 0", "trial", tags={})
    runs.end(project.store, trial, "FINISHED")
    found = doctor.doctor(config=folder.path / "surefit.toml", quiet=True)
    assert states(found, "artifacts") == ["fine"]


def test_runs_of_dead_processes_are_closed_and_others_left(place):
    """RUNNING with a dead owner becomes FAILED with the reason; the living and strangers stay."""
    folder, project = place
    client, experiment = project.store.client, project.store.experiment_id
    dead = runs.start(project.store, "dead", "train", tags={"surefit.owner": DEAD})
    alive = runs.start(project.store, "alive", "train", tags={})
    old = int((time.time() - 3 * 86400) * 1000)
    stranger = client.create_run(experiment, start_time=old, run_name="theirs").info.run_id
    found = folder.doctor()
    assert states(found, "runs") == ["mended", "fine", "note"]
    assert f"set_terminated('{stranger}'" in said(found, "runs")
    record = runs.find(project.store, dead)
    assert (record.status, record.tags["surefit.reason"]) == ("FAILED", "its process died")
    assert {runs.find(project.store, r).status for r in (alive, stranger)} == {"RUNNING"}
    runs.end(project.store, alive, "FINISHED")
    assert states(folder.doctor(), "runs") == ["note"]


def test_a_half_mirrored_search_is_written_into_mlflow(place):
    """Trials in the journal's outbox become nested runs, once; a running search is left alone."""
    folder, project = place
    parent = runs.start(project.store, "search", "tune", tags={"surefit.owner": DEAD})
    file = folder.path / SEARCHES / "abc.sqlite"
    now = int(time.time() * 1000)
    with journal.open(file, "f" * 64) as opened:
        opened.set_parent(parent)
        opened.ask(0, {"depth": 3})
        opened.ask(1, {"depth": 4})
        payload = {"number": 0, "state": "COMPLETE", "reason": "", "started": now, "ended": now,
                   "params": {"model.params.depth": 3}, "metrics": [("valid_auc", 0.8, 0)],
                   "tags": {"surefit.search": "f" * 64}}  # fmt: skip
        sent = Message(key="f/0", kind="trial", payload=payload)
        opened.finish_trial(0, "COMPLETE", 0.8, message=sent)
        assert "is running" in said(folder.doctor(), "searches")
    found = folder.doctor()
    assert states(found, "searches") == ["mended"]
    (trial,) = folder.runs(f"tags.`mlflow.parentRunId` = '{parent}'")
    assert (trial.info.status, trial.data.metrics["valid_auc"]) == ("FINISHED", 0.8)
    again = folder.doctor()
    assert "cut short after 1 trial" in said(again, "searches")
    assert len(folder.runs(f"tags.`mlflow.parentRunId` = '{parent}'")) == 1
    file.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert states(folder.doctor(), "searches") == ["serious"]


@pytest.mark.parametrize(("moved", "kind"), [(False, "undo"), (True, "finish")])
def test_a_promotion_cut_short_is_settled(place, moved, kind):
    """An open record is undone where the alias did not move, and finished where it did."""
    folder, project = place
    store = project.store
    store.client.create_registered_model("p")
    store.client.create_model_version("p", "file:///nowhere")
    with moves.opened(store, "production", stages=False, reporter=Reporter(quiet=True)) as log:
        with runs.recording(store, "promote", "promote", tags={}) as run:
            facts = moves.facts(folder.path, verdict="PROMOTED", why="")
            moves.write(log, run, action="promote", version="1", moves=True, facts=facts,
                        evidence=None)  # fmt: skip
    if moved:
        store.client.set_registered_model_alias("p", "production", "1")
    found = folder.doctor()
    assert states(found, "aliases") == ["mended"]
    assert kind in said(found, "aliases")
    assert (registry.by_alias(store, "production") is not None) is moved
    assert states(folder.doctor(), "aliases") == ["fine"]
    store.client.log_text(run.run_id, "{}", moves.RECORD)
    ended = folder.command("doctor")
    assert ended.code == 1
    assert "was changed after it was written" in ended.out


def test_an_embedded_store_is_tuned(folder):
    """WAL and statistics are set where they are missing, and said once."""
    (folder.path / "surefit.toml").write_text(TOML)
    file = folder.path / "mlflow.db"
    with sqlite3.connect(file) as sql:
        sql.execute("PRAGMA journal_mode=DELETE")
        sql.execute("DROP TABLE IF EXISTS sqlite_stat1")
        sql.execute("INSERT INTO latest_metrics VALUES ('auc', 1, 0, 0, 0, 'run')")
    sql.close()
    assert states(folder.doctor(), "store") == ["fine", "mended", "mended"]
    assert states(folder.doctor(), "store") == ["fine"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("UPDATE alembic_version SET version_num = 'ffffffffffff'", "a newer MLflow"),
        ("UPDATE alembic_version SET version_num = '451aebb31d03'", "mlflow db upgrade"),
        ("DROP TABLE alembic_version", "no MLflow tables"),
    ],
)
def test_a_store_of_another_mlflow_is_told_from_a_broken_one(place, harm, words):
    """Tables of a newer or older MLflow, or none: each has its own way out, and exit code 1."""
    folder, _ = place
    with sqlite3.connect(folder.path / "mlflow.db") as sql:
        sql.execute(harm)
    sql.close()
    ended = folder.command("doctor")
    assert ended.code == 1
    assert words in ended.out


def test_a_damaged_store_and_a_lost_artifact_folder_are_serious(place):
    """A project that was moved, and a file with noise in it."""
    folder, project = place
    y, made = boards.world(50)
    project.add("good", y, made(1.0))
    (folder.path / "mlruns").rename(folder.path / "elsewhere")
    assert "absolute paths" in said(folder.doctor(), "artifacts")
    with (folder.path / "mlflow.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 40))
    found = folder.doctor()
    assert states(found, "store") == ["serious"]
    assert "damaged" in said(found, "store")


def test_a_server_that_is_away_is_one_serious_finding(folder):
    """Everything else is looked at all the same."""
    port = conftest.free_port()
    (folder.path / "surefit.toml").write_text(
        f'{TOML}[tracking]\nuri = "http://127.0.0.1:{port}"\n'
    )
    ended = folder.command("doctor")
    assert ended.code == 1
    assert "does not answer" in ended.out
    assert "GB free" in ended.out
    (folder.path / "surefit.toml").write_text("nonsense = 1\n")
    assert "serious  project" in folder.command("doctor").out


def test_a_server_is_looked_at_over_http(folder, server):
    """Its version, artifacts and runs; over HTTP as on a file."""
    (folder.path / "surefit.toml").write_text(f'{TOML}[tracking]\nuri = "{server.uri}"\n')
    from surefit.edges import store as stores

    store = stores.connect(server.uri, folder.path, "p")
    with runs.recording(store, "one", "train", tags={}) as run:
        run.store.client.log_text(run.run_id, "x", "x.txt")
    found = folder.doctor()
    assert states(found, "store") == ["fine"]
    assert "MLflow 3." in said(found, "store")
    assert states(found, "artifacts") == ["fine"]


def test_scratch_that_nobody_uses_is_removed(tmp_path, monkeypatch, folder):
    """Old folders of dead processes and their half-written checkpoints; used and new ones stay.

    So does what is only named as ours are: a project of the user's.
    """
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    past = time.time() - 10 * 86400
    for name in ("surefit-old", "surefit-used", "surefit-new", "surefit-demo"):
        made = temporary / name
        if name.endswith("demo"):
            made.mkdir()
        else:
            make().rename(made)
        (made / "file").write_text("x")
        for path in () if name.endswith("new") else (*made.iterdir(), made):
            os.utime(path, (past, past))
    states_of = folder.path / ".surefit" / "checkpoints" / "k"
    states_of.mkdir(parents=True)
    for name in ("a.ckpt", "a.999999999", f"b.{os.getpid()}"):
        (states_of / name).write_text("x")
    with (temporary / "surefit-used" / "file").open():
        found = folder.doctor()
    assert {p.name for p in temporary.iterdir()} == {"surefit-used", "surefit-new", "surefit-demo"}
    assert {p.name for p in states_of.iterdir()} == {"a.ckpt", f"b.{os.getpid()}"}
    assert states(found, "leftovers") == ["mended", "mended", "note"]


def test_libraries_outside_the_tested_range_have_their_install_line():
    """A missing or too new library is serious; an optional part that is absent is not."""
    asked = [
        Requirement(name="numpy", wanted=">=2,<3", extra="", installed="3.1", fits=False),
        Requirement(name="mlflow", wanted=">=3.16.1,<4", extra="", installed=None, fits=False),
        Requirement(name="torch", wanted=">=2.5,<3", extra="mlp", installed="1.0", fits=False),
        Requirement(name="s3fs", wanted=">=2024.6", extra="s3", installed=None, fits=False),
        Requirement(name="xgboost", wanted=">=3,<4", extra="xgboost", installed="3.1", fits=True),
        Requirement(name="ruff", wanted="", extra="dev", installed=None, fits=False),
    ]
    found = list(doctor._libraries(asked))
    assert [(s.state, s.fix) for s in found] == [
        ("serious", "pip install 'numpy>=2,<3'"),
        ("serious", "pip install 'mlflow>=3.16.1,<4'"),
        ("fine", ""),
        ("note", "pip install 'surefit[mlp]'"),
        ("fine", ""),
    ]
    assert "s3 (tables at s3://)" in found[-1].words
    assert "3.1 is outside >=2,<3" in found[0].words
