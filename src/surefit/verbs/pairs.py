"""Two runs side by side: what they recorded differently, in code too, and where they disagree."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from surefit.comparison import Pair, SliceContrast
from surefit.config import Project
from surefit.core import pairing, slices
from surefit.edges import environment, runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError
from surefit.items import Figure, Item, Table, Text
from surefit.verbs import workspace
from surefit.verbs.board import Entries
from surefit.verbs.evaluate import check_same_data, rows_of
from surefit.verbs.reporter import Reporter

COMMIT = "mlflow.source.git.commit"
LAST = ("tune.", "fixed.", "tracking.", "gate.")  # keys that say least about a model


def side_by_side(
    store: Store, project: Project, entries: Entries, data: workspace.Data, reporter: Reporter
) -> Pair | None:
    """What sets two ranked runs apart; None where not exactly two are ranked."""
    if len(entries.records) != 2:
        return None
    (a, first), (b, second) = entries.records.items()
    differs = pairing.differing(_recorded(store, first), _recorded(store, second))
    ordered = tuple(sorted(differs, key=lambda d: d.key.startswith(LAST)))
    found = pairing.pair_of((a, b), ordered, entries.scored[a], entries.scored[b])
    sliced, why_not = _slices(project, entries, data, reporter)
    return replace(
        found, slices=sliced, no_slices=why_not, code=_code(store, project.root, first, second)
    )


def items(pair: Pair) -> Iterator[Item]:
    """The tables of a pair, as artifacts of the comparison."""
    for path, values in (("differs", pair.differs), ("flips", pair.flips), ("slices", pair.slices)):
        if values:
            yield Table(path=f"pair/{path}.csv", frame=pd.DataFrame([vars(v) for v in values]))
    if pair.code:
        yield Text(path="pair/code.diff", text=pair.code)


def figures(pair: Pair, entries: Entries) -> list[Figure]:
    """The curves of both, and the slices on which they are furthest apart."""
    names = (pair.a, pair.b)
    drawn = list(pairing.pair_figures(names, entries.scored[pair.a], entries.scored[pair.b]))
    if pair.slices:
        drawn.append(pairing.draw_contrast(pairing.contrast_numbers(pair.slices), names,
                                           entries.metric.name))  # fmt: skip
    return drawn


def _recorded(store: Store, record: RunRecord) -> dict[str, Mapping[str, Any]]:
    """What a run recorded of how it came about; of a search, how its winner did."""
    text = runs.read_text(store, record.run_id, "best.toml") if record.kind == "tune" else None
    text = text or runs.read_text(store, record.run_id, "config.toml")
    packages = runs.read_text(store, record.run_id, "environment.txt")
    tags = {k: v for k, v in record.tags.items()
            if k in ("surefit.data", "surefit.split", "surefit.git.dirty")
            or k.startswith("mlflow.source.git.")}  # fmt: skip
    return {
        "rows": {k: v for k, v in tags.items() if "git" not in k},
        "code": {k: v for k, v in tags.items() if "git" in k},
        "config": pairing.flat(tomllib.loads(text)) if text else {},
        "parameter": dict(record.params),
        "package": pairing.packages(packages or ""),
    }


def _code(store: Store, root: Path, a: RunRecord, b: RunRecord) -> str:
    """The user's recorded source files and the repository between the two commits, as a diff."""
    parts = [pairing.code_between(*(_files(store, record) for record in (a, b)))]
    commits = [record.tags.get(COMMIT, "") for record in (a, b)]
    if all(commits) and commits[0] != commits[1]:
        parts.append(environment.git_between(root, *commits))
    return "\n".join(part for part in parts if part)


def _files(store: Store, record: RunRecord) -> dict[str, str]:
    """Recorded code by path: the user's files, and what was uncommitted."""
    found = {p: runs.read_text(store, record.run_id, p) for p in runs.listed(store, record, "code")}
    found["git.diff"] = runs.read_text(store, record.run_id, "git.diff")
    return {path: text for path, text in found.items() if text}


def _slices(
    project: Project, entries: Entries, data: workspace.Data, reporter: Reporter
) -> tuple[tuple[SliceContrast, ...], str]:
    """The metric of both by slice; or why the data are not at hand."""
    first = next((r for r in entries.records.values() if r.kind), None)
    if first is None:
        return (), "no run of surefit says which data these are"
    frame = workspace.frame_of(data)
    try:
        work = workspace.load(project, frame=frame, reporter=reporter)
        check_same_data(first, work)
    except InputError as error:
        return (), error.what.splitlines()[0].rstrip(".")
    a, b = entries.scored.values()
    at = rows_of(pd.DataFrame({"row_id": a.row_id}), work)
    if len(at) != len(a.y):
        return (), "the data lack some of the rows"
    found = slices.contrast(
        entries.metric, a, b, work.data.frame.iloc[at], work.data.columns, clusters=a.groups
    )
    return found, ""
