"""The long simulations: our intervals and verdicts in worlds whose truth is known.

`make prove` runs them and writes docs/proof.md. `--scale 0.05` runs a twentieth of the data sets
and prints the page instead.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "proof.md"
LIBRARIES = ("surefit", "numpy", "scipy", "scikit-learn")
sys.path.insert(0, str(ROOT / "tests"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a table: a function of tests/simulate.py, its arguments, and what is promised."""

    table: str
    words: tuple[str, ...]
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    n_datasets: int = 2000
    least: float | None = None
    most: float | None = None


def cases() -> list[Case]:
    """All rows, the slow ones first, so that the cores end together."""
    found = []
    for n_candidates in (2, 20):
        for metric in ("accuracy", "roc_auc", "log_loss"):
            found.append(Case(
                table="worse", words=(metric, "300", str(n_candidates)), function="called_worse",
                arguments={"name": metric, "n": 300, "n_candidates": n_candidates}, most=0.05,
                n_datasets=1000 if n_candidates == 20 else 2000,
            ))  # fmt: skip
    for metric in ("accuracy", "roc_auc"):
        found.append(Case(
            table="luck", words=(metric, "300", "30"), function="luck_of_the_best", least=0.95,
            arguments={"name": metric, "n": 300}, n_datasets=600,
        ))  # fmt: skip
    for gain, most in ((0.0, 0.0304), (0.4, None), (0.8, None)):
        for metric in ("accuracy", "roc_auc", "log_loss"):
            found.append(Case(
                table="gate", words=(metric, "1,000", f"{gain:g}"), function="verdicts",
                arguments={"name": metric, "n": 1000, "gain": gain}, n_datasets=1500, most=most,
            ))  # fmt: skip
    for metric in ("accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision",
                   "log_loss", "brier", "mcc"):  # fmt: skip
        for n in (100, 1000):
            found.append(Case(
                table="score", words=(metric, f"{n:,}", ""), function="coverage", least=0.95,
                arguments={"name": metric, "n": n},
            ))  # fmt: skip
    for metric in ("rmse", "mae", "r2"):
        for tails in ("normal", "t5"):
            found.append(Case(
                table="score", words=(metric, "200", f"{tails} errors"), function="coverage",
                arguments={"name": metric, "n": 200, "tails": tails}, least=0.95,
            ))  # fmt: skip
    found.append(Case(
        table="score", words=("roc_auc", "500", "5 folds"), function="coverage", least=0.95,
        arguments={"name": "roc_auc", "n": 500, "n_folds": 5},
    ))  # fmt: skip
    found += [
        Case(table="clusters", words=("accuracy", str(n)), function="cluster_coverage", least=0.95,
             arguments={"n_clusters": n}) for n in (10, 20, 50, 100)
    ]  # fmt: skip
    return found


def run(number: int, case: Case, n_datasets: int) -> Any:
    """What the simulation gives; its seed is the row's number."""
    import simulate

    return getattr(simulate, case.function)(
        **case.arguments, n_datasets=n_datasets, seed=1000 + number
    )


def verdict(rate: Any, case: Case) -> str:
    """Whether what is promised could give this rate, by the exact binomial bound at 99 %."""
    if case.least is not None:
        return "holds" if rate.at_least(case.least) else "**falls short**"
    if case.most is not None:
        return "holds" if rate.at_most(case.most) else "**exceeded**"
    return ""


def row(number: int, case: Case, outcome: Any) -> list[str]:
    """A table's row: the world, the seed, the rates with 99 % bounds, and what follows."""
    start = [*case.words, str(1000 + number)]
    if case.function == "luck_of_the_best":
        raw, corrected, rate = outcome
        return [*start, str(rate.trials), f"{raw:+.4f}", f"{corrected:+.4f}", str(rate),
                verdict(rate, case)]  # fmt: skip
    if case.function == "verdicts":
        rates = [outcome[v] for v in ("PROMOTED", "INCONCLUSIVE", "REJECTED")]
        return [*start, str(rates[0].trials), *map(str, rates), verdict(rates[0], case)]
    return [*start, str(outcome.trials), str(outcome), verdict(outcome, case)]


TABLES = {
    "score": (
        "Intervals of a score",
        "How often the 95 % interval holds the truth. Promise: 95 %.",
        ("metric", "rows", "", "seed", "data sets", "coverage", ""),
    ),
    "clusters": (
        "Intervals with groups",
        "Ten rows a group, alike. Promise: 95 %; under 20 groups an interval is marked unreliable.",
        ("metric", "groups", "seed", "data sets", "coverage", ""),
    ),
    "worse": (
        "Equal candidates that are called worse",
        "How often any of equally good candidates is told from the best. Promise: 5 % at most.",
        ("metric", "rows", "candidates", "seed", "data sets", "error", ""),
    ),
    "luck": (
        "The luck of the best",
        "The best of equally good candidates: by how much its raw and its corrected score flatter "
        "on average, and how often the corrected interval holds the truth. Promise: 95 %.",
        ("metric", "rows", "candidates", "seed", "data sets", "raw", "corrected", "cover", ""),
    ),
    "gate": (
        "The gate",
        "A challenger with no gain (0) or with a real one, at the first look with alpha 0.05, "
        "which may spend 3.04 %. Promise: a worthless challenger is promoted no more often.",
        ("metric", "rows", "gain", "seed", "sets", "PROMOTED", "INCONCLUSIVE", "REJECTED", ""),
    ),
}


def page(outcomes: dict[int, Any], seconds: float, scale: float) -> str:
    """The whole page as Markdown."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    parts = [
        "# Proof by simulation\n",
        "Written by `make prove` from the worlds of `tests/simulate.py`, whose truth is known. "
        "Rates stand with exact 99 % binomial bounds. *Holds*: the promised rate could have given "
        "this one, at 99 %; of forty rows, less than one is expected to fail by chance.\n",
        f"Python {platform.python_version()}, {versions}; {seconds / 60:.0f} minutes; "
        f"scale {scale:g}.",
    ]
    for key, (title, about, columns) in TABLES.items():
        rows = [row(i, c, outcomes[i]) for i, c in enumerate(cases()) if c.table == key]
        parts.append(f"\n## {title}\n\n{about}\n")
        parts += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        parts += [f"| {' | '.join(r)} |" for r in rows]
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the data sets")
    scale = parser.parse_args().scale
    started = time.monotonic()
    outcomes = {}
    with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        jobs = {
            i: pool.submit(run, i, case, max(20, round(case.n_datasets * scale)))
            for i, case in enumerate(cases())
        }
        for done, (i, job) in enumerate(jobs.items(), start=1):
            outcomes[i] = job.result()
            case = cases()[i]
            print(f"{done}/{len(jobs)} {case.function} {' '.join(case.words)}", file=sys.stderr)
    text = page(outcomes, time.monotonic() - started, scale)
    if scale == 1.0:
        PAGE.write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
