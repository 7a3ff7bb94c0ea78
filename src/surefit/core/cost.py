"""A cost matrix: what each pair of true and predicted class costs, in money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core import formulas as by
from surefit.core.metrics import Floats, Metric
from surefit.errors import ConfigError, did_you_mean


def matrix(cost: Mapping[str, Mapping[str, float]], classes: Sequence[Any]) -> Floats:
    """(K, K) costs, true class by predicted class; pairs that are not named cost nothing.

    Raises:
        ConfigError: a class is not one of the target's, or nothing costs anything.
    """
    names = [str(c) for c in classes]
    out = np.zeros((len(names), len(names)))
    for true, row in cost.items():
        for predicted, value in row.items():
            for name in (true, predicted):
                if name not in names:
                    raise ConfigError(
                        f'metric.cost names the class "{name}"; {did_you_mean(name, names)}',
                        f'metric.cost."{names[-1]}"."{names[0]}" = 50   # true, then predicted',
                    )
            out[names.index(true), names.index(predicted)] = value
    if not names or not out.any():
        raise ConfigError("metric.cost needs classes, and a cost that is not 0.")
    return out


def least_costly(pred: NDArray[Any], costs: Floats) -> NDArray[np.intp]:
    """(n,) the class whose expected cost under the predicted probabilities (n, K) is least."""
    return np.asarray((pred @ costs).argmin(axis=1))


def metric(costs: Floats) -> Metric:
    """Mean cost a row, when each row is given the class of least expected cost (Elkan 2001)."""

    def columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
        return np.column_stack([np.ones(len(y)), costs[y, least_costly(pred, costs)]])

    return Metric(
        name="cost", tasks=("binary", "multiclass"), greater_is_better=False, columns=columns,
        combine=by.second_mean, bounds=(float(costs.min()), float(costs.max())),
    )  # fmt: skip
