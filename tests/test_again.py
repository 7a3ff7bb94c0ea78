"""A recorded run, run again from its record, and written as a script that needs no surefit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import surefit
from surefit.core import script_own
from surefit.edges import runs, store
from surefit.errors import InputError
from test_families_more import QUICK, TARGETS, table, usable

_BLOCKED = """
import runpy, sys
sys.modules["surefit"] = None
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def trained(tmp_path, name: str, task: str, **settings):
    usable(name)
    file = tmp_path / f"{task}.parquet"
    table(task).assign(w=np.linspace(0.5, 3, 240)).to_parquet(file)
    chosen = {"model.family": name, "split.folds": 2, "name": "again", **settings}
    chosen |= {f"model.params.{k}": v for k, v in QUICK[name].items()}
    return surefit.train(str(file), target=TARGETS[task], set=chosen, quiet=True)


@pytest.mark.parametrize(
    ("name", "task", "more"),
    [
        ("lightgbm", "binary", {"data.weight": "w", "model.params.monotone": {"rooms": 1},
                                "model.params.class_weight": [1.0, 2.0]}),
        ("hist", "multiclass", {"model.params.class_weight": "balanced"}),
        ("linear", "binary", {"model.params.class_weight": "balanced", "data.weight": "w"}),
        ("forest", "regression", {"model.params.monotone": {"rooms": 1}}),
        ("xgboost", "multiclass", {"model.params.class_weight": "balanced"}),
        ("catboost", "regression", {"data.weight": "w", "model.params.monotone": {"rooms": 1}}),
        ("mlp", "multiclass", {"data.weight": "w"}),
        ("mlp", "regression", {}),
        ("lightgbm", "regression", {"model.params.log_target": True}),
        ("linear", "regression", {"model.params.log_target": True, "data.weight": "w"}),
    ],
)  # fmt: skip
def test_an_ejected_script_gives_the_stored_predictions_without_surefit(
    name, task, more, tmp_path, monkeypatch
):
    """The script runs where surefit cannot be imported, and predicts the sealed rows the same."""
    monkeypatch.chdir(tmp_path)
    result = trained(tmp_path, name, task, **more)
    ejected_alike(result, tmp_path)
    with pytest.raises(InputError, match="there already"):
        surefit.eject("last", quiet=True)


def ejected_alike(result, tmp_path):
    """Eject the newest run, and hold what its script predicts against what is stored."""
    written = surefit.eject("last", quiet=True)
    script = f"{written.folder}/train.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _BLOCKED, script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    given = pd.read_csv(f"{written.folder}/predictions.csv")
    opened = store.connect(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, "again")
    stored = runs.read_table(opened, result.run_id, "predictions/test.parquet")
    names = [c for c in stored.columns if c.startswith("probability_")] or ["prediction"]
    np.testing.assert_allclose(given[names], stored[names], rtol=0, atol=1e-9)
    same = given["prediction"].astype(stored["prediction"].dtype)
    assert list(same) == pytest.approx(list(stored["prediction"]))


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz"])
def test_an_ejected_script_reads_cells_and_names_as_training_did(ending, tmp_path, monkeypatch):
    """Days before months, decimal commas, digits that are text in JSON, a target with a gap, and
    names that scikit-learn or Python would stumble over."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 360, 240), "D")
    price = rng.integers(10, 99, 240) / 10
    made = pd.DataFrame({
        'visit__"first"': day.strftime("%d/%m/%Y"),
        "price": [str(p).replace(".", ",") for p in price],
        "zip": rng.choice(["01234", "00321", "98765"], 240),
    })  # fmt: skip
    label = (day.month + price + rng.normal(size=240) > 12).astype(int)
    made["y"] = label if ending == "csv" else label.astype(str)
    made["y"] = made["y"].astype(object).where(made.index != 5, None)
    if ending == "csv":
        made.to_csv("t.csv", index=False)
    else:
        made.to_json("t.jsonl.gz", orient="records", lines=True)
    settings = {"model.family": "linear", "split.folds": 2, "name": "again"}
    ejected_alike(surefit.train(f"t.{ending}", target="y", set=settings, quiet=True), tmp_path)


def test_a_script_refuses_another_file_and_a_run_finds_its_own(tmp_path, monkeypatch):
    """Rows are taken by number, so the script notices a changed file; data that moved are named."""
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "linear", "binary")
    file = tmp_path / "binary.parquet"
    folder = surefit.eject("last", quiet=True).folder
    kept = file.rename(tmp_path / "kept.parquet")
    there = {"data.path": "kept.parquet"}
    assert surefit.reproduce("last", set=there, quiet=True).verdict == "IDENTICAL"
    moved = surefit.eject("last", "moved", set=there, quiet=True).folder
    for where, code in ((moved, 0), (folder, 1)):
        if code:
            pd.read_parquet(kept).iloc[::-1].to_parquet(file)
        run = [sys.executable, "-W", "ignore", f"{where}/train.py"]
        done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == code, done.stderr[-2000:]
    assert "is not the file of this run" in done.stderr
    with pytest.raises(InputError, match=r"without model\.family"):
        surefit.reproduce("last", set={"model.family": "forest"}, quiet=True)


def test_data_that_moved_leave_a_nameless_project_its_name(tmp_path, monkeypatch):
    """A project called after its table keeps its runs when the table is elsewhere; ~ is a home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    table("binary").to_csv("shop.csv", index=False)
    (tmp_path / "surefit.toml").write_text(
        '[data]\npath = "shop.csv"\ntarget = "bought"\n[model]\nfamily = "linear"\n'
    )
    run = surefit.train(quiet=True).run_id
    (tmp_path / "shop.csv").rename(tmp_path / "there.csv")
    moved = ["data.path=~/there.csv", "data.target=bought"]
    assert surefit.reproduce(run[:8], set=moved, quiet=True).verdict == "IDENTICAL"
    folder = Path(surefit.eject(run[:8], set=moved, quiet=True).folder)
    assert "there.csv" in (folder / "train.py").read_text()
    with pytest.raises(InputError, match="predicts bought"):
        surefit.reproduce(run[:8], set=["data.target=rooms"], quiet=True)


