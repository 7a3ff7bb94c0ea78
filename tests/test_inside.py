"""What a fitted model says itself of its columns: by the names of the user, and in its numbers."""

from __future__ import annotations

import numpy as np
import pytest

from surefit import models
from surefit.core import fit, inside
from surefit.core.data import prepare
from surefit.core.split import make
from surefit.sections import DataConfig, SplitConfig
from tables import mixed

FEW = {
    "lightgbm": {"num_iterations": 20, "min_data_in_leaf": 5},
    "hist": {"max_iter": 20, "min_samples_leaf": 5},
    "forest": {"n_estimators": 10},
    "linear": {},
    "xgboost": {"num_boost_round": 20},
    "catboost": {"iterations": 20},
}
SHARES = ("lightgbm", "hist", "forest", "xgboost", "catboost")


def fitted(family: str, task: str):
    """A model of all rows of the mixed table, its data, and the table of what it says."""
    if family in ("xgboost", "catboost"):
        pytest.importorskip(family)
    data = prepare(mixed(task=task), DataConfig(path="x", target="y"))
    split = make(data, SplitConfig(folds=2))
    metric = {"regression": "rmse"}.get(task, "log_loss")
    problem = fit.problem(data, split, family=family, metric=metric, seed=0)
    params = models.named(family).resolve(FEW[family], data.task)
    model = fit.fit_all(problem, params, rounds=[18])
    return model, data, inside.numbers(model, data.classes)


@pytest.mark.parametrize("family", SHARES)
def test_shares_are_of_the_users_features_and_come_to_one(family):
    """Each feature once, with the columns that a text or a date is cut into taken together."""
    _, data, told = fitted(family, "multiclass")
    assert told["value"].sum() == pytest.approx(1)
    assert (told["value"] >= 0).all()
    assert sorted(told["feature"]) == sorted(c.name for c in data.columns)
    assert told["value"].is_monotonic_decreasing


def test_the_gain_of_scikit_learns_boosting_is_of_the_right_columns():
    """Its trees number columns with the categories first; shuffling agrees on what matters most."""
    _, _, theirs = fitted("lightgbm", "binary")
    _, _, ours = fitted("hist", "binary")
    assert ours["feature"][0] == theirs["feature"][0]
    both = ours.set_index("feature")["value"].corr(theirs.set_index("feature")["value"])
    assert both > 0.8


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_coefficients_give_the_models_answer_back(task):
    """Columns of the matrix times the coefficients told, by their names, are the predictions."""
    model, data, told = fitted("linear", task)
    matrix = model.preprocess.transform(data.frame)
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    wide = told.pivot(index="column", columns="class", values="value")
    if task == "binary":
        assert list(wide) == [data.classes[1]]
    names = list(dict.fromkeys(name for _, name in inside.preprocess.places(
        model.preprocess, model.columns, "onehot")))  # fmt: skip
    assert len(names) == matrix.shape[1]
    scores = matrix @ wide.loc[names].to_numpy() + model.fitted.estimator.intercept_
    pred = model.predict(data.frame)
    if task == "regression":
        assert scores[:, 0] == pytest.approx(pred)
    elif task == "binary":
        assert 1 / (1 + np.exp(-scores[:, 0])) == pytest.approx(pred[:, 1])
    else:
        assert list(wide) == [str(c) for c in data.classes]
        assert np.exp(scores - scores.max(1, keepdims=True)).argmax(1) == pytest.approx(
            pred.argmax(1)
        )


def test_pictures_are_drawn_and_a_baseline_says_nothing():
    """One figure for shares, one for coefficients; the baseline has none."""
    for family, task in (("forest", "regression"), ("linear", "multiclass")):
        told = fitted(family, task)[2]
        assert inside.draw(told).png.startswith(b"\x89PNG")
    FEW["dummy"] = {}
    assert fitted("dummy", "binary")[2] is None
