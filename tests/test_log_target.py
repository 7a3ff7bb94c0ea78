"""`log_target`: families fitted on the target's logarithm, asked and answering in its own unit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import fresh
from surefit import models
from surefit.core import fit, inside
from surefit.core.data import prepare
from surefit.core.split import make
from surefit.errors import ConfigError, SurefitError
from surefit.models import logs
from surefit.sections import DataConfig, SplitConfig
from tables import mixed
from test_families_more import QUICK, usable


def prices(n=160):
    """A target with a long tail, none of it below 0."""
    frame = mixed(n, task="regression").drop(columns=["note", "since"])
    return frame.assign(y=np.exp(1.2 * frame["y"]))


def problem(family):
    data = prepare(prices(), DataConfig(path="x", target="y"))
    split = make(data, SplitConfig(folds=2))
    return fit.problem(data, split, family=family, metric="rmse", seed=0)


@pytest.mark.parametrize("name", models.NAMES)
def test_it_is_the_model_of_the_logarithm_taken_back(name):
    """Answers are the exponentials of what the family says of log(1 + y), within the targets seen;
    and a fit on the target itself, of the same rows, is what it would be alone."""
    family, given = usable(name), problem(name)
    params = family.resolve(QUICK[name], "regression")
    alone = fit.fit_fold(problem(name), params, 0).pred
    found = fit.fit_fold(given, {**params, "log_target": True}, 0)
    logged = dataclasses.replace(problem(name), y=np.log1p(given.y))
    expected = fit.fit_fold(logged, params, 0)
    seen = given.y[given.split.fold(0)[0]]
    np.testing.assert_allclose(
        found.pred, np.expm1(expected.pred).clip(seen.min(), seen.max()), rtol=0.05
    )
    assert found.rounds == expected.rounds
    both = fit.fit_fold(given, {**params, "log_target": False}, 0).pred
    np.testing.assert_array_equal(both, alone)
    again = fit.fit_fold(given, {**params, "log_target": True}, 0).pred
    np.testing.assert_array_equal(again, found.pred)


def test_what_has_no_logarithm_is_refused(folder):
    """A target of -1 or less, classes and what is no truth are named;
    a search says it too."""
    low = prices().assign(y=lambda t: t["y"] - 5)
    with pytest.raises(ConfigError, match=r"down to -4\.\d+"):
        folder.train(low, target="y", set={"model.params.log_target": True})
    with pytest.raises(ConfigError, match="log_target = 1 is not understood"):
        folder.train(prices(), target="y", set={"model.params.log_target": 1})
    with pytest.raises(ConfigError, match="no such parameter"):
        folder.train(mixed(), target="y", set={"model.params.log_target": True})
    space = {"tune.space": {"log_target": True, "num_leaves": "int 2..8"}}
    with pytest.raises(SurefitError, match="values down to"):
        folder.tune(low, target="y", trials=6, set=space)


@pytest.mark.parametrize(
    ("y", "long"),
    [
        (np.exp(np.random.default_rng(0).normal(size=400)), True),
        (np.random.default_rng(0).poisson(3, 400) ** 2.0, True),
        (np.random.default_rng(0).normal(9, 1, 400), False),
        (-np.exp(np.random.default_rng(0).normal(size=400)), False),
        (np.random.default_rng(0).exponential(size=400) * 1e-6, False),  # log(1 + y) is y
        (np.full(5, 3.0), False),
        (np.array([0.0, 9.0]), False),
    ],
)
def test_a_long_tail_is_one_that_the_logarithm_shortens(y, long):
    """Skewed, never negative, and less so on the logarithm."""
    assert logs.long_tail(y) is long


def test_a_search_tries_both_and_its_model_answers_the_same_in_plain_mlflow(folder):
    """Where the target has a long tail the published spaces hold `log_target`, but that of a family
    that extrapolates; the first starting point is tried both ways; the winner and an ensemble
    repeat their predictions without surefit, and the record does too."""
    prices(240).to_parquet(folder.path / "rows.parquet")
    keys = {"model.family": "auto", "tune.families": ["lightgbm", "linear"], "split.folds": 2}
    result = folder.tune("rows.parquet", target="y", trials=12, ensemble=True, set=keys)
    tried = {(t.family, t.params.get("log_target")) for t in result.trials}
    assert tried == {("lightgbm", True), ("lightgbm", False), ("linear", None)}
    assert result.best.params["log_target"] is True
    table = folder.path / "rows.parquet"
    runs = [(result.run_id, result.model_uri, table, "y")]
    if result.ensemble:
        runs.append((result.ensemble.run_id, result.ensemble.model_uri, table, "y"))
    for run in runs:
        assert fresh.furthest(folder.path, run) < 1e-9
    (meta,) = (m for m in (folder.path / "mlruns").rglob("meta.json") if "log" in m.read_text())
    low, high = json.loads(meta.read_text())["log"]
    assert low < high
    assert folder.reproduce(result.run_id).verdict == "IDENTICAL"


def test_a_coefficient_on_the_logarithm_is_called_one():
    """The table of coefficients says that they are of the logarithm, the picture too."""
    for logged, kind in ((True, "log"), (False, "target")):
        model = fit.fit_all(problem("linear"), {"alpha": 1.0, "log_target": logged}, rounds=[])
        table = inside.numbers(model, ())
        assert set(table["kind"]) == {kind}
        assert inside.draw(table).png


def test_a_long_tail_is_said_with_the_line_that_takes_its_logarithm(folder):
    """Training names the setting, until it is chosen either way."""
    prices().to_parquet(folder.path / "rows.parquet")
    said = folder.command("train", "rows.parquet", "--target", "y").err
    assert "y has a long tail" in said
    assert "[model.params.log_target = true]" in said
    again = folder.command("train", "--set", "model.params.log_target=false")
    assert again.code == 0
    assert "long tail" not in again.err
