"""Findings about columns and rows that are no leak: ids, repeats, unseen levels, noise, drift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from surefit.core import copies
from surefit.core.digest import row_keys
from surefit.core.findings import Finding, Rows, Severity

FEWEST = 50  # values on each side for drift


def about_columns(rows: Rows) -> Iterator[Finding]:
    """All findings of this file."""
    yield from left_out(rows)
    yield from mixed(rows)
    yield from repeated(rows)
    yield from unseen(rows)
    yield from noise(rows)
    yield from small_classes(rows)
    yield from drift(rows)
    yield from outliers(rows)


def left_out(rows: Rows) -> Iterator[Finding]:
    """ID01 and COL01: columns that are no features because of what they hold."""
    for name, why in rows.data.left_out.items():
        code = "COL01" if why in ("is empty", "has one value") else "ID01"
        yield Finding(
            code=code, severity="note", columns=(name,), words=f"{name} {why}: it is no feature.",
            evidence={"why": why},
            advice=f'data.id = "{name}"' if code == "ID01" else f'data.drop = ["{name}"]',
        )  # fmt: skip
    for column in rows.data.columns:  # the user insisted on it, or it is no integer
        values = rows.raw[column.name]
        steps = column.dtype == "long" and len(values) > 50 and values.is_unique
        if steps and (values.is_monotonic_increasing or values.is_monotonic_decreasing):
            yield Finding(
                code="ID01", severity="warning", columns=(column.name,),
                words=f"{column.name} rises with the row's number: it may only name the row.",
                evidence={}, advice=f'data.drop = ["{column.name}"], or data.time',
            )  # fmt: skip


def mixed(rows: Rows) -> Iterator[Finding]:
    """COL02: a text column in which part of the values are numbers."""
    for column in rows.data.columns:
        if column.kind not in ("category", "text") or column.dtype != "string":
            continue
        values = rows.raw[column.name].dropna().astype(str)
        if not len(values):
            continue
        share = float(pd.to_numeric(values, errors="coerce").notna().mean())
        if 0.05 < share < 0.98:
            yield Finding(
                code="COL02", severity="note", columns=(column.name,),
                words=f"{share:.0%} of the values of {column.name} are numbers, the others texts.",
                evidence={"numbers": share},
                advice=f'data.types = {{ "{column.name}" = "number" }} if the texts mean missing',
            )  # fmt: skip


def repeated(rows: Rows) -> Iterator[Finding]:
    """COL03: columns of which each tells the other, value for value.

    Where most rows have a value of their own that says nothing by itself; then numbers and dates
    must rise together, or one rise as the other falls, and texts be the same.
    """
    n_distinct = len(np.unique(rows.key))
    seen: dict[bytes, str] = {}
    for column in rows.data.columns:
        values = rows.train[column.name]
        code = copies.codes(values)
        levels, told = int(code.max()) + 1, code.tobytes()
        if 2 * levels > n_distinct:
            number = column.kind in ("number", "date")
            told = _ranked(values) if number else row_keys(pd.DataFrame({"": values})).tobytes()
        first = seen.setdefault(told, column.name) if levels > 2 else column.name
        if first != column.name:
            yield Finding(
                code="COL03", severity="note", columns=(first, column.name),
                words=f"{column.name} says the same as {first}, value for value.",
                evidence={"levels": levels}, advice=f'data.drop = ["{column.name}"]',
            )  # fmt: skip


def _ranked(values: pd.Series) -> bytes:
    """The ranks of numbers or dates; the same for those that fall as these rise."""
    rank = values.rank(method="dense")
    turned = rank.max() + 1 - rank
    return min(r.fillna(0).to_numpy().astype("int64").tobytes() for r in (rank, turned))


def unseen(rows: Rows) -> Iterator[Finding]:
    """CAT01: categories of test rows that no training row has."""
    for column in rows.data.columns:
        if column.kind != "category" or not len(rows.test):
            continue
        levels = rows.test[column.name].dropna()
        new = ~levels.isin(rows.train[column.name].dropna().unique())
        if new.any():
            names = ", ".join(map(str, levels[new].unique()[:3]))
            severity: Severity = "warning" if new.mean() > 0.05 else "note"
            yield Finding(
                code="CAT01", severity=severity, columns=(column.name,),
                words=f"{_few(int(new.sum()))} a {column.name} that training rows lack "
                f"({names}).",
                evidence={"rows": int(new.sum()), "share": float(new.mean())},
                advice="they are treated as missing; merge rare levels if they matter",
            )  # fmt: skip


def _few(n: int) -> str:
    return f"{n:,} test rows have" if n > 1 else "1 test row has"


def noise(rows: Rows) -> Iterator[Finding]:
    """NOISE01: training rows with equal features and another class."""
    if not rows.n_classes:
        return
    codes = np.unique(rows.key, return_inverse=True)[1]
    counts = np.zeros((codes.max() + 1, rows.n_classes))
    np.add.at(counts, (codes, rows.target.y), 1)
    wrong = float((counts.sum(axis=1) - counts.max(axis=1)).sum() / len(codes))
    if wrong >= 0.01:
        yield Finding(
            code="NOISE01", severity="warning", columns=(),
            words=f"{wrong:.1%} of the training rows have the features of rows of another class: "
            f"no model can get more than {1 - wrong:.1%} right.",
            evidence={"share": wrong}, advice="look for a missing feature, or for wrong labels",
        )  # fmt: skip


def small_classes(rows: Rows) -> Iterator[Finding]:
    """CLASS01: classes with fewer rows than are needed to be in each fold twice."""
    if not rows.n_classes:
        return
    wanted = 2 * max(2, rows.split.n_folds)
    counts = np.bincount(
        rows.data.y[rows.split.train_rows], minlength=rows.n_classes
    )  # all training rows, not the sample
    few = {rows.data.class_names[k]: int(n) for k, n in enumerate(counts) if n < wanted}
    if few:
        names = ", ".join(f"{k} ({n})" for k, n in list(few.items())[:5])
        yield Finding(
            code="CLASS01", severity="warning", columns=(),
            words=f"{len(few)} classes have fewer than {wanted} training rows: {names}.",
            evidence={"counts": few}, advice="merge rare classes, or fewer split.folds",
        )  # fmt: skip


def drift(rows: Rows) -> Iterator[Finding]:
    """DRIFT01: a column distributed otherwise in test rows.

    Two-sample Kolmogorov-Smirnov, total variation for categories, at .01 over all columns
    (Bonferroni) and a distance of at least .1, so that large tables do not cry wolf. Equal rows
    count once where they are on one side. Where there are groups, the groups are what was drawn.
    """
    level = 0.01 / len(rows.data.columns)
    drawn_once = rows.split.unit if rows.data.groups is None else rows.data.row_key
    first = [np.unique(drawn_once[at], return_index=True)[1] for at in (rows.at, rows.test_at)]
    groups, split = rows.data.groups, rows.split
    drawn = None if groups is None else [
        len(np.unique(groups[r])) for r in (split.train_rows, split.test_rows)
    ]  # fmt: skip
    severity: Severity = "warning" if rows.data.time is None else "note"
    for column in rows.data.columns:
        a, b = rows.train[column.name].iloc[first[0]], rows.test[column.name].iloc[first[1]]
        if column.kind in ("number", "date"):
            a, b = a.dropna(), b.dropna()
        n, m = (len(a), len(b)) if drawn is None else drawn
        if min(n, m, len(a), len(b)) < FEWEST or column.kind == "text":
            continue
        bound = max(0.1, float(np.sqrt(-np.log(level / 2) / 2 * (n + m) / (n * m))))
        if column.kind == "category":
            distance = _variation(a, b)
            bound += float(np.sqrt(a.nunique() / (2 * min(n, m))))
        else:
            distance = _ks(_numbers(a), _numbers(b))
        if distance > bound and not _is_time(rows, column.name):
            yield Finding(
                code="DRIFT01", severity=severity, columns=(column.name,),
                words=f"{column.name} differs between training and test rows "
                f"(distance {distance:.2f} of 1).",
                evidence={"distance": distance, "limit": bound},
                advice="expected where time divides; else look at how the test rows were chosen",
            )  # fmt: skip


def _is_time(rows: Rows, name: str) -> bool:
    """Whether it is the column by which time divides."""
    values, time = rows.data.frame[name], rows.data.time
    if time is None or bool(values.isna().any()):
        return False
    return bool(np.array_equal(_numbers(values), time))


def _numbers(values: pd.Series) -> np.ndarray:
    return values.to_numpy().astype("int64" if values.dtype.kind == "M" else "float64")


def _ks(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    below = [np.searchsorted(v, at, side="right") / len(v) for v in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def _variation(a: pd.Series, b: pd.Series) -> float:
    codes = copies.codes(pd.concat([a, b], ignore_index=True))
    parts = (codes[: len(a)], codes[len(a) :])
    shares = [np.bincount(c, minlength=int(codes.max()) + 1) / len(c) for c in parts]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def outliers(rows: Rows) -> Iterator[Finding]:
    """OUT01: training targets more than ten interquartile ranges from the median."""
    if rows.n_classes:
        return
    low, middle, high = np.quantile(rows.target.y, [0.25, 0.5, 0.75])
    if high <= low:
        return
    far = np.abs(rows.target.y - middle) / (high - low) > 10
    if far.any():
        worst = rows.target.y[far][np.abs(rows.target.y[far] - middle).argmax()]
        yield Finding(
            code="OUT01", severity="note", columns=(rows.data.target,),
            words=f"{int(far.sum()):,} targets lie far from all others, e.g. {worst:g} "
            f"(the middle is {middle:g}).",
            evidence={"rows": int(far.sum()), "example": float(worst)},
            advice="check them; mae or a log target is less moved by them than rmse",
        )  # fmt: skip
