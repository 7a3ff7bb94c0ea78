"""Many candidates on the same rows: their differences, and which are tied with the best.

Everything is paired: all candidates see the same resamples, so that what is hard in the rows
cancels. Differences are in the metric's units and positive where the first is better, whatever
the metric's direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from surefit.core.metrics import Floats, Metric
from surefit.core.resampling import Layout, freedom, influence, layout, mean_of_folds
from surefit.errors import DataError
from surefit.results import plain

ROUNDING = 1e-12  # of the values' size: what differs by less is equal


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better `a` is than `b` on the same rows, with its interval.

    Attributes:
        metric: the metric's name.
        a, b: the candidates' names.
        value: in the metric's units; positive where `a` is better.
        low, high: the ends at `level`; simultaneous over all pairs in a `Ranking`.
        spread: the bootstrap's standard error.
        level: coverage aimed at.
        n_rows: rows compared.
        method: how the interval was made.
        rows_to_decide: rows at which the interval would leave out 0 were the difference and the
            spread to stay as they are; None where it does already, or never would.
        reliable, note: as in `results.Score`.
    """

    metric: str
    a: str
    b: str
    value: float
    low: float
    high: float
    spread: float
    level: float
    n_rows: int
    method: str
    rows_to_decide: int | None = None
    reliable: bool = True
    note: str = ""

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        ends = f"[{self.low:.4g}, {self.high:.4g}]"
        return f"{self.a} - {self.b}: {self.metric} {self.value:+.4g} {ends}"

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self))


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidates from best to worst, and those that cannot be told from the best.

    Attributes:
        metric, greater_is_better: the metric.
        best: the candidate of the best value; of equals (but for rounding) the first given.
        values: each candidate's value, best first.
        differences: of the best (`a`) to each other candidate (`b`), so never negative.
        tied: the best and all whose interval holds 0, best first.
        critical: the max-|T| quantile in standard errors.
        level: the probability that all pairs' intervals hold at once.
        n_rows: rows compared.
        reliable, note: as in `results.Score`.
    """

    metric: str
    greater_is_better: bool
    best: str
    values: Mapping[str, float]
    differences: Mapping[str, Difference]
    tied: tuple[str, ...]
    critical: float
    level: float
    n_rows: int
    reliable: bool = True
    note: str = ""

    @property
    def rows_to_decide(self) -> dict[str, int | None]:
        """For each candidate tied with the best, the rows that would tell them apart."""
        return {name: self.differences[name].rows_to_decide for name in self.tied[1:]}

    def __str__(self) -> str:
        lines = [
            f"{'=' if name in self.tied else ' '} {name}  {self.metric} {value:.4g}"
            for name, value in self.values.items()
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self)) | {"rows_to_decide": self.rows_to_decide}


# --- candidates under the same resamples ---


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Oriented so that greater is better: values (c,), draws (b, c), units (c, u) or None."""

    rows: Layout
    values: Floats
    draws: Floats
    units: Floats | None

    def between(self, a: int, b: int) -> tuple[float, Floats, Floats | None]:
        """The difference, its draws and its units."""
        units = None if self.units is None else self.units[a] - self.units[b]
        return float(self.values[a] - self.values[b]), self.draws[:, a] - self.draws[:, b], units


def parts_of(
    metric: Metric, y: NDArray[Any], preds: Sequence[NDArray[Any]], rows: Layout
) -> list[Callable[[Floats], Floats]]:
    """For each candidate, a function from weights (b, n) to values (b, 1); in `rows.order`."""
    return [mean_of_folds([metric], y, pred, rows) for pred in preds]


def paired(
    metric: Metric,
    y: NDArray[Any],
    preds: Sequence[NDArray[Any]],
    *,
    rows: Layout,
    n_resamples: int,
    seed: int,
) -> Paired:
    y = np.asarray(y)[rows.order]
    sorted_preds = [np.asarray(pred)[rows.order] for pred in preds]
    parts = parts_of(metric, y, sorted_preds, rows)
    draws = [np.hstack([part(c) for part in parts]) for c in rows.draws(n_resamples, seed)]
    return pair_up(metric, y, sorted_preds, rows=rows, parts=parts, draws=np.concatenate(draws))


def pair_up(
    metric: Metric,
    y: NDArray[Any],
    preds: Sequence[NDArray[Any]],
    *,
    rows: Layout,
    parts: Sequence[Callable[[Floats], Floats]],
    draws: Floats,
) -> Paired:
    """Candidates with their values under the same resamples (b, c); all in `rows.order`.

    Raises:
        DataError: the metric is undefined on these rows.
    """
    values = np.hstack([part(np.ones((1, len(y)))) for part in parts])[0]
    if np.isnan(values).any():
        raise DataError(f"{metric.name} is undefined on these {len(y)} rows: nothing to compare.")
    draws = draws[~np.isnan(draws).any(axis=1)]
    found = [influence(metric, y, pred, rows) for pred in preds]
    units = [metric.sign * u for u in found if u is not None]
    return Paired(
        rows=rows,
        values=metric.sign * values,
        draws=metric.sign * draws,
        units=np.array(units) if len(units) == len(found) else None,
    )


