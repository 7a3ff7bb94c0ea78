"""Train, evaluate, compare, promote on a real store: what is recorded, sealed, refused, moved."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlflow_files
from surefit.core import data as tables
from surefit.errors import ConfigError, DataError, InputError, ServiceError
from tables import numbers

PLAIN = {"model.family": "linear", "split.folds": 2}


def run_of(folder, family):
    """The training run of a family."""
    where = f"tags.`surefit.kind` = 'train' and params.`model.family` = '{family}'"
    return folder.runs(where)[-1]


def saved(folder, frame, name="data.csv"):
    """The name of a CSV file in the folder that holds the frame."""
    frame.to_csv(folder.path / name, index=False)
    return name


# --- train ---


def test_a_training_run_records_parameters_scores_curves_and_files(trained):
    """All that DESIGN names is there, by its public name, readable by any MLflow client."""
    run = run_of(trained, "lightgbm")
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    assert params["model.params.num_iterations"] == "30"
    assert params["model.params.early_stopping_round"] == "50"
    assert params["split.folds"] == "3"
    assert params["data.path"] == "sklearn:breast_cancer"
    for name in ("roc_auc", "log_loss", "accuracy"):
        low, value, high = (metrics[f"valid_{name}{end}"] for end in ("_low", "", "_high"))
        assert low <= value <= high
    assert metrics["baseline_roc_auc"] == pytest.approx(0.5)
    assert metrics["valid_roc_auc"] == pytest.approx(
        np.mean([metrics[f"fold_{i}_roc_auc"] for i in range(3)])
    )
    assert run.info.status == "FINISHED"
    assert tags["surefit.kind"] == "train"
    assert tags["surefit.status"] == "complete"
    assert len(tags["surefit.data"]) == len(tags["surefit.split"]) == 64
    assert tags["surefit.task"] == "binary"
    files = set(mlflow_files.listed(trained.client, run.info.run_id))
    assert {"config.toml", "environment.txt", "about.json", "split.parquet",
            "predictions/valid.parquet", "predictions/test.parquet"} <= files  # fmt: skip
    assert any(f.endswith(".png") for f in files)
    assert not {f for f in files if f.endswith(".png")} - {
        f.removesuffix("csv") + "png" for f in files if f.endswith(".csv")
    }


def test_loss_curves_are_recorded_for_each_fold_and_their_mean(trained):
    """Steps ascend from 1, and the mean curve is the mean of the folds' curves."""
    run_id = run_of(trained, "lightgbm").info.run_id
    for kind in ("train_loss", "valid_loss"):
        curves = [
            {m.step: m.value for m in trained.client.get_metric_history(run_id, key)}
            for key in (f"fold_0_{kind}", f"fold_1_{kind}", f"fold_2_{kind}", kind)
        ]
        assert min(curves[3]) == 1
        assert len(curves[3]) > 5
        for step, mean in curves[3].items():
            assert mean == pytest.approx(np.mean([curve[step] for curve in curves[:3]]))
    losses = trained.client.get_metric_history(run_id, "train_loss")
    assert losses[-1].value < losses[0].value


def test_the_data_set_is_an_mlflow_input_under_our_digest(trained):
    """The digest of all cells is the dataset's digest, and names its source."""
    run = run_of(trained, "linear")
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.digest == run.data.tags["surefit.data"][:32]
    assert "sklearn:breast_cancer" in given.dataset.source
    assert json.loads(given.dataset.profile)["num_rows"] == 569
    assert len(json.loads(given.dataset.schema)["mlflow_colspec"]) == 30


def test_the_model_is_logged_with_a_signature_and_pinned_requirements_without_surefit(trained):
    """A plain MLflow logged model: typed columns in, labels and probabilities out."""
    import mlflow.models

    run = run_of(trained, "linear")
    model = trained.client.get_logged_model(run.data.tags["surefit.model"])
    assert str(model.status) in ("READY", "LoggedModelStatus.READY")
    assert model.source_run_id == run.info.run_id
    folder = Path(model.artifact_location.removeprefix("file://"))
    info = mlflow.models.Model.load(str(folder))
    assert len(info.signature.inputs.inputs) == 30
    outs = [c.name for c in info.signature.outputs.inputs]
    assert outs[0] == "prediction"
    assert len(outs) == 3
    needed = (folder / "requirements.txt").read_text()
    assert "scikit-learn==" in needed
    assert "surefit" not in needed
    assert not list(folder.rglob("*.pkl"))


