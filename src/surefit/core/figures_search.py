"""The pictures of training, comparing and tuning: losses by step, leaderboards, searches.

Each has a function for its numbers, one that draws them, and one that does both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import canvas
from surefit.core.curves import Floats, thin
from surefit.items import Figure

MAX_CANDIDATES = 40
MAX_TRIALS = 5_000
MAX_PANELS = 12
MAX_CATEGORIES = 12
LOSSES = {"train_loss": "training", "valid_loss": "validation"}


# --- losses by step ---


def loss_curves(points: pd.DataFrame, *, step: str = "step") -> Figure:
    """Losses of each fold and their mean, from columns fold, step, train_loss, valid_loss.

    Either loss column may be missing, or NaN at some steps; `step` names the x axis ("epoch").
    """
    return draw_losses(loss_numbers(points), step=step)


def loss_numbers(points: pd.DataFrame) -> pd.DataFrame:
    """Long and thinned: loss ("training", "validation"), fold, step, value; finite values only.

    Where there are several folds, the fold "mean" averages them over the steps that all reached.
    """
    parts = [_fold_curves(points, column) for column in LOSSES if column in points]
    return pd.concat([_EMPTY_LOSSES, *parts], ignore_index=True)


_EMPTY_LOSSES = pd.DataFrame(
    {
        "loss": pd.Series(dtype=object),
        "fold": pd.Series(dtype=object),
        "step": pd.Series(dtype=float),
        "value": pd.Series(dtype=float),
    }
)


def _fold_curves(points: pd.DataFrame, column: str) -> pd.DataFrame:
    values = pd.to_numeric(points[column], errors="coerce").to_numpy(float)
    known = points.loc[np.isfinite(values), ["fold", "step"]].assign(
        value=values[np.isfinite(values)]
    )
    by_step = known.groupby(["step", "fold"])["value"].mean().unstack("fold").sort_index()
    curves = {str(fold): by_step[fold].dropna() for fold in by_step.columns}
    if len(curves) > 1:
        curves["mean"] = by_step.dropna().mean(axis=1)
    parts = [_EMPTY_LOSSES.assign()]
    for fold, curve in curves.items():
        steps = curve.index.to_numpy(float)
        keep = thin(steps) if len(steps) else np.arange(0)
        part = {"loss": LOSSES[column], "fold": fold, "step": steps[keep]}
        parts.append(pd.DataFrame({**part, "value": curve.to_numpy(float)[keep]}))
    return pd.concat(parts, ignore_index=True)


def draw_losses(numbers: pd.DataFrame, *, step: str = "step") -> Figure:
    """Loss curves: each fold thin, their mean thick, from `loss_numbers`."""
    title = "Loss by " + step
    drawing, (ax,) = canvas.start(title)
    canvas.dress(ax, step, "loss")
    for name, color in zip(LOSSES.values(), (canvas.BLUE, canvas.VERMILLION), strict=True):
        folds = dict(list(numbers[numbers["loss"] == name].groupby("fold", sort=False)))
        for fold, part in folds.items():
            thick = fold == "mean" or len(folds) == 1
            ax.plot(
                part["step"], part["value"], color=color, linewidth=2.4 if thick else 0.9,
                alpha=1.0 if thick else 0.45, label=name if thick else None,
                marker="o" if len(part) == 1 else None, markersize=4,
            )  # fmt: skip
    low, high = numbers["value"].min(), numbers["value"].max()
    if len(numbers) and low > 0 and high / low > 50:
        ax.set_yscale("log")
    canvas.group_digits(ax)
    canvas.legend(ax, loc="best")
    n_folds = numbers.loc[numbers["fold"] != "mean", "fold"].nunique()
    canvas.note(ax, f"thin: {n_folds} folds, thick: their mean" if n_folds > 1 else "")
    return canvas.finish("losses", title, drawing, numbers)


# --- leaderboard ---


def leaderboard(candidates: pd.DataFrame, *, metric: str, greater_is_better: bool = True) -> Figure:
    """A forest plot of candidates with columns name, value, low, high, tied (with the best)."""
    numbers = leaderboard_numbers(candidates, greater_is_better=greater_is_better)
    return draw_leaderboard(numbers, metric=metric)


def leaderboard_numbers(candidates: pd.DataFrame, *, greater_is_better: bool) -> pd.DataFrame:
    """The candidates, the best first; low and high stay NaN where no interval could be given."""
    columns = ["name", "value", "low", "high", "tied"]
    ordered = candidates[columns].sort_values(
        "value", ascending=not greater_is_better, kind="stable"
    )
    return ordered.reset_index(drop=True)


def draw_leaderboard(numbers: pd.DataFrame, *, metric: str) -> Figure:
    """The forest plot of `leaderboard_numbers`: candidates tied with the best are blue."""
    shown = numbers.head(MAX_CANDIDATES)
    some = f", the first {len(shown)} of {len(numbers)}" if len(shown) < len(numbers) else ""
    title = f"Leaderboard{some}"
    drawing, (ax,) = canvas.start(title, width=6.6, height=1.9 + 0.34 * max(len(shown), 2))
    canvas.dress(ax, canvas.label(metric, 60), "", grid="x")
    if len(shown):
        ax.axvline(shown["value"].iloc[0], color=canvas.GREY, linewidth=1, linestyle=(0, (4, 3)))
    at = np.arange(len(shown))
    tied = shown["tied"].to_numpy(bool)
    groups = [(tied, canvas.BLUE, "o", "tied with the best"), (~tied, canvas.GREY, "s", "worse")]
    value, low, high = (shown[c].to_numpy(float) for c in ("value", "low", "high"))
    for chosen, color, marker, text in groups:
        if chosen.any():
            ax.hlines(at[chosen], low[chosen], high[chosen], color=color, linewidth=2.2)
            ax.plot(
                value[chosen], at[chosen], marker=marker, markersize=7, linestyle="", color=color,
                markeredgecolor="white", label=text,
            )  # fmt: skip
    ax.set_yticks(at, [canvas.label(name, 32) for name in shown["name"]])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    canvas.group_digits(ax, "x")
    ax.locator_params(axis="x", nbins=6)
    if len(shown):
        drawing.legend(
            loc="outside lower right", ncols=2, fontsize=9, frameon=False, labelcolor=canvas.INK
        )
    return canvas.finish("leaderboard", title, drawing, numbers)


# --- searches ---


def search_history(trials: pd.DataFrame, *, metric: str, greater_is_better: bool = True) -> Figure:
    """Every trial's value and the best so far, from columns trial, value, state."""
    numbers = search_numbers(trials, greater_is_better=greater_is_better)
    return draw_search(numbers, metric=metric)


