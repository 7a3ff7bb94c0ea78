"""How much one column, or two together, tell about the target: cross-fitted, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

FOLDS = 5
EXACT = 64  # so many distinct numbers stay themselves
MOST_CELLS = 256
MOST_PAIRED = 40  # columns whose pairs are looked at: the strongest


@dataclass(frozen=True, kw_only=True)
class Target:
    """The target on the rows that may be looked at.

    Attributes:
        y: (n,) class codes, or values.
        n_classes: K; 0 in regression.
        fold: (n,) which of five parts a row is in: a cell's answer comes from the other four.
    """

    y: np.ndarray = field(repr=False)
    n_classes: int
    fold: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, y: np.ndarray, n_classes: int, *, unit: np.ndarray, seed: int = 0) -> Target:
        """The target with its rows dealt out at random, those of one unit into one part."""
        code = pd.factorize(unit)[0]
        fold = (np.random.default_rng(seed).permutation(int(code.max()) + 1) % FOLDS)[code]
        return cls(y=y, n_classes=n_classes, fold=fold)


def cells(values: pd.Series) -> np.ndarray:
    """(n,) the cell of each row: a level, a number's quantile bin, or missing; from 0."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        values = values.astype("int64").where(values.notna()).astype("float64")
    if not pd.api.types.is_float_dtype(values.dtype):
        return np.asarray(pd.factorize(values, use_na_sentinel=False)[0])
    return number_cells(values.to_numpy())