def test_test_predictions_are_stored_blind_and_validation_ones_with_targets(trained):
    """No target of a test row is anywhere in a training run."""
    run = run_of(trained, "linear")
    test = mlflow_files.table(trained.client, run.info.run_id, "predictions/test.parquet")
    valid = mlflow_files.table(trained.client, run.info.run_id, "predictions/valid.parquet")
    assert set(test) == {
        "row_id", "prediction", "probability_benign", "probability_malignant"
    }  # fmt: skip
    assert {"row_id", "fold", "target", "prediction"} <= set(valid)
    assert not set(test["row_id"]) & set(valid["row_id"])
    assert len(test) + len(valid) == 569
    assert not [k for k in run.data.metrics if k.startswith("test_")]


def test_the_same_training_again_gives_the_same_numbers(folder):
    """Every metric that is no time is equal, bit for bit."""
    chosen = {**PLAIN, "model.family": "lightgbm", "model.params.num_iterations": 20}
    folder.train("sklearn:iris", target="target", set=chosen)
    folder.train("sklearn:iris", target="target", set=chosen)
    first, second = folder.runs("tags.`surefit.kind` = 'train'")
    timed = {"fit_seconds", "fold_seconds", "model_bytes", "peak_memory_bytes",
             "predict_rows_per_second", "predict_one_row_ms"}  # fmt: skip
    assert {k: v for k, v in first.data.metrics.items() if k not in timed} == {
        k: v for k, v in second.data.metrics.items() if k not in timed
    }


def test_registering_at_training_is_ungated_and_production_is_refused(folder):
    """--register and --to staging make a version that says so; the gate leads to production."""
    first = folder.train("sklearn:iris", target="target", set=PLAIN, register=True)
    assert first.version == "models:/iris/1"
    staged = folder.train(set={**PLAIN, "gate.stages": True}, to="staging")
    assert staged.version == "models:/iris@staging"
    version = folder.client.get_model_version_by_alias("iris", "staging")
    assert str(version.version) == "2"
    assert version.tags["surefit.gate"] == "ungated"
    assert version.current_stage == "Staging"
    n_runs = len(folder.runs())
    with pytest.raises(InputError, match="through the gate"):
        folder.train(set=PLAIN, to="production")
    with pytest.raises(ConfigError, match="no alias"):
        folder.train(set=PLAIN, to="v1")
    assert len(folder.runs()) == n_runs


# --- evaluate ---


def test_an_evaluation_is_a_run_of_its_own_linked_to_its_subject(trained):
    """It has the same validation scores as training, pictures with numbers, and a report."""
    subject = run_of(trained, "linear")
    result = trained.evaluate(subject.info.run_id)
    run = trained.client.get_run(result.run_id)
    assert run.data.tags["surefit.kind"] == "evaluate"
    assert run.data.tags["surefit.of"] == subject.info.run_id
    assert run.data.metrics["valid_roc_auc"] == subject.data.metrics["valid_roc_auc"]
    assert "report.html" in mlflow_files.listed(trained.client, result.run_id)
    assert result.look is None
    assert result.rows == "validation"


def test_a_run_is_found_by_id_by_its_beginning_by_name_and_as_last(folder):
    """Each way names the same run; what names none, or two, is said with what there is."""
    made = folder.train("sklearn:iris", target="target", set=PLAIN, name="first")
    for reference in (made.run_id, made.run_id[:8], "first", "last"):
        assert folder.evaluate(reference).subject == "first"
    with pytest.raises(InputError, match='did you mean "first"'):
        folder.evaluate("frist")
    with pytest.raises(InputError, match="There is no run 0000"):
        folder.evaluate("0" * 32)
    folder.train(set=PLAIN, name="first")
    with pytest.raises(InputError, match="Several runs are called"):
        folder.evaluate("first")


def test_each_look_at_the_test_rows_is_counted_whatever_the_run(folder):
    """evaluate --test and promote count the same rows, a dry run included; compare does not."""
    folder.train("sklearn:breast_cancer", target="target", set=PLAIN)
    first = folder.evaluate(test=True)
    assert first.look == 1
    assert {"test_roc_auc", "test_roc_auc_low", "test_roc_auc_high"} <= set(
        folder.client.get_run(first.run_id).data.metrics
    )
    folder.train(set={**PLAIN, "model.family": "dummy"})
    folder.compare()
    assert folder.evaluate(test=True).look == 2
    assert folder.promote(dry_run=True).look == 3
    assert folder.evaluate(test=True).look == 4