def search_numbers(trials: pd.DataFrame, *, greater_is_better: bool = True) -> pd.DataFrame:
    """trial, value, best_so_far, state (lower case), by trial; at most about 5,000 rows.

    Only complete trials count as best. `value` is NaN where a trial failed, and `best_so_far`
    before the first complete trial. Every improvement is kept.
    """
    table = trials[["trial", "value", "state"]].sort_values("trial", kind="stable")
    state = table["state"].astype(str).str.lower().to_numpy(object)
    value = pd.to_numeric(table["value"], errors="coerce").to_numpy(float)
    value = np.where(np.isfinite(value), value, np.nan)
    counted = np.where(state == "complete", value, np.nan)
    running = np.fmax.accumulate(counted) if greater_is_better else np.fmin.accumulate(counted)
    numbers = pd.DataFrame(
        {
            "trial": table["trial"].to_numpy(),
            "value": value,
            "best_so_far": running,
            "state": state,
        }
    )
    improved = np.flatnonzero(np.diff(running, prepend=np.nan) != 0)
    keep = thin(np.arange(len(numbers), dtype=float), MAX_TRIALS)
    if len(numbers) > MAX_TRIALS:
        keep = np.union1d(keep, improved[~np.isnan(running[improved])])
    return numbers.iloc[keep].reset_index(drop=True)


