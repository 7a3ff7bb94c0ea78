"""Every family on a binary, a multiclass and a regression table, and what they have in common."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import surefit
from surefit import models
from surefit.core import space_text
from surefit.errors import ConfigError, MissingExtraError
from surefit.models.family import Rows, Setting, monotone, needed, weights

EXTRAS = {"xgboost": "xgboost", "catboost": "catboost", "mlp": "safetensors"}
QUICK = {
    "lightgbm": {"num_iterations": 30}, "hist": {"max_iter": 30},
    "xgboost": {"num_boost_round": 30}, "catboost": {"iterations": 30},
    "forest": {"n_estimators": 10}, "mlp": {"epochs": 5}, "linear": {}, "dummy": {},
}  # fmt: skip
TARGETS = {"binary": "bought", "multiclass": "size", "regression": "price"}


def table(task: str, n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({
        "age": rng.normal(40, 10, n), "rooms": rng.integers(1, 9, n),
        "town": rng.choice(["Bern", "Oslo", "Rome"], n),
    })  # fmt: skip
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    worth = frame["rooms"] * 2 + frame["town"].eq("Oslo") * 3 + rng.normal(size=n)
    if task == "binary":
        return frame.assign(bought=np.where(worth > 10, "yes", "no"))
    if task == "multiclass":
        return frame.assign(size=pd.cut(worth, 3, labels=["S", "M", "L"]).astype(object))
    return frame.assign(price=worth * 1.5)


def usable(name: str):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    return models.named(name)


@pytest.mark.parametrize("name", models.NAMES)
def test_defaults_and_starting_points_are_known_and_inside_the_space(name):
    """What a family proposes it also accepts."""
    family = usable(name)
    for task in TARGETS:
        dimensions = space_text.parse(family.space(task))
        family.resolve({**family.defaults(task), **dict.fromkeys(dimensions)}, task)
        for start in family.starts(task):
            family.resolve(start, task)
            for key, value in start.items():
                if key in dimensions:
                    dimensions[key].encode(value)


def fitted(name: str, params=None, *, weight=None, rounds=None):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 2))
    y = (X[:, 0] + rng.normal(size=300) > 0).astype("int64")
    rows = Rows(X=X, y=y, numbers={"age": 0, "rooms": 1}, weight=weight)
    family = usable(name)
    chosen = family.resolve({**QUICK[name], **(params or {})}, "binary")
    setting = Setting(task="binary", n_classes=2, seed=0, rounds=rounds)
    return family, family.fit(chosen, rows, None, setting).estimator, X


@pytest.mark.parametrize("name", ["lightgbm", "hist", "xgboost", "catboost", "forest"])
def test_a_monotone_feature_never_pushes_the_other_way(name):
    """With monotone = {age = -1} no prediction rises with age, though the data do."""
    family, estimator, _ = fitted(name, {"monotone": {"age": -1}})
    line = np.column_stack([np.linspace(-3, 3, 50), np.zeros(50)])
    assert (np.diff(family.predict(estimator, line, 2)[:, 1]) <= 1e-9).all()


@pytest.mark.parametrize("name", ["lightgbm", "hist", "xgboost", "catboost", "forest", "linear"])
def test_weights_of_rows_and_of_classes_move_the_predictions(name):
    """Rows of weight 0 do not count, and a heavier class becomes more probable."""
    family, plain, X = fitted(name)
    _, heavier, _ = fitted(name, {"class_weight": [1.0, 20.0]})
    light = np.where(np.arange(300) < 150, 0.01, 1.0)
    _, weighted, _ = fitted(name, weight=light)
    before = family.predict(plain, X, 2)[:, 1]
    assert family.predict(heavier, X, 2)[:, 1].mean() > before.mean()
    assert not np.allclose(family.predict(weighted, X, 2)[:, 1], before)


def test_balanced_weights_give_each_class_the_same_sum():
    """class_weight = "balanced" as scikit-learn means it."""
    rows = Rows(X=np.zeros((4, 1)), y=np.array([0, 0, 0, 1]))
    given = weights({"class_weight": "balanced"}, rows, 2)
    assert given[:3].sum() == pytest.approx(given[3])


def test_monotone_names_the_nearest_number_feature():
    """A misspelled or non-number feature is answered with one that exists."""
    rows = Rows(X=np.zeros((2, 1)), y=np.zeros(2), numbers={"age": 0})
    with pytest.raises(ConfigError, match="did you mean"):
        monotone({"monotone": {"aeg": 1}}, rows)


def test_a_missing_extra_names_the_line_that_installs_it():
    """The message ends in pip install 'surefit[...]'."""
    with pytest.raises(MissingExtraError, match=r"pip install 'surefit\[torch\]'"):
        needed("no_such_library", "model.family = mlp", extra="torch")


@pytest.mark.parametrize("name", ["linear", "forest", "hist"])
def test_variants_of_a_family_are_chosen_by_a_parameter(name):
    """Elastic net, extra trees and class weights are parameters of their families."""
    chosen = {"linear": {"l1_ratio": 0.5}, "forest": {"kind": "extra", "max_samples": 0.9},
              "hist": {"class_weight": "balanced"}}[name]  # fmt: skip
    family, estimator, X = fitted(name, chosen)
    assert np.isfinite(family.predict(estimator, X, 2)).all()


def test_row_weights_come_from_a_column_that_is_no_feature(tmp_path, monkeypatch):
    """data.weight is left out of the features and changes what is fitted."""
    monkeypatch.chdir(tmp_path)
    frame = table("binary").assign(w=np.linspace(0, 5, 240))
    settings = {"model.family": "linear", "data.weight": "w", "split.folds": 2}
    result = surefit.train(frame, target="bought", set=settings, quiet=True)
    assert "3 features" in result.data


def test_a_strange_cell_makes_no_strange_answer_of_a_network():
    """Beyond what it learned from a network would go on in straight lines: it does not."""
    family = usable("mlp")
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 3))
    y = X[:, 0] * 5 + rng.normal(size=200)
    setting = Setting(task="regression", n_classes=0, seed=0)
    net = family.fit(
        {**family.defaults("regression"), "epochs": 20}, Rows(X=X, y=y), None, setting
    ).estimator
    answers = family.predict(net, np.array([[9e6, 0, 0], [-9e6, 0, 0], [np.inf, 0, 0]]), 0)
    assert (answers >= y.min()).all()
    assert (answers <= y.max()).all()
    assert answers[0] == answers[2] > answers[1]