def test_another_split_seed_does_not_reset_the_looks(folder):
    """The count goes by the rows: test rows that overlap with those seen cost more than one."""
    folder.train("sklearn:iris", target="target", set={**PLAIN, "split.test": 0.5})
    assert folder.evaluate(test=True).look == 1
    other = {**PLAIN, "split.test": 0.5, "split.seed": 7}
    folder.train(set=other)
    assert folder.evaluate(test=True, set={"split.seed": 7}).look == 2


def test_a_registered_model_is_evaluated_by_its_address(folder):
    """models:/NAME/VERSION and models:/NAME@ALIAS lead to the run that made the version."""
    made = folder.train("sklearn:iris", target="target", to="staging",
                        set={**PLAIN, "gate.stages": True})  # fmt: skip
    for uri in ("models:/iris/1", "models:/iris@staging", "models:/iris/Staging"):
        run = folder.client.get_run(folder.evaluate(uri).run_id)
        assert run.data.tags["surefit.of"] == made.run_id
    for wrong in ("models:/iris/9", "models:/iris@nobody", "models:/other/1", "models:/"):
        with pytest.raises(InputError):
            folder.evaluate(wrong)


def test_predictions_from_outside_are_scored_and_marked(trained, tmp_path):
    """A CSV of the stored predictions has the scores of its run, and is called unverified."""
    run = run_of(trained, "forest")
    table = mlflow_files.table(trained.client, run.info.run_id, "predictions/valid.parquet")
    file = tmp_path / "theirs.csv"
    table.drop(columns=["target", "fold"]).to_csv(file, index=False)
    result = trained.evaluate(str(file))
    assert not result.verified
    assert result.n_rows == len(table)
    assert result.score("accuracy").value == pytest.approx(
        float((table["prediction"] == table["target"]).mean())
    )
    assert trained.client.get_run(result.run_id).data.tags["surefit.verified"] == "false"


def test_predictions_from_outside_on_sealed_rows_are_a_look(folder, tmp_path):
    """Whoever scores a file of test rows has looked at them, and it counts."""
    made = folder.train("sklearn:iris", target="target", set=PLAIN)
    table = mlflow_files.table(folder.client, made.run_id, "predictions/test.parquet")
    table.to_csv(tmp_path / "theirs.csv", index=False)
    assert folder.evaluate(str(tmp_path / "theirs.csv")).look == 1
    assert folder.evaluate(made.run_id, test=True).look == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="row_id"), "no column row_id"),
        (lambda t: t.drop(columns="probability_virginica"), "lack the columns"),
        (lambda t: t.assign(row_id=t["row_id"] + 1000), "are not in the data"),
        (lambda t: pd.concat([t, t.head(2)]), "stand twice"),
        (lambda t: t.assign(probability_setosa=np.inf), "not finite"),
        (lambda t: t.assign(probability_setosa="a"), "must be numbers"),
        (lambda t: t.assign(probability_setosa=1.5), "outside"),
        (lambda t: t.assign(probability_setosa=0.0), "add up to 1"),
        (lambda t: t.head(0), "no rows"),
    ],
)
def test_a_wrong_predictions_file_is_refused_in_one_line(iris_valid, tmp_path, change, said):
    """Columns, rows and numbers that cannot be scored are each named in one sentence."""
    project, table = iris_valid
    file = tmp_path / "wrong.csv"
    change(table).to_csv(file, index=False)
    n_runs = len(project.runs())
    with pytest.raises(DataError, match=said) as caught:
        project.evaluate(str(file))
    assert "\n" not in caught.value.what
    assert len(project.runs()) == n_runs


@pytest.fixture(scope="module")
def iris_valid(tmp_path_factory, pristine):
    """A trained iris project and its validation predictions, as a colleague would send them."""
    import conftest

    project = conftest.new_folder(tmp_path_factory.mktemp("iris"), pristine)
    made = project.train("sklearn:iris", target="target", set=PLAIN)
    table = mlflow_files.table(project.client, made.run_id, "predictions/valid.parquet")
    return project, table.drop(columns=["target", "fold"])


