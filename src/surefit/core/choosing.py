"""Beside the ranking: the cheapest of the tied, what a seed does, and places by metric alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from surefit.comparison import NoiseFloor, Standing, Unpaired

SIMPLE_FIRST = (
    "dummy", "linear", "forest", "hist", "lightgbm", "xgboost", "catboost", "mlp",
)  # fmt: skip
# Costs within this factor of the least are alike: seconds and milliseconds were measured once, on
# a machine that may have been busy.
ALIKE = {"lowest latency": 1.5, "smallest model": 1.05, "fastest to fit": 1.5}

Cost = Callable[[Standing], float | None]
COSTS: tuple[tuple[str, Cost], ...] = (
    ("lowest latency", lambda s: s.latency_ms),
    ("smallest model", lambda s: s.model_bytes),
    ("fastest to fit", lambda s: s.fit_seconds),
    ("simplest family", lambda s: _complexity(s.family)),
)


def _complexity(family: str) -> float | None:
    return float(SIMPLE_FIRST.index(family)) if family in SIMPLE_FIRST else None


def cheapest(tied: Sequence[Standing], spreads: Mapping[str, float]) -> tuple[Standing, str]:
    """Of candidates that cannot be told from the best the one to prefer, and why.

    Only those within one standard error of the best (`spreads`, of the difference to it, by name)
    are asked: to be tied with it may just mean to scatter widely. This is the rule of Breiman,
    Friedman, Olshen and Stone 1984, "Classification and Regression Trees", on paired differences.
    Of these by latency, then size, then fit seconds, then the family's simplicity; a cost counts
    where all that are left have it, and those close to the least (`ALIKE`) go on to the next. Runs
    of other programs are left out where there are others: they cannot be promoted.
    """
    near = [s for s in tied if s.worse_by <= spreads.get(s.name, 0.0)]
    left = [s for s in near if not s.outside] or [s for s in tied if not s.outside] or near
    if len(left) == 1:
        return left[0], "no other of the tied is within a standard error of the best"
    reason = "no other is cheaper"
    for why, cost in COSTS:
        costs = [cost(s) for s in left]
        known = [c for c in costs if c is not None and math.isfinite(c)]
        if len(known) < len(left) or min(known) == max(known):
            continue
        least = ALIKE.get(why, 1.0) * min(known)
        kept = [s for s, c in zip(left, known, strict=True) if c <= least]
        if len(kept) < len(left):
            reason = f"{why}: {_said(why, min(known))}{_against(why, known)}"
        left = kept
        if len(left) == 1:
            break
    return left[0], reason


def _against(why: str, known: Sequence[float]) -> str:
    return f", the others up to {_said(why, max(known))}" if why != "simplest family" else ""


def _said(why: str, cost: float) -> str:
    if why == "simplest family":
        return SIMPLE_FIRST[int(cost)]
    if why == "smallest model":
        return f"{cost / 1e6:.3g} MB" if cost >= 1e6 else f"{cost / 1e3:.3g} kB"
    return f"{cost:.3g} {'ms' if why == 'lowest latency' else 's'}"


def noise_floor(repeats: Sequence[Sequence[float]]) -> NoiseFloor | None:
    """How far the seed alone moves the metric, from groups of runs equal but for `model.seed`.

    The pooled standard deviation; `reach` is t's 97.5 % quantile times it times √2, for the
    difference of two single runs. Assumes normal scatter, alike in all groups.
    """
    groups = [np.asarray(group, float) for group in repeats if len(group) > 1]
    free = sum(len(g) - 1 for g in groups)
    if not free:
        return None
    sd = math.sqrt(sum(float(((g - g.mean()) ** 2).sum()) for g in groups) / free)
    return NoiseFloor(
        sd=sd, reach=float(stdtrit(free, 0.975) * math.sqrt(2) * sd),
        n_runs=sum(map(len, groups)), n_configurations=len(groups),
    )  # fmt: skip


def by_metric(
    runs: Mapping[str, tuple[str, float, float, float, str]],
    *,
    greater_is_better: bool,
    level: float = 0.95,
) -> tuple[Unpaired, ...]:
    """Places by the metric alone, best first; name, value, low, high and reason by run id.

    Differences to the first as if their rows were independent: the variances add, each taken from
    its interval's width; Bonferroni over all differences. Where rows are shared this is wider than
    need be; where the data are of another kind no interval means anything, which is why this is a
    choice that has to be typed.
    """
    sign = 1 if greater_is_better else -1
    order = sorted(runs, key=lambda run_id: -sign * runs[run_id][1])
    wide = float(-ndtri((1 - level) / 2 / max(1, len(order) - 1)))
    spread = {k: (runs[k][3] - runs[k][2]) / 2 / float(-ndtri((1 - level) / 2)) for k in order}
    found = []
    for rank, run_id in enumerate(order, start=1):
        name, value, low, high, reason = runs[run_id]
        behind = sign * (runs[order[0]][1] - value)
        reach = wide * math.hypot(spread[order[0]], spread[run_id]) if rank > 1 else 0.0
        found.append(Unpaired(
            rank=rank, run_id=run_id, name=name, value=value, low=low, high=high, behind=behind,
            behind_low=behind - reach, behind_high=behind + reach, reason=reason,
            told_apart=None if math.isnan(reach) else behind > reach,
        ))  # fmt: skip
    return tuple(found)
