"""Metrics on arrays: a value, its value under many reweightings, and without each row in turn.

Two forms cover nearly all of them, and both make a bootstrap cheap. A *moment* metric is a function
of weighted sums of per-row columns, so that resampling is one matrix product. A *curve* metric is a
function of true and false positives cumulated from the highest score down, so that resampling is
one sort and weighted cumulative sums. Ties are handled as in scikit-learn. A *direct* metric is any
function of weights.

Conventions: in classification `y` holds codes 0..K-1, shape (n,), and `pred` probabilities,
shape (n, K); with K = 2, column 1 is the positive class. In regression both have shape (n,).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefit.core import formulas as by
from surefit.core import rankings as ranked
from surefit.core.rankings import Ranking
from surefit.errors import ConfigError, DataError, did_you_mean
from surefit.results import Task

Floats = NDArray[np.float64]
Columns = Callable[[NDArray[Any], NDArray[Any], float], Floats]
Combine = Callable[[Floats], Floats]
Curve = Callable[[ranked.Curve], Floats]
OfEachRow = Callable[[Floats, Floats], tuple[Floats, Floats]]
Direct = Callable[[NDArray[Any], NDArray[Any]], Callable[[Floats], Floats]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric in its moment form (`columns`, `combine`) or its curve form (`curve`).

    Attributes:
        name: scikit-learn's name of it where it has one.
        tasks: the tasks it is defined for.
        greater_is_better: the direction.
        columns: (y, pred, threshold) -> (n, k), one row's share of each sum.
        combine: sums (..., k) -> (...), NaN where undefined.
        curve: `rankings.Curve` under b reweightings -> (b,).
        curve_without: true and false positives (g,) at the end of each group of tied scores -> the
            metric without a positive row and without a negative row of each group.
        curve_slope: the same, weighted -> the metric's derivative by the weight of such a row.
        by_share: a curve metric of several classes averages them by their rows, not evenly.
        direct: (y, pred) -> a function from weights (b, n) to values (b,).
        counted: sums (..., k) -> the rows that a proportion is taken of, for Wilson's interval.
        raised_by_noise: on average it is more than its value on very many rows.
        bounds: the least and the greatest value possible.
        threshold: binary labels are `probability >= threshold`; other tasks ignore it.
    """

    name: str
    tasks: tuple[Task, ...]
    greater_is_better: bool
    columns: Columns | None = None
    combine: Combine | None = None
    curve: Curve | None = None
    curve_without: OfEachRow | None = None
    curve_slope: OfEachRow | None = None
    by_share: bool = False
    direct: Direct | None = None
    counted: Combine | None = None
    raised_by_noise: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)
    threshold: float = 0.5

    @property
    def sign(self) -> float:
        """1 where greater is better, else -1."""
        return 1.0 if self.greater_is_better else -1.0

    @property
    def of_classes(self) -> bool:
        """Whether it counts the classes apart: a few rows of one of them then decide it."""
        if self.curve is not None:
            return True
        return self.columns is by.label_columns and self.combine is not by.accuracy


# --- the registry ---

_BINARY: tuple[Task, ...] = ("binary",)
_MULTICLASS: tuple[Task, ...] = ("multiclass",)
_CLASSES: tuple[Task, ...] = ("binary", "multiclass")
_NUMBERS: tuple[Task, ...] = ("regression",)
_INF = float("inf")


def _on_labels(name: str, tasks: tuple[Task, ...], combine: Combine, **more: Any) -> Metric:
    return Metric(
        name=name, tasks=tasks, greater_is_better=True, columns=by.label_columns,
        combine=combine, **more,
    )  # fmt: skip


def _loss(name: str, tasks: tuple[Task, ...], columns: Columns, combine: Combine) -> Metric:
    return Metric(
        name=name, tasks=tasks, greater_is_better=False, columns=columns, combine=combine,
        bounds=(0.0, _INF),
    )  # fmt: skip


def _on_curve(
    name: str, tasks: tuple[Task, ...], curve: Curve, without: OfEachRow, **more: Any
) -> Metric:
    return Metric(
        name=name, tasks=tasks, greater_is_better=True, curve=curve, curve_without=without, **more
    )


def _top(k: int) -> Metric:
    return Metric(
        name=f"top_{k}_accuracy", tasks=_MULTICLASS, greater_is_better=True,
        columns=partial(by.top_columns, k), combine=by.second_mean, counted=by.first_sum,
    )  # fmt: skip


