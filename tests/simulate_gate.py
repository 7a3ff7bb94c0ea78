"""Worlds for the promotion gate: the same model under two seeds, equals cut into slices."""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from sklearn.ensemble import ExtraTreesClassifier

from simulate import Rate, equals
from surefit.core import gate, metrics
from surefit.core.gate import Question
from surefit.core.predictions import Scored
from surefit.core.strata import Slice
from surefit.sections import GateConfig


def question(y, pred, *, name="roc_auc", look=1, **config) -> Question:
    """The gate's question about a binary model."""
    rows = Scored(
        task="binary", classes=("no", "yes"), row_id=np.arange(len(y)), y=y, pred=pred, folds=None
    )
    found = metrics.find(name, "binary")
    return Question(metric=found, rows=rows, config=GateConfig(**config), look=look)


def table(n, rng):
    """Ten numbers a row of which five tell, and a target (n,) that they foretell."""
    x = rng.normal(size=(n, 10))
    y = (rng.random(n) < expit(x[:, :5] @ [1.2, -1.0, 0.8, 0.6, -0.4])).astype(int)
    return x, y


def same_model(
    n, n_datasets, seed, *, name="roc_auc", n_train=600, n_trees=40
) -> tuple[Rate, Rate, Rate]:
    """How often a model is promoted over itself fitted with another seed: by the gate's whole
    decision on fresh test rows; so, though it is no better on 50,000 more; and by the point."""
    rng, metric = np.random.default_rng(seed), metrics.find(name, "binary")
    by_gate = in_error = by_point = 0
    for _ in range(n_datasets):
        x, y = table(n_train + n, rng)
        one, other = (
            ExtraTreesClassifier(n_trees, min_samples_leaf=5, random_state=int(s)).fit(
                x[:n_train], y[:n_train]
            )
            for s in rng.integers(2**31, size=2)
        )
        asked = question(y[n_train:], one.predict_proba(x[n_train:]), name=name, floors={name: 0.5})
        checks = [*gate.floor_checks(asked), gate.baseline_check(asked)[0]]
        check, test = gate.champion_check(asked, other.predict_proba(x[n_train:]))
        if gate.decide([*checks, check]) == "PROMOTED":
            by_gate += 1
            more, truth = table(50_000, rng)
            first, second = (
                metrics.value(metric, truth, m.predict_proba(more)) for m in (one, other)
            )
            in_error += metric.sign * (first - second) <= 0
        by_point += metric.sign * test.challenger > metric.sign * test.champion
    found = (by_gate, in_error, by_point)
    return tuple(Rate(hits=int(hits), trials=n_datasets) for hits in found)


def slices_of_equals(n, n_datasets, seed, *, n_slices=8, name="accuracy") -> Rate:
    """How often an equal challenger is rejected for harm to any of so many slices."""
    rng, hits = np.random.default_rng(seed), 0
    for _ in range(n_datasets):
        y, both = equals(n, 2, rng)
        part = rng.integers(0, n_slices, size=n)
        parts = [Slice(name=str(k), member=part == k) for k in range(n_slices)]
        (check,) = gate.slice_check(question(y, both["c1"], name=name), both["c0"], parts)
        hits += check.verdict == "REJECTED"
    return Rate(hits=hits, trials=n_datasets)
