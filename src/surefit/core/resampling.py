"""Resampling of rows or clusters, within folds, and the way from resamples to an interval's ends.

Shared by the intervals of one score (`core.stats`) and by comparisons of many (`core.ranking`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from surefit.core.formulas import kish
from surefit.core.metrics import Floats, Metric, evaluator, leave_one_out
from surefit.errors import DataError

Codes = NDArray[np.intp]

FEW_CLUSTERS = 20
FEW_ROWS = 20
CELLS_A_CHUNK = 1_000_000  # 8 MB: larger chunks leave the cache and are slower
UNSEEN_TAIL = 1.5


def _codes(labels: Any, n: int, what: str) -> Codes:
    """Any labels (n,) as 0..k-1."""
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise DataError(f"{what} has shape {labels.shape}; one entry for each of {n} rows is due.")
    found: Codes = np.unique(labels, return_inverse=True)[1].reshape(n).astype(np.intp)
    return found


def resample_counts(
    n: int,
    *,
    n_resamples: int,
    seed: int,
    strata: NDArray[Any] | None = None,
    clusters: NDArray[Any] | None = None,
    cells: int = CELLS_A_CHUNK,
) -> Iterator[Floats]:
    """Chunks (b, n) of how often each row is drawn; `n_resamples` rows in all.

    Units (rows, or whole clusters) are drawn with replacement, as many as there are, within each
    stratum (a fold, for example). A chunk holds at most about `cells` numbers, so that memory is
    bounded whatever `n`. The same seed gives the same counts.

    Raises:
        DataError: a cluster lies in two strata, or lengths differ.
    """
    unit, members = _units(n, strata, clusters)
    n_units = int(unit.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    most = max(1, cells // max(n, 1))
    for start in range(0, n_resamples, most):
        b = min(most, n_resamples - start)
        counts = np.zeros((b, n_units))
        for places, m in members:
            counts[:, places] = _drawn(rng, b, m)
        yield counts if clusters is None else counts[:, unit]


def _units(
    n: int, strata: NDArray[Any] | None, clusters: NDArray[Any] | None
) -> tuple[Codes, list[tuple[Codes | slice, int]]]:
    """Each row's unit (n,), and for each stratum where its units are and how many."""
    unit = np.arange(n) if clusters is None else _codes(clusters, n, "clusters")
    stratum = np.zeros(n, dtype=np.intp) if strata is None else _codes(strata, n, "strata")
    of_unit = np.zeros(int(unit.max(initial=-1)) + 1, dtype=np.intp)
    of_unit[unit] = stratum
    if not np.array_equal(of_unit[unit], stratum):
        raise DataError("a cluster lies in two strata: draw without strata instead.")
    return unit, [_places(of_unit == s) for s in range(int(of_unit.max(initial=-1)) + 1)]


def _places(chosen: NDArray[np.bool_]) -> tuple[Codes | slice, int]:
    """Where, and how many; a slice where they are neighbours, which is quicker to fill."""
    found = np.flatnonzero(chosen)
    m = len(found)
    if m and found[-1] - found[0] == m - 1:
        return slice(int(found[0]), int(found[-1]) + 1), m
    return found, m