def number_cells(numbers: np.ndarray) -> np.ndarray:
    """Cells of numbers: themselves where they are few, else bins of about equal size."""
    missing = np.isnan(numbers)
    present = numbers[~missing]
    distinct = np.unique(present)
    if len(distinct) > EXACT:
        n_cells = int(np.clip(len(present) // 20, 8, MOST_CELLS))
        distinct = np.unique(np.quantile(present, np.linspace(0, 1, n_cells)))
    found = np.searchsorted(distinct, numbers, side="left")
    found[missing] = len(distinct) + 1
    return np.asarray(found)


def predicted(cell: np.ndarray, target: Target) -> np.ndarray:
    """Each row's answer from the other rows of its cell: shares (n, K), or means (n,)."""
    code = np.unique(cell, return_inverse=True)[1]
    n_cells, k, y = int(code.max()) + 1, max(1, target.n_classes), target.y
    place = target.fold * n_cells + code
    counts = np.bincount(place, minlength=FOLDS * n_cells).reshape(FOLDS, n_cells)
    if target.n_classes:
        flat = np.bincount(place * k + y, minlength=FOLDS * n_cells * k)
        prior = np.bincount(y, minlength=k) / len(y)
    else:
        flat = np.bincount(place, weights=y, minlength=FOLDS * n_cells)
        prior = np.asarray([y.mean()])
    by_fold = flat.reshape(FOLDS, n_cells, k)
    sums = by_fold.sum(axis=0)[code] - by_fold[target.fold, code]
    sizes = counts.sum(axis=0)[code] - counts[target.fold, code]
    answer = (sums + prior) / (sizes + 1)[:, None]
    return np.asarray(answer if target.n_classes else answer[:, 0])


def told(cell: np.ndarray, target: Target) -> float:
    """`explained` of `predicted`, without a share for each row and class: and quicker."""
    y, n_cells = target.y, int(cell.max()) + 1
    place = target.fold * n_cells + cell
    sizes = _alike(cell) - _alike(place)
    if not target.n_classes:
        sums = _alike(cell, y) - _alike(place, y)
        return explained((sums + y.mean()) / (sizes + 1), target)
    k = target.n_classes
    shares = np.bincount(y, minlength=k) / len(y)
    own = (_alike(cell * k + y) - _alike(place * k + y) + shares[y]) / (sizes + 1)
    entropy = -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
    return 1 + float(np.log(np.clip(own, 1e-12, None)).mean()) / entropy


def told_class(cell: np.ndarray, target: Target) -> tuple[float, int]:
    """How much the cell tells of the one class that it tells most of; and that class."""
    best = (0.0, -1)
    for k, n in enumerate(np.bincount(target.y, minlength=target.n_classes)):
        if n >= 2 * FOLDS and n <= len(cell) - 2 * FOLDS:
            one = Target(y=(target.y == k).astype("int64"), n_classes=2, fold=target.fold)
            best = max(best, (told(cell, one), k))
    return best


def _alike(code: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """For each row, how many rows have its code, or the sum of their weights."""
    if code.max() > 8 * len(code):  # few of very many possible codes
        code = np.unique(code, return_inverse=True)[1]
    return np.asarray(np.bincount(code, weights=weights)[code])


def explained(answer: np.ndarray, target: Target) -> float:
    """The share of the target's deviance that an answer explains: R², or of the log-loss."""
    y = target.y
    if not target.n_classes:
        return float(1 - ((y - answer) ** 2).mean() / y.var())
    shares = np.bincount(y, minlength=target.n_classes) / len(y)
    entropy = -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
    loss = -float(np.log(np.clip(answer[np.arange(len(y)), y], 1e-12, None)).mean())
    return 1 - loss / entropy


def correlation(numbers: np.ndarray, target: Target) -> float:
    """The larger of Pearson's and Spearman's squared, in regression; 0 where undefined.

    Exact where cells are coarse, and blind to any monotone change of scale. On the rows that have
    a value, where these are half of all at least: gaps do not hide a copy of the target.
    """
    good = np.isfinite(numbers)
    if target.n_classes or good.mean() < 0.5 or np.ptp(numbers[good]) == 0:
        return 0.0
    x, y = numbers[good], target.y[good]
    if np.ptp(y) == 0:
        return 0.0
    by_rank = np.corrcoef(rankdata(x), rankdata(y))[0, 1]
    return float(max(np.corrcoef(x, y)[0, 1] ** 2, by_rank**2))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two columns that together tell the target, and by which combination."""

    columns: tuple[str, str]
    how: str
    explained: float


def pairs(
    frame: pd.DataFrame, target: Target, alone: dict[str, float], *, enough: float, gain: float
) -> Iterator[Pair]:
    """Pairs that explain `enough` of the target, and `gain` more than either column alone."""
    strongest = sorted(alone, key=lambda c: -alone[c])[:MOST_PAIRED]
    numbers = [c for c in strongest if pd.api.types.is_float_dtype(frame[c].dtype)]
    levels = [c for c in strongest if c not in numbers and frame[c].nunique() <= EXACT]
    for a, b in combinations(numbers, 2):
        found = _numbers(frame[a].to_numpy(), frame[b].to_numpy(), target)
        if found[1] >= enough and found[1] - max(alone[a], alone[b]) >= gain:
            yield Pair(columns=(a, b), how=found[0], explained=found[1])
    for a, b in combinations(levels, 2):
        first, second = cells(frame[a]), cells(frame[b])
        both = told(first * (int(second.max()) + 1) + second, target)
        if both >= enough and both - max(alone[a], alone[b]) >= gain:
            yield Pair(columns=(a, b), how="together", explained=both)


def _numbers(a: np.ndarray, b: np.ndarray, target: Target) -> tuple[str, float]:
    """The combination of two numbers that tells most: a weighted sum, or a product or ratio."""
    good = np.isfinite(a) & np.isfinite(b)
    if good.mean() < 0.9:
        return "", 0.0
    if target.n_classes:
        tried = {"+": a + b, "-": a - b}
        if (b[good] != 0).all():
            tried["/"] = np.divide(a, b, out=np.full(len(a), np.nan), where=good)
        scored = {k: told(number_cells(v), target) for k, v in tried.items()}
        how = max(scored, key=lambda k: scored[k])
        return how, scored[how]
    best = ("weighted sum", _linear(a[good], b[good], target.y[good]))
    if (a[good] > 0).all() and (b[good] > 0).all() and (target.y > 0).all():
        logs = _linear(np.log(a[good]), np.log(b[good]), np.log(target.y[good]))
        best = max(best, ("product or ratio", logs), key=lambda k: k[1])
    return best


def _linear(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> float:
    """R² of a linear fit on two columns, from their correlations."""
    if min(np.ptp(a), np.ptp(b), np.ptp(y)) == 0:
        return 0.0
    r = np.corrcoef([a, b, y])
    if abs(r[0, 1]) > 1 - 1e-9:
        return float(r[0, 2] ** 2)
    top = r[0, 2] ** 2 + r[1, 2] ** 2 - 2 * r[0, 2] * r[1, 2] * r[0, 1]
    return float(top / (1 - r[0, 1] ** 2))