BUILD = """
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
import beside
import surefit as sf

def build(params):
    return make_pipeline(
        sf.preprocess(), beside.Same(), RandomForestClassifier(params.trees, max_depth=4)
    )
"""
TRAIN = """
import numpy as np
import surefit

def train(ctx):
    steps = surefit.preprocess(scale=True).fit(ctx.train.X)
    (X, y), (V, v) = ctx.train.arrays(steps), ctx.valid.arrays(steps)
    start = np.random.normal(size=X.shape[1]) * ctx.params.spread
    for epoch, state in ctx.epochs(30, state={"w": start}, patience=3):
        sums = 1 / (1 + np.exp(-X @ state["w"]))
        state["w"] -= ctx.params.rate * X.T @ ((sums - y) * ctx.train.weight) / len(y)
        p = np.clip(1 / (1 + np.exp(-V @ state["w"])), 1e-9, 1 - 1e-9)
        ctx.log(valid_loss=-np.mean(v * np.log(p) + (1 - v) * np.log(1 - p)))
    w = state["w"].copy()
    return lambda frame: 1 / (1 + np.exp(-np.asarray(steps.transform(frame)) @ w))
"""
BESIDE = """
from sklearn.base import BaseEstimator

class Same(BaseEstimator):
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return X
"""
WHOSE = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
print(sys.modules["surefit"].__file__, *(m for m in sys.modules if m.startswith("surefit.")))
"""


@pytest.mark.parametrize(("kind", "source"), [("build", BUILD), ("train", TRAIN)])
def test_an_ejected_model_of_ones_own_predicts_the_same_without_surefit(
    kind, source, tmp_path, monkeypatch
):
    """The files are copied, with the one function of surefit that they use in plain skrub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(source)
    (tmp_path / "beside.py").write_text(BESIDE)
    table("binary").assign(w=np.linspace(0.5, 3, 240)).to_parquet("t.parquet")
    settings = {f"model.{kind}": f"model.py:{kind}", "split.folds": 2, "name": "again",
                "model.params.trees": 10, "model.params.spread": 0.1, "model.params.rate": 0.3,
                "data.weight": "w" if kind == "train" else None}  # fmt: skip
    given = {k: v for k, v in settings.items() if v is not None}
    result = surefit.train("t.parquet", target="bought", set=given, quiet=True)
    folder = surefit.eject("last", quiet=True).folder
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WHOSE, f"{folder}/train.py"], capture_output=True,
        text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"{folder}/code/surefit.py"
    told = pd.read_csv(f"{folder}/predictions.csv")
    opened = store.connect(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, "again")
    stored = runs.read_table(opened, result.run_id, "predictions/test.parquet")
    names = [c for c in stored.columns if c.startswith("probability_")]
    np.testing.assert_allclose(told[names], stored[names], rtol=0, atol=1e-12)
    (tmp_path / "model.py").write_text(source + "# changed")
    with pytest.raises(InputError, match="has changed since"):
        surefit.eject("last", "elsewhere", quiet=True)


def test_code_that_needs_more_of_surefit_is_not_ejected():
    """What cannot be written in plain libraries is named."""
    assert script_own.plain({"model.py": "import numpy"}) == ""
    for text in ("import surefit as s\ns.train()", "from surefit import train",
                 "import surefit.core.metrics", "from surefit.core import metrics"):  # fmt: skip
        with pytest.raises(InputError, match="cannot do without surefit"):
            script_own.plain({"model.py": text})


def test_a_failed_trial_cannot_be_compared_and_says_why_it_failed(folder):
    """A trial without a score is refused with the reason of its failure, not by a traceback."""
    chosen = {"model.family": "linear", "split.folds": 2, "tune.space": {"C": [-1.0, 1.0]}}
    folder.tune("sklearn:iris", target="target", trials=2, method="grid", set=chosen)
    (failed,) = folder.runs("tags.`surefit.state` = 'FAILED'")
    with pytest.raises(InputError, match=r"trial . failed, and has no score .* in the range"):
        folder.reproduce(failed.info.run_id)


