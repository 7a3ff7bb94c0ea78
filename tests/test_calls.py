"""MLflow calls of the user's own code: they land in the right run, and nowhere else."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from surefit.edges import environment, redirect, scratch

PIPELINE = """
    import mlflow
    import surefit
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def build(params):
        mlflow.log_params({"note": "mine", "model.family": "not yours"})
        mlflow.set_tag("team", "blue")
        for step in range(3):
            mlflow.log_metric("alpha", step / 2, step=step)
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"mine": True}, "config.toml")
        return make_pipeline(surefit.preprocess(scale=True), LogisticRegression(C=params.c))
"""
LOOP = """
    from sklearn.linear_model import LogisticRegression

    def train(ctx):
        import mlflow
        mlflow.sklearn.autolog(log_models=False, log_datasets=False)
        model = LogisticRegression(C=ctx.params.c, max_iter=500)
        with mlflow.start_run():
            mlflow.log_metric("rows", len(ctx.train))
            model.fit(ctx.train.X, ctx.train.y)
        return model
"""


@pytest.fixture
def iris(folder, monkeypatch):
    from sklearn.datasets import load_iris

    monkeypatch.chdir(folder.path)
    frame = load_iris(as_frame=True).frame
    frame.columns = ["a", "b", "c", "d", "kind"]
    frame.to_parquet("iris.parquet")
    return folder


def write(source: str) -> None:
    Path("model.py").write_text(textwrap.dedent(source))


def left() -> list[str]:
    """What is left of the scratch stores, beside the empty one."""
    return [p.name for p in Path(scratch.FOLDER).iterdir() if not p.name.startswith("empty-")]


def history(client, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run_id, key)]


def paths(client, run_id: str, folder: str | None = None) -> set[str]:
    return {file.path for file in client.list_artifacts(run_id, folder)}


def test_calls_inside_build_land_in_the_run_and_leave_the_callers_mlflow_alone(iris):
    """Params, step curves, tags and files are the run's; each fold's carry its name."""
    import mlflow

    write(PIPELINE)
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    try:
        with_us = {"model.build": "model.py:build", "model.params.c": 1.0, "split.folds": 2}
        result = iris.train("iris.parquet", target="kind", set=with_us)
        assert mlflow.get_tracking_uri() == "sqlite:///elsewhere.db"
        assert mlflow.active_run() is None
    finally:
        mlflow.set_tracking_uri(None)
    run = iris.client.get_run(result.run_id)
    assert run.data.params["note"] == "mine"
    assert run.data.params["model.family"] == "model.py:build"
    assert run.data.params["own_model.family"] == "not yours"
    assert run.data.tags["team"] == "blue"
    expected = [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert history(iris.client, result.run_id, "alpha") == expected
    assert history(iris.client, result.run_id, "fold_1_alpha") == expected
    assert {"notes", "folds", "own_config.toml"} <= paths(iris.client, result.run_id)
    assert "folds/0/notes" in paths(iris.client, result.run_id, "folds/0")
    assert not Path("elsewhere.db").exists()
    assert len(iris.runs()) == 1
    assert left() == []
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & set(os.environ)


def test_an_autologger_switched_on_in_a_loop_writes_into_its_trial(iris):
    """In a search each fold's calls are in the trial's nested run, the last fit's in the parent."""
    write(LOOP)
    chosen = {"model.train": "model.py:train", "split.folds": 2, "tune.space.c": "log 0.1..10"}
    result = iris.tune("iris.parquet", target="kind", set=chosen, trials=2)
    trials = iris.runs("tags.`surefit.kind` = 'trial'")
    assert len(trials) == 2
    for trial in trials:
        assert trial.data.metrics["fold_0_rows"] > 0
        assert "fold_1_training_accuracy_score" in trial.data.metrics
        assert float(trial.data.params["C"]) == pytest.approx(
            float(trial.data.params["model.params.c"])
        )
    parent = iris.client.get_run(result.run_id).data.metrics
    assert "training_accuracy_score" in parent
    assert parent["peak_memory_bytes"] > environment.peak_memory()  # its workers' is in it
    assert len(iris.runs()) == 3
    assert left() == []


