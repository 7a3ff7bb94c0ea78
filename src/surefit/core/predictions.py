"""The table of predictions that every run stores, and the arrays that are scored from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import dependence
from surefit.core.data import Dataset, whole
from surefit.core.portable import answer
from surefit.core.split import Split
from surefit.errors import DataError
from surefit.results import Task

VALID, TEST = "predictions/valid.parquet", "predictions/test.parquet"
CALIBRATED = "predictions/calibrated.parquet"
FOREIGN = (VALID, "predictions/valid.csv")  # where runs of other programs may have theirs


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Predictions beside their targets, on the same rows in the same order.

    Attributes:
        y: (n,) class codes or values.
        pred: (n, K) probabilities or (n,) values.
        folds: (n,) which fold scored the row; None for test rows and tables from outside.
        weights: (n,) how much each row counts; None: all the same.
        groups: (n,) codes of what is resampled whole, the rows' groups, blocks of time or copies;
            None: rows are alone.
        quantiles: predicted quantiles (n, q) of a regression, where the table has columns such as
            quantile_0.05, and their `levels`, rising.
    """

    task: Task
    classes: tuple[Any, ...]
    row_id: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    pred: np.ndarray = field(repr=False)
    folds: np.ndarray | None = field(repr=False)
    weights: np.ndarray | None = field(default=None, repr=False)
    groups: np.ndarray | None = field(default=None, repr=False)
    levels: tuple[float, ...] = ()
    quantiles: np.ndarray | None = field(default=None, repr=False)

    @property
    def drawn(self) -> dict[str, Any]:
        """How its rows count and are resampled: the keywords that every statistic takes."""
        return {"folds": self.folds, "clusters": self.groups, "weights": self.weights}


def valid_table(data: Dataset, split: Split, pred: np.ndarray) -> pd.DataFrame:
    """Out-of-fold predictions with fold and target; `pred` is in the split's scored order."""
    rows = split.scored_rows
    frame = _answered(data.row_id[rows], data.classes, pred)
    frame.insert(1, "fold", split.fold_of_rows())
    target = np.asarray(data.classes)[data.y[rows]] if data.classes else data.y[rows]
    frame.insert(2, "target", target)
    together = dependence.units(data, split, rows, split.fold_of_rows())
    if together is not None:
        frame[dependence.named(data)] = together
    return frame if data.weight is None else frame.assign(weight=data.weight[rows])


def blind_table(data: Dataset, split: Split, pred: np.ndarray) -> pd.DataFrame:
    """Predictions on the test rows without their targets: the join is a look, and counted."""
    return _answered(data.row_id[split.test_rows], data.classes, pred)


def calibrated_table(scored: Scored, pred: np.ndarray) -> pd.DataFrame:
    """Calibrated probabilities by row id, in the form that `surefit evaluate` reads."""
    return _answered(scored.row_id, scored.classes, pred)


def stored_ids(row_id: np.ndarray) -> np.ndarray:
    """Row ids as tables keep them: whole numbers, or text."""
    return row_id if row_id.dtype == "int64" else row_id.astype(str)


def answer_columns(table: pd.DataFrame) -> list[str]:
    """The columns with the answers: probabilities by class, where there are such."""
    return [c for c in table.columns if c.startswith("probability_")] or ["prediction"]


