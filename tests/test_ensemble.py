"""Ensembles of a search's trials: chosen greedily, scored without flattery, plain models."""

import json

import numpy as np
import pytest

import fresh
from surefit.core import ensemble, metrics
from surefit.core.resampling import layout
from surefit.errors import ConfigError, InputError
from tables import mixed

RMSE = metrics.find("rmse", "regression")
AUC = metrics.find("roc_auc", "binary")


def chosen(metric, y, preds, folds=None):
    """The weights on all rows."""
    rows = layout(len(y), folds=folds)
    return ensemble.select(metric, y, preds, rows, np.ones(len(y)))


def test_two_that_err_against_each_other_are_mixed_and_a_bad_one_is_left_out():
    """The weights are those of the best mean; without a gain the best stays alone."""
    rng = np.random.default_rng(0)
    y, noise = rng.normal(size=200), rng.normal(size=200)
    preds = [y + noise, y - noise, y + 3 * rng.normal(size=200)]
    assert chosen(RMSE, y, preds).tolist() == [0.5, 0.5, 0.0]
    assert chosen(RMSE, y, [y, y + noise]).tolist() == [1.0, 0.0]
    assert np.allclose(ensemble.mixed(preds, np.array([0.5, 0.5, 0.0])), y)


def test_cross_fitted_predictions_of_noise_are_no_better_than_noise():
    """On labels that nothing predicts the chosen mix flatters itself; cross-fitted it does not."""
    flattered, honest, corrected = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 150)
        preds = [np.column_stack([1 - p, p]) for p in rng.uniform(size=(8, 150))]
        folds = np.arange(150) % 3
        whole = ensemble.mixed(preds, chosen(AUC, y, preds))
        flattered.append(metrics.value(AUC, y, whole))
        crossed = ensemble.cross_fitted(AUC, y, preds, folds=folds)
        honest.append(np.mean([metrics.value(AUC, y[folds == f], crossed[folds == f])
                               for f in range(3)]))  # fmt: skip
        if seed < 3:
            corrected.append(ensemble.corrected(AUC, y, preds).value)
    assert np.mean(flattered) > 0.56
    assert abs(np.mean(honest) - 0.5) < 0.03
    assert abs(np.mean(corrected) - 0.5) < 0.06


KEYS = {
    "split.folds": 3, "model.family": "auto", "tune.families": ["lightgbm", "linear"],
    "tune.space": {"lightgbm": {"num_leaves": "int 2..16", "num_iterations": 20},
                   "linear": {"C": "log 0.01..10"}},
}  # fmt: skip


def test_an_ensemble_is_a_run_and_a_plain_model_of_its_own(folder):
    """Ranked and promoted like any other, loaded without surefit, and not made twice."""
    frame = mixed(220)[["size", "age", "gap", "city", "y"]]
    frame.to_parquet(folder.path / "rows.parquet")
    result = folder.tune("rows.parquet", target="y", trials=8, ensemble=True, set=KEYS)
    made = result.ensemble
    assert made is not None
    assert sum(made.members.values()) == pytest.approx(1)
    run = folder.client.get_run(made.run_id)
    assert run.data.tags["mlflow.parentRunId"] == result.run_id
    assert run.data.params["model.family"] == "ensemble"
    assert run.data.metrics["valid_roc_auc"] == pytest.approx(made.score.value)
    table = folder.path / "rows.parquet"
    assert fresh.furthest(folder.path, (made.run_id, made.model_uri, table, "y")) < 1e-12
    (file,) = (folder.path / "mlruns").rglob("members.json")
    assert {m["family"] for m in json.loads(file.read_text())} <= {"lightgbm", "linear"}
    ranked = folder.compare()
    assert made.run_id in {s.run_id for s in ranked.standings}
    again = folder.tune(trials=8, ensemble=True, set=KEYS).ensemble
    assert again.corrected.value == made.corrected.value
    assert (again.run_id, again.score, again.model_uri) == (
        made.run_id, made.score, made.model_uri)  # fmt: skip
    with pytest.raises(InputError, match="is an ensemble"):
        folder.reproduce(made.run_id)
    assert folder.promote(made.run_id, to="staging").verdict in ("PROMOTED", "INCONCLUSIVE")


def made_of(folder, search):
    """The ensembles that a search has."""
    return folder.runs(f"tags.`surefit.ensemble_of` = '{search}'")


def test_a_kill_after_the_ensemble_was_made_costs_no_second_one(folder):
    """It is known by its own tags: the search's come back, and a deleted one is made again."""
    mixed(220)[["size", "age", "gap", "city", "y"]].to_parquet(folder.path / "rows.parquet")
    asked = {"trials": 8, "ensemble": True, "set": KEYS}
    first = folder.tune("rows.parquet", target="y", **asked)
    told = ("surefit.ensemble_run", "surefit.ensemble")
    for tag in told:  # what a kill between the two runs' last words leaves
        folder.client.delete_tag(first.run_id, tag)
    again = folder.tune(**asked)
    assert (again.run_id, again.ensemble.run_id) == (first.run_id, first.ensemble.run_id)
    tags, own = (folder.client.get_run(i).data.tags for i in (first.run_id, first.ensemble.run_id))
    assert [tags[tag] for tag in told] == [first.ensemble.run_id, own["surefit.ensemble"]]
    folder.client.delete_run(first.ensemble.run_id)
    anew = folder.tune(**asked)
    assert [r.info.run_id for r in made_of(folder, first.run_id)] == [anew.ensemble.run_id]
    assert anew.ensemble.run_id != first.ensemble.run_id
    tags = folder.client.get_run(first.run_id).data.tags
    assert tags["surefit.ensemble_run"] == anew.ensemble.run_id
    folder.client.set_tag(anew.ensemble.run_id, "surefit.status", "")
    folder.client.update_run(anew.ensemble.run_id, status="FAILED")
    last = folder.tune(**asked)
    assert last.ensemble.run_id != anew.ensemble.run_id
    assert last.ensemble.corrected.value == first.ensemble.corrected.value


def test_what_cannot_be_an_ensemble_is_said_before_anything_is_fitted(folder):
    """Light fits are no members."""
    with pytest.raises(ConfigError, match="fitted in full"):
        folder.tune("sklearn:iris", target="target", ensemble=True, set={"tune.rows": 50})
    assert not folder.runs("")
