"""The numbers behind the pictures, and that every picture can be drawn at the edges."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from surefit.core import (
    canvas,
    curves,
    curves_classes,
    figures,
    figures_regression,
    figures_search,
    stats,
)
from surefit.errors import DataError
from surefit.items import Figure

PNG = b"\x89PNG\r\n\x1a\n"
BINARY = ["roc", "precision_recall", "calibration", "confusion", "scores", "thresholds", "gain"]

MULTICLASS = [
    "confusion", "roc", "precision_recall", "classes", "scores", "gain", "calibration",
]  # fmt: skip


def binary(n: int, *, digits: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    return y, np.round(1 / (1 + np.exp(-rng.normal(y, 1.5))), digits)


def multiclass(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y = rng.integers(0, k, n)
    z = rng.normal(size=(n, k))
    z[np.arange(n), y] += 2
    return y, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def regression(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    pred = rng.gamma(2, 100, n)
    return pred + rng.standard_t(2, n) * 20, pred


def assert_good(figure: Figure, *, may_miss: bool = False) -> None:
    """A picture of bounded size with a name, a title and finite, bounded numbers."""
    assert figure.png.startswith(PNG)
    assert 1_000 < len(figure.png) < 150_000, (figure.name, len(figure.png))
    assert figure.name.isidentifier()
    assert figure.title
    assert len(figure.numbers) <= 6_500
    if not may_miss:
        assert not figure.numbers.isna().any().any(), figure.name
        numeric = figure.numbers.select_dtypes("number").to_numpy(float)
        assert np.isfinite(numeric).all(), figure.name


# --- numbers ---


@pytest.mark.parametrize("digits", [1, 16])
def test_roc_equals_sklearn(digits: int) -> None:
    """Without thinning, the ROC curve and its area are scikit-learn's, ties or not."""
    y, pred = binary(300, digits=digits)
    fpr, tpr, cuts = metrics.roc_curve(y, pred)
    ours = curves.roc(y, pred)
    inner = slice(len(fpr) - len(ours) + 1, None)  # theirs keeps a point on the first segment
    assert len(fpr) - len(ours) in (0, 1)
    np.testing.assert_allclose(ours["false_positive_rate"][1:], fpr[inner])
    np.testing.assert_allclose(ours["true_positive_rate"][1:], tpr[inner])
    np.testing.assert_allclose(ours["threshold"][1:], cuts[inner])
    assert ours["roc_auc"][0] == pytest.approx(metrics.roc_auc_score(y, pred))


def test_thinned_roc_stays_on_the_curve() -> None:
    """At 50,000 rows there are at most 500 points, both corners among them, all on the curve."""
    y, pred = binary(50_000)
    ours = curves.roc(y, pred)
    fpr, tpr, _ = metrics.roc_curve(y, pred, drop_intermediate=False)
    assert len(ours) <= curves.MAX_POINTS
    assert ours.iloc[0, :2].tolist() == [0, 0]
    assert ours.iloc[-1, :2].tolist() == [1, 1]
    area = metrics.auc(ours["false_positive_rate"], ours["true_positive_rate"])
    assert area == pytest.approx(metrics.roc_auc_score(y, pred), abs=1e-4)
    whole = set(zip(fpr, tpr, strict=True))
    kept = zip(ours["false_positive_rate"], ours["true_positive_rate"], strict=True)
    assert set(kept) <= whole


@pytest.mark.parametrize("digits", [1, 16])
def test_precision_recall_equals_sklearn(digits: int) -> None:
    """Precision, recall and average precision are scikit-learn's; last comes the base rate."""
    y, pred = binary(200, digits=digits)
    precision, recall, cuts = metrics.precision_recall_curve(y, pred)
    ours = curves.precision_recall(y, pred)
    np.testing.assert_allclose(ours["precision"], precision[:-1][::-1])
    np.testing.assert_allclose(ours["recall"], recall[:-1][::-1])
    np.testing.assert_allclose(ours["threshold"], cuts[::-1])
    assert ours["average_precision"][0] == pytest.approx(metrics.average_precision_score(y, pred))
    assert ours["precision"].iloc[-1] == pytest.approx(y.mean())