@pytest.mark.parametrize("name", ["lightgbm", "forest", "linear", "hist"])
def test_a_run_on_the_same_machine_is_identical(name, tmp_path, monkeypatch):
    """The same code, data and environment give every prediction again, bit for bit."""
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, name, "binary")
    again = surefit.reproduce("last", quiet=True)
    assert again.verdict == "IDENTICAL"
    assert again.apart == 0


def test_a_search_and_its_trials_are_identical_until_something_changes(tmp_path, monkeypatch):
    """Every trial again with its score to the last bit, and the winner's predictions; or named."""
    monkeypatch.chdir(tmp_path)
    table("binary").to_parquet("t.parquet")
    space = {"tune.space.C": "log 0.01..10"}
    settings = {"model.family": "linear", "split.folds": 2, "name": "again", **space}
    result = surefit.tune("t.parquet", target="bought", set=settings, trials=3, quiet=True)
    whole = surefit.reproduce("last", quiet=True)
    assert (whole.verdict, whole.apart, whole.differs) == ("IDENTICAL", 0, ())
    opened = store.connect(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, "again")
    where = f"tags.`mlflow.parentRunId` = '{result.run_id}'"
    trial = next(r for r in runs.search(opened, where) if r.tags["surefit.trial"] == "1")
    one = surefit.reproduce(trial.run_id, quiet=True)
    assert (one.verdict, one.apart) == ("IDENTICAL", 0)
    assert one.subject == trial.run_id
    assert one.score == pytest.approx(result.trials[1].value)
    frame = table("binary")
    frame.loc[:20, "rooms"] += 1
    frame.to_parquet("t.parquet")
    other = surefit.reproduce(result.run_id, quiet=True)
    assert other.verdict in ("WITHIN NOISE", "DIFFERENT")
    assert any(d.startswith("data:") for d in other.differs)
    if other.score is not None:
        assert any(d.startswith("trial 0: COMPLETE") for d in other.differs)


def test_changed_data_are_named_and_are_different(tmp_path, monkeypatch):
    """A table that changed since the run is told apart by its digest."""
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "linear", "binary")
    table("binary", 200).to_parquet(tmp_path / "binary.parquet")
    again = surefit.reproduce("last", quiet=True)
    assert again.verdict == "DIFFERENT"
    assert any(d.startswith("data:") for d in again.differs)


def test_a_changed_own_model_is_named_and_judged_by_the_noise_of_three_seeds(tmp_path, monkeypatch):
    """Another learning rate in the user's file is a difference of code, with the noise measured."""
    monkeypatch.chdir(tmp_path)
    code = (
        "from sklearn.ensemble import RandomForestClassifier\n"
        "from sklearn.pipeline import make_pipeline\nimport surefit\n"
        "def build(params):\n    forest = RandomForestClassifier(DEPTH)\n"
        "    return make_pipeline(surefit.preprocess(), forest)\n"
    )
    (tmp_path / "model.py").write_text(code.replace("DEPTH", "10"))
    table("binary").to_parquet(tmp_path / "t.parquet")
    settings = {"model.build": "model.py:build", "split.folds": 2}
    surefit.train("t.parquet", target="bought", set=settings, quiet=True)
    assert surefit.reproduce("last", quiet=True).verdict == "IDENTICAL"
    (tmp_path / "model.py").write_text(code.replace("DEPTH", "11"))
    again = surefit.reproduce("last", quiet=True)
    assert again.verdict in ("WITHIN NOISE", "DIFFERENT")
    assert again.noise is not None
    assert any(d.startswith("your model's code") for d in again.differs)


def test_a_filtered_frame_in_parquet_goes_all_the_way(tmp_path, monkeypatch):
    """Its index is no feature, its zone no obstacle; rows without a target keep the file's numbers:
    the file is scored, its predictions are evaluated, and the ejected script reads it too."""
    monkeypatch.chdir(tmp_path)
    made = table("binary").assign(day=pd.date_range("2024-01-01", periods=240, tz="Europe/Berlin"))
    made.loc[made.index[::9], "bought"] = None
    made.iloc[20:].to_parquet("shop.parquet")
    settings = {"model.family": "linear", "split.folds": 2}
    run = surefit.train("shop.parquet", target="bought", set=settings, quiet=True)
    assert f"{made.shape[1] - 1} features" in run.data
    scored = surefit.predict("shop.parquet", out="all.parquet", model=run.run_id, quiet=True)
    assert scored.n_rows == 220
    stored = pd.read_parquet("all.parquet")
    evaluated = surefit.evaluate("all.parquet", quiet=True)
    assert evaluated.n_rows == made.iloc[20:]["bought"].notna().sum()
    folder = Path(surefit.eject(run.run_id, quiet=True).folder)
    script = [sys.executable, "-W", "ignore", str(folder / "train.py")]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(stored) == 220
