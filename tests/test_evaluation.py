"""What an evaluation finds out, leaves out, and refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from simulate import numbers, two_classes
from surefit.core import baseline, data, evaluation, metrics, own, predictions, split, worst
from surefit.core.evaluation import Ask
from surefit.core.predictions import Scored
from surefit.errors import DataError, UserCodeError
from surefit.sections import DataConfig, SplitConfig


def table(n=200, seed=0):
    """A small data set with an id, a weight, a strong and a useless column."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    return pd.DataFrame(
        {
            "key": [f"r{i:03d}" for i in range(n)],
            "strong": y * 1.5 + rng.normal(size=n),
            "noise": rng.choice(list("abc"), n),
            "w": rng.integers(1, 4, n).astype(float),
            "target": np.where(y, "yes", "no"),
        }
    )


CONFIG = DataConfig(path="x", target="target", id="key", weight="w")


def given(rows, **change):
    """A table of predictions for the rows, as somebody would write it."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.95, len(rows))
    frame = pd.DataFrame(
        {"row_id": rows["key"], "probability_no": 1 - p, "probability_yes": p,
         "prediction": np.where(p >= 0.5, "yes", "no")}
    )  # fmt: skip
    for name, values in change.items():
        frame[name] = values
    return frame


def scored_of(task, y, pred, **more):
    classes = () if task == "regression" else tuple(f"c{k}" for k in range(np.shape(pred)[1]))
    return Scored(
        task=task, classes=classes, row_id=np.arange(len(y)), y=y, pred=pred,
        **{"folds": None, **more},
    )  # fmt: skip


BAD = {
    "ids missing": (lambda f: f.assign(row_id=f["row_id"].where(f.index > 1)), "no row_id"),
    "ids doubled": (lambda f: pd.concat([f, f.head(3)]), "3 row ids stand twice"),
    "no ids": (lambda f: f.drop(columns="row_id"), "no column row_id"),
    "other rows": (lambda f: f.assign(row_id=f["row_id"] + "x"), "not in the data"),
    "another class": (lambda f: f.assign(probability_maybe=0.0), "probability_maybe"),
    "a class missing": (lambda f: f.drop(columns="probability_no"), "lack the columns"),
    "not adding up": (lambda f: f.assign(probability_no=0.5), "do not add up"),
    "above one": (lambda f: f.assign(probability_yes=1.2, probability_no=-0.2), "outside"),
    "missing numbers": (
        lambda f: f.assign(probability_yes=f["probability_yes"].where(f.index != 5)),
        "missing or not finite",
    ),
    "infinite": (lambda f: f.assign(probability_yes=np.inf), "missing or not finite"),
    "text": (lambda f: f.assign(probability_yes="high"), "must be numbers"),
    "no rows": (lambda f: f.head(0), "no rows"),
    "another target": (lambda f: f.assign(target=["yes", "no"] * 100), "another table"),
}  # fmt: skip


def taken(frame, whole):
    """A table from outside, the way it is taken in."""
    predictions.check_given(frame, whole, "predictions.csv")
    predictions.check_targets(frame, whole, "predictions.csv")
    joined = predictions.join(frame.drop(columns="target", errors="ignore"), whole)
    return predictions.read(joined, whole.task, whole.classes)


@pytest.mark.parametrize("case", BAD)
def test_bad_predictions_are_refused_in_one_line(case):
    """Each kind of unusable table is refused, in one line that says what is wrong."""
    spoil, says = BAD[case]
    rows = table()
    whole = data.prepare(rows, CONFIG)
    frame = spoil(given(rows))
    with pytest.raises(DataError) as refused:
        taken(frame, whole)
    assert says in refused.value.what
    assert "\n" not in refused.value.what


def test_good_predictions_are_read_with_their_weights():
    """The same table unspoilt is read: targets, weights and probabilities on the same rows."""
    rows = table()
    whole = data.prepare(rows, CONFIG)
    frame = given(rows).sample(frac=1, random_state=0)
    found = taken(frame, whole)
    order = frame.index.to_numpy()
    np.testing.assert_array_equal(found.y, (rows["target"] == "yes").to_numpy()[order])
    np.testing.assert_array_equal(found.weights, rows["w"].to_numpy()[order])
    assert "w" not in [c.name for c in whole.columns]


def test_columns_that_are_not_documented_are_not_read():
    """A weight or a group in somebody's file is a column of theirs: rows count as the data say."""
    frame = given(table(), weight=5.0, group=1, copies_of=2, body=3)
    assert list(predictions.documented(frame)) == list(given(table()))


