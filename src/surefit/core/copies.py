"""Which equal rows are copies of each other, and which are equal because many rows are.

A copy of a training row tells the answer of the row that is scored, so copies stay together in a
split. Rows that are equal without being copies must not: new rows will be equal to old ones, too,
and kept together they would fill a fold, or be a stranger to the model that scores them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

COMMON_SHARE, COMMON_ROWS = 0.05, 20  # of one kind, from which on its rows are no copies
NEVER = 1e-9  # a share from which on it does not matter how much smaller it is
COARSE = 0.05  # rows with an equal one by chance alone, from which on no row is a copy


def units(row_key: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """(n,) keys by which copies are one, and every other row is one of its own.

    The nth of equal rows has the same key whatever rows are appended, as long as what is appended
    does not make its kind common, or the table coarse.

    Args:
        row_key: (n,) uint64, equal for equal rows.
        table: the columns that a row is equal by.
    """
    if row_key.size == np.unique(row_key).size:
        return row_key
    no_copies = np.ones(len(row_key), bool) if by_chance(table) >= COARSE else common(row_key)
    at = np.flatnonzero(no_copies)
    nth = pd.Series(row_key[at]).groupby(row_key[at]).cumcount().to_numpy().astype("uint64")
    unit = row_key.copy()
    with np.errstate(over="ignore"):
        unit[at] += nth * np.uint64(0x9E3779B97F4A7C15)
    return unit


def common(keys: np.ndarray, least: float = COMMON_SHARE) -> np.ndarray:
    """(n,) which rows are of so frequent a kind that they are no copies.

    Such a row is a usual state of things, as an empty form or a blank image is.

    Args:
        keys: (n,) equal for equal rows.
        least: the kind's share of the rows; there must be `COMMON_ROWS` of it, too.
    """
    _, code, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray((counts >= max(COMMON_ROWS, least * len(keys)))[code.ravel()], dtype=bool)


def by_chance(table: pd.DataFrame) -> float:
    """The share of rows that would have an equal one, were the columns independent."""
    log_same, n = 0.0, len(table)
    for name in table.columns:
        shares = np.bincount(codes(table[name])) / n
        log_same += float(np.log((shares**2).sum()))
        if log_same + np.log(n) < np.log(NEVER):
            break
    return float(-np.expm1(-n * np.exp(log_same)))


def codes(values: pd.Series) -> np.ndarray:
    """(n,) a code for each distinct value, a missing one too."""
    return np.asarray(pd.factorize(values, use_na_sentinel=False)[0])


def repeated(keys: np.ndarray, *, first: bool = True) -> float:
    """The share of rows with an equal one; without the first of each where not asked for."""
    counts = np.unique(keys, return_counts=True)[1]
    return float((counts[counts > 1] - (not first)).sum() / max(1, len(keys)))


def torn(keys: np.ndarray, block: np.ndarray) -> float:
    """The share of rows with an equal row in another block."""
    if len(np.unique(block)) < 2:
        return 0.0
    kind = np.unique(keys, return_inverse=True)[1]
    low = np.full(kind.max() + 1, np.iinfo("int64").max)
    high = np.full(kind.max() + 1, -1)
    np.minimum.at(low, kind, block)
    np.maximum.at(high, kind, block)
    return float((low < high)[kind].mean())