def test_threshold_rows_equal_a_prediction_at_that_threshold() -> None:
    """Each row of the threshold table is what flagging at its threshold gives."""
    y, pred = binary(60, digits=2)
    for row in curves.thresholds(y, pred).itertuples():
        called = (pred >= row.threshold).astype(int)
        assert row.precision == pytest.approx(metrics.precision_score(y, called))
        assert row.recall == pytest.approx(metrics.recall_score(y, called))
        assert row.f1 == pytest.approx(metrics.f1_score(y, called, zero_division=0))
        assert row.share_flagged == pytest.approx(called.mean())


def test_gain_and_lift_by_hand() -> None:
    """With the two positives of five rows on top, 40 % of rows hold all of them: a lift of 2.5."""
    numbers = curves.gain(np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.8, 0.3, 0.2, 0.1]))
    np.testing.assert_allclose(numbers["share_of_positives"], [0.5, 1, 1, 1, 1])
    np.testing.assert_allclose(numbers["lift"], [2.5, 2.5, 5 / 3, 1.25, 1])


def test_wilson_equals_the_published_example() -> None:
    """Wilson's 95 % interval of 81 of 263 is 0.2553 to 0.3662 (Newcombe 1998, table I)."""
    low, high = stats.wilson(np.array([81 / 263]), np.array([263.0]), 0.025)
    assert (low[0], high[0]) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=1, max_size=200))
def test_calibration_counts_add_up(rows: list[tuple[int, int]]) -> None:
    """Bins hold every row and every hit once, keep equal scores together, and contain the share."""
    hit, score = np.array([r[0] for r in rows]), np.array([r[1] / 12 for r in rows])
    bins = curves.calibration(hit, score)
    assert bins["n_rows"].sum() == len(rows)
    assert (bins["n_rows"] * bins["share_observed"]).sum() == pytest.approx(hit.sum())
    assert (bins["n_rows"] * bins["mean_predicted"]).sum() == pytest.approx(score.sum())
    assert bins["mean_predicted"].is_monotonic_increasing
    assert len(bins) <= len(np.unique(score))
    assert (bins["low"] <= bins["share_observed"] + 1e-12).all()
    assert (bins["share_observed"] <= bins["high"] + 1e-12).all()


def test_calibration_bins_are_of_equal_count() -> None:
    """Without ties, 1,600 rows make 20 bins of 80."""
    y, pred = binary(1_600)
    assert curves.calibration(y, pred)["n_rows"].tolist() == [80] * 20


def test_confusion_equals_sklearn() -> None:
    """Counts and row shares are scikit-learn's, also where a class never occurs."""
    y, pred = multiclass(200, 5)
    y[y == 3] = 0
    called = pred.argmax(axis=1)
    numbers = curves.confusion(y, called, list("abcde"))
    table = metrics.confusion_matrix(y, called, labels=range(5))
    assert numbers["n_rows"].to_numpy().reshape(5, 5).tolist() == table.tolist()
    shares = numbers.groupby("true")["share_of_true"].sum()
    assert shares.round(9).to_dict() == {"a": 1, "b": 1, "c": 1, "d": 0, "e": 1}


def test_class_scores_equal_sklearn() -> None:
    """Precision, recall and F1 by class are scikit-learn's, the worst F1 first."""
    y, pred = multiclass(300, 6)
    called = pred.argmax(axis=1)
    numbers = curves_classes.class_scores(y, called, list("abcdef"))
    assert numbers["f1"].is_monotonic_increasing
    ours = numbers.sort_values("class")[["precision", "recall", "f1", "n_rows"]]
    theirs = metrics.precision_recall_fscore_support(y, called)
    np.testing.assert_allclose(ours.to_numpy().T, theirs)


def test_one_vs_rest_areas_equal_sklearn() -> None:
    """The macro area is scikit-learn's, and the ten worst of 26 classes follow, worst first."""
    y, pred = multiclass(2_000, 26)
    numbers = curves_classes.roc_by_class(y, pred, [chr(97 + i) for i in range(26)])
    areas = numbers.groupby("class", sort=False)["roc_auc"].first()
    assert areas.index[0] == "macro"
    assert len(areas) == 11
    assert areas.iloc[0] == pytest.approx(
        metrics.roc_auc_score(y, pred, multi_class="ovr", average="macro")
    )
    assert areas.iloc[1:].is_monotonic_increasing
    assert numbers.groupby("class").size().max() <= 202


