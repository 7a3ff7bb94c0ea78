"""The ledger of looks at test rows: each join with their targets is counted, by the rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from surefit.core import looks
from surefit.edges import lock, runs
from surefit.edges.runs import Run, RunRecord
from surefit.edges.store import Store
from surefit.errors import ServiceError
from surefit.items import Table, Tag
from surefit.verbs.workspace import Workspace

ROWS = "look/rows.parquet"
LOOK, QUESTION, AGAIN = "surefit.look", "surefit.look.question", "surefit.look.again"


def keys(work: Workspace, rows: np.ndarray) -> np.ndarray:
    """By what looks at these rows are counted: their contents.

    A row of a usual kind cannot be told from those of its kind that were looked at; such rows do
    not count where there are others.
    """
    telling = rows[~work.data.usual[rows]]
    return np.asarray(work.data.row_key[telling if len(telling) else rows])


def next_look(store: Store, row_key: np.ndarray) -> int:
    """Which look at these rows the coming one is, from 1; looks that failed half-way count too."""
    tables = (_rows_of(store, record) for record in _lookers(store))
    seen = [t["row_key"].to_numpy(dtype="uint64") for t in tables if t is not None]
    return looks.number(row_key, seen)


def _rows_of(store: Store, record: RunRecord) -> pd.DataFrame | None:
    """The rows that a run wrote down; None where it was cut short within, and so saw no target."""
    try:
        return runs.read_table(store, record.run_id, ROWS)
    except ServiceError:
        if LOOK in record.tags:
            raise
        return None


def _lookers(store: Store) -> Iterator[RunRecord]:
    """The runs that may have written rows down: those that say so, and those cut short before.

    A look stays one where its run was deleted since.
    """
    for deleted in (False, True):
        for record in runs.search(store, f"tags.`{LOOK}` LIKE '%'", deleted=deleted):
            if record.kind != "compare":
                yield record
        for kind in ("evaluate", "promote"):
            where = f"tags.`surefit.kind` = '{kind}' and attributes.status != 'FINISHED'"
            yield from (r for r in runs.search(store, where, deleted=deleted) if LOOK not in r.tags)


def count(run: Run, row_key: np.ndarray) -> int:
    """Take the next look at these rows, and give which it is; two at once are two looks."""
    with lock.held(run.store, "looks") as still_locked:
        look = next_look(run.store, row_key)
        still_locked()
        take(run, row_key, look)
    return look


def take(run: Run, row_key: np.ndarray, look: int, *, question: str = "") -> None:
    """Write the look down, before the targets are joined: by its rows it counts, so they are first.

    Args:
        question: the digest of all that the answer depends on, for `asked_before`.
    """
    run.log([Table(path=ROWS, frame=pd.DataFrame({"row_key": row_key}))])
    asked = [Tag(key=QUESTION, value=question)] if question else []
    run.log([Tag(key=LOOK, value=str(look)), *asked])


def asked_before(store: Store, question: str) -> int | None:
    """The look at which the very same question was asked; None where none such was counted.

    Its answer can only be the same again, so that nothing more is spent on it.
    """
    earlier = runs.search(store, f"tags.`{QUESTION}` = '{question}'")
    counted = (r for r in earlier if runs.read_table(store, r.run_id, ROWS) is not None)
    return min((int(r.tags[LOOK]) for r in counted), default=None)


def repeat(run: Run, look: int) -> None:
    """Write down that an earlier look is used once more; it is not counted again."""
    run.log([Tag(key=LOOK, value=str(look)), Tag(key=AGAIN, value="yes")])
