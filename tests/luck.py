"""Real searches in small: random models fitted in folds, their winner, and its truth on new rows.

A trial is a ridge regression on random features (a random part of the columns, or random hidden
units of them), with a random penalty: fitted in closed form, so that thousands of searches take
minutes. The truth of a winner is what its fold models score on rows that no search saw.

What most moves a winner's score from its truth is how hard the data set's rows happen to be, for
every trial alike. The mean over all trials of score less truth has expectation 0, since nobody
picked them, and is taken off: a control variate, which halves the data sets that are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from simulate import Rate, best_of
from surefit.core import metrics, stats

FOLDS = 5
UNBIASED = ("accuracy", "roc_auc")  # their mean over few rows is their truth; that of R² is not


@dataclass(frozen=True, kw_only=True)
class Population:
    """Rows to draw small data sets from: features (n, p), targets (n,), and the task."""

    task: str
    X: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)

    def drawn(self, n, rng, *, apart=20_000):
        """A data set of `n` rows, and others that it has not."""
        order = rng.permutation(len(self.y))
        return order[:n], order[n : n + apart]


def made(n=60_000, p=12, seed=7) -> Population:
    """Two classes from a smooth function with an interaction, and noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    logit = X[:, :6] @ np.linspace(0.6, 0.1, 6) + 0.5 * X[:, 0] * X[:, 1]
    return Population(task="binary", X=X, y=(rng.random(n) < expit(logit)).astype(int))


def of_file(file, target, task) -> Population:
    """The rows of a CSV: numbers standardised and clipped, texts one column a common level."""
    table = pd.read_csv(file)
    y = table.pop(target)
    wide = pd.get_dummies(table, dtype=float)
    wide = wide.loc[:, (wide != 0).mean() > 0.02].fillna(0.0)
    X = ((wide - wide.mean()) / wide.std()).clip(-4, 4).to_numpy()
    codes = y.to_numpy(float) if task == "regression" else pd.factorize(y, sort=True)[0]
    return Population(task=task, X=X, y=codes)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One draw of the search: columns, hidden units (None: the columns themselves), penalty."""

    columns: np.ndarray
    units: np.ndarray | None
    penalty: float

    @classmethod
    def drawn(cls, p, rng):
        """Anything from too simple to too rich."""
        columns = rng.choice(p, size=rng.integers(2, p + 1), replace=False)
        units = None
        if rng.random() < 0.7:
            units = rng.normal(size=(len(columns) + 1, rng.integers(5, 80))) / 2
        return cls(columns=columns, units=units, penalty=10 ** rng.uniform(-1, 3))

    def features(self, X):
        """What the ridge sees, with a column of ones."""
        ones = np.ones((len(X), 1))
        chosen = np.hstack([X[:, self.columns], ones])
        return chosen if self.units is None else np.hstack([np.tanh(chosen @ self.units), ones])

    def fitted(self, X, T):
        """Weights (features, outputs)."""
        F = self.features(X)
        return np.linalg.solve(F.T @ F + self.penalty * np.eye(F.shape[1]), F.T @ T)


def wanted(task, y):
    """The ridge's targets (n, outputs): values, or each class against the rest."""
    return y[:, None].astype(float) if task == "regression" else np.eye(y.max() + 1)[y]


def answers(task, out):
    """Predictions as metrics take them."""
    return out[:, 0] if task == "regression" else softmax(4 * out, axis=1)


@dataclass(frozen=True, kw_only=True)
class Luck:
    """Over many searches: how much the winner's raw and corrected score flatter, and coverage."""

    raw: float
    corrected: float
    error: float  # the standard error of `corrected`
    raw_covers: Rate
    covers: Rate

    def half_a_point_at_most(self, deviates: float = 2.576) -> bool:
        """Whether the corrected score may be off by half a point or less on average, at 99 %."""
        return abs(self.corrected) <= 0.005 + deviates * self.error


FEW = 2_000  # new rows that every trial is scored on; the winner's truth is scored on all


def luck_of_searches(
    people: Population, name, n, n_datasets, seed, *, n_trials=60, n_resamples=300
) -> Luck:
    """How the scores of search winners stand to their truth, on data sets of `n` rows each."""
    metric = metrics.find(name, people.task)
    found = [
        _one(people, metric, n, np.random.default_rng([seed, k]), n_trials, n_resamples)
        for k in range(n_datasets)
    ]
    raw, corrected, anyone, raw_covers, covers = (np.array(c) for c in zip(*found, strict=True))
    if name in UNBIASED:
        raw, corrected = raw - anyone, corrected - anyone
    return Luck(
        raw=float(raw.mean()), corrected=float(corrected.mean()),
        error=float(corrected.std(ddof=1) / np.sqrt(n_datasets)),
        raw_covers=Rate(hits=int(raw_covers.sum()), trials=n_datasets),
        covers=Rate(hits=int(covers.sum()), trials=n_datasets),
    )  # fmt: skip


def _one(people, metric, n, rng, n_trials, n_resamples):
    """The winner's raw and corrected score less its truth, any trial's, and who covers."""
    seen, apart = people.drawn(n, rng)
    new = apart[:FEW]
    y, folds = people.y[seen], np.arange(n) % FOLDS
    trials = [Trial.drawn(people.X.shape[1], rng) for _ in range(n_trials)]
    answered = [_answered(people, trial, seen, new, folds) for trial in trials]
    true = np.array([
        np.mean([metrics.value(metric, people.y[new], answer) for answer in elsewhere])
        for _, elsewhere in answered
    ])  # fmt: skip
    preds = {f"{k}": own for k, (own, _) in enumerate(answered)}
    best = best_of(metric, y, preds, folds=folds, n_resamples=n_resamples, seed=0)
    alone = stats.score(metric, y, preds[best.name], folds=folds, n_resamples=n_resamples)
    raw = np.array([
        np.mean([metrics.value(metric, y[folds == f], own[folds == f]) for f in range(FOLDS)])
        for own in preds.values()
    ])  # fmt: skip
    winner, sign = int(best.name), metric.sign
    _, everywhere = _answered(people, trials[winner], seen, apart, folds)
    truth = np.mean([metrics.value(metric, people.y[apart], answer) for answer in everywhere])
    by, few = best.value - best.raw, best.raw - true[winner]
    if metric.name not in UNBIASED:
        few = best.raw - truth
    return (sign * few, sign * (few + by), sign * (raw - true).mean(),
            alone.low <= truth <= alone.high, best.low <= truth <= best.high)  # fmt: skip


def _answered(people, trial, seen, new, folds):
    """Out-of-fold predictions of the rows seen, and each fold's model's of the new ones."""
    T = wanted(people.task, people.y)[seen]
    X, F = people.X[seen], trial.features(people.X[seen])
    elsewhere, own = trial.features(people.X[new]), np.empty((len(seen), T.shape[1]))
    models = [trial.fitted(X[folds != f], T[folds != f]) for f in range(FOLDS)]
    for f, w in enumerate(models):
        own[folds == f] = F[folds == f] @ w
    return answers(people.task, own), [answers(people.task, elsewhere @ w) for w in models]
