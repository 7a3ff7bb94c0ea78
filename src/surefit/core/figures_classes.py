"""The pictures of many classes, each against the rest, from the tables of `curves_classes`.

At many classes the mean of all is drawn, and those that do worst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from surefit.core import canvas, curves_classes
from surefit.core.curves import Codes, Floats
from surefit.items import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BARS = 40
MAX_PANELS = 12
SHARES = {"share_of_class": "rows of the class", "share_of_rest": "all other rows"}
FEW_CLASSES = 6  # up to so many, shares of rows are not drawn on a logarithmic axis


def figures(y: Codes, pred: Floats, classes: Sequence[str], w: Floats | None) -> Iterator[Figure]:
    """Those that can be drawn of these rows."""
    called = pred.argmax(axis=1).astype(np.int64)
    ranking = curves_classes.roc_by_class(y, pred, classes, w)
    if len(ranking):
        yield draw_roc(ranking)
        yield draw_precision_recall(curves_classes.precision_recall_by_class(y, pred, classes, w))
    yield draw_class_scores(curves_classes.class_scores(y, called, classes, w))
    if len(ranking):
        yield draw_scores(curves_classes.scores_by_class(y, pred, classes, w))
        yield draw_gain(curves_classes.gain_by_class(y, pred, classes, w))


def _parts(numbers: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """Each curve with how its line looks: the mean is black and bold."""
    found = []
    for i, (name, part) in enumerate(numbers.groupby("class", sort=False)):
        style: dict[str, Any] = {"color": canvas.INK, "linewidth": 2.6, "zorder": 3}
        if i:
            turn, place = divmod(i - 1, 6)
            dashes = ("-", (0, (5, 1.5)))[turn % 2]
            style = {"color": canvas.CYCLE[place], "linewidth": 1.3, "linestyle": dashes}
        found.append((canvas.label(str(name), 18), part, style))
    return found


def draw_roc(numbers: pd.DataFrame) -> Figure:
    """One-vs-rest ROC curves, from `curves_classes.roc_by_class`."""
    title = f"One-vs-rest ROC: macro area {numbers['roc_auc'].iloc[0]:.3f}"
    drawing, (ax,) = canvas.start(title, width=6.6, height=4.6)
    canvas.dress(ax, "false positive rate", "true positive rate (recall)")
    ax.plot([0, 1], [0, 1], color=canvas.GREY, linewidth=1, linestyle=(0, (4, 3)))
    for name, part, style in _parts(numbers):
        x, y = part["false_positive_rate"], part["true_positive_rate"]
        ax.plot(x, y, label=f"{name}  {part['roc_auc'].iloc[0]:.3f}", **style)
    canvas.unit_square(ax)
    canvas.legend(ax, outside=True, title="class, area (worst first)", title_fontsize=9)
    return canvas.finish("roc", title, drawing, numbers)


def draw_precision_recall(numbers: pd.DataFrame) -> Figure:
    """One-vs-rest precision by recall, from `curves_classes.precision_recall_by_class`."""
    area = numbers["average_precision"].iloc[0]
    title = f"One-vs-rest precision-recall: macro average precision {area:.3f}"
    drawing, (ax,) = canvas.start(title, width=6.6, height=4.6)
    canvas.dress(ax, "recall", "precision")
    for name, part, style in _parts(numbers):
        x, y = part["recall"].to_numpy(), part["precision"].to_numpy()
        ax.plot(
            np.append(0, x), np.append(y[0], y), drawstyle="steps-pre" if len(x) < 100 else None,
            label=f"{name}  {part['average_precision'].iloc[0]:.3f}", **style,
        )  # fmt: skip
    canvas.unit_square(ax)
    canvas.legend(ax, outside=True, title="class, average precision", title_fontsize=9)
    return canvas.finish("precision_recall", title, drawing, numbers)


def draw_gain(numbers: pd.DataFrame) -> Figure:
    """Gain and lift of each class, from `curves_classes.gain_by_class`.

    With many classes each has few rows, and all is decided in the first per cent: the shares of
    rows are then on a logarithmic axis.
    """
    title = "Gain and lift, one class against the rest"
    drawing, (left, right) = canvas.start(title, width=9.4, height=4.3, columns=2)
    canvas.dress(left, "rows of highest probability", "share of the class found")
    canvas.dress(right, "rows of highest probability", "lift: times better than chance")
    parts = _parts(numbers)
    few = len(parts) - 1 <= FEW_CLASSES
    least = float(numbers["share_of_rows"].min())
    grid = np.geomspace(least, 1, 100)
    chance: dict[str, Any] = {"color": canvas.GREY, "linewidth": 1, "linestyle": (0, (4, 3))}
    left.plot(grid, grid, **chance)
    right.axhline(1, **chance)
    for name, part, style in parts:
        rows, found = part["share_of_rows"], part["share_of_class"]
        if few:
            left.plot(np.append(0, rows), np.append(0, found), **style)
        else:
            left.plot(rows, found, **style)
        right.plot(rows, part["lift"], label=f"{name}  {part['roc_auc'].iloc[0]:.3f}", **style)
    for ax in (left, right):
        _share_of_rows(ax, 0.0 if few else least)
    canvas.percent(left, "y")
    left.set_ylim(-0.015, 1.015)
    right.set_ylim(bottom=0)
    canvas.legend(right, outside=True, title="class, ROC area", title_fontsize=9)
    return canvas.finish("gain", title, drawing, numbers)


def _share_of_rows(ax: Axes, least: float) -> None:
    """The horizontal axis from 0, or on a logarithmic scale from `least` above it, to all rows."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if least <= 0:
        canvas.percent(ax, "x")
        ax.set_xlim(-0.015, 1.015)
        return
    ax.set_xscale("log")
    ax.set_xlim(max(least, 1e-3), 1.05)
    ax.xaxis.set_major_locator(LogLocator(base=10))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def draw_scores(numbers: pd.DataFrame) -> Figure:
    """How the probability of each class is spread, a panel a class, the worst first.

    From `curves_classes.scores_by_class`.
    """
    parts = [(str(name), part) for name, part in numbers.groupby("class", sort=False)]
    shown = parts[:MAX_PANELS]
    some = f": the {len(shown)} worst of {len(parts)} classes" if len(shown) < len(parts) else ""
    title = f"Probability of each class, on its rows and on all others{some}"
    across = min(len(shown), {4: 2, 5: 3, 6: 3, 9: 3}.get(len(shown), 4))
    down = -(-len(shown) // across)
    side = 3.0 if down == 1 else 2.3
    drawing, axes = canvas.start(
        title, width=max(8.0, 0.6 + side * across), height=1.5 + 0.7 * side * down, rows=down,
        columns=across,
    )  # fmt: skip
    highest = max(float(part[column].max()) for _, part in shown for column in SHARES)
    for i, (ax, (name, part)) in enumerate(zip(axes, shown, strict=False)):
        _panel(ax, name, part, highest)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"] if i + across >= len(shown) else [])
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    drawing.supxlabel("probability of the class", fontsize=10, color=canvas.INK)
    drawing.supylabel("share of rows", fontsize=10, color=canvas.INK)
    handles, names = axes[0].get_legend_handles_labels()
    drawing.legend(
        handles, names, loc="outside lower right", ncols=2, fontsize=9, frameon=False,
        labelcolor=canvas.INK,
    )  # fmt: skip
    return canvas.finish("scores", title, drawing, numbers)


def _panel(ax: Axes, name: str, part: pd.DataFrame, highest: float) -> None:
    from matplotlib.ticker import MaxNLocator

    canvas.dress(ax, "", "", grid="y")
    edges = np.append(part["low"], part["high"].iloc[-1])
    for (column, label), color in zip(
        SHARES.items(), (canvas.BLUE, canvas.VERMILLION), strict=True
    ):
        share = part[column].to_numpy()
        ax.stairs(share, edges, fill=True, color=color, alpha=0.22, linewidth=0)
        ax.stairs(share, edges, color=color, linewidth=1.4, label=label)
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(0, min(highest * 1.08, 1.02))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    canvas.percent(ax, "y")
    ax.tick_params(labelsize=8.5)
    rows, area = part["n_rows"].iloc[0], part["roc_auc"].iloc[0]
    ax.set_title(
        f"{canvas.label(name, 14)} ({rows:,}), area {area:.3f}", fontsize=8.5, color=canvas.INK,
        loc="left", pad=4,
    )  # fmt: skip


def draw_class_scores(numbers: pd.DataFrame) -> Figure:
    """Precision, recall and F1 of each class, the worst on top: `curves_classes.class_scores`."""
    shown = numbers.head(MAX_BARS)
    some = f": the {len(shown)} worst of {len(numbers)}" if len(shown) < len(numbers) else ""
    title = f"Scores by class{some}"
    drawing, (ax,) = canvas.start(title, width=6.0, height=1.7 + 0.27 * max(len(shown), 4))
    canvas.dress(ax, "value", "", grid="x")
    at = np.arange(len(shown))
    ax.barh(at, shown["f1"], height=0.62, color=canvas.SKY, alpha=0.55, label="F1")
    style: dict[str, Any] = {"linestyle": "", "clip_on": False, "zorder": 3}
    ax.plot(shown["precision"], at, marker="o", color=canvas.BLUE, label="precision", ms=5, **style)
    ax.plot(
        shown["recall"], at, marker="D", color=canvas.VERMILLION, label="recall", ms=4.5, **style
    )
    rows = [
        f"{canvas.label(c)} ({n:,})" for c, n in zip(shown["class"], shown["n_rows"], strict=True)
    ]
    ax.set_yticks(at, rows)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.01)
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("class (rows)", fontsize=10.5, color=canvas.INK)
    canvas.legend(ax, outside=True)
    return canvas.finish("classes", title, drawing, numbers)
