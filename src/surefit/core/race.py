"""Racing: a trial that is very unlikely to win is not fitted on the folds that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core.metrics import Floats, Metric
from surefit.core.resampling import influence, layout

FEWEST_TOLD = 5  # complete trials before any is dropped; with 10, 5 to 13 % fewer fits are saved
BEHIND = 0.02  # of the third best's score on the same folds
RIVALS = 3
FEWEST_CURVES = 5  # complete trials before a loop is given up in the middle
FREE_EPOCHS = 3
DOUBT = 1.0  # standard errors within which a shortfall of 2 % may be chance: it is not dropped
SHOWN = 4.0  # standard errors beyond which any shortfall is real
# All that a race decides by: a search belongs to the rule that it was begun with.
RULE = (FEWEST_TOLD, BEHIND, RIVALS, FEWEST_CURVES, FREE_EPOCHS, DOUBT, SHOWN)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a trial is held against, kept with it from when it was asked.

    So that the outcome does not depend on timing.

    Attributes:
        means: what the mean of its scores over folds 0..f must reach, for each f but the last.
        rival: the number of the third best complete trial.
        rival_means: that trial's mean over folds 0..f.
    """

    means: Sequence[float]
    rival: int
    rival_means: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        """As the journal keeps it."""
        return {"means": [*self.means], "rival": self.rival, "rival_means": [*self.rival_means]}


def limits(
    told: Sequence[tuple[int, Sequence[float]]], n_folds: int, *, greater_is_better: bool
) -> Limits | None:
    """The limits from the complete trials told so far; None while they are too few.

    Args:
        told: (number, fold scores) of each.
        n_folds: folds a trial has.
    """
    if len(told) < FEWEST_TOLD or n_folds < 2:
        return None
    scores = np.asarray([s for _, s in told])
    means = np.cumsum(scores, axis=1) / np.arange(1, n_folds + 1)
    ranked = np.sort(means, axis=0)
    third = ranked[-RIVALS] if greater_is_better else ranked[RIVALS - 1]
    slack = BEHIND * np.abs(third) * (-1 if greater_is_better else 1)
    order = np.argsort(-means[:, -1] if greater_is_better else means[:, -1], kind="stable")
    rival = int(order[RIVALS - 1])
    return Limits(
        means=[float(v) for v in (third + slack)[:-1]], rival=told[rival][0],
        rival_means=[float(v) for v in means[rival][:-1]],
    )  # fmt: skip


def curve_limits(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """What a loop's best loss so far must not be above, for each epoch; () with too few trials.

    The median stopping rule (Golovin et al. 2017, "Google Vizier"): the median of the complete
    trials' best losses up to the same epoch of the same fold. The first epochs prune nothing.

    Args:
        curves: of each complete trial told so far, the best loss up to each epoch.
    """
    if len(curves) < FEWEST_CURVES:
        return ()
    length = max(len(c) for c in curves)
    whole = [[*c, *[c[-1]] * (length - len(c))] for c in curves]
    medians = np.median(np.asarray(whole), axis=0)
    medians[:FREE_EPOCHS] = np.inf
    return tuple(float(v) for v in medians)


def is_behind(
    scores: Sequence[float],
    against: Limits | None,
    *,
    greater_is_better: bool,
    spread: float | None = None,
) -> bool:
    """Whether a trial is dropped after its first folds.

    It is where its mean is more than 2 % behind the third best's on the same folds, unless the
    rows say that this may be chance; and where the rows leave no doubt that it is behind at all.

    Args:
        scores: of its first folds.
        spread: the standard error of the difference to the rival's mean, paired by row
            (`paired_spread`); None where it is not known, and then the 2 % alone decide.
    """
    if against is None or not scores or len(scores) > len(against.means):
        return False
    place, sign = len(scores) - 1, 1 if greater_is_better else -1
    mean = float(np.mean(scores))
    far = sign * mean < sign * against.means[place]
    if spread is None:
        return far
    gap = sign * (against.rival_means[place] - mean)
    return (far and gap > DOUBT * spread) or gap > SHOWN * spread > 0


def fold_shares(
    metric: Metric, y: NDArray[Any], pred: NDArray[Any], clusters: Any = None, weights: Any = None
) -> Floats | None:
    """Each row's (or cluster's) share in the metric of one fold; None where it has no such thing.

    Assumes rows, or clusters, that are independent of each other; what differs with the rows a
    model was fitted on is not in it.
    """
    rows = layout(len(y), clusters=clusters, weights=weights)
    return influence(metric, np.asarray(y)[rows.order], np.asarray(pred)[rows.order], rows)


def paired_spread(mine: Sequence[Floats], rivals: Sequence[Floats]) -> float:
    """The standard error of the difference of two means over the same folds, paired by row."""
    squares = sum(float(((a - b) ** 2).sum()) for a, b in zip(mine, rivals, strict=True))
    return float(np.sqrt(squares) / len(mine))
