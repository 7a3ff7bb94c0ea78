"""Findings about the target: columns that know it, groups and times that a split tears apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from surefit.core import copies, dependence
from surefit.core.digest import row_keys
from surefit.core.findings import Finding, Rows, Severity
from surefit.core.strength import cells, pairs, told, told_class

SURE, STRONG = {True: 0.9, False: 0.98}, {True: 0.6, False: 0.8}  # by classification, regression
PRESENCE = 0.5
MOST_CLASSES, SOME = 50, 0.05  # one class of so many is looked for in columns that tell so much
FEWEST = 20  # rows on a side below which nothing is said
MOST_GROUPS = 20  # columns that are looked at as groups: those that tell most of the target
BY_CHANCE = 20  # times as many equal rows as columns without a tie to each other would give
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
    yield from filled_in_later(rows)
    yield from torn_groups(rows)
    yield from ignored_time(rows)
    yield from torn_duplicates(rows)


def one_column(rows: Rows) -> Iterator[Finding]:
    """LEAK01: a column that alone explains nearly all of the target."""
    classes = bool(rows.n_classes)
    what = "log-loss" if classes else "variance"
    for name, share in rows.alone.items():
        if share < STRONG[classes]:
            if 2 < rows.n_classes <= MOST_CLASSES and share > SOME:
                yield from _one_class(name, rows)
            continue
        serious = share >= SURE[classes]
        how = "all but determines" if serious else "tells very much of"
        where = " where it has a value" if rows.train[name].isna().mean() > 0.02 else ""
        yield Finding(
            code="LEAK01", severity="serious" if serious else "warning", columns=(name,),
            words=f"{name} alone {how} the target{where}: {share:.1%} of its {what}.",
            evidence={"explained": share},
            advice=f"if it is known only after the target: {_drop(name)}",
        )  # fmt: skip


def _one_class(name: str, rows: Rows) -> Iterator[Finding]:
    """LEAK01: a column that tells one class of several from all others."""
    share, k = told_class(cells(rows.train[name]), rows.target)
    if share >= SURE[True]:
        label = rows.data.class_names[k]
        yield Finding(
            code="LEAK01", severity="warning", columns=(name,),
            words=f"{name} alone tells the class {label} from all others: {share:.1%} of it.",
            evidence={"explained": share, "class": label},
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
        share = told(there.astype("int64"), rows.target)
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
    if rows.data.time is None or not rows.data.dated:
        return
    own = rows.data.time[rows.split.train_rows]
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


def filled_in_later(rows: Rows) -> Iterator[Finding]:
    """LEAK04: columns that old rows have and the newest lack, as an outcome written down later."""
    time, split = rows.data.time, rows.split
    if time is None or len(rows.test) < FEWEST or len(rows.train) < 10 * FEWEST:
        return
    frame = rows.data.frame.iloc[split.train_rows]
    order = np.argsort(time[split.train_rows], kind="stable")
    old, new = order[: len(order) // 2], order[-(len(order) // 10) :]
    for column in rows.data.columns:
        there = frame[column.name].notna().to_numpy()
        before, after = float(there[old].mean()), float(there[new].mean())
        last = float(rows.test[column.name].notna().mean())
        if before >= 0.5 and max(after, last) <= before / 2:
            yield Finding(
                code="LEAK04", severity="warning", columns=(column.name,),
                words=f"{before:.0%} of the older rows have {column.name}, and {after:.0%} of the "
                "newest: it is written down later, or no longer.",
                evidence={"old": before, "new": after, "test": last},
                advice=f"what new rows lack does not help to predict them: {_drop(column.name)}",
            )  # fmt: skip


def torn_groups(rows: Rows) -> Iterator[Finding]:
    """GROUP01: rows that belong together, by a column whose levels fix other columns."""
    if rows.data.groups is not None or rows.split.kind.endswith("as given"):
        return
    dates = {c.name for c in rows.data.columns if c.kind == "date"}  # see `ignored_time`
    codes = {c: copies.codes(rows.raw[c]) for c in rows.raw.columns}
    shares = {
        c: told(codes[c], rows.target) for c in rows.raw.columns
        if c not in dates and _may_be_group(rows.raw[c], codes[c])
    }  # fmt: skip
    strong = sorted((c for c in shares if shares[c] >= 0.1), key=lambda c: -shares[c])
    for name in strong[:MOST_GROUPS]:
        group, share = codes[name], shares[name]
        fixed = [c for c in codes if c != name and _fixes(group, codes[c])]
        if not fixed:
            continue
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
    """DUP01: equal rows on both sides; targets are compared in training rows only.

    Equal rows that chance alone would give, as in a table of a few columns with a few levels, are
    no copies; nor are those of a usual kind (`copies.usual`), nor people of one survey who differ
    in the weight that they stand for.
    """
    if len(rows.train.columns) < 2:
        return
    often, test_often = rows.data.usual[rows.at], rows.data.usual[rows.test_at]
    every, of_test = _weighed(rows, rows.key, rows.at), _weighed(rows, rows.test_key, rows.test_at)
    key, same = every[~often], row_keys(pd.DataFrame({"row": every, "y": rows.target.y}))
    torn = copies.torn(same[~often], rows.block[~often]) * float((~often).mean())
    chance, own, into_test = copies.by_chance(rows.train), copies.repeated(key), 0.0
    if not test_often.all():
        into_test = float(np.isin(of_test[~test_often], key).mean())
    n = round(into_test * int((~test_often).sum()))
    severity: Severity = "serious"
    advice = "drop the copies, or name what they have in common: data.group"
    if torn >= 0.01 and torn > BY_CHANCE * chance:
        words = f"{torn:.1%} of the training rows stand in several folds, target and all" + (
            f", and {n:,} test rows ({into_test:.1%}) have an equal training row." if n else "."
        )
    elif into_test >= 0.01 and into_test > 1.5 * own + 0.01 and into_test > BY_CHANCE * chance:
        severity = "serious" if into_test - own >= 0.05 else "warning"
        words = f"{n:,} test rows ({into_test:.1%}) have the features of a training row; among "
        words += f"themselves only {own:.1%} of the training rows do: copies?"
    elif (repeated := copies.repeated(same, first=False)) >= 0.01:
        severity = "note"
        among_rare = copies.repeated(same[~often], first=False)
        words, advice = _repeats(rows, repeated, among_rare, whole=not torn)
    else:
        return
    yield Finding(
        code="DUP01", severity=severity, columns=(), words=words,
        evidence={"torn": torn, "test_rows": n, "by_chance": chance}, advice=advice,
    )  # fmt: skip


def _weighed(rows: Rows, key: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Keys of rows by their features and, where there is one, their weight."""
    weight = rows.data.weight
    return key if weight is None else row_keys(pd.DataFrame({"row": key, "w": weight[at]}))


def _repeats(rows: Rows, repeated: float, among_rare: float, *, whole: bool) -> tuple[str, str]:
    """(words, advice) on training rows that repeat another one, and on those of no usual kind.

    `whole`: none of the latter stands in two blocks.
    """
    rare = among_rare * float((~rows.data.usual[rows.at]).mean())
    words = f"{repeated:.1%} of the training rows repeat another one, target and all"
    if rare < 0.01:
        words += ": kinds so frequent that they are taken for no copies, and divided as others are."
        return words, "nothing where they are no copies; else data.group"
    if whole and rows.data.by_content and not rows.split.ordered:
        words += f"; {rare:.1%} are" if rare < repeated else "; they are"
        words += " kept with what they repeat on one side of the split"
        together = dependence.units(rows.data, rows.split, rows.split.train_rows) is not None
        words += ", and drawn with it for intervals" if together else ""
    return words + ".", "drop them where they are copies by mistake: each counts"


def _drop(name: str) -> str:
    return f'data.drop = ["{name}"]'
