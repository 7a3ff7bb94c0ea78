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

    The pick is repeated on four random fifths of the rows and scored on the fifth, 250 times; the
    mean is the corrected value. No model is fitted again. The score on rows left out is a
    jackknife's pseudo-value (Tukey 1958), from the values on all rows and on those kept: exact for
    a mean over rows, defined where a few rows alone have no AUC, and free of what R² or F1 lack on
    few rows. Give every candidate that took part in the picking and no other.

    The bootstrap in the place of fifths (Tsamardinos, Greasidou and Borboudakis 2018) picks with
    twice the noise of the pick on all rows and is too strict; smaller parts are too kind, since
    fold models that were fitted on each other's rows share luck that no resampling sees
    (docs/statistics.md has the figures). It gives the interval its width, which is more than need
    be: a resample leaves 37 % of the rows to score on.

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
    drawn = [left_over(metric, parts, raw, c, rows) for c in rows.draws(n_resamples, seed)]
    return summed_up(
        metric, list(candidates), raw, picked_apart(metric, parts, raw, rows, seed),
        np.concatenate(drawn), rows=rows, level=level,
    )  # fmt: skip


def picked_apart(
    metric: Metric, parts: Sequence[Any], raw: Floats, rows: Layout, seed: int
) -> Floats:
    """What the best on the rows kept scores on those left out (b,), each of `parts` a candidate.

    `raw` (c,) holds the candidates' values on all rows.
    """
    found = [np.zeros(0)]
    for kept in rows.kept(PARTS, REPEATS, seed):
        inside = np.hstack([part(kept) for part in parts])
        chosen = np.argmax(np.where(np.isnan(inside), -np.inf, metric.sign * inside), axis=1)
        found.append(left_out(raw[chosen], inside[np.arange(len(kept)), chosen], kept, rows))
    return np.concatenate(found)


def left_out(whole: Floats, inside: Floats, kept: Floats, rows: Layout) -> Floats:
    """The value on rows left out (b,), from that on all rows and on those kept (b, n)."""
    weights = np.ones(kept.shape[1]) if rows.weights is None else rows.weights
    share = kept @ weights / weights.sum()
    out = np.full(len(kept), np.nan)
    np.divide(whole - share * inside, 1 - share, out=out, where=share < 1)
    return out


def left_over(
    metric: Metric, parts: Sequence[Any], raw: Floats, counts: Floats, rows: Layout, *,
    drawn: Floats | None = None,
) -> Floats:  # fmt: skip
    """What the best on the rows drawn scores on those not drawn (b,); `counts` (b, n) the draws.

    `drawn` (b, c) holds the candidates' values on the rows drawn, where they are known.
    """
    drawn = np.hstack([part(counts) for part in parts]) if drawn is None else drawn
    chosen = np.argmax(np.where(np.isnan(drawn), -np.inf, metric.sign * drawn), axis=1)
    kept = (counts > 0).astype(np.float64)
    inside = np.empty(len(counts))
    for j in np.unique(chosen):
        inside[chosen == j] = parts[j](kept[chosen == j])[:, 0]
    return left_out(raw[chosen], inside, kept, rows)


def summed_up(
    metric: Metric, names: Sequence[str], raw: Floats, apart: Floats, drawn: Floats, *,
    rows: Layout, level: float,
) -> Corrected:  # fmt: skip
    """The correction from raw values (c,), scores on rows left out, and on rows not drawn."""
    best = int(best_first(metric.sign * raw)[0])
    apart, drawn = apart[~np.isnan(apart)], drawn[~np.isnan(drawn)]
    if len(apart) > 1 and len(drawn) > 1:
        reach = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - drawn.mean()
        value, low, high = np.clip(apart.mean() + np.array([0.0, *reach]), *metric.bounds).tolist()
        doubt = doubt_about(rows)
    else:
        value = low = high = float("nan")
        doubt = "too few rows or clusters to leave any out"
    return Corrected(
        metric=metric.name, greater_is_better=metric.greater_is_better, name=names[best],
        raw=float(raw[best]), value=value, low=low, high=high,
        bias=float(metric.sign * (raw[best] - value)), level=level, n_rows=len(rows.order),
        n_candidates=len(raw), reliable=not doubt, note=doubt,
    )  # fmt: skip
