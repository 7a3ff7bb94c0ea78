"""Which rows are test rows and which fold scores a row; frozen, with a digest."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from surefit.core import copies
from surefit.core.data import Dataset
from surefit.errors import DataError
from surefit.sections import SplitConfig, seconds
from surefit.wording import counted

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
        unit: (n_rows,) what is never divided: the group, the id, or the copies of a row.
        kind: in words, e.g. "5 folds, stratified".
        digest: SHA-256 of the assignment and the row ids.
        cuts: where the scored blocks start in time, then the test rows; None where time is not
            what divides.
        time, gap: rows nearer than `gap` to a scored block do not train its model.
        kept: whether an earlier split decided.
    """

    block: np.ndarray = field(repr=False)
    unit: np.ndarray = field(repr=False)
    groups: np.ndarray | None = field(repr=False)
    ordered: bool
    n_folds: int
    kind: str
    seed: int
    digest: str
    cuts: np.ndarray | None = field(default=None, repr=False)
    time: np.ndarray | None = field(default=None, repr=False)
    gap: float = 0.0
    kept: bool = False

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
        if self.gap and self.time is not None and valid.any():
            train &= self.time < self.time[valid].min() - self.gap
        return np.flatnonzero(train), np.flatnonzero(valid)

    def fold_of_rows(self) -> np.ndarray:
        """(len(scored_rows),) the fold that scores each scored row."""
        return np.asarray(self.block[self.scored_rows].astype("int64") - int(self.ordered))

    def folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each fold's (training, scored) row numbers."""
        return (self.fold(number) for number in range(self.n_folds))

    def stop_rows(self, train: np.ndarray) -> np.ndarray:
        """(len(train),) True for the rows given up for early stopping, about `STOP_SHARE` of them.

        Units stay whole: the smallest where all are larger. Of two units or one, where half of the
        rows or all would go, rows are given up, as if each were a unit.
        """
        unit = self.unit[train]
        stop = _about(unit, self.seed + 1, STOP_SHARE)
        if not stop.any() and len(np.unique(unit)) <= 2:
            stop = _about(copies.apart(unit), self.seed + 1, STOP_SHARE)
        return stop

    def describe(self) -> str:
        """One line, e.g. "5,634 rows in 5 folds, stratified; 1,409 test rows (20.0 %) sealed"."""
        n, test, lost = len(self.block), len(self.test_rows), int((self.block == UNUSED).sum())
        purged = f"; {lost:,} rows left out" if lost else ""
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


def _about(unit: np.ndarray, seed: int, wanted: float) -> np.ndarray:
    """(n,) True for about a share of the rows, in whole units; none of two units or one.

    By each unit's own place, so that appended rows move nothing; where that is far from what is
    wanted, as it may be of few units, each, by place, that brings the sum nearer to it.
    """
    place = share(unit, seed)
    by_place = place < wanted
    if wanted / 2 <= by_place.mean() <= 2 * wanted:
        return np.asarray(by_place)
    units, first, inverse, sizes = np.unique(
        unit, return_index=True, return_inverse=True, return_counts=True
    )
    taken, n, most = np.zeros(len(units), dtype=bool), 0, wanted * len(unit)
    if len(units) > 2:
        for k in np.argsort(place[first], kind="stable"):
            if abs(n + sizes[k] - most) < abs(n - most):
                taken[k], n = True, n + sizes[k]
        if not n:
            taken[sizes.argmin()] = True
    return np.asarray(taken[inverse.ravel()])


def make(data: Dataset, config: SplitConfig, frozen: Frozen | None = None) -> Split:
    """The split of a dataset; a pure function of its arguments.

    Args:
        frozen: what an earlier split of these rows decided; rows it knows keep their places, and
            so do its boundaries in time. Where most of its rows are gone it is not used, nor where
            it leaves too few rows somewhere: no row that is as late as its test rows, say.

    Raises:
        DataError: when there are too few rows, groups or times for it.
    """
    gap, horizon = (span(f"split.{k}", getattr(config, k), data) for k in ("gap", "horizon"))
    if frozen is not None and frozen.is_of(data):
        with contextlib.suppress(DataError):
            return _divided(data, config, frozen, gap, horizon)
    return _divided(data, config, None, gap, horizon)


