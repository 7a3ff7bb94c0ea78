"""The pictures of an evaluation, from targets and predictions alone.

`evaluation_figures` is what most callers want. Beneath it, each picture is drawn from the table
that `curves` gives for it, so that anybody can draw it again from the stored CSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from surefit.core import canvas, curves, figures_classes, figures_regression
from surefit.core.curves import Codes, Floats
from surefit.errors import DataError
from surefit.items import Figure
from surefit.results import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def evaluation_figures(
    task: Task,
    y: ArrayLike,
    pred: ArrayLike,
    classes: Sequence[str] = (),
    *,
    threshold: float = 0.5,
    target: str = "",
    weights: ArrayLike | None = None,
) -> list[Figure]:
    """The pictures of these predictions that can be drawn; none where there are no rows.

    Args:
        task: "binary", "multiclass" or "regression".
        y: class codes (n,), or floats (n,) in regression.
        pred: probabilities (n, K), or floats (n,) in regression.
        classes: the K names, in the order of the codes; the second is the positive one.
        threshold: in binary tasks a row is called positive at this probability or above.
        target: the target's name (and unit), for the axes of a regression.
        weights: (n,) how much each row counts in curves, shares and means; counts stay rows.

    Raises:
        DataError: shapes that do not fit together, unknown codes, or values that are not finite.
    """
    w = None if weights is None else np.asarray(weights, float)
    if task == "regression":
        true, predicted = np.asarray(y, float).ravel(), np.asarray(pred, float).ravel()
        _check(true, predicted, len(predicted))
        return list(figures_regression.figures(true, predicted, target, w)) if len(true) else []
    codes, probabilities = _classification(task, y, pred, classes)
    if not len(codes):
        return []
    if task == "binary":
        return list(_binary(codes, probabilities[:, 1], classes, threshold, w))
    return list(_multiclass(codes, probabilities, classes, w))


def _classification(
    task: Task, y: ArrayLike, pred: ArrayLike, classes: Sequence[str]
) -> tuple[Codes, Floats]:
    codes = np.asarray(y)
    probabilities = np.asarray(pred, float)
    _check(codes.astype(float), probabilities, len(probabilities))
    codes = codes.astype(np.int64)
    k = len(classes)
    if probabilities.shape != (len(codes), k) or k < 2 or (task == "binary" and k != 2):
        raise DataError(
            f"A {task} task with {k} classes and {len(codes)} rows has probabilities of shape "
            f"{probabilities.shape}.",
            "Give one column of probabilities for each class.",
        )
    if len(codes) and not 0 <= codes.min() <= codes.max() < k:
        raise DataError(
            f"The class codes run from {codes.min()} to {codes.max()}, with {k} classes.",
            f"Give codes from 0 to {k - 1}.",
        )
    return codes, probabilities


def _check(y: Floats, pred: Floats, n: int) -> None:
    if len(y) != n:
        raise DataError(
            f"There are {len(y)} targets and {n} predictions.", "Give one of each a row."
        )
    bad = int(np.count_nonzero(~np.isfinite(pred)) + np.count_nonzero(~np.isfinite(y)))
    if bad:
        raise DataError(
            f"{bad} targets or predictions are not finite numbers.",
            "Evaluate rows with a known target, and a model that predicts finite numbers.",
        )


def _binary(
    y: Codes, score: Floats, classes: Sequence[str], threshold: float, w: Floats | None
) -> Iterator[Figure]:
    positive = str(classes[1])
    counted = y if w is None else y[w > 0]
    two = 0 < np.count_nonzero(counted) < len(counted)
    if two:
        yield draw_roc(curves.roc(y, score, w))
        yield draw_precision_recall(curves.precision_recall(y, score, w))
    yield draw_calibration(
        curves.calibration(y, score, w), x=f"predicted probability of {canvas.label(positive)}"
    )
    called = (score >= threshold).astype(np.int64)
    title = f"Confusion matrix at threshold {threshold:.3g}"
    yield draw_confusion(curves.confusion(y, called, classes, w), title=title)
    yield draw_scores(curves.score_histogram(y, score, classes, w), positive=positive)
    if two:
        yield draw_thresholds(curves.thresholds(y, score, w), chosen=threshold)
        yield draw_gain(curves.gain(y, score, w), positive=positive)


def _multiclass(
    y: Codes, pred: Floats, classes: Sequence[str], w: Floats | None
) -> Iterator[Figure]:
    called = pred.argmax(axis=1).astype(np.int64)
    yield draw_confusion(curves.confusion(y, called, classes, w))
    yield from figures_classes.figures(y, pred, classes, w)
    top = curves.calibration((y == called).astype(np.int64), pred.max(axis=1), w)
    yield draw_calibration(
        top,
        title="Calibration of the top class",
        x="probability of the predicted class",
        y="share predicted correctly",
    )


def draw_roc(numbers: pd.DataFrame) -> Figure:
    """The ROC curve, from `curves.roc`."""
    title = f"ROC curve: area {numbers['roc_auc'].iloc[0]:.3f}"
    drawing, (ax,) = canvas.start(title, width=5.0, height=4.7)
    canvas.dress(ax, "false positive rate", "true positive rate (recall)")
    ax.plot([0, 1], [0, 1], color=canvas.GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="chance")
    x, y = numbers["false_positive_rate"], numbers["true_positive_rate"]
    ax.fill_between(x, y, color=canvas.BLUE, alpha=0.08, linewidth=0)
    ax.plot(x, y, color=canvas.BLUE, linewidth=2, label="model")
    canvas.unit_square(ax)
    canvas.legend(ax, loc="lower right")
    return canvas.finish("roc", title, drawing, numbers)


def draw_precision_recall(numbers: pd.DataFrame) -> Figure:
    """The precision-recall curve, from `curves.precision_recall`."""
    title = f"Precision-recall: average precision {numbers['average_precision'].iloc[0]:.3f}"
    drawing, (ax,) = canvas.start(title, width=5.0, height=4.7)
    canvas.dress(ax, "recall", "precision")
    x, y = numbers["recall"].to_numpy(), numbers["precision"].to_numpy()
    ax.axhline(
        y[-1], color=canvas.GREY, linewidth=1.2, linestyle=(0, (4, 3)), label=f"chance {y[-1]:.3g}"
    )
    ax.plot(
        np.append(0, x), np.append(y[0], y), color=canvas.BLUE, linewidth=2, label="model",
        drawstyle="steps-pre" if len(x) < 100 else "default",
    )  # fmt: skip
    canvas.unit_square(ax)
    canvas.legend(ax, loc="lower left" if y[-1] > 0.3 else "upper right")
    return canvas.finish("precision_recall", title, drawing, numbers)


def draw_calibration(
    numbers: pd.DataFrame,
    *,
    title: str = "Calibration",
    x: str = "predicted probability",
    y: str = "observed share",
) -> Figure:
    """Observed against predicted shares with their intervals, from `curves.calibration`."""
    drawing, (ax,) = canvas.start(title, width=5.0, height=4.7)
    canvas.dress(ax, x, y)
    ax.plot(
        [0, 1], [0, 1], color=canvas.GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect"
    )
    at, observed = numbers["mean_predicted"], numbers["share_observed"]
    below, above = observed - numbers["low"], numbers["high"] - observed
    ax.fill_between(at, numbers["low"], numbers["high"], color=canvas.BLUE, alpha=0.13, linewidth=0)
    ax.errorbar(
        at, observed, yerr=[below.clip(lower=0), above.clip(lower=0)], color=canvas.BLUE,
        linewidth=1.6, elinewidth=1, marker="o", markersize=5, label="model, 95 % interval",
    )  # fmt: skip
    canvas.unit_square(ax)
    canvas.legend(ax, loc="best")
    sizes = numbers["n_rows"]
    same = (
        f"{sizes.min():,} to {sizes.max():,}" if sizes.min() < sizes.max() else f"{sizes.max():,}"
    )
    canvas.note(ax, f"{len(numbers)} bins of {same} rows")
    return canvas.finish("calibration", title, drawing, numbers)


def draw_confusion(numbers: pd.DataFrame, *, title: str = "Confusion matrix") -> Figure:
    """True by predicted class, coloured by the share of the true class; `curves.confusion`."""
    k = round(len(numbers) ** 0.5)
    counts = numbers["n_rows"].to_numpy().reshape(k, k)
    share = numbers["share_of_true"].to_numpy().reshape(k, k)
    names = [canvas.label(name, 18) for name in numbers["predicted"][:k]]
    side = float(np.clip(2.6 + 0.52 * k, 4.1, 8.6))
    room = (side - 1.9) * 72 / k  # points a cell
    upright = max(map(len, names)) * min(room * 0.62, 10) * 0.62 > room * 0.95
    beside = max(map(len, names)) * 0.07
    height = side + (beside if upright else 0)
    drawing, (ax,) = canvas.start(title, width=side + 0.6 + beside, height=height)
    canvas.dress(ax, "predicted class", "true class", grid="")
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    bar = drawing.colorbar(image, ax=ax, fraction=0.046, pad=0.02, format="{x:.0%}")
    bar.outline.set_visible(False)
    bar.set_label("share of the true class", fontsize=9.5, color=canvas.INK)
    bar.ax.tick_params(labelsize=9, colors=canvas.MUTED, labelcolor=canvas.INK, length=0)
    _name_cells(ax, names, room, upright)
    _write_counts(ax, counts, share, room)
    return canvas.finish("confusion", title, drawing, numbers)


def _name_cells(ax: Axes, names: Sequence[str], room: float, upright: bool) -> None:
    """Class names along both sides, every so many where one cell has few points of `room`."""
    step = int(np.ceil(7 / room))
    at = range(0, len(names), step)
    size = float(np.clip(room * 0.62, 6, 10))
    shown = [names[i] for i in at]
    ax.set_xticks(at, shown, rotation=90 if upright else 0, fontsize=size)
    ax.set_yticks(at, shown, fontsize=size)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if len(names) <= 60:
        ax.set_xticks(np.arange(-0.5, len(names)), minor=True)
        ax.set_yticks(np.arange(-0.5, len(names)), minor=True)
        ax.grid(which="minor", color="white", linewidth=1.0 if room > 20 else 0.5)


def _write_counts(ax: Axes, counts: Codes, share: Floats, room: float) -> None:
    """Counts in the cells where the longest fits in `room` points; shares too in large cells."""
    digits = "," if room > 40 else "d"
    longest = len(f"{counts.max():{digits}}")
    size = min(12.0, room * 0.95 / (0.64 * longest))
    if size < 5.5:
        return
    for (i, j), n in np.ndenumerate(counts):
        if n == 0 and len(counts) > 5:
            continue
        text = f"{n:{digits}}" + (f"\n{share[i, j]:.1%}" if room > 60 else "")
        color = "white" if share[i, j] > 0.55 else canvas.INK
        ax.text(j, i, text, ha="center", va="center", fontsize=size, color=color)


def draw_scores(numbers: pd.DataFrame, *, positive: str = "the positive class") -> Figure:
    """How the score is spread in each class, from `curves.score_histogram`."""
    title = "Scores by true class"
    drawing, (ax,) = canvas.start(title)
    x = f"predicted probability of {canvas.label(positive)}"
    canvas.dress(ax, x, "share of the class's rows", grid="y")
    ordered = [(name, part) for name, part in numbers.groupby("class", sort=False)]
    for (name, part), color in zip(ordered, (canvas.BLUE, canvas.VERMILLION), strict=False):
        edges = np.append(part["low"], part["high"].iloc[-1])
        text = f"{canvas.label(name)} ({part['n_rows'].sum():,} rows)"
        share = part["share_of_class"].to_numpy()
        ax.stairs(share, edges, fill=True, color=color, alpha=0.22, linewidth=0)
        ax.stairs(share, edges, color=color, linewidth=1.6, label=text)
    canvas.percent(ax, "y")
    ax.margins(x=0.01)
    ax.set_ylim(0, float(numbers["share_of_class"].max()) * 1.18)
    canvas.legend(ax, loc="upper center", ncols=1)
    return canvas.finish("scores", title, drawing, numbers)


def draw_gain(numbers: pd.DataFrame, *, positive: str = "the positive class") -> Figure:
    """Cumulative gain and lift, from `curves.gain`."""
    title = "Gain and lift"
    drawing, (left, right) = canvas.start(title, width=8.4, height=4.2, columns=2)
    rows, found = numbers["share_of_rows"].to_numpy(), numbers["share_of_positives"].to_numpy()
    who = canvas.label(positive, 18)
    canvas.dress(left, "highest-scored share of rows", f"share of {who} found")
    left.plot([0, 1], [0, 1], color=canvas.GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    left.plot(np.append(0, rows), np.append(0, found), color=canvas.BLUE, linewidth=2)
    canvas.percent(left, "xy")
    canvas.unit_square(left)
    canvas.dress(right, "highest-scored share of rows", "lift: times better than chance")
    right.axhline(1, color=canvas.GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="chance")
    right.plot(rows, numbers["lift"], color=canvas.BLUE, linewidth=2, label="model")
    canvas.percent(right, "x")
    right.set_xlim(-0.015, 1.015)
    right.set_ylim(bottom=0)
    canvas.legend(right, loc="best")
    return canvas.finish("gain", title, drawing, numbers)


def draw_thresholds(numbers: pd.DataFrame, *, chosen: float | None = None) -> Figure:
    """Precision, recall and F1 by threshold, from `curves.thresholds`."""
    best = numbers.iloc[int(numbers["f1"].to_numpy().argmax())]
    title = f"By threshold: F1 peaks at {best['f1']:.3f}, threshold {best['threshold']:.3g}"
    drawing, (ax,) = canvas.start(title)
    canvas.dress(ax, "threshold on the predicted probability", "value")
    lines = [
        ("precision", canvas.BLUE, "-"),
        ("recall", canvas.VERMILLION, (0, (6, 2))),
        ("f1", canvas.GREEN, "-"),
    ]
    for column, color, dashes in lines:
        style: dict[str, Any] = {"linestyle": dashes, "linewidth": 2 if column == "f1" else 1.6}
        name = "F1" if column == "f1" else column
        ax.plot(
            numbers["threshold"], numbers[column], drawstyle="steps-pre", color=color, label=name,
            **style,
        )  # fmt: skip
    if chosen is not None:
        ax.axvline(
            chosen, color=canvas.INK, linewidth=1, linestyle=":", label=f"in use: {chosen:.3g}"
        )
    ax.set_ylim(-0.015, 1.015)
    canvas.legend(ax, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return canvas.finish("thresholds", title, drawing, numbers)
