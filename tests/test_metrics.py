"""Metrics equal scikit-learn's, in every form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from surefit.core import metrics
from surefit.errors import ConfigError, DataError

TASKS = ("binary", "multiclass", "regression")
EVERY = [(task, name) for task in TASKS for name in metrics.names(task)]


def rows(task, seed, n=60, *, ties=True):
    """Random targets, predictions and whole weights, with many tied scores."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 4, n)
    if task == "regression":
        y = np.exp(rng.normal(size=n)) + 0.3  # above -1, so that RMSLE is defined
        return y, np.round(np.abs(y + rng.normal(size=n)), 1), weights
    k = 2 if task == "binary" else 4
    y = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    if task == "binary":
        p = rng.integers(0, 11, n) / 10 if ties else rng.random(n)
        return y, np.column_stack([1 - p, p]), weights
    return y, rng.dirichlet(np.ones(k), n), weights


def plain_ece(y, pred, w):
    """The definition, bin by bin."""
    w = np.ones(len(y)) if w is None else w
    p, hit = (pred[:, 1], y) if pred.shape[1] == 2 else (pred.max(1), y == pred.argmax(1))
    total = 0.0
    for k in range(10):
        inside = (p * 10 >= k) & ((p * 10 < k + 1) | (k == 9))
        total += abs(np.sum(w[inside] * (hit[inside] - p[inside])))
    return total / w.sum()


def plain_ks(y, score, w):
    """From scikit-learn's ROC curve."""
    fpr, tpr, _ = sk.roc_curve(y, score, sample_weight=w)
    return np.abs(tpr - fpr).max()


def plain_lift(y, score, w):
    """Each group of tied scores gives its share of positives to the tenth."""
    w = np.ones(len(y)) if w is None else w
    room = k = 0.1 * w.sum()
    hits = 0.0
    for s in np.unique(score)[::-1]:
        tied = score == s
        taken = min(room, w[tied].sum())
        hits += taken * np.average(y[tied], weights=w[tied])
        room -= taken
    return hits / k / np.average(y, weights=w)


def plain_specificity(y, labels, w, *, weighted):
    """scikit-learn's recall of "not the class", averaged over the classes."""
    each = [sk.recall_score(y != k, labels != k, sample_weight=w) for k in np.unique(y)]
    w = np.ones(len(y)) if w is None else w
    share = [w[y == k].sum() for k in np.unique(y)]
    return np.average(each, weights=share if weighted else None)


def theirs(name, task, y, pred, w):
    """scikit-learn's value."""
    kw = {"sample_weight": w}
    if task == "regression":
        plain = {
            "rmse": sk.root_mean_squared_error,
            "mae": sk.mean_absolute_error,
            "r2": sk.r2_score,
            "mape": sk.mean_absolute_percentage_error,
            "median_absolute_error": sk.median_absolute_error,
            "rmsle": sk.root_mean_squared_log_error,
        }
        return plain[name](y, pred, **kw)
    labels = (pred[:, 1] >= 0.5).astype(int) if task == "binary" else pred.argmax(axis=1)
    score = pred[:, 1] if task == "binary" else pred
    calls = {
        "roc_auc": lambda: sk.roc_auc_score(y, score, **kw),
        "average_precision": lambda: sk.average_precision_score(y, score, **kw),
        "roc_auc_ovr": lambda: sk.roc_auc_score(y, score, multi_class="ovr", **kw),
        "log_loss": lambda: sk.log_loss(y, pred, **kw),
        "brier": lambda: sk.brier_score_loss(y, score, **kw),
        "accuracy": lambda: sk.accuracy_score(y, labels, **kw),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(y, labels, **kw),
        "f1": lambda: sk.f1_score(y, labels, **kw),
        "f1_macro": lambda: sk.f1_score(y, labels, average="macro", **kw),
        "f1_weighted": lambda: sk.f1_score(y, labels, average="weighted", **kw),
        "precision": lambda: sk.precision_score(y, labels, zero_division=0, **kw),
        "recall": lambda: sk.recall_score(y, labels, **kw),
        "specificity": lambda: sk.recall_score(y, labels, pos_label=0, **kw),
        "mcc": lambda: sk.matthews_corrcoef(y, labels, **kw),
        "kappa": lambda: sk.cohen_kappa_score(y, labels, **kw),
        "precision_macro": lambda: sk.precision_score(
            y, labels, average="macro", zero_division=0, **kw
        ),
        "precision_weighted": lambda: sk.precision_score(
            y, labels, average="weighted", zero_division=0, **kw
        ),
        "roc_auc_ovr_weighted": lambda: sk.roc_auc_score(
            y, score, multi_class="ovr", average="weighted", **kw
        ),
        "average_precision_macro": lambda: sk.average_precision_score(y, score, **kw),
        "recall_macro": lambda: sk.recall_score(y, labels, average="macro", zero_division=0, **kw),
        "recall_weighted": lambda: sk.recall_score(y, labels, average="weighted", **kw),
        "specificity_macro": lambda: plain_specificity(y, labels, w, weighted=False),
        "specificity_weighted": lambda: plain_specificity(y, labels, w, weighted=True),
        "average_precision_weighted": lambda: sk.average_precision_score(
            y, score, average="weighted", **kw
        ),
        "ks_ovr": lambda: np.mean([plain_ks(y == k, c, w) for k, c in enumerate(score.T)]),
        "lift_10_ovr": lambda: np.mean([plain_lift(y == k, c, w) for k, c in enumerate(score.T)]),
        "top_3_accuracy": lambda: sk.top_k_accuracy_score(y, pred, k=3, **kw),
        "ece": lambda: plain_ece(y, pred, w),
        "ks": lambda: plain_ks(y, score, w),
        "lift_10": lambda: plain_lift(y, score, w),
    }
    return calls[name]()


