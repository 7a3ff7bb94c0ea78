"""`surefit evaluate` and `surefit report` on a real store."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import surefit
from surefit.errors import ConfigError, DataError, InputError, UserCodeError

# What MLflow, SQLAlchemy and pandas warn of inside MLflow is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def rows():
    """Three hundred rows with an id, and a column in which the model fails."""
    rng = np.random.default_rng(0)
    x, kind = rng.normal(size=300), rng.choice(["plain", "odd"], 300, p=[0.7, 0.3])
    y = x + rng.normal(size=300) > 0
    y = np.where((kind == "odd") & (rng.random(300) < 0.5), ~y, y)
    return pd.DataFrame(
        {"key": [f"k{i}" for i in range(300)], "x": x, "kind": kind,
         "y": np.where(y, "yes", "no")}
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(rows, tmp_path_factory):
    """A folder with data and one trained run."""
    folder = tmp_path_factory.mktemp("project")
    rows.to_csv(folder / "rows.csv", index=False)
    text = """
        name = "small"
        [data]
        path = "rows.csv"
        target = "y"
        id = "key"
        [split]
        folds = 3
        [model]
        family = "linear"
    """
    (folder / "surefit.toml").write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        surefit.train(quiet=True)
        yield folder


def test_a_run_is_evaluated_from_its_predictions(project, mlflow_at):
    """Scores, slices, baselines and a report come out, and the worst slice is the bad one."""
    found = surefit.evaluate(quiet=True)
    assert found.best_feature == "x"
    assert found.slices[0].column == "kind"
    assert found.slices[0].value == "odd"
    assert found.slices[0].worse
    assert found.left_out == ()
    assert "beats the baseline" in str(found)
    assert {"roc", "calibration", "slices"} <= set(found.figures)


def test_the_run_on_saved_predictions_and_on_a_file_of_them_are_equal(project):
    """A CSV of a run's test predictions scores what the run's own do, and is marked unverified."""
    mine = surefit.evaluate(test=True, quiet=True)
    table = next(project.rglob("predictions/test.parquet"))
    pd.read_parquet(table).to_csv("mine.csv", index=False)
    theirs = surefit.evaluate("mine.csv", quiet=True)
    assert [s.metric for s in theirs.scores] == [s.metric for s in mine.scores]
    for one, other in zip(mine.scores, theirs.scores, strict=True):
        assert (one.value, one.low, one.high) == (other.value, other.low, other.high)
    assert mine.verified
    assert not theirs.verified
    assert mine.look >= 1  # in random order, another test may have looked before


def test_the_run_on_the_model_equals_the_run_on_its_predictions(project, mlflow_at):
    """The model loaded by plain MLflow answers as the stored predictions say, to rounding."""
    trained = surefit.train(quiet=True, name="loaded", register=True)
    stored = surefit.evaluate(trained.run_id, test=True, quiet=True)
    import mlflow

    mlflow_at(f"sqlite:///{project / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model(trained.model_uri)
    data = pd.read_csv("rows.csv")
    sealed = pd.read_parquet(next(project.rglob("predictions/test.parquet")))["row_id"]
    asked = data[data["key"].isin(sealed)].reset_index(drop=True)
    answered = model.predict(asked[["x", "kind"]])
    answered.insert(0, "row_id", asked["key"])
    answered.to_csv("model.csv", index=False)
    loaded = surefit.evaluate("model.csv", quiet=True)
    for one, other in zip(stored.scores, loaded.scores, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-9)


def test_without_the_data_all_but_the_features_is_there(project):
    """Where the data file is gone, predictions are scored all the same, and it is said."""
    before = surefit.evaluate(quiet=True)
    file = project / "rows.csv"
    kept = file.read_bytes()
    file.unlink()
    try:
        found = surefit.evaluate(quiet=True)
    finally:
        file.write_bytes(kept)
    assert found.slices == ()
    assert found.best_feature is None
    assert "slices" in found.left_out[0]
    assert "There is no file rows.csv" in found.left_out[0]
    assert [s.value for s in found.scores] == [s.value for s in before.scores]
    assert found.baseline == pytest.approx(before.baseline, abs=1e-12)


def test_own_metrics_costs_and_thresholds_come_from_the_configuration(project):
    """metric.also, metric.cost and metric.threshold are computed and recorded."""
    (project / "metrics.py").write_text(
        "def share(y_true, y_pred):\n    return float((y_true == 'yes').mean())\n", "utf-8"
    )
    found = surefit.evaluate(
        quiet=True,
        set=["metric.threshold=f1", "metric.cost.yes.no=10", "metric.cost.no.yes=1",
             'metric.also=["metrics.py:share"]'],
    )  # fmt: skip
    assert 0 < found.score("share").value < 1
    assert 0 < found.score("cost").value < 10
    assert 0 < found.threshold < 1


def test_what_a_metric_logs_makes_no_run(project):
    """A metric that talks to MLflow opens no run and no store beside the evaluation's."""
    (project / "metrics.py").write_text(
        "import mlflow\n\n"
        "def share(y_true, y_pred):\n"
        "    mlflow.log_metric('called', 1.0)\n"
        "    return (y_true == 'yes') * 1.0\n", "utf-8"
    )  # fmt: skip
    import mlflow

    made = {p.name for p in project.iterdir()}
    found = surefit.evaluate(quiet=True, set=['metric.also=["metrics.py:share"]'])
    assert 0 < found.score("share").value < 1
    assert mlflow.active_run() is None
    assert {p.name for p in project.iterdir()} == made
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    known = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert found.run_id in {run.info.run_id for run in known}
    assert not [run for run in known if "called" in run.data.metrics]