def _drawn(rng: np.random.Generator, b: int, m: int) -> NDArray[np.intp]:
    """(b, m) counts of m draws from m, with replacement."""
    picks = rng.integers(0, m, size=(b, m)) + (np.arange(b) * m)[:, None]
    return np.bincount(picks.ravel(), minlength=b * m).reshape(b, m)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Rows in order of fold, and what is drawn from where.

    Attributes:
        order: (n,) positions that sort the rows by fold.
        edges: (n_folds + 1,) where each fold begins in that order.
        strata: (n,) what is drawn within, in that order.
        clusters: (n,) codes of what is drawn whole, in that order; None: rows.
        n_units: rows or clusters.
        spare: units less strata: the degrees of freedom left for a spread.
        weigh_folds: folds count by the share of them drawn; where a fold is a single cluster,
            leaving it or taking it is the only variation there is.
        weights: (n,) the rows' own weights, in that order; None: all count the same.
    """

    order: Codes
    edges: Codes
    strata: Codes
    clusters: Codes | None
    n_units: int
    spare: int
    weigh_folds: bool
    weights: Floats | None = None

    @property
    def folds(self) -> list[slice]:
        """Each fold's rows in the order."""
        return [slice(a, b) for a, b in itertools.pairwise(self.edges.tolist())]

    @property
    def alike(self) -> bool:
        """Whether all rows count the same, each for itself."""
        return self.clusters is None and self.weights is None

    @property
    def effective(self) -> float:
        """Units of equal weight that would say as much (Kish)."""
        if self.weights is None:
            return float(self.n_units)
        if self.clusters is None:
            return kish(self.weights)
        return kish(np.bincount(self.clusters, weights=self.weights).astype(np.float64))

    @property
    def doubt(self) -> str:
        """Why intervals on these rows are not reliable; empty where they are."""
        what, few = ("rows", FEW_ROWS) if self.clusters is None else ("clusters", FEW_CLUSTERS)
        if self.n_units < few:
            return f"{self.n_units} {what}, fewer than {few}"
        if self.effective < few:
            return f"{self.n_units} {what} weigh like {self.effective:.0f}, fewer than {few}"
        return ""

    def share(self, counts: Floats) -> Floats:
        """The share of the rows (b,) that 0s and 1s (b, n) choose: its mean over the folds."""
        weights = np.ones(len(self.order)) if self.weights is None else self.weights
        in_fold = [(f, float(weights[f].sum())) for f in self.folds]
        found = [counts[:, f] @ weights[f] / total for f, total in in_fold if total > 0]
        return np.asarray(np.mean(found, axis=0))

    def weights_of(self, fold: slice) -> Floats | None:
        """The weights of a fold's rows."""
        return None if self.weights is None else self.weights[fold]

    def kept(self, n_parts: int, repeats: int, seed: int) -> Iterator[Floats]:
        """Chunks (b, n) of 1 for a row that is kept, 0 for one left out, in the order.

        In each repeat the units of each stratum are dealt out at random to `n_parts` parts (at most
        a part a unit) of about one size, each of which is left out once. The same seed gives the
        same.
        """
        n = len(self.order)
        unit, members = _units(n, self.strata, self.clusters)
        n_parts, rng = min(n_parts, self.n_units), np.random.default_rng(seed)

        def dealt() -> Iterator[NDArray[np.bool_]]:
            part = np.empty(self.n_units, dtype=np.intp)
            for _ in range(repeats):
                for places, m in members:  # which parts are the larger ones differs by stratum
                    part[places] = (rng.permutation(m) + rng.integers(n_parts)) % n_parts
                yield from (part[unit] != k for k in range(n_parts))

        every = dealt()
        while chunk := list(itertools.islice(every, max(1, CELLS_A_CHUNK // max(n, 1)))):
            yield np.array(chunk, dtype=np.float64)

    def draws(self, n_resamples: int, seed: int, *, cells: int = CELLS_A_CHUNK) -> Iterator[Floats]:
        """Chunks (b, n) of counts, in the order, of at most about `cells` numbers."""
        return resample_counts(
            len(self.order),
            n_resamples=n_resamples,
            seed=seed,
            strata=self.strata,
            clusters=self.clusters,
            cells=cells,
        )


def layout(n: int, *, folds: Any = None, clusters: Any = None, weights: Any = None) -> Layout:
    """How rows are arranged and drawn: within folds, and whole clusters where given.

    Clusters are drawn within folds where each fold has at least two and none straddles; otherwise
    from all of them.
    """
    fold = np.zeros(n, dtype=np.intp) if folds is None else _codes(folds, n, "folds")
    order = np.argsort(fold, kind="stable")
    fold = fold[order]
    edges = np.searchsorted(fold, np.arange(int(fold.max(initial=0)) + 2))
    unit: Codes | None = None
    n_units, strata, weigh = n, fold, False
    if clusters is not None:
        unit = _codes(clusters, n, "clusters")[order]
        n_units = int(unit.max(initial=-1)) + 1
        pairs = np.unique(np.column_stack([unit, fold]), axis=0)
        nested = len(pairs) == n_units
        alone = len(edges) > 2 and bool(np.any(np.bincount(pairs[:, 1]) < 2))
        weigh = nested and alone
        if alone or not nested:
            strata = np.zeros(n, dtype=np.intp)
    spare = n_units - (int(strata.max(initial=0)) + 1)
    return Layout(
        order=order, edges=edges, strata=strata, clusters=unit, n_units=n_units, spare=spare,
        weigh_folds=weigh, weights=_weights(weights, n, order),
    )  # fmt: skip


def _weights(weights: Any, n: int, order: Codes) -> Floats | None:
    if weights is None:
        return None
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n,) or not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise DataError(f"weights must be {n} finite numbers, none below 0.")
    return np.asarray(weights[order])


def mean_of_folds(
    metrics: Sequence[Metric], y: NDArray[Any], pred: NDArray[Any], rows: Layout
) -> Callable[[Floats], Floats]:
    """A function from weights (b, n) to the metrics (b, m), a fold at a time and then averaged.

    `y` and `pred` are in `rows.order`. Folds where a metric is undefined are left out of its mean.
    """
    if len(rows.folds) == 1:
        return evaluator(metrics, y, pred, rows.weights)
    parts = [evaluator(metrics, y[f], pred[f], rows.weights_of(f)) for f in rows.folds]

    def evaluate(weights: Floats) -> Floats:
        by_fold = np.stack([part(weights[:, f]) for part, f in zip(parts, rows.folds, strict=True)])
        share = np.ones((*by_fold.shape[:2], 1))
        if rows.weigh_folds:
            share = np.stack([weights[:, f].mean(axis=1) for f in rows.folds])[:, :, None]
        share = share * ~np.isnan(by_fold)
        total, whole = (np.nan_to_num(by_fold) * share).sum(axis=0), share.sum(axis=0)
        out = np.full(total.shape, np.nan)
        np.divide(total, whole, out=out, where=whole > 0)
        return out

    return evaluate


def influence(metric: Metric, y: NDArray[Any], pred: NDArray[Any], rows: Layout) -> Floats | None:
    """Each unit's share (n_units,) in the mean over folds; their squares sum to its variance.

    The jackknife's pseudo-values, centred, summed over a cluster's rows. None where the metric has
    no cheap leave-one-out.
    """
    shares = np.zeros(len(y))
    values = np.full(len(rows.folds), np.nan)
    for f, fold in enumerate(rows.folds):
        own = rows.weights_of(fold)
        without = leave_one_out(metric, y[fold], pred[fold], own)
        if without is None:
            return None
        m = len(without)
        values[f] = evaluator([metric], y[fold], pred[fold], own)(np.ones((1, m)))[0, 0]
        share = np.nan_to_num((m - 1) / m * (values[f] - without)) if m else without
        shares[fold] = share - share.mean() if m else share
    defined = np.flatnonzero(~np.isnan(values))
    if rows.weigh_folds and len(defined):
        for k in defined:
            part = shares[rows.folds[k]]
            part += (values[k] - values[defined].mean()) / len(part)
    shares /= max(len(defined), 1)
    if rows.clusters is None:
        return shares
    summed = np.zeros(rows.n_units)
    np.add.at(summed, rows.clusters, shares)
    return summed


def rarest(y: NDArray[Any], rows: Layout, parts: Sequence[slice]) -> tuple[int, float]:
    """The rows of the rarest class in the part that has fewest, and as how many they count."""
    found = []
    for part in parts:
        codes, place = np.unique(y[part], return_inverse=True)
        weights = rows.weights_of(part)
        for k in range(len(codes)):
            own = place == k
            n = int(own.sum())
            found.append((n, float(n) if weights is None else kish(weights[own])))
    return min(found, key=lambda one: one[1])


# --- from resamples to ends ---


def freedom(units: Floats | None, spare: int) -> float:
    """Degrees of freedom of a spread estimated from units (n,): fewer for heavy tails.

    Satterthwaite's 2 / (sum u^4 / (sum u^2)^2 - 1/n), at most `spare` and at least 1: m differing
    rows among thousands of equal ones count as about 2 m. A sample shows less of a heavy tail than
    there is, so the excess is raised by `UNSEEN_TAIL`, a factor found by simulation.
    """
    if units is None or not np.any(units):
        return float(max(spare, 1))
    square = float((units**2).sum())
    excess = float((units**4).sum()) / square**2 - 1 / len(units)
    found = 2 / (UNSEEN_TAIL * excess) if excess > 0 else np.inf
    return float(max(min(found, spare), 1.0) if spare > 1 else 1.0)


def widening(tail: float, units: Floats | None, rows: Layout) -> float:
    """How many bootstrap standard deviations leave `tail` beyond them: t's quantile, expanded.

    The bootstrap's variance is too small by (units - strata) / units, and the normal quantile
    takes the spread as known (Hesterberg 2015, "What teachers should know about the bootstrap").
    """
    spread = np.sqrt(rows.n_units / max(rows.spare, 1))
    return float(-stdtrit(freedom(units, rows.spare), tail) * spread)


def skewness(value: float, draws: Floats, units: Floats | None) -> tuple[float, float]:
    """BCa's median bias z0 and acceleration a (Efron 1987); 0, 0 without units."""
    if units is None or not np.any(units):
        return 0.0, 0.0
    near = 1e-12 * max(1.0, abs(value))
    below = np.mean(draws < value - near) + 0.5 * np.mean(np.abs(draws - value) <= near)
    edge = 1 / (len(draws) + 1)
    bias = float(ndtri(np.clip(below, edge, 1 - edge)))
    return bias, float((units**3).sum() / (6 * (units**2).sum() ** 1.5))


def ends(
    value: float, draws: Floats, units: Floats | None, *, rows: Layout, tail: float,
    most: float = np.inf,
) -> tuple[float, float]:  # fmt: skip
    """The interval that leaves `tail` on either side: BCa with units, else percentile.

    Both with quantiles expanded as in `widening`. Where fewer than 10 draws lie beyond an end,
    its quantile is not known, and the end is at least as far out as the t interval's; of a score
    that is at most `most` and has no least, that of the logarithm of what it lacks.
    """
    wide = widening(tail, units, rows)
    bias, a = skewness(value, draws, units)
    z = np.array([bias - wide, bias + wide])
    inside = 1 - a * z
    levels = ndtr(bias + z / np.where(inside > 0, inside, np.nan))
    levels = np.where(np.isnan(levels), np.array([0.0, 1.0]), levels)
    low, high = np.quantile(draws, levels)
    far_low, far_high = _t_ends(value, draws, wide, most)
    if levels[0] * len(draws) < 10:
        low = min(low, far_low)
    if (1 - levels[1]) * len(draws) < 10:
        high = max(high, far_high)
    return float(low), float(high)


def _t_ends(value: float, draws: Floats, wide: float, most: float) -> tuple[float, float]:
    if not (np.isfinite(most) and value < most and (draws < most).all()):
        reach = wide * draws.std(ddof=1)
        return value - reach, value + reach
    reach = np.exp(wide * np.log(most - draws).std(ddof=1))
    return most - (most - value) * reach, most - (most - value) / reach