@pytest.mark.parametrize("names", [(0, 1), (0.0, 1.0), ("0", "1")])
def test_targets_are_compared_as_classes(names):
    """A gap makes floats of whole numbers, in the data, in a file or in its column names."""
    rows = table().assign(target=np.arange(200) % 2)
    with_gap = rows.assign(target=rows["target"].where(rows.index != 7))
    for whole in (data.prepare(rows, CONFIG), data.prepare(with_gap, CONFIG)):
        frame = given(rows)[["row_id", "probability_yes"]]
        frame = frame.rename(columns={"probability_yes": f"probability_{names[1]}"})
        frame["target"] = pd.Series([names[k] for k in rows["target"]]).where(rows.index != 3)
        frame = predictions.completed(predictions.labelled(frame, whole), whole.classes)
        found = taken(frame, whole)
        assert list(found.y) == [int(r[1:]) % 2 for r in found.row_id]
        with pytest.raises(DataError, match="another table"):
            taken(frame.assign(target=frame["target"].iloc[::-1].to_numpy()), whole)


def test_the_classes_of_a_table_alone_are_whole_numbers_with_a_gap_too():
    """Where one target is missing the classes are those of the columns' names."""
    frame = pd.DataFrame({"target": [0, None, 1], "probability_0": 0.5, "probability_1": 0.5})
    assert predictions.guess(frame) == ("binary", [0, 1])
    old = frame.rename(columns={f"probability_{k}": f"probability_{k}.0" for k in (0, 1)})
    assert predictions.guess(old) == ("binary", [0.0, 1.0])


def test_ids_are_one_by_their_numbers_where_they_are_not_by_their_text():
    """007 is 7, whichever side has which, in rows without a target too; doubled numbers are not."""
    padded = table().assign(key=[f"{i:05d}" for i in range(200)])
    padded.loc[4, "target"] = None
    plain = padded.assign(key=range(200))
    for theirs, ours in ((padded, plain), (plain, padded)):
        whole = data.prepare(ours, CONFIG)
        frame = predictions.labelled(given(theirs), whole)
        assert len(frame) == 199
        assert list(predictions.places(frame, whole)) == list(range(199))
        moved = predictions.aligned(taken(frame[::-1], whole), taken(given(ours.drop(4)), whole))
        assert list(moved.pred[:, 1]) == list(frame["probability_yes"])
    twice = data.prepare(padded.assign(key=["07", "007", *padded["key"][2:]]), CONFIG)
    assert predictions.places(given(plain), twice).isna().all()


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, "heavy"])
def test_weights_that_are_none_are_refused(bad):
    """A weight below zero, missing, infinite or no number is refused with the key that names it."""
    rows = table().astype({"w": object})
    rows.loc[3, "w"] = bad
    with pytest.raises(DataError, match=r"data\.weight"):
        data.prepare(rows, CONFIG)


def test_one_class_leaves_out_what_needs_two():
    """With one class in the rows, rankings are left out with the reason and the rest is there."""
    _, pred = two_classes(50, np.random.default_rng(0))
    scored = scored_of("binary", np.ones(50, dtype=int), pred)
    found = evaluation.assess(scored, Ask(first="roc_auc", threshold="f1"))
    assert found.scores[0].metric == "log_loss"
    assert any(
        line.startswith("roc_auc: all rows are of one class (c1)") for line in found.left_out
    )
    assert found.threshold is None
    assert found.calibration is None


def test_rows_of_one_group_leave_out_what_is_chosen_on_some_and_scored_on_others():
    """No threshold is chosen and nothing calibrated where all rows belong together; it is said."""
    y, pred = two_classes(150, np.random.default_rng(0))
    ask = Ask(first="roc_auc", threshold="f1", calibrate="platt", clusters=np.zeros(150, dtype=int))
    found = evaluation.assess(scored_of("binary", y, pred), ask)
    assert (found.threshold, found.calibrated) == (None, None)
    assert list(found.calibration.scores) == ["as it is"]
    (said,) = found.left_out
    assert said.startswith("calibration and the choice of a threshold: all rows are of one group")


