"""A recorded training run, ready to be fitted again: its own configuration on today's rows."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from surefit import config as configuration
from surefit.config import Project
from surefit.edges import runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError
from surefit.models import ensemble
from surefit.verbs import candidate as candidates
from surefit.verbs import workspace
from surefit.verbs.candidate import Candidate
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides, Workspace


@dataclass(frozen=True, kw_only=True)
class Again:
    """The run, its configuration's rows and model as they are today, and the store."""

    record: RunRecord
    work: Workspace = field(repr=False)
    chosen: Candidate = field(repr=False)
    store: Store = field(repr=False)


def load(
    run: str, *, config: str | Path | None, overrides: Overrides, reporter: Reporter,
    searches: bool = False,
) -> Again:  # fmt: skip
    """The run by that reference, with its recorded configuration.

    Args:
        searches: a search will do too; it stands for its winner.

    Raises:
        InputError: when there is no such training run, or its data are not to be had.
    """
    here = workspace.project(data=None, target=None, config=config, overrides=overrides)
    store = workspace.open_store(here)
    record = runs.find(store, run)
    search = searches and record.kind == "tune"
    text = runs.read_text(store, record.run_id, "best.toml" if search else "config.toml")
    if not (search or record.kind == "train") or not record.complete or text is None:
        raise InputError(
            f"{record.name} is no complete training run.", "surefit compare lists the runs"
        )
    if record.tags.get("surefit.family") == ensemble.NAME:
        raise InputError(
            f"{record.name} is an ensemble: its search is what can be run again.",
            "surefit tune --ensemble",
        )
    recorded = configuration.validate(tomllib.loads(text))
    whole = recorded.model_copy(update={"tracking": here.config.tracking})
    project = Project(config=whole, root=here.root, origins=here.origins)
    work = workspace.load(project, frame=None, reporter=reporter)
    return Again(record=record, work=work, chosen=candidates.candidate(work), store=store)
