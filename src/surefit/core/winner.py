"""The winner's score, corrected for the luck that made it the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core.metrics import Floats, Metric
from surefit.core.ranking import best_first, doubt_about
from surefit.core.resampling import Layout, layout, mean_of_folds
from surefit.errors import DataError
from surefit.results import plain, short


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The winner's score, corrected for having been picked.

    Attributes:
        metric, greater_is_better: the metric.
        name: the candidate picked on all rows.
        raw: its value there.
        value: the bias-corrected value.
        low, high: percentile interval at `level`; covers more than that: wider than it need be.
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
    method: str = "bootstrap bias correction (wider than it need be)"
    reliable: bool = True
    note: str = ""

    def __str__(self) -> str:
        ends = f"[{short(self.low)}, {short(self.high)}]"
        return f"{self.name}: {self.metric} {short(self.value)} {ends} (raw {short(self.raw)})"

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self))


def corrected_best(
    metric: Metric,
    y: NDArray[Any],
    candidates: Mapping[str, NDArray[Any]],
    *,
    folds: Any = None,
    clusters: Any = None,
    weights: Any = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Corrected:
    """The best candidate's score, corrected for having been picked on these rows.

    Bootstrap bias correction (Tsamardinos, Greasidou and Borboudakis 2018): in each resample the
    best is picked on the rows drawn and scored on those not drawn. The corrected value is the raw
    one plus the mean of what those scores differ from the winner's own on the same rows: for a mean
    over rows that is the mean of those scores, and where a metric's expectation depends on the
    number of rows (R², F1) that cancels. No model is fitted again. Give every candidate that took
    part in the picking and no other.

    The interval, their percentiles moved alike, is wider than it need be: a resample leaves 37 % of
    the rows to score on. Luck that fold models share, being fitted on each other's rows, is not
    seen, and picks on resamples are noisier than the one on all rows: errors that go against each
    other (docs/statistics.md has how nearly they cancel).

    Raises:
        DataError: no candidates, or the metric is undefined on these rows.
    """
    if not candidates:
        raise DataError("no candidates to pick from.")
    rows = layout(len(y), folds=folds, clusters=clusters, weights=weights)
    y = np.asarray(y)[rows.order]
    parts = [
        mean_of_folds([metric], y, np.asarray(p)[rows.order], rows) for p in candidates.values()
    ]
    raw = np.hstack([part(np.ones((1, len(y)))) for part in parts])[0]
    if np.isnan(raw).any():
        raise DataError(f"{metric.name} is undefined on these {len(y)} rows: nothing to pick from.")
    best = int(best_first(metric.sign * raw)[0])
    kept = np.concatenate(
        [
            left_over(metric, parts, np.hstack([part(c) for part in parts]), c, best=best)
            for c in rows.draws(n_resamples, seed)
        ]
    )
    return summed_up(metric, list(candidates), raw, kept, rows=rows, level=level)


def summed_up(
    metric: Metric, names: Sequence[str], raw: Floats, kept: Floats, *, rows: Layout, level: float
) -> Corrected:
    """The correction from the raw values (c,) and what `left_over` gave in resamples (b, 2)."""
    best = int(best_first(metric.sign * raw)[0])
    kept = kept[~np.isnan(kept).any(axis=1)]
    found = len(kept) > 1
    moved = kept[:, 0] + (raw[best] - kept[:, 1].mean()) if found else np.zeros(0)
    value = float(moved.mean()) if found else float("nan")
    low, high = np.quantile(moved, [(1 - level) / 2, (1 + level) / 2]) if found else (value, value)
    doubt = doubt_about(rows) if found else "too few rows or clusters to leave any out"
    return Corrected(
        metric=metric.name, greater_is_better=metric.greater_is_better,
        name=names[best], raw=float(raw[best]), value=value, low=float(low),
        high=float(high), bias=float(metric.sign * (raw[best] - value)), level=level,
        n_rows=len(rows.order), n_candidates=len(raw), reliable=not doubt, note=doubt,
    )  # fmt: skip


def left_over(
    metric: Metric, parts: Sequence[Any], drawn: Floats, counts: Floats, *, best: int
) -> Floats:
    """On rows not drawn (b, 2): the candidate that is best on the rows drawn, and `best`.

    `drawn` (b, c) holds the candidates' values on the rows drawn, `counts` (b, n) the draws; `best`
    is the candidate picked on all rows.
    """
    winner = np.argmax(np.where(np.isnan(drawn), -np.inf, metric.sign * drawn), axis=1)
    rest = (counts == 0).astype(np.float64)
    out = np.full((len(counts), 2), np.nan)
    out[:, 1] = parts[best](rest)[:, 0]
    out[winner == best, 0] = out[winner == best, 1]
    for j in np.unique(winner[winner != best]):
        out[winner == j, 0] = parts[j](rest[winner == j])[:, 0]
    return out