def test_one_vs_rest_precision_equals_sklearn() -> None:
    """Macro average precision is scikit-learn's; the macro curve is the mean of the classes'
    precision at a recall; the worst of 26 classes come first."""
    y, pred = multiclass(1_500, 26)
    numbers = curves_classes.precision_recall_by_class(y, pred, [chr(97 + i) for i in range(26)])
    area = numbers.groupby("class", sort=False)["average_precision"].first()
    hot = np.eye(26)[y]
    theirs = metrics.average_precision_score(hot, pred, average=None)
    assert area.iloc[0] == pytest.approx(theirs.mean())
    np.testing.assert_allclose(area.iloc[1:], np.sort(theirs)[:10])
    half = numbers[numbers["class"] == "macro"].set_index("recall")["precision"]
    expected = []
    for k in range(26):
        precision, recall, _ = metrics.precision_recall_curve(hot[:, k], pred[:, k])
        reached = recall >= half.index[100] * (1 - 1e-12)
        expected.append(precision[np.flatnonzero(reached)[-1]])
    assert half.iloc[100] == pytest.approx(np.mean(expected))


def test_one_vs_rest_gain_and_scores_are_those_of_each_class_alone() -> None:
    """Each class's gain and spread of scores are what the binary tables give; lift starts from
    the class's own rate; the mean of all classes comes first, then the worst."""
    y, pred = multiclass(150, 3)
    names = ["a", "b", "c"]
    gain = curves_classes.gain_by_class(y, pred, names)
    spread = curves_classes.scores_by_class(y, pred, names)
    for k, name in enumerate(names):
        alone = curves.gain((y == k).astype(int), pred[:, k])
        mine = gain[gain["class"] == name].reset_index(drop=True)
        np.testing.assert_allclose(mine["share_of_class"], alone["share_of_positives"])
        np.testing.assert_allclose(mine["lift"], alone["lift"])
        area = metrics.roc_auc_score(y == k, pred[:, k])
        assert mine["roc_auc"].iloc[0] == pytest.approx(area)
        part = spread[spread["class"] == name]
        assert part["roc_auc"].iloc[0] == pytest.approx(area)
        own = np.histogram(pred[y == k, k], bins=20, range=(0, 1))[0] / (y == k).sum()
        np.testing.assert_allclose(part["share_of_class"], own)
        assert part["share_of_rest"].sum() == pytest.approx(1)
    for table in (gain[gain["class"] != "macro"], spread):
        assert table["roc_auc"].is_monotonic_increasing
    assert gain["class"].iloc[0] == "macro"


def test_a_class_may_have_the_name_of_the_mean() -> None:
    """A class called "macro" keeps its own curve beside the mean of all."""
    y, pred = multiclass(60, 3)
    found = curves_classes.roc_by_class(y, pred, ["macro", "b", "c"])
    assert set(found["class"]) == {"macro, the mean", "macro", "b", "c"}


def test_histograms_hold_every_row() -> None:
    """Score and residual histograms count each row once, far outliers included."""
    y, pred = binary(500)
    numbers = curves.score_histogram(y, pred, ["no", "yes"])
    assert numbers.groupby("class")["n_rows"].sum().to_dict() == {
        "no": int((y == 0).sum()),
        "yes": int((y == 1).sum()),
    }
    true, predicted = regression(20_000)
    true[0] = 1e9
    assert curves.residual_histogram(true, predicted)["n_rows"].sum() == 20_000


def test_hexagons_hold_every_row() -> None:
    """Above 5,000 rows a cloud is some hundred hexagons with all rows, far outliers marked."""
    true, predicted = regression(20_000)
    true[:3] = 1e9
    numbers = curves.cloud(predicted, true, "predicted", "true", square=True)
    assert numbers["n_rows"].sum() == 20_000
    assert numbers["n_clipped"].sum() >= 3
    assert len(numbers) < 3_000
    assert numbers["true"].max() < 1e8


