"""The command line: exit codes, one message for each mistake, JSON everywhere, no traceback."""

import json
import os
import subprocess
import sys

import pytest

from tables import numbers

PLAIN = ("--set", "model.family=linear", "--set", "split.folds=2")

WRONG_FILES = {
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"a,b,y\n", "no rows"),
    "ragged.csv": (b"a,y\n1,x\n1,2,3,4\n", "line 3 has 4"),
    "constant.csv": (b"a,y\n" + b"".join(b"%d.5,x\n" % i for i in range(50)), "one value only"),
    "missing.csv": (b"a,y\n" + b"".join(b"%d.5,\n" % i for i in range(50)), "missing in every"),
    "one.csv": (b"y\nx\nz\n", "one column"),
    "two_rows.csv": (b"a,y\n1,x\n2,z\n", ""),
    "nothing.csv": (b"a,b,y\n" + b"1,2,x\n1,2,z\n" * 30, "No column is left"),
    "noise.csv": (bytes(range(256)) * 9, ""),
    "wrong.parquet": (b"no parquet", "cannot be read"),
    "half.parquet": (b"PAR1\x00\x00PAR1", "cannot be read"),
    "sheet.xlsx": (b"PK", "workbook"),
}


def refused(ended, *said):
    """Exit code 2 and one message on standard error, with these words; nothing else."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    assert ended.err.count("Error: ") == 1
    assert not ended.out
    for words in said:
        assert words in ended.err


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_table_that_cannot_be_used_is_one_message_and_exit_code_2(folder, name):
    """Empty, torn, ragged, constant or of another format: its reason, and nothing is recorded."""
    content, said = WRONG_FILES[name]
    (folder.path / name).write_bytes(content)
    refused(folder.command("train", name, "--target", "y", "-q", *PLAIN), said)
    assert not folder.runs()
    assert not (folder.path / ".surefit").exists()


def test_a_missing_file_a_folder_and_a_wrong_column_name_what_is_there(folder):
    """The nearest file or column is offered."""
    numbers().to_csv(folder.path / "data.csv", index=False)
    refused(folder.command("train", "dta.csv", "--target", "y"), 'did you mean "data.csv"')
    refused(folder.command("train", "data.csv", "--target", "yy", "-q"), 'did you mean "y"')
    refused(folder.command("train", "sklearn:iriss", "--target", "y"), 'did you mean "iris"')


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_said(folder):
    """Permissions are a reason like any other."""
    numbers().to_csv(folder.path / "data.csv", index=False)
    (folder.path / "data.csv").chmod(0)
    refused(folder.command("train", "data.csv", "--target", "y"), "permission denied")


def test_several_mistakes_at_once_are_all_told(folder):
    """Every --set with a wrong key or value is in one message."""
    ended = folder.command(
        "train", "sklearn:iris", "--target", "target", "--set", "split.tset=0.2", "--set",
        "modle.family=linear", "--set", "split.folds=1", "--set", "gate.alpha=2",
    )  # fmt: skip
    refused(ended, "4 mistakes", 'did you mean "test"', 'did you mean "model"', "split.folds = 1",
            "gate.alpha = 2")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "surefit train FILE --target COLUMN"),
        (["train", "--config", "none.toml"], "There is no file"),
        (["train", "sklearn:iris", "--target", "target", "--set", "model.family=lightgmb"],
         'did you mean "lightgbm"'),
        (["train", "sklearn:iris", "--target", "target", "--set", "model.params.learning_rat=1"],
         'did you mean "learning_rate"'),
        (["train", "sklearn:iris", "--target", "target", "--set", "model.params.n_estimators=9"],
         'here it is "num_iterations"'),
        (["train", "sklearn:iris", "--target", "target", "--set", "metric.optimize=log_los"],
         'did you mean "log_loss"'),
        (["train", "sklearn:iris", "--target", "target", "--to", "production"], "through the gate"),
        (["train", "sklearn:iris", "--target", "target", "--set", "seed"], "key=value"),
        (["train", "sklearn:diabetes", "--target", "target", "--set", "metric.optimize=roc_auc"],
         "roc_auc"),
        (["tune", "sklearn:iris", "--target", "target", "--budget", "soon"], "soon"),
        (["tune", "sklearn:iris", "--target", "target", "--trials", "-1"], "tune.trials"),
        (["tune", "sklearn:iris", "--target", "target", "--method", "gird"],
         'did you mean "grid"'),
    ],
)  # fmt: skip
def test_a_mistake_in_a_command_is_one_message_with_the_way_on(folder, arguments, said):
    """What is wrong, and the nearest that is right."""
    refused(folder.command(*arguments, "-q"), said)
    assert not folder.runs()


def test_wrong_options_and_commands_are_exit_code_2(folder):
    """Those that click finds have the same code as ours."""
    for arguments in (["trian"], ["train", "--frobnicate"], ["tune", "--trials", "many"]):
        ended = folder.command(*arguments)
        assert ended.code == 2
        assert "Traceback" not in ended.err
        assert ended.err.startswith(("Error", "Usage"))


def test_help_and_version_are_exit_code_0(folder):
    """Each command has a help page."""
    assert folder.command("--version").out.startswith("surefit ")
    for verb in ("init", "train", "evaluate", "tune", "compare", "promote", "ui"):
        ended = folder.command(verb, "--help")
        assert ended.code == 0
        assert "Usage" in ended.out


def test_a_whole_project_on_the_command_line_with_json_everywhere(folder):
    """Every verb answers with one JSON object on standard output; the next verbs need no file."""
    steps = [
        (["train", "sklearn:breast_cancer", "--target", "target", *PLAIN], "run_id"),
        (["evaluate", "last"], "scores"), (["evaluate", "--test"], "look"),
        (["tune", "--trials", "3", "--set", "model.family=linear"], "best"),
        (["compare"], "standings"), (["promote", "train linear"], "verdict"),
        (["init", "project"], "written"),
    ]  # fmt: skip
    for arguments, key in steps:
        ended = folder.command(*arguments, "--json", "-q")
        assert ended.code == 0, ended
        assert key in json.loads(ended.out)
        assert not ended.err
    spoken = folder.command("train", *PLAIN)
    assert spoken.err.startswith("Data:  569 rows")
    assert "Plan:  3 fits of linear" in spoken.err
    assert "Next: " in spoken.out


def test_a_bug_of_ours_is_exit_code_70_and_asks_for_a_report(folder, monkeypatch):
    """Only then a traceback is shown."""
    from surefit.verbs import workspace

    def broken(**_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(workspace, "project", broken)
    ended = folder.command("train", "sklearn:iris", "--target", "target")
    assert ended.code == 70
    assert "Traceback" in ended.err
    assert "bug of surefit" in ended.err


def test_a_reader_that_leaves_is_no_error(folder):
    """`surefit … | head -1` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "surefit", "--help"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=folder.path,
    )  # fmt: skip
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert "Traceback" not in err
