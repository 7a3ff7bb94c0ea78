"""The winner's score, corrected for the luck that made it the winner.

The pick is repeated on four random fifths of the rows and scored on the fifth, 250 times; the mean
is the corrected value. No model is fitted again. The score on rows left out is a jackknife's
pseudo-value (Tukey 1958), from the values on all rows and on those kept: exact for a mean over
rows, defined where a few rows alone have no AUC, and free of what R² or F1 lack on few rows. Every
candidate that took part in the picking is to be given, and no other.

The bootstrap in the place of fifths (Tsamardinos, Greasidou and Borboudakis 2018) picks with twice
the noise of the pick on all rows and is too strict; smaller parts are too kind, since fold models
that were fitted on each other's rows share luck that no resampling sees (docs/statistics.md has the
figures). It gives the interval its width, which is more than need be: a resample leaves 37 % of the
rows to score on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core.metrics import Floats, Metric
from surefit.core.ranking import best_first
from surefit.core.resampling import Layout
from surefit.results import plain
from surefit.wording import short

METHOD = "picked on four fifths of the rows, scored on the fifth"
PARTS, REPEATS = 5, 50  # of the rows: the pick is repeated on all but one, each left out once


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The winner's score, corrected for having been picked.

    Attributes:
        metric, greater_is_better: the metric.
        name: the candidate picked on all rows.
        raw: its value there.
        value: the bias-corrected value.
        low, high: bootstrap interval at `level`; covers more than that: wider than it need be.
        bias: how much `raw` flatters; positive where it looks too good, whatever the direction.
        n_rows, n_candidates: what it was picked on and from.
        reliable, note: as in `results.Score`.
    """

    metric: str
    greater_is_better: bool
    name: str
    raw: float
    value: float
    low: float
    high: float
    bias: float
    level: float
    n_rows: int
    n_candidates: int
    method: str = METHOD
    reliable: bool = True
    note: str = ""

    def __str__(self) -> str:
        ends = f"[{short(self.low)}, {short(self.high)}]"
        return f"{self.name}: {self.metric} {short(self.value)} {ends} (raw {short(self.raw)})"

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self))


def picked_apart(
    metric: Metric, parts: Sequence[Any], raw: Floats, rows: Layout, seed: int
) -> Floats:
    """Rows (b, 3): the share left out, and what of the pick's and the best's value lies there.

    The pick is the best on the rows kept. Each of `parts` is a candidate; `raw` (c,) holds their
    values on all rows.
    """
    best, found = int(best_first(metric.sign * raw)[0]), [np.zeros((0, 3))]
    for kept in rows.kept(PARTS, REPEATS, seed):
        inside = np.hstack([part(kept) for part in parts])
        chosen, left = _picks(metric, inside), rows.share(1 - kept)
        pick = elsewhere(raw[chosen], inside[np.arange(len(kept)), chosen], left)
        found.append(np.column_stack([left, pick, elsewhere(raw[best], inside[:, best], left)]))
    return np.concatenate(found)


def elsewhere(whole: Floats | float, inside: Floats, left: Floats) -> Floats:
    """What of a value lies in the rows left out (b,): what the rows kept do not account for.

    Over parts that make up all rows it sums, for a mean over rows, to the value. It is not the
    value of those rows alone: few rows have no AUC, and an R² of any size.

    Args:
        whole, inside: the value on all rows, and (b,) on the rows kept.
        left: (b,) the share of the rows left out.
    """
    return np.asarray(whole - (1 - left) * inside)


def left_over(
    metric: Metric, parts: Sequence[Any], raw: Floats, counts: Floats, rows: Layout, *,
    drawn: Floats | None = None,
) -> Floats:  # fmt: skip
    """Rows (b, 2): the share not drawn, and what of the value of the best of the drawn is there.

    `counts` (b, n) are the draws; `drawn` (b, c) holds the candidates' values on the rows drawn,
    where they are known.
    """
    drawn = np.hstack([part(counts) for part in parts]) if drawn is None else drawn
    chosen, kept = _picks(metric, drawn), (counts > 0).astype(np.float64)
    inside, left = np.empty(len(counts)), rows.share(1 - kept)
    for j in np.unique(chosen):
        inside[chosen == j] = parts[j](kept[chosen == j])[:, 0]
    return np.column_stack([left, elsewhere(raw[chosen], inside, left)])


def _picks(metric: Metric, values: Floats) -> NDArray[np.intp]:
    """The best candidate of each row (b, c); what is undefined is no candidate."""
    oriented = np.where(np.isnan(values), -np.inf, metric.sign * values)
    return np.asarray(np.argmax(oriented, axis=1))


def summed_up(
    metric: Metric, names: Sequence[str], raw: Floats, parts: Floats, drawn: Floats, *,
    rows: Layout, level: float,
) -> Corrected:  # fmt: skip
    """The correction from raw values (c,), `picked_apart` (b, 3), and `left_over` (b, 2).

    Where rows do not count alike (clusters, weights) only what the pick lacks beside the best is
    taken off, so that nothing is where the pick is always the best.
    """
    best = int(best_first(metric.sign * raw)[0])
    parts, drawn = parts[~np.isnan(parts).any(axis=1)], drawn[~np.isnan(drawn).any(axis=1)]
    drawn, total = drawn[drawn[:, 0] > 0], float(parts[:, 0].sum())
    if total > 0 and len(parts) > 1 and len(drawn) > 1:
        _, pick, same = parts.sum(axis=0) / total
        center = pick if rows.alike else raw[best] + pick - same
        reach = np.quantile(_scores(drawn, rows), [(1 - level) / 2, (1 + level) / 2])
        value, low, high = np.clip(center + np.array([0.0, *reach]), *metric.bounds).tolist()
        doubt = rows.doubt
    else:
        value = low = high = float("nan")
        doubt = "too few rows or clusters to leave any out"
    return Corrected(
        metric=metric.name, greater_is_better=metric.greater_is_better, name=names[best],
        raw=float(raw[best]), value=value, low=low, high=high,
        bias=float(metric.sign * (raw[best] - value)), level=level, n_rows=len(rows.order),
        n_candidates=len(raw), reliable=not doubt, note=doubt,
    )  # fmt: skip


def _scores(drawn: Floats, rows: Layout) -> Floats:
    """Scores on the rows not drawn, less their mean (b,); from `left_over` (b, 2).

    What lies there by its share; where rows do not count alike the share may be next to nothing,
    and the ratio is taken to first order around its mean.
    """
    left, lie = drawn.T
    if rows.alike:
        return np.asarray(lie / left - (lie / left).mean())
    return np.asarray((lie - left * lie.sum() / left.sum()) / left.mean())
