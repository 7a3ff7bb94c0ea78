"""Findings about the target: columns that know it, groups and times that a split tears apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from surefit.core.digest import row_keys
from surefit.core.findings import Finding, Rows
from surefit.core.strength import explained, pairs, predicted

SURE, STRONG = {True: 0.9, False: 0.98}, {True: 0.6, False: 0.8}  # by classification, regression
PRESENCE = 0.5
FEWEST = 20  # rows on a side below which nothing is said
_SUBJECT = re.compile(
    r"(subject|patient|user|customer|client|household|group|person|account|session|device|machine|"
    r"family|participant|animal|site|station|speaker)", re.IGNORECASE,
)  # fmt: skip


def leaks(rows: Rows) -> Iterator[Finding]:
    """All findings of this file."""
    yield from one_column(rows)
    yield from two_columns(rows)
    yield from presence(rows)
    yield from after_the_fact(rows)
    yield from torn_groups(rows)
    yield from ignored_time(rows)
    yield from torn_duplicates(rows)


def one_column(rows: Rows) -> Iterator[Finding]:
    """LEAK01: a column that alone explains nearly all of the target."""
    classes = bool(rows.n_classes)
    what = "log-loss" if classes else "variance"
    for name, share in rows.alone.items():
        if share < STRONG[classes]:
            continue
        serious = share >= SURE[classes]
        how = "all but determines" if serious else "tells very much of"
        yield Finding(
            code="LEAK01", severity="serious" if serious else "warning", columns=(name,),
            words=f"{name} alone {how} the target: {share:.1%} of its {what}.",
            evidence={"explained": share},
            advice=f"if it is known only after the target: {_drop(name)}",
        )  # fmt: skip


def two_columns(rows: Rows) -> Iterator[Finding]:
    """LEAK02: a sum, difference, product or combination of levels that gives the target."""
    classes = bool(rows.n_classes)
    known = {c for c, s in rows.alone.items() if s >= SURE[classes]}
    alone = {c: s for c, s in rows.alone.items() if c not in known}
    frame = rows.train[list(alone)]
    gain = 0.3 if classes else 0.02
    enough = SURE[classes] if classes else 0.995
    for pair in pairs(frame, rows.target, alone, enough=enough, gain=gain):
        a, b = pair.columns
        how = {"weighted sum": "added up", "product or ratio": "multiplied or divided"}
        yield Finding(
            code="LEAK02", severity="serious", columns=pair.columns,
            words=f"{a} and {b} {how.get(pair.how, 'together')} give the target "
            f"({pair.explained:.2%} explained).",
            evidence={"explained": pair.explained, "how": pair.how,
                      "alone": [alone[a], alone[b]]},
            advice=f'data.drop = ["{a}", "{b}"]',
        )  # fmt: skip


def presence(rows: Rows) -> Iterator[Finding]:
    """LEAK03: whether the column has a value tells the target, as a cabin given to survivors."""
    for name in rows.train.columns:
        there = rows.train[name].notna().to_numpy()
        if min(there.sum(), (~there).sum()) < FEWEST:
            continue
        share = explained(predicted(there.astype("int64"), rows.target), rows.target)
        pure = _pure_side(there, rows)
        if share < PRESENCE and pure is None:
            continue
        side, n, label = pure or ("present", int(there.sum()), "")
        words = f"whether {name} has a value tells the target ({share:.1%} explained)."
        if pure:
            words = f"where {name} is {side} ({n:,} rows), the target is {label}."
        yield Finding(
            code="LEAK03", severity="serious", columns=(name,), words=words,
            evidence={"explained": share, "rows": n, "side": side}, advice=_drop(name),
        )  # fmt: skip


def _pure_side(there: np.ndarray, rows: Rows) -> tuple[str, int, str] | None:
    """The side of a column's presence on which (nearly) all rows have one class, beyond chance."""
    if not rows.n_classes:
        return None
    y = rows.target.y
    base = np.bincount(y, minlength=rows.n_classes) / len(y)
    for side, mask in (("present", there), ("missing", ~there)):
        counts = np.bincount(y[mask], minlength=rows.n_classes)
        top, n = int(counts.argmax()), int(mask.sum())
        if counts[top] >= 0.99 * n and n * -np.log(max(base[top], 1e-12)) > 14 and base[top] < 0.95:
            always = "always" if counts[top] == n else "nearly always"
            return side, n, f"{always} {rows.data.class_names[top]}"
    return None


def after_the_fact(rows: Rows) -> Iterator[Finding]:
    """LEAK04: dates later than the row's own time."""
    if rows.data.time is None:
        return
    own = rows.data.time[rows.split.train_rows]
    if own.dtype.kind == "f" or len(own) == 0:
        return
    frame = rows.data.frame.iloc[rows.split.train_rows]
    for column in rows.data.columns:
        if column.kind != "date":
            continue
        there = frame[column.name].notna().to_numpy()
        later = frame[column.name].to_numpy().astype("int64")[there] > own[there]
        if there.sum() >= FEWEST and later.mean() >= 0.9:
            yield Finding(
                code="LEAK04", severity="serious", columns=(column.name,),
                words=f"{column.name} is later than the row's time in {later.mean():.1%} of the "
                "rows that have it: it is known only afterwards.",
                evidence={"later": float(later.mean()), "rows": int(there.sum())},
                advice=_drop(column.name),
            )  # fmt: skip