def test_hexagon_centres_are_near_their_rows() -> None:
    """The mean of the hexagons' centres, weighted by rows, is the mean of the rows."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(size=(2, 50_000))
    numbers = curves.cloud(x, y, "x", "y")
    for name, values in (("x", x), ("y", y)):
        mean = np.average(numbers[name], weights=numbers["n_rows"])
        assert mean == pytest.approx(values.mean(), abs=2e-3)


def test_error_by_decile_by_hand() -> None:
    """Ten deciles of 100 rows whose error is a constant 2 have mean errors of 2 everywhere."""
    pred = np.arange(100.0)
    numbers = curves.error_by_decile(pred + 2, pred)
    assert numbers["n_rows"].tolist() == [10] * 10
    for column in ("mean_error", "mean_absolute_error", "root_mean_squared_error"):
        np.testing.assert_allclose(numbers[column], 2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=900), st.integers(3, 40))
def test_thinning_keeps_both_ends(steps: list[int], limit: int) -> None:
    """At most `limit` points are kept, rising, the first and the last among them."""
    position = np.cumsum(np.array(steps, float))
    keep = curves.thin(position, limit)
    assert len(keep) <= max(limit, 1)
    assert all(a < b for a, b in pairwise(keep))
    assert (keep[0], keep[-1]) == (0, len(position) - 1)


def test_loss_mean_covers_the_steps_that_all_folds_reached() -> None:
    """The mean curve ends with the fold that stopped first; infinite values are left out."""
    points = pd.DataFrame(
        {
            "fold": [0, 0, 0, 1, 1],
            "step": [0, 1, 2, 0, 1],
            "train_loss": [4.0, 2.0, 1.0, 2.0, np.inf],
            "valid_loss": [np.nan] * 5,
        }
    )
    numbers = figures_search.loss_numbers(points)
    mean = numbers[numbers["fold"] == "mean"]
    assert mean[["step", "value"]].to_numpy().tolist() == [[0, 3]]
    assert set(numbers["loss"]) == {"training"}


def test_best_so_far_counts_complete_trials_alone() -> None:
    """A pruned trial's value never becomes the best, in either direction."""
    trials = pd.DataFrame(
        {
            "trial": [2, 0, 1, 3],
            "value": [0.7, 0.6, 0.9, np.nan],
            "state": ["COMPLETE", "COMPLETE", "PRUNED", "FAILED"],
        }
    )
    up = figures_search.search_numbers(trials)
    assert up["best_so_far"].tolist() == [0.6, 0.6, 0.7, 0.7]
    down = figures_search.search_numbers(trials, greater_is_better=False)
    assert down["best_so_far"].tolist() == [0.6, 0.6, 0.6, 0.6]


def test_long_searches_are_thinned_but_keep_every_improvement() -> None:
    """Of 20,000 trials about 5,000 are kept, and each distinct best so far."""
    value = np.random.default_rng(3).normal(size=20_000)
    trials = pd.DataFrame({"trial": range(20_000), "value": value, "state": "complete"})
    numbers = figures_search.search_numbers(trials)
    assert len(numbers) < 5_100
    assert set(numbers["best_so_far"]) == set(np.maximum.accumulate(value))


def test_kinds_of_hyperparameters() -> None:
    """Text and booleans are categories, wide positive ranges are logarithmic, the rest plain."""
    params = pd.DataFrame(
        {
            "rate": [0.001, 0.5, 0.1],
            "depth": [2, 3, np.nan],
            "extra": [True, False, True],
            "kind": ["a", "b", None],
            "unset": [None] * 3,
        }
    )
    numbers = figures_search.slice_numbers(params, [0.5, np.nan, 0.7], log=["depth"])
    kinds = numbers.groupby("param")["kind"].first().to_dict()
    assert kinds == {"rate": "log", "depth": "log", "extra": "category", "kind": "category"}
    assert numbers.groupby("param").size().to_dict() == {
        "rate": 2, "depth": 1, "extra": 2, "kind": 1
    }  # fmt: skip


# --- drawing ---


@pytest.mark.parametrize("n", [2, 10, 3_000])
def test_binary_pictures(n: int) -> None:
    """All seven pictures of a binary task, from two rows on."""
    y, p = binary(n)
    drawn = figures.evaluation_figures("binary", y, np.c_[1 - p, p], ["stayed", "churned"])
    assert [figure.name for figure in drawn] == BINARY
    for figure in drawn:
        assert_good(figure)


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_in_the_target(only: int) -> None:
    """Pictures that need both classes are left out where the target has one, others remain."""
    pred = np.full((10, 2), 0.5)
    drawn = figures.evaluation_figures("binary", np.full(10, only), pred, ["a", "b"])
    assert [figure.name for figure in drawn] == ["calibration", "confusion", "scores"]
    alone = figures.evaluation_figures("multiclass", np.zeros(5, int), pred[:5], ["a", "b"])
    assert [figure.name for figure in alone] == ["confusion", "classes", "calibration"]
    for figure in drawn + alone:
        assert_good(figure)


