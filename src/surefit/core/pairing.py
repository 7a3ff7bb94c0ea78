"""What sets two runs apart: what was different, where they disagree, and the curves of both."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from surefit.comparison import Differing, Flip, Pair, SliceContrast
from surefit.core import canvas, curves
from surefit.core.predictions import Scored
from surefit.items import Figure

MOST_FLIPS = 1_000
POINTS = 300
LOOKS = (canvas.BLUE, canvas.VERMILLION)

Recorded = Mapping[str, Mapping[str, Any]]  # what ("config", "package", …) -> key -> value


def packages(text: str) -> dict[str, str]:
    """Versions by package of an environment as `environment.txt` holds it."""
    found = (re.match(r"\s*([\w.\-]+)\s*==\s*(\S+)", line) for line in text.splitlines())
    return {m[1].lower(): m[2] for m in found if m}


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def differing(a: Recorded, b: Recorded) -> tuple[Differing, ...]:
    """Every recorded key whose values are not the same, in the order of `a`."""
    found, said = [], set()
    for what in dict.fromkeys([*a, *b]):
        mine, theirs = a.get(what, {}), b.get(what, {})
        for key in dict.fromkeys([*mine, *theirs]):
            one, two = mine.get(key), theirs.get(key)
            if str(one) != str(two) and key not in said:
                said.add(key)
                found.append(Differing(
                    what=what, key=key, a=None if one is None else str(one),
                    b=None if two is None else str(two),
                ))  # fmt: skip
    return tuple(found)


def code_between(a: Mapping[str, str], b: Mapping[str, str]) -> str:
    """Recorded source files of two runs, by path, as one unified diff; "" where they are equal."""
    found: list[str] = []
    for path in sorted({*a, *b}):
        found += difflib.unified_diff(
            a.get(path, "").splitlines(), b.get(path, "").splitlines(), f"a/{path}", f"b/{path}",
            lineterm="",
        )  # fmt: skip
    return "\n".join(found)


def pair_of(names: tuple[str, str], differs: tuple[Differing, ...], a: Scored, b: Scored) -> Pair:
    """Where two sets of predictions on the same rows disagree.

    Classes are decided by the greatest probability (of two: from 0.5). In regression "right" is
    the smaller error, and the largest disagreements stand for flips.
    """
    if a.task == "regression":
        right, other, flips = _regression(a, b)
        n_flips = 0
    else:
        mine, theirs = decided(a), decided(b)
        right, other = mine == a.y, theirs == a.y
        flips = np.flatnonzero(mine != theirs)
        n_flips = len(flips)
        sure = np.abs(a.pred[flips] - b.pred[flips]).max(axis=1)
        flips = flips[np.argsort(-sure, kind="stable")]
    return Pair(
        a=names[0], b=names[1], differs=differs, n_rows=len(a.y),
        both_right=int((right & other).sum()), only_a=int((right & ~other).sum()),
        only_b=int((~right & other).sum()), both_wrong=int((~right & ~other).sum()),
        n_flips=n_flips, flips=tuple(_flip(a, b, int(row)) for row in flips[:MOST_FLIPS]),
    )  # fmt: skip


def decided(scored: Scored) -> np.ndarray:
    """The class code that each row is given."""
    if scored.task == "binary":
        return np.asarray(scored.pred[:, 1] >= 0.5, dtype="int64")
    return np.asarray(scored.pred.argmax(axis=1))


def _regression(a: Scored, b: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, two = np.abs(a.pred - a.y), np.abs(b.pred - a.y)
    return one <= two, two <= one, np.argsort(-np.abs(a.pred - b.pred), kind="stable")


def _flip(a: Scored, b: Scored, row: int) -> Flip:
    if a.task == "regression":
        said = (f"{a.y[row]:.6g}", f"{a.pred[row]:.6g}", f"{b.pred[row]:.6g}")
    else:
        codes = (a.y[row], decided(a)[row], decided(b)[row])
        said = tuple(str(a.classes[code]) for code in codes)  # type: ignore[assignment]
    return Flip(row_id=str(a.row_id[row]), target=said[0], a=said[1], b=said[2])


# --- the curves of both ---


def pair_figures(names: tuple[str, str], a: Scored, b: Scored) -> Iterator[Figure]:
    """ROC and precision-recall (two classes), recall by class, or errors (numbers), of both."""
    both = tuple(zip(names, (a, b), strict=True))
    if a.task == "binary":
        yield _overlaid(
            "pair_roc", "ROC curves", both_numbers(both, curves.roc),
            ("false_positive_rate", "true_positive_rate"),
        )  # fmt: skip
        yield _overlaid(
            "pair_precision_recall", "Precision-recall curves",
            both_numbers(both, curves.precision_recall), ("recall", "precision"),
        )  # fmt: skip
    elif a.task == "multiclass":
        yield draw_recalls(recall_numbers(names, a, b), names)
    else:
        numbers = pd.concat([_errors(s).assign(run=name) for name, s in both], ignore_index=True)
        yield _overlaid(
            "pair_errors", "Share of rows with an error up to", numbers,
            ("absolute_error", "share_of_rows"), square=False,
        )  # fmt: skip


def both_numbers(both: tuple[tuple[str, Scored], ...], curve: Any) -> pd.DataFrame:
    """A curve's points of each run, which is named in the column run."""
    parts = [curve(s.y, s.pred[:, 1]).assign(run=name) for name, s in both]
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return table.replace([np.inf, -np.inf], [1.0, 0.0])