# In the order in which they are shown.
_METRICS: tuple[Metric, ...] = (
    _on_curve("roc_auc", _BINARY, ranked.area, ranked.area_without,
              curve_slope=ranked.area_slope),
    _on_curve("average_precision", _BINARY, ranked.average_precision,
              ranked.average_precision_without,
              curve_slope=ranked.average_precision_slope),
    _loss("log_loss", _CLASSES, by.log_columns, by.second_mean),
    _loss("brier", _CLASSES, by.square_columns, by.second_mean),
    Metric(name="ece", tasks=_CLASSES, greater_is_better=False,
           columns=by.calibration_columns, combine=by.ece, raised_by_noise=True),
    _on_labels("accuracy", _CLASSES, by.accuracy, counted=by.n_rows),
    _on_labels("balanced_accuracy", _CLASSES, by.balanced_accuracy),
    _on_labels("f1", _BINARY, by.f1),
    _on_labels("precision", _BINARY, by.precision, counted=by.n_predicted),
    _on_labels("recall", _BINARY, by.recall, counted=by.n_actual),
    _on_labels("specificity", _BINARY, by.specificity, counted=by.n_negative),
    _on_curve("ks", _BINARY, ranked.ks, ranked.ks_without, raised_by_noise=True),
    _on_curve("lift_10", _BINARY, ranked.lift, ranked.lift_without, bounds=(0.0, 10.0)),
    _on_labels("f1_macro", _MULTICLASS, by.f1_macro),
    _on_labels("f1_weighted", _MULTICLASS, by.f1_weighted),
    _on_labels("precision_macro", _MULTICLASS, by.precision_macro),
    _on_labels("precision_weighted", _MULTICLASS, by.precision_weighted),
    _on_labels("recall_macro", _MULTICLASS, by.recall_macro),
    _on_labels("recall_weighted", _MULTICLASS, by.accuracy, counted=by.n_rows),
    _on_labels("specificity_macro", _MULTICLASS, by.specificity_macro),
    _on_labels("specificity_weighted", _MULTICLASS, by.specificity_weighted),
    _on_curve("roc_auc_ovr", _MULTICLASS, ranked.area, ranked.area_without,
              curve_slope=ranked.area_slope),
    _on_curve("roc_auc_ovr_weighted", _MULTICLASS, ranked.area, ranked.area_without,
              curve_slope=ranked.area_slope, by_share=True),
    _on_curve("average_precision_macro", _MULTICLASS, ranked.average_precision,
              ranked.average_precision_without,
              curve_slope=ranked.average_precision_slope),
    _on_curve("average_precision_weighted", _MULTICLASS, ranked.average_precision,
              ranked.average_precision_without,
              curve_slope=ranked.average_precision_slope, by_share=True),
    _on_curve("ks_ovr", _MULTICLASS, ranked.ks, ranked.ks_without, raised_by_noise=True),
    _on_curve("lift_10_ovr", _MULTICLASS, ranked.lift, ranked.lift_without, bounds=(0.0, _INF)),
    _top(3),
    _on_labels("mcc", _CLASSES, by.mcc, bounds=(-1.0, 1.0)),
    _on_labels("kappa", _CLASSES, by.kappa, bounds=(-1.0, 1.0)),
    _loss("rmse", _NUMBERS, by.error_columns, by.rmse),
    _loss("mae", _NUMBERS, by.error_columns, by.mae),
    Metric(
        name="r2", tasks=_NUMBERS, greater_is_better=True, columns=by.error_columns,
        combine=by.r2, bounds=(-_INF, 1.0),
    ),
    Metric(name="median_absolute_error", tasks=_NUMBERS, greater_is_better=False,
           direct=by.median_error, bounds=(0.0, _INF)),
    _loss("mape", _NUMBERS, by.relative_columns, by.second_mean),
    _loss("rmsle", _NUMBERS, by.log_error_columns, by.root_second_mean),
)  # fmt: skip

