"""The ledger of looks at test rows: each join with their targets is counted, by the rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from surefit.core import looks
from surefit.edges import runs
from surefit.edges.runs import Run
from surefit.edges.store import Store
from surefit.results import Item, Table, Tag

ROWS = "look/rows.parquet"


def next_look(store: Store, row_key: np.ndarray) -> int:
    """Which look at these rows the coming one is, from 1; looks that failed half-way count too."""
    earlier = [
        r.run_id for r in runs.search(store, "tags.`surefit.look` LIKE '%'") if r.kind != "compare"
    ]
    tables = (runs.read_table(store, run_id, ROWS) for run_id in earlier)
    seen = [t["row_key"].to_numpy(dtype="uint64") for t in tables if t is not None]
    return looks.number(row_key, seen)


def take(run: Run, row_key: np.ndarray, look: int) -> None:
    """Write the look down, before the targets are joined."""
    items: Iterable[Item] = (
        Table(path=ROWS, frame=pd.DataFrame({"row_key": row_key})),
        Tag(key="surefit.look", value=str(look)),
    )
    run.log(items)
