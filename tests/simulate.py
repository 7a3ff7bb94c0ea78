"""Worlds with a known truth, and how often our intervals and verdicts are right in them.

Every function takes the number of data sets, so that tests run a short form and the long proof
calls the same code. A rate is judged by the exact binomial bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr, ndtri
from scipy.stats import binom, binomtest, ttest_rel

from surefit.core import contest, metrics, ranking, stats
from surefit.core.gatetest import gate, spent

SEPARATION = 1.2  # distance of the two classes' means, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Rate:
    """`hits` of `trials`, and what chance allows."""

    hits: int
    trials: int

    def at_least(self, rate: float, level: float = 0.99) -> bool:
        """Whether a true rate of `rate` could have given so few hits."""
        return bool(binom.cdf(self.hits, self.trials, rate) > 1 - level)

    def at_most(self, rate: float, level: float = 0.99) -> bool:
        """Whether a true rate of `rate` could have given so many hits."""
        return bool(binom.sf(self.hits - 1, self.trials, rate) > 1 - level)

    def __str__(self) -> str:
        ends = binomtest(self.hits, self.trials).proportion_ci(0.99)
        return f"{self.hits / self.trials:.3f} [{ends.low:.3f}, {ends.high:.3f}]"


def two_classes(n, rng):
    """Equal classes with normal scores: `y` (n,) and calibrated probabilities (n, 2)."""
    y = (rng.random(n) < 0.5).astype(int)
    score = rng.normal(size=n) + SEPARATION * (y - 0.5)
    p = expit(SEPARATION * score)
    return y, np.column_stack([1 - p, p])


def numbers(n, rng, *, tails="normal"):
    """Targets (n,) and predictions whose errors have standard deviation 1."""
    y = rng.normal(size=n) * 2
    if tails == "normal":
        return y, y + rng.normal(size=n)
    if tails == "lognormal":
        error = rng.lognormal(sigma=0.6, size=n)
        mean, variance = math.exp(0.18), math.exp(0.36) * (math.exp(0.36) - 1)
        return y, y + (error - mean) / math.sqrt(variance)
    return y, y + rng.standard_t(5, size=n) / math.sqrt(5 / 3)


def rare(n, rng, *, share=0.05):
    """As `two_classes`, with a share of positives, every data set having at least ten."""
    while True:
        y = (rng.random(n) < share).astype(int)
        if y.sum() >= 10:
            break
    score = rng.normal(size=n) + SEPARATION * (y - 0.5)
    p = expit(SEPARATION * score + math.log(share / (1 - share)))
    return y, np.column_stack([1 - p, p])


def accurate(n, rng):
    """Labels that are right in 98 of 100 rows, whichever class."""
    y = (rng.random(n) < 0.5).astype(int)
    called = np.where(rng.random(n) < 0.98, y, 1 - y)
    return y, np.where(called[:, None] == [0, 1], 0.9, 0.1)


def heavy(n, rng):
    """Numbers with lognormal errors of sigma 1, whose fourth moment hardly any sample shows."""
    y, error = rng.normal(size=n) * 2, rng.lognormal(size=n)
    mean, variance = math.exp(0.5), math.e * (math.e - 1)
    return y, y + (error - mean) / math.sqrt(variance)


def in_groups(task, n_groups, rng, *, each=10):
    """Groups of alike rows: `y`, predictions and groups; half the errors' variance is a group's."""
    group = np.repeat(np.arange(n_groups), each)
    n, shared = len(group), rng.normal(size=n_groups)
    if task == "regression":
        error = (shared[group] + rng.normal(size=n)) * math.sqrt(0.5)
        y = rng.normal(size=n) * 2
        return y, y + error, group
    y = (rng.random(n) < 0.5).astype(int)
    right = SEPARATION * 0.5 + shared[group] * math.sqrt(0.5) + rng.normal(size=n)
    p = expit(np.where(y == 1, right, -right))
    return y, np.column_stack([1 - p, p]), group


def in_time(n, rng, *, memory=0.5):
    """Numbers in order of time whose errors remember the one before."""
    from scipy.signal import lfilter

    error = lfilter([math.sqrt(1 - memory**2)], [1, -memory], rng.normal(size=n + 100))[100:]
    y = rng.normal(size=n) * 2
    return y, y + error


RARE_CUT = math.log(9) / SEPARATION  # the score where `rare` says one half
WORLDS = {
    # name: (task, a data set of n rows, the truths)
    "balanced": ("binary", two_classes, {"roc_auc": ndtr(SEPARATION / math.sqrt(2)),
                                         "accuracy": ndtr(SEPARATION / 2)}),
    "1 in 10 positive": (
        "binary", lambda n, rng: rare(n, rng, share=0.1),
        {"roc_auc": ndtr(SEPARATION / math.sqrt(2)),
         "accuracy": 0.1 * ndtr(SEPARATION / 2 - RARE_CUT)
         + 0.9 * ndtr(RARE_CUT + SEPARATION / 2)}),
    "Gaussian errors": ("regression", numbers, {"rmse": 1.0, "r2": 0.75}),
    "lognormal errors": (
        "regression", lambda n, rng: numbers(n, rng, tails="lognormal"), {"rmse": 1.0, "r2": 0.75}),
    "lognormal errors, sigma 1": ("regression", heavy, {"rmse": 1.0, "r2": 0.75}),
    "right in 98 of 100": ("binary", accurate, {"accuracy": 0.98}),
}  # fmt: skip


def covered(name, world, n, n_datasets, seed, *, n_resamples=600) -> Rate:
    """How often a metric's interval holds its truth in one of WORLDS."""
    task, draw, truths = WORLDS[world]
    rng, metric, hits = np.random.default_rng(seed), metrics.find(name, task), 0
    for k in range(n_datasets):
        y, pred = draw(n, rng)
        found = stats.score(metric, y, pred, n_resamples=n_resamples, seed=k)
        hits += found.low <= truths[name] <= found.high
    return Rate(hits=hits, trials=n_datasets)


