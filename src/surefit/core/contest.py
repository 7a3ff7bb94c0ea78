"""All the statistics of a comparison from one set of resamples.

The ranking, each candidate's interval and that of the best corrected for having been picked see
the same resamples, and each candidate is evaluated once in each: about half of the work of one by
one, with the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core import ranking, stats, winner
from surefit.core.metrics import Floats, Metric
from surefit.core.ranking import Ranking
from surefit.core.resampling import layout
from surefit.core.winner import Corrected
from surefit.errors import DataError
from surefit.results import Score

CORRECTED_BY = 1000  # resamples of the correction, at most


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Candidates ranked, scored, and the best corrected.

    Attributes:
        ranking: as `ranking.rank` gives it.
        scores: each candidate's, as `stats.score` gives it.
        corrected: the best of all candidates and further ones, by the method of `winner`; None
            where there is a single one, which nothing was picked from.
    """

    ranking: Ranking
    scores: Mapping[str, Score]
    corrected: Corrected | None


def judge(
    metric: Metric,
    y: NDArray[Any],
    candidates: Mapping[str, NDArray[Any]],
    further: Mapping[str, NDArray[Any]],
    *,
    folds: Any = None,
    clusters: Any = None,
    weights: Any = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Contest:
    """Rank and score the candidates; the best is corrected for all, `further` ones included.

    `further` are candidates that took part in the picking and are not ranked themselves: a
    search's trials. Assumptions and sources as in `ranking.rank`, `stats.scores` and `winner`.

    Raises:
        DataError: no candidates, or the metric is undefined on these rows.
    """
    if not candidates:
        raise DataError("no candidates to rank.")
    rows = layout(len(y), folds=folds, clusters=clusters, weights=weights)
    pool = [np.asarray(p)[rows.order] for p in (*candidates.values(), *further.values())]
    sorted_y, n = np.asarray(y)[rows.order], len(candidates)
    parts = ranking.parts_of(metric, sorted_y, pool, rows)
    raw = _known(metric, np.hstack([part(np.ones((1, len(y)))) for part in parts])[0], n)
    draws, left, done = [], [], 0
    for counts in rows.draws(n_resamples, seed):
        drawn = np.hstack([part(counts) for part in parts[:n]])
        draws.append(drawn)
        few = min(len(counts), CORRECTED_BY - done) if len(pool) > 1 else 0
        if few > 0:
            rest = [part(counts[:few]) for part in parts[n:]]
            together = np.hstack([drawn[:few], *rest])
            left.append(winner.left_over(metric, parts, raw, counts[:few], rows, drawn=together))
        done += len(counts)
    every = ranking.pair_up(
        metric, sorted_y, pool[:n], rows=rows, parts=parts[:n], draws=np.concatenate(draws)
    )
    scores = {
        name: stats.scored(
            metric, sorted_y, pool[j], rows=rows, value=float(metric.sign * every.values[j]),
            draws=metric.sign * every.draws[:, j], level=level,
        )
        for j, name in enumerate(candidates)
    }  # fmt: skip
    found = None
    if left:
        found = winner.summed_up(
            metric, [*candidates, *further], raw,
            winner.picked_apart(metric, parts, raw, rows, seed), np.concatenate(left),
            rows=rows, level=level,
        )  # fmt: skip
    return Contest(
        ranking=ranking.ranked(metric, list(candidates), every, level=level), scores=scores,
        corrected=found,
    )  # fmt: skip


def _known(metric: Metric, raw: Floats, n: int) -> Floats:
    """All values (c,), of which the first `n` are the ranked candidates'."""
    if np.isnan(raw[n:]).any():
        raise DataError(f"{metric.name} is undefined for a trial: nothing to pick from.")
    return raw
