"""Resamples of very many rows: the shortcuts give what the bootstrap itself gives."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from simulate import numbers, two_classes
from surefit.core import manyrows, metrics, stats
from surefit.core.resampling import influence, layout, mean_of_folds

N = manyrows.MANY


def both_ways(names, task, y, pred, *, folds=None, weights=None, n_resamples=100,
              cells=manyrows.CELLS_OF_SUMS):  # fmt: skip
    """Draws of the metrics by the shortcuts, and by whole resamples with the same seed."""
    rows = layout(len(y), folds=folds, weights=weights)
    y, pred = y[rows.order], pred[rows.order]
    chosen = [metrics.find(name, task) for name in names]
    whole = mean_of_folds(chosen, y, pred, rows)
    values = whole(np.ones((1, len(y))))[0]
    quick = manyrows.draws(
        chosen, y, pred, rows, values=values, n_resamples=n_resamples, seed=1,
        units=[influence(m, y, pred, rows) for m in chosen],
    )  # fmt: skip
    exact = np.concatenate([whole(c) for c in rows.draws(n_resamples, 1, cells=cells)])
    return quick, exact


def three_classes(n, rng):
    z = rng.normal(size=(n, 3))
    y = rng.choice(3, n, p=[0.5, 0.4, 0.1])
    z[np.arange(n), y] += 1.5
    return y, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def test_areas_of_many_rows_are_expanded_to_first_order():
    """In each resample the expansion of an area or of average precision is within a few hundredths
    of a standard deviation of the metric itself, over folds, over classes and weighted too."""
    rng = np.random.default_rng(0)
    y, pred = two_classes(N, rng)
    names = ("roc_auc", "average_precision")
    for folds, weights in ((None, None), (np.arange(N) % 4, None), (None, rng.exponential(size=N))):
        quick, exact = both_ways(names, "binary", y, pred, folds=folds, weights=weights)
        spread = exact.std(axis=0)
        assert np.all(np.abs(quick - exact).mean(axis=0) < 0.04 * spread)
        assert np.all(quick != exact)
        np.testing.assert_allclose(quick.std(axis=0), spread, rtol=0.02)
    y, pred = three_classes(N, rng)
    names = ("roc_auc_ovr", "average_precision_weighted")
    quick, exact = both_ways(names, "multiclass", y, pred, n_resamples=60)
    assert np.all(np.abs(quick - exact).mean(axis=0) < 0.04 * exact.std(axis=0))


def test_metrics_of_labels_are_drawn_as_pairs_of_classes():
    """Drawn as counts of (true, called), metrics of labels have the mean and the spread that whole
    resamples give them, over folds too."""
    rng = np.random.default_rng(2)
    y, pred = three_classes(N, rng)
    names = ("f1_macro", "balanced_accuracy", "kappa", "mcc")
    quick, exact = both_ways(names, "multiclass", y, pred, folds=np.arange(N) % 2)
    spread = exact.std(axis=0)
    assert np.all(np.abs(quick.mean(axis=0) - exact.mean(axis=0)) < 0.5 * spread)
    np.testing.assert_allclose(quick.std(axis=0), spread, rtol=0.35)
    assert not np.allclose(quick, exact)  # drawn in another way, not the same draws


def test_what_has_no_shortcut_is_drawn_whole():
    """Errors, their median and calibration come from whole resamples, the same draws; so do
    rankings that are not smooth, or with a class too rare to be expanded."""
    rng = np.random.default_rng(3)
    y, pred = numbers(N, rng)
    quick, exact = both_ways(("rmse", "r2", "median_absolute_error"), "regression", y, pred)
    np.testing.assert_allclose(quick, exact)
    y, pred = two_classes(N, rng)
    quick, exact = both_ways(("ece", "log_loss"), "binary", y, pred, n_resamples=60)
    np.testing.assert_allclose(quick, exact)
    quick, exact = both_ways(
        ("ks", "lift_10"), "binary", y, pred, n_resamples=20, cells=manyrows.CELLS_A_CHUNK
    )
    np.testing.assert_allclose(quick, exact)
    rare = np.where((y == 1) & (np.cumsum(y) > 500), 0, y)
    quick, exact = both_ways(("roc_auc",), "binary", rare, pred, n_resamples=20, cells=10**6)
    np.testing.assert_allclose(quick, exact)


def test_the_median_error_is_found_from_the_middle_and_where_it_lies_far_from_it():
    """The weighted median is scikit-learn's with even weights, and with weights that push it to
    one end."""
    rng = np.random.default_rng(4)
    y, pred = numbers(5_000, rng)
    error = np.abs(y - pred)
    median = metrics.find("median_absolute_error", "regression")
    assert metrics.value(median, y, pred) == pytest.approx(sk.median_absolute_error(y, pred))
    pushed = np.where(error > np.quantile(error, 0.9), 20.0, 1.0)
    assert metrics.value(median, y, pred, weights=pushed) == pytest.approx(
        sk.median_absolute_error(y, pred, sample_weight=pushed), rel=1e-3
    )
    counts = rng.multinomial(5_000, np.full(5_000, 1 / 5_000), size=50)
    ours = metrics.resampled(median, y, pred, counts)
    theirs = [np.median(np.repeat(error, c)) for c in counts]
    np.testing.assert_allclose(ours, theirs)


def test_intervals_do_not_jump_where_the_shortcuts_begin():
    """With one row fewer than many, and with just as many, an interval is about as wide."""
    y, pred = two_classes(N, np.random.default_rng(5))
    chosen = [metrics.find(name, "binary") for name in ("roc_auc", "f1")]
    few = stats.scores(chosen, y[1:], pred[1:], n_resamples=400)
    many = stats.scores(chosen, y, pred, n_resamples=400)
    for one, other in zip(few, many, strict=True):
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.2)
        assert other.method == one.method