def test_other_data_than_the_run_was_trained_beside_are_refused(folder):
    """Neither a look nor a promotion joins predictions with rows that have changed since."""
    frame = numbers()
    name = saved(folder, frame)
    made = folder.train(name, target="y", set=PLAIN)
    saved(folder, frame.assign(b=frame["b"] + 1))
    for verb in (lambda: folder.evaluate("last", test=True), lambda: folder.promote(made.run_id)):
        with pytest.raises(InputError, match="another data than the configuration names now"):
            verb()
    saved(folder, frame)
    with pytest.raises(InputError, match="another split"):
        folder.evaluate("last", test=True, set={"split.seed": 5})


def test_predictions_of_another_target_meet_no_other_targets(folder):
    """Two targets of one table: neither a look nor the gate joins the predictions of one with the
    other, and a champion of one is no rival of a challenger of the other."""
    name = saved(folder, numbers())
    of_a = folder.train(name, target="a", set=PLAIN)
    for verb in (lambda **more: folder.evaluate(of_a.run_id, test=True, **more),
                 lambda **more: folder.promote(of_a.run_id, **more)):  # fmt: skip
        with pytest.raises(InputError, match=r"predicts a, and the configuration\s+names b"):
            verb(set={"data.target": "b"})
    folder.promote(of_a.run_id, force=True, reason="the first")
    of_b = folder.train(name, target="b", set=PLAIN)
    decided = folder.promote(of_b.run_id)
    assert decided.verdict != "PROMOTED"
    assert any("predicts a, not b" in check.reason for check in decided.checks)


def test_numbered_predictions_of_new_rows_are_not_joined_with_the_training_rows(folder):
    """What `predict` numbered is scored beside its own rows only; the next step says how."""
    frame = numbers(160)
    name = saved(folder, frame)
    made = folder.train(name, target="y", set=PLAIN)
    for ending in ("csv", "parquet"):
        new, out = f"new.{ending}", f"out.{ending}"
        fresh_rows = numbers(90, seed=7)
        write = fresh_rows.to_parquet if ending == "parquet" else fresh_rows.to_csv
        write(folder.path / new, index=False)
        told = folder.predict(new, out=out, model=made.run_id)
        assert f"surefit evaluate {out} --set data.path=FILE" in told.next
        with pytest.raises(InputError, match="numbers the 90 rows of another table"):
            folder.evaluate(out)
        scored = folder.evaluate(out, set={"data.path": new, "split.test": 0})
        assert scored.score("roc_auc").value > 0.7
        assert scored.look is None


def test_a_threshold_is_for_two_classes(folder):
    """It is refused where there are more, before anything is scored."""
    folder.train("sklearn:iris", target="target", set=PLAIN)
    with pytest.raises(ConfigError, match=r"is for two classes, and this is multiclass"):
        folder.evaluate("last", set={"metric.threshold": "f1"})


# --- compare ---


def test_a_leaderboard_ranks_runs_on_the_same_rows_and_is_a_run(trained):
    """The baseline is last and worse; intervals and ties are there; a dictionary holds it all."""
    board = trained.compare()
    assert board.standings[-1].family == "dummy"
    assert not board.standings[-1].tied
    assert board.best.worse_by == 0
    assert [s.rank for s in board.standings] == list(range(1, len(board.standings) + 1))
    values = [s.score.value for s in board.standings]
    assert values == sorted(values, reverse=True)
    json.dumps(board.to_dict())
    run = trained.client.get_run(board.run_id)
    assert run.data.params["best"] == board.best.run_id
    assert {"report.html", "leaderboard.csv"} <= set(
        mlflow_files.listed(trained.client, board.run_id)
    )


def test_runs_on_other_rows_and_unfinished_ones_are_listed_with_the_reason(folder):
    """Another split, other data, a failed and a running run are never ranked, and never hidden."""
    from surefit.verbs import workspace

    frame = numbers()
    saved(folder, frame.head(100), "old.csv")
    folder.train("old.csv", target="y", set={**PLAIN, "name": "p"}, name="other data")
    saved(folder, frame)
    folder.train("data.csv", target="y", name="other split",
                 set={**PLAIN, "name": "p", "split.seed": 3})  # fmt: skip
    keys = {**PLAIN, "name": "p"}
    folder.train("data.csv", target="y", set=keys, name="good")
    folder.train("data.csv", target="y", set={**keys, "model.family": "dummy"}, name="poor")
    project = workspace.project(data=str(folder.path / "data.csv"), target="y", config=None,
                                overrides={"name": "p", "tracking.uri": folder.uri})  # fmt: skip
    from surefit.edges import runs

    store = workspace.open_store(project)
    tags = {"surefit.data": "x", "surefit.split": "x"}
    with pytest.raises(RuntimeError), runs.recording(store, "fails", "train", tags=tags):
        raise RuntimeError("out of luck")
    still = runs.start(store, "runs on", "train", tags=tags)
    board = folder.compare()
    assert {s.name for s in board.standings} == {"good", "poor"}
    reasons = {o.name: o.reason for o in board.left_out}
    assert "another data" in reasons["other data"]
    assert "another split" in reasons["other split"]
    assert "FAILED: RuntimeError: out of luck" in reasons["fails"]
    assert "still running" in reasons["runs on"]
    runs.end(store, still, "KILLED", reason="enough")