@pytest.mark.parametrize(("n", "k"), [(10, 26), (400, 3), (3_000, 26), (500, 90)])
def test_multiclass_pictures(n: int, k: int) -> None:
    """All pictures of a multiclass task, also with more classes than rows."""
    names = [f"class number {i} with a long name" for i in range(k)]
    drawn = figures.evaluation_figures("multiclass", *multiclass(n, k), names)
    assert [figure.name for figure in drawn] == MULTICLASS
    for figure in drawn:
        numbers = figure.numbers if figure.name != "confusion" else figure.numbers.head(1)
        assert_good(Figure(name=figure.name, title=figure.title, png=figure.png, numbers=numbers))


@pytest.mark.parametrize("n", [1, 2, 10, 4_000, 20_000])
def test_regression_pictures(n: int) -> None:
    """All four pictures of a regression, points and hexagons."""
    drawn = figures.evaluation_figures("regression", *regression(n), target="price (€)")
    assert [figure.name for figure in drawn] == [
        "predicted_vs_true", "residuals", "residual_histogram", "error_by_decile"
    ]  # fmt: skip
    for figure in drawn:
        assert_good(figure)


@pytest.mark.parametrize("n", [3, 6_000])
def test_constant_regression(n: int) -> None:
    """A constant target predicted exactly can be drawn."""
    for figure in figures.evaluation_figures("regression", np.full(n, 7.0), np.full(n, 7.0)):
        assert_good(figure)


def test_no_rows_no_pictures() -> None:
    """Without rows there is nothing to draw, and no error."""
    assert figures.evaluation_figures("binary", [], np.empty((0, 2)), ["a", "b"]) == []
    assert figures.evaluation_figures("regression", [], []) == []


@pytest.mark.parametrize(
    ("y", "pred", "words"),
    [
        ([0, 1], [[0.5, 0.5]], "2 targets and 1 predictions"),
        ([0, 1], [[0.5, 0.5], [np.nan, 1]], "not finite"),
        ([0, 2], [[0.5, 0.5], [0, 1]], "from 0 to 2"),
        ([0, 1], [[0.5], [0.5]], "shape"),
    ],
)
def test_wrong_input_is_named(y: list[int], pred: list[list[float]], words: str) -> None:
    """Arrays that do not fit, unknown codes and NaN raise a DataError that says what is wrong."""
    with pytest.raises(DataError, match=words):
        figures.evaluation_figures("binary", y, pred, ["a", "b"])


NAMES = ["$x_", "_hidden", "<script>", "漢字", "a\nb\x00c", "", r"\frac{$a$}{b", "x" * 300]


def test_hostile_class_names_are_drawn_literally() -> None:
    """Dollar signs, underscores, control characters and other scripts neither raise nor vanish."""
    y, pred = multiclass(200, len(NAMES))
    for figure in figures.evaluation_figures("multiclass", y, pred, NAMES):
        assert_good(figure)
    assert canvas.label("_x") == " _x"
    assert canvas.label("a $b$") == r"a \$b\$"
    assert len(canvas.label("x" * 300, 24)) == 24


def test_losses() -> None:
    """Loss curves draw with one fold, many folds, one point, no validation loss, and no rows."""
    step = np.arange(3_000)
    one = pd.DataFrame({"fold": 0, "step": step, "train_loss": np.exp(-step / 100)})
    many = pd.concat([one.assign(fold=f, valid_loss=one["train_loss"] + 0.1) for f in range(5)])
    for points in (one, many, one.head(1), one.head(0)):
        figure = figures_search.loss_curves(points, step="epoch")
        assert_good(figure)
        assert figure.numbers.groupby(["loss", "fold"]).size().max() <= 500 or points.empty


