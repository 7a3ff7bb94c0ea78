"""The winner of a real search: its raw score flatters, the corrected one hardly does."""

import numpy as np
import pytest

import luck
from surefit.core import metrics
from surefit.core.winner import corrected_best


def test_a_search_winners_corrected_score_is_near_its_truth():
    """Over searches of 30 trials the corrected score is off by half a point at most, within
    chance, and its interval covers; the raw best does neither."""
    found = luck.luck_of_searches(
        luck.made(10_000), "accuracy", 300, 12, 61, n_trials=30, n_resamples=100
    )
    assert found.raw > 0.01
    assert found.half_a_point_at_most(), found
    assert abs(found.corrected) < found.raw / 2
    assert found.covers.at_least(0.93), found
    assert found.raw_covers.hits < found.covers.hits


def test_a_metric_that_depends_on_the_number_of_rows_is_not_blamed_on_luck():
    """R² on the few rows left out is lower whatever is picked; that is no flattery."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=90)
    best = y + rng.normal(size=90) * 0.5
    candidates = {"best": best, "hopeless": -y}
    found = corrected_best(
        metrics.find("r2", "regression"), y, candidates, folds=np.arange(90) % 3, n_resamples=200
    )
    assert found.bias == pytest.approx(0, abs=1e-9)
    assert found.low < found.raw < found.high
