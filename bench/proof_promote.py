"""Proofs for `surefit promote`: how rarely a challenger that is no better is promoted."""

from __future__ import annotations

from typing import Any

from proving import Outcome, Row, Section, judged

FIRST_LOOK = 0.0304  # what the first look may spend of alpha 0.05: 6 alpha / pi^2


def verdicts(*, most: float | None, **world: Any) -> Outcome:
    """How often the gate gives each verdict; what is judged is PROMOTED."""
    import simulate

    found = simulate.verdicts(**world)
    rates = [found[v] for v in ("PROMOTED", "INCONCLUSIVE", "REJECTED")]
    cells = [str(rates[0].trials), *map(str, rates)]
    return Outcome(cells=cells, held=judged(rates[0], most=most))


SECTIONS = [
    Section(
        title="The gate",
        about="A challenger with no gain (0) or with a real one, at the first look with alpha "
        "0.05, which may spend 3.04 %. Promise: a worthless challenger is promoted no more often.",
        columns=("metric", "rows", "gain", "seed", "sets", "PROMOTED", "INCONCLUSIVE", "REJECTED",
                 ""),
        rows=[
            Row(words=(name, "1,000", f"{gain:g}"), call=verdicts, repeats=1500,
                seed=3000 + round(gain * 100) + k,
                arguments={"name": name, "n": 1000, "gain": gain, "most": most})
            for gain, most in ((0.0, FIRST_LOOK), (0.4, None), (0.8, None))
            for k, name in enumerate(("accuracy", "roc_auc", "log_loss"))
        ],
    ),
]  # fmt: skip
