"""Starting is quick: importing surefit, or asking for help, imports nothing heavy."""

import inspect
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from surefit.cli import cli
from surefit.models.skops_files import import_skops

HEAVY = {
    "lightgbm", "matplotlib", "mlflow", "numpy", "optuna", "pandas", "pyarrow", "pydantic", "rich",
    "scipy", "skops", "skrub", "sklearn", "sqlalchemy",
}  # fmt: skip
HELP = """
import sys
from surefit.cli import main
sys.argv = ["surefit", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
"""
WORKERS = {"objective_job": HEAVY, "fold_job": {"mlflow", "optuna", "sqlalchemy", "matplotlib"}}
SAVING = """
import pathlib, tempfile
from surefit.models import skops_files
with tempfile.TemporaryDirectory() as folder:
    skops_files.save_skops([1], pathlib.Path(folder) / "list.skops")
"""


def imported(code):
    """The top-level modules that a fresh interpreter has after running the code."""
    tail = "\nimport json, sys\nprint()\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_import_is_light():
    """`import surefit` brings in none of the heavy libraries."""
    assert imported("import surefit; dir(surefit)") & HEAVY == set()


@pytest.mark.parametrize("verb", ["", *cli.commands])
def test_help_is_light(verb):
    """`surefit --help` and each `surefit VERB --help` answer without the heavy libraries."""
    arguments = [*verb.split(), "--help"]
    assert imported(HELP.format(arguments=arguments)) & HEAVY == set()


def test_version_is_light():
    """`surefit --version` answers without the heavy libraries."""
    assert imported(HELP.format(arguments=["--version"])) & HEAVY == set()


@pytest.mark.parametrize("job", sorted(WORKERS))
def test_workers_import_little(job):
    """What a worker loads to run a job brings in no store and no optimiser."""
    assert imported(f"import surefit.verbs.{job}") & WORKERS[job] == set()


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_saving_a_model_of_scikit_learn_imports_no_torch():
    """skops looks through all of scikit-learn; PyTorch stays out of it, and can be used later."""
    assert "torch" not in imported(SAVING)


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_loading_without_surefit_imports_no_torch():
    """The source of `import_skops` alone, as a process that tries a model out runs it."""
    code = f"{inspect.getsource(import_skops)}\nimport_skops()"
    assert {"skops", "torch"} & imported(code) == {"skops"}
