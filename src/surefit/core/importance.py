"""Permutation importance: what a model loses when one feature's values are shuffled.

Breiman 2001, "Random forests"; for any model as Fisher, Rudin, Dominici 2019. The rows are
validation rows; where the final model was fitted on them too (folds), it says how much the model
relies on a feature, not how much that helps on new rows. Correlated features share their worth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from surefit.core import canvas, metrics
from surefit.core.metrics import Metric
from surefit.items import Figure

REPEATS = 5
MOST_ROWS, FEWEST_ROWS = 1000, 100
ANSWERS = 100_000  # that are asked for, where fewer rows a feature keep to it
SHOWN = 25


def rows_for(n_features: int) -> int:
    """How many rows are shuffled: by the number of features alone, never by the clock."""
    return min(MOST_ROWS, max(FEWEST_ROWS, ANSWERS // (REPEATS * max(n_features, 1))))


def permuted(
    predict: Callable[[pd.DataFrame], np.ndarray], frame: pd.DataFrame, y: np.ndarray,
    metric: Metric, *, seed: int, weights: np.ndarray | None = None,
) -> pd.DataFrame | None:  # fmt: skip
    """Columns feature, importance, low, high: the loss in the metric, with its 95 % t-interval.

    The interval is over the shuffles, of these rows and this model. All shuffles of a feature are
    predicted at once. None where the metric is not defined on the rows.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(frame))[: rows_for(frame.shape[1])])
    frame, y = frame.iloc[rows].reset_index(drop=True), y[rows]
    weights = None if weights is None else weights[rows]
    base, n = metrics.value(metric, y, predict(frame), weights=weights), len(frame)
    if not np.isfinite(base):
        return None
    many = pd.concat([frame] * REPEATS, ignore_index=True)
    sign = 1 if metric.greater_is_better else -1
    quantile = stdtrit(REPEATS - 1, 0.975)
    found: list[tuple[str, float, float, float]] = []
    for name in frame.columns:
        shuffled = np.concatenate([k * n + rng.permutation(n) for k in range(REPEATS)])
        column = many[name].take(shuffled).set_axis(many.index)
        pred = predict(many.assign(**{name: column}))
        scores = [metrics.value(metric, y, pred[k * n : (k + 1) * n], weights=weights)
                  for k in range(REPEATS)]  # fmt: skip
        losses = [sign * (base - score) for score in scores]
        mean, half = np.mean(losses), quantile * np.std(losses, ddof=1) / np.sqrt(REPEATS)
        found.append((str(name), float(mean), float(mean - half), float(mean + half)))
    table = pd.DataFrame(found, columns=["feature", "importance", "low", "high"])
    return table.sort_values("importance", ascending=False, kind="stable").reset_index(drop=True)


def draw(numbers: pd.DataFrame, *, metric: str) -> Figure:
    """Dots with intervals, the most important feature on top."""
    shown = numbers.head(SHOWN)
    title = "What the model relies on: loss when a feature is shuffled"
    drawing, (ax,) = canvas.start(title, width=6.6, height=1.6 + 0.3 * max(len(shown), 2))
    canvas.dress(ax, f"loss of {canvas.label(metric, 40)}", "", grid="x")
    at = np.arange(len(shown))
    ax.axvline(0, color=canvas.GREY, linewidth=1)
    ax.hlines(at, shown["low"], shown["high"], color=canvas.BLUE, linewidth=2.2)
    ax.plot(shown["importance"], at, marker="o", linestyle="", color=canvas.BLUE)
    ax.set_yticks(at, [canvas.label(name, 32) for name in shown["feature"]])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    canvas.group_digits(ax, "x")
    return canvas.finish("importance", title, drawing, numbers)
