"""One set of resamples for a whole comparison, and how it stands beside other methods."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from reference import delong, mcnemar
from simulate import best_of, called_worse, equals, power_of_accuracy
from surefit.core import contest, metrics, ranking, stats


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "log_loss"])
def test_sharing_resamples_changes_no_answer(name):
    """Ranking and intervals are what each function gives on its own; the correction of the best is
    the same whichever of those that were picked from are ranked too."""
    y, every = equals(150, 5, np.random.default_rng(4))
    found = {k: every[k] for k in ("c0", "c1", "c2")}
    further = {k: every[k] for k in ("c3", "c4")}
    metric, folds = metrics.find(name, "binary"), np.zeros(150, dtype=int)
    whole = contest.judge(metric, y, found, further, folds=folds, n_resamples=1000)
    alone = ranking.rank(metric, y, found, folds=folds, n_resamples=1000)
    assert whole.ranking.to_dict() == alone.to_dict()
    for candidate, pred in found.items():
        score = stats.score(metric, y, pred, folds=folds, n_resamples=1000)
        assert whole.scores[candidate].to_dict() == pytest.approx(score.to_dict())
    corrected = best_of(metric, y, every, folds=folds, n_resamples=1000)
    assert whole.corrected.to_dict() == pytest.approx(corrected.to_dict())


def test_a_single_candidate_was_picked_from_nothing():
    """Alone, a candidate has a score and needs no correction."""
    y, found = equals(100, 1, np.random.default_rng(4))
    metric = metrics.find("roc_auc", "binary")
    whole = contest.judge(metric, y, found, {}, n_resamples=50)
    assert whole.corrected is None
    assert whole.ranking.best == "c0"


def two(metric, y, a, b, **how):
    """How much better the better of two is, as a comparison of two runs has it."""
    (difference,) = ranking.rank(metric, y, {"a": a, "b": b}, **how).differences.values()
    return difference


@pytest.mark.parametrize("seed", range(4))
def test_areas_differ_as_delong_says(seed):
    """On independent rows the difference is DeLong's, and its spread within a tenth of DeLong's."""
    y, found = equals(600, 2, np.random.default_rng(seed))
    ours = two(metrics.find("roc_auc", "binary"), y, found["c0"], found["c1"])
    value, error = delong(y, found["c0"][:, 1], found["c1"][:, 1])
    assert ours.value == pytest.approx(abs(value))
    assert ours.spread == pytest.approx(error, rel=0.1)
    assert (ours.high - ours.low) / 2 == pytest.approx(1.96 * error, rel=0.12)


def test_accuracies_differ_as_mcnemar_says():
    """An interval without 0 and McNemar's p under 5 % agree in nearly all data sets."""
    rng, agreed = np.random.default_rng(5), 0
    metric = metrics.find("accuracy", "binary")
    for k in range(40):
        y, found = equals(400, 2, rng)
        worse = np.where(rng.random(400)[:, None] < 0.08 * (k % 3), 0.5 - 1e-9, found["c1"])
        right = [(p[:, 1] >= 0.5) == y for p in (found["c0"], worse)]
        told = two(metric, y, found["c0"], worse, n_resamples=600, seed=k).differs
        agreed += told == (mcnemar(*right) < 0.05)
    assert agreed >= 36


def test_a_difference_of_means_is_scipys():
    """For a mean per row the paired interval is close to the paired t interval of SciPy."""
    rng = np.random.default_rng(6)
    y = rng.normal(size=500)
    a, b = y + rng.normal(size=500), y + 1.1 * rng.normal(size=500)
    ours = two(metrics.find("mae", "regression"), y, a, b)
    theirs = ttest_rel(np.abs(b - y), np.abs(a - y))
    low, high = theirs.confidence_interval(0.95)
    assert ours.value == pytest.approx(np.mean(np.abs(b - y) - np.abs(a - y)))
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.1 * (high - low))


@pytest.mark.parametrize(("n_candidates", "n_datasets"), [(2, 40), (20, 25)])
def test_equal_models_are_seldom_called_different(n_candidates, n_datasets):
    """Of equal models any is told from the best in 5 % of data sets at most, within chance."""
    found = called_worse(
        "roc_auc", 200, n_datasets, 40 + n_candidates, n_candidates=n_candidates, n_resamples=300
    )
    assert found.at_most(0.05), found


@pytest.mark.parametrize(("points", "n_datasets"), [(1, 100), (2, 100)])
def test_power_is_that_of_the_paired_test(points, n_datasets):
    """At 1,000 rows a gain is found as often as a paired t test finds it, within 3 points."""
    ours, theirs = power_of_accuracy(points / 100, 1000, n_datasets, 50 + points)
    assert abs(ours.hits - theirs.hits) / n_datasets <= 0.03, (ours, theirs)