def test_nothing_to_compare_says_what_to_do(folder):
    """An empty store, and a filter that nothing passes, are one message."""
    saved(folder, numbers())
    with pytest.raises(InputError, match="no run to compare"):
        folder.compare(config=None, data="data.csv", target="y")
    folder.train("data.csv", target="y", set=PLAIN)
    with pytest.raises(InputError, match="no run to compare"):
        folder.compare(where="params.`model.family` = 'forest'")
    with pytest.raises(InputError, match="is no attribute of a run"):
        folder.compare(where="nonsense is nonsense")
    with pytest.raises(ConfigError, match="metric"):
        folder.compare(metric="nonsense")


def test_runs_chosen_by_name_or_filter_are_compared_alone(trained):
    """Arguments and --where narrow the board."""
    board = trained.compare(where="params.`model.family` = 'linear'")
    assert [s.family for s in board.standings] == ["linear"]
    assert board.corrected.value == pytest.approx(board.best.score.value)
    two = trained.compare(["train linear", "train dummy"])
    assert {s.family for s in two.standings} == {"linear", "dummy"}
    assert trained.compare(metric="log_loss").metric == "log_loss"


# --- promote ---


def test_the_gate_promotes_once_and_knows_its_champion(folder):
    """PROMOTED moves the alias with its evidence; again it is the champion already, and no look."""
    folder.train("sklearn:breast_cancer", target="target", set=PLAIN)
    decision = folder.promote()
    assert (decision.verdict, decision.moved, decision.version) == ("PROMOTED", True, "1")
    version = folder.client.get_model_version_by_alias("breast_cancer", "production")
    assert str(version.version) == "1"
    evidence = json.loads(
        Path(folder.client.download_artifacts(decision.run_id, "decision.json", str(folder.path)))
        .read_text()
    )  # fmt: skip
    assert evidence["verdict"] == "PROMOTED"
    assert folder.client.get_run(decision.run_id).data.tags["surefit.kind"] == "promote"
    n_runs = len(folder.runs())
    again = folder.promote()
    assert (again.verdict, again.moved, again.look) == ("PROMOTED", False, 0)
    assert len(folder.client.search_model_versions("")) == 1
    assert len(folder.runs()) == n_runs


