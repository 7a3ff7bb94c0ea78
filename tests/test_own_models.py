"""The user's own functions: build(params), and train(ctx) with a loop of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fresh
import surefit
from surefit.edges import checkpoints, named, project, scratch
from surefit.edges.loop import Part
from surefit.errors import ConfigError, UserCodeError
from surefit.models.params import Params

PIPELINE = """
    import surefit
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def build(params):
        model = LogisticRegression(C=params.c, max_iter=300)
        return make_pipeline(surefit.preprocess(scale=True), model)
"""
CLASS = """
    import numpy as np
    import beside

    class Nearest:
        def __init__(self, params):
            self.params = params
        def fit(self, X, y):
            self.columns = beside.numbers(X)
            self.labels = np.unique(y)
            self.centres = np.stack([X[self.columns][y == k].mean() for k in self.labels])
            return self
        def predict(self, X):
            gaps = X[self.columns].to_numpy()[:, None] - self.centres[None]
            return self.labels[(gaps**2).sum(axis=2).argmin(axis=1) * self.params.one]

    def build(params):
        return Nearest(params)
"""
BESIDE = "def numbers(X):\n    return list(X.select_dtypes('number').columns)\n"
LOOP = """
    import os, signal
    import numpy as np

    class Net:
        def __init__(self, n, k, columns):
            self.w, self.columns = np.zeros((n, k)), columns
            self.mean, self.std = 0.0, 1.0
        def matrix(self, X):
            return (X[self.columns].to_numpy() - self.mean) / self.std
        def predict_proba(self, X):
            raw = np.exp(self.matrix(X) @ self.w)
            return raw / raw.sum(axis=1, keepdims=True)

    def train(ctx):
        columns = list(ctx.train.X.columns)
        net = Net(len(columns), len(ctx.classes), columns)
        net.mean, net.std = ctx.train.X.mean().to_numpy(), ctx.train.X.std().to_numpy()
        loss = lambda part: -np.log(net.predict_proba(part.X)[np.arange(len(part)), part.y]).mean()
        for epoch, state in ctx.epochs(ctx.params.epochs, state={"w": net.w}, patience=None):
            X, y = net.matrix(ctx.train.X), np.eye(len(ctx.classes))[ctx.train.y]
            noise = np.random.normal(size=net.w.shape) * 0.01
            net.w -= 0.1 * X.T @ (net.predict_proba(ctx.train.X) - y) / len(y) + noise
            ctx.log(train_loss=loss(ctx.train), valid_loss=loss(ctx.valid), size=abs(net.w).sum())
            if os.environ.get("SLOWLY"):
                import time; time.sleep(0.2)
        return net
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from sklearn.datasets import load_iris

    frame = load_iris(as_frame=True).frame.rename(columns={"target": "kind"})
    frame["kind"] = frame["kind"].map({0: "a", 1: "b", 2: "c"})
    frame["colour"] = np.where(frame["petal width (cm)"] > 1, "red", "blue")
    frame.to_parquet(tmp_path / "iris.parquet")
    (tmp_path / "beside.py").write_text(BESIDE)
    return tmp_path


def loaded(place: str, root: Path) -> project.UserCode:
    """The user's function, as a verb loads it."""
    return project.load(place, root, scratch.at_import(root, place))


def write(folder: Path, source: str) -> None:
    (folder / "model.py").write_text(textwrap.dedent(source))


def trained(*, quiet=True, **chosen):
    settings = {f"model.{k.replace('__', '.')}": v for k, v in chosen.items()}
    settings |= {"split.folds": 3, "data.drop": chosen.pop("drop", [])}
    settings.pop("model.drop", None)
    return surefit.train("iris.parquet", target="kind", set=settings, quiet=quiet)


def apart_from_stored(folder: Path, result) -> float:
    return fresh.furthest(
        folder, (result.run_id, result.model_uri, folder / "iris.parquet", "kind")
    )


def tags(folder: Path, run_id: str):
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_run(run_id)