def draw_search(numbers: pd.DataFrame, *, metric: str) -> Figure:
    """Trials as points by state and the best so far as a line, from `search_numbers`."""
    title = "Search history"
    drawing, (ax,) = canvas.start(title, width=6.6)
    canvas.dress(ax, "trial", canvas.label(metric, 40))
    low, high = _score_view(numbers["value"].to_numpy(float))
    looks = [
        ("complete", canvas.BLUE, "o", 22),
        ("pruned", canvas.ORANGE, "D", 18),
        ("failed", canvas.VERMILLION, "x", 26),
    ]
    for state, color, marker, size in looks:
        part = numbers[numbers["state"] == state]
        if not len(part):
            continue
        y = part["value"].fillna(low).clip(low, high)
        text = f"{state} ({len(part):,})"
        style: dict[str, Any] = {"linewidths": 1.4} if marker == "x" else {"linewidths": 0}
        ax.scatter(
            part["trial"], y, s=size, color=color, marker=marker, alpha=0.7, label=text, **style
        )
    ax.plot(
        numbers["trial"], numbers["best_so_far"], drawstyle="steps-post", color=canvas.INK,
        linewidth=1.8, label="best so far",
    )  # fmt: skip
    pad = (high - low) * 0.05
    ax.set_ylim(low - pad, high + pad)
    canvas.group_digits(ax)
    ax.locator_params(axis="x", integer=True)
    beyond = int(((numbers["value"] < low) | (numbers["value"] > high)).sum())
    canvas.note(ax, f"beyond this view, drawn at its edge: {beyond:,}" if beyond else "")
    canvas.legend(ax, outside=True)
    return canvas.finish("search_history", title, drawing, numbers)


