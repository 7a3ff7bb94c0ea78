"""The user's own metric: a function of targets and predictions in scikit-learn's form."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core import formulas as by
from surefit.core.metrics import Floats, Metric
from surefit.errors import UserCodeError
from surefit.results import Task

Function = Callable[..., Any]


def metric(
    name: str, function: Function, task: Task, classes: Sequence[Any], *, per_row: bool
) -> Metric:
    """A metric that calls `function(y_true, y_pred)`, or with `sample_weight` where it takes that.

    `y_true` (n,) holds labels as the user wrote them, or numbers; `y_pred` the positive class's
    probability (n,) of two classes, all classes' (n, K) of more, or values. What comes back is one
    number, or one for each row, whose mean is the metric (and whose interval is cheap and BCa's).
    `per_row` says which of the two, as `gives_rows` finds out. Greater is better unless the
    function has an attribute `greater_is_better = False`.
    """
    given = _given(task, classes)
    weighted = "sample_weight" in inspect.signature(function).parameters
    shared: dict[str, Any] = {
        "name": name, "tasks": (task,), "bounds": (-np.inf, np.inf),
        "greater_is_better": bool(getattr(function, "greater_is_better", True)),
    }  # fmt: skip

    def columns(y: NDArray[Any], pred: NDArray[Any], threshold: float) -> Floats:
        found = _answer(name, function(*given(y, pred)), len(y))
        return np.column_stack([np.ones(len(y)), np.broadcast_to(found, len(y))])

    def direct(y: NDArray[Any], pred: NDArray[Any]) -> Callable[[Floats], Floats]:
        def one(weights: Floats) -> float:
            if weighted:
                return _number(name, function(*given(y, pred), sample_weight=weights))
            times = np.rint(weights).astype(np.intp)
            if not np.allclose(times, weights):
                raise UserCodeError(
                    f"{name} is called without weights, and rows have weights.",
                    f"def {name}(y_true, y_pred, sample_weight=None)",
                )
            return _number(name, function(*given(np.repeat(y, times), np.repeat(pred, times, 0))))

        return lambda weights: np.array([one(w) for w in weights])

    if per_row:
        return Metric(**shared, columns=columns, combine=by.second_mean)
    return Metric(**shared, direct=direct)


def gives_rows(
    function: Function, y: NDArray[Any], pred: NDArray[Any], task: Task, classes: Sequence[Any]
) -> bool:
    """Whether the function answers with one number for each row."""
    return np.shape(function(*_given(task, classes)(y, pred))) == (len(y),)


def _given(task: Task, classes: Sequence[Any]) -> Callable[..., tuple[Any, Any]]:
    labels = np.asarray(classes)

    def given(y: NDArray[Any], pred: NDArray[Any]) -> tuple[Any, Any]:
        if task == "regression":
            return y, pred
        return labels[y], pred[:, 1] if task == "binary" else pred

    return given


def _answer(name: str, found: Any, n: int) -> Floats:
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(2)
    if values.shape != (n,):
        raise UserCodeError(
            f"{name} gave {str(found)[:60]!r} for {n:,} rows: a number is due, or one for each row."
        )
    return values


def _number(name: str, found: Any) -> float:
    try:
        return float(found)
    except (TypeError, ValueError):
        raise UserCodeError(
            f"{name} gave {str(found)[:60]!r}: a number is due, or one for each row."
        ) from None
