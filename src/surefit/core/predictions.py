"""The table of predictions that every run stores, and the arrays that are scored from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from surefit.core.data import Dataset
from surefit.core.portable import answer
from surefit.core.split import Split
from surefit.errors import DataError
from surefit.results import Task

VALID, TEST = "predictions/valid.parquet", "predictions/test.parquet"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Predictions beside their targets, on the same rows in the same order.

    Attributes:
        y: (n,) class codes or values.
        pred: (n, K) probabilities or (n,) values.
        folds: (n,) which fold scored the row; None for test rows and tables from outside.
    """

    task: Task
    classes: tuple[Any, ...]
    row_id: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    pred: np.ndarray = field(repr=False)
    folds: np.ndarray | None = field(repr=False)


def valid_table(data: Dataset, split: Split, pred: np.ndarray) -> pd.DataFrame:
    """Out-of-fold predictions with fold and target; `pred` is in the split's scored order."""
    rows = split.scored_rows
    frame = _answered(data, rows, pred)
    frame.insert(1, "fold", split.fold_of_rows())
    target = np.asarray(data.classes)[data.y[rows]] if data.classes else data.y[rows]
    frame.insert(2, "target", target)
    return frame


def blind_table(data: Dataset, split: Split, pred: np.ndarray) -> pd.DataFrame:
    """Predictions on the test rows without their targets: the join is a look, and counted."""
    return _answered(data, split.test_rows, pred)


def _answered(data: Dataset, rows: np.ndarray, pred: np.ndarray) -> pd.DataFrame:
    frame = answer(pred, list(data.classes), 0.5)
    row_id = data.row_id[rows]
    frame.insert(0, "row_id", row_id if row_id.dtype == "int64" else row_id.astype(str))
    return frame


def trials_table(first: Scored, preds: dict[int, np.ndarray]) -> pd.DataFrame:
    """Out-of-fold predictions of many trials on the same rows, compact: float32, a column each.

    Two classes take one column a trial (the positive one's probability), K classes take K.
    """
    columns: dict[str, np.ndarray] = {}
    for number, pred in preds.items():
        wide = pred[:, 1:] if first.task == "binary" else pred.reshape(len(pred), -1)
        for code in range(wide.shape[1]):
            columns[f"trial_{number}.{code}"] = wide[:, code].astype("float32")
    return pd.DataFrame({"row_id": first.row_id, **columns})


def read_trials(frame: pd.DataFrame, first: Scored) -> dict[str, np.ndarray]:
    """What `trials_table` wrote, on the rows of `first`; by "trial_<number>".

    Raises:
        DataError: when the rows are others.
    """
    if list(frame["row_id"].astype(str)) != list(first.row_id.astype(str)):
        raise DataError("the trials' predictions are on other rows")
    names = list(dict.fromkeys(c.rpartition(".")[0] for c in frame.columns if c != "row_id"))
    found = {}
    for name in names:
        columns = [c for c in frame.columns if c.rpartition(".")[0] == name]
        wide = frame[columns].to_numpy(dtype="float64")
        if first.task == "binary":
            found[name] = np.column_stack([1 - wide[:, 0], wide[:, 0]])
        else:
            found[name] = wide if first.task == "multiclass" else wide[:, 0]
    return found


def read(frame: pd.DataFrame, task: Task, classes: Sequence[Any]) -> Scored:
    """A stored or foreign table as arrays, checked.

    Args:
        frame: columns row_id, target, prediction or (classification) probability_<class> for each
            class, and optionally fold.
        classes: the labels, the positive one last of two; () in regression.

    Raises:
        DataError: in one line, when the table cannot be scored.
    """
    if len(frame) == 0:
        raise DataError("The predictions have no rows.")
    lost = [c for c in ("row_id", "target", *_predicted(task, classes)) if c not in frame]
    if lost:
        raise DataError(f"The predictions lack the columns {', '.join(lost)}.")
    doubled = frame["row_id"].duplicated()
    if doubled.any():
        raise DataError(
            f"{int(doubled.sum()):,} row ids stand twice, e.g. {frame['row_id'][doubled].iloc[0]}."
        )
    pred = _numbers(frame, _predicted(task, classes))
    if task == "regression":
        y, pred = _numbers(frame, ["target"])[:, 0], pred[:, 0]
    else:
        y = _class_codes(frame["target"], classes)
        _check_probabilities(pred)
    return Scored(
        task=task, classes=tuple(classes), row_id=frame["row_id"].to_numpy(), y=y, pred=pred,
        folds=frame["fold"].to_numpy(dtype="int64") if "fold" in frame else None,
    )  # fmt: skip


def join(blind: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """Predictions with the targets of their rows: with test rows, this is the look.

    Raises:
        DataError: when row ids are not of this data set.
    """
    position = pd.Series(np.arange(data.n_rows), index=data.row_id.astype(str))
    rows = position.reindex(blind["row_id"].astype(str))
    if rows.isna().any():
        raise DataError(
            f"{int(rows.isna().sum()):,} row ids are not in the data, "
            f"e.g. {rows.index[rows.isna()][0]}: these predictions are of another table."
        )
    y = data.y[rows.to_numpy(dtype="int64")]
    return blind.assign(target=np.asarray(data.classes)[y] if data.classes else y)


def _predicted(task: Task, classes: Sequence[Any]) -> list[str]:
    return ["prediction"] if task == "regression" else [f"probability_{c}" for c in classes]


def _numbers(frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    try:
        values = frame[names].to_numpy(dtype="float64")
    except (TypeError, ValueError):
        raise DataError(f"{', '.join(names)} must be numbers.") from None
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).any(axis=1).sum())
        raise DataError(f"{wrong:,} rows of {', '.join(names)} are not finite.")
    return np.asarray(values)


def _class_codes(target: pd.Series, classes: Sequence[Any]) -> np.ndarray:
    code = {str(label): number for number, label in enumerate(classes)}
    codes = target.map(lambda label: code.get(str(label), -1)).to_numpy(dtype="int64")
    if (codes < 0).any():
        raise DataError(
            f"The target {target[codes < 0].iloc[0]!r} is none of the classes {list(code)[:10]}."
        )
    return np.asarray(codes)


def _check_probabilities(pred: np.ndarray) -> None:
    if (pred < -1e-9).any() or (pred > 1 + 1e-9).any():
        raise DataError("A probability lies outside [0, 1].")
    if (np.abs(pred.sum(axis=1) - 1) > 1e-3).any():
        raise DataError("The probabilities of a row must add up to 1.")
