"""Thresholds, costs and calibration: chosen on some rows, scored on others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn import metrics as sk

from simulate import two_classes
from surefit.core import calibration, cost, metrics, threshold
from surefit.core.predictions import Scored
from surefit.errors import ConfigError

COSTS = np.array([[0.0, 5.0], [60.0, 0.0]])


def scored_of(y, pred, folds=None, **more):
    k = pred.shape[1]
    return Scored(
        task="binary" if k == 2 else "multiclass", classes=tuple(range(k)),
        row_id=np.arange(len(y)), y=y, pred=pred, folds=folds, **more,
    )  # fmt: skip


@pytest.mark.parametrize("goal", threshold.goals())
def test_the_chosen_threshold_is_the_best_of_all(goal):
    """No other threshold gives a better value on the rows it was chosen on."""
    y, pred = two_classes(150, np.random.default_rng(0))
    metric = metrics.find(goal, "binary")

    def at(cut):
        called = (pred[:, 1] >= cut).astype(float)
        return metrics.value(metric, y, np.column_stack([1 - called, called]))

    cut = threshold.choose(goal, y, pred[:, 1])
    assert 0 <= cut <= 1
    assert at(cut) == pytest.approx(np.nanmax([at(c) for c in [0, *pred[:, 1], 1.1]]))


def test_a_threshold_for_a_cost_spends_least():
    """Of all thresholds the one chosen for a cost matrix costs least, weights included."""
    rng = np.random.default_rng(1)
    y, pred = two_classes(200, rng)
    weights = rng.random(200)

    def spent(cut):
        return weights @ COSTS[y, (pred[:, 1] >= cut).astype(int)]

    cut = threshold.choose("cost", y, pred[:, 1], costs=COSTS, weights=weights)
    assert spent(cut) == pytest.approx(min(spent(c) for c in [0, *pred[:, 1], 1.1]))


def test_no_part_is_scored_with_a_threshold_chosen_on_it():
    """Changing the targets of one fold leaves the threshold that scores it as it was."""
    rng = np.random.default_rng(2)
    y, pred = two_classes(300, rng)
    folds = np.arange(300) % 3
    before = threshold.cross_fitted("f1", scored_of(y, pred, folds))
    changed = np.where(folds == 1, rng.integers(0, 2, 300), y)
    after = threshold.cross_fitted("f1", scored_of(changed, pred, folds))
    assert before.by_part[1] == after.by_part[1]
    assert before.by_part != after.by_part


def test_cross_fitting_takes_away_the_luck_of_the_choice():
    """Where no threshold is better than another, the choice flatters and cross-fitting does not."""
    rng = np.random.default_rng(3)
    chosen, fair = [], []
    for _ in range(60):
        y, p = rng.integers(0, 2, 60), rng.random(60)
        pred = np.column_stack([1 - p, p])
        found = threshold.cross_fitted("balanced_accuracy", scored_of(y, pred))
        called = p >= found.value
        chosen.append(sk.balanced_accuracy_score(y, called))
        fair.append(found.scores[0].value)
    assert np.mean(chosen) > 0.55
    assert abs(np.mean(fair) - 0.5) < 0.02


def test_rows_of_a_cluster_stay_in_one_part():
    """Without folds, five parts are drawn, and no cluster straddles them."""
    y, pred = two_classes(200, np.random.default_rng(4))
    clusters = np.arange(200) // 4
    part = threshold.parts(scored_of(y, pred), clusters)
    assert len(np.unique(part)) == threshold.N_PARTS
    assert all(len(np.unique(part[clusters == c])) == 1 for c in range(50))


def test_a_cost_is_read_by_class_names():
    """Costs go by true and predicted class; an unknown class is named with the nearest one."""
    found = cost.matrix({"Yes": {"No": 60.0}, "No": {"Yes": 5.0}}, ("No", "Yes"))
    np.testing.assert_array_equal(found, COSTS)
    with pytest.raises(ConfigError, match='did you mean "Yes"'):
        cost.matrix({"Yess": {"No": 60.0}}, ("No", "Yes"))
    with pytest.raises(ConfigError, match="not 0"):
        cost.matrix({"Yes": {"No": 0.0}}, ("No", "Yes"))


def test_the_cost_metric_decides_for_the_least_expected_cost():
    """With two classes that is the threshold 5 / 65, and the metric is the mean cost there."""
    y, pred = two_classes(300, np.random.default_rng(5))
    called = (pred[:, 1] >= 5 / 65).astype(int)
    found = metrics.value(cost.metric(COSTS), y, pred)
    assert found == pytest.approx(COSTS[y, called].mean())


@pytest.mark.parametrize("method", calibration.METHODS[1:])
def test_calibration_mends_what_is_bent(method):
    """Over-sure probabilities come back near the true ones, two classes or more."""
    rng = np.random.default_rng(6)
    y, pred = two_classes(4000, rng)
    bent = expit(3 * logit(np.clip(pred, 1e-9, 1 - 1e-9)))
    found = calibration.cross_fitted(scored_of(y, bent), method)
    assert np.abs(found - pred).mean() < 0.03
    many = rng.dirichlet(np.ones(4), 4000)
    labels = np.array([rng.choice(4, p=p) for p in many])
    sure = many**3 / (many**3).sum(axis=1, keepdims=True)
    found = calibration.cross_fitted(scored_of(labels, sure), method)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    ours, theirs = (sk.log_loss(labels, p, labels=range(4)) for p in (found, sure))
    assert ours < theirs - 0.1


def test_a_calibrator_never_sees_the_rows_it_is_scored_on():
    """Changing the targets of one fold leaves its own calibrated probabilities as they were."""
    rng = np.random.default_rng(7)
    y, pred = two_classes(300, rng)
    folds = np.arange(300) % 3
    changed = np.where(folds == 0, 1 - y, y)
    for method in calibration.METHODS:
        one = calibration.cross_fitted(scored_of(y, pred, folds), method)
        other = calibration.cross_fitted(scored_of(changed, pred, folds), method)
        np.testing.assert_array_equal(one[folds == 0], other[folds == 0])


def test_the_error_by_noise_is_what_calibrated_rows_show():
    """The mean calibration error of many calibrated data sets is what is said beforehand."""
    rng = np.random.default_rng(8)
    _, pred = two_classes(300, rng)
    ece = metrics.find("ece", "binary")
    seen = [
        metrics.value(ece, (rng.random(300) < pred[:, 1]).astype(int), pred) for _ in range(200)
    ]
    said = calibration.by_noise(scored_of(np.zeros(300, dtype=int), pred))
    assert said == pytest.approx(np.mean(seen), rel=0.05)


def test_calibrated_scores_are_measured():
    """All three methods are measured in log-loss, Brier score and calibration error."""
    y, pred = two_classes(400, np.random.default_rng(9))
    found = calibration.measure(scored_of(y, pred, np.arange(400) % 4))
    assert set(found.scores) == set(calibration.METHODS)
    assert [s.metric for s in found.scores["Platt"]] == ["log_loss", "brier", "ece"]
    assert found.best in calibration.METHODS


def test_the_unit_of_weights_says_nothing_to_platt():
    """Weights that sum to one calibrate as the same weights in thousands."""
    rng = np.random.default_rng(0)
    y, pred = two_classes(300, rng)
    weights = rng.exponential(size=300)
    told = [calibration.fit("Platt", y, pred, weights * scale)(pred) for scale in (1e-4, 1.0, 1e4)]
    np.testing.assert_allclose(told[0], told[1], atol=1e-6)
    np.testing.assert_allclose(told[2], told[1], atol=1e-6)
