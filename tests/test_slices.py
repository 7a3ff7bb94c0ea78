"""Slices: which rows they are, what they score, and how often a false one is called."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from simulate import Rate, false_discoveries, two_classes
from surefit.core import metrics, slices
from surefit.core.kinds import Column
from surefit.core.predictions import Scored

AUC, ACCURACY = metrics.find("roc_auc", "binary"), metrics.find("accuracy", "binary")
KINDS = {"color": "category", "age": "number", "note": "text"}
COLUMNS = tuple(Column(name=n, dtype="string", kind=k) for n, k in KINDS.items())


def world(n, rng, *, bad=0.0):
    """Scored rows and features; rows of color "red" get their class wrong with share `bad`."""
    y, pred = two_classes(n, rng)
    features = pd.DataFrame(
        {
            "color": rng.choice(["red", "green", "blue"], n),
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "note": [f"text {i}" for i in range(n)],
        }
    )
    flip = (features["color"] == "red").to_numpy() & (rng.random(n) < bad)
    y = np.where(flip, 1 - y, y)
    return scored_of(y, pred), features


def scored_of(y, pred, **more):
    return Scored(
        task="binary", classes=("no", "yes"), row_id=np.arange(len(y)), y=y, pred=pred,
        **{"folds": None, **more},
    )  # fmt: skip


def test_each_slice_scores_its_own_rows_and_the_rest_all_others():
    """A slice's value and the rest's are scikit-learn's on exactly those rows."""
    scored, features = world(400, np.random.default_rng(0))
    found = {(s.column, s.value): s for s in slices.find(AUC, scored, features, COLUMNS)}
    red = (features["color"] == "red").to_numpy()
    one = found["color", "red"]
    assert one.score.n_rows == red.sum()
    assert one.score.value == pytest.approx(sk.roc_auc_score(scored.y[red], scored.pred[red, 1]))
    assert one.rest == pytest.approx(sk.roc_auc_score(scored.y[~red], scored.pred[~red, 1]))
    assert one.worse_by == pytest.approx(one.rest - one.score.value)
    assert not any(column == "note" for column, _ in found)


def test_rows_fall_into_one_slice_of_each_column():
    """A column's slices cover all rows, missing ones included, and do not overlap."""
    _, features = world(500, np.random.default_rng(1))
    for column in COLUMNS[:2]:
        codes, names = slices.codes(features[column.name], column.kind)
        assert set(codes) == set(range(len(names)))
    assert slices.codes(features["age"], "number")[1][-1] == slices.MISSING


def test_years_are_written_as_years():
    """Ends of four digits have no comma, larger ones do."""
    for low, name in ((1900, "1900 … "), (190_000, "190,000 … ")):
        assert slices.codes(pd.Series(np.arange(low, low + 99)), "number")[1][0].startswith(name)


def test_many_values_are_taken_together():
    """Of many values the most frequent have slices of their own, the others one."""
    values = pd.Series([f"v{i}" for i in range(40) for _ in range(40 - i)])
    codes, names = slices.codes(values, "category")
    assert len(names) == slices.MAX_LEVELS + 1
    assert names[-1] == "other (28 values)"
    assert (codes == len(names) - 1).sum() == sum(range(1, 29))


def test_a_bad_slice_is_found_and_listed_first():
    """Where a third of the red rows has the wrong label, red is shown to be worse."""
    scored, features = world(2000, np.random.default_rng(2), bad=0.35)
    for metric in (AUC, ACCURACY):
        found = slices.find(metric, scored, features, COLUMNS)
        assert (found[0].column, found[0].value, found[0].worse) == ("color", "red", True)
        assert found[0].low > 0
        assert [s.value for s in found if s.worse] == ["red"]


def test_small_slices_are_marked_and_never_called_worse():
    """Under 30 rows nothing is tested, however bad they look."""
    scored, features = world(300, np.random.default_rng(3))
    features["color"] = np.where(np.arange(300) < 12, "rare", "common")
    y = np.where(np.arange(300) < 12, 1 - (scored.pred[:, 1] > 0.5), scored.y)
    found = slices.find(ACCURACY, scored_of(y, scored.pred), features, COLUMNS[:1])
    rare = next(s for s in found if s.value == "rare")
    assert rare.score.value == 0
    assert (rare.small, rare.worse) == (True, False)
    assert np.isnan(rare.p_value)


def test_weights_folds_and_clusters_reach_the_slices():
    """Weights change the value, folds average it, and clusters widen the interval."""
    rng = np.random.default_rng(4)
    scored, features = world(600, rng)
    plain = {(s.column, s.value): s for s in slices.find(ACCURACY, scored, features, COLUMNS)}
    weights = rng.integers(1, 4, 600).astype(float)
    weighted = slices.find(
        ACCURACY, scored_of(scored.y, scored.pred, weights=weights), features, COLUMNS
    )
    one = next(s for s in weighted if s.value == "red")
    red = (features["color"] == "red").to_numpy()
    right = (scored.pred[:, 1] >= 0.5) == scored.y
    assert one.score.value == pytest.approx(np.average(right[red], weights=weights[red]))
    twice = scored_of(np.repeat(scored.y, 4), np.repeat(scored.pred, 4, axis=0))
    clustered = slices.find(
        ACCURACY, twice, features.loc[features.index.repeat(4)].reset_index(drop=True), COLUMNS,
        clusters=np.repeat(np.arange(600), 4),
    )  # fmt: skip
    same = next(s for s in clustered if s.value == "red")
    assert same.high - same.low == pytest.approx(
        plain["color", "red"].high - plain["color", "red"].low, rel=0.03
    )


