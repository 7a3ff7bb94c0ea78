"""Which equal rows are copies of each other, and which are equal because many rows are.

A copy of a training row tells the answer of the row that is scored, so copies stay together in a
split. Rows of a usual kind must not: new rows will be of it, too, and kept together they would fill
a fold, or be a stranger to the model that scores them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from surefit.core.digest import mixed, row_keys

COMMON_SHARE, COMMON_ROWS = 0.05, 20  # of one kind, from which on it is usual
MORE = 4  # times as many rows of a kind as independent columns would give: no more are usual


def usual(row_key: np.ndarray, table: pd.DataFrame, target: str, counted: np.ndarray) -> np.ndarray:
    """(n,) which rows are of a kind so frequent that equal rows of it are no copies.

    Such a kind is a twentieth of the table (an empty form, a blank image); or independent columns
    would give one row of it at least, as in a table of a few columns with a few levels, and there
    are not many more. Where the features alone are of such a kind, so are their rows with one
    target, by the same measure: the few blank images of the rare class.

    Args:
        row_key: (n,) equal for rows of one kind, target and all.
        table: the columns by which rows are equal.
        target: which of them is the target.
        counted: (n,) True for the rows that decide.
    """
    if not _nth(row_key).any():
        return np.zeros(len(row_key), dtype=bool)
    n = max(1, int(counted.sum()))
    features = table.drop(columns=target)
    frequent, found = _frequent(row_key, table, counted, n)
    blank, alike = _frequent(row_keys(features), features, counted, n)
    expected = alike * _share(table[target], counted, n)
    return np.asarray(frequent | (blank & (expected >= 1) & (found <= MORE * expected)))


def _frequent(
    row_key: np.ndarray, table: pd.DataFrame, counted: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) which rows are of a frequent kind, and how many of the counted rows are of a row's."""
    _, first, kind = np.unique(row_key, return_index=True, return_inverse=True)
    kind = kind.ravel()
    found = np.bincount(kind[counted], minlength=len(first))
    common = found >= max(COMMON_ROWS, COMMON_SHARE * n)
    expected = np.where(found >= 2, float(n), 0.0)
    for name in table.columns:
        if expected.max(initial=0.0) < 1:
            break
        expected *= _share(table[name], counted, n)[first]
    usual = common | ((expected >= 1) & (found <= MORE * expected))
    return usual[kind], found[kind]


def _share(values: pd.Series, counted: np.ndarray, n: int) -> np.ndarray:
    """(n,) the share of the counted rows that have a row's value."""
    # by keys, since cells of a column that is dropped may be anything
    level = np.unique(row_keys(values.to_frame()), return_inverse=True)[1].ravel()
    return np.asarray(np.bincount(level[counted], minlength=int(level.max()) + 1)[level] / n)


def units(
    row_key: np.ndarray, is_usual: np.ndarray, known: np.ndarray, n_known: np.ndarray
) -> np.ndarray:
    """(n,) keys by which copies are one, and a row of a usual kind is one of its own.

    What was known stays as it was when rows are appended: of a kind that has become usual the rows
    that were one remain one, and the others are divided; a kind that was divided remains so.

    Args:
        row_key, is_usual: as in `usual`.
        known, n_known: (u,) the units of an earlier division, sorted, and how many rows each had.
    """
    nth = _nth(row_key)
    if not nth.any():
        return row_key
    together = np.where(is_usual, 1, len(row_key)).astype("uint64")  # of a kind, the first so many
    if len(known):
        place = np.minimum(np.searchsorted(known, row_key), len(known) - 1)
        was, n_was = known[place] == row_key, n_known[place].astype("uint64")
        divided = np.isin(_of(row_key, n_was), known)
        together = np.where(was & (divided | is_usual), n_was, together)
    return np.where(nth < together, row_key, _of(row_key, nth))


def apart(row_key: np.ndarray) -> np.ndarray:
    """(n,) a key of its own for each row: those of one kind are told apart by their order."""
    return _of(row_key, _nth(row_key))


def _nth(row_key: np.ndarray) -> np.ndarray:
    """(n,) how many rows of its kind come before each row."""
    order = np.argsort(row_key, kind="stable")
    place = np.arange(len(order))
    begins = np.append(True, np.diff(row_key[order]) != 0)[: len(order)]
    nth = np.empty(len(order), dtype="uint64")
    nth[order] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return nth


def _of(row_key: np.ndarray, nth: np.ndarray) -> np.ndarray:
    """The key of the nth row of its kind, counted from 0."""
    with np.errstate(over="ignore"):
        return np.asarray(row_key + mixed(nth))


def codes(values: pd.Series) -> np.ndarray:
    """(n,) a code for each distinct value, in order of appearance; a missing one has one, too."""
    return np.asarray(pd.factorize(values, use_na_sentinel=False)[0])


def by_chance(table: pd.DataFrame) -> float:
    """The share of rows that would have an equal one, were the columns independent."""
    log_same, n = 0.0, len(table)
    for name in table.columns:
        shares = np.bincount(codes(table[name])) / n
        log_same += float(np.log((shares**2).sum()))
    return float(-np.expm1(-n * np.exp(log_same)))


def repeated(keys: np.ndarray, *, first: bool = True) -> float:
    """The share of rows with an equal one; without the first of each where not asked for."""
    counts = np.unique(keys, return_counts=True)[1]
    return float((counts[counts > 1] - (not first)).sum() / max(1, len(keys)))


def torn(keys: np.ndarray, block: np.ndarray) -> float:
    """The share of rows with an equal row in another block."""
    if len(np.unique(block)) < 2:
        return 0.0
    kind = np.unique(keys, return_inverse=True)[1].ravel()
    low = np.full(kind.max() + 1, np.iinfo("int64").max)
    high = np.full(kind.max() + 1, -1)
    np.minimum.at(low, kind, block)
    np.maximum.at(high, kind, block)
    return float((low < high)[kind].mean())
