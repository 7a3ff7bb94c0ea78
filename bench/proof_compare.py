"""Proofs for `surefit compare`: equal candidates are tied, and the best is not flattered."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proving import ROOT, Outcome, Row, Section, judged


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


def power(*, gain: float, n: int, **world: Any) -> Outcome:
    """How often a true gain in accuracy is told from nothing, beside the paired test's theory."""
    import simulate

    ours, test = simulate.power_of_accuracy(gain, n, **world)
    theory = simulate.theory_of_power(gain, n)
    cells = [str(ours.trials), str(ours), str(test), f"{theory:.3f}"]
    return Outcome(cells=cells, held=judged(ours, least=theory - 0.03, most=theory + 0.03))


def searched(*, people: str, name: str, n: int, n_datasets: int, seed: int) -> Outcome:
    """How the scores of search winners stand to their truth on rows that no search saw."""
    import luck

    found = luck.luck_of_searches(PEOPLE[people](), name, n, n_datasets, seed)
    cells = [str(n_datasets), f"{found.raw:+.4f}", f"{found.corrected:+.4f} ± {found.error:.4f}",
             str(found.raw_covers), str(found.covers)]  # fmt: skip
    held = found.half_a_point_at_most() and found.covers.at_least(0.93)
    return Outcome(cells=cells, held=held)


def _file(name: str, target: str, task: str) -> Any:
    """Rows of a public table in the folder that SUREFIT_DATA names, or ../shared/data."""
    import luck

    folder = Path(os.environ.get("SUREFIT_DATA", ROOT.parent / "shared" / "data"))
    return luck.of_file(folder / name, target, task)


def _made() -> Any:
    import luck

    return luck.made()


PEOPLE: dict[str, Callable[[], Any]] = {
    "made": _made,
    "adult": lambda: _file("adult_train.csv", "income", "binary"),
    "telco_churn": lambda: _file("telco_churn.csv", "Churn", "binary"),
    "letter": lambda: _file("letter.csv", "class", "multiclass"),
    "california_housing": lambda: _file("california_housing.csv", "MedHouseVal", "regression"),
}
SEARCHED = [  # population, metric, rows, data sets
    ("adult", "roc_auc", 300, 150), ("adult", "accuracy", 1000, 150),
    ("telco_churn", "roc_auc", 300, 150), ("letter", "accuracy", 500, 150),
    ("california_housing", "r2", 300, 300), ("made", "accuracy", 1000, 150),
    ("made", "accuracy", 300, 150), ("made", "roc_auc", 300, 150),
]  # fmt: skip

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
    Section(
        title="Power of a comparison",
        about="How often a true gain in accuracy, between models that are right on different rows "
        "in a tenth of them, is told from nothing; beside a paired *t* test on the same data and "
        "its theory (normal approximation). Promise: within 3 points of the theory.",
        columns=("gain", "rows", "seed", "data sets", "surefit", "t test", "theory", ""),
        rows=[
            Row(words=(f"{gain:.0%}", "1,000"), call=power, seed=2600 + k, repeats=3000,
                arguments={"gain": gain, "n": 1000}, fewest=300)
            for k, gain in enumerate((0.01, 0.02))
        ],
    ),
    Section(
        title="The winner of a search",
        about="Searches of 60 trials (ridge regressions on random parts of the columns or on "
        "random hidden units, five folds) on small data sets drawn from a public table or a made, "
        "noisy world; the truth is what the winner's fold models score on up to 20,000 rows that "
        "the search did not see. By how much the raw and the corrected score flatter on average, "
        "with its standard error (but for R², how easy the rows happen to be is taken off: the "
        "mean over all trials of score less truth, which has expectation 0), and "
        "how often the interval of each holds the truth. Promise: half a point at most on average, "
        "93 % covered, each as judged at 99 %.",
        columns=("rows of", "metric", "n", "seed", "searches", "raw", "corrected", "raw covers",
                 "covers", ""),
        rows=[
            Row(words=(people, name, f"{n:,}"), call=searched, seed=4700 + k, repeats=repeats,
                arguments={"people": people, "name": name, "n": n})
            for k, (people, name, n, repeats) in enumerate(SEARCHED)
        ],
    ),
]  # fmt: skip
