"""The winner of a real search: its raw score flatters, the corrected one hardly does."""

import numpy as np
import pytest

import luck
from simulate import best_of
from surefit.core import metrics
from surefit.core.resampling import layout, mean_of_folds
from surefit.core.winner import elsewhere


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


def test_what_few_rows_do_to_a_metric_is_not_blamed_on_luck():
    """Where nothing was lucky R² is corrected for being low on folds of few rows, and upwards."""
    rng = np.random.default_rng(3)
    r2, by = metrics.find("r2", "regression"), []
    for _ in range(60):
        y = rng.normal(size=60)
        candidates = {"best": y + rng.normal(size=60) * 0.5, "hopeless": -y}
        found = best_of(r2, y, candidates, folds=np.arange(60) % 5, n_resamples=50)
        assert found.name == "best"
        assert found.low < found.raw < found.high
        by.append((found.raw - 0.75, found.value - 0.75))
    raw, corrected = np.mean(by, axis=0)
    assert raw < -0.01
    assert abs(corrected) < abs(raw) / 2


def test_what_rows_left_out_have_of_a_value_is_theirs():
    """For a weighted mean it is their own mean times their share, and parts add up to the whole."""
    rng = np.random.default_rng(4)
    y, pred, weights = rng.normal(size=(3, 40))
    rows = layout(40, weights=np.abs(weights))
    judge = mean_of_folds([metrics.find("mae", "regression")], y, pred, rows)
    (kept,) = rows.kept(5, 4, 1)
    assert kept.shape == (20, 40)
    assert (1 - kept).sum(axis=0).tolist() == [4] * 40
    assert set(kept.sum(axis=1)) == {32}
    whole, inside = judge(np.ones((1, 40)))[:, 0], judge(kept)[:, 0]
    left = rows.share(1 - kept)
    there = elsewhere(whole, inside, left)
    assert there == pytest.approx(left * judge(1 - kept)[:, 0])
    assert there.sum() / left.sum() == pytest.approx(whole[0])


FIVE, MANY = [600, 50, 50, 50, 50], [400, 150] + [20] * 20
UNEVEN = {
    "five groups, each a fold": {"folds": FIVE, "clusters": FIVE},
    "a group that is a fold": {"folds": [400, 220, 220], "clusters": [400] + [40] * 11},
    "groups in one set": {"clusters": MANY},
    "weights": {"weights": 800},
    "weights in folds": {"folds": [200] * 4, "weights": 800},
    "weights and groups": {"clusters": MANY, "weights": sum(MANY)},
}


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "mae", "r2"])
@pytest.mark.parametrize("arrangement", UNEVEN)
def test_nothing_is_taken_off_where_nothing_was_picked(name, arrangement):
    """Groups of any size and heavy weights: a candidate far ahead of all others keeps its score."""
    task = "binary" if name in ("accuracy", "roc_auc") else "regression"
    metric, rng = metrics.find(name, task), np.random.default_rng(5)
    given = {
        key: rng.lognormal(sigma=2, size=sizes)
        if key == "weights"
        else np.repeat(np.arange(len(sizes)), sizes)
        for key, sizes in UNEVEN[arrangement].items()
    }
    n = len(next(iter(given.values())))
    y = rng.normal(size=n) if task == "regression" else rng.integers(0, 2, n)
    noise = rng.normal(size=n) * (0.2 + 0.1 * (given.get("clusters", np.arange(n)) % 3))
    near, far = y + noise, 5 - 5 * y
    if task == "binary":
        near, far = (np.column_stack([1 - p, p]) for p in (np.clip(near, 0, 1), 1 - y))
    found = best_of(metric, y, {"near": near, "far": far}, n_resamples=100, **given)
    assert found.name == "near"
    assert found.value == pytest.approx(found.raw)
    assert found.low <= found.raw <= found.high


def test_whole_clusters_of_each_stratum_are_left_out():
    """A part takes clusters whole, from every fold about alike; three clusters make three parts."""
    folds, clusters = np.arange(80) % 2, np.arange(80) % 20
    rows = layout(80, folds=folds, clusters=clusters)
    for kept in rows.kept(5, 3, 2):
        for row in kept:
            gone = set(rows.clusters[row == 0])
            assert not gone & set(rows.clusters[row == 1])
            assert len(gone) == 4
            assert {int((rows.strata[row == 0] == s).sum()) for s in (0, 1)} == {8}
    assert next(layout(9, clusters=np.arange(9) % 3).kept(5, 1, 0)).shape == (3, 9)