def test_benjamini_hochberg_by_hand():
    """The step-up rule on the paper's example: four of fifteen are rejected at 5 %."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
         0.5719, 0.6528, 0.7590, 1.0, float("nan")]  # fmt: skip
    assert slices.benjamini_hochberg(p) == [True] * 4 + [False] * 12
    assert slices.benjamini_hochberg([]) == []


@pytest.mark.parametrize("metric", [AUC, ACCURACY], ids=lambda m: m.name)
def test_false_alarms_are_rare(metric):
    """Without any bad slice, at most 5 % of data sets have one called worse."""
    rng = np.random.default_rng(5)
    n_datasets, hits = 40, 0
    for _ in range(n_datasets):
        scored, features = world(400, rng)
        for k in range(3):
            features[f"c{k}"] = rng.choice(list("abcdef"), 400)
        columns = COLUMNS + tuple(Column(name=f"c{k}", dtype="string", kind="category")
                                  for k in range(3))  # fmt: skip
        hits += any(s.worse for s in slices.find(metric, scored, features, columns))
    assert Rate(hits=hits, trials=n_datasets).at_most(0.05), hits


def test_few_of_the_slices_called_worse_are_not():
    """Beside truly bad slices, the share of false ones among those called stays below 5 %."""
    assert false_discoveries(1500, 20, 6) < 0.1


def test_noise_in_clusters_is_not_called_worse_by_a_median():
    """A metric without a cheap leave-one-out has no share of each cluster: variances add up."""
    rng, false = np.random.default_rng(2), 0
    columns = [Column(name=f"c{k}", dtype="string", kind="category") for k in range(4)]
    metric = metrics.find("median_absolute_error", "regression")
    for _ in range(10):
        y = rng.normal(size=400)
        frame = pd.DataFrame({c.name: rng.integers(2, size=400).astype(str) for c in columns})
        scored = Scored(task="regression", classes=(), row_id=np.arange(400), y=y,
                        pred=y + rng.normal(size=400), folds=None)  # fmt: skip
        found = slices.find(metric, scored, frame, columns, clusters=np.arange(400) // 8)
        false += any(s.worse for s in found)
    assert false <= 2


@pytest.mark.parametrize("name", ["f1", "recall", "balanced_accuracy", "mcc", "precision"])
def test_noise_is_not_called_worse_by_metrics_of_labels(name):
    """Slices of few positives have ratios of few rows: none is worse in nearly all tables."""
    rng, false = np.random.default_rng(2), 0
    columns = [Column(name=f"c{k}", dtype="string", kind="category") for k in range(4)]
    for _ in range(20):
        y, pred = two_classes(700, rng)
        kept = (y == 0) | (rng.random(700) < 0.2)
        y, pred = y[kept], pred[kept]
        frame = pd.DataFrame({c.name: rng.integers(10, size=len(y)).astype(str) for c in columns})
        scored = Scored(task="binary", classes=(0, 1), row_id=np.arange(len(y)), y=y, pred=pred,
                        folds=np.arange(len(y)) % 5)  # fmt: skip
        found = slices.find(metrics.find(name, "binary"), scored, frame, columns)
        false += any(s.worse for s in found)
    assert false <= 4


def test_two_models_differ_where_one_was_spoilt():
    """A model that is wrong on one slice differs there, in both directions, and nowhere else."""
    rng = np.random.default_rng(1)
    y = (rng.random(1200) < 0.5).astype(int)
    right = np.where(rng.random(1200) < 0.8, y, 1 - y)
    region = rng.choice(list("abcd"), 1200)
    spoilt = np.where((region == "a") & (rng.random(1200) < 0.5), 1 - right, right)
    one, two = (scored_of(y, np.column_stack([1 - p, p]) * 0.8 + 0.1) for p in (right, spoilt))
    given = (pd.DataFrame({"region": region}), [Column(name="region", dtype="string",
                                                       kind="category")])  # fmt: skip
    for name in ("accuracy", "roc_auc", "f1"):
        metric = metrics.find(name, "binary")
        there = slices.contrast(metric, one, two, *given)
        back = slices.contrast(metric, two, one, *given)
        assert [c.value for c in there if c.differs] == ["a"]
        assert 0 < there[0].low < there[0].better_by
        assert there[0].better_by == pytest.approx(-back[0].better_by)
        same = slices.contrast(metric, one, one, *given)
        assert not any(c.differs for c in same)
