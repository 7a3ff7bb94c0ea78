"""The HTML page of a comparison: a pure function of its result."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from surefit.comparison import (
    Comparison,
    Differing,
    Flip,
    LeftOut,
    Pair,
    SliceContrast,
    Standing,
    Unpaired,
)
from surefit.core.figures_search import leaderboard
from surefit.core.page import Page, Section, TableBlock, render
from surefit.items import Figure
from surefit.wording import ranked, short

MOST_CODE = 50_000  # characters of a diff on the page
FLIPS = 25  # of a pair on the page
MOST_ROWS = 200  # of a table on the page; the run's CSV files have all
MORE_ROWS = "more rows"


def pictures(result: Comparison) -> Figure:
    """The leaderboard as a forest plot: ties are drawn as ties."""
    table = pd.DataFrame(
        [(s.name, s.score.value, s.score.low, s.score.high, s.tied) for s in result.standings],
        columns=["name", "value", "low", "high", "tied"],
    )
    return leaderboard(
        table, metric=result.metric, greater_is_better=result.best.score.greater_is_better
    )


def render_page(result: Comparison, figures: Sequence[Figure]) -> str:
    """The page as HTML; the leaderboard's picture first among `figures`, then those of a pair."""
    sections = [_leaderboard(result, figures[:1])]
    if result.pair:
        sections += _pair(result.pair, figures[1:])
    if result.noise:
        noise = result.noise
        text = (
            f"Another seed alone moves {result.metric} by {noise.sd:.2g} (standard deviation over "
            f"{noise.n_runs} runs of {noise.n_configurations} configurations). Differences up to "
            f"{noise.reach:.2g} between two runs can be the seed."
        )
        sections.append(Section(title="Noise floor", text=text))
    if result.unpaired:
        text = (
            "This ranking was asked for with --unpaired. The rows are not the same: what is hard "
            "in one set does not cancel, and a difference may be the data's."
        )
        sections.append(Section(title="By metric alone", text=text, table=_block(result.unpaired)))
    if result.left_out:
        sections.append(Section(title="Not ranked", table=_block(result.left_out)))
    return render(Page(
        title="Comparison", verdict=result.headline(), subtitle=_subtitle(result),
        tone="unsure" if result.tied else "good",
        facts=[("Rows", f"{result.n_rows:,}"), ("Ranked", str(len(result.standings))),
               ("Tied with the best", str(len(result.tied))),
               ("Picked from", f"{result.n_candidates:,}"), ("Proposed", result.proposed.name)],
        sections=sections, footer="Written by surefit.",
    ))  # fmt: skip


def _subtitle(result: Comparison) -> str:
    said = result.luck()
    if result.corrected.note:
        said += f" ({result.corrected.note})"
    if result.tied:
        said += f". Among the tied, proposed: {result.proposed.name} ({result.why_proposed})"
    return said + "."


def _leaderboard(result: Comparison, figures: Sequence[Figure]) -> Section:
    text = (
        "“worse by” is the paired difference to the best on the same rows; its interval holds for "
        "all candidates together. Tied: it cannot be told from the best."
    )
    if result.more:
        text += " Only the best by their recorded metric were read; there are more."
    shown = [_row(result, s) for s in result.standings[:MOST_ROWS]]
    said = [key for key in shown[0] if any(row[key] is not None for row in shown)]
    if MORE_ROWS in said:
        text += f" “{MORE_ROWS}”: about as many as would tell it."
    block = TableBlock(columns=said, rows=[[row[key] for key in said] for row in shown])
    return Section(title="Leaderboard", text=text, figures=figures, table=block)


def _row(result: Comparison, s: Standing) -> dict[str, object]:
    """What a reader wants first; leaderboard.csv has the rest."""
    apart = "" if s.rank == 1 else f"{short(s.worse_by)} [{short(s.low)}, {short(s.high)}]"
    return {
        "place": "best" if s.rank == 1 else "tied" if s.tied else f"{s.rank}, worse",
        "run": s.run_id[:8],
        "name": s.name + (" (other program)" if s.outside else ""),
        result.metric: f"{ranked(s.score.value)} [{short(s.score.low)}, {short(s.score.high)}]",
        "worse by": apart, MORE_ROWS: (
            max(0, s.rows_to_decide - result.n_rows) if s.rows_to_decide else None
        ), "one row, ms": s.latency_ms, "model, kB": s.model_bytes and s.model_bytes / 1000,
        "fit, s": s.fit_seconds,
    }  # fmt: skip


def _pair(pair: Pair, figures: Sequence[Figure]) -> list[Section]:
    found = [Section(
        title=f"What differs between {pair.a} and {pair.b}",
        text="" if pair.differs else "Nothing that was recorded.",
        table=_block(pair.differs, pair) if pair.differs else None,
    )]  # fmt: skip
    counts = {"Rows": pair.n_rows, "Both right": pair.both_right, f"Only {pair.a}": pair.only_a,
              f"Only {pair.b}": pair.only_b, "Neither": pair.both_wrong,
              "Decisions that flip": pair.n_flips}  # fmt: skip
    facts = [(name, f"{count:,}") for name, count in counts.items()]
    by_slice = [f for f in figures if f.name == "pair_slices"]
    curves = [f for f in figures if f not in by_slice]
    shown = f"The {FLIPS} surest of them; pair/flips.csv has more." if pair.n_flips > FLIPS else ""
    found.append(Section(
        title="Where they disagree", text=shown, facts=facts, figures=curves,
        table=_block(pair.flips[:FLIPS], pair) if pair.flips else None,
    ))  # fmt: skip
    if pair.slices:
        text = (
            f"The metric of both on each slice; better_by is positive where {pair.a} is better. "
            "Of the slices called different at most 5 % are expected to be so by chance."
        )
        found.append(
            Section(title="By slice", text=text, figures=by_slice, table=_block(pair.slices, pair))
        )
    if pair.code:
        found.append(Section(title="Code", code=pair.code[:MOST_CODE]))
    return found


def _block(
    values: Sequence[LeftOut | Unpaired | Flip | Differing | SliceContrast],
    pair: Pair | None = None,
) -> TableBlock:
    """A table of values, a column a field; of a pair, "a" and "b" by their names."""
    shown = [dict(vars(v)) for v in values[:MOST_ROWS]]
    names = {"a": pair.a, "b": pair.b} if pair else {}
    heads = [
        names.get(key, "run" if key == "run_id" else key.replace("_", " ")) for key in shown[0]
    ]
    for row in shown:
        row |= {"run_id": str(row["run_id"])[:8]} if "run_id" in row else {}
    return TableBlock(columns=heads, rows=[list(v.values()) for v in shown])
