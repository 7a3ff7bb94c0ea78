"""How a search is asked for again: the command of a table's, the Python call of a function's."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from surefit import config as configuration
from surefit.config import Project
from surefit.sections import TuneConfig

_SAID = ("data.path", "data.target", "tune.trials", "tune.budget", "tune.method", "tune.ensemble")


def command(project: Project, tune: TuneConfig) -> str:
    """What shows a table's search again, and goes on with it where it was cut short."""
    known = project.config.flat()
    if known["data.path"] == "<DataFrame>":
        return call("frame", project, tune, target=known["data.target"])
    words = ["surefit tune"]
    if _given(project, "data.path"):
        words.append(shlex.quote(str(known["data.path"])))
    if _given(project, "data.target"):
        words.append(f"--target {shlex.quote(str(known['data.target']))}")
    if file := _file(project):
        words.append(f"-c {shlex.quote(file)}")
    words.append(f"--trials {tune.trials}")
    if tune.budget:
        words.append(f"--budget {tune.budget}")
    words.append(f"--method {tune.method}")
    if tune.ensemble and _given(project, "tune.ensemble"):
        words.append("--ensemble")
    settings = (f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in _settings(project).items())
    return " ".join([*words, *(f"--set {shlex.quote(text)}" for text in settings)])


def call(first: str, project: Project, tune: TuneConfig, **arguments: Any) -> str:
    """The same in Python; `first` is what the search is of, as it is written there."""
    told = {**arguments, "trials": tune.trials, "budget": tune.budget, "method": tune.method}
    if tune.ensemble and _given(project, "tune.ensemble"):
        told["ensemble"] = True
    told |= {"config": _file(project) or None, "set": _settings(project) or None}
    parts = (f"{key}={value!r}" for key, value in told.items() if value is not None)
    return f"surefit.tune({', '.join([first, *parts])})"


def _given(project: Project, key: str) -> bool:
    """Whether an argument or `--set` said it, and not the file."""
    return project.origins.get(key) in ("argument", "--set")


def _settings(project: Project) -> dict[str, Any]:
    """What `--set` gave, or Python's arguments, that has no argument of its own here."""
    known = project.config.flat()
    return {k: known[k] for k in project.origins if k in known and k not in _SAID
            and _given(project, k)}  # fmt: skip


def _file(project: Project) -> str:
    """The configuration file, where it is not the one that is read without being named."""
    usual = ("argument", "--set", configuration.FILE, configuration.REMEMBERED.name)
    named = next((origin for origin in project.origins.values() if origin not in usual), "")
    file = project.root / named
    return (named if project.root == Path.cwd() else str(file)) if named else ""