AT_IMPORT = """
    import mlflow
    from sklearn.linear_model import LogisticRegression

    mlflow.set_experiment("a script of old")
    mlflow.autolog(log_models=False, log_datasets=False, silent=True)
    mlflow.start_run()
    mlflow.log_param("script", "old")
    mlflow.log_metric("imported", 1.0)

    class Talking:
        def fit(self, X, y):
            self.model = LogisticRegression(max_iter=500).fit(X, y)
            self.classes_ = self.model.classes_
            return self
        def predict(self, X):
            return self.predict_proba(X).argmax(axis=1)
        def predict_proba(self, X):
            mlflow.log_metric("asked_rows", len(X))
            return self.model.predict_proba(X)

    def build(params):
        return Talking()
"""


def test_calls_at_import_and_in_predict_land_in_the_run_too(iris, monkeypatch):
    """A script's set_experiment, autolog and start_run at its top make no store beside the run."""
    monkeypatch.chdir(iris.path)
    write(AT_IMPORT)
    with_us = {"model.build": "model.py:build", "split.folds": 2, "split.test": 0.2}
    result = iris.train("iris.parquet", target="kind", set=with_us)
    run = iris.client.get_run(result.run_id)
    assert run.data.params["script"] == "old"
    assert run.data.metrics["imported"] == 1.0
    assert "training_accuracy_score" in run.data.metrics  # the autologger was on in the last fit
    assert "fold_1_training_accuracy_score" in run.data.metrics
    sealed = iris.client.download_artifacts(result.run_id, "predictions/test.parquet", ".")
    n_test = len(pd.read_parquet(sealed))
    assert history(iris.client, result.run_id, "asked_rows") == [(0, float(n_test))]
    assert run.data.metrics["fold_0_asked_rows"] > n_test
    assert [r.info.run_id for r in iris.runs()] == [result.run_id]
    assert {e.name for e in iris.client.search_experiments()} == {"Default", "iris"}
    assert not Path("mlruns/0").exists()
    assert left() == []


def objective(params, context):
    """Logs as a script of its own would: an experiment, a run, a nested one, a model, a file."""
    import mlflow
    from sklearn.dummy import DummyClassifier

    mlflow.set_experiment("of my own")
    with mlflow.start_run(run_name="outer"):
        mlflow.log_param("depth", params["x"])
        mlflow.log_metric("loss", params["x"] / 2, step=7)
        mlflow.log_text("seen", "seen.txt")
        model = DummyClassifier().fit([[0], [1]], [0, 1])
        mlflow.sklearn.log_model(
            model, name="mine", pip_requirements=[], serialization_format="pickle"
        )
        mlflow.log_param("api_token", "a8f5f167f44f")
        mlflow.sklearn.log_model(
            model, name="masked", pip_requirements=[], serialization_format="pickle",
            tags={"dsn": "postgresql://me:hunter2xyz@h/d"},
        )  # fmt: skip
        with mlflow.start_run(run_name="inner", nested=True):
            mlflow.log_param("depth", "other")
    if params["x"] > 0.9:
        raise ValueError("too deep")
    mlflow.start_run()  # and never ended
    return -params["x"]


