"""Where a model fails: the metric on each value or range of each column, against all other rows.

Which slices are shown to be worse is decided for all of them together, by Benjamini and Hochberg
(1995): of the slices called worse at most 5 % are expected to be called so by chance. Their proof
asks for tests that are independent or positively dependent; slices of one table overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from surefit.comparison import SliceContrast
from surefit.core import stats
from surefit.core.kinds import Column
from surefit.core.metrics import Floats, Metric
from surefit.core.predictions import Scored
from surefit.core.resampling import freedom, influence, layout, mean_of_folds
from surefit.results import Score, SliceScore
from surefit.wording import short

MAX_LEVELS = 12  # values of a column that are slices of their own; rarer ones are taken together
N_BINS = 4
SMALL = 30  # rows; and 10 of the rarest class, for ranking metrics
LEAST = 5  # rows: what is below is not shown
N_RESAMPLES = 400  # where a metric has no cheap leave-one-out
RATE = 0.05  # false among the slices called worse
MISSING = "missing"


def columns_of(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that can be sliced: all but free text."""
    return tuple(c for c in columns if c.kind != "text")


def codes(values: pd.Series, kind: str) -> tuple[np.ndarray, list[str]]:
    """Each row's slice (-1: none), and the slices' names.

    A column of few values has a slice each, the rarer of many together; numbers and dates are cut
    at quartiles; rows without a value are a slice.
    """
    levels = values.nunique(dropna=True)
    if kind in ("number", "date") and levels > MAX_LEVELS:
        found, names = _ranges(values)
    else:
        found, names = _levels(values)
    missing = values.isna().to_numpy()
    if missing.any():
        names = [*names, MISSING]
        found = np.where(missing, len(names) - 1, found)
    return found, names