def groups_covered(name, n_groups, n_datasets, seed, *, n_resamples=600) -> Rate:
    """The same over groups of ten alike rows."""
    task = "regression" if name in ("rmse", "r2") else "binary"
    true = {"roc_auc": ndtr(SEPARATION / math.sqrt(3)), "rmse": 1.0, "r2": 0.75,
            "accuracy": ndtr(SEPARATION / 2 / math.sqrt(1.5))}[name]  # fmt: skip
    rng, metric, hits = np.random.default_rng(seed), metrics.find(name, task), 0
    for k in range(n_datasets):
        y, pred, group = in_groups(task, n_groups, rng)
        found = stats.score(metric, y, pred, clusters=group, n_resamples=n_resamples, seed=k)
        hits += found.low <= true <= found.high
    return Rate(hits=hits, trials=n_datasets)


def time_covered(n, n_datasets, seed, *, blocked=True, n_resamples=600) -> Rate:
    """How often the interval of RMSE holds 1 where errors follow one another."""
    from surefit.core.dependence import blocks

    rng, metric, hits = np.random.default_rng(seed), metrics.find("rmse", "regression"), 0
    together = blocks(np.arange(n)) if blocked else None
    for k in range(n_datasets):
        y, pred = in_time(n, rng)
        found = stats.score(metric, y, pred, clusters=together, n_resamples=n_resamples, seed=k)
        hits += found.low <= 1.0 <= found.high
    return Rate(hits=hits, trials=n_datasets)


def power_at(gain: float, error: float, *, alpha: float, look: int) -> float:
    """The chance that a true gain is promoted, `error` being the difference's standard error.

    The normal approximation: Phi(gain / error - z), z the quantile of the alpha spent.
    """
    return float(ndtr(gain / error + ndtri(spent(alpha, look))))