@pytest.mark.parametrize("n", [0, 1, 3, 60])
def test_leaderboard(n: int) -> None:
    """A leaderboard draws at any length, without intervals too, and puts the best first."""
    value = np.linspace(0.9, 0.5, n)
    table = pd.DataFrame({"name": [f"model {i}" for i in range(n)], "value": value[::-1]})
    table = table.assign(low=np.nan, high=np.nan, tied=table["value"] > 0.8)
    table.loc[::2, ["low", "high"]] = 0.4, 0.95
    figure = figures_search.leaderboard(table, metric="roc_auc")
    assert figure.numbers["value"].tolist() == value.tolist()
    assert_good(figure, may_miss=True)
    turned = figures_search.leaderboard(table, metric="rmse", greater_is_better=False)
    assert turned.numbers["value"].is_monotonic_increasing


def test_search_pictures() -> None:
    """A search draws with disasters, failures, mixed parameters, one trial, and none complete."""
    rng = np.random.default_rng(4)
    n = 300
    trials = pd.DataFrame(
        {
            "trial": range(n),
            "value": np.where(rng.random(n) < 0.05, np.nan, rng.normal(0.8, 0.02, n)),
            "state": rng.choice(["COMPLETE", "PRUNED", "FAILED"], n),
        }
    )
    trials.loc[5, "value"] = -1e9
    params = pd.DataFrame(
        {f"p{i}": rng.choice([f"option number {j}" for j in range(20)], n) for i in range(13)}
    ).assign(rate=10 ** rng.uniform(-4, 0, n), flag=rng.random(n) < 0.5)
    for rows in (n, 1, 0):
        some = trials.head(rows)
        assert_good(figures_search.search_history(some, metric="roc_auc"), may_miss=True)
        drawn = figures_search.search_slices(
            params.head(rows).iloc[:, ::-1], some["value"], metric="roc_auc"
        )
        assert_good(drawn)
    failed = trials.assign(state="failed", value=np.nan)
    assert_good(figures_search.search_history(failed, metric="rmse"), may_miss=True)


def test_the_same_numbers_give_the_same_bytes() -> None:
    """A picture is a pure function of its numbers."""
    numbers = curves.cloud(*regression(6_000), "predicted", "residual")
    first, second = (figures_regression.draw_residuals(numbers) for _ in range(2))
    assert first.png == second.png


def test_pictures_leave_matplotlib_as_it_was_and_pyplot_out() -> None:
    """Importing the module loads no matplotlib; drawing loads no pyplot, changes no settings."""
    code = """
import sys
from surefit.core import figures, figures_search
assert "matplotlib" not in sys.modules
import matplotlib
settings = lambda: {k: v for k, v in matplotlib.rcParams.copy().items() if k != "backend"}
before = settings()
figures.evaluation_figures("regression", [1.0, 2.0], [1.0, 2.5])
assert "matplotlib.pyplot" not in sys.modules
assert before == settings()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_weight_of_two_is_a_row_twice():
    """Every table behind a picture counts a row of weight w as w rows."""
    rng = np.random.default_rng(5)
    n, weights = 80, rng.integers(1, 4, 80)
    twice = np.repeat(np.arange(n), weights)
    y, score = rng.integers(0, 2, n), rng.permutation(n) / n
    called, names = (score >= 0.5).astype(np.int64), ("no", "yes")
    w = weights.astype(float)
    for curve in (curves.roc, curves.precision_recall, curves.gain, curves.thresholds):
        pd.testing.assert_frame_equal(curve(y, score, w), curve(y[twice], score[twice]))
    shares = curves.confusion(y, called, names, w)["share_of_true"]
    np.testing.assert_allclose(
        shares, curves.confusion(y[twice], called[twice], names)["share_of_true"]
    )
    columns = ["class", "precision", "recall", "f1"]
    pd.testing.assert_frame_equal(
        curves_classes.class_scores(y, called, names, w)[columns],
        curves_classes.class_scores(y[twice], called[twice], names)[columns],
    )
    both = np.column_stack([1 - score, score])
    for curve in (curves_classes.roc_by_class, curves_classes.precision_recall_by_class):
        pd.testing.assert_frame_equal(curve(y, both, names, w), curve(y[twice], both[twice], names))
    even = curves.calibration(y, score, np.full(n, 3.0))
    pd.testing.assert_frame_equal(even, curves.calibration(y, score))
    error = curves.error_by_decile(y * 1.0, score, np.full(n, 2.0))
    pd.testing.assert_frame_equal(error, curves.error_by_decile(y * 1.0, score))