def test_a_pipeline_is_saved_without_a_pickle_and_answers_the_same_in_plain_mlflow(folder):
    """A pipeline of reviewed types is a skops file, and its labels are the user's."""
    write(folder, PIPELINE)
    result = trained(build="model.py:build", params__c=1.0)
    assert result.score.value < 0.6
    assert tags(folder, result.run_id).data.tags["surefit.pickle"] == "false"
    apart = apart_from_stored(folder, result)
    assert apart < 1e-12


def test_an_own_class_travels_with_its_code_and_says_that_it_is_a_pickle(folder, capsys):
    """A class in the user's file loads where neither the file nor surefit is at hand."""
    write(folder, CLASS)
    settings = {"model.build": "model.py:build", "model.params.one": 1, "split.folds": 3}
    result = surefit.train("iris.parquet", target="kind", set=settings)
    assert "pickle" in capsys.readouterr().err
    assert tags(folder, result.run_id).data.tags["surefit.pickle"] == "true"
    rows = pd.read_parquet("iris.parquet").drop(columns="kind")
    rows.to_parquet("new.parquet")
    surefit.predict("new.parquet", out="out.parquet", model=result.run_id, quiet=True)
    assert set(pd.read_parquet("out.parquet")["prediction"]) == {"a", "b", "c"}
    (folder / "beside.py").unlink()
    apart = apart_from_stored(folder, result)
    assert apart == 0


SKORCH = """
    import numpy as np
    import surefit
    import torch
    from skorch import NeuralNetClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.hidden, self.out = torch.nn.LazyLinear(width), torch.nn.Linear(width, 3)
        def forward(self, X):
            return torch.softmax(self.out(torch.relu(self.hidden(X))), dim=1)

    def single(X):
        return np.asarray(X, dtype="float32")

    def build(params):
        net = NeuralNetClassifier(
            Net, module__width=params.width, max_epochs=5, lr=0.1, verbose=0
        )
        return make_pipeline(surefit.preprocess(scale=True), FunctionTransformer(single), net)
"""


def test_a_skorch_net_in_a_pipeline_trains_saves_and_loads_without_its_file(folder):
    """Its state is a pickle in the pickle, which names the user's class; that is carried too."""
    pytest.importorskip("skorch")
    write(folder, SKORCH)
    result = trained(build="model.py:build", labels="codes", params__width=8)
    assert apart_from_stored(folder, result) == 0


def test_what_a_pickle_inside_a_pickle_names_is_found(folder):
    """Of the user's module the class that the inner pickle asks for, and nothing else."""
    import pickle

    write(folder, "class Part:\n    pass\n\nclass Other(Part):\n    pass\n\nbuild = Part")
    module = project.own_modules(Path(loaded("model.py:build", folder).folder))[0]
    inner = pickle.dumps(module.Part())
    outer = pickle.dumps(Holding(inner))
    assert named.asked_for(outer, [module]) == {"model": {"Part": module.Part}}
    assert sys.modules["model"] is module