def truth(name: str, tails: str = "normal") -> float:
    """The metric's value on endless rows of the worlds above."""
    if tails != "normal" and name in ("mae", "median_absolute_error"):
        y, pred = numbers(2_000_000, np.random.default_rng(987), tails=tails)
        return metrics.value(metrics.find(name, "regression"), y, pred)
    known = {
        "accuracy": ndtr(SEPARATION / 2),
        "balanced_accuracy": ndtr(SEPARATION / 2),
        "roc_auc": ndtr(SEPARATION / math.sqrt(2)),
        "rmse": 1.0,
        "mae": math.sqrt(2 / math.pi),
        "r2": 0.75,
        "median_absolute_error": 0.6744897501960817,
        "ks": 2 * ndtr(SEPARATION / 2) - 1,
    }
    if name in known:
        return float(known[name])
    y, pred = two_classes(2_000_000, np.random.default_rng(987))
    return metrics.value(metrics.find(name, "binary"), y, pred)


def coverage(
    name,
    n,
    n_datasets,
    seed,
    *,
    n_resamples=1000,
    n_folds=1,
    tails="normal",
    level=0.95,
    imbalanced=False,
    uneven=0.0,
) -> Rate:
    """How often the interval of a score holds the truth.

    `uneven` is the standard deviation of the logarithm of the rows' weights.
    """
    rng = np.random.default_rng(seed)
    task = "regression" if name in metrics.names("regression") else "binary"
    metric, true, hits = metrics.find(name, task), truth(name, tails), 0
    for k in range(n_datasets):
        if task == "regression":
            y, pred = numbers(n, rng, tails=tails)
        else:
            y, pred = rare(n, rng) if imbalanced else two_classes(n, rng)
        folds, weights = np.arange(n) % n_folds, np.exp(uneven * rng.normal(size=n))
        found = stats.score(
            metric, y, pred, folds=folds, weights=weights if uneven else None, level=level,
            n_resamples=n_resamples, seed=k,
        )  # fmt: skip
        hits += found.low <= true <= found.high
    return Rate(hits=hits, trials=n_datasets)


def equals(n, n_candidates, rng, *, own=0.6):
    """`y` and candidates of equal worth: a shared score and noise of their own."""
    y = (rng.random(n) < 0.5).astype(int)
    shared = SEPARATION * (y - 0.5) + rng.normal(size=n)
    found = {}
    for k in range(n_candidates):
        p = expit(shared + own * rng.normal(size=n))
        found[f"c{k}"] = np.column_stack([1 - p, p])
    return y, found


def called_worse(name, n, n_datasets, seed, *, n_candidates=20, own=0.6, n_resamples=500) -> Rate:
    """How often any of equal candidates is told from the best: the familywise error."""
    rng = np.random.default_rng(seed)
    metric, hits = metrics.find(name, "binary"), 0
    for k in range(n_datasets):
        y, candidates = equals(n, n_candidates, rng, own=own)
        found = ranking.rank(metric, y, candidates, n_resamples=n_resamples, seed=k)
        hits += len(found.tied) < n_candidates
    return Rate(hits=hits, trials=n_datasets)


def power_of_accuracy(gain, n, n_datasets, seed, *, n_resamples=300) -> tuple[Rate, Rate]:
    """How often a gain in accuracy is told, by our interval and by a paired t test.

    The two models disagree in being right on about a tenth of the rows.
    """
    rng = np.random.default_rng(seed)
    metric, ours, theirs = metrics.find("accuracy", "binary"), 0, 0
    for k in range(n_datasets):
        y = (rng.random(n) < 0.5).astype(int)
        draw = rng.random(n)  # only a right, only b right, else both alike
        a = np.where(draw < 0.05 + gain / 2, True, draw >= 0.1)
        b = np.where(draw < 0.05 + gain / 2, False, True)
        both = {
            name: np.column_stack([y != right, y == right]).astype(float)
            for name, right in (("a", a), ("b", b))
        }
        found = ranking.rank(metric, y, both, n_resamples=n_resamples, seed=k)
        ours += len(found.tied) < 2
        theirs += bool(ttest_rel(a.astype(float), b.astype(float)).pvalue < 0.05)
    return Rate(hits=ours, trials=n_datasets), Rate(hits=theirs, trials=n_datasets)


