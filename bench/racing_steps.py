"""What giving up boosters in the middle of a fit would save and lose; it is not done, for this.

python bench/racing_steps.py [TRIALS] [TABLE...]: random trials of LightGBM with early stopping are
fitted on three folds once, with their curves of the loss by round; then the race by folds is run
on them in 60 random orders, alone and with rules that stop a fit by its curve. A curve is held
against those of the complete trials told, at the same round, or at the same product of
round and learning rate ("pace").
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from racing import FOLDER, TABLES

from surefit.core import data, fit, metrics, race, space_text, split
from surefit.edges import sources
from surefit.edges.draws import uniform
from surefit.models import named
from surefit.sections import DataConfig, SplitConfig, TuneConfig

ORDERS, FOLDS = 60, 3
WINDOW = TuneConfig().trials_in_flight(FOLDS)
PACES = np.linspace(0.25, 50, 200)  # learning rate x rounds
FREE_ROUNDS, FREE_PACE = 10, 0.5  # where nothing is stopped yet
Rule = tuple[str, str, float]  # where curves are held together, against whom, and the slack

RULES: dict[str, Rule | None] = {
    "by folds alone": None,
    "median at the round": ("round", "median", 0.0),
    "median at the pace": ("pace", "median", 0.0),
    "third best at the round": ("round", "third", 0.0),
    "a fifth above the third best at the round": ("round", "third", 0.2),
    "a fifth above the third best at the pace": ("pace", "third", 0.2),
}


@dataclass(frozen=True, kw_only=True)
class Fits:
    """All fits of a table: (trials, folds) scores, CPU, rounds, best losses by round and pace."""

    scores: np.ndarray
    cpu: np.ndarray
    rounds: np.ndarray
    rates: np.ndarray
    curves: dict[str, np.ndarray]
    greater: bool


def fitted(table: str, trials: int) -> Fits:
    """Fit them, as a search would."""
    config = DataConfig(path=str(FOLDER / table), target=TABLES[table])
    rows = data.prepare(sources.read(config, FOLDER).frame, config)
    cut, metric = split.make(rows, SplitConfig(folds=FOLDS)), metrics.default(rows.task)
    problem = fit.problem(rows, cut, family="lightgbm", metric=metric.name, seed=0)
    family = named("lightgbm")
    ranges = space_text.parse(family.space(rows.task))
    scores, cpu, losses, rates = [], [], [], []
    for k in range(trials):
        params = {**family.defaults(rows.task), **uniform(ranges, 0, k)}
        for fold in range(FOLDS):
            before = time.process_time()
            found = fit.fit_fold(problem, params, fold)
            cpu.append(time.process_time() - before)
            scores.append(found.score)
            losses.append(np.fmin.accumulate([v for _, _, v in found.curve]))
            rates.append(float(params["learning_rate"]))
    return gathered(scores, cpu, losses, rates, metric.greater_is_better)


def gathered(
    scores: list[float], cpu: list[float], losses: list[np.ndarray], rates: list[float],
    greater: bool,
) -> Fits:  # fmt: skip
    """A table's fits, one after the other, as arrays."""
    longest = max(map(len, losses))
    by_round = [[*c, *[c[-1]] * (longest - len(c))] for c in losses]
    by_pace = [
        c[np.clip((PACES / rate).astype(int) - 1, 0, len(c) - 1)]
        for c, rate in zip(losses, rates, strict=True)
    ]
    shape = (len(scores) // FOLDS, FOLDS)
    return Fits(
        scores=np.reshape(scores, shape), cpu=np.reshape(cpu, shape),
        rounds=np.reshape([len(c) for c in losses], shape), rates=np.reshape(rates, shape)[:, 0],
        curves={"round": np.reshape(by_round, (*shape, -1)),
                "pace": np.reshape(by_pace, (*shape, -1))},
        greater=greater,
    )  # fmt: skip


def stopped(
    fits: Fits, trial: int, fold: int, told: list[int], rule: tuple[str, str, float]
) -> float:
    """The share of a fit's rounds after which the rule stops it; 1 where it does not."""
    at, against, slack = rule
    known = np.sort(fits.curves[at][told, fold], axis=0)
    limit = known[race.RIVALS - 1] if against == "third" else np.median(known, axis=0)
    mine = fits.curves[at][trial, fold]
    rate, rounds = fits.rates[trial], fits.rounds[trial, fold]
    step = np.arange(1, len(mine) + 1) if at == "round" else PACES / rate
    behind = (mine > limit * (1 + slack)) & (step <= rounds)
    behind &= (step >= FREE_ROUNDS) & (step * rate >= FREE_PACE)
    return float(step[np.argmax(behind)] / rounds) if behind.any() else 1.0


def raced(fits: Fits, order: np.ndarray, rule: Rule | None) -> tuple[np.ndarray, float]:
    """Which trials were dropped, and the CPU spent, in one order of the trials."""
    gone, spent = np.zeros(len(order), dtype=bool), 0.0
    for place, trial in enumerate(order):
        told = [int(t) for t in order[: max(0, place - WINDOW + 1)] if not gone[t]]
        complete = [(t, fits.scores[t].tolist()) for t in told]
        limits = race.limits(complete, FOLDS, greater_is_better=fits.greater)
        for fold in range(FOLDS):
            share = stopped(fits, trial, fold, told, rule) if rule and limits else 1.0
            spent += share * fits.cpu[trial, fold]
            scores = fits.scores[trial, : fold + 1].tolist()
            if share < 1 or race.is_behind(scores, limits, greater_is_better=fits.greater):
                gone[trial] = True
                break
    return gone, spent


def judged(fits: Fits, rule: Rule | None) -> tuple[float, float, float]:
    """How often the winner is dropped, the score that costs, and the CPU saved."""
    worth = fits.scores.mean(axis=1) * (1 if fits.greater else -1)
    rng = np.random.default_rng(0)
    lost = regret = spent = 0.0
    for _ in range(ORDERS):
        gone, cpu = raced(fits, rng.permutation(len(worth)), rule)
        lost += gone[int(np.argmax(worth))]
        regret += (worth.max() - worth[~gone].max()) / abs(worth.max())
        spent += cpu
    return lost / ORDERS, regret / ORDERS, 1 - spent / ORDERS / fits.cpu.sum()


def main() -> None:
    """Print a row a table and rule."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    print("| table | rule | winner dropped | score lost | CPU saved |\n|---|---|---|---|---|")
    for table in sys.argv[2:] or TABLES:
        fits = fitted(table, trials)
        for name, rule in RULES.items():
            dropped, lost, saved = judged(fits, rule)
            print(f"| {table} | {name} | {dropped:.0%} | {lost:.2%} | {saved:.0%} |", flush=True)


if __name__ == "__main__":
    main()