def _divided(
    data: Dataset, config: SplitConfig, frozen: Frozen | None, gap: float, horizon: float
) -> Split:
    unit = _units(data, frozen)
    n_folds = 1 if config.valid is not None else config.folds
    cuts: np.ndarray | None = None
    if data.part is not None:
        block, ordered, n_folds, done = _given(data.part, n_folds)
    else:
        block, ordered, done = np.zeros(data.n_rows, dtype="int16"), False, False
    if data.time is not None and not done:
        kept = frozen.cuts if frozen is not None else None
        cuts = kept if kept is not None else _cuts(data.time, block, config, n_folds, horizon)
        if data.part is None and config.test > 0:
            block[data.time >= cuts[-1]] = TEST
            if not (block == TEST).any():
                raise DataError("No row is as late as the test rows that were sealed earlier.")
        _purge(block, data, gap)
    elif data.part is None:
        block[share(unit, config.seed) < config.test] = TEST
    rows = np.flatnonzero(block >= 0)
    if not len(rows):
        raise _nothing_left(block)
    if not done:
        ordered = data.time is not None or config.valid is not None
        block[rows] = _parts(data, unit[rows], rows, config, cuts, frozen)
    split = Split(
        block=block, unit=unit, groups=data.groups, ordered=ordered, n_folds=n_folds,
        kind=_kind(data, config, n_folds, ordered), seed=config.seed,
        digest=_digest(block, data.row_id, gap), cuts=cuts, time=data.time if gap else None,
        gap=gap, kept=frozen is not None,
    )  # fmt: skip
    _check(split, data)
    return split


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """What a split decided, kept so that later runs decide the same.

    Attributes:
        unit, block, count: (u,) each unit, sorted, its block, and how many rows it had; empty where
            time decides.
        cuts: the times at which the scored blocks start, then that of the test rows; or None.
    """

    unit: np.ndarray = field(repr=False)
    block: np.ndarray = field(repr=False)
    count: np.ndarray = field(repr=False)
    cuts: np.ndarray | None

    @classmethod
    def of(cls, split: Split) -> Frozen:
        """The decisions of a split."""
        unit, first, count = np.unique(split.unit, return_index=True, return_counts=True)
        if split.cuts is not None:
            unit, first, count = unit[:0], first[:0], count[:0]
        return cls(unit=unit, block=split.block[first], count=count, cuts=split.cuts)

    def is_of(self, data: Dataset) -> bool:
        """Whether it was made of these rows, or of most of them."""
        if data.time is not None:
            return self.cuts is not None
        return self.cuts is None and bool(np.isin(self.unit, _units(data, self)).mean() >= 0.5)


def _units(data: Dataset, frozen: Frozen | None) -> np.ndarray:
    """What is never divided, as an earlier split had it."""
    if not data.by_content:
        return data.unit
    none = np.zeros(0, dtype="uint64")
    known, count = (frozen.unit, frozen.count) if frozen is not None else (none, none)
    return copies.units(data.row_key, data.usual, known, count)


def span(key: str, value: str | float | None, data: Dataset) -> float:
    """A span of time in the units of the time column: nanoseconds for dates, else as it is.

    Raises:
        DataError: when there is no time column, or it is of the other kind.
    """
    if not value:
        return 0.0
    if data.time is None:
        raise DataError(f"{key} needs a time column.", 'data.time = "COLUMN"')
    if isinstance(value, str) is not data.dated:
        raise DataError(
            f"{key} = {value:g} is a number, and data.time holds dates." if data.dated
            else f'{key} = "{value}" is a duration, and data.time holds numbers.',
            f'{key} = "7d"' if data.dated else f"{key} = 7, in the units of that column",
        )  # fmt: skip
    return seconds(value) * 1e9 if isinstance(value, str) else float(value)


def read_parts(values: Sequence[object], name: str) -> np.ndarray:
    """The user's own split as `Dataset.part`: "train", "test", "valid", a fold's number, or "".

    Raises:
        DataError: when a value is none of these.
    """
    words = {"training": "train", "learn": "train", "holdout": "test", "testing": "test",
             "val": "valid", "dev": "valid", "validation": "valid", "nan": "", "none": "",
             "<na>": "", "unused": ""}  # fmt: skip
    found = []
    for value in values:
        word = "" if value is None else str(value).strip().lower()
        word = words.get(word, word.removesuffix(".0"))
        if word not in ("train", "test", "valid", "") and not word.isdigit():
            raise DataError(
                f'split.column = "{name}" holds {value!r}.',
                "write train, test, valid or the number of a fold; leave empty what is unused",
            )
        found.append(word)
    return np.asarray(found, dtype=object)


def _given(part: np.ndarray, n_folds: int) -> tuple[np.ndarray, bool, int, bool]:
    """(block, ordered, folds, whether the folds are given too) of the user's own split."""
    block = np.zeros(len(part), dtype="int16")
    block[part == "test"] = TEST
    block[part == ""] = UNUSED
    numbers = sorted({int(p) for p in part if p.isdigit()})
    if numbers:
        if (part == "valid").any() or (part == "train").any():
            raise DataError("split.column mixes numbers of folds with train or valid.")
        for code, number in enumerate(numbers):
            block[part == str(number)] = code
        if len(numbers) < 2:
            raise DataError("split.column names one fold; at least two are needed.")
        return block, False, len(numbers), True
    if (part == "valid").any():
        block[part == "valid"] = 1
        return block, True, 1, True
    return block, False, n_folds, False


