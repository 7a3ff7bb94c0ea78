"""`loss`: what the boosting families fit in regression, by one name in all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fresh
from surefit import models
from surefit.core import fit
from surefit.core.data import prepare
from surefit.core.split import make
from surefit.edges import runs
from surefit.edges import store as stores
from surefit.errors import ConfigError, InputError
from surefit.sections import DataConfig, SplitConfig
from test_again import _BLOCKED
from test_families_more import QUICK, usable

LOSSES = ("squared_error", "absolute_error", "poisson", "gamma")
BOOSTING = [(name, loss) for name in ("lightgbm", "hist", "xgboost", "catboost") for loss in LOSSES
            if (name, loss) != ("catboost", "gamma")]  # fmt: skip


def amounts(n=300, *, least=0.1):
    """Amounts with a long tail, that grow with `size`."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"size": rng.normal(size=n), "town": rng.choice(["Bern", "Oslo"], n)})
    return frame.assign(y=least + np.exp(frame["size"] + rng.normal(size=n)))


def problem(family, frame=None):
    data = prepare(amounts() if frame is None else frame, DataConfig(path="x", target="y"))
    split = make(data, SplitConfig(folds=2))
    return fit.problem(data, split, family=family, metric="mae", seed=0)


@pytest.mark.parametrize(("name", "loss"), BOOSTING)
def test_each_loss_is_fitted_for_what_it_is(name, loss, tmp_path):
    """Fitted to the absolute error, answers are nearer the median, and lower; those of losses of
    amounts are amounts; the saved files answer as the fit did, and so does a fit
    stopped early of its own loss by step."""
    family, given = usable(name), problem(name)
    rows = given.split.train_rows
    y, frame = given.y[rows], given.frame.iloc[rows]
    asked = {k: family.resolve({**QUICK[name], "loss": k}, "regression") for k in LOSSES[:1]}
    asked[loss] = family.resolve({**QUICK[name], "loss": loss}, "regression")
    fitted = {k: fit.fit_all(given, params, rounds=[30]) for k, params in asked.items()}
    usual, own = (fitted[k].predict(frame) for k in ("squared_error", loss))
    if loss == "absolute_error":
        assert abs(np.mean(y < own) - 0.5) < abs(np.mean(y < usual) - 0.5)
        assert own.mean() < 0.9 * usual.mean()
    elif loss != "squared_error":
        assert own.min() > 0
        assert own.mean() == pytest.approx(y.mean(), rel=0.25)
    model = fitted[loss]
    family.save(model.fitted.estimator, tmp_path)
    X = model.preprocess.transform(frame)
    np.testing.assert_allclose(family.load(tmp_path, 0)(X), own, rtol=1e-6)
    fold = fit.fit_fold(given, asked[loss], 0)
    losses = [valid for _, _, valid in fold.curve]
    assert min(losses) < losses[0] or fold.rounds == 1


def test_a_loss_is_one_of_the_familys_and_of_numbers_it_can_be_of(folder):
    """A library's own word, another task, amounts below 0 and a logarithm twice are told apart."""
    frame = amounts()
    for params, said in (
        ({"objective": "mae"}, 'here it is "loss"'),
        ({"loss": "mae"}, "not among squared_error, absolute_error, poisson, gamma"),
        ({"loss": 3}, "3 is not among"),
        ({"loss": "poisson", "log_target": True}, "fits a logarithm by itself"),
    ):
        with pytest.raises(ConfigError, match=said):
            folder.train(frame, target="y", set={f"model.params.{k}": v for k, v in params.items()})
    space = {"tune.space": {"loss": ["squared_error", "huber"]}}
    with pytest.raises(ConfigError, match="'huber' is not among"):
        folder.tune(frame, target="y", set=space)
    for low, loss, said in ((-1.0, "poisson", "counts from 0 on"), (0.0, "gamma", "above 0")):
        low = frame.assign(y=frame["y"].where(frame.index > 30, low))
        with pytest.raises(ConfigError, match=said):
            folder.train(low, target="y", set={"model.params.loss": loss})
    classes = frame.assign(y=np.where(frame["y"] > 1, "yes", "no"))
    for name in ("lightgbm", "hist"):
        with pytest.raises(ConfigError, match="no such parameter"):
            folder.train(classes, target="y",
                         set={"model.family": name, "model.params.loss": "poisson"})  # fmt: skip
    with pytest.raises(InputError, match="no such parameter"):
        folder.train(
            frame, target="y", set={"model.family": "linear", "model.params.loss": "huber"}
        )


def test_a_search_by_an_absolute_error_tries_it_and_training_says_so(folder):
    """Where the mean absolute error is scored the published spaces hold both losses, and the first
    starting point is tried with each; the winner answers the same in plain MLflow. A loss that was
    chosen is left alone."""
    amounts().to_parquet(folder.path / "rows.parquet")
    keys = {"metric.optimize": "mae", "split.folds": 2, "model.params.num_iterations": 40}
    result = folder.tune("rows.parquet", target="y", trials=8, set=keys)
    first = [(t.params["log_target"], t.params["loss"]) for t in result.trials[:3]]
    assert first == [(False, "squared_error"), (True, "squared_error"), (False, "absolute_error")]
    run = (result.run_id, result.model_uri, folder.path / "rows.parquet", "y")
    assert fresh.furthest(folder.path, run) < 1e-9
    said = folder.command("train", "--set", "metric.optimize=mae").err
    assert (
        'mae is scored: the absolute error may be the better loss   [model.params.loss = "' in said
    )
    chosen = {**keys, "model.params.loss": "absolute_error", "model.params.log_target": False}
    fixed = folder.tune(trials=3, set=chosen)
    assert all("loss" not in t.params for t in fixed.trials)


@pytest.mark.parametrize(
    ("name", "loss"),
    [("lightgbm", "absolute_error"), ("xgboost", "gamma"), ("catboost", "poisson"),
     ("hist", "poisson")],
)  # fmt: skip
def test_an_ejected_script_fits_the_same_loss(name, loss, folder):
    """The plain script predicts the sealed rows as the run did, and the run is made again."""
    usable(name)
    amounts().to_parquet(folder.path / "rows.parquet")
    keys = {"model.family": name, "model.params.loss": loss, "split.folds": 2}
    keys |= {f"model.params.{k}": v for k, v in QUICK[name].items()}
    run = folder.train("rows.parquet", target="y", set=keys)
    assert folder.reproduce(run.run_id).verdict == "IDENTICAL"
    written = Path(folder.eject(run.run_id).folder)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _BLOCKED, str(written / "train.py")],
        capture_output=True, text=True, cwd=folder.path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    given = pd.read_csv(written / "predictions.csv")["prediction"]
    opened = stores.connect(f"sqlite:///{folder.path / 'mlflow.db'}", folder.path, "rows")
    stored = runs.read_table(opened, run.run_id, "predictions/test.parquet")["prediction"]
    np.testing.assert_allclose(given, stored, rtol=1e-9)


def test_every_published_name_is_a_loss_of_scikit_learn():
    """The names are those of scikit-learn's own boosting."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    allowed = HistGradientBoostingRegressor._parameter_constraints["loss"][0].options
    for name in models.NAMES:
        assert set(models.named(name).losses) <= set(allowed)
