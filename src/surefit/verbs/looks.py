"""The ledger of looks at test rows: each join with their targets is counted, by the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from surefit.core import looks
from surefit.edges import runs
from surefit.edges.runs import Run
from surefit.edges.store import Store
from surefit.items import Item, Table, Tag
from surefit.verbs.workspace import Workspace

ROWS = "look/rows.parquet"
QUESTION = "surefit.look.question"


def keys(work: Workspace, rows: np.ndarray) -> np.ndarray:
    """By what looks at these rows are counted: their contents.

    A row of a usual kind cannot be told from those of its kind that were looked at; such rows do
    not count where there are others.
    """
    telling = rows[~work.data.usual[rows]]
    return np.asarray(work.data.row_key[telling if len(telling) else rows])


def next_look(store: Store, row_key: np.ndarray) -> int:
    """Which look at these rows the coming one is, from 1; looks that failed half-way count too."""
    earlier = [
        r.run_id for r in runs.search(store, "tags.`surefit.look` LIKE '%'") if r.kind != "compare"
    ]
    tables = (runs.read_table(store, run_id, ROWS) for run_id in earlier)
    seen = [t["row_key"].to_numpy(dtype="uint64") for t in tables if t is not None]
    return looks.number(row_key, seen)


def take(run: Run, row_key: np.ndarray, look: int, *, question: str = "") -> None:
    """Write the look down, before the targets are joined.

    Args:
        question: the digest of all that the answer depends on, for `asked_before`.
    """
    items: list[Item] = [
        Table(path=ROWS, frame=pd.DataFrame({"row_key": row_key})),
        Tag(key="surefit.look", value=str(look)),
    ]
    if question:
        items.append(Tag(key=QUESTION, value=question))
    run.log(items)


def asked_before(store: Store, question: str) -> int | None:
    """The look at which the very same question was asked; None where it never was.

    Its answer can only be the same again, so that nothing more is spent on it.
    """
    earlier = runs.search(store, f"tags.`{QUESTION}` = '{question}'")
    return min((int(r.tags["surefit.look"]) for r in earlier), default=None)


def repeat(run: Run, look: int) -> None:
    """Write down that an earlier look is used once more; it is not counted again."""
    run.log([Tag(key="surefit.look", value=str(look)), Tag(key="surefit.look.again", value="yes")])