def enough_rows(n: int, gap: float, reach: float) -> int | None:
    """Rows at which an interval reaching `reach` on `n` rows would reach only `gap`."""
    if gap == 0 or reach == 0 or not math.isfinite(reach / gap):
        return None
    return max(n + 1, math.ceil(n * (reach / gap) ** 2))


def spread_of(draws: Floats) -> float:
    """Standard deviation, 0 where it is rounding only."""
    spread = float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
    return spread if spread > ROUNDING * max(1.0, float(np.abs(draws).max())) else 0.0


# --- the best of many ---


def rank(
    metric: Metric,
    y: NDArray[Any],
    candidates: Mapping[str, NDArray[Any]],
    *,
    folds: Any = None,
    clusters: Any = None,
    weights: Any = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Ranking:
    """Candidates from best to worst, with those that cannot be told from the best.

    Intervals hold for all pairs at once, by the quantile of the largest studentised difference
    among the bootstrap's (max-|T|: Westfall and Young 1993), so that those with the *observed*
    best are covered although the data chose it, as multiple comparisons with the best need (Hsu
    1996). Of equal candidates, however many, any is called worse with probability 1 - level.
    Assumes what `stats.scores` does. Identical predictions are tied with an interval of [0, 0].

    Raises:
        DataError: no candidates, or the metric is undefined on these rows.
    """
    if not candidates:
        raise DataError("no candidates to rank.")
    rows = layout(len(y), folds=folds, clusters=clusters, weights=weights)
    every = paired(
        metric, y, list(candidates.values()), rows=rows, n_resamples=n_resamples, seed=seed
    )
    return ranked(metric, list(candidates), every, level=level)


def ranked(metric: Metric, given: Sequence[str], every: Paired, *, level: float) -> Ranking:
    """The ranking of the candidates `given`, from their values under the same resamples."""
    rows = every.rows
    order = best_first(every.values)
    names = [given[j] for j in order]
    critical = _largest(every, level)
    differences = {
        names[k]: _to_best(metric, every, names, order, k=k, critical=critical, level=level)
        for k in range(1, len(names))
    }
    tied = [name for name, difference in differences.items() if not difference.differs]
    doubt = rows.doubt
    return Ranking(
        metric=metric.name, greater_is_better=metric.greater_is_better, best=names[0],
        values={name: float(metric.sign * every.values[j])
                for name, j in zip(names, order, strict=True)},
        differences=differences, tied=(names[0], *tied), critical=critical, level=level,
        n_rows=len(rows.order), reliable=not doubt, note=doubt,
    )  # fmt: skip


def best_first(values: Floats) -> NDArray[np.intp]:
    """Places by value, the greatest first; those that differ by rounding alone as they were given.

    So that equals stand in an order that the caller chose, whatever a sum's last digits are.
    """
    order = np.argsort(-values, kind="stable")
    near = ROUNDING * max(1.0, float(np.abs(values).max(initial=0.0)))
    group = np.cumsum(np.r_[False, -np.diff(values[order]) > near])
    return order[np.lexsort((order, group))]


def _largest(every: Paired, level: float) -> float:
    """The quantile of max over pairs of |T|; at least the normal one for a single pair."""
    centred = every.draws - every.values
    largest = np.zeros(len(centred))
    for j in range(centred.shape[1] - 1):
        pairs = centred[:, j : j + 1] - centred[:, j + 1 :]
        spreads = np.array([spread_of(pair) for pair in pairs.T])
        differ = spreads > 0
        if differ.any():
            studentised = np.abs(pairs[:, differ]) / spreads[differ]
            np.maximum(largest, studentised.max(axis=1), out=largest)
    return max(float(np.quantile(largest, level)), float(-ndtri((1 - level) / 2)))


def _to_best(
    metric: Metric,
    every: Paired,
    names: list[str],
    order: NDArray[np.intp],
    *,
    k: int,
    critical: float,
    level: float,
) -> Difference:
    rows, n = every.rows, len(every.rows.order)
    value, draws, units = every.between(int(order[0]), int(order[k]))
    spread = spread_of(draws)
    # The same tail from Student's t, and the bootstrap's variance expanded: see `widening`.
    wide = -stdtrit(freedom(units, rows.spare), float(ndtr(-critical)))
    reach = float(wide * np.sqrt(rows.n_units / max(rows.spare, 1)) * spread)
    doubt = rows.doubt
    return Difference(
        metric=metric.name, a=names[0], b=names[k], value=value, low=value - reach,
        high=value + reach, spread=spread, level=level, n_rows=n,
        method="simultaneous, max-|T| bootstrap",
        rows_to_decide=enough_rows(n, value, reach) if value <= reach else None,
        reliable=not doubt, note=doubt,
    )  # fmt: skip