def theory_of_power(gain, n, differ=0.1) -> float:
    """The chance that a two-sided paired test at 5 % tells such a gain from nothing."""
    shift = gain / math.sqrt((differ - gain**2) / n)
    return float(ndtr(shift - 1.959964) + ndtr(-shift - 1.959964))


def best_of(metric, y, candidates, **how):
    """The best of the candidates, its score corrected for all of them."""
    first = next(iter(candidates))
    further = {name: pred for name, pred in candidates.items() if name != first}
    whole = contest.judge(metric, y, {first: candidates[first]}, further, **how)
    return whole.corrected


def luck_of_the_best(name, n, n_datasets, seed, *, n_candidates=30, own=0.6, n_resamples=200):
    """Mean flattery of the raw and of the corrected score of the best, and its coverage."""
    rng = np.random.default_rng(seed)
    metric = metrics.find(name, "binary")
    big, preds = equals(400_000, 1, np.random.default_rng(987), own=own)
    true = metrics.value(metric, big, preds["c0"])
    raw, corrected, hits = [], [], 0
    for k in range(n_datasets):
        y, candidates = equals(n, n_candidates, rng, own=own)
        found = best_of(metric, y, candidates, n_resamples=n_resamples, seed=k)
        raw.append(metric.sign * (found.raw - true))
        corrected.append(metric.sign * (found.value - true))
        hits += found.low <= true <= found.high
    return float(np.mean(raw)), float(np.mean(corrected)), Rate(hits=hits, trials=n_datasets)


def verdicts(
    name, n, n_datasets, seed, *, own=0.6, gain=0.0, alpha=0.05, look=1, n_resamples=1000
) -> dict[str, Rate]:
    """How often the gate gives each verdict for a challenger with so much less noise of its own."""
    rng = np.random.default_rng(seed)
    metric = metrics.find(name, "binary")
    counts = dict.fromkeys(("PROMOTED", "REJECTED", "INCONCLUSIVE"), 0)
    for k in range(n_datasets):
        y, both = equals(n, 2, rng, own=own)
        challenger = both["c1"]
        if gain:
            better = np.log(challenger[:, 1] / challenger[:, 0]) + gain * (y - 0.5)
            challenger = np.column_stack([1 - expit(better), expit(better)])
        found = gate(
            metric, y, both["c0"], challenger, alpha=alpha, look=look, n_resamples=n_resamples,
            seed=k,
        )  # fmt: skip
        counts[found.verdict] += 1
    return {verdict: Rate(hits=hits, trials=n_datasets) for verdict, hits in counts.items()}


def looks_at_equals(
    n, n_projects, n_looks, seed, *, name="accuracy", n_resamples=1000
) -> tuple[Rate, Rate]:
    """How often any of so many equal challengers is promoted: by the gate, and by the point."""
    rng, metric = np.random.default_rng(seed), metrics.find(name, "binary")
    by_gate = by_point = 0
    for _ in range(n_projects):
        y, models = equals(n, n_looks + 1, rng)
        champion = models.pop("c0")
        found = [
            gate(metric, y, champion, m, look=k, n_resamples=n_resamples).verdict
            for k, m in enumerate(models.values(), start=1)
        ]
        by_gate += "PROMOTED" in found
        at = metric.sign * metrics.value(metric, y, champion)
        by_point += any(metric.sign * metrics.value(metric, y, m) > at for m in models.values())
    return Rate(hits=by_gate, trials=n_projects), Rate(hits=by_point, trials=n_projects)