@pytest.mark.parametrize(("task", "name"), EVERY)
@pytest.mark.parametrize("seed", range(4))
def test_values_equal_scikit_learns(task, name, seed):
    """Every metric equals scikit-learn's, weighted and not, on random data with ties."""
    y, pred, weights = rows(task, seed)
    metric = metrics.find(name, task)
    for w in (None, weights):
        assert metrics.value(metric, y, pred, weights=w) == pytest.approx(
            theirs(name, task, y, pred, w), rel=1e-9, abs=1e-12
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_clips_by_dtype(dtype):
    """A certain and wrong prediction costs what scikit-learn says, by the dtype's epsilon."""
    pred = np.array([[1, 0], [0.25, 0.75], [0, 1]], dtype=dtype)
    found = metrics.value(metrics.find("log_loss", "binary"), np.array([1, 1, 0]), pred)
    assert found == pytest.approx(sk.log_loss([1, 1, 0], pred), rel=1e-6)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_resampled_equals_one_at_a_time(task, name):
    """A matrix of counts gives what each of its rows gives alone, and rows repeated give."""
    y, pred, _ = rows(task, 7)
    metric = metrics.find(name, task)
    rng = np.random.default_rng(1)
    counts = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=8)
    together = metrics.resampled(metric, y, pred, counts)
    alone = [metrics.value(metric, y, pred, weights=row) for row in counts]
    repeated = [metrics.value(metric, np.repeat(y, c), np.repeat(pred, c, axis=0)) for c in counts]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    np.testing.assert_allclose(together, repeated, rtol=1e-9)