def torn_groups(rows: Rows) -> Iterator[Finding]:
    """GROUP01: rows that belong together, by a column whose levels fix other columns."""
    if rows.data.groups is not None or rows.split.kind.endswith("as given"):
        return
    codes = {c: cells_exact(rows.raw[c]) for c in rows.raw.columns}
    for name in rows.raw.columns:
        group = codes[name]
        if not _may_be_group(rows.raw[name], group):
            continue
        fixed = [c for c in codes if c != name and _fixes(group, codes[c])]
        if not fixed:
            continue
        share = explained(predicted(group, rows.target), rows.target)
        named = bool(_SUBJECT.search(name))
        if share < (0.1 if named or len(fixed) > 1 else 0.5):
            continue
        serious = share >= (0.5 if named else 0.85)
        yield Finding(
            code="GROUP01", severity="serious" if serious else "warning", columns=(name,),
            words=f"rows of one {name} belong together: it fixes {', '.join(fixed[:3])} and tells "
            f"{share:.0%} of the target, and its rows are on both sides of the split.",
            evidence={"levels": int(group.max()) + 1, "fixes": fixed, "explained": share},
            advice=f'data.group = "{name}"',
        )  # fmt: skip


def cells_exact(values: pd.Series) -> np.ndarray:
    """(n,) a code for each distinct value."""
    return np.asarray(pd.factorize(values, use_na_sentinel=False)[0])


def _may_be_group(values: pd.Series, codes: np.ndarray) -> bool:
    levels = int(codes.max()) + 1
    if pd.api.types.is_float_dtype(values.dtype) or not 8 <= levels <= len(codes) / 3:
        return False
    return bool(np.bincount(codes).max() < len(codes) / 2)


def _fixes(group: np.ndarray, other: np.ndarray) -> bool:
    """Whether `other` is constant within each group, and is neither constant nor the same thing."""
    sizes = np.bincount(group)
    inside = sizes[group] >= 2
    if inside.mean() < 0.5:
        return False
    levels, most = len(np.unique(other[inside])), np.bincount(other[inside]).max()
    n_groups = len(np.unique(group[inside]))
    if levels < 2 or levels >= 0.95 * n_groups or most > 0.95 * inside.sum():
        return False
    both = group[inside].astype("int64") * (int(other.max()) + 1) + other[inside]
    return len(np.unique(both)) <= 1.01 * n_groups


def ignored_time(rows: Rows) -> Iterator[Finding]:
    """TIME01: a date that tells of the target, and a split at random."""
    if rows.data.time is not None or rows.split.kind.endswith("as given"):
        return
    for column in rows.data.columns:
        share = rows.alone[column.name]
        if column.kind == "date" and share >= 0.02:
            yield Finding(
                code="TIME01", severity="warning", columns=(column.name,),
                words=f"{column.name} tells {share:.0%} of the target, and the split is at random: "
                "the future helps to predict the past.",
                evidence={"explained": share}, advice=f'data.time = "{column.name}"',
            )  # fmt: skip


def torn_duplicates(rows: Rows) -> Iterator[Finding]:
    """DUP01: rows with equal features on both sides; targets are compared in training rows only."""
    keys = row_keys(rows.train)
    same = row_keys(rows.train.assign(**{"\0y": rows.target.y}))
    torn = _torn(same, rows.block)
    if len(rows.test):
        into_test = np.isin(row_keys(rows.test), keys)
        share, n = float(into_test.mean()), int(into_test.sum())
    else:
        share, n = 0.0, 0
    if torn < 0.01 or len(rows.train.columns) < 2:
        return
    yield Finding(
        code="DUP01", severity="serious", columns=(),
        words=f"{torn:.1%} of the training rows stand in several folds, target and all"
        + (f", and {n:,} test rows ({share:.1%}) have an equal training row." if n else "."),
        evidence={"torn": torn, "test_rows": n},
        advice="drop the copies, or name what they have in common: data.group",
    )  # fmt: skip


def _torn(keys: np.ndarray, block: np.ndarray) -> float:
    """The share of rows with an equal row in another block."""
    if len(np.unique(block)) < 2:
        return 0.0
    codes = np.unique(keys, return_inverse=True)[1]
    low = np.full(codes.max() + 1, np.iinfo("int64").max)
    high = np.full(codes.max() + 1, -1)
    np.minimum.at(low, codes, block)
    np.maximum.at(high, codes, block)
    return float((low < high)[codes].mean())


def _drop(name: str) -> str:
    return f'data.drop = ["{name}"]'