def test_regression_leaves_out_what_is_undefined():
    """Relative errors need targets other than 0, logarithmic ones targets above -1."""
    y, pred = numbers(80, np.random.default_rng(1))
    y[0] = 0.0
    found = evaluation.assess(scored_of("regression", y, pred), Ask(first="rmse"))
    assert {line.split(":")[0] for line in found.left_out} == {"mape", "rmsle"}


def test_quantiles_have_pinball_loss_and_coverage():
    """Predicted quantiles are scored as scikit-learn does, and pairs of them as an interval."""
    y, pred = numbers(500, np.random.default_rng(2))
    q = np.column_stack([pred - 1.6449, pred + 1.6449])
    scored = scored_of("regression", y, pred, levels=(0.05, 0.95), quantiles=q)
    found = {s.metric: s for s in evaluation.assess(scored, Ask(first="rmse")).scores}
    for level, column in zip((0.05, 0.95), q.T, strict=True):
        assert found[f"pinball_{level:g}"].value == pytest.approx(
            sk.mean_pinball_loss(y, column, alpha=level)
        )
    inside = np.mean((q[:, 0] <= y) & (y <= q[:, 1]))
    assert found["coverage_0.9"].value == pytest.approx(inside)
    assert found["coverage_0.9"].low < 0.9 < found["coverage_0.9"].high


def test_each_class_has_scikit_learns_numbers():
    """Precision, recall and F1 of each class are scikit-learn's, the worst class first."""
    rng = np.random.default_rng(3)
    y, pred = rng.integers(0, 4, 300), rng.dirichlet(np.ones(4), 300)
    found = evaluation.assess(scored_of("multiclass", y, pred), Ask(first="log_loss")).classes
    theirs = sk.precision_recall_fscore_support(y, pred.argmax(axis=1))
    by_name = found.set_index("class").loc[[f"c{k}" for k in range(4)]]
    for column, values in zip(("precision", "recall", "f1", "n_rows"), theirs, strict=True):
        np.testing.assert_allclose(by_name[column], values)
    assert list(found["f1"]) == sorted(found["f1"])


def test_the_worst_rows_come_first_with_their_features():
    """Rows are ordered by how wrong they are, and keep the values the model saw."""
    y = np.array([1, 0, 1, 0])
    pred = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.99, 0.01]])
    features = pd.DataFrame({"age": [1, 2, 3, 4]})
    found = worst.rows(scored_of("binary", y, pred), features, n=3)
    assert list(found["row_id"]) == [0, 1, 2]
    assert list(found["age"]) == [1, 2, 3]
    assert found["probability_of_target"].tolist() == pytest.approx([0.1, 0.2, 0.5])
    assert "age" not in worst.rows(scored_of("binary", y, pred))
    clash = worst.rows(scored_of("binary", y, pred), features.rename(columns={"age": "target"}))
    assert "feature target" in clash


@pytest.mark.parametrize("test", [False, True])
def test_the_best_single_feature_is_the_strong_one(test):
    """Of a strong and a useless column the strong one is named, with a value between the two."""
    whole = data.prepare(table(800), CONFIG)
    parts = split.make(whole, SplitConfig())
    auc = metrics.find("roc_auc", "binary")
    found = baseline.best_feature(auc, whole, parts, test=test)
    assert found.column == "strong"
    assert 0.7 < found.value < 0.95


def test_the_single_feature_never_sees_the_rows_it_is_scored_on():
    """A column with another value in each row, which knows nothing, scores like a guess."""
    rows = table(600).assign(target=np.random.default_rng(4).permutation(["yes", "no"] * 300))
    rows["unique"] = [f"u{i % 590}" for i in range(600)]
    whole = data.prepare(rows[["key", "unique", "w", "target"]], CONFIG)
    parts = split.make(whole, SplitConfig())
    found = baseline.best_feature(metrics.find("roc_auc", "binary"), whole, parts)
    assert abs(found.value - 0.5) < 0.06