def test_a_worse_challenger_is_rejected_and_an_equal_one_is_not_promoted(folder):
    """Exit code 1, the alias stays, the version is registered once however often it is tried."""
    folder.train("sklearn:breast_cancer", target="target", set=PLAIN, name="champion")
    folder.promote("champion")
    folder.train(set={**PLAIN, "model.family": "dummy"}, name="worse")
    folder.train(set={**PLAIN, "model.params.C": 0.9}, name="equal")
    ended = folder.command("promote", "worse", "-q", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["verdict"] == "REJECTED"
    ended = folder.command("promote", "equal", "-q")
    assert ended.code == 1
    assert "INCONCLUSIVE" in ended.out
    assert folder.promote("worse").verdict == "REJECTED"
    alias = folder.client.get_model_version_by_alias("breast_cancer", "production")
    assert str(alias.version) == "1"
    assert len(folder.client.search_model_versions("")) == 3


def test_a_better_challenger_takes_the_place_of_a_poor_champion(folder):
    """The champion is measured on the same rows, and the move names what was there before."""
    folder.train("sklearn:breast_cancer", target="target", name="poor",
                 set={**PLAIN, "model.family": "forest", "model.params.n_estimators": 1,
                      "model.params.max_depth": 1})  # fmt: skip
    assert folder.promote("poor").moved
    folder.train(set=PLAIN, name="better")
    trial = folder.promote("better", dry_run=True, set={"gate.alpha": 0.2})
    assert (trial.verdict, trial.moved) == ("PROMOTED", False)
    alias = folder.client.get_model_version_by_alias("breast_cancer", "production")
    assert str(alias.version) == "1"
    decision = folder.promote("better", set={"gate.stages": True, "gate.alpha": 0.3})
    assert (decision.verdict, decision.previous, decision.version) == ("PROMOTED", "1", "2")
    names = [c.name for c in decision.checks]
    assert "better than the champion" in names
    now = folder.client.get_model_version_by_alias("breast_cancer", "production")
    assert (str(now.version), now.current_stage) == ("2", "Production")


def test_floors_decide_by_the_safe_end_of_the_interval(folder):
    """A floor far above rejects, one inside the interval leaves it open, one far below passes."""
    folder.train("sklearn:breast_cancer", target="target", set=PLAIN)
    verdicts = [
        folder.promote(dry_run=True, set={"gate.floors": floors}).verdict
        for floors in ({"accuracy": 0.999, "log_loss": 0.001}, {"accuracy": 0.97},
                       {"accuracy": 0.5, "log_loss": 2.0})
    ]  # fmt: skip
    assert verdicts == ["REJECTED", "INCONCLUSIVE", "PROMOTED"]
    with pytest.raises(ConfigError, match="did you mean"):
        folder.promote(set={"gate.floors": {"acuracy": 0.5}})


def test_a_model_file_that_was_changed_is_refused_before_the_alias_moves(folder):
    """One flipped byte, an added file or a lost one: REJECTED, and production stays empty."""
    made = folder.train("sklearn:breast_cancer", target="target", set=PLAIN)
    model = folder.client.get_logged_model(made.model_uri.removeprefix("models:/"))
    place = Path(model.artifact_location.removeprefix("file://"))
    file = next(place.rglob("preprocess.skops"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    decision = folder.promote()
    assert decision.verdict == "REJECTED"
    assert any("preprocess.skops was changed" in c.reason for c in decision.checks)
    file.write_bytes(whole)
    (place / "extra.py").write_text("import os")
    assert any("was added" in c.reason for c in folder.promote().checks)
    (place / "extra.py").unlink()
    file.unlink()
    assert any("is missing" in c.reason for c in folder.promote().checks)
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="not found"):
        folder.client.get_model_version_by_alias("breast_cancer", "production")
    file.write_bytes(whole)
    assert folder.promote().moved


def test_a_stored_table_that_was_damaged_is_noticed(folder):
    """Predictions whose bytes have changed are not scored."""
    made = folder.train("sklearn:iris", target="target", set=PLAIN)
    run = folder.client.get_run(made.run_id)
    file = Path(run.info.artifact_uri.removeprefix("file://")) / "predictions" / "valid.parquet"
    whole = bytearray(file.read_bytes())
    whole[60] ^= 1
    file.write_bytes(whole)
    with pytest.raises(ServiceError, match="damaged"):
        folder.evaluate()


def test_what_cannot_be_promoted_says_why(folder):
    """A run that did not complete, one without test rows, and none at all."""
    saved(folder, numbers())
    folder.train("data.csv", target="y", set={**PLAIN, "split.test": 0.0}, name="untested")
    with pytest.raises(InputError, match="no test rows"):
        folder.promote("untested")
    board = folder.compare()
    with pytest.raises(InputError, match="no complete training run"):
        folder.promote(board.run_id)


def test_features_of_a_row_and_its_id_decide_who_it_is(folder):
    """A named id is stored with the predictions and joins them with a reordered file."""
    frame = numbers().assign(customer=[f"c{i * 3}" for i in range(120)])
    name = saved(folder, frame)
    made = folder.train(name, target="y", set={**PLAIN, "data.id": "customer"})
    table = mlflow_files.table(folder.client, made.run_id, "predictions/valid.parquet")
    assert set(table["row_id"]) <= set(frame["customer"])
    data = tables.prepare(frame, folder_config(customer="customer"))
    assert list(data.row_id) == list(frame["customer"])
    shuffled = table.drop(columns=["target", "fold"]).sample(frac=1, random_state=1)
    shuffled.to_csv(folder.path / "theirs.csv", index=False)
    found = folder.evaluate("theirs.csv").score("log_loss").value
    pooled = -np.log(np.where(table["target"] == "yes", table["probability_yes"],
                              table["probability_no"])).mean()  # fmt: skip
    assert found == pytest.approx(pooled)


def folder_config(customer):
    """The [data] section of the test above."""
    from surefit.sections import DataConfig

    return DataConfig(path="data.csv", target="y", id=customer)
