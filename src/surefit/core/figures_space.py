"""How hyperparameters relate to the score: importances, contours, parallel coordinates.

Each has a function for its numbers and one that draws them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from surefit.core import canvas
from surefit.core.curves import Floats
from surefit.items import Figure

CELLS = 25  # of a contour, along each axis
MOST_PAIRS = 3  # pairs of parameters that are drawn, the most important first
MOST_AXES = 8
MOST_LINES = 500


def space_figures(
    params: pd.DataFrame, value: Any, importances: Mapping[str, float], *, metric: str,
    greater_is_better: bool, log: Collection[str] = (),
) -> Iterator[Figure]:  # fmt: skip
    """All of them; those that the trials cannot carry are left out.

    Args:
        params: a row a complete trial, a column a parameter.
        value: (n,) their scores.
        importances: shares by parameter, the greatest first; {} where none could be given.
        metric: its name.
        greater_is_better: its direction.
        log: parameters searched on a log scale.
    """
    score = np.asarray(value, float)
    keep = np.isfinite(score)
    params, score = params[keep].reset_index(drop=True), score[keep]
    names = [n for n in (*importances, *params) if n in params]
    names = [n for n in dict.fromkeys(names) if params[n].nunique(dropna=True) > 1]
    if importances:
        yield draw_importances(importance_numbers(importances), metric=metric)
    if len(score) < 4 or not names:
        return
    table = contour_numbers(params, score, names, log=log)
    if len(table):
        yield draw_contours(table, metric=metric)
    if len(names) > 1:
        lines = parallel_numbers(params, score, names, greater_is_better=greater_is_better, log=log)
        yield draw_parallel(lines, metric=metric, greater_is_better=greater_is_better)


# --- importances ---


def importance_numbers(importances: Mapping[str, float]) -> pd.DataFrame:
    """param and share, the greatest first."""
    table = pd.DataFrame({"param": list(importances), "share": list(importances.values())})
    return table.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)


def draw_importances(numbers: pd.DataFrame, *, metric: str) -> Figure:
    """Bars, from `importance_numbers`."""
    shown = numbers.head(20)
    title = "What the score depends on"
    drawing, (ax,) = canvas.start(title, width=6.0, height=1.6 + 0.3 * len(shown))
    canvas.dress(ax, f"share of the variation of {canvas.label(metric, 30)} (fANOVA)", "", grid="x")
    at = np.arange(len(shown))
    ax.barh(at, shown["share"], color=canvas.BLUE, height=0.6)
    ax.set_yticks(at, [canvas.label(name, 30) for name in shown["param"]])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    canvas.percent(ax, "x")
    return canvas.finish("search_importances", title, drawing, numbers)


# --- places: any parameter as numbers from 0 to 1 ---


def place(settings: pd.Series[Any], *, log: bool) -> tuple[Floats, list[str]]:
    """Where each setting lies along its axis, from 0 to 1 (NaN where unset), and 3 tick labels.

    Text and true/false are spread evenly in sorted order, with a label each.
    """
    known = settings.dropna()
    numeric = not any(isinstance(v, str | bool | np.bool_) for v in known)
    if not numeric:
        names = sorted({str(v) for v in known})
        step = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
        found = [step[str(v)] if pd.notna(v) else np.nan for v in settings]
        return np.array(found, float), names
    x = settings.to_numpy(dtype="float64", na_value=np.nan)
    low, high = np.nanmin(x), np.nanmax(x)
    wants_log = low > 0 and (log or high / low >= 100)
    ends = np.log([low, high]) if wants_log else np.array([low, high])
    middle = float(np.exp(ends.mean()) if wants_log else ends.mean())
    scaled = ((np.log(x) if wants_log else x) - ends[0]) / (ends[1] - ends[0] or 1.0)
    return np.asarray(scaled, float), [f"{v:.3g}" for v in (low, middle, high)]


# --- contours ---


def contour_numbers(
    params: pd.DataFrame, score: Floats, names: Collection[str], *, log: Collection[str] = ()
) -> pd.DataFrame:
    """The smoothed score over pairs of the most important parameters, on a grid of places.

    Columns param_x, param_y, x, y (places from 0 to 1), score, n_near: the mean of the trials with
    Gaussian weights of a tenth of each axis; NaN where none lies within two of those. A guess
    between trials, and no better than they are dense.
    """
    chosen = list(names)[:3]
    pairs = [(a, b) for i, a in enumerate(chosen) for b in chosen[i + 1 :]][:MOST_PAIRS]
    grid = np.linspace(0, 1, CELLS)
    parts = [pd.DataFrame({c: [] for c in ("param_x", "param_y", "x", "y", "score", "n_near")})]
    for a, b in pairs:
        at = np.column_stack([place(params[name], log=name in log)[0] for name in (a, b)])
        known = np.isfinite(at).all(axis=1)
        x, y = (part.ravel() for part in np.meshgrid(grid, grid))
        smooth, near = _smoothed(at[known], score[known], np.column_stack([x, y]))
        parts.append(pd.DataFrame(
            {"param_x": a, "param_y": b, "x": x, "y": y, "score": smooth, "n_near": near}
        ))  # fmt: skip
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _smoothed(at: Floats, score: Floats, points: Floats) -> tuple[Floats, NDArray[np.int64]]:
    square = ((points[:, None, :] - at[None, :, :]) ** 2).sum(axis=2) / 0.1**2
    weight = np.exp(-square / 2)
    near = (square <= 4).sum(axis=1)
    total = weight.sum(axis=1)
    smooth = (weight @ score) / np.where(total > 0, total, 1.0)
    return np.where(near > 0, smooth, np.nan), near


def draw_contours(numbers: pd.DataFrame, *, metric: str) -> Figure:
    """A panel a pair, white where no trial is near, from `contour_numbers`."""
    panels = list(numbers.groupby(["param_x", "param_y"], sort=False))
    title = "Score over pairs of hyperparameters, smoothed between trials"
    drawing, axes = canvas.start(
        title, width=max(4.6, 3.2 * len(panels) + 0.8), height=3.6, columns=len(panels)
    )
    low, high = numbers["score"].min(), numbers["score"].max()
    picture = None
    for ax, ((a, b), part) in zip(axes, panels, strict=True):
        canvas.dress(ax, canvas.label(a, 26), canvas.label(b, 26), grid="")
        picture = ax.imshow(
            part["score"].to_numpy().reshape(CELLS, CELLS), origin="lower", extent=(0, 1, 0, 1),
            cmap="viridis", vmin=low, vmax=high, aspect="auto",
        )  # fmt: skip
        ax.set_xticks([0, 1], ["low", "high"])
        ax.set_yticks([0, 1], ["low", "high"])
    if picture is not None:
        drawing.colorbar(picture, ax=axes, label=canvas.label(metric, 30))
    return canvas.finish("search_contours", title, drawing, numbers)


# --- parallel coordinates ---


def parallel_numbers(
    params: pd.DataFrame, score: Floats, names: Collection[str], *, greater_is_better: bool,
    log: Collection[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """Long: trial (row), rank (1 is the best), score, param, place (0 to 1), setting, labels.

    The best `MOST_LINES` trials and the first `MOST_AXES` parameters.
    """
    order = np.argsort(-score if greater_is_better else score, kind="stable")[:MOST_LINES]
    parts = []
    for name in list(names)[:MOST_AXES]:
        at, labels = place(params[name], log=name in log)
        parts.append(pd.DataFrame({
            "trial": order, "rank": np.arange(1, len(order) + 1), "score": score[order],
            "param": name, "place": at[order], "labels": " | ".join(labels),
            "setting": params[name].iloc[order].astype(str).to_numpy(object),
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def draw_parallel(numbers: pd.DataFrame, *, metric: str, greater_is_better: bool) -> Figure:
    """A line a trial across the parameters' axes, the best tenth on top in colour."""
    names = list(dict.fromkeys(numbers["param"]))
    title = "Trials across hyperparameters: the best tenth in colour"
    drawing, (ax,) = canvas.start(title, width=max(5.6, 1.35 * len(names) + 1.2), height=4.0)
    canvas.dress(ax, "", "", grid="x")
    best = max(1, int(np.ceil(0.1 * numbers["rank"].max())))
    wide = numbers.pivot(index="rank", columns="param", values="place")[names]
    for rank in sorted(wide.index, reverse=True):
        top = rank <= best
        ax.plot(
            range(len(names)), wide.loc[rank], color=canvas.VERMILLION if top else canvas.GREY,
            alpha=0.9 if top else 0.25, linewidth=1.6 if top else 0.8, marker=".", markersize=3,
        )  # fmt: skip
    labels = numbers.drop_duplicates("param").set_index("param")["labels"]
    for i, name in enumerate(names):
        ticks = str(labels[name]).split(" | ")
        for k, text in enumerate(ticks[:6]):
            ax.annotate(
                canvas.label(text, 14), (i, k / max(1, len(ticks) - 1)), fontsize=8,
                xytext=(3, 2), textcoords="offset points", color=canvas.MUTED,
            )  # fmt: skip
    ax.set_xticks(range(len(names)), [canvas.label(n, 16) for n in names], fontsize=8.5)
    ax.set_yticks([])
    canvas.note(ax, f"best: {'greatest' if greater_is_better else 'least'} {metric}")
    return canvas.finish("search_parallel", title, drawing, numbers)