def _levels(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    counts = values.value_counts()
    kept = list(counts.index[:MAX_LEVELS])
    if pd.api.types.is_numeric_dtype(values):
        kept = sorted(kept)
    names = [f"{v:g}" if isinstance(v, float) else str(v) for v in kept]
    found = pd.Index(kept).get_indexer(pd.Index(values))
    if len(counts) > len(kept):
        names.append(f"other ({len(counts) - len(kept)} values)")
        found = np.where(found < 0, len(names) - 1, found)
    return np.asarray(found), names


def _ranges(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    known = values.dropna()
    edges = known.quantile(np.linspace(0, 1, N_BINS + 1)).drop_duplicates().to_numpy()
    if len(edges) < 2:
        return np.zeros(len(values), dtype=np.intp), [_text(edges[0])]
    found = np.searchsorted(edges[1:-1], values.to_numpy(), side="left")
    names = [f"{_text(a)} … {_text(b)}" for a, b in itertools.pairwise(edges)]
    return found, names


def _text(value: object) -> str:
    if isinstance(value, np.datetime64 | pd.Timestamp):
        return str(pd.Timestamp(value).date())
    number = float(str(value))
    return f"{number:.0f}" if 1_000 <= abs(number) < 10_000 else short(number)  # a year is 1965


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The metric on some rows, and each unit's share in its variance: rows, or all clusters.

    `even`: the shares are one spread laid out evenly, and say nothing of which unit does what.
    """

    value: float
    units: Floats
    spare: int
    even: bool


def find(
    metric: Metric,
    scored: Scored,
    features: pd.DataFrame,
    columns: Sequence[Column],
    *,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[SliceScore, ...]:
    """All slices, those shown to be worse first, then by how much worse they are.

    A slice's own interval is Wilson's for a proportion, else Student's t with the jackknife's
    variance, its degrees of freedom fewer for heavy tails; so is that of the difference, where
    slice and rest are independent rows, or share clusters and then vary together. There the slice
    has the variance that as many of the other rows would have, at least: few rows that happen to
    be alike show none of their own. Rankings are averaged over folds as everywhere; all else is
    taken over the slice's rows at once, since a ratio of the few that fall into a fold is biased.
    Slices of under 30 rows (or 10 of the rarest class, for rankings and whatever else counts the
    classes apart) are marked small and not tested.

    Args:
        features: (n, ...) the scored rows' features, in their order, as the model sees them.
        clusters: (n,) labels of rows that belong together.
    """
    found, seen = [], set()
    for column in columns_of(columns):
        for name, mask in _masks(features[column.name], column.kind):
            rows = mask.tobytes()
            if rows not in seen:  # the same rows under another name are one slice
                found.append(_slice(metric, scored, mask, column.name, name, clusters, level))
            seen.add(rows)
    judged = benjamini_hochberg([s.p_value for s in found])
    marked = [replace(s, worse=w) for s, w in zip(found, judged, strict=True)]
    return tuple(sorted(marked, key=_order))


def _order(s: SliceScore) -> tuple[bool, bool, float]:
    return not s.worse, s.small, -s.worse_by if s.worse_by == s.worse_by else np.inf


def _masks(values: pd.Series, kind: str) -> Iterator[tuple[str, np.ndarray]]:
    found, names = codes(values, kind)
    for code, name in enumerate(names):
        mask = found == code
        if LEAST <= mask.sum() <= len(mask) - LEAST:
            yield name, mask


def benjamini_hochberg(p_values: Sequence[float], rate: float = RATE) -> list[bool]:
    """Which hypotheses are rejected with a false discovery rate of at most `rate`; NaN: none."""
    p = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    out = np.zeros(len(p), dtype=bool)
    if len(tested):
        order = tested[np.argsort(p[tested], kind="stable")]
        below = p[order] <= rate * np.arange(1, len(order) + 1) / len(order)
        out[order[: int(np.flatnonzero(below).max(initial=-1)) + 1]] = True
    return [bool(x) for x in out]


def _slice(
    metric: Metric,
    scored: Scored,
    mask: np.ndarray,
    column: str,
    name: str,
    clusters: np.ndarray | None,
    level: float,
) -> SliceScore:
    labels = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    own, rest = _part(metric, scored, mask, labels), _part(metric, scored, ~mask, labels)
    small = _small(metric, scored, mask)
    worse_by = metric.sign * (rest.value - own.value)
    spare = own.spare + rest.spare if labels is None else min(own.spare, rest.spare)
    if labels is None or own.even or rest.even:
        units = np.concatenate([own.units, rest.units])
    else:
        units = own.units - rest.units
    lacking = (rest.units**2).sum() * (~mask).sum() / mask.sum() - (own.units**2).sum()
    low, high, p_value = _against(worse_by, units, spare, level, more=max(0.0, lacking))
    return SliceScore(
        column=column, value=name, score=_score(metric, scored, mask, own, labels, level, small),
        rest=rest.value, worse_by=worse_by, low=low, high=high,
        p_value=float("nan") if small else p_value, worse=False, small=small,
    )  # fmt: skip


def _part(metric: Metric, scored: Scored, mask: np.ndarray, labels: np.ndarray | None) -> _Part:
    rows = layout(
        int(mask.sum()),
        folds=_folds(metric, scored, mask),
        clusters=None if labels is None else labels[mask],
        weights=None if scored.weights is None else scored.weights[mask],
    )
    y, pred = scored.y[mask][rows.order], scored.pred[mask][rows.order]
    evaluate = mean_of_folds([metric], y, pred, rows)
    value = float(evaluate(np.ones((1, len(y))))[0, 0])
    found = influence(metric, y, pred, rows)
    units = found
    if units is None:  # no cheap leave-one-out: the bootstrap's spread, evenly
        draws = np.concatenate([evaluate(c)[:, 0] for c in rows.draws(N_RESAMPLES, 0)])
        units = np.full(rows.n_units, np.nanstd(draws, ddof=1) / np.sqrt(rows.n_units))
    units = np.nan_to_num(units) * np.sqrt(rows.n_units / max(rows.spare, 1))
    if labels is not None:
        every = np.zeros(int(labels.max()) + 1)
        every[np.unique(labels[mask])] = units
        units = every
    return _Part(value=value, units=units, spare=rows.spare, even=found is None)


def _folds(metric: Metric, scored: Scored, mask: np.ndarray) -> np.ndarray | None:
    """The folds that a metric is averaged over: of a ranking, since models have their own scale."""
    return scored.folds[mask] if scored.folds is not None and metric.curve is not None else None


def _against(
    difference: float, units: Floats, spare: int, level: float, *, more: float = 0.0
) -> tuple[float, ...]:
    """The interval of a difference and the one-sided p-value of its being 0 or less.

    `more`: variance beyond that of the units.
    """
    error = float(np.sqrt((units**2).sum() + more))
    if not (error > 0 and np.isfinite(difference)) or spare < 1:
        return float("nan"), float("nan"), float("nan")
    df = freedom(units, spare)
    reach = -float(stdtrit(df, (1 - level) / 2)) * error
    return difference - reach, difference + reach, float(stdtr(df, -difference / error))


def _small(metric: Metric, scored: Scored, mask: np.ndarray) -> bool:
    if mask.sum() < SMALL or (~mask).sum() < SMALL:
        return True
    if not metric.of_classes:
        return False
    counts = np.bincount(scored.y[mask])
    counts = counts[counts > 0] if scored.task == "multiclass" else counts
    return len(counts) < 2 or int(counts.min()) < stats.FEW_OF_A_CLASS


def _score(
    metric: Metric,
    scored: Scored,
    mask: np.ndarray,
    own: _Part,
    labels: np.ndarray | None,
    level: float,
    small: bool,
) -> Score:
    n, tail = int(mask.sum()), (1 - level) / 2
    if metric.counted and metric.columns and labels is None and scored.weights is None:
        table = metric.columns(scored.y[mask], scored.pred[mask], metric.threshold)
        counted = float(metric.counted(table.sum(axis=0)))
        low, high = map(float, stats.wilson(own.value, counted, tail))
        method = "Wilson"
    else:
        low, high, _ = _against(own.value, own.units, own.spare, level)
        low, high = (float(x) for x in np.clip([low, high], *metric.bounds))
        method = "jackknife t"
    return Score(
        metric=metric.name, value=own.value, low=low, high=high, n_rows=n, level=level,
        greater_is_better=metric.greater_is_better, method=method, reliable=not small,
        note="few rows" if small else "",
    )  # fmt: skip


# --- two models ---


def contrast(
    metric: Metric,
    a: Scored,
    b: Scored,
    features: pd.DataFrame,
    columns: Sequence[Column],
    *,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[SliceContrast, ...]:
    """By how much `a` is better than `b` on each slice; those where they differ first.

    Paired: both are scored on the same rows, and the interval is Student's t on the difference of
    their jackknife values (the bootstrap's spread where a metric has none). Which slices differ is
    decided for all of them together, by Benjamini and Hochberg; slices of few rows are not tested.

    Args:
        a, b: predictions on the same rows, in the same order.
        features: (n, ...) the rows' features, in their order.
        clusters: (n,) labels of rows that belong together.
    """
    found, p_values, seen = [], [], set()
    for column in columns_of(columns):
        for name, mask in _masks(features[column.name], column.kind):
            if mask.tobytes() in seen:
                continue
            seen.add(mask.tobytes())
            small = _small(metric, a, mask)
            one, two, low, high, p_value = _apart(metric, a, b, mask, clusters, level)
            p_values.append(float("nan") if small else p_value)
            found.append(SliceContrast(
                column=column.name, value=name, n_rows=int(mask.sum()), a=one, b=two,
                better_by=metric.sign * (one - two), low=low, high=high, differs=False, small=small,
            ))  # fmt: skip
    judged = benjamini_hochberg(p_values)
    marked = [replace(c, differs=d) for c, d in zip(found, judged, strict=True)]
    return tuple(sorted(marked, key=lambda c: (not c.differs, c.small, -abs(_known(c.better_by)))))


def _known(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def _apart(
    metric: Metric, a: Scored, b: Scored, mask: np.ndarray, clusters: np.ndarray | None,
    level: float,
) -> tuple[float, ...]:  # fmt: skip
    """Both values on some rows, the interval of the difference, its two-sided p-value."""
    rows = layout(
        int(mask.sum()), folds=_folds(metric, a, mask),
        clusters=None if clusters is None else clusters[mask],
        weights=None if a.weights is None else a.weights[mask],
    )  # fmt: skip
    y = a.y[mask][rows.order]
    preds = [s.pred[mask][rows.order] for s in (a, b)]
    both = [mean_of_folds([metric], y, pred, rows) for pred in preds]
    one, two = (float(evaluate(np.ones((1, len(y))))[0, 0]) for evaluate in both)
    mine, theirs = (influence(metric, y, pred, rows) for pred in preds)
    if mine is None or theirs is None:
        draws = np.concatenate(
            [both[0](c)[:, 0] - both[1](c)[:, 0] for c in rows.draws(N_RESAMPLES, 0)]
        )
        units = np.full(rows.n_units, np.nanstd(draws, ddof=1) / np.sqrt(rows.n_units))
    else:
        units = np.nan_to_num(mine) - np.nan_to_num(theirs)
    units = units * np.sqrt(rows.n_units / max(rows.spare, 1))
    low, high, worse = _against(metric.sign * (one - two), units, rows.spare, level)
    return one, two, low, high, 2 * min(worse, 1 - worse)