def _answered(row_id: np.ndarray, classes: Sequence[Any], pred: np.ndarray) -> pd.DataFrame:
    frame = answer(pred, list(classes), 0.5)
    frame.insert(0, "row_id", stored_ids(row_id))
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
    """A stored table, or what is `documented` of a foreign one, as arrays, checked.

    Args:
        frame: columns row_id, target, prediction or (classification) probability_<class> for each
            class, and optionally fold, weight, in regression quantile_<level>, and group, block or
            copies_of: labels of rows that are resampled together.
        classes: the labels, the positive one last of two; () in regression.

    Raises:
        DataError: in one line, when the table cannot be scored.
    """
    frame = _by_class(frame, classes)
    _check_classes(frame, classes)
    if len(frame) == 0:
        raise DataError("The predictions have no rows.")
    lost = [c for c in ("row_id", "target", *_predicted(task, classes)) if c not in frame]
    if lost:
        raise DataError(f"The predictions lack the columns {', '.join(lost)}.")
    _check_ids(frame)
    pred = _numbers(frame, _predicted(task, classes))
    if task == "regression":
        y, pred = _numbers(frame, ["target"])[:, 0], pred[:, 0]
    else:
        y = _class_codes(frame["target"], classes)
        _check_probabilities(pred)
    return Scored(
        task=task, classes=tuple(classes), row_id=frame["row_id"].to_numpy(), y=y, pred=pred,
        folds=frame["fold"].to_numpy(dtype="int64") if "fold" in frame else None,
        weights=_numbers(frame, ["weight"])[:, 0] if "weight" in frame else None,
        groups=next((_codes(frame[c]) for c in dependence.NAMES if c in frame), None),
        **_quantiles(frame, task),
    )  # fmt: skip


def documented(frame: pd.DataFrame) -> pd.DataFrame:
    """A table from outside with the columns that are read from such: others may be features."""
    names = ("row_id", "fold", "target", "prediction")
    answers = ("probability_", "quantile_")
    return frame[[c for c in frame if c in names or str(c).startswith(answers)]]


def aligned(found: Scored, first: Scored) -> Scored:
    """`found` in the order and with the folds of `first`, whose rows and targets it must have.

    And with its groups and weights; where it names no groups those of `found` stay.

    Raises:
        DataError: naming what differs.
    """
    if np.array_equal(found.row_id, first.row_id) and np.array_equal(found.y, first.y):
        groups = found.groups if first.groups is None else first.groups
        return replace(found, folds=first.folds, groups=groups, weights=first.weights)
    theirs = pd.Index(first.row_id.astype(str))
    mine = _spelled_as(found.row_id, theirs)
    if len(mine) != len(theirs) or not mine.isin(theirs).all():
        shared = int(mine.isin(theirs).sum())
        raise DataError(
            f"predictions on other rows ({len(mine):,}, of which {shared:,} are among the "
            f"{len(theirs):,} compared)"
        )
    order = mine.get_indexer(theirs)
    y = found.y[order]
    if not np.allclose(y, first.y, rtol=1e-6, atol=0):
        wrong = int((~np.isclose(y, first.y, rtol=1e-6, atol=0)).sum())
        raise DataError(f"another target on {wrong:,} of {len(y):,} rows")
    groups = first.groups
    if groups is None and found.groups is not None:
        groups = found.groups[order]
    return Scored(
        task=first.task, classes=first.classes, row_id=first.row_id, y=first.y,
        pred=found.pred[order], folds=first.folds, groups=groups, weights=first.weights,
    )  # fmt: skip


def guess(frame: pd.DataFrame) -> tuple[Task, list[Any]]:
    """The task and the classes that a foreign table's columns and target speak of.

    Of two classes the positive one is the greater label.
    """
    named = [c[12:] for c in map(str, frame) if c.startswith("probability_")]
    if not named or "target" not in frame:
        return "regression", []
    seen = pd.unique(frame["target"])
    known = {str(whole(label)): whole(label) for label in seen} | {str(v): v for v in seen}
    labels = sorted((known.get(name, name) for name in named), key=lambda v: (str(type(v)), v))
    return ("binary" if len(labels) == 2 else "multiclass"), labels


def places(table: pd.DataFrame, data: Dataset) -> pd.Series:
    """Row numbers in the data of a predictions table's rows, by id; NaN where there is no such."""
    position = pd.Series(np.arange(data.n_rows), index=data.row_id.astype(str))
    return position.reindex(_spelled_as(table["row_id"], position.index))


