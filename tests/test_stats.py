"""Intervals of one score: what is drawn, that they cover, and that they say where they do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulate import coverage, groups_covered, numbers, time_covered, two_classes
from surefit.core import metrics, stats
from surefit.errors import DataError

AUC = metrics.find("roc_auc", "binary")
ACCURACY = metrics.find("accuracy", "binary")
RMSE = metrics.find("rmse", "regression")


def sample(n=120, seed=0):
    return two_classes(n, np.random.default_rng(seed))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), n_strata=st.integers(1, 4), seed=st.integers(0, 999))
def test_draws_keep_strata(n, n_strata, seed):
    """Each resample draws as many rows from a stratum as it has, whatever the chunks."""
    strata = np.arange(n) % n_strata
    chunks = list(stats.resample_counts(n, n_resamples=7, seed=seed, strata=strata, cells=3 * n))
    counts = np.concatenate(chunks)
    assert counts.shape == (7, n)
    assert max(len(chunk) for chunk in chunks) <= 3
    for s in np.unique(strata):
        np.testing.assert_array_equal(counts[:, strata == s].sum(axis=1), (strata == s).sum())


def test_draws_keep_clusters_whole():
    """Rows of one cluster are drawn equally often; as many clusters are drawn as there are."""
    clusters = np.array(["a", "b", "a", "c", "b", "a"])
    counts = np.concatenate(
        list(stats.resample_counts(6, n_resamples=50, seed=0, clusters=clusters))
    )
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    np.testing.assert_array_equal(counts[:, [0, 1, 3]].sum(axis=1), 3)


def test_straddling_clusters_are_refused_with_strata():
    """A cluster in two strata cannot be drawn within them."""
    with pytest.raises(DataError, match="two strata"):
        next(stats.resample_counts(4, n_resamples=1, seed=0, strata=[0, 1, 0, 1], clusters=[0] * 4))


def test_every_row_is_drawn_equally_often():
    """Draws are uniform: over many resamples each row appears about once each."""
    counts = np.concatenate(list(stats.resample_counts(40, n_resamples=4000, seed=3)))
    assert np.abs(counts.mean(axis=0) - 1).max() < 5 / np.sqrt(4000)
    assert counts.var() == pytest.approx(39 / 40, rel=0.03)


def test_same_seed_same_ends():
    """Equal seeds give equal intervals, other seeds others."""
    y, pred = sample()
    first = stats.score(AUC, y, pred, n_resamples=200, seed=1)
    assert first == stats.score(AUC, y, pred, n_resamples=200, seed=1)
    assert first.low != stats.score(AUC, y, pred, n_resamples=200, seed=2).low


def test_shared_resamples_change_nothing():
    """Metrics scored together have the values and ends that each has alone."""
    y, pred = sample()
    shown = metrics.reported("binary")
    together = stats.scores(shown, y, pred, n_resamples=200)
    for metric, found in zip(shown, together, strict=True):
        alone = stats.score(metric, y, pred, n_resamples=200)
        assert (found.metric, found.method) == (alone.metric, alone.method)
        assert (found.value, found.low, found.high) == pytest.approx(
            (alone.value, alone.low, alone.high), rel=1e-9
        )


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_intervals_hold_their_value(task):
    """Every reported metric lies inside its interval, which lies inside the metric's bounds."""
    rng = np.random.default_rng(4)
    y, pred = two_classes(150, rng) if task == "binary" else numbers(150, rng)
    if task == "multiclass":
        y, pred = rng.integers(0, 5, 150), rng.dirichlet(np.ones(5), 150)
    if task == "regression":
        y, pred = np.abs(y) + 1, np.abs(pred)  # so that each metric is defined
    for metric, found in zip(
        metrics.reported(task),
        stats.scores(metrics.reported(task), y, pred, n_resamples=300),
        strict=True,
    ):
        assert metric.bounds[0] <= found.low <= found.value <= found.high <= metric.bounds[1]
        assert found.reliable != metric.raised_by_noise, found.note


def test_folds_are_averaged_never_pooled():
    """With folds the value is the mean of each fold's own, here far from the pooled one."""
    y, pred = sample(200)
    folds = np.arange(200) % 2
    score = pred[:, 1] * 0.5 + 0.5 * folds  # the second model's probabilities run higher
    pred = np.column_stack([1 - score, score])
    by_fold = [metrics.value(AUC, y[folds == f], pred[folds == f]) for f in (0, 1)]
    found = stats.score(AUC, y, pred, folds=folds, n_resamples=100)
    assert found.value == pytest.approx(np.mean(by_fold))
    assert metrics.value(AUC, y, pred) < found.value - 0.05


