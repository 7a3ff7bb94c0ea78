"""The pictures of a regression, each drawn from its table in `curves`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from surefit.core import canvas, curves
from surefit.core.curves import Floats
from surefit.items import Figure
from surefit.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


def figures(
    y: Floats, pred: Floats, target: str = "", weights: Floats | None = None
) -> Iterator[Figure]:
    """All pictures of a regression with at least one row; `target` names the axes."""
    error = y - pred
    yield draw_predicted_vs_true(
        curves.cloud(pred, y, "predicted", "true", square=True), target=target
    )
    yield draw_residuals(curves.cloud(pred, error, "predicted", "residual"), target=target)
    yield draw_residual_histogram(curves.residual_histogram(y, pred), target=target)
    yield draw_error_by_decile(curves.error_by_decile(y, pred, weights), target=target)


def _of(word: str, target: str) -> str:
    return f"{word} {canvas.label(target, 40)}".strip()


def draw_predicted_vs_true(numbers: pd.DataFrame, *, target: str = "") -> Figure:
    """True against predicted values, from `curves.cloud`."""
    title = "Predicted and true values"
    drawing, (ax,) = canvas.start(title, width=5.6, height=4.7)
    canvas.dress(ax, _of("predicted", target), _of("true", target))
    low = float(numbers[["predicted", "true"]].min().min())
    high = float(numbers[["predicted", "true"]].max().max())
    pad = (high - low) * 0.03 or max(abs(low), 1.0) * 0.05
    ends = (low - pad, high + pad)
    _spread(drawing, ax, numbers, "predicted", "true")
    ax.plot(ends, ends, color=canvas.INK, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect")
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")
    canvas.group_digits(ax)
    ax.locator_params(nbins=6)
    canvas.legend(ax, loc="upper left")
    return canvas.finish("predicted_vs_true", title, drawing, numbers)


def draw_residuals(numbers: pd.DataFrame, *, target: str = "") -> Figure:
    """Errors against predicted values, from `curves.cloud`."""
    title = "Residuals"
    drawing, (ax,) = canvas.start(title)
    canvas.dress(ax, _of("predicted", target), "residual (true − predicted)")
    _spread(drawing, ax, numbers, "predicted", "residual")
    ax.axhline(0, color=canvas.INK, linewidth=1.2, linestyle=(0, (4, 3)))
    canvas.group_digits(ax)
    ax.locator_params(nbins=7)
    return canvas.finish("residuals", title, drawing, numbers)


def _spread(drawing: Drawing, ax: Axes, numbers: pd.DataFrame, x: str, y: str) -> None:
    """Points, or hexagons coloured by the rows in them."""
    at = numbers[[x, y]].to_numpy(float)
    width, height = (float(numbers[c].max()) for c in ("cell_width", "cell_height"))
    if not width:
        many = len(at) > 800
        ax.scatter(
            at[:, 0], at[:, 1], s=9 if many else 22, color=canvas.BLUE,
            alpha=float(np.clip(40 / len(at) ** 0.6, 0.2, 0.75)), linewidths=0,
        )  # fmt: skip
        return
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm

    corners = np.array([[0.5, -0.5], [0.5, 0.5], [0, 1], [-0.5, 0.5], [-0.5, -0.5], [0, -1]])
    cells = at[:, None, :] + corners * [width * 1.01, height / 3 * 1.01]
    n = numbers["n_rows"].to_numpy(float)
    hexagons = PolyCollection(
        list(cells), array=n, cmap="viridis_r", norm=LogNorm(1, max(n.max(), 2)), edgecolors="none"
    )
    ax.add_collection(hexagons)
    ax.autoscale_view()
    bar = drawing.colorbar(hexagons, ax=ax, fraction=0.046, pad=0.02, format="{x:,.0f}")
    bar.outline.set_visible(False)
    bar.set_label("rows", fontsize=9.5, color=canvas.INK)
    bar.ax.tick_params(which="both", labelsize=9, length=0, labelcolor=canvas.INK)
    clipped = int(numbers["n_clipped"].sum())
    canvas.note(ax, f"beyond this view, drawn at its edge: {clipped:,}" if clipped else "")


def draw_residual_histogram(numbers: pd.DataFrame, *, target: str = "") -> Figure:
    """How the errors are spread, from `curves.residual_histogram`."""
    title = "Spread of the residuals"
    drawing, (ax,) = canvas.start(title)
    canvas.dress(
        ax, f"residual of {_of('', target) or 'the target'} (true − predicted)", "rows", grid="y"
    )
    edges = np.append(numbers["low"], numbers["high"].iloc[-1])
    ax.stairs(numbers["n_rows"], edges, fill=True, color=canvas.BLUE, alpha=0.75)
    ax.axvline(0, color=canvas.INK, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.margins(x=0.01)
    canvas.group_digits(ax)
    ax.locator_params(axis="y", integer=True)
    return canvas.finish("residual_histogram", title, drawing, numbers)


def draw_error_by_decile(numbers: pd.DataFrame, *, target: str = "") -> Figure:
    """Mean absolute error, its square kin and the bias along the prediction."""
    whole = len(numbers) == 10
    title = f"Error by {'decile' if whole else 'bin'} of the prediction"
    drawing, (ax,) = canvas.start(title, width=7.4)
    at = np.arange(len(numbers))
    canvas.dress(ax, f"{_of('predicted', target)}, from … to", "error", grid="y")
    ax.bar(
        at, numbers["mean_absolute_error"], width=0.62, color=canvas.SKY, alpha=0.6,
        label="mean absolute error",
    )  # fmt: skip
    ax.plot(
        at, numbers["root_mean_squared_error"], marker="_", markersize=17, markeredgewidth=2.2,
        linestyle="", color=canvas.BLUE, label="root mean squared error",
    )  # fmt: skip
    ax.plot(
        at, numbers["mean_error"], marker="o", markersize=5, linewidth=1.4,
        color=canvas.VERMILLION, label="mean error (true − predicted)",
    )  # fmt: skip
    ax.axhline(0, color=canvas.INK, linewidth=1)
    edges = zip(numbers["low"], numbers["high"], strict=True)
    ax.set_xticks(at, [f"{short(low)}\n{short(high)}" for low, high in edges], fontsize=8.5)
    ax.tick_params(axis="x", length=0)
    canvas.group_digits(ax, "y")
    top = float(numbers["root_mean_squared_error"].max())
    ax.set_ylim(top=(top or 1.0) * 1.42)
    canvas.legend(ax, loc="upper left")
    return canvas.finish("error_by_decile", title, drawing, numbers)
