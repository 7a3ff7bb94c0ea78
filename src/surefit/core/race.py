"""Racing: a trial that is clearly behind on its first folds is not fitted on the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST_TOLD = 10  # complete trials before any is dropped: with fewer it saves nothing
BEHIND = 0.02  # of the third best's score on the same folds
RIVALS = 3
FEWEST_CURVES = 5  # complete trials before a loop is given up in the middle
FREE_EPOCHS = 3


def thresholds(
    told: Sequence[Sequence[float]], n_folds: int, *, greater_is_better: bool
) -> list[float] | None:
    """What a trial's mean score over folds 0..f must reach, for each f but the last.

    The rule: 2 % behind the third best of the complete trials, on the same folds. Kept with the
    trial from when it was asked, so that the outcome does not depend on timing.

    Args:
        told: (n_complete, n_folds) fold scores of the complete trials told so far.
        n_folds: folds a trial has.

    Returns:
        (n_folds - 1,) limits in the metric's units; None while there are too few trials.
    """
    if len(told) < FEWEST_TOLD or n_folds < 2:
        return None
    means = np.cumsum(np.asarray(told), axis=1) / np.arange(1, n_folds + 1)
    ranked = np.sort(means, axis=0)
    third = ranked[-RIVALS] if greater_is_better else ranked[RIVALS - 1]
    slack = BEHIND * np.abs(third) * (-1 if greater_is_better else 1)
    return [float(v) for v in (third + slack)[:-1]]


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
    scores: Sequence[float], limits: Sequence[float] | None, *, greater_is_better: bool
) -> bool:
    """Whether the mean of the first folds' scores misses the limit for that many folds."""
    if limits is None or not scores or len(scores) > len(limits):
        return False
    mean, limit = float(np.mean(scores)), limits[len(scores) - 1]
    return mean < limit if greater_is_better else mean > limit
