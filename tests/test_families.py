"""Each family on each task: fitted on training rows only, saved plainly, answering the same."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from surefit import models
from surefit.core import fit, preprocess
from surefit.core.data import prepare
from surefit.core.split import make
from surefit.edges.jobs import Job
from surefit.edges.pool import Pool
from surefit.errors import ConfigError, InputError
from surefit.sections import DataConfig, SplitConfig
from surefit.verbs import train
from tables import mixed

TASKS = ("binary", "multiclass", "regression")
FEW = {
    "lightgbm": {"num_iterations": 25, "learning_rate": 0.2, "min_data_in_leaf": 5,
                 "bagging_fraction": 0.8, "feature_fraction": 0.8},
    "linear": {},
    "forest": {"n_estimators": 12},
    "dummy": {},
}  # fmt: skip
BESIDES = {"hist": {"max_iter": 30}, "xgboost": {"num_boost_round": 30},
           "catboost": {"iterations": 30}, "mlp": {"epochs": 5}}  # fmt: skip
METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}

# Plain MLflow in a process that cannot import surefit: what each model answers, as one file.
ALONE = """
import sys
sys.modules["surefit"] = None
import json, mlflow, pandas as pd
uri, given, answered, models = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
mlflow.set_tracking_uri(uri)
rows = pd.read_parquet(given)
for name, model in models.items():
    loaded = mlflow.pyfunc.load_model(model)
    loaded.predict(rows).to_pickle(f"{answered}/{name}.pkl")
"""


def problem(task, family, *, frame=None, folds=2):
    """A small fitting problem with columns of every kind."""
    data = prepare(mixed(task=task) if frame is None else frame, DataConfig(path="x", target="y"))
    split = make(data, SplitConfig(folds=folds))
    return fit.problem(data, split, family=family, metric=METRIC[task], seed=0)


def params(family, task):
    """The family's defaults, with few rounds or trees."""
    return models.named(family).resolve(FEW[family], task)


@pytest.mark.parametrize("task", TASKS)
def test_a_logged_model_answers_the_same_in_plain_mlflow_without_surefit(folder, tmp_path, task):
    """Each family that is installed: a fresh process without surefit or pickle repeats the stored
    predictions; and boosting has learned something, of so few rows."""
    frame = mixed(task=task)
    results = {}
    for family, few in {**FEW, **BESIDES}.items():
        if family not in (*models.installed(), "dummy"):
            continue
        chosen = {"model.family": family, "model.params": few, "split.folds": 2}
        results[family] = folder.train(frame, target="y", set=chosen)
        score = results[family].score
        better = (score.value > results[family].baseline) == score.greater_is_better
        assert better or family not in ("lightgbm", "hist", "xgboost", "catboost")
    rows = frame.drop(columns="y").assign(more="ignored")
    rows.loc[:4, "city"] = "Atlantis"
    rows.loc[5:9, "tier"] = None
    rows.loc[10:14, "gap"] = np.nan
    rows.to_parquet(tmp_path / "rows.parquet")
    found = {family: r.model_uri for family, r in results.items()}
    subprocess.run(
        [sys.executable, "-c", ALONE, folder.uri, tmp_path / "rows.parquet", tmp_path,
         json.dumps(found)],
        check=True, cwd=tmp_path,
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )  # fmt: skip
    for family, result in results.items():
        answered = pd.read_pickle(tmp_path / f"{family}.pkl")
        assert len(answered) == len(rows)
        assert answered.notna().all(axis=None)
        stored = stored_test(folder, result.run_id)
        stored = stored[stored["row_id"] > 14].set_index("row_id")
        assert len(stored) > 15
        again = answered.loc[stored.index]
        near = 1e-6 if family == "mlp" else 1e-9  # PyTorch computes in single precision
        pd.testing.assert_frame_equal(again, stored, check_names=False, rtol=near, atol=1e-12)
        if task != "regression":
            assert set(answered["prediction"]) <= set(frame["y"])
            shares = answered.drop(columns="prediction")
            assert list(shares) == [f"probability_{c}" for c in sorted(set(frame["y"]))]
            np.testing.assert_allclose(shares.sum(axis=1), 1)


def stored_test(folder, run_id):
    """The blind predictions of a run, by plain MLflow."""
    return pd.read_parquet(
        folder.client.download_artifacts(run_id, "predictions/test.parquet", str(folder.path))
    )


