"""Proofs for `surefit evaluate`: how often the interval of a score holds the truth."""

from __future__ import annotations

from typing import Any

from proving import Outcome, Row, Section, judged


def covered(*, least: float | None = None, most: float | None = None, **world: Any) -> Outcome:
    """The coverage of an interval in a world of tests/simulate.py."""
    import simulate

    rate = simulate.coverage(**world)
    return Outcome(cells=[str(rate.trials), str(rate)], held=judged(rate, least=least, most=most))


def clusters_covered(*, least: float | None = None, **world: Any) -> Outcome:
    """The coverage of an accuracy's interval where rows of a group are alike."""
    import simulate

    rate = simulate.cluster_coverage(**world)
    return Outcome(cells=[str(rate.trials), str(rate)], held=judged(rate, least=least))


def _scores() -> list[Row]:
    names = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision", "log_loss",
             "brier", "mcc")  # fmt: skip
    found = [Row(words=(name, f"{n:,}", ""), call=covered, repeats=2000, seed=1000 + k * 10 + i,
                 arguments={"name": name, "n": n, "least": 0.95})
             for k, name in enumerate(names) for i, n in enumerate((100, 1000))]  # fmt: skip
    for k, name in enumerate(("rmse", "mae", "r2")):
        found += [
            Row(words=(name, "200", f"{tails} errors"), call=covered, repeats=2000,
                seed=1100 + k * 10 + i,
                arguments={"name": name, "n": 200, "tails": tails, "least": 0.95})
            for i, tails in enumerate(("normal", "t5"))
        ]  # fmt: skip
    folds = {"name": "roc_auc", "n": 500, "n_folds": 5, "least": 0.95}
    return [*found, Row(words=("roc_auc", "500", "5 folds"), call=covered, repeats=2000, seed=1200,
                        arguments=folds)]  # fmt: skip


SECTIONS = [
    Section(
        title="Intervals of a score",
        about="How often the 95 % interval holds the truth. Promise: 95 %.",
        columns=("metric", "rows", "", "seed", "data sets", "coverage", ""), rows=_scores(),
    ),
    Section(
        title="Intervals with groups",
        about="Ten rows a group, alike. Promise: 95 %; under 20 groups an interval is marked "
        "unreliable, and reported as it is.",
        columns=("metric", "groups", "seed", "data sets", "coverage", ""),
        rows=[
            Row(words=("accuracy", str(n)), call=clusters_covered, repeats=2000, seed=1300 + n,
                arguments={"n_clusters": n, "least": 0.95 if n >= 20 else None})
            for n in (10, 20, 50, 100)
        ],
    ),
]  # fmt: skip