class Holding:
    """Holds a pickle as its state, as nets of skorch do."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __setstate__(self, state: dict) -> None:
        import pickle

        self.part = pickle.loads(state["data"])


def test_a_module_of_the_same_name_is_each_projects_own(folder):
    """Of two projects in one process each carries its own beside.py, also one imported late."""
    late = CLASS.replace("    import beside\n", "").replace(
        "self.columns =", "import beside; self.columns ="
    )
    for name in ("first", "second", "first"):
        place = folder / name
        place.mkdir(exist_ok=True)
        (place / "beside.py").write_text(f"NAME = {name!r}\n" + BESIDE)
        (place / "model.py").write_text(textwrap.dedent(CLASS))
        found = loaded("model.py:build", place)
        carried = found.load().__globals__["beside"]
        assert name == carried.NAME
        (place / "model.py").write_text(textwrap.dedent(late))
        lazy = loaded("model.py:build", place)
        assert set(lazy.files) == {"beside.py", "model.py"}


def test_a_search_over_an_own_model_starts_anew_when_its_code_changes(folder):
    """The digest of the user's source is part of a search's fingerprint."""
    write(folder, PIPELINE)
    settings = {"model.build": "model.py:build", "split.folds": 2, "tune.space.c": "log 0.01..1"}
    first = surefit.tune("iris.parquet", target="kind", set=settings, trials=2, quiet=True)
    again = surefit.tune("iris.parquet", target="kind", set=settings, trials=2, quiet=True)
    assert again.resumed == 2
    assert again.run_id == first.run_id
    write(folder, PIPELINE.replace("300", "301"))
    changed = surefit.tune("iris.parquet", target="kind", set=settings, trials=2, quiet=True)
    assert changed.resumed == 0


def test_a_mistake_in_the_users_code_shows_the_users_line_first(folder):
    """The message begins with file, line and function, and then the line itself."""
    write(folder, PIPELINE.replace("params.c,", "params.see,"))
    with pytest.raises(UserCodeError) as caught:
        trained(build="model.py:build", params__c=1.0)
    first, second = str(caught.value).splitlines()[:2]
    assert first.startswith("model.py, line 7, in build: AttributeError")
    assert "params.see" in second
    assert caught.value.exit_code == 4


def test_a_mistake_on_import_shows_the_users_line_too(folder):
    """A file that does not parse, or raises as it is imported, names the line."""
    write(folder, "def build(params:\n    pass")
    with pytest.raises(UserCodeError, match=r"model.py, line 1: SyntaxError"):
        loaded("model.py:build", folder)
    write(folder, "x = 1 / 0")
    with pytest.raises(UserCodeError, match=r"model.py, line 1, in <module>: ZeroDivisionError"):
        loaded("model.py:build", folder)


def test_leaving_python_is_a_mistake_of_the_users_code(folder):
    """`sys.exit(0)`, as a file is imported or in a fit, is told as any mistake; the run FAILED."""
    write(folder, "import sys\nsys.exit(0)")
    with pytest.raises(UserCodeError, match=r"model.py, line 2, in <module>: SystemExit"):
        loaded("model.py:build", folder)
    write(folder, LOOP.replace("return net", "raise SystemExit(0)"))
    with pytest.raises(UserCodeError, match="SystemExit") as caught:
        trained(train="model.py:train", params__epochs=1, drop=["colour"])
    assert caught.value.exit_code == 4


def test_pythons_own_files_are_never_the_users():
    """Where Python itself lies under the project's folder, only the user's sources are theirs."""
    own = project.own_modules(Path(json.__file__).parents[-1])
    assert own  # these tests
    assert not [m.__name__ for m in own if m.__name__.partition(".")[0] in sys.stdlib_module_names]
    assert {Path(str(m.__file__)).suffix for m in own} == {".py"}


def test_a_name_that_mlflow_refuses_is_told_where_it_is_logged(folder):
    """The first `ctx.log` says which character is wrong, and a name that would do."""
    write(folder, LOOP.replace("valid), size=", 'valid), **{"recall@10": 1.0}, size='))
    with pytest.raises(
        UserCodeError, match='no "@" in the name "recall@10"; log it as "recall_10"'
    ):
        trained(train="model.py:train", params__epochs=2, drop=["colour"])


def test_a_wrong_place_names_the_nearest(folder):
    """A misspelled file or function is answered with the one that exists."""
    write(folder, PIPELINE)
    with pytest.raises(ConfigError, match=r'did you mean "model.py"'):
        loaded("modell.py:build", folder)
    with pytest.raises(ConfigError, match=r'did you mean "build"'):
        loaded("model.py:biuld", folder)


def test_a_model_that_holds_the_context_is_refused(folder):
    """A model that needs surefit to load is a mistake that is told at training."""
    write(folder, LOOP.replace("return net", "net.ctx = ctx; return net"))
    with pytest.raises(UserCodeError, match="holds something of surefit"):
        trained(train="model.py:train", params__epochs=2, drop=["colour"])


def test_a_loop_learns_logs_and_loads_in_plain_mlflow(folder):
    """An own loop gives step curves, own numbers by step, and a model that answers alone."""
    write(folder, LOOP)
    result = trained(train="model.py:train", params__epochs=60, drop=["colour"])
    assert result.score.value < 0.6
    run = tags(folder, result.run_id)
    assert {"train_loss", "valid_loss", "fold_0_size"} <= set(run.data.metrics)
    apart = apart_from_stored(folder, result)
    assert apart < 1e-12
    assert not list((folder / checkpoints.FOLDER).glob("*/*"))


def test_a_loop_killed_in_mid_training_goes_on_to_the_same_result(folder):
    """kill -9 between two checkpoints, and the same command again: the undisturbed numbers."""
    write(folder, LOOP)
    arguments = {"train": "model.py:train", "params__epochs": 12, "drop": ["colour"]}
    settings = [f"--set=model.{k.replace('__', '.')}={v}" for k, v in arguments.items()
                if k != "drop"]  # fmt: skip
    command = [sys.executable, "-m", "surefit", "train", "iris.parquet", "--target", "kind",
               "--set=split.folds=3", '--set=data.drop=["colour"]', *settings]  # fmt: skip
    process = subprocess.Popen(
        command, env={**os.environ, "SLOWLY": "1"}, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while not list((folder / checkpoints.FOLDER).glob("*/*.ckpt")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = list((folder / checkpoints.FOLDER).glob("*/*.ckpt"))
    assert kept
    resumed = trained(**arguments)
    undisturbed = trained(**arguments)
    assert resumed.fold_scores == undisturbed.fold_scores
    assert resumed.score.value == undisturbed.score.value


NET = """
    import torch

    class Net:
        def __init__(self, n, k):
            self.layers = torch.nn.Linear(n, k)
        def predict_proba(self, frame):
            with torch.no_grad():
                X = torch.tensor(frame.to_numpy("float32"))
                return torch.softmax(self.layers(X).double(), dim=1).numpy()

    def train(ctx):
        X, y = ctx.train.tensors()
        net = Net(X.shape[1], len(ctx.classes))
        optimizer = torch.optim.Adam(net.layers.parameters(), lr=0.05)
        for epoch, state in ctx.epochs(ctx.params.epochs, state={"net": net.layers}):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net.layers(X), y)
            loss.backward()
            optimizer.step()
            ctx.log(train_loss=float(loss.detach()))
        return net
