"""The HTML page of a search: a pure function of its trials, its best and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from surefit.core.page import Page, Section, TableBlock, render
from surefit.items import Figure
from surefit.results import Score, TrialRow
from surefit.wording import decimals

MOST_ROWS = 100


def render_search(
    *, name: str, trials: Sequence[TrialRow], best: TrialRow, corrected: Score, metric: str,
    importances: Mapping[str, float], figures: Sequence[Figure], command: str,
    tied: Sequence[int] = (),
) -> str:  # fmt: skip
    """The report: the best and its correction, what mattered, the pictures, the best trials."""
    states = {s: sum(t.state == s for t in trials) for s in ("COMPLETE", "PRUNED", "FAILED")}
    chosen = [(k, _told(v)) for k, v in best.params.items()]
    sign = -1 if corrected.greater_is_better else 1
    ranked = sorted(
        (t for t in trials if t.value is not None), key=lambda t: sign * float(t.value or 0)
    )
    keys, several = list(best.params), len({t.family for t in trials}) > 1
    rows = [[t.number, t.value, *([t.family] if several else ()),
             *(t.params.get(k) for k in keys), t.seconds] for t in ranked[:MOST_ROWS]]  # fmt: skip
    if several:
        chosen.insert(0, ("family", best.family))
    if tied:
        chosen.append(("tied with it", "trials " + ", ".join(map(str, tied))))
    mattered = [(k, f"{v:.0%}") for k, v in importances.items()]
    return render(Page(
        title=f"Search: {name}",
        verdict=f"Trial {best.number}: {metric} {decimals(float(best.value or 0))}, "
        f"corrected {decimals(corrected.value)}",
        subtitle=f"Corrected for having been picked: {corrected} ({corrected.note}).",
        facts=[("Trials", str(len(trials)))]
        + [(state.capitalize(), str(n)) for state, n in states.items()],
        sections=[
            Section(title="The best", facts=chosen),
            Section(
                title="How hyperparameters relate to the score", facts=mattered, figures=figures,
                text="Of the trials that were run: a search that homed in says little about the "
                "rest of the space.",
            ),
            Section(
                title="Trials", text=f"The best {len(rows)} of {len(ranked)} complete ones.",
                table=TableBlock(
                    columns=["trial", metric, *(["family"] if several else ()), *keys, "seconds"],
                    rows=rows,
                ),
            ),
            Section(title="Again", code=command),
        ],
        footer="Written by surefit. The numbers behind each picture lie beside it as CSV.",
    ))  # fmt: skip


def _told(value: object) -> str:
    """A hyperparameter as the table of trials has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