def _spelled_as(ids: Any, known: Sequence[str] | pd.Index) -> pd.Index:
    """Ids as text, spelled as the known ones are.

    007 is 7 where not all are known as they stand, and both are whole numbers, each once.
    """
    text: pd.Index = pd.Index(ids).astype(str)
    names = pd.Index(known)
    if text.isin(names).all():
        return text
    theirs, ours = _whole_ids(text), _whole_ids(names)
    if theirs is None or ours is None:
        return text
    found = pd.Series(names, index=ours).reindex(theirs).to_numpy()
    return pd.Index(np.where(pd.isna(found), text, found))


def _whole_ids(ids: pd.Index) -> np.ndarray | None:
    """Ids as whole numbers; None where one is none, or two are the same."""
    if not ids.str.fullmatch(r"-?[0-9]{1,18}(\.0)?").all():
        return None
    numbers = ids.str.removesuffix(".0").astype("int64")
    return numbers.to_numpy() if numbers.is_unique else None


def join(blind: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """Predictions with the targets of their rows: with test rows, this is the look.

    Raises:
        DataError: when row ids are not of this data set.
    """
    rows = places(blind, data)
    if rows.isna().any():
        raise DataError(
            f"{int(rows.isna().sum()):,} row ids are not in the data, "
            f"e.g. {rows.index[rows.isna()][0]}: these predictions are of another table."
        )
    at = rows.to_numpy(dtype="int64")
    y = data.y[at]
    joined = blind.assign(target=np.asarray(data.classes)[y] if data.classes else y)
    return joined if data.weight is None else joined.assign(weight=data.weight[at])


def labelled(frame: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """A table from outside without the rows that have no target, and so cannot be scored."""
    if "row_id" not in frame or not data.unlabelled:
        return frame
    known = [*data.row_id.astype(str), *data.unlabelled]
    kept = ~_spelled_as(frame["row_id"], known).isin(data.unlabelled)
    return frame if kept.all() else frame[kept].reset_index(drop=True)


def completed(frame: pd.DataFrame, classes: Sequence[Any]) -> pd.DataFrame:
    """Of two classes one probability is enough: the other is what is left of 1."""
    frame = _by_class(frame, classes)
    names = [f"probability_{c}" for c in classes]
    given = [name for name in names if name in frame]
    if len(names) != 2 or len(given) != 1:
        return frame
    (other,) = (name for name in names if name not in frame)
    return frame.assign(**{other: 1.0 - _numbers(frame, given)[:, 0]})


def check_blind(frame: pd.DataFrame, data: Dataset) -> None:
    """Refuse predictions that could not be scored, whatever the targets of their rows are.

    Raises:
        DataError: in one line.
    """
    unseen = replace(data, y=np.zeros_like(data.y))
    read(join(frame, unseen), data.task, data.classes)


def check_given(frame: pd.DataFrame, data: Dataset, name: str) -> None:
    """Refuse a table from outside that names no rows, or could not be scored; targets stay unread.

    Raises:
        DataError: in one line.
    """
    if "row_id" not in frame:
        raise DataError(f"{name} has no column row_id.", "name the rows by their id in the data")
    _check_ids(frame)
    check_blind(frame.drop(columns=["target", "fold"], errors="ignore"), data)


def check_targets(frame: pd.DataFrame, data: Dataset, name: str) -> None:
    """Refuse a table from outside that scores another target than the data's: it reads these.

    Raises:
        DataError: in one line.
    """
    if "target" not in frame:
        return
    joined = join(frame, data)
    theirs = frame["target"].dropna()
    ours = joined["target"].reindex(theirs.index)
    if data.classes:
        differ = _label_codes(theirs, data.classes) != _label_codes(ours, data.classes)
    else:
        differ = ~np.isclose(pd.to_numeric(theirs, errors="coerce"), ours, rtol=1e-6)
    if np.any(differ):
        raise DataError(
            f"{int(np.sum(differ)):,} targets in {name} are not those of the same row ids in the "
            "data: these predictions are of another table."
        )


def _check_ids(frame: pd.DataFrame) -> None:
    if not len(frame):
        raise DataError("The predictions have no rows.")
    if frame["row_id"].isna().any():
        raise DataError(f"{int(frame['row_id'].isna().sum()):,} predictions have no row_id.")
    doubled = frame["row_id"].duplicated()
    if doubled.any():
        raise DataError(
            f"{int(doubled.sum()):,} row ids stand twice, e.g. {frame['row_id'][doubled].iloc[0]}."
        )


def _check_classes(frame: pd.DataFrame, classes: Sequence[Any]) -> None:
    known = {f"probability_{c}" for c in classes}
    other = [c for c in frame.columns if str(c).startswith("probability_") and c not in known]
    if classes and other:
        raise DataError(
            f"The predictions have {', '.join(map(str, other[:5]))}; the target's classes are "
            f"{', '.join(str(c) for c in list(classes)[:10])}."
        )


def _quantiles(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    names = [c for c in frame.columns if str(c).startswith("quantile_")]
    if task != "regression" or not names:
        return {}
    try:
        by_level = {float(str(c).removeprefix("quantile_")): c for c in names}
    except ValueError:
        by_level = {}
    if not by_level or not all(0 < level < 1 for level in by_level):
        raise DataError(f"{', '.join(names)}: name quantiles as quantile_0.05, quantile_0.95.")
    levels = sorted(by_level)
    values = _numbers(frame, [by_level[level] for level in levels])
    return {"levels": tuple(levels), "quantiles": values}


def _codes(column: pd.Series) -> np.ndarray:
    return np.asarray(pd.factorize(column)[0], dtype=np.int64)


def _predicted(task: Task, classes: Sequence[Any]) -> list[str]:
    return ["prediction"] if task == "regression" else [f"probability_{c}" for c in classes]


def _numbers(frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    try:
        values = frame[names].to_numpy(dtype="float64")
    except (TypeError, ValueError):
        raise DataError(f"{', '.join(names)} must be numbers.") from None
    if not np.isfinite(values).all():
        wrong = ~np.isfinite(values).all(axis=1)
        example = f"e.g. row_id {frame['row_id'][wrong].iloc[0]}" if "row_id" in frame else ""
        raise DataError(
            f"{int(wrong.sum()):,} rows of {', '.join(names)} are missing or not finite, {example}."
        )
    return np.asarray(values)


def _by_class(frame: pd.DataFrame, classes: Sequence[Any]) -> pd.DataFrame:
    """Probabilities named as the classes are: of class 1 `probability_1.0` is `probability_1`."""
    numbers = [c for c in classes if type(whole(c)) is int]
    spelled = {f"probability_{way(c)}": f"probability_{c}" for c in numbers for way in (int, float)}
    return frame.rename(columns={k: v for k, v in spelled.items() if v not in frame})


def _class_codes(target: pd.Series, classes: Sequence[Any]) -> np.ndarray:
    codes = _label_codes(target, classes)
    if (codes < 0).any():
        known = [str(label) for label in list(classes)[:10]]
        raise DataError(f"The target {target[codes < 0].iloc[0]!r} is none of the classes {known}.")
    return codes


def _label_codes(labels: pd.Series, classes: Sequence[Any]) -> np.ndarray:
    """The numbers of the classes that labels are, -1 where one is none of them."""
    code = {str(whole(label)): number for number, label in enumerate(classes)}
    codes = labels.map(lambda label: code.get(str(whole(label)), -1))
    return np.asarray(codes.to_numpy(dtype="int64"))


def _check_probabilities(pred: np.ndarray) -> None:
    outside = ((pred < -1e-9) | (pred > 1 + 1e-9)).any(axis=1)
    if outside.any():
        worst = pred[outside][0]
        raise DataError(
            f"{int(outside.sum()):,} rows have a probability outside [0, 1], e.g. "
            f"{worst[np.argmax(np.abs(worst - 0.5))]:.6g}."
        )
    total = pred.sum(axis=1)
    off = np.abs(total - 1) > 1e-3
    if off.any():
        raise DataError(
            f"{int(off.sum()):,} rows have probabilities that do not add up to 1, e.g. to "
            f"{total[off][0]:.6g}."
        )
