"""About how long fits take on one core: formulas of the table and the parameters, never a clock.

Constants are from tables of 1,000 to 50,000 rows (`python bench/fit_costs.py` measures most of them
again beside the formulas): mostly right within a factor of two, which is enough to choose by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surefit.results import Task

# One more with every change of a formula: searches over families choose by them, and a search
# belongs to the formulas that it was begun with.
RULE = 1
DEEPEST = 20  # a tree's levels beyond which only its rows bound it


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a fit costs by, of a table.

    Attributes:
        rows: all training rows, of which a fold's fit sees most.
        numbers: columns of numbers in the matrix, a text as all that it becomes, a date as one.
        categories: columns of categories.
        outputs: scores a row: K for more than two classes, else 1.
    """

    task: Task
    rows: int
    numbers: int
    categories: int
    outputs: int

    @property
    def columns(self) -> int:
        """All columns of the matrix."""
        return self.numbers + self.categories


def usual_rate(task: Task) -> float:
    """The learning rate of boosting by default: a round of many classes is a tree for each."""
    return 0.1 if task == "multiclass" else 0.05


def boosting_rounds(size: Size, rate: float, most: int) -> float:
    """Rounds until the loss on held-out rows no longer falls: few where classes are noisy."""
    usual = 700 if size.task == "regression" else 200
    return min(float(most), usual * math.pow(usual_rate(size.task) / rate, 0.8))


def histogram_trees(size: Size, rounds: float, leaves: float) -> float:
    """Seconds of so many rounds of histogram trees: LightGBM's, which the others are multiples of.

    A tree costs by its columns' bins, of which categories have few, and by the rows' cells; it has
    no more leaves than rows.
    """
    leaves = min(leaves, size.rows)
    bins = 0.04 * size.numbers + 0.005 * size.categories
    tree = 0.2 + bins + 3.6e-6 * size.rows * size.columns
    return 1e-3 * rounds * size.outputs * tree * math.sqrt(leaves / 31)


def number(params: Mapping[str, Any], name: str, usual: float) -> float:
    """A parameter as a number; what is missing or no number above 0 is `usual`."""
    value = params.get(name)
    return float(value) if isinstance(value, int | float) and value > 0 else usual
