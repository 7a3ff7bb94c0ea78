"""Which rows are test rows and which fold scores a row; frozen, with a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from surefit.config import SplitConfig
from surefit.core.data import Dataset
from surefit.errors import DataError

TEST, UNUSED = -1, -2
STOP_SHARE = 0.1  # of a fold's training rows, given up for early stopping


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows divided once: sealed test rows, and blocks that are scored in turn.

    Attributes:
        block: (n_rows,) int16; TEST, UNUSED (purged), or the row's block 0, 1, …
        ordered: True when a block is scored by a model of the blocks before it (time, or one
            validation set); False when by a model of all other blocks.
        n_folds: how many blocks are scored.
        kind: in words, e.g. "5 folds, stratified".
        digest: SHA-256 of the assignment and the row ids.
    """

    block: np.ndarray = field(repr=False)
    unit: np.ndarray = field(repr=False)
    groups: np.ndarray | None = field(repr=False)
    ordered: bool
    n_folds: int
    kind: str
    seed: int
    digest: str

    @property
    def test_rows(self) -> np.ndarray:
        """Row numbers sealed for testing."""
        return np.flatnonzero(self.block == TEST)

    @property
    def train_rows(self) -> np.ndarray:
        """Row numbers that may be used for training and validation."""
        return np.flatnonzero(self.block >= 0)

    @property
    def scored_rows(self) -> np.ndarray:
        """Row numbers that some fold scores, in row order."""
        return np.flatnonzero(self.block >= (1 if self.ordered else 0))

    def fold(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers (training, scored) of fold `number`, 0 ≤ number < n_folds."""
        scored = number + 1 if self.ordered else number
        valid = self.block == scored
        train = (self.block < scored if self.ordered else self.block != scored) & (self.block >= 0)
        if self.ordered and self.groups is not None:
            train &= ~np.isin(self.groups, np.unique(self.groups[valid]))
        return np.flatnonzero(train), np.flatnonzero(valid)

    def fold_of_rows(self) -> np.ndarray:
        """(len(scored_rows),) the fold that scores each scored row."""
        return np.asarray(self.block[self.scored_rows].astype("int64") - int(self.ordered))

    def folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each fold's (training, scored) row numbers."""
        return (self.fold(number) for number in range(self.n_folds))

    def stop_rows(self, train: np.ndarray) -> np.ndarray:
        """(len(train),) True for the rows given up for early stopping; units stay whole."""
        stop = share(self.unit[train], self.seed + 1) < STOP_SHARE
        return stop if stop.any() and not stop.all() else np.zeros(len(train), dtype=bool)

    def describe(self) -> str:
        """One line, e.g. "5,634 rows in 5 folds, stratified; 1,409 test rows (20.0 %) sealed"."""
        n, test, lost = len(self.block), len(self.test_rows), int((self.block == UNUSED).sum())
        purged = f"; {lost:,} past rows of test groups left out" if lost else ""
        sealed = f"{test:,} test rows ({100 * test / n:.1f} %) sealed" if test else "no test rows"
        return f"{len(self.train_rows):,} rows in {self.kind}; {sealed}{purged}"


def share(unit: np.ndarray, seed: int) -> np.ndarray:
    """A uniform number in [0, 1) of each unit, a pure function of the unit and the seed.

    The finalizer of splitmix64 (Steele, Lea, Flood 2014), so that appended rows move nothing.
    """
    with np.errstate(over="ignore"):
        x = unit.astype("uint64") + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return np.asarray((x >> np.uint64(11)).astype("float64") / 2.0**53)


def make(data: Dataset, config: SplitConfig) -> Split:
    """The split of a dataset; a pure function of both.

    Raises:
        DataError: when there are too few rows, groups or times for it.
    """
    block = np.zeros(data.n_rows, dtype="int16")
    if data.time is not None:
        _seal_latest(block, data, config.test)
    else:
        block[share(data.unit, config.seed) < config.test] = TEST
    rows = np.flatnonzero(block >= 0)
    if not len(rows):
        raise DataError(
            "All rows would be test rows: they share one time, group or content.",
            "a smaller split.test, or another data.time or data.group",
        )
    ordered = data.time is not None or config.valid is not None
    n_folds = 1 if config.valid is not None else config.folds
    if data.time is not None:
        parts = _time_parts(data.time[rows], config, n_folds)
    elif config.valid is not None:
        parts = (share(data.unit[rows], config.seed + 2) < config.valid / (1 - config.test)) * 1
    else:
        parts = _fold_parts(data, rows, config)
    block[rows] = parts
    split = Split(
        block=block, unit=data.unit, groups=data.groups, ordered=ordered, n_folds=n_folds,
        kind=_kind(data, config), seed=config.seed, digest=_digest(block, data.row_id),
    )  # fmt: skip
    _check(split, data, config)
    return split


def _seal_latest(block: np.ndarray, data: Dataset, test: float) -> None:
    assert data.time is not None
    if test > 0:
        block[data.time >= _cut(data.time, 1 - test)] = TEST
    if data.groups is not None:
        tested = np.unique(data.groups[block == TEST])
        block[(block != TEST) & np.isin(data.groups, tested)] = UNUSED


def _cut(time: np.ndarray, at: float) -> int:
    """The first time at or after the quantile, so that equal times stay together."""
    return int(np.sort(time)[min(round(len(time) * at), len(time) - 1)])


def _time_parts(time: np.ndarray, config: SplitConfig, n_folds: int) -> np.ndarray:
    if config.valid is not None:
        cuts = [_cut(time, 1 - config.valid / (1 - config.test))]
    else:
        cuts = [_cut(time, i / (n_folds + 1)) for i in range(1, n_folds + 1)]
    return np.searchsorted(np.asarray(cuts), time, side="right")


def _fold_parts(data: Dataset, rows: np.ndarray, config: SplitConfig) -> np.ndarray:
    """Folds of whole units: each class dealt out in hashed order, large units by a greedy rule."""
    units, inverse, sizes = np.unique(data.unit[rows], return_inverse=True, return_counts=True)
    if len(units) < config.folds:
        what = "groups" if data.groups is not None else "distinct rows"
        raise DataError(
            f"{len(units)} {what} cannot make {config.folds} folds.",
            f"split.folds = {max(2, len(units))}" if len(units) >= 2 else "more data is needed",
        )
    order = np.argsort(share(units, config.seed + 3), kind="stable")
    stratum = np.zeros(len(units), dtype="int64")
    if data.classes:
        stratum[inverse] = data.y[rows]
    of_unit = np.empty(len(units), dtype="int64")
    if sizes.max() <= max(2, len(rows) // (100 * config.folds)):
        dealt = order[np.argsort(stratum[order], kind="stable")]
        of_unit[dealt] = np.arange(len(units)) % config.folds
    else:
        of_unit = _greedy(data, rows, inverse, order, config.folds)
    return of_unit[inverse]


def _greedy(
    data: Dataset, rows: np.ndarray, inverse: np.ndarray, order: np.ndarray, folds: int
) -> np.ndarray:
    """Largest unit first into the fold that keeps classes and sizes most even."""
    n_classes = max(1, len(data.classes))
    y = data.y[rows] if data.classes else np.zeros(len(rows), dtype="int64")
    counts = np.zeros((len(order), n_classes))
    np.add.at(counts, (inverse, y), 1)
    total = np.maximum(counts.sum(axis=0), 1)  # a class may have test rows only
    load = np.zeros((folds, n_classes))
    of_unit = np.empty(len(order), dtype="int64")
    for unit in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        after = (load + counts[unit]) / total
        cost = (after**2).sum(axis=1) - ((load / total) ** 2).sum(axis=1)
        best = int(np.lexsort((load.sum(axis=1), cost.round(12)))[0])
        load[best] += counts[unit]
        of_unit[unit] = best
    return of_unit


def _kind(data: Dataset, config: SplitConfig) -> str:
    how = "by time" if data.time is not None else "at random"
    if data.time is None and data.classes and config.valid is None:
        how = "stratified"
    if data.groups is not None:
        how += ", groups kept whole"
    parts = "train and one validation set" if config.valid is not None else f"{config.folds} folds"
    return f"{parts}, {how}"


def _check(split: Split, data: Dataset, config: SplitConfig) -> None:
    for number, (train, valid) in enumerate(split.folds()):
        if len(train) < 2 or len(valid) < 1:
            raise DataError(
                f"Fold {number} has too few rows: {len(train)} to train on, {len(valid)} to score.",
                "fewer split.folds, a smaller split.test, or more rows",
            )
        if len(np.unique(data.y[train])) < 2:
            raise DataError(
                f"The training rows of fold {number} hold one target value only: "
                f"{data.classes[int(data.y[train][0])] if data.classes else data.y[train][0]!r}.",
                "fewer split.folds, or more rows of the rare class",
            )


def _digest(block: np.ndarray, row_id: np.ndarray) -> str:
    digest = hashlib.sha256(block.tobytes())
    digest.update("\0".join(map(str, row_id)).encode())
    return digest.hexdigest()
