"""Metrics of a ranking: from positives cumulated down the scores to areas, distances and lift.

Where positives are few, only the groups of tied scores that hold some are looked at: a ranking
changes nothing between them. The forms `…_without` give a metric without each row in turn, the
forms `…_slope` its derivative by the weight of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core.formulas import Floats, ratio

Places = NDArray[np.intp]

LIFT_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A ranking under b reweightings, at the p groups of tied scores that hold positives.

    Attributes:
        tp, found: (b, p) positives and rows cumulated to the end of the group.
        before: (b, p) rows cumulated to its beginning.
        every: (b, g) rows cumulated to the end of each of all g groups.
        upto: (g,) how many of the p groups end there or earlier.
    """

    tp: Floats
    found: Floats
    before: Floats
    every: Floats
    upto: Places

    @property
    def steps(self) -> Floats:
        """(b, p) positives in each group."""
        return _steps(self.tp)

    @property
    def totals(self) -> tuple[Floats, Floats]:
        """(b,) positives and negatives in all."""
        return self.tp[:, -1], self.every[:, -1] - self.tp[:, -1]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Rows in falling order of score.

    Attributes:
        order: (n,) row numbers.
        ends: (g,) the place at which each group of tied scores ends.
        positive: (n,) 1.0 or 0.0, in that order.
        places: places of the positives.
        last: of these, the last in each group that has some.
        at: (p,) those groups.
        upto: (g,) see `Curve`.
    """

    order: Places
    ends: Places
    positive: Floats
    places: Places
    last: Places
    at: Places
    upto: Places

    @classmethod
    def of(cls, score: NDArray[Any], positive: NDArray[np.bool_]) -> Ranking:
        """The ranking by a score (n,)."""
        order = np.argsort(-score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
        places = np.flatnonzero(positive[order])
        group = np.searchsorted(ends, places)
        last = np.flatnonzero(np.append(np.diff(group), 1)) if len(places) else places
        at = group[last]
        upto = np.searchsorted(at, np.arange(len(ends)), side="right")
        return cls(order=order, ends=ends, positive=positive[order].astype(np.float64),
                   places=places, last=last, at=at, upto=upto)  # fmt: skip

    def curve(self, weights: Floats) -> Curve | None:
        """The curve under weights (b, n); None where there are no positives."""
        if not len(self.places):
            return None
        w = np.take(weights, self.order, axis=1)
        tp = np.cumsum(w if len(self.places) == w.shape[1] else w[:, self.places], axis=1)
        every = np.cumsum(w, axis=1, out=w)
        if len(self.ends) < len(self.order):
            every = every[:, self.ends]
        if len(self.last) < len(self.places):
            tp = tp[:, self.last]
        before = every[:, np.maximum(self.at - 1, 0)]
        if self.at[0] == 0:
            before[:, 0] = 0.0
        return Curve(tp=tp, found=every[:, self.at], before=before, every=every, upto=self.upto)

    def whole(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """True and false positives (g,) cumulated to the end of each group, under weights (n,)."""
        if weights is None:
            tp = np.cumsum(self.positive)[self.ends]
            return tp, self.ends + 1.0 - tp
        w = weights[self.order]
        tp = np.cumsum(w * self.positive)[self.ends]
        return tp, np.cumsum(w * (1 - self.positive))[self.ends]


def _steps(cumulated: Floats) -> Floats:
    out = np.empty_like(cumulated)
    out[:, 0] = cumulated[:, 0]
    np.subtract(cumulated[:, 1:], cumulated[:, :-1], out=out[:, 1:])
    return out


def area(curve: Curve) -> Floats:
    """The share of pairs of the two classes in the right order, tied ones counting one half."""
    p, q = curve.totals
    steps = curve.steps
    above = curve.found + curve.before  # rows above, twice; positives among them next
    above -= 2 * curve.tp
    above += steps
    wrong = 0.5 * np.einsum("ij,ij->i", steps, above)
    return ratio(p * q - wrong, p * q)


def average_precision(curve: Curve) -> Floats:
    """The mean precision at each positive."""
    p, _ = curve.totals
    precision = np.divide(curve.tp, curve.found, out=np.zeros_like(curve.tp),
                          where=curve.found > 0)  # fmt: skip
    return ratio(np.einsum("ij,ij->i", curve.steps, precision), p)


def ks(curve: Curve) -> Floats:
    """The greatest distance of the two classes' cumulated shares (Kolmogorov, Smirnov).

    Between groups with positives the distance only falls, so that its ends lie at these.
    """
    p, q = curve.totals
    share, other = (ratio(np.ones_like(x), x)[:, None] for x in (p, q))
    up = curve.tp * share - (curve.found - curve.tp) * other
    earlier = curve.tp - curve.steps
    down = (curve.before - earlier) * other - earlier * share
    return np.asarray(np.maximum(np.maximum(up.max(axis=1), down.max(axis=1)), 0.0 * p * q))


def lift(curve: Curve) -> Floats:
    """Positives in the highest-scored tenth over their share in all; ties are drawn evenly."""
    p, q = curve.totals
    k = LIFT_SHARE * (p + q)
    at = np.argmax(curve.every >= (k * (1 - 1e-12))[:, None], axis=1)
    row = np.arange(len(at))
    tp = np.column_stack([np.zeros(len(at)), curve.tp])
    before = np.where(at > 0, curve.every[row, at - 1], 0.0)
    hits = tp[row, np.where(at > 0, curve.upto[at - 1], 0)]
    gained = tp[row, curve.upto[at]] - hits
    hits = hits + gained * np.nan_to_num(ratio(k - before, curve.every[row, at] - before))
    return ratio(ratio(hits, k), ratio(p, p + q))


# --- without each row ---
#
# From true and false positives (g,) at the end of each group: the metric without a positive row and
# without a negative row of each group.


def area_without(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Each row's placement among the other class, taken from the area (DeLong 1988)."""
    p, q = tp[-1], fp[-1]
    steps = np.diff(fp, prepend=0.0)
    whole = float(steps @ (tp - np.diff(tp, prepend=0.0) / 2))
    below = q - (fp + (fp - np.diff(fp, prepend=0.0))) / 2
    above = (tp + (tp - np.diff(tp, prepend=0.0))) / 2
    return ratio(whole - below, (p - 1) * q), ratio(whole - above, p * (q - 1))


