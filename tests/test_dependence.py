"""Rows that vary together: groups, or blocks of time, are drawn whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefit.core import dependence, importance, metrics


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


def test_wide_tables_shuffle_fewer_rows():
    """How many rows are asked follows from the number of features, within bounds."""
    assert [importance.rows_for(n) for n in (1, 20, 100, 10_000)] == [1000, 1000, 200, 100]
