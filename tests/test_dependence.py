"""Rows that vary together: groups, or blocks of time, are drawn whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulate import two_classes
from surefit.core import data, dependence, gate, importance, metrics, predictions, split, stats
from surefit.core.predictions import Scored
from surefit.sections import DataConfig, GateConfig, SplitConfig


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 200), n_times=st.integers(1, 80), n_folds=st.integers(1, 3))
def test_blocks_are_neighbouring_times_within_folds(n, n_times, n_folds):
    """One time is in one block, blocks follow each other in time, and none straddles a fold."""
    rng = np.random.default_rng(n)
    time = rng.integers(0, n_times, n)
    folds = rng.integers(0, n_folds, n)
    block = dependence.blocks(time, folds)
    for k in np.unique(folds):
        inside = folds == k
        order = np.argsort(time[inside], kind="stable")
        assert (np.diff(block[inside][order]) >= 0).all()
        assert not set(block[inside]) & set(block[~inside])
        pairs = {(t, b) for t, b in zip(time[inside], block[inside], strict=True)}
        assert len(pairs) == len(np.unique(time[inside]))


def test_a_thousand_times_are_a_hundred_blocks():
    """Blocks are about as long as the cube root of the number of times."""
    assert len(np.unique(dependence.blocks(np.arange(1000)))) == 100


def test_rows_that_stand_four_times_are_worth_what_they_are_once():
    """The interval of a score is as wide as that of each row once, and without copies as before."""
    rng = np.random.default_rng(0)
    y, pred = two_classes(300, rng)
    metric = metrics.find("roc_auc", "binary")
    once = stats.score(metric, y, pred)
    unit = np.tile(np.arange(300), 4)
    four = stats.score(
        metric, np.tile(y, 4), np.tile(pred, (4, 1)), clusters=dependence.copies(unit)
    )
    assert four.value == pytest.approx(once.value)
    assert four.high - four.low == pytest.approx(once.high - once.low, rel=0.1)
    few = np.arange(1000)
    few[:20] = 500
    assert dependence.copies(np.arange(1000)) is None
    assert dependence.copies(few) is not None
    assert dependence.copies(np.append(np.arange(1000), [3, 5])) is None


def noise(n, times, seed):
    """Numbers that tell nothing of the class, each row so many times."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    frame["y"] = rng.integers(0, 2, n)
    frame = pd.concat([frame] * times, ignore_index=True)
    return frame.sample(frac=1, random_state=seed, ignore_index=True)


def test_copies_are_kept_with_the_predictions():
    """The stored table says which rows are drawn together, and they are when it is read."""
    table = data.prepare(noise(200, 4, 0), DataConfig(path="t", target="y"))
    divided = split.make(table, SplitConfig())
    pred = np.tile([0.5, 0.5], (len(divided.scored_rows), 1))
    stored = predictions.valid_table(table, divided, pred)
    assert (stored.groupby("copies_of").size() == 4).all()
    scored = predictions.read(stored, "binary", table.classes)
    assert len(np.unique(scored.groups)) == len(stored) / 4


def test_the_gate_promotes_no_noise_where_rows_repeat():
    """Answers at random beat the baseline about as often as the gate's error allows."""
    metric, promoted, tries = metrics.find("roc_auc", "binary"), 0, 60
    for seed in range(tries):
        table = data.prepare(noise(150, 6, seed), DataConfig(path="t", target="y"))
        divided = split.make(table, SplitConfig())
        at = divided.test_rows
        # of a row's content alone, as any model's answers are
        p = split.share(table.row_key[at], seed)
        rows = Scored(task="binary", classes=table.classes, row_id=at, y=table.y[at],
                      pred=np.column_stack([1 - p, p]), folds=None)  # fmt: skip
        asked = gate.Question(
            metric=metric, rows=rows, config=GateConfig(), look=1,
            clusters=dependence.units(table, divided, at),
        )  # fmt: skip
        if not gate.undecidable(asked):
            promoted += gate.baseline_check(asked)[0].verdict == "PROMOTED"
    assert promoted <= 6


def test_importance_finds_what_the_model_uses():
    """The feature that a model reads comes first, one that it ignores costs nothing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"noise": rng.normal(size=300), "signal": rng.normal(size=300)})
    y = frame["signal"].to_numpy() * 2
    metric = metrics.find("rmse", "regression")
    found = importance.permuted(
        lambda rows: rows["signal"].to_numpy() * 2, frame, y, metric, seed=0
    )
    assert list(found["feature"]) == ["signal", "noise"]
    assert found["low"][0] > 1
    assert found["importance"][1] == pytest.approx(0)


def test_importance_is_of_the_weighted_metric():
    """What matters only in rows without weight is of no importance."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"here": rng.normal(size=300), "there": rng.normal(size=300)})
    first = np.arange(300) < 150

    def predict(rows):
        at_first = np.arange(len(rows)) % 300 < 150
        return np.where(at_first, rows["here"], rows["there"])

    y, metric = predict(frame), metrics.find("rmse", "regression")
    found = importance.permuted(predict, frame, y, metric, seed=0, weights=first.astype(float))
    assert dict(zip(found["feature"], found["importance"] > 0.1, strict=True)) == {
        "here": True, "there": False}  # fmt: skip


def test_wide_tables_shuffle_fewer_rows():
    """How many rows are asked follows from the number of features, within bounds."""
    assert [importance.rows_for(n) for n in (1, 20, 100, 10_000)] == [1000, 1000, 200, 100]
