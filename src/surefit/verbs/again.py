"""A recorded training run, ready to be fitted again: its own configuration on today's rows."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit import config as configuration
from surefit.config import Config, Project
from surefit.core import predictions
from surefit.edges import runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import ConfigError, InputError
from surefit.models import ensemble
from surefit.redaction import HIDDEN
from surefit.verbs import board, workspace
from surefit.verbs import candidate as candidates
from surefit.verbs.candidate import Candidate
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides, Workspace

MOVED = ("data.path", "split.test_path")  # of a record, what may be elsewhere today


@dataclass(frozen=True, kw_only=True)
class Named:
    """A run that a reference names, the store that it is in, the project here, and moved files."""

    record: RunRecord
    store: Store = field(repr=False)
    here: Project = field(repr=False)
    moved: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Again:
    """The run, its configuration's rows and model as they are today, and the store."""

    record: RunRecord
    work: Workspace = field(repr=False)
    chosen: Candidate = field(repr=False)
    store: Store = field(repr=False)


def find(run: str, *, config: str | Path | None, overrides: Overrides) -> Named:
    """The run by that reference, in the store of the project here.

    Raises:
        InputError: when there is no such run, or a setting is given that would make it another.
    """
    given = configuration.override_values(overrides)
    moved = {key: value for key, value in given.items() if key in MOVED}
    rest = {key: value for key, value in given.items() if key not in MOVED}
    try:  # without: a project that has no name of its own is called after its data
        here = workspace.project(data=None, target=None, config=config, overrides=rest)
    except ConfigError:
        if not moved:
            raise
        here = workspace.project(data=None, target=None, config=config, overrides=given)
    store = workspace.open_store(here)
    record = board.find(store, run)
    wrong = sorted(k for k in rest if k not in ("name", "data.target") and k[:9] != "tracking.")
    if wrong:
        raise InputError(
            f"{record.name} is run again with its own configuration, without {wrong[0]}.",
            "--set data.path=FILE where the data have moved; surefit train with another setting",
        )
    return Named(record=record, store=store, here=here, moved=moved)


def winner(named: Named, reporter: Reporter) -> Again:
    """A training run, or the winner of a search, with its recorded configuration.

    Raises:
        InputError: when it is no such run, or its data are not to be had.
    """
    record = named.record
    if record.kind == "tune" and record.complete:
        return _load(named, record, "best.toml", reporter)
    return training(named, reporter)


def search(named: Named, reporter: Reporter) -> Again:
    """A search, of a trial the one that it is of, with its recorded configuration.

    Raises:
        InputError: when its data are not to be had, or it is of a function that a script gave.
    """
    record = named.record
    if record.kind == "trial":
        record = runs.find(named.store, record.tags["mlflow.parentRunId"])
    if not record.complete or "surefit.data" not in record.tags:
        raise InputError(
            f"{record.name} cannot be run again from its record.",
            "the same command resumes a search, and runs a script with one of its own again",
        )
    return _load(named, record, "config.toml", reporter)


def training(named: Named, reporter: Reporter) -> Again:
    """A training run with its recorded configuration.

    Raises:
        InputError: when it is none, or its data are not to be had.
    """
    record = named.record
    if record.kind != "train" or not record.complete:
        raise InputError(
            f"{record.name} is no complete training run.", "surefit compare lists the runs"
        )
    return _load(named, record, "config.toml", reporter)


def _load(named: Named, record: RunRecord, file: str, reporter: Reporter) -> Again:
    store, here = named.store, named.here
    text = runs.read_text(store, record.run_id, file)
    if text is None:
        raise InputError(
            f"{record.name} is no complete training run.", "surefit compare lists the runs"
        )
    if record.tags.get("surefit.family") == ensemble.NAME:
        raise InputError(
            f"{record.name} is an ensemble: its search is what can be run again.",
            "surefit tune --ensemble",
        )
    recorded = configuration.validate(tomllib.loads(text))
    _refuse_masked(record, recorded)
    target = here.config.data.target
    if here.origins.get("data.target") == "--set" and target != recorded.data.target:
        raise InputError(f"{record.name} predicts {recorded.data.target}, and not {target}.")
    whole = recorded.model_copy(update={"tracking": here.config.tracking})
    project = Project(config=whole, root=here.root, origins=here.origins)
    if recorded.split.test_path is None and "split.test_path" in named.moved:
        raise InputError(f"{record.name} has no test file of its own: split.test_path is another.")
    if named.moved:
        project = configuration.amend(project, named.moved)
    work = workspace.load(project, frame=None, reporter=reporter)
    return Again(record=record, work=work, chosen=candidates.candidate(work), store=store)


def _refuse_masked(record: RunRecord, recorded: Config) -> None:
    """A secret was not recorded, and what was fitted with it cannot be fitted again.

    Raises:
        InputError: naming the keys.
    """
    used = ("data.", "split.", "model.", "metric.", *(["tune."] if record.kind == "tune" else []))
    hidden = [k for k, v in recorded.flat().items() if k.startswith(used) and HIDDEN in str(v)]
    if hidden:
        raise InputError(
            f"{record.name} was made with a secret in {', '.join(hidden)}, which is not recorded.",
            "read it from an environment variable in your code, and train again",
        )


def largest(stored: pd.DataFrame | None, fresh: pd.DataFrame) -> float:
    """The largest difference of any prediction, infinite where the rows or columns are others."""
    if stored is None or len(stored) != len(fresh):
        return float("inf")
    names = predictions.answer_columns(fresh)
    if not set(names) <= {*stored.columns}:
        return float("inf")
    gaps = np.abs(stored[names].to_numpy("float64") - fresh[names].to_numpy("float64"))
    return float(gaps.max())