def average_precision_without(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Exact: a row changes the precision at its own score and at lower ones, none above."""
    steps, found = np.diff(tp, prepend=0.0), tp + fp
    fewer = np.maximum(found - 1, 1)
    kept = np.cumsum(steps * tp / found) - steps * tp / found
    tail = _from_end(steps * (tp - 1) / fewer)
    at = (steps - 1) * (tp - 1) / fewer
    positive = ratio(kept + at + tail - steps * (tp - 1) / fewer, tp[-1:] - 1)
    negative = ratio(kept + _from_end(steps * tp / fewer), tp[-1:])
    return positive, negative


def _from_end(values: Floats) -> Floats:
    return np.cumsum(values[::-1])[::-1]


def ks_without(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Exact: without a row the gap shifts by one row's share from its own score down."""
    p, q = tp[-1], fp[-1]
    if p < 2 or q < 2:
        return np.full(len(tp), np.nan), np.full(len(tp), np.nan)
    positive = _farthest(tp / (p - 1) - fp / q, -1 / (p - 1))
    return positive, _farthest(tp / p - fp / (q - 1), 1 / (q - 1))


def _farthest(gap: Floats, shift: float) -> Floats:
    """max |gap| where every place from g on is shifted, for each g."""
    before = np.maximum.accumulate(np.abs(np.append(0.0, gap[:-1])))
    after = np.maximum.accumulate(np.abs(gap + shift)[::-1])[::-1]
    return np.maximum(before, after)


def lift_without(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Exact: where the tenth ends depends on whether the row lies above its end."""
    found, whole = tp + fp, tp[-1] + fp[-1]
    size, gained = np.diff(found, prepend=0.0), np.diff(tp, prepend=0.0)
    k = LIFT_SHARE * (whole - 1)
    group = np.arange(len(tp))
    lowest = int(np.argmax(found >= k * (1 - 1e-12)))
    at = np.where(group > lowest, lowest, int(np.argmax(found - 1 >= k * (1 - 1e-12))))
    out = []
    for positive in (1.0, 0.0):
        above, inside = group < at, group == at
        rows = size[at] - inside
        before = found[at] - size[at] - above
        hits = tp[at] - gained[at] - positive * above
        hits = hits + (gained[at] - positive * inside) * np.nan_to_num(ratio(k - before, rows))
        share = ratio(np.full(len(tp), tp[-1] - positive), np.full(len(tp), whole - 1))
        out.append(ratio(ratio(hits, np.full(len(tp), k)), share))
    return out[0], out[1]


# --- by the weight of each row ---
#
# From true and false positives (g,), weighted, at the end of each group: the metric's derivative by
# the weight of a positive row and of a negative row of each group (the infinitesimal jackknife's
# influence: Jaeckel 1972). The sum of weight times derivative over all rows is 0.


def area_slope(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """A positive adds the negatives below it, a negative the positives above it."""
    p, q = tp[-1:], fp[-1:]
    below = q - fp + np.diff(fp, prepend=0.0) / 2
    above = tp - np.diff(tp, prepend=0.0) / 2
    value = ratio((np.diff(tp, prepend=0.0) * below).sum(keepdims=True), p * q)
    return ratio(below, p * q) - ratio(value, p), ratio(above, p * q) - ratio(value, q)


def average_precision_slope(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """A row changes the precision at its own score and at lower ones, a positive its own share."""
    steps, found, p = np.diff(tp, prepend=0.0), tp + fp, tp[-1:]
    precision, by_row = (
        np.divide(part, found, out=np.zeros_like(found), where=found > 0)
        for part in (tp, np.ones_like(found))
    )
    value = ratio((steps * precision).sum(keepdims=True), p)
    more = _from_end(steps * (1 - precision) * by_row)
    return ratio(precision + more - value, p), ratio(-_from_end(steps * precision * by_row), p)