_DEFAULT: dict[Task, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
# Known, and computed where asked for: what others say already, or few ask of many classes.
_NOT_SHOWN: dict[Task, set[str]] = {
    "binary": {"kappa"},
    "multiclass": {"recall_macro", "recall_weighted", "specificity_weighted",
                   "ks_ovr", "lift_10_ovr"},
    "regression": set(),
}  # fmt: skip


def names(task: Task) -> tuple[str, ...]:
    """The names of the metrics known for a task, in the order in which they are shown."""
    return tuple(m.name for m in _METRICS if task in m.tasks)


def find(name: str, task: Task) -> Metric:
    """The metric of that name; of many classes `top_K_accuracy` for any K.

    Raises:
        ConfigError: no metric of that name is defined for the task.
    """
    for metric in _METRICS:
        if metric.name == name and task in metric.tasks:
            return metric
    top = re.fullmatch(r"top_([1-9]\d{0,3})_accuracy", name)
    if top and task == "multiclass":
        return _top(int(top[1]))
    raise ConfigError(
        f'no metric "{name}" for {task} targets: {did_you_mean(name, names(task))}',
        f'optimize = "{_DEFAULT[task]}"   # under [metric]; the default for {task} targets',
    )


def of_class(name: str, k: int) -> Metric:
    """Precision, recall or F1 of the class of code `k`, among many."""
    combine, counted = {
        "precision": (by.precision, by.n_predicted),
        "recall": (by.recall, by.n_actual),
        "f1": (by.f1, None),
    }[name]
    return _on_labels(
        f"{name} of class {k}", _MULTICLASS, partial(combine, k=k),
        counted=partial(counted, k=k) if counted else None,
    )  # fmt: skip


def mean_of(name: str, *, greater_is_better: bool, bounds: tuple[float, float]) -> Metric:
    """The mean of `y` itself, whatever is predicted: of hits, losses or money a row."""
    return Metric(
        name=name, tasks=_NUMBERS, greater_is_better=greater_is_better, bounds=bounds,
        columns=by.own_columns, combine=by.second_mean,
    )  # fmt: skip


def default(task: Task) -> Metric:
    """What is optimised unless asked otherwise: roc_auc, log_loss or rmse."""
    return find(_DEFAULT[task], task)


def reported(task: Task) -> tuple[Metric, ...]:
    """The standard set shown for a task, the default first."""
    shown = [find(name, task) for name in names(task) if name not in _NOT_SHOWN[task]]
    return tuple(sorted(shown, key=lambda metric: metric.name != _DEFAULT[task]))


# --- evaluation ---


def _checked(y: NDArray[Any], pred: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    y, pred = np.asarray(y), np.asarray(pred)
    if len(y) != len(pred):
        raise DataError(f"{len(y)} targets and {len(pred)} predictions: they must pair up.")
    if not np.all(np.isfinite(pred)):
        bad = int(np.flatnonzero(~np.isfinite(pred.reshape(len(pred), -1)).all(axis=1))[0])
        raise DataError(f"prediction {bad} is {pred[bad]}: every prediction must be finite.")
    if pred.ndim == 2 and len(y) and not (y.min() >= 0 and y.max() < pred.shape[1]):
        raise DataError(f"targets must be codes 0..{pred.shape[1] - 1}, one a probability column.")
    if not np.issubdtype(pred.dtype, np.floating):
        pred = pred.astype(np.float64)
    return y, pred


def _rankings(y: NDArray[Any], pred: NDArray[Any]) -> list[Ranking]:
    """One ranking with two classes; one a class, against the rest, with more."""
    classes = (1,) if pred.shape[1] == 2 else range(pred.shape[1])
    return [Ranking.of(pred[:, k], y == k) for k in classes]


def _mean_of_classes(by_class: Floats, rows: Floats, metric: Metric) -> Floats:
    """(b,) from (b, K) and the rows of each class; undefined classes are left out of the mean."""
    defined = ~np.isnan(by_class)
    share = rows if metric.by_share else np.ones_like(by_class)
    return by.ratio((np.nan_to_num(by_class) * share).sum(axis=-1), (share * defined).sum(axis=-1))


def evaluator(
    metrics: Sequence[Metric], y: NDArray[Any], pred: NDArray[Any], row_weights: Any = None
) -> Callable[[Floats], Floats]:
    """A function from counts (b, n) to the metrics' values (b, m), NaN where undefined.

    Sorts and per-row columns are made once and shared by the metrics that use the same. Where the
    rows have weights of their own, counts are multiplied by them.

    Raises:
        DataError: lengths differ, or a prediction is not finite.
    """
    y, pred = _checked(y, pred)
    tables = {
        (m.columns, m.threshold): m.columns(y, pred, m.threshold) for m in metrics if m.columns
    }
    wide = np.hstack([np.empty((len(y), 0)), *tables.values()])  # one product for all of them
    cuts = np.cumsum([table.shape[1] for table in tables.values()])[:-1].tolist()
    rankings = _rankings(y, pred) if any(m.curve for m in metrics) and len(y) else []
    direct = {j: m.direct(y, pred) for j, m in enumerate(metrics) if m.direct and len(y)}

    def evaluate(weights: Floats) -> Floats:
        weights = weights if row_weights is None else weights * row_weights
        out = np.full((len(weights), len(metrics)), np.nan)
        parts = np.split(weights @ wide, cuts, axis=1) if tables else []
        sums = dict(zip(tables, parts, strict=True))
        by_class = np.full((len(rankings), *out.shape), np.nan)
        rows = np.zeros((len(weights), len(rankings)))
        for k, ranking in enumerate(rankings):
            curve = ranking.curve(weights)
            if curve is None:
                continue
            rows[:, k] = curve.tp[:, -1]
            found = {how: how(curve) for how in {m.curve for m in metrics} if how is not None}
            for j, metric in enumerate(metrics):
                if metric.curve:
                    by_class[k, :, j] = found[metric.curve]
        for j, metric in enumerate(metrics):
            if metric.columns and metric.combine:
                out[:, j] = metric.combine(sums[metric.columns, metric.threshold])
            elif j in direct:
                out[:, j] = direct[j](weights)
            elif rankings:  # classes absent from y are left out of the mean
                out[:, j] = _mean_of_classes(by_class[:, :, j].T, rows, metric)
        return out

    return evaluate


def value(
    metric: Metric, y: NDArray[Any], pred: NDArray[Any], *, weights: NDArray[Any] | None = None
) -> float:
    """The metric's value, equal to scikit-learn's with `sample_weight`.

    NaN where it is undefined: a ranking or recall of one class, R2 of a constant target, MAPE with
    a zero target, no rows. Classes absent from `y` are left out of `roc_auc_ovr`'s mean, and rows
    of weight 0 count as absent.

    Raises:
        DataError: lengths differ, a prediction is not finite, or a code has no column.
    """
    row = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    return float(resampled(metric, y, pred, row[None, :])[0])


def resampled(metric: Metric, y: NDArray[Any], pred: NDArray[Any], counts: NDArray[Any]) -> Floats:
    """The metric (b,) under each row of a matrix (b, n) of counts or weights.

    Memory is a few times that of `counts`: the caller bounds it by the rows given at once.
    """
    weights = np.asarray(counts, dtype=np.float64)
    return evaluator([metric], y, pred)(weights)[:, 0]


def leave_one_out(
    metric: Metric, y: NDArray[Any], pred: NDArray[Any], row_weights: Any = None
) -> Floats | None:
    """The metric (n,) without each row in turn; None where there is no cheap form.

    O(n log n). Exact, but for rankings of weighted rows, which are expanded to first order in the
    row's weight. NaN at a row without which the metric is undefined.
    """
    y, pred = _checked(y, pred)
    if metric.columns and metric.combine:
        table = metric.columns(y, pred, metric.threshold)
        if row_weights is not None:
            table = table * np.asarray(row_weights, dtype=np.float64)[:, None]
        return metric.combine(table.sum(axis=0) - table)
    of_each = metric.curve_without if row_weights is None else metric.curve_slope
    if of_each is None or metric.curve is None:
        return None
    weights = np.ones(len(y)) if row_weights is None else np.asarray(row_weights, dtype=np.float64)
    rankings = _rankings(y, pred) if len(y) else []
    by_class = np.full((len(y), len(rankings)), np.nan)
    rows = np.zeros_like(by_class)
    for k, ranking in enumerate(rankings):
        tp, fp = ranking.whole(weights)
        positive, negative = of_each(tp, fp)
        group = np.searchsorted(ranking.ends, np.arange(len(y)))
        found = np.where(ranking.positive > 0, positive[group], negative[group])
        own = weights[ranking.order]
        if row_weights is not None and (curve := ranking.curve(weights[None, :])) is not None:
            found = metric.curve(curve) - own * found
        by_class[ranking.order, k] = found
        rows[ranking.order, k] = tp[-1] - own * ranking.positive
    return _mean_of_classes(by_class, rows, metric)
