"""The report of `surefit check`: findings, the baselines, and each column at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from surefit.core.findings import Finding, Rows
from surefit.core.page import Page, Section, TableBlock, Tone
from surefit.wording import short

MOST_COLUMNS = 500
N_BARS, _BARS = 10, "\u00a0▁▂▃▄▅▆▇█"


def page(title: str, verdict: str, found: Sequence[Finding], rows: Rows, metric: str) -> Page:
    """The whole report; targets of test rows are in none of it."""
    data = rows.data
    tone: Tone = "bad" if any(f.blocks for f in found) else "good"
    if tone == "good" and any(f.severity == "warning" and not f.waived for f in found):
        tone = "unsure"
    facts = [
        ("Rows", f"{data.n_rows:,}"), ("Features", f"{len(data.columns):,}"),
        ("Task", data.task), (f"Trivial {metric}", short(rows.baseline)),
        (f"Best single column: {rows.best_column}", short(rows.best_score)),
    ]  # fmt: skip
    sections = [
        Section(title="Findings", text="" if found else "None.", table=_findings(found)),
        Section(title="Columns", text=_about_columns(rows), table=_columns(rows)),
        Section(title="Target", table=_target(rows)),
        Section(title="Split", text=rows.split.describe()),
        Section(title="What was inferred", table=_notes(rows)),
    ]
    return Page(
        title=title, verdict=verdict, subtitle=data.describe(), facts=facts, tone=tone,
        sections=[s for s in sections if s.text or s.table],
        footer=f"data {data.digest[:32]}\nsplit {rows.split.digest[:32]}",
    )  # fmt: skip


def _findings(found: Sequence[Finding]) -> TableBlock | None:
    if not found:
        return None
    lines = [
        (f.key, "waived" if f.waived else f.severity, f.words,
         f"waived: {f.waived}" if f.waived else f.advice)
        for f in found
    ]  # fmt: skip
    return TableBlock(columns=["code", "severity", "what", "what to do"], rows=lines, numeric=())


def _about_columns(rows: Rows) -> str:
    more = len(rows.data.columns) - MOST_COLUMNS
    told = "How much of the target each column tells alone, cross-fitted on training rows."
    return f"{told} {more:,} more columns are not shown." if more > 0 else told


def _columns(rows: Rows) -> TableBlock:
    ranked = sorted(rows.data.columns, key=lambda c: -rows.alone[c.name])[:MOST_COLUMNS]
    lines = [
        (c.name, c.kind, f"{100 * max(0.0, rows.alone[c.name]):.1f} %",
         _share(rows.train[c.name].isna()), int(rows.train[c.name].nunique()),
         _spread(rows.train[c.name]), _typical(rows.train[c.name]))
        for c in ranked
    ]  # fmt: skip
    return TableBlock(
        columns=["column", "kind", "explains", "missing", "distinct", "spread", "typical values"],
        rows=lines,
        caption="spread: rows by value from the 1st to the 99th percentile, or by level",
        numeric=("explains", "missing", "distinct"),
    )


def _spread(values: pd.Series) -> str:
    """A histogram of one line: bins between the outer percentiles, or the commonest levels."""
    present = values.dropna()
    if present.nunique() < 2:
        return ""
    if pd.api.types.is_float_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values):
        numbers = present.to_numpy().astype("float64")
        low, high = np.quantile(numbers, [0.01, 0.99])
        counts = np.histogram(numbers, bins=N_BARS, range=(low, high if high > low else low + 1))[0]
    else:
        counts = present.value_counts().head(N_BARS).to_numpy()
    return "".join(_BARS[math.ceil(8 * n / max(counts.max(), 1))] for n in counts)


def _share(mask: pd.Series) -> str:
    return f"{100 * float(mask.mean()):.1f} %"


def _typical(values: pd.Series) -> str:
    present = values.dropna()
    if not len(present):
        return ""
    if pd.api.types.is_float_dtype(values.dtype):
        low, middle, high = np.quantile(present, [0, 0.5, 1])
        return f"{short(low)} … {short(middle)} … {short(high)}"
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return f"{present.min():%Y-%m-%d} … {present.max():%Y-%m-%d}"
    common = present.value_counts().head(3)
    return ", ".join(f"{str(v)[:30]} ({n:,})" for v, n in common.items())


def _target(rows: Rows) -> TableBlock:
    y = rows.target.y
    if not rows.n_classes:
        marks = np.quantile(y, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
        names = ["least", "5 %", "25 %", "middle", "75 %", "95 %", "most"]
        table: list[tuple[Any, ...]] = list(zip(names, map(float, marks), strict=True))
        return TableBlock(columns=["quantile", "value"], rows=table, caption="training rows")
    counts = np.bincount(y, minlength=rows.n_classes)
    table = [
        (name, int(n), f"{100 * n / len(y):.1f} %")
        for name, n in zip(rows.data.class_names, counts, strict=True)
    ]
    return TableBlock(columns=["class", "rows", "share"], rows=table, caption="training rows")


def _notes(rows: Rows) -> TableBlock | None:
    lines = [(n.text, n.override) for n in rows.data.notes]
    return TableBlock(columns=["inferred", "to override"], rows=lines) if lines else None