@pytest.mark.parametrize(
    ("labels", "kind"),
    [((False, True), bool), ((3, 7), int), ((0.5, 1.5), float), (("nein", "ja"), str)],
)
def test_predictions_are_labels_as_the_user_wrote_them(folder, labels, kind):
    """Booleans, integers, decimals and texts come back as what they were, with their names."""
    import mlflow.pyfunc

    frame = mixed(80)
    frame["y"] = frame["y"].map(dict(zip(sorted(set(frame["y"])), labels, strict=True)))
    result = folder.train(frame[["size", "city", "y"]], target="y",
                          set={"model.family": "linear", "split.folds": 2})  # fmt: skip
    mlflow_model = folder.client.get_logged_model(result.model_uri.removeprefix("models:/"))
    loaded = mlflow.pyfunc.load_model(mlflow_model.artifact_location)
    answered = loaded.predict(frame[["size", "city"]])
    assert {type(v) for v in answered["prediction"].tolist()} == {kind}
    assert set(answered["prediction"].tolist()) == set(labels)
    assert set(answered) == {"prediction", *(f"probability_{c}" for c in labels)}


@pytest.mark.parametrize("family", tuple(FEW))
@pytest.mark.parametrize("task", TASKS)
def test_scored_rows_never_reach_the_fit(family, task):
    """Wrong targets and features in the scored and test rows change neither model nor answer."""
    clean = problem(task, family)
    chosen = params(family, task)
    train, scored = clean.split.fold(0)
    honest = fit.fit_fold(clean, chosen, 0)
    y = clean.y.copy()
    y[scored] = y[train[:1]]
    y[clean.split.test_rows] = y[train[:1]]
    poisoned = replace(clean, y=y, memory={})
    assert (fit.fit_fold(poisoned, chosen, 0).pred == honest.pred).all()
    frame = clean.frame.copy()
    frame.loc[clean.split.test_rows, "size"] = 1e6
    elsewhere = frame.iloc[scored].copy()
    whole = fit.fit_all(clean, chosen, rounds=[10]).predict(elsewhere)
    sealed = replace(clean, frame=frame, y=np.where(clean.split.block == -1, y, clean.y))
    assert (fit.fit_all(sealed, chosen, rounds=[10]).predict(elsewhere) == whole).all()
    frame.loc[scored, "size"] = 1e6
    moved = fit.fit_fold(replace(clean, frame=frame, memory={}), chosen, 0)
    assert moved.rounds == honest.rounds
    assert moved.curve == honest.curve


@pytest.mark.parametrize("family", tuple(FEW))
@pytest.mark.parametrize("task", TASKS)
def test_a_fit_is_the_same_on_one_thread_and_two_first_and_again(family, task):
    """Neither threads nor what was fitted before on the same rows changes a prediction."""
    posed = problem(task, family)
    chosen = params(family, task)
    first = fit.fit_fold(posed, chosen, 1, threads=1)
    fit.fit_fold(posed, {**chosen, **other(family)}, 1)
    if task != "regression" and "class_weight" in models.named(family).known(task):
        fit.fit_fold(posed, {**chosen, "class_weight": "balanced"}, 1)
    again = fit.fit_fold(posed, chosen, 1, threads=2)
    fresh = fit.fit_fold(replace(posed, memory={}), chosen, 1, curve=True, threads=2)
    assert (first.pred == again.pred).all()
    assert (first.pred == fresh.pred).all()
    assert first.score == again.score == fresh.score
    assert first.rounds == again.rounds == fresh.rounds


def other(family):
    """Hyperparameters unlike the ones at hand, for a fit in between."""
    return {"lightgbm": {"num_leaves": 4, "max_bin": 15}, "forest": {"max_depth": 2}}.get(
        family, {}
    )


def _job(posed, key, chosen):
    return fit.fit_fold(posed[key], chosen, 1, curve=True)


def test_a_fit_in_a_worker_is_the_same_as_here():
    """All families on all tasks give bit-equal folds in the pool and in this process."""
    keys = [(task, family) for task in TASKS for family in tuple(FEW)]
    posed = {key: problem(*key) for key in keys}
    with Pool(_job, workers=2, preload=("surefit.core.fit",), shared=posed) as workers:
        for task, family in keys:
            job = ((task, family), params(family, task))
            workers.submit(Job(key=(task, family), args=job))
        ended = {o.key: o for o in (workers.next() for _ in keys)}
    for task, family in keys:
        here = _job(posed, (task, family), params(family, task))
        there = ended[task, family]
        assert there.state == "DONE", there.traceback
        assert (there.value.pred == here.pred).all()
        np.testing.assert_array_equal(there.value.curve, here.curve)


@pytest.mark.parametrize("family", tuple(FEW))
def test_a_class_that_a_fold_has_never_seen_gets_no_share(family):
    """A class that is in the scored rows alone has a probability, near zero, and a finite score."""
    frame = mixed(160, task="multiclass")[["size", "city", "y"]]
    posed = problem("multiclass", family, frame=frame)
    train, _ = posed.split.fold(0)
    y = posed.y.copy()
    y[train[y[train] == 2]] = 1
    result = fit.fit_fold(replace(posed, y=y), params(family, "multiclass"), 0)
    assert result.pred.shape[1] == 3
    assert (result.pred[:, 2] < 0.05).all()
    assert np.isfinite(result.score)