def _score_view(values: Floats) -> tuple[float, float]:
    """A range for scores in which a few disasters do not flatten all others."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    q1, q3 = np.quantile(known, [0.25, 0.75])
    reach = 4 * (q3 - q1)
    if reach > 0:
        low, high = max(low, float(q1 - reach)), min(high, float(q3 + reach))
    pad = 0.0 if high > low else max(abs(low), 1.0) * 0.02
    return low - pad, high + pad


def search_slices(
    params: pd.DataFrame, value: Any, *, metric: str, log: Collection[str] = (),
    title: str = "Score by hyperparameter", name: str = "search_slices",
) -> Figure:  # fmt: skip
    """The score against each hyperparameter: a column a parameter (NaN where unset), a row a trial.

    `value` (n,) is the score; trials without one are left out. Parameters in `log`, and positive
    numbers that span a factor of 100, get a log axis; text and true/false get categories.
    """
    numbers = slice_numbers(params, value, log=log)
    return draw_slices(numbers, metric=metric, title=title, name=name)


def slice_numbers(params: pd.DataFrame, value: Any, *, log: Collection[str] = ()) -> pd.DataFrame:
    """Long: param, kind ("number", "log", "category"), setting (text), score; in trial order."""
    score = np.asarray(value, float)
    keep = np.flatnonzero(np.isfinite(score))
    keep = keep[thin(np.arange(len(keep), dtype=float))] if len(keep) else keep
    parts = [pd.DataFrame({"param": [], "kind": [], "setting": [], "score": []}, dtype=object)]
    for name in params:
        column = params[name].iloc[keep]
        known = column.notna().to_numpy()
        if not known.any():
            continue
        settings = column[known]
        kind = _kind(settings, str(name) in log)
        part = {"param": str(name), "kind": kind, "setting": settings.map(str).to_numpy(object)}
        parts.append(pd.DataFrame({**part, "score": score[keep][known]}))
    return pd.concat(parts, ignore_index=True).astype({"score": float})


def _kind(settings: pd.Series[Any], wanted_log: bool) -> str:
    if any(isinstance(v, bool | np.bool_ | str) for v in settings):
        return "category"
    try:
        numbers = settings.astype(float).to_numpy()
    except (TypeError, ValueError):
        return "category"
    low, high = numbers.min(), numbers.max()
    return "log" if low > 0 and (wanted_log or high / low >= 100) else "number"


def draw_slices(
    numbers: pd.DataFrame, *, metric: str, title: str = "Score by hyperparameter",
    name: str = "search_slices",
) -> Figure:  # fmt: skip
    """Small panels, one a parameter, from `slice_numbers`."""
    parts = list(numbers.groupby("param", sort=False))
    shown = parts[:MAX_PANELS]
    some = f", the first {len(shown)} of {len(parts)}" if len(shown) < len(parts) else ""
    title = f"{title}{some}"
    columns = min(3, max(len(shown), 1))
    rows = -(-max(len(shown), 1) // columns)
    drawing, axes = canvas.start(
        title,
        width=max(3.1 * columns + 0.4, 4.6),
        height=2.7 * rows + 0.6,
        rows=rows,
        columns=columns,
    )
    low, high = _score_view(numbers["score"].to_numpy(float))
    pad = (high - low) * 0.06
    for i, ax in enumerate(axes):
        if i >= len(shown):
            ax.set_visible(False)
            continue
        param, part = shown[i]
        canvas.dress(
            ax, canvas.label(param, 30), canvas.label(metric, 20) if i % columns == 0 else ""
        )
        canvas.group_digits(ax, "y")
        _panel(ax, part.assign(score=part["score"].clip(low, high)))
        ax.set_ylim(low - pad, high + pad)
    return canvas.finish(name, title, drawing, numbers)


def _log_ticks(ax: Any) -> None:
    """Powers of ten; where fewer than two are in sight, 1, 2 and 5 of each, as plain numbers.

    Of a range so narrow that it may hold but one of those, three even steps.
    """
    from matplotlib import ticker

    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    low, high = ax.get_xlim()
    if np.ceil(np.log10(low)) + 1 > np.floor(np.log10(high)):
        by_decade = ticker.LogLocator(subs=(1.0, 2.0, 5.0))
        ax.xaxis.set_major_locator(by_decade if high / low >= 5 else ticker.MaxNLocator(3))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))


def _panel(ax: Any, part: pd.DataFrame) -> None:
    """One parameter's settings against the score; settings of one category stand side by side."""
    kind = part["kind"].iloc[0]
    alpha = float(np.clip(12 / len(part) ** 0.6, 0.3, 0.8))
    style = {"s": 18, "color": canvas.BLUE, "alpha": alpha, "linewidths": 0}
    if kind != "category":
        x = part["setting"].astype(float)
        ax.scatter(x, part["score"], **style)
        if kind == "log":
            _log_ticks(ax)
        else:
            canvas.group_digits(ax, "x")
            ax.locator_params(axis="x", nbins=5)
        return
    often = list(part["setting"].value_counts().index[:MAX_CATEGORIES])
    names = sorted(often) + (["other"] if part["setting"].nunique() > len(often) else [])
    place = part["setting"].map({name: i for i, name in enumerate(sorted(often))})
    aside = (np.arange(len(part)) * 0.618034 % 1 - 0.5) * 0.5  # spread without random numbers
    ax.scatter(place.fillna(len(often)).to_numpy(float) + aside, part["score"], **style)
    upright = len(names) * max(map(len, names)) > 24
    shown = [canvas.label(name, 14) for name in names]
    ax.set_xticks(range(len(names)), shown, fontsize=8.5)
    if upright:
        ax.tick_params(axis="x", labelrotation=30)
        for text in ax.get_xticklabels():
            text.set_ha("right")
    ax.set_xlim(-0.6, len(names) - 0.4)
