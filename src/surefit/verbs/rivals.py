"""The rows on which challenger and champion are judged, and both models' predictions on them.

A champion is never scored on rows it was trained on. Where both were trained on the same data and
split, the test rows are the same; else those decide that neither was trained on, told apart by
their content and by what the split keeps together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from surefit.core import predictions
from surefit.core.conform import conform
from surefit.edges import bundle, isolated, registry, runs, temporary
from surefit.edges.registry import Version
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError, SurefitError
from surefit.verbs.evaluate import rows_of, target_of
from surefit.verbs.workspace import Workspace

SPLIT = "split.parquet"


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """What is judged.

    Attributes:
        blind: the challenger's predictions on the rows that decide, without targets.
        theirs: the champion's on the same rows in the same order; None without a champion, or
            where it cannot be scored.
        trouble: why it cannot be scored.
        how: the rows and where the champion's predictions come from, in words.
    """

    blind: pd.DataFrame = field(repr=False)
    theirs: pd.DataFrame | None = field(default=None, repr=False)
    trouble: str = ""
    how: str = ""


def between(store: Store, work: Workspace, record: RunRecord, champion: Version | None) -> Rivals:
    """The match of a run's model with the champion.

    Raises:
        InputError: when the challenger has no test predictions.
    """
    blind = runs.read_table(store, record.run_id, predictions.TEST)
    if blind is None:
        raise InputError("This project has no test rows to judge on.", "split.test = 0.2")
    if champion is None:
        return Rivals(blind=blind, how=f"{len(blind):,} test rows")
    try:
        return _with(store, work, champion, blind)
    except SurefitError as error:
        return Rivals(blind=blind, how=f"{len(blind):,} test rows", trouble=error.what)


def _with(store: Store, work: Workspace, champion: Version, blind: pd.DataFrame) -> Rivals:
    theirs, saved = _run_of(store, champion), None
    if champion.holds(theirs):  # a search that went on has overwritten them
        saved = runs.read_table(store, champion.run_id, predictions.TEST)
    split = runs.read_table(store, champion.run_id, SPLIT)
    if theirs.tags.get("surefit.task") != work.data.task:
        raise InputError(f"{champion.uri()} answers another task than {work.data.task}.")
    if target_of(theirs) not in ("", work.data.target):
        raise InputError(f"{champion.uri()} predicts {target_of(theirs)}, not {work.data.target}.")
    if split is None:
        raise InputError(f"{champion.uri()} has no {SPLIT}: what it was trained on is not known.")
    keep = _untouched(theirs, split, work, blind)
    touched = int((~keep).sum())
    blind = blind[keep].reset_index(drop=True)
    how = f"{len(blind):,} test rows"
    if touched:
        how += f" untouched by both ({touched:,} more are left out: the champion saw them)"
    if len(blind) == 0:
        trouble = "the champion was trained on every one of these test rows"
        return Rivals(blind=blind, how=how, trouble=trouble)
    answers = _saved(theirs, split, saved, work, blind)
    missing = answers.isna().any(axis=1).to_numpy()
    if missing.any():
        run_on = work.data.raw.iloc[rows_of(blind, work)[missing]]
        answers.loc[missing] = _run(store, champion, run_on)[answers.columns].to_numpy()
        how += f"; of {int(missing.sum()):,} the champion is asked now, in a fresh process"
    answers.insert(0, "row_id", blind["row_id"].to_numpy())
    return Rivals(blind=blind, theirs=answers, how=how)


def _run_of(store: Store, champion: Version) -> RunRecord:
    unknown = InputError(
        f"{champion.uri()} was not trained by surefit: on which rows is not known, and it is never "
        "scored on rows it may have learned.",
        "surefit promote RUN --force --reason '…'",
    )
    if not champion.run_id:
        raise unknown
    try:
        found = runs.find(store, champion.run_id)
    except InputError:
        raise unknown from None
    if found.kind not in ("train", "tune"):
        raise unknown
    return found


def _same(theirs: RunRecord, work: Workspace) -> bool:
    return (theirs.tags.get("surefit.data"), theirs.tags.get("surefit.split")) == (
        work.data.digest, work.split.digest,
    )  # fmt: skip


def _untouched(
    theirs: RunRecord, split: pd.DataFrame, work: Workspace, blind: pd.DataFrame
) -> np.ndarray:
    """(n,) True for the rows of `blind` that the champion was not trained on.

    Nor on a copy of them; the rows of a usual kind are no copies.
    """
    if _same(theirs, work):
        return np.ones(len(blind), dtype=bool)
    rows = rows_of(blind, work)
    trained = split[split["block"] >= 0]
    if "row_key" in split:
        seen = np.isin(work.data.row_key[rows], trained["row_key"].to_numpy())
        seen &= ~work.data.usual[rows]
        return np.asarray(~seen & ~np.isin(work.split.unit[rows], trained["unit"].to_numpy()))
    if theirs.tags.get("surefit.data") == work.data.digest:
        return np.asarray(~blind["row_id"].isin(trained["row_id"]))
    raise InputError(
        f'The champion\'s run "{theirs.name}" was made on other data and kept no row contents.',
        "surefit train its configuration again on the data as they are",
    )


def _saved(
    theirs: RunRecord, split: pd.DataFrame, saved: pd.DataFrame | None, work: Workspace,
    blind: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """The champion's saved answers on these rows, by id or by content; NaN where there is none."""
    columns = predictions.answer_columns(blind)
    nothing = pd.DataFrame(np.nan, index=blind.index, columns=columns)
    if saved is None or not set(columns) <= set(saved.columns):
        return nothing
    if _same(theirs, work) or "row_key" not in split:
        known = saved.set_index(saved["row_id"].astype(str))[columns]
        return known.reindex(blind["row_id"].astype(str)).reset_index(drop=True)
    keys = split.set_index(split["row_id"].astype(str))["row_key"]
    known = saved.set_index(keys.reindex(saved["row_id"].astype(str)).to_numpy())[columns]
    known = known[~known.index.duplicated()]
    return known.reindex(work.data.row_key[rows_of(blind, work)]).reset_index(drop=True)


def _run(store: Store, champion: Version, rows: pd.DataFrame) -> pd.DataFrame:
    """The champion's answers, from its verified files in a process of its own."""
    with temporary.folder() as folder:
        local = registry.download(store, champion, Path(folder))
        bundle.verify(local, registry.manifest(store, champion))
        frame, _ = conform(rows, bundle.inputs(local))
        return isolated.predict(local, frame.reset_index(drop=True))
