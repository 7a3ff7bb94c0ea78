"""The map is the territory: every file is listed, and the layers hold."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
PACKAGE = "src/surefit"


def tracked():
    """The files that belong to the project: git's where there is git, else what is there."""
    folders = (PACKAGE, "tests", "bench", "scripts")
    if (ROOT / ".git").exists():
        found = subprocess.run(
            ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    else:
        paths = (p for f in folders for p in (ROOT / f).rglob("*") if p.is_file())
        found = [p.relative_to(ROOT).as_posix() for p in paths if "__pycache__" not in p.parts]
    return {f.removeprefix(f"{PACKAGE}/") for f in found if (ROOT / f).exists()}


def listed():
    return set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE))


def test_every_file_is_listed():
    """No file of the project is missing from ARCHITECTURE.md; `make docs` adds it."""
    assert tracked() - listed() == set()


def test_no_listed_file_is_missing():
    """ARCHITECTURE.md lists no file that is not there; `make docs` takes it out."""
    there = {
        name for name in listed() if (ROOT / name).exists() or (ROOT / PACKAGE / name).exists()
    }
    assert listed() - there == set()


def test_every_listed_file_says_what_it_is():
    """Each line of the list has words in its second column."""
    assert re.findall(r"^\| `([^`]+)` \| *\|$", PAGE, re.MULTILINE) == []


def test_layers_hold():
    """The import contracts in pyproject.toml are kept."""
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