def _cuts(
    time: np.ndarray, block: np.ndarray, config: SplitConfig, n_folds: int, horizon: float
) -> np.ndarray:
    """Where the scored blocks start and, last, the test rows; equal times stay together."""
    inside = time[block >= 0]
    share_of_test = config.test if (block == 0).all() else 0.0
    if horizon:
        end = inside.max()
        test = end - horizon if share_of_test else end
        starts = [test - horizon * k for k in range(n_folds, 0, -1)]
        return _just_after(np.asarray([*starts, test]), time.dtype)
    test = _cut(inside, 1 - share_of_test) if share_of_test else np.nextafter(inside.max(), np.inf)
    before = inside[inside < test]
    if len(before) == 0:
        raise DataError("All times are equal: they cannot make a split.", "leave data.time out")
    if config.valid is not None:
        starts = [_cut(before, 1 - config.valid / (1 - share_of_test))]
    else:
        starts = [_cut(before, i / (n_folds + 1)) for i in range(1, n_folds + 1)]
    return np.asarray([*starts, test], dtype="float64" if time.dtype.kind == "f" else "int64")


def _just_after(cuts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    later = np.nextafter(cuts, np.inf) if dtype.kind == "f" else np.floor(cuts).astype("int64") + 1
    return np.asarray(later)


def _cut(time: np.ndarray, at: float) -> float:
    """The first time at or after the quantile, so that equal times stay together."""
    return np.sort(time)[min(round(len(time) * at), len(time) - 1)]  # type: ignore[no-any-return]


def _nothing_left(block: np.ndarray) -> DataError:
    """Why no row is left to train on."""
    if (block == UNUSED).any():
        return DataError(
            "Every group has rows at the end of the time, so that all are groups of test rows: "
            f"their {int((block == UNUSED).sum()):,} earlier rows are left out, and none is left.",
            "data.group alone (new groups), or data.time alone (later rows of the same groups)",
        )
    return DataError(
        "All rows would be test rows: they share one time, group or content.",
        "a smaller split.test, or another data.time or data.group",
    )


def _purge(block: np.ndarray, data: Dataset, gap: float) -> None:
    """Past rows of test groups, and those nearer to the test rows than the gap, are unused."""
    assert data.time is not None
    test = block == TEST
    if not test.any():
        return
    if data.groups is not None:
        block[~test & np.isin(data.groups, np.unique(data.groups[test]))] = UNUSED
    if gap:
        block[~test & (data.time >= data.time[test].min() - gap)] = UNUSED


def _parts(
    data: Dataset, unit: np.ndarray, rows: np.ndarray, config: SplitConfig,
    cuts: np.ndarray | None, frozen: Frozen | None,
) -> np.ndarray:  # fmt: skip
    """The block of each row that is neither test nor unused; `unit` is of these rows."""
    if data.time is not None and cuts is not None:
        return np.asarray(np.searchsorted(cuts[:-1], data.time[rows], side="right"))
    if config.valid is not None:
        of_rest = config.valid / (1 - config.test) if data.part is None else config.valid
        return np.asarray(share(unit, config.seed + 2) < of_rest).astype("int16")
    if frozen is None:
        return _fold_parts(data, unit, rows, config)
    place = np.minimum(np.searchsorted(frozen.unit, unit), len(frozen.unit) - 1)
    known = (frozen.unit[place] == unit) & (frozen.block[place] >= 0)
    by_hash = np.floor(share(unit, config.seed + 4) * config.folds).astype("int16")
    return np.asarray(np.where(known, frozen.block[place], by_hash))


def _fold_parts(
    data: Dataset, unit: np.ndarray, rows: np.ndarray, config: SplitConfig
) -> np.ndarray:
    """Folds of whole units: each class dealt out in hashed order, large units by a greedy rule."""
    units, inverse, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    if len(units) < config.folds:
        what = "group" if data.groups is not None else "distinct row"
        drawn = config.test > 0 and data.part is None
        told = f" beside test rows of {config.test:.0%}" if drawn else ""
        fix = "split.test = 0, " * drawn + "fewer split.folds, or more data"
        if data.groups is not None and not data.groups.any():
            told, fix = ": data.group has one value", "leave data.group out"
        raise DataError(f"{counted(len(units), what)} cannot make {config.folds} folds{told}.", fix)
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


def _kind(data: Dataset, config: SplitConfig, n_folds: int, ordered: bool) -> str:
    how = "by time" if data.time is not None else "at random"
    if data.time is None and data.classes and config.valid is None:
        how = "stratified"
    if data.part is not None and (ordered or any(p.isdigit() for p in data.part)):
        how = "as given"
    elif data.groups is not None:
        how += ", groups kept whole"
    parts = "train and one validation set" if ordered and n_folds == 1 else f"{n_folds} folds"
    return f"{parts}, {how}"


def _check(split: Split, data: Dataset) -> None:
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


def _digest(block: np.ndarray, row_id: np.ndarray, gap: float) -> str:
    digest = hashlib.sha256(block.tobytes())
    if gap:
        digest.update(f"gap {gap}".encode())
    digest.update("\0".join(map(str, row_id)).encode())
    return digest.hexdigest()