def test_the_users_failure_shows_the_users_line(project):
    """A metric that fails is told with its file, line and text; a missing one with the nearest."""
    (project / "metrics.py").write_text(
        "def profit(y_true, y_pred):\n    return 1 / (len(y_true) * 0)\n", "utf-8"
    )
    with pytest.raises(
        UserCodeError, match=r"metrics\.py, line 2, in profit: ZeroDivision"
    ) as told:
        surefit.evaluate(quiet=True, set=['metric.also=["metrics.py:profit"]'])
    assert told.value.exit_code == 4
    assert "return 1 / (len(y_true) * 0)" in str(told.value)
    with pytest.raises(ConfigError, match='did you mean "profit"'):
        surefit.evaluate(quiet=True, set=['metric.also=["metrics.py:profits"]'])


def test_a_file_cut_short_is_refused(project):
    """A Parquet file that ends too early is refused, in one line that names it."""
    whole = pd.DataFrame({"row_id": ["k1"], "prediction": ["yes"]})
    whole.to_parquet("whole.parquet")
    content = (project / "whole.parquet").read_bytes()
    (project / "cut.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read") as refused:
        surefit.evaluate("cut.parquet", quiet=True)
    assert "\n" not in refused.value.what


def test_a_report_is_written_to_a_file(project):
    """The newest evaluation of a run goes to a file; where there is none, one is made."""
    surefit.evaluate(quiet=True)
    written = surefit.report(out="page.html", quiet=True)
    html = (project / "page.html").read_text("utf-8")
    assert written.n_bytes < 2_000_000
    for title in ("How good, and how sure", "Where it fails", "The worst rows", "The data",
                  "The model", "How to run it again"):  # fmt: skip
        assert f">{title}</h2>" in html
    fresh = surefit.train(quiet=True, name="fresh")
    made = surefit.report("fresh", out="fresh.html", quiet=True)
    assert made.run_id != fresh.run_id
    with pytest.raises(InputError, match="cannot be written"):
        surefit.report(out="nowhere/page.html", quiet=True)


def test_an_evaluation_names_run_model_and_data(project):
    """The evaluation's run carries the run, the logged model (MLflow's own link) and the data."""
    from mlflow import MlflowClient

    found = surefit.evaluate(quiet=True)
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    run = client.get_run(found.run_id)
    of = client.get_run(run.data.tags["surefit.of"])
    assert run.data.tags["surefit.model"] == of.data.tags["surefit.model"]
    assert [m.model_id for m in run.inputs.model_inputs] == [run.data.tags["surefit.model"]]
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["surefit.data"][:32]


def test_the_report_tells_what_check_found_and_what_the_model_relies_on(project):
    """Findings of `check`, the importances and the overrides of the call are on the page."""
    surefit.check(quiet=True)
    surefit.evaluate(quiet=True, set=["metric.threshold=f1"])
    surefit.report(out="page.html", quiet=True)
    html = (project / "page.html").read_text("utf-8")
    assert ">What check found in the data</h2>" in html
    assert "No check has looked" not in html
    assert "What the model relies on" in html
    assert "--set metric.threshold=f1" in html