def test_fold_of_one_class_is_left_out_and_said():
    """A fold where the metric is undefined is left out of the mean, with a note."""
    y, pred = sample(90)
    folds = np.arange(90) % 3
    y = np.where(folds == 2, 0, y)
    by_fold = [metrics.value(AUC, y[folds == f], pred[folds == f]) for f in (0, 1)]
    found = stats.score(AUC, y, pred, folds=folds, n_resamples=100)
    assert found.value == pytest.approx(np.mean(by_fold))
    assert "1 of 3 folds left out" in found.note
    assert found.low < found.value < found.high


def test_undefined_everywhere_says_so():
    """One class gives NaN for the value and both ends, unreliable, with a note."""
    _, pred = sample(30)
    found = stats.score(AUC, np.zeros(30, dtype=int), pred)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert not found.reliable
    assert "undefined" in found.note


def test_accuracy_has_wilsons_interval():
    """Accuracy of 45 in 50 has the interval that Wilson's formula gives: 0.786 to 0.957."""
    y = np.zeros(50, dtype=int)
    p = np.where(np.arange(50) < 45, 0.1, 0.9)
    found = stats.score(ACCURACY, y, np.column_stack([1 - p, p]))
    assert found.method == "Wilson"
    assert (found.low, found.high) == pytest.approx((0.7864, 0.9565), abs=1e-4)


