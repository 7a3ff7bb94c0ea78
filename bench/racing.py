"""How often racing drops the trial that would have won, and what it saves, on real tables.

python bench/racing.py [TRIALS] [TABLE...]: random trials of LightGBM are fitted on all their folds
once; then the race is run on them in 300 random orders, as the engine runs it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefit.core import data, fit, metrics, race, space_text, split
from surefit.edges import sources
from surefit.edges.draws import uniform
from surefit.models import named
from surefit.sections import DataConfig, SplitConfig, TuneConfig

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
TABLES = {
    "telco_churn.csv": "Churn", "mammography.csv": "class", "car.csv": "class",
    "house_prices.csv": "SalePrice", "parkinsons.csv": "total_UPDRS",
    "california_housing.csv": "MedHouseVal",
}  # fmt: skip
ORDERS, FOLDS = 300, 5
WINDOW = TuneConfig().trials_in_flight(FOLDS)
RULES = ("2 %", "2 % and rows")


def fitted(table: str, target: str, trials: int) -> tuple[np.ndarray, list[Any], bool]:
    """Fold scores (trials, folds), each fold's shares by row, and the metric's direction."""
    config = DataConfig(path=str(FOLDER / table), target=target)
    rows = data.prepare(sources.read(config, FOLDER).frame, config)
    cut = split.make(rows, SplitConfig(folds=FOLDS))
    metric = metrics.default(rows.task)
    problem = fit.problem(rows, cut, family="lightgbm", metric=metric.name, seed=0)
    family = named("lightgbm")
    ranges = space_text.parse(family.space(rows.task))
    scores, shares = [], []
    for k in range(trials):
        params = {**family.defaults(rows.task), **uniform(ranges, 0, k), "num_iterations": 100}
        folds = [fit.fit_fold(problem, params, f) for f in range(FOLDS)]
        scores.append([f.score for f in folds])
        shares.append([
            race.fold_shares(metric, rows.y[cut.fold(f.fold)[1]], f.pred.astype("float32"))
            for f in folds
        ])  # fmt: skip
    return np.asarray(scores), shares, metric.greater_is_better


def raced(
    scores: np.ndarray, shares: list[Any], greater: bool, order: np.ndarray, rule: str
) -> tuple[np.ndarray, int]:
    """Which trials were dropped, and folds fitted, in one order of the trials."""
    dropped, n_fits = np.zeros(len(order), dtype=bool), 0
    for place, trial in enumerate(order):
        told = [t for t in order[: max(0, place - WINDOW + 1)] if not dropped[t]]
        limits = race.limits(
            [(int(t), scores[t].tolist()) for t in told], FOLDS, greater_is_better=greater
        )
        for f in range(FOLDS):
            n_fits += 1
            spread = None
            if limits and f < FOLDS - 1 and rule != RULES[0] and shares[trial][0] is not None:
                spread = race.paired_spread(shares[trial][: f + 1], shares[limits.rival][: f + 1])
            if f < FOLDS - 1 and race.is_behind(
                scores[trial, : f + 1].tolist(), limits, greater_is_better=greater, spread=spread
            ):
                dropped[trial] = True
                break
    return dropped, n_fits


@dataclass(frozen=True, kw_only=True)
class Raced:
    """Over all orders: how often the winner was dropped, what score that lost, fits saved."""

    dropped: float
    regret: float
    saved: float


def judged(table: str, trials: int) -> dict[str, Raced]:
    """Each rule on the same fits of a table."""
    scores, shares, greater = fitted(table, TABLES[table], trials)
    worth = scores.mean(axis=1) * (1 if greater else -1)
    found = {}
    for rule in RULES:
        lost, fits, regret = 0, 0, 0.0
        rng = np.random.default_rng(0)
        for _ in range(ORDERS):
            gone, n = raced(scores, shares, greater, rng.permutation(trials), rule)
            lost += bool(gone[int(np.argmax(worth))])
            regret += (worth.max() - worth[~gone].max()) / abs(worth.max())
            fits += n
        found[rule] = Raced(
            dropped=lost / ORDERS, regret=regret / ORDERS,
            saved=1 - fits / (ORDERS * trials * FOLDS),
        )  # fmt: skip
    return found


def main() -> None:
    """Print a row a table and rule."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"{trials} trials, {FOLDS} folds, {ORDERS} orders\n")
    print("| table | rule | winner dropped | score lost | fits saved |\n|---|---|---|---|---|")
    for table in sys.argv[2:] or TABLES:
        for rule, r in judged(table, trials).items():
            print(f"| {table} | {rule} | {r.dropped:.1%} | {r.regret:.3%} | {r.saved:.0%} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
