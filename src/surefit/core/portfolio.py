"""Which of several families to try next: the one where an improvement costs least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST_STEP = 0.25  # of the spread between families: what a family with one result may still gain
LEAST = 0.25  # of the middle family's trial, added to each: a trial has a price of its own
ENTRY = 2.0  # trials of its own that are spent on the others before a family enters
MOST_FAILED = 2  # trials of a family that failed, with none complete: it is not tried again
# All that a choice decides by, beside costs: a search belongs to the rule that it was begun with.
RULE = (FIRST_STEP, LEAST, ENTRY, MOST_FAILED)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is known of one family.

    Attributes:
        spent: the cost of all its trials that were asked, told or not.
        told: (cost spent by then, value) of each of its trials told, in order; None: it failed.
    """

    spent: float
    told: Sequence[tuple[float, float | None]]

    @property
    def hopeless(self) -> bool:
        """Whether it only ever failed."""
        return len(self.told) >= MOST_FAILED and all(v is None for _, v in self.told)


def expected_costs(arms: Mapping[str, Arm], *, greater_is_better: bool) -> dict[str, float]:
    """What the next improvement over the best of all families costs in each, in its own units.

    Estimated cost for improvement (Wang, Wu, Weimer and Zhu 2021, "FLAML: A Fast and Lightweight
    AutoML Library"): the best family needs about what its last improvement took, or has taken by
    now; another must first close the gap, at the speed of its last improvement.
    """
    sign = 1.0 if greater_is_better else -1.0
    steps = {name: _improvements(arm, sign) for name, arm in arms.items()}
    best = {name: found[-1][1] for name, found in steps.items() if found}
    top = max(best.values(), default=0.0)
    spread = top - min(best.values(), default=0.0)
    costs = {}
    for name, arm in arms.items():
        if arm.hopeless:
            costs[name] = math.inf
        elif not steps[name]:
            costs[name] = max(arm.spent, 1e-9)
        else:
            costs[name] = _expected(arm.spent, steps[name], top, FIRST_STEP * spread)
    return costs


def _improvements(arm: Arm, sign: float) -> list[tuple[float, float]]:
    """(cost spent, signed value) each time the family bettered itself."""
    found: list[tuple[float, float]] = []
    for spent, value in arm.told:
        if value is not None and (not found or sign * value > found[-1][1]):
            found.append((spent, sign * value))
    return found


def _expected(spent: float, steps: list[tuple[float, float]], top: float, first: float) -> float:
    at, value = steps[-1]
    before, gained = (steps[-2][0], value - steps[-2][1]) if len(steps) > 1 else (0.0, first)
    own = max(spent - at, at - before, 1e-9)
    gap = top - value
    if gap <= 0:
        return own
    return max(own, (spent - before) * gap / gained) if gained > 0 else own


def choose(costs: Mapping[str, float], draw: float) -> str | None:
    """A family, each as likely as its next improvement is cheap; None when none is left.

    Args:
        costs: as `expected_costs` gives them.
        draw: in [0, 1).
    """
    weights = {name: 1 / cost for name, cost in costs.items() if math.isfinite(cost)}
    place = draw * sum(weights.values())
    for name in sorted(weights):
        place -= weights[name]
        if place < 0:
            return name
    return max(weights, key=lambda n: weights[n], default=None)
