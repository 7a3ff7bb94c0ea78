"""Which rows vary together, so that they are drawn together: groups, blocks of time, copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core.data import Dataset
from surefit.core.split import Split

MANY_COPIES = 1.05  # times the variance of as many rows without copies, from which on they tell

NAMES = ("group", "block", "copies_of")  # columns of a predictions table that hold such codes


def named(data: Dataset) -> str:
    """The column that holds the codes of `units`."""
    return "group" if data.groups is not None else "copies_of" if data.time is None else "block"


def units(
    data: Dataset, split: Split, rows: NDArray[Any], folds: NDArray[Any] | None = None
) -> NDArray[np.int64] | None:
    """(n,) codes of what is resampled whole among these rows; None: every row stands alone.

    The groups where a group column is named; else, where a time is, blocks of consecutive times;
    else copies, the rows that the split keeps together, where these are many. Where the user names
    rows by an id, each is one of its own.
    """
    if data.groups is not None:
        return np.asarray(data.groups[rows], dtype=np.int64)
    return copies(split.unit[rows]) if data.time is None else blocks(data.time[rows], folds)


def copies(unit: NDArray[Any]) -> NDArray[np.int64] | None:
    """(n,) codes of units; None where taking rows for independent is off by little.

    A mean over n rows, m of them in a unit and equal, has the variance of independent ones times
    the sum of m² over n (Kish 1965, the design effect).
    """
    _, code, size = np.unique(unit, return_inverse=True, return_counts=True)
    if (size.astype("float64") ** 2).sum() < MANY_COPIES * len(unit):
        return None
    return np.asarray(code.ravel(), dtype=np.int64)


def blocks(time: NDArray[Any], folds: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """(n,) codes of blocks of neighbouring times; no block straddles a fold.

    Rows of one time are in one block. Of T distinct times in a fold about T^(1/3) in a row are a
    block, the length at which a block bootstrap's error shrinks fastest (Künsch 1989; Hall,
    Horowitz and Jing 1995). Assumes that rows farther apart than a block are nearly independent.
    """
    fold = np.zeros(len(time), dtype=np.int64) if folds is None else np.asarray(folds)
    out = np.zeros(len(time), dtype=np.int64)
    used = 0
    for k in np.unique(fold):
        rows = fold == k
        place = np.unique(time[rows], return_inverse=True)[1].ravel()
        n_times = int(place.max()) + 1
        n_blocks = max(1, round(n_times / max(1, round(n_times ** (1 / 3)))))
        out[rows] = used + place * n_blocks // n_times
        used += n_blocks
    return out
