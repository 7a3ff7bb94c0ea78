"""What is fitted: a built-in family or the user's own function, with its hyperparameters."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from surefit import masking, models
from surefit.core import fit
from surefit.core.fit import Problem
from surefit.edges import checkpoints, environment, own, project, scratch
from surefit.edges.checkpoints import Checkpoints
from surefit.edges.project import UserCode
from surefit.edges.redirect import Scratch
from surefit.edges.store import Store
from surefit.items import Item, Param, Tag, Text
from surefit.redaction import HIDDEN
from surefit.verbs.workspace import Workspace

ALTERED = "surefit.code.masked"  # the files in which a secret was masked: they differ from yours


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A fitting problem, the hyperparameters, and the user's code where there is some."""

    problem: Problem = field(repr=False)
    params: dict[str, Any]
    code: UserCode | None = None
    kept: Checkpoints | None = None
    calls: Scratch | None = None

    def code_digest(self) -> str:
        """SHA-256 of the user's source, "" for a built-in family."""
        return self.code.digest if self.code else ""

    def forget(self) -> None:
        """Remove the checkpoints: what they were for is recorded."""
        if self.kept:
            self.kept.clear()

    @contextlib.contextmanager
    def redirected(self, store: Store, *, search: str = "") -> Iterator[None]:
        """Where MLflow calls of the user's code go while the block fits.

        A search's stay until they are recorded: see `scratch.sweep`.
        """
        if self.calls is None or self.code is None:
            yield
            return
        scratch.prepare(self.calls, store, self.code.files.values(), search=search)
        try:
            yield
        finally:
            if not search:
                scratch.remove(self.calls)


def candidate(work: Workspace, *, keep: bool = True) -> Candidate:
    """What the workspace's configuration asks to fit.

    Args:
        keep: whether finished jobs' checkpoints stay until the run is recorded.

    Raises:
        ConfigError: for a family, parameter, file or function that does not exist.
        UserCodeError: when the user's file fails as it is imported.
    """
    model = work.config.model
    code, kept, family, calls = None, None, None, None
    if model.together:
        return _together(work)
    if model.own:
        code = project.load(
            model.own, work.project.root, scratch.at_import(work.project.root, model.own)
        )
        asked = model.model_dump_json(include={"params", "seed"})
        if not keep:  # of a search, whatever its budget
            asked += work.config.tune.model_dump_json(exclude={"trials", "budget", "workers"})
        kept = checkpoints.at(
            work.project.root, work.data.digest, work.split.digest, code.digest, model.own,
            environment.versions_of(("numpy", "torch")), asked, keep, keep=keep,
        )  # fmt: skip
        calls = scratch.place(work.project.root)
        family = own.family(own.Own(
            kind="build" if model.build else "train", code=code, classes=work.data.classes,
            labels=model.labels, checkpoints=kept, scratch=calls,
        ))  # fmt: skip
    problem = fit.problem(
        work.data, work.split, family=model.label, metric=work.metric, seed=model.seed, own=family
    )
    params = problem.model.resolve(model.params, work.data.task)
    return Candidate(problem=problem, params=params, code=code, kept=kept, calls=calls)


def _together(work: Workspace) -> Candidate:
    """What families have in common, for a search over them; jobs name their own."""
    first = (work.config.tune.families or models.installed())[0]
    problem = fit.problem(
        work.data, work.split, family=first, metric=work.metric, seed=work.config.model.seed
    )
    return Candidate(problem=problem, params={})


def items(work: Workspace, chosen: Candidate) -> Iterator[Item]:
    """The resolved hyperparameters with where each came from, and the user's source."""
    yield Param(key="model.family", value=chosen.problem.family)
    yield Param(key="model.seed", value=work.config.model.seed)
    origins = {}
    for key, value in chosen.params.items():
        yield Param(key=f"model.params.{key}", value=value)
        origins[key] = work.project.origins.get(f"model.params.{key}", "family default")
    yield Text(path="params.json", text=json.dumps(
        {k: {"value": v, "origin": origins[k]} for k, v in chosen.params.items()},
        indent=1, default=str,
    ))  # fmt: skip
    yield from code_items(chosen)


def masked_files(tags: Mapping[str, str]) -> str:
    """What the files in a run's code/ lack, in words; "" where they are whole."""
    files = json.loads(tags.get(ALTERED, "[]"))
    return f"with the secrets that {HIDDEN} stands for in {', '.join(files)}" if files else ""


def code_items(chosen: Candidate) -> Iterator[Item]:
    """The user's source files and their digest."""
    if chosen.code:
        yield Tag(key="surefit.code", value=chosen.code.digest)
        altered = [p for p, text in chosen.code.files.items() if masking.record(p, text) != text]
        if altered:
            yield Tag(key=ALTERED, value=json.dumps(sorted(altered)))
        for path, text in chosen.code.files.items():
            yield Text(path=f"code/{path}", text=text)
