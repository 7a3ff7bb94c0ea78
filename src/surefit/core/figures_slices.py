"""The metric by slice, as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from surefit.core import canvas
from surefit.items import Figure
from surefit.results import Score, SliceScore
from surefit.wording import short

MAX_BARS = 30


def slice_numbers(slices: Sequence[SliceScore], whole: Score) -> pd.DataFrame:
    """A row a slice, in the order given; `overall` is the metric on all rows."""
    return pd.DataFrame(
        [
            {"column": s.column, "value": s.value, "n_rows": s.score.n_rows,
             whole.metric: s.score.value, "low": s.score.low, "high": s.score.high,
             "rest": s.rest, "worse_by": s.worse_by, "worse_by_low": s.low,
             "worse_by_high": s.high, "p_value": s.p_value, "worse": s.worse, "small": s.small,
             "overall": whole.value}
            for s in slices
        ]
    )  # fmt: skip


def draw_slices(numbers: pd.DataFrame, metric: str) -> Figure:
    """A forest plot, from `slice_numbers`: the first slices with their intervals."""
    known = numbers[numbers[metric].notna() & numbers["low"].notna()]
    shown = known.head(MAX_BARS)
    some = f": {len(shown)} of {len(numbers)}" if len(shown) < len(numbers) else ""
    title = f"{canvas.label(metric)} by slice{some}, the worst on top"
    drawing, (ax,) = canvas.start(title, width=7.4, height=1.7 + 0.26 * max(len(shown), 4))
    canvas.dress(ax, f"{canvas.label(metric)}, 95 % interval", "", grid="x")
    kinds = [
        ("shown to be worse than the rest", shown["worse"], canvas.VERMILLION, "D"),
        ("not told from the rest", ~shown["worse"] & ~shown["small"], canvas.BLUE, "o"),
        ("few rows, not tested", shown["small"], canvas.GREY, "s"),
    ]
    at = np.arange(len(shown))
    for name, mask, color, marker in kinds:
        rows = mask.to_numpy(dtype=bool)
        if rows.any():
            value = shown[metric].to_numpy()[rows]
            reach = [value - shown["low"].to_numpy()[rows], shown["high"].to_numpy()[rows] - value]
            ax.errorbar(
                value, at[rows], xerr=np.maximum(reach, 0), color=color, linestyle="",
                marker=marker, markersize=5, elinewidth=1.4, label=name,
            )  # fmt: skip
    overall = float(numbers["overall"].iloc[0])
    ax.axvline(overall, color=canvas.INK, linewidth=1.1, linestyle=(0, (4, 3)),
               label=f"all rows: {short(overall)}")  # fmt: skip
    names = [
        f"{canvas.label(c, 22)} = {canvas.label(v, 22)} ({n:,})"
        for c, v, n in zip(shown["column"], shown["value"], shown["n_rows"], strict=True)
    ]
    ax.set_yticks(at, names, fontsize=8.5)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    canvas.group_digits(ax, "x")
    ax.locator_params(axis="x", nbins=6)
    canvas.legend(ax, loc="upper center", bbox_to_anchor=(0.3, -0.5 / max(len(shown), 4) - 0.08),
                  ncols=2)  # fmt: skip
    return canvas.finish("slices", title, drawing, numbers)
