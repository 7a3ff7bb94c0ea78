"""What the fitted model says itself of its columns: gain of splits, coefficients, impurity.

Another question than permutation importance answers (`importance`): what the model is made of, not
what its score would lose. Gain and impurity favour columns with many values (Strobl and others
2007, "Bias in random forest variable importance measures").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from surefit.core import canvas, preprocess
from surefit.core.fit import Model
from surefit.items import Figure

SHOWN = 20
MOST_COLORS = 7  # classes that get a colour each
# kind → the title, and what the numbers are
SAYS = {
    "gain": ("What the splits of the model gain, by feature", "share of the gain of all splits"),
    "impurity": ("How far splits make rows alike, by feature", "share of the decrease in impurity"),
    "change": ("How far features change the predictions", "share of the average change"),
    "log-odds": ("Coefficients, for one standard deviation or for the level", "log-odds"),
    "target": ("Coefficients, for one standard deviation or for the level", "target"),
    "log": ("Coefficients, for one standard deviation or for the level", "logarithm of the target"),
}
SHARES = ("gain", "impurity", "change")


def numbers(model: Model, classes: Sequence[Any]) -> pd.DataFrame | None:
    """Columns kind, feature, column, class, value, the largest first; None where it says nothing.

    Shares (gain, impurity, change) are of whole features and come to 1. Coefficients are of columns
    of the matrix: of numbers for one standard deviation, of a category's level for having it; of
    two classes they are of the second, of more each has its own.
    """
    found = model.family.inside(model.fitted.estimator)
    if found is None:
        return None
    places = preprocess.places(model.preprocess, model.columns, model.family.encoding)
    values = np.atleast_2d(np.asarray(found.values, dtype="float64"))
    if values.shape[1] != len(places) or not np.isfinite(values).all():
        return None
    kind = "log" if found.kind == "target" and model.fitted.log is not None else found.kind
    labels = [str(label) for label in classes] if len(values) > 1 else [""]
    if found.kind == "log-odds" and len(values) == 1:
        labels = [str(classes[1])]
    table = pd.DataFrame(
        [(kind, feature, column, label, value)
         for label, row in zip(labels, values, strict=True)
         for (feature, column), value in zip(places, row, strict=True)],
        columns=["kind", "feature", "column", "class", "value"],
    )  # fmt: skip
    if found.kind in SHARES:
        by_feature = table.groupby(["kind", "feature", "class"], as_index=False, sort=False)
        table = by_feature["value"].sum().assign(column=lambda t: t["feature"])
        table["value"] /= table["value"].sum() or 1.0
    order = (-table["value"].abs()).sort_values(kind="stable").index
    return table.loc[order, ["kind", "feature", "column", "class", "value"]].reset_index(drop=True)


def draw(table: pd.DataFrame) -> Figure:
    """Bars of shares, or dots of coefficients about zero; the largest on top."""
    kind = str(table["kind"].iloc[0])
    title, meaning = SAYS[kind]
    labels = list(dict.fromkeys(table["class"]))
    if kind == "log-odds":
        one = f" of {canvas.label(labels[0])}" if len(labels) == 1 else ""
        meaning += one or (", a dot for each class" if len(labels) > MOST_COLORS else "")
    shown = list(dict.fromkeys(table["column"]))[:SHOWN]
    at = {name: place for place, name in enumerate(shown)}
    part = table[table["column"].isin(shown)]
    drawing, (ax,) = canvas.start(title, width=6.6, height=1.6 + 0.3 * max(len(shown), 2))
    canvas.dress(ax, meaning, "", grid="x")
    if kind in SHARES:
        ax.barh([at[c] for c in part["column"]], part["value"], color=canvas.BLUE, height=0.6)
        ax.set_xlim(left=0)
        canvas.percent(ax, "x")
    else:
        ax.axvline(0, color=canvas.GREY, linewidth=1)
        _dots(ax, part, at)
        canvas.group_digits(ax, "x")
    ax.set_yticks(range(len(shown)), [canvas.label(name, 32) for name in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    return canvas.finish("family", title, drawing, table)


def _dots(ax: Any, part: pd.DataFrame, at: dict[str, int]) -> None:
    groups = list(part.groupby("class", sort=False))
    for number, (label, mine) in enumerate(sorted(groups, key=lambda g: str(g[0]))):
        many = len(groups) > MOST_COLORS
        color = canvas.GREY if many else canvas.CYCLE[number]
        place = [at[c] for c in mine["column"]]
        if len(groups) == 1:
            ax.hlines(place, 0, mine["value"], color=color, linewidth=2.2)
        ax.plot(
            mine["value"], place, marker="o", linestyle="", color=color,
            label=None if many or len(groups) == 1 else canvas.label(label),
        )  # fmt: skip
    if 1 < len(groups) <= MOST_COLORS:
        canvas.legend(ax, outside=True)