def _errors(scored: Scored) -> pd.DataFrame:
    share = np.linspace(0, 1, POINTS)
    error = np.quantile(np.abs(scored.pred - scored.y), share)
    return pd.DataFrame({"absolute_error": error, "share_of_rows": share})


def recall_numbers(names: tuple[str, str], a: Scored, b: Scored) -> pd.DataFrame:
    """Recall of each class by both, the classes on which they are furthest apart first."""
    rows = []
    for code, label in enumerate(a.classes):
        of = a.y == code
        if of.any():
            mine, theirs = ((decided(s)[of] == code).mean() for s in (a, b))
            rows.append((str(label), int(of.sum()), float(mine), float(theirs)))
    table = pd.DataFrame(rows, columns=["class", "n_rows", "recall_a", "recall_b"])
    apart = (table["recall_a"] - table["recall_b"]).abs().sort_values(ascending=False)
    return table.loc[apart.index].reset_index(drop=True).assign(run_a=names[0], run_b=names[1])


def draw_recalls(numbers: pd.DataFrame, names: tuple[str, str]) -> Figure:
    """A line a class between the two recalls, from `recall_numbers`; at most 30 classes."""
    shown = numbers.head(30)
    title = "Recall by class of both, the furthest apart first"
    drawing, (ax,) = canvas.start(title, width=6.2, height=1.9 + 0.26 * max(len(shown), 3))
    canvas.dress(ax, "recall", "", grid="x")
    at = np.arange(len(shown))
    ax.hlines(at, shown["recall_a"], shown["recall_b"], color=canvas.GREY, linewidth=1.5)
    for column, color, name in zip(("recall_a", "recall_b"), LOOKS, names, strict=True):
        ax.plot(
            shown[column], at, linestyle="", marker="o", color=color, label=canvas.label(name, 40)
        )
    ax.set_yticks(at, [canvas.label(name, 24) for name in shown["class"]])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    canvas.legend(ax, loc="best")
    return canvas.finish("pair_recall", title, drawing, numbers)


def _overlaid(
    name: str, title: str, numbers: pd.DataFrame, axes: tuple[str, str], *, square: bool = True
) -> Figure:
    """Both runs' curves in one picture, each run thinned to what an eye can see."""
    drawing, (ax,) = canvas.start(title, width=5.2, height=4.8)
    canvas.dress(ax, axes[0].replace("_", " "), axes[1].replace("_", " "))
    for (run, part), color in zip(numbers.groupby("run", sort=False), LOOKS, strict=False):
        ax.plot(part[axes[0]], part[axes[1]], color=color, linewidth=1.8,
                label=canvas.label(run, 40))  # fmt: skip
    if square:
        canvas.unit_square(ax)
    canvas.legend(ax, loc="lower right")
    return canvas.finish(name, title, drawing, numbers)


# --- slices of both ---


def contrast_numbers(found: Sequence[SliceContrast]) -> pd.DataFrame:
    """A row a slice, in the order given."""
    return pd.DataFrame([vars(c) for c in found])


def draw_contrast(numbers: pd.DataFrame, names: tuple[str, str], metric: str) -> Figure:
    """By how much the first is better on each slice, from `contrast_numbers`; the first 25."""
    known = numbers[numbers["better_by"].notna() & numbers["low"].notna()]
    shown = known.head(25)
    title = f"{canvas.label(metric)} by slice: {canvas.label(names[0], 28)} better by"
    drawing, (ax,) = canvas.start(title, width=7.2, height=1.7 + 0.26 * max(len(shown), 4))
    canvas.dress(ax, "difference, 95 % interval", "", grid="x")
    at = np.arange(len(shown))
    for name, mask, color, marker in (
        ("shown to differ", shown["differs"], canvas.VERMILLION, "D"),
        ("not told apart", ~shown["differs"], canvas.BLUE, "o"),
    ):
        rows = mask.to_numpy(dtype=bool)
        if rows.any():
            part = shown[rows]
            reach = [part["better_by"] - part["low"], part["high"] - part["better_by"]]
            ax.errorbar(part["better_by"], at[rows], xerr=np.maximum(reach, 0), color=color,
                        linestyle="", marker=marker, markersize=5, label=name)  # fmt: skip
    ax.axvline(0, color=canvas.INK, linewidth=1.1, linestyle=(0, (4, 3)))
    labels = [
        f"{canvas.label(c, 22)} = {canvas.label(v, 22)} ({n:,})"
        for c, v, n in zip(shown["column"], shown["value"], shown["n_rows"], strict=True)
    ]
    ax.set_yticks(at, labels, fontsize=8.5)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    if len(shown):
        canvas.legend(ax, loc="best")
    return canvas.finish("pair_slices", title, drawing, numbers)