@pytest.mark.parametrize("family", tuple(FEW))
def test_a_parameter_that_a_family_does_not_know_is_named_with_the_nearest(family):
    """All unknown names in one message, before anything is fitted."""
    with pytest.raises(ConfigError, match=r"model\.params\.nonsense") as caught:
        models.named(family).resolve({"nonsense": 1, "more_nonsense": 2}, "binary")
    assert "model.params.more_nonsense" in str(caught.value)


@pytest.mark.parametrize(
    "once",
    [{"linear_tree": True}, {"zero_as_missing": True}, {"use_missing": False}, {"max_bin": 7},
     {"max_bin_by_feature": [3] * 9}, {"enable_bundle": False}, {"min_data_in_bin": 30},
     {"data_random_seed": 5}, {"min_data_in_leaf": 40, "extra_trees": True, "max_depth": 2}],
    ids=lambda once: next(iter(once)),
)  # fmt: skip
def test_a_parameter_of_one_fit_does_not_touch_the_next(once):
    """Fits that share binned rows are each what they would be alone, in any order."""
    numbers = mixed(400, task="regression")[["size", "age", "gap", "city", "y"]]
    numbers.loc[::3, "age"] = 0
    usual = models.named("lightgbm").resolve({"num_iterations": 10}, "regression")
    other = {**usual, **once}
    if "max_bin_by_feature" in other:
        other["max_bin_by_feature"] = [3] * 4

    def alone(params):
        return fit.fit_fold(problem("regression", "lightgbm", frame=numbers), params, 0).pred

    together = problem("regression", "lightgbm", frame=numbers)
    for params in (usual, other, usual, other):
        np.testing.assert_array_equal(fit.fit_fold(together, params, 0).pred, alone(params))


@pytest.mark.parametrize(
    ("family", "wrong"),
    [("lightgbm", {"device_type": "cuda"}), ("hist", {"learning_rate": -1.0}),
     ("forest", {"max_features": "all of them"})],
)  # fmt: skip
def test_what_a_library_refuses_is_one_message(family, wrong, folder, monkeypatch):
    """A value that the library does not take is told in its words, fitted here or in workers."""
    frame = mixed()
    chosen = {"model.family": family, "model.params": wrong, "split.folds": 2}
    for worth_a_pool in (1e9, 0.0):
        monkeypatch.setattr(train, "WORTH_A_POOL", worth_a_pool)
        with pytest.raises(InputError, match=f"{family} could not be fitted: \\w+: ") as refused:
            folder.train(frame, target="y", set=chosen)
        assert "Traceback" not in str(refused.value)
        assert "model.params" in refused.value.fix


def test_the_nearest_family_is_named():
    """A misspelled family is answered with the one that was meant."""
    with pytest.raises(ConfigError, match='did you mean "lightgbm"'):
        models.named("lightgmb")


def test_boosting_stops_early_on_rows_that_are_not_scored():
    """The stop rows come out of the training rows, and the loss curve ends after the best round."""
    posed = problem("binary", "lightgbm", frame=mixed(400)[["size", "city", "gap", "y"]])
    chosen = models.named("lightgbm").resolve({"learning_rate": 0.3}, "binary")
    result = fit.fit_fold(posed, chosen, 0, curve=True)
    train, scored = posed.split.fold(0)
    stop = posed.split.stop_rows(train)
    assert 0.02 < stop.mean() < 0.2
    assert not set(train[stop]) & set(scored)
    assert len(result.curve) == result.rounds + 50 < 1000
    best = min(result.curve, key=lambda point: point[2])
    assert best[0] == result.rounds


def test_preprocessing_learns_from_training_rows_only():
    """The median, the scale and the categories are those of the rows that are fitted on."""
    posed = problem("binary", "linear")
    train, scored = posed.split.fold(0)
    known = preprocess.make(posed.columns, "onehot").fit(posed.frame.iloc[train])
    frame = posed.frame.copy()
    frame.loc[scored, "gap"] = 1e9
    frame.loc[scored, "city"] = "Atlantis"
    changed = preprocess.make(posed.columns, "onehot").fit(frame.iloc[train])
    one = frame.iloc[scored[:3]]
    a, b = (np.asarray(p.transform(one).todense() if hasattr(p.transform(one), "todense")
                       else p.transform(one)) for p in (known, changed))  # fmt: skip
    assert (a == b).all()