def given(project, name="given.csv", **columns):
    """A file of the run's validation predictions, changed."""
    table = pd.read_parquet(next(project.rglob("predictions/valid.parquet")))
    table = table[["row_id", "probability_no", "probability_yes"]].assign(**columns)
    table.to_csv(project / name, index=False)
    return table


def test_one_probability_of_two_is_enough(project):
    """A file with the positive class's probability alone scores as one with both."""
    table = given(project)
    both = surefit.evaluate("given.csv", quiet=True)
    table.drop(columns="probability_no").to_csv("given.csv", index=False)
    one = surefit.evaluate("given.csv", quiet=True)
    assert both.best_feature == one.best_feature == "x"
    assert [s.value for s in one.scores] == pytest.approx([s.value for s in both.scores])


def test_a_column_called_weight_in_a_file_weighs_nothing(project):
    """Rows of somebody's file count by what the data say, whatever else stands in it."""
    table = given(project)
    plain = surefit.evaluate("given.csv", quiet=True)
    table.assign(weight=np.linspace(0, 90, len(table)), group=1).to_csv("given.csv", index=False)
    found = surefit.evaluate("given.csv", quiet=True)
    assert [(s.value, s.low, s.high) for s in found.scores] == [
        (s.value, s.low, s.high) for s in plain.scores
    ]


def test_a_text_that_ends_within_a_number_is_refused(project):
    """A CSV cut within its last number is refused; the same whole, without a last break, is not."""
    given(project)
    content = (project / "given.csv").read_bytes()
    (project / "cut.csv").write_bytes(content.rstrip()[:-9])
    with pytest.raises(DataError, match="looks cut short"):
        surefit.evaluate("cut.csv", quiet=True)
    whole = b"\n".join(line for line in content.splitlines() if len(line) > 30)
    (project / "whole.csv").write_bytes(whole + b"0")
    assert surefit.evaluate("whole.csv", quiet=True).n_rows > 100


def test_quantiles_from_outside_are_scored(tmp_path, monkeypatch):
    """In a regression, predicted quantiles have a pinball loss, and their range a coverage."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    rows = pd.DataFrame({"key": np.arange(200) + 7, "x": x, "y": x + rng.normal(size=200)})
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"row_id": rows["key"], "prediction": x,
                          "quantile_0.1": x - 1.2816, "quantile_0.9": x + 1.2816})  # fmt: skip
    table.to_csv("given.csv", index=False)
    found = surefit.evaluate("given.csv", data=rows, target="y", set=["data.id=key"], quiet=True)
    assert found.score("coverage_0.8").low < 0.8 < found.score("coverage_0.8").high
    assert found.score("pinball_0.1").value > 0
    assert not found.verified


def test_a_notebook_shows_numbers_and_pictures(project):
    """The notebook's view is a table and pictures, and what the user named is escaped."""
    given(project, "<b>.csv")
    found = surefit.evaluate("<b>.csv", quiet=True)
    html = found._repr_html_()
    assert "<td>roc_auc</td>" in html
    assert "&lt;b&gt;.csv" in html
    assert "<b>.csv" not in html
    assert html.count("data:image/png;base64,") == len(found.figures)
    assert found.pictures[0]._repr_png_()[:4] == b"\x89PNG"
    assert found.to_dict()["slices"][0]["column"] == "kind"


def test_calibration_on_request_is_measured_and_kept(project):
    """metric.calibrate gives every metric of cross-fitted probabilities, and these as a table."""
    from mlflow import MlflowClient

    found = surefit.evaluate(quiet=True, set=["metric.calibrate=isotonic"])
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    logged = client.get_run(found.run_id).data.metrics
    table = pd.read_parquet(
        client.download_artifacts(found.run_id, "predictions/calibrated.parquet")
    )
    table.to_csv("calibrated.csv", index=False)
    assert len(table) == found.n_rows
    assert logged["valid_calibrated_log_loss"] != logged["valid_log_loss"]
    again = surefit.evaluate("calibrated.csv", quiet=True)
    assert again.score("brier").value == pytest.approx(logged["valid_calibrated_brier"], abs=0.02)