"""


def test_a_model_that_is_not_on_the_cpu_says_what_it_needs(folder, capsys):
    """Tensors on another device are named in the run; those on the CPU need nothing."""
    pytest.importorskip("torch")
    arguments = {"train": "model.py:train", "params__epochs": 3, "drop": ["colour"]}
    write(folder, NET)
    assert "surefit.device" not in tags(folder, trained(**arguments).run_id).data.tags
    away = "k)\n            self.spare = torch.empty(2, device='meta')\n"
    write(folder, NET.replace("k)\n", away, 1))
    capsys.readouterr()
    result = trained(**arguments, quiet=False)
    assert tags(folder, result.run_id).data.tags["surefit.device"] == "meta"
    assert "its tensors are on meta" in capsys.readouterr().err


STEEP = """
    import numpy as np

    class Line:
        def __init__(self, w):
            self.w = w
        def predict(self, X):
            return X.to_numpy() @ self.w

    def train(ctx):
        X, y = ctx.train.arrays()
        Xv, yv = ctx.valid.arrays()
        line = Line(np.zeros(X.shape[1]))
        for epoch, state in ctx.epochs(12, state={"w": line.w}):
            line.w -= ctx.params.rate * X.T @ (X @ line.w - y) / len(y)
            ctx.log(valid_loss=((Xv @ line.w - yv) ** 2).mean())
        return line
