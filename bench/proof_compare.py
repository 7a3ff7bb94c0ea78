"""Proofs for `surefit compare`: equal candidates are tied, and the best is not flattered."""

from __future__ import annotations

from typing import Any

from proving import Outcome, Row, Section, judged


def called_worse(*, most: float, **world: Any) -> Outcome:
    """How often any of equal candidates is told from the best."""
    import simulate

    rate = simulate.called_worse(**world)
    return Outcome(cells=[str(rate.trials), str(rate)], held=judged(rate, most=most))


def luck(*, least: float, **world: Any) -> Outcome:
    """By how much the best of equals flatters, and how often its corrected interval covers."""
    import simulate

    raw, corrected, rate = simulate.luck_of_the_best(**world)
    cells = [str(rate.trials), f"{raw:+.4f}", f"{corrected:+.4f}", str(rate)]
    return Outcome(cells=cells, held=judged(rate, least=least))


SECTIONS = [
    Section(
        title="Equal candidates that are called worse",
        about="How often any of equally good candidates is told from the best. "
        "Promise: 5 % at most.",
        columns=("metric", "rows", "candidates", "seed", "data sets", "error", ""),
        rows=[
            Row(words=(name, "300", str(n)), call=called_worse, seed=2000 + n * 10 + k,
                repeats=1000 if n == 20 else 2000,
                arguments={"name": name, "n": 300, "n_candidates": n, "most": 0.05})
            for n in (2, 20) for k, name in enumerate(("accuracy", "roc_auc", "log_loss"))
        ],
    ),
    Section(
        title="The luck of the best",
        about="The best of equally good candidates: by how much its raw and its corrected score "
        "flatter on average, and how often the corrected interval holds the truth. Promise: 95 %.",
        columns=("metric", "rows", "candidates", "seed", "data sets", "raw", "corrected", "cover",
                 ""),
        rows=[
            Row(words=(name, "300", "30"), call=luck, seed=2500 + k, repeats=600,
                arguments={"name": name, "n": 300, "least": 0.95})
            for k, name in enumerate(("accuracy", "roc_auc"))
        ],
    ),
]  # fmt: skip