def test_what_differs_in_a_run_of_any_name_has_a_name_that_mlflow_takes(tmp_path, monkeypatch):
    """A further run called "lr=0.1" gives `lr_0.1.depth`, not a name that MLflow refuses."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/{redirect.STORE}")
    try:
        for name, depth in (("first", 1), ("lr=0.1", 2)):
            with mlflow.start_run(run_name=name):
                mlflow.log_param("depth", depth)
    finally:
        mlflow.set_tracking_uri(None)
    assert scratch.read(str(tmp_path)).params == {"depth": "1", "lr_0.1.depth": "2"}


def test_an_objectives_own_run_becomes_the_trials(iris):
    """Its params, numbers, files and model are in the nested run; a failed trial leaves nothing."""
    space = {"x": [0.1, 0.5, 0.95]}
    result = iris.tune(objective, space, method="grid")
    trials = {t.data.tags["surefit.trial"]: t for t in iris.runs("tags.`surefit.kind` = 'trial'")}
    assert len(trials) == 3
    assert len(iris.runs()) == 4
    best = trials[str(result.best.number)]
    assert best.data.params["depth"] == "0.1"
    assert best.data.params["inner.depth"] == "other"
    assert history(iris.client, best.info.run_id, "loss") == [(7, 0.05)]
    assert "seen.txt" in paths(iris.client, best.info.run_id)
    failed = next(t for t in trials.values() if t.data.tags["surefit.state"] == "FAILED")
    assert "depth" not in failed.data.params
    import mlflow

    models = iris.client.search_logged_models([best.info.experiment_id])
    assert {m.name for m in models} == {"mine", "masked"}
    assert "a8f5f167f44f" not in str([(m.params, m.tags) for m in models])
    assert "hunter2xyz" not in str([(m.params, m.tags) for m in models])
    masked, mine = sorted(
        (m for m in models if m.source_run_id == best.info.run_id), key=lambda m: str(m.name)
    )
    assert masked.params == {"depth": "0.1", "api_token": "***"}
    mlflow.set_tracking_uri(iris.uri)
    try:
        assert mlflow.pyfunc.load_model(mine.model_uri).predict([[0]]).tolist() == [0]
    finally:
        mlflow.set_tracking_uri(None)
    assert {e.name for e in iris.client.search_experiments()} == {"Default", "objective"}
    assert left() == []
    assert not Path("mlruns/1/models").exists()


def test_a_claim_that_was_cut_short_stops_no_later_command(tmp_path):
    """A kill within its writing leaves an unreadable claim: it is passed over."""
    from surefit.edges.store import Store

    store = Store(client=None, uri="http://nowhere", experiment="", experiment_id="")
    for text in ("", '{"owner": "a', "[]", "{}"):
        place = scratch.place(tmp_path)
        Path(place.root).mkdir(parents=True)
        (Path(place.root) / "owner.json").write_text(text)
    scratch.prepare(scratch.place(tmp_path), store, ["import mlflow"])
    scratch.sweep(tmp_path, "abc", ())
    assert len(list((tmp_path / scratch.FOLDER).glob("*/owner.json"))) == 5


def test_what_a_killed_command_left_is_swept_and_what_still_counts_is_kept(tmp_path):
    """A training run's stores go with its process; a search's stay while they are needed."""
    from surefit.edges.store import Store

    store = Store(client=None, uri="http://nowhere", experiment="", experiment_id="")
    folders = {}
    for name, search in (("train", ""), ("search", "abc")):
        made = scratch.place(tmp_path)
        for job in ("one", "two"):
            (Path(made.root) / job).mkdir(parents=True)
        claim = {"owner": "nobody/else/1/1", "search": search}
        claim["owner"] = scratch.environment.owner().rpartition("/")[0] + "/0"
        (Path(made.root) / "owner.json").write_text(json.dumps(claim))
        folders[name] = Path(made.root)
    scratch.prepare(scratch.place(tmp_path), store, ["import numpy"])
    assert not folders["train"].exists()
    scratch.sweep(tmp_path, "abc", {str(folders["search"] / "two")})
    assert [p.name for p in folders["search"].iterdir() if p.is_dir()] == ["two"]
    scratch.sweep(tmp_path, "abc", set())
    assert not folders["search"].exists()


def test_code_that_does_not_use_mlflow_costs_no_store(tmp_path, mlflow_loaded):
    """Where nothing was written nothing is left, and a failure leaves nothing either."""
    place = redirect.Scratch(root=str(tmp_path / "calls"), template="")
    with place.redirected() as written:
        pass
    assert written == []
    with pytest.raises(ZeroDivisionError), place.redirected() as written:
        1 / 0  # noqa: B018
    assert written == []
    assert list((tmp_path / "calls").iterdir()) == []