"""


def test_a_loop_that_is_behind_is_given_up_in_a_search_whatever_the_workers(folder):
    """Trials are PRUNED in mid-training with the epoch named, the same ones on 1 and 2 workers."""
    write(folder, STEEP)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=["a", "b", "c"])
    frame["y"] = frame.to_numpy() @ [1.0, 2.0, 3.0] + rng.normal(size=300)
    frame.to_parquet(folder / "line.parquet")
    settings = {"model.train": "model.py:train", "split.folds": 2, "tune.window": 2,
                "tune.space.rate": "log 0.001..0.5", "tune.method": "random"}  # fmt: skip
    tables = []
    for workers in (1, 2):
        more = {"tune.workers": workers, "name": f"w{workers}"}
        found = surefit.tune("line.parquet", target="y", set=settings | more, trials=14, quiet=True)
        tables.append([(t.state, t.value, t.reason) for t in found.trials])
    assert tables[0] == tables[1]
    given_up = [reason for state, _, reason in tables[0] if state == "PRUNED"]
    assert given_up
    assert all(reason.startswith("behind after epoch") for reason in given_up)
    assert tables[0][4][0] == "COMPLETE"


def test_a_loops_rows_come_as_arrays_and_tensors_too():
    """Number columns as they are; others by a transformer that was fitted on the training rows."""
    torch = pytest.importorskip("torch")
    frame = pd.DataFrame({"n": [1, 2, 3], "s": ["a", "b", "a"]})
    part = Part(X=frame[["n"]], y=np.array([0, 1, 1]))
    X, y = part.tensors()
    assert (X.dtype, y.dtype) == (torch.float32, torch.int64)
    assert X.tolist() == [[1.0], [2.0], [3.0]]
    assert Part(X=frame[["n"]], y=np.array([0.5, 1, 1])).tensors()[1].dtype == torch.float32
    mixed = Part(X=frame, y=part.y)
    with pytest.raises(ValueError, match="no numbers: s; give arrays"):
        mixed.arrays()
    prepared = surefit.preprocess(scale=True).fit(frame)
    assert mixed.arrays(prepared)[0].shape[0] == 3
    assert np.isfinite(mixed.arrays(prepared)[0]).all()


def test_a_loop_in_pytorch_travels_learns_and_is_saved(folder):
    """torch at the top of the file and ctx.classes in the loop are carried to workers and model."""
    pytest.importorskip("torch")
    write(folder, NET)
    found = loaded("model.py:train", folder)
    assert found.load().__globals__["torch"] is sys.modules["torch"]
    result = trained(train="model.py:train", params__epochs=4, drop=["colour"])
    assert apart_from_stored(folder, result) < 1e-9


def test_a_torn_checkpoint_counts_as_none(tmp_path):
    """A checkpoint whose bytes are not those written is ignored, never loaded."""
    kept = checkpoints.at(tmp_path, "x").of("job")
    kept.write({"done": 3})
    assert kept.read() == {"done": 3}
    kept.file.write_bytes(kept.file.read_bytes()[:-1])
    assert kept.read() is None


def test_params_are_attributes_and_a_mapping():
    """A missing one names the nearest, as attribute and as key."""
    params = Params(learning_rate=0.1)
    assert params.learning_rate == params["learning_rate"] == 0.1
    with pytest.raises(AttributeError, match='did you mean "learning_rate"'):
        params.learning_rat  # noqa: B018
    with pytest.raises(KeyError, match="learning_rate"):
        params["learning_rat"]
    assert params.get("other") is None


def test_no_file_beside_the_users_hides_a_library(folder):
    """The user's folder comes last on the import path."""
    write(folder, "import csv\n\ndef build(params):\n    return csv.reader\n")
    (folder / "csv.py").write_text("raise ImportError('the wrong csv')")
    assert loaded("model.py:build", folder).load()(None)


def test_the_given_view_is_the_same_in_training_and_serving():
    """Types are fixed by the column, not by what a batch happens to hold."""
    from surefit.core.portable import as_given

    columns = [{"name": "n", "dtype": "long"}, {"name": "s", "dtype": "string"}]
    view = as_given(pd.DataFrame({"s": ["a", None], "n": [1, 2], "more": 0}), columns)
    assert list(view.columns) == ["n", "s"]
    assert view["n"].dtype == "int64"
    assert view["s"].isna().tolist() == [False, True]