def power_of_gains(gain, n, n_datasets, seed, *, look=1, differ=0.06, n_resamples=5000):
    """The rates at which a true gain in accuracy is promoted: by the gate, by theory, by the point.

    The two models differ at random in a share `differ` of the rows, and in a further share `gain`
    the challenger is right.
    """
    rng, metric = np.random.default_rng(seed), metrics.find("accuracy", "binary")
    error = math.sqrt((differ + gain - gain**2) / n)
    hits = by_point = 0
    for _ in range(n_datasets):
        y = (rng.random(n) < 0.5).astype(int)
        turn, theirs = rng.random(n), rng.random(n) < 0.8
        ours = theirs.copy()
        theirs[turn < differ / 2], ours[turn < differ / 2] = True, False
        turned = (turn >= differ / 2) & (turn < differ + gain)
        theirs[turned], ours[turned] = False, True
        champion, challenger = (
            np.where((np.where(right, y, 1 - y)[:, None] == [0, 1]), 0.8, 0.2)
            for right in (theirs, ours)
        )
        found = gate(metric, y, champion, challenger, look=look, n_resamples=n_resamples)
        hits += found.verdict == "PROMOTED"
        by_point += found.difference > 0
    theory = power_at(gain, error, alpha=0.05, look=look)
    return Rate(hits=hits, trials=n_datasets), theory, Rate(hits=by_point, trials=n_datasets)


def power_by_all_outcomes(gain, n, *, look=1, differ=0.06, n_resamples=5000):
    """The same chance without chance: the gate's verdict on each count of rows that only one gets
    right, weighted by how likely it is; and the theory. Counts whose z is a deviate away from the
    critical one are taken as decided."""
    metric, tail = metrics.find("accuracy", "binary"), spent(0.05, look)
    ours, theirs = differ / 2 + gain, differ / 2
    critical, power = float(-ndtri(tail)), 0.0
    wins = binom(n, ours)
    for a in range(int(wins.ppf(1e-4)), int(wins.ppf(1 - 1e-4)) + 1):
        losses = binom(n - a, theirs / (1 - ours))
        for b in range(int(losses.ppf(1e-4)), int(losses.ppf(1 - 1e-4)) + 1):
            z = (a - b) / math.sqrt(max(a + b, 1))
            promoted = z > critical
            if abs(z - critical) < 1:
                champion, challenger = np.full((2, n), 0.8)
                champion[:a], challenger[a : a + b] = 0.2, 0.2
                both = (np.column_stack([1 - p, p]) for p in (champion, challenger))
                y = np.ones(n, dtype=int)
                found = gate(metric, y, *both, look=look, n_resamples=n_resamples)
                promoted = found.verdict == "PROMOTED"
            power += float(wins.pmf(a) * losses.pmf(b)) * promoted
    error = math.sqrt((differ + gain - gain**2) / n)
    return power, power_at(gain, error, alpha=0.05, look=look)


def false_discoveries(n, n_datasets, seed, *, n_columns=4, n_bad=1, harm=0.35) -> float:
    """The mean share of slices called worse that are not, where `n_bad` columns have a bad one.

    In each bad column the rows of the value "a" have their class wrong with share `harm`.
    """
    from surefit.core import slices
    from surefit.core.kinds import Column
    from surefit.core.predictions import Scored

    rng = np.random.default_rng(seed)
    metric, shares = metrics.find("accuracy", "binary"), []
    columns = [Column(name=f"c{k}", dtype="string", kind="category") for k in range(n_columns)]
    for _ in range(n_datasets):
        y, pred = two_classes(n, rng)
        features = pd.DataFrame({c.name: rng.choice(list("abcdef"), n) for c in columns})
        for c in columns[:n_bad]:
            bad = (features[c.name] == "a").to_numpy() & (rng.random(n) < harm)
            y = np.where(bad, 1 - y, y)
        scored = Scored(task="binary", classes=(0, 1), row_id=np.arange(n), y=y, pred=pred,
                        folds=None)  # fmt: skip
        bad_ones = {c.name for c in columns[:n_bad]}
        called = [s for s in slices.find(metric, scored, features, columns) if s.worse]
        false = sum(not (s.column in bad_ones and s.value == "a") for s in called)
        shares.append(false / max(len(called), 1))
    return float(np.mean(shares))
