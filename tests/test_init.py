"""surefit init: a project is written, nothing is overwritten, and each of its scripts runs."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

import conftest
from surefit import Config, cli
from surefit.errors import InputError
from tables import numbers

NO_GUARD = """
import surefit
few = {"model.family": "linear", "split.folds": 2}
print(surefit.train(set=few, quiet=True).run_id)
print(len(surefit.tune(trials=3, set=few, quiet=True).trials))
"""


@pytest.fixture(scope="module")
def baked(tmp_path_factory, pristine):
    """A project written by init, on a CSV of small numbers."""
    top = tmp_path_factory.mktemp("baked")
    numbers().to_csv(top / "churn.csv", index=False)
    folder = conftest.Folder(path=top)
    ended = folder.command("init", "project", "--data", "churn.csv", "--target", "y", "-q")
    assert ended.code == 0, ended.err
    return conftest.new_folder(top / "project", pristine)


def script(folder, *arguments):
    """What a script of the project prints, run by plain Python."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder.path, text=True,
                          capture_output=True, env={**os.environ, "COLUMNS": "200"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_baked_project_runs_each_of_its_scripts(baked):
    """train.py, evaluate.py, tune.py and compare.py, in the order of the work."""
    assert "Trained linear" in script(baked, "train.py", "--family", "linear")
    assert "roc_auc" in script(baked, "evaluate.py")
    assert "Best parameters:" in script(baked, "tune.py", "3")
    compared = script(baked, "compare.py")
    assert "Best by plain MLflow:" in compared
    chosen = compared.partition("Best by plain MLflow:")[2].strip()
    board = baked.compare()
    assert chosen == board.best.run_id
    assert {r.info.status for r in baked.runs()} == {"FINISHED"}


def test_a_script_without_a_main_guard_works(baked):
    """Workers do not import the caller's script again."""
    (baked.path / "bare.py").write_text(NO_GUARD)
    run_id, n = script(baked, "bare.py").split()
    assert len(run_id) == 32
    assert n == "3"


def test_what_init_wrote_reads_back_and_lists_the_commonest_keys(baked):
    """The data path is relative to the project; a commented key works as soon as its # is gone."""
    file = baked.path / "surefit.toml"
    text, config = file.read_text(), Config.read(file)
    assert (config.name, config.data.path, config.data.target) == ("churn", "../churn.csv", "y")
    assert config.changed() == {"data": {"path": "../churn.csv", "target": "y"}}
    all_keys = baked.path / "all.toml"
    all_keys.write_text(re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE))
    config = Config.read(all_keys)
    assert config.tune.space
    assert config.gate.floors == {"roc_auc": 0.8}


def test_nothing_is_overwritten(folder):
    """Files that are there stay, and are named; a second init writes what is missing."""
    numbers().to_csv(folder.path / "d.csv", index=False)
    (folder.path / "train.py").write_text("mine")
    first = folder.init(data="d.csv", target="y")
    assert "train.py" in first.kept
    assert (folder.path / "train.py").read_text() == "mine"
    (folder.path / "tune.py").unlink()
    second = folder.init()
    assert second.written == ("tune.py",)


def test_init_freezes_what_the_last_training_used(folder):
    """Without arguments the remembered data and split become the file."""
    folder.train("sklearn:iris", target="target",
                 set={"model.family": "dummy", "split.folds": 3})  # fmt: skip
    folder.init()
    config = Config.read(folder.path / "surefit.toml")
    assert (config.data.path, config.split.folds) == ("sklearn:iris", 3)


def test_a_project_on_data_that_cannot_be_used_is_not_begun(folder):
    """The table is looked at first; a wrong target writes no file."""
    numbers().to_csv(folder.path / "d.csv", index=False)
    with pytest.raises(InputError, match="no such column"):
        folder.init("new", data="d.csv", target="z")
    assert not (folder.path / "new").exists()
    (folder.path / "plain").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        folder.init("plain/project", data="d.csv", target="y")


def test_init_again_finds_the_table_from_here(folder):
    """A table is named from where the command is typed, also for a folder with a surefit.toml."""
    numbers().to_csv(folder.path / "d.csv", index=False)
    for _ in range(2):
        done = folder.init("under/here", data="d.csv", target="y")
    assert "surefit.toml" in done.kept


def test_the_workflow_is_valid_and_its_commands_exist(folder):
    """init --ci github: YAML whose surefit lines are commands with options that there are; check,
    train, evaluate, compare, then promote on a push only, and the report is kept."""
    numbers().to_csv(folder.path / "d.csv", index=False)
    assert folder.command("init", "--data", "d.csv", "--target", "y", "--ci", "github").code == 0
    text = (folder.path / ".github" / "workflows" / "surefit.yml").read_text("utf-8")
    steps = yaml.safe_load(text)["jobs"]["model"]["steps"]
    lines = [x.strip() for s in steps for x in s.get("run", "").splitlines()]
    said = [shlex.split(x)[1:] for x in lines if x.startswith("surefit ")]
    names = [words[0] for words in said]
    assert names == ["check", "train", "evaluate", "report", "compare", "promote"]
    for name, *words in said:
        known = {o for p in cli.cli.commands[name].params for o in p.opts}
        assert {w for w in words if w.startswith("--")} <= known
    (promotes,) = [s for s in steps if "surefit promote" in s.get("run", "")]
    assert promotes["if"] == "github.event_name == 'push'"
    assert "report.html" in steps[-1]["with"]["path"]