@pytest.mark.parametrize(
    ("method", "given"), [("BCa bootstrap", {}), ("cluster bootstrap", {"clusters": True})]
)
def test_method_is_recorded(method, given):
    """The score says how its interval was made."""
    y, pred = sample()
    given = {"clusters": np.arange(120) // 4} if given else {}
    assert stats.score(AUC, y, pred, n_resamples=100, **given).method == method


def test_metric_without_leave_one_out_has_percentile_interval():
    """A curve metric of one's own, without leave-one-out, still gets an interval."""
    from dataclasses import replace

    y, pred = sample()
    found = stats.score(replace(AUC, curve_without=None), y, pred, n_resamples=200)
    assert found.method == "percentile bootstrap"
    assert found.low < found.value < found.high


def test_clusters_widen_where_rows_are_copies():
    """Rows repeated ten times as clusters have the interval of the rows once, not a third of it."""
    y, pred = sample(60)
    ten = np.repeat(np.arange(60), 10)
    once = stats.score(AUC, y, pred, n_resamples=1000)
    apart = stats.score(AUC, y[ten], pred[ten], n_resamples=1000)
    whole = stats.score(AUC, y[ten], pred[ten], clusters=ten, n_resamples=1000)
    assert whole.high - whole.low == pytest.approx(once.high - once.low, rel=0.15)
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


@pytest.mark.parametrize("clusters", [np.arange(120) // 30, np.arange(120) % 4])
def test_few_clusters_are_marked(clusters):
    """Under 20 clusters the interval is given and marked, whether or not they straddle folds."""
    y, pred = sample()
    found = stats.score(
        AUC, y, pred, folds=np.arange(120) // 30, clusters=clusters, n_resamples=200
    )
    assert found.low < found.value < found.high
    assert not found.reliable
    assert "4 clusters" in found.note


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_rows_give_no_false_interval(n):
    """One or two rows give a score that is not reliable, and no error."""
    y, pred = numbers(n, np.random.default_rng(0))
    assert not stats.score(RMSE, y, pred, n_resamples=50).reliable


def test_perfect_scores_are_not_called_certain():
    """An AUC of 1 has no spread to resample, and the score says so."""
    y = np.arange(60) % 2
    pred = np.column_stack([1 - y, y]).astype(float)
    found = stats.score(AUC, y, pred, n_resamples=100)
    assert found.value == found.high == 1.0
    assert "no spread" in found.note


@pytest.mark.parametrize(
    ("name", "n_datasets"), [("accuracy", 400), ("roc_auc", 200), ("rmse", 300)]
)
def test_coverage(name, n_datasets):
    """At 200 rows the 95 % interval holds the truth as often as it says, within chance."""
    found = coverage(name, 200, n_datasets, 20, n_resamples=400)
    assert found.at_least(0.95), f"{name}: {found}"


def test_coverage_over_folds_and_clusters():
    """So do the interval of a mean over folds, and that of 20 clusters of alike rows."""
    by_fold = coverage("roc_auc", 200, 100, 21, n_resamples=300, n_folds=5)
    assert by_fold.at_least(0.95), by_fold
    clustered = groups_covered("accuracy", 20, 200, 22, n_resamples=400)
    assert clustered.at_least(0.95), clustered


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "average_precision", "ece"])
def test_resamples_give_what_scipys_bootstrap_gives(name):
    """On the same resamples our values are those that scipy.stats.bootstrap finds."""
    from scipy.stats import bootstrap

    n, n_resamples, seed = 80, 50, 3
    y, pred = two_classes(n, np.random.default_rng(seed))
    metric = metrics.find(name, "binary")

    def value(rows):
        return metrics.value(metric, y[rows], pred[rows])

    theirs = bootstrap(
        (np.arange(n),), value, n_resamples=n_resamples, vectorized=False, batch=n_resamples,
        method="percentile", rng=np.random.default_rng(seed),
    ).bootstrap_distribution  # fmt: skip
    ours = np.concatenate(
        [
            metrics.resampled(metric, y, pred, counts)
            for counts in stats.resample_counts(n, n_resamples=n_resamples, seed=seed)
        ]
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("name", ["rmse", "r2"])
def test_intervals_cover_with_lognormal_errors(name):
    """With skewed errors the intervals of 200 rows still hold the truth about as often as said."""
    found = coverage(name, 200, 150, 31, n_resamples=400, tails="lognormal")
    assert found.at_least(0.93), str(found)


def test_intervals_cover_with_rare_positives():
    """With one row in twenty positive the intervals of 400 rows hold the truth."""
    found = coverage("roc_auc", 400, 150, 32, n_resamples=400, imbalanced=True)
    assert found.at_least(0.93), str(found)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_intervals_of_rankings_cover_with_uneven_weights(name):
    """Where few of many rows carry the weight, the interval of a ranking holds the truth too."""
    found = coverage(name, 300, 200, 35, n_resamples=300, uneven=1.0)
    assert found.at_least(0.95), str(found)


def test_rows_that_weigh_like_few_are_marked():
    """A hundred rows of which three have nearly all the weight say as little as three."""
    y, pred = sample(100)
    weights = np.where(np.arange(100) < 3, 1e4, 1.0)
    found = stats.score(AUC, y, pred, weights=weights, n_resamples=200)
    assert "100 rows weigh like 3, fewer than 20" in found.note
    assert "of the rarest class weigh like" in found.note
    grouped = stats.score(AUC, y, pred, weights=weights, clusters=np.arange(100) // 2)
    assert "50 clusters weigh like 2, fewer than 20" in grouped.note
    assert stats.score(AUC, y, pred, weights=np.full(100, 7.0), n_resamples=200).reliable


def test_intervals_cover_with_twenty_groups():
    """With twenty groups the cluster intervals hold the truth."""
    found = groups_covered("r2", 20, 120, 33, n_resamples=400)
    assert found.at_least(0.93), str(found)


def test_blocks_of_time_cover_where_rows_alone_do_not():
    """Errors that remember the last one are covered by blocks of time far better than by rows."""
    blocked = time_covered(400, 100, 34, n_resamples=300)
    alone = time_covered(400, 100, 34, blocked=False, n_resamples=300)
    assert blocked.at_least(0.90), str(blocked)
    assert blocked.hits > alone.hits


def test_a_fold_that_calls_no_row_positive_makes_precision_doubtful():
    """Four rows called, all rightly: it counts as 0 in three folds of five, which is said."""
    precision = metrics.find("precision", "binary")
    y, called = np.r_[np.ones(20, int), np.zeros(180, int)], np.full(200, 0.1)
    called[[0, 5, 1, 6]] = 0.9
    pred = np.column_stack([1 - called, called])
    found = stats.score(precision, y, pred, folds=np.arange(200) % 5)
    assert not found.reliable
    assert "3 of 5 folds have no row that precision is a share of" in found.note
    assert not stats.score(precision, y, np.tile([0.9, 0.1], (200, 1))).reliable
    assert stats.score(precision, y, pred).reliable