def drifting(n):
    """Rows of forty days whose target rises with time, each with a weight of its own."""
    rng = np.random.default_rng(12)
    day = rng.integers(0, 40, n)
    return pd.DataFrame({
        "key": np.arange(n), "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(day, "D"),
        "x": rng.normal(size=n), "size": rng.uniform(0.5, 3, n),
        "target": 10.0 * day + rng.normal(size=n),
    })  # fmt: skip


def test_one_answer_for_all_rows_is_learnt_from_the_training_rows_of_each_fold():
    """With time the answer is the past's weighted mean, in training as in evaluation; where the
    data are gone, what training recorded stands; and a file's rows do not tell their own mean."""
    config = DataConfig(path="x", target="target", id="key", time="day", weight="size")
    whole = data.prepare(drifting(400), config)
    parts = split.make(whole, SplitConfig())
    rmse = metrics.find("rmse", "regression")
    expected = []
    for train, valid in parts.folds():
        past = np.average(whole.y[train], weights=whole.weight[train])
        assert past < whole.y[valid].mean()
        wrong = np.average((whole.y[valid] - past) ** 2, weights=whole.weight[valid])
        expected.append(np.sqrt(wrong))
    in_training = baseline.constant_value(rmse, whole, parts)
    assert in_training == pytest.approx(np.mean(expected))
    at = parts.scored_rows
    scored = scored_of(
        "regression", whole.y[at], whole.y[at] + 1.0, folds=parts.fold_of_rows(),
        weights=whole.weight[at],
    )  # fmt: skip
    answers = baseline.constant_answers(whole, parts, at)
    found = evaluation.assess(scored, Ask(first="rmse", constant=answers))
    assert found.baseline == pytest.approx(in_training)
    assert (
        evaluation.assess(scored, Ask(first="rmse", baseline=in_training)).baseline == in_training
    )
    given = baseline.constant_answers(whole, parts, parts.test_rows[::2], given=True)
    assert np.isfinite(given).all()
    assert given.max() < whole.y[parts.test_rows].mean()


def profit(y_true, y_pred):
    """Money a row."""
    return np.where(y_pred >= 0.3, np.where(y_true == "c1", 10.0, -1.0), 0.0)


def test_an_own_metric_gets_labels_and_probabilities():
    """A function of rows and one of the whole give the same value, and both an interval."""
    y, pred = two_classes(150, np.random.default_rng(5))
    scored = scored_of("binary", y, pred)
    assert own.gives_rows(profit, y, pred, "binary", scored.classes)
    rows = own.metric("profit", profit, "binary", scored.classes, per_row=True)
    whole = own.metric(
        "mean_profit", lambda t, p: profit(t, p).mean(), "binary", scored.classes, per_row=False
    )
    found = evaluation.assess(scored, Ask(first="roc_auc", more=(rows, whole), own_resamples=200))
    by_name = {s.metric: s for s in found.scores}
    expected = profit(np.array(["c0", "c1"])[y], pred[:, 1]).mean()
    for name in ("profit", "mean_profit"):
        assert by_name[name].value == pytest.approx(expected)
        assert by_name[name].low < expected < by_name[name].high
    assert by_name["profit"].method == "BCa bootstrap"


def test_an_own_metric_that_gives_no_number_is_told():
    """What a function gave is named when it is no number."""
    y, pred = two_classes(50, np.random.default_rng(6))
    wrong = own.metric("mood", lambda t, p: "good", "binary", ("c0", "c1"), per_row=False)
    with pytest.raises(UserCodeError, match="mood gave 'good'"):
        metrics.value(wrong, y, pred)


def test_an_own_metric_uses_sample_weights_where_it_takes_them():
    """Weights reach a function that has a parameter of that name; others are told."""
    y, pred = numbers(40, np.random.default_rng(7))
    weights = np.linspace(0.1, 2, 40)
    takes = own.metric("mae2", sk.mean_absolute_error, "regression", (), per_row=False)
    assert metrics.value(takes, y, pred, weights=weights) == pytest.approx(
        sk.mean_absolute_error(y, pred, sample_weight=weights)
    )
    plain = own.metric("plain", lambda t, p: 1.0, "regression", (), per_row=False)
    with pytest.raises(UserCodeError, match="sample_weight"):
        metrics.value(plain, y, pred, weights=weights)