@pytest.mark.parametrize(
    ("task", "name"), [(t, n) for t, n in EVERY if not metrics.find(n, t).direct]
)
def test_leave_one_out_is_exact(task, name):
    """The metric without each row is what deleting the row gives."""
    y, pred, _ = rows(task, 11, n=30)
    metric = metrics.find(name, task)
    found = metrics.leave_one_out(metric, y, pred)
    expected = [
        metrics.value(metric, np.delete(y, i), np.delete(pred, i, axis=0)) for i in range(len(y))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("task", "name"), [(t, n) for t, n in EVERY if metrics.find(n, t).curve_slope]
)
def test_a_weighted_ranking_is_expanded_to_first_order(task, name):
    """Without a weighted row a ranking is its value less the row's weight times its derivative,
    and rows of weight 0 change nothing."""
    y, pred, _ = rows(task, 12, n=60)
    weights = np.random.default_rng(3).exponential(size=60) * (np.arange(60) % 7 > 0)
    metric = metrics.find(name, task)
    value, step = metrics.value(metric, y, pred, weights=weights), 1e-6
    slopes = [
        (metrics.value(metric, y, pred, weights=weights + step * row) - value) / step
        for row in np.eye(60)
    ]
    found = metrics.leave_one_out(metric, y, pred, weights)
    # classes that are averaged by their rows have their own, exact shares without the row
    loose = 0.02 if metric.by_share else 1e-6
    np.testing.assert_allclose(found, value - weights * slopes, atol=loose)
    np.testing.assert_allclose(found[weights == 0], value, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    which=st.sampled_from(EVERY),
    seed=st.integers(0, 10_000),
    n=st.integers(6, 40),
)
def test_laws_of_weights_and_order(which, seed, n):
    """Order changes nothing, weights of one change nothing, a weight of two repeats the row."""
    task, name = which
    y, pred, weights = rows(task, seed, n)
    metric = metrics.find(name, task)
    value = metrics.value(metric, y, pred)
    order = np.random.default_rng(seed).permutation(n)
    same = {"rel": 1e-9, "abs": 1e-12, "nan_ok": True}
    assert metrics.value(metric, y[order], pred[order]) == pytest.approx(value, **same)
    assert metrics.value(metric, y, pred, weights=np.ones(n)) == pytest.approx(value, **same)
    repeated = metrics.value(metric, np.repeat(y, weights), np.repeat(pred, weights, axis=0))
    assert metrics.value(metric, y, pred, weights=weights) == pytest.approx(repeated, **same)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("binary", "roc_auc"),
        ("binary", "average_precision"),
        ("binary", "recall"),
        ("binary", "mcc"),
        ("multiclass", "roc_auc_ovr"),
    ],
)
def test_one_class_is_undefined(task, name):
    """Where there is one class only, the value is NaN and nothing is raised."""
    k = 2 if task == "binary" else 3
    pred = np.random.default_rng(0).dirichlet(np.ones(k), 9)
    assert np.isnan(metrics.value(metrics.find(name, task), np.zeros(9, dtype=int), pred))


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_no_rows_is_undefined(task, name):
    """The value of no rows is NaN, without a warning."""
    y, pred, _ = rows(task, 0)
    weights = np.zeros(len(y))
    assert np.isnan(metrics.value(metrics.find(name, task), y, pred, weights=weights))


def test_undefined_regression():
    """R2 of a constant target and MAPE with a zero target are NaN."""
    y, pred = np.zeros(5), np.arange(5.0)
    assert np.isnan(metrics.value(metrics.find("r2", "regression"), y, pred))
    assert np.isnan(metrics.value(metrics.find("mape", "regression"), y, pred))


def test_absent_classes_are_left_out():
    """roc_auc_ovr is the mean over the classes that the targets have."""
    y, pred, _ = rows("multiclass", 3)
    y = np.where(y == 3, 0, y)
    mean = np.mean([sk.roc_auc_score(y == k, pred[:, k]) for k in range(3)])
    assert metrics.value(metrics.find("roc_auc_ovr", "multiclass"), y, pred) == pytest.approx(mean)


def test_r2_keeps_its_digits_far_from_zero():
    """A target with a mean of ten million has the R2 that scikit-learn gives."""
    y, pred, _ = rows("regression", 5)
    found = metrics.value(metrics.find("r2", "regression"), y + 1e7, pred + 1e7)
    assert found == pytest.approx(sk.r2_score(y + 1e7, pred + 1e7), rel=1e-6)


def test_threshold_moves_labels():
    """Binary labels are `probability >= threshold`, ties included."""
    from dataclasses import replace

    p = np.array([0.2, 0.3, 0.3, 0.9])
    pred, y = np.column_stack([1 - p, p]), np.array([0, 1, 0, 1])
    recall = metrics.find("recall", "binary")
    assert metrics.value(recall, y, pred) == 0.5
    assert metrics.value(replace(recall, threshold=0.3), y, pred) == 1.0


def test_misspelled_metric_gets_advice():
    """An unknown name raises with the nearest known one."""
    with pytest.raises(ConfigError, match='did you mean "roc_auc"'):
        metrics.find("roc_acu", "binary")
    with pytest.raises(ConfigError):
        metrics.find("rmse", "binary")


@pytest.mark.parametrize("task", TASKS)
def test_the_default_leads_the_reported(task):
    """What is shown begins with the default and has no name twice."""
    shown = [m.name for m in metrics.reported(task)]
    assert shown[0] == metrics.default(task).name
    assert len(set(shown)) == len(shown)


def test_bad_predictions_are_named():
    """A NaN prediction, a length that differs and a code without a column raise DataError."""
    auc, y = metrics.find("roc_auc", "binary"), np.array([0, 1, 1])
    pred = np.array([[0.5, 0.5], [np.nan, 0.5], [0.1, 0.9]])
    with pytest.raises(DataError, match="prediction 1"):
        metrics.value(auc, y, pred)
    with pytest.raises(DataError, match="pair up"):
        metrics.value(auc, y, pred[:2])
    with pytest.raises(DataError, match="codes"):
        metrics.value(auc, y + 1, np.nan_to_num(pred))
