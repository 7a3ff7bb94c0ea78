"""Searching a function of the user's own: hostile ones fail alone, and nothing is run twice."""

from __future__ import annotations

import copy
import ctypes
import functools
import html
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefit
from surefit import config as configuration
from surefit.core.context import Context
from surefit.edges import identity, runs, scratch
from surefit.edges.cores import usable_cores
from surefit.edges.runs import Run
from surefit.errors import ConfigError, InputError, ServiceError, UserCodeError
from surefit.verbs import searches, workspace
from surefit.verbs.objective import _search, libraries, source_of

SPACE = {"x": "0..1", "kind": ["a", "b"]}


def parabola(params: dict[str, Any], context: Context) -> float:
    for step in range(3):
        context.log(step=step, loss=params["x"] / (step + 1))
    return float(-((params["x"] - 0.3) ** 2))


def hostile(params: dict[str, Any], context: Context) -> Any:
    """Behaves as `kind` says; "fine" gives a number."""
    kind = params["kind"]
    if kind == "raise":
        print("first words")
        raise ValueError("no luck")
    if kind == "exit":
        sys.exit(0)
    if kind == "die":
        os._exit(3)
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "memory":
        raise MemoryError
    if kind == "hang":
        time.sleep(60)
    if kind == "flood":
        print("x" * 5_000_000)
    given = {"none": None, "text": "0.5", "nan": float("nan"), "inf": float("inf"), "bool": True}
    return given.get(kind, 0.5)


KINDS = ["raise", "exit", "die", "segfault", "memory", "hang", "none", "text", "nan", "inf",
         "bool", "flood", "fine"]  # fmt: skip


JOB = "surefit.verbs.objective_job"


def test_workers_have_the_libraries_that_an_objective_imports() -> None:
    """Imports anywhere in its file count, of libraries that may be imported before a fork."""
    source = "import pandas as pd, torch\ndef f(p, c):\n    from sklearn.tree import export_text\n"
    assert libraries(source) == ("numpy", "pandas", "sklearn.tree", JOB)
    assert libraries("    def indented(p, c):") == ("numpy", JOB)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trial_runs(folder: Path, experiment: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    return list(
        client.search_runs([found.experiment_id], "tags.`surefit.kind` = 'trial'", max_results=1000)
    )


def test_each_trial_is_a_nested_run_with_what_it_logged(folder: Path) -> None:
    """A searched function leaves one nested run a trial, with its value and its step curve."""
    result = surefit.tune(parabola, SPACE, trials=12, quiet=True)
    runs = trial_runs(folder, "parabola")
    assert len(runs) == 12
    assert {r.data.tags["mlflow.parentRunId"] for r in runs} == {result.run_id}
    best = next(r for r in runs if r.data.tags["surefit.trial"] == str(result.best.number))
    assert best.data.metrics["objective"] == result.best.value == result.score.value
    assert best.data.params["x"] == json.dumps(result.best.params["x"])
    assert best.data.metrics["loss"] == pytest.approx(result.best.params["x"] / 3)
    assert abs(result.best.params["x"] - 0.3) < 0.2


def test_the_same_call_again_runs_nothing_and_more_trials_extend(folder: Path) -> None:
    """A finished search is given again from its journal, and a longer one begins with it."""
    first = surefit.tune(parabola, SPACE, trials=6, quiet=True)
    again = surefit.tune(parabola, SPACE, trials=6, quiet=True)
    longer = surefit.tune(parabola, SPACE, trials=9, quiet=True, set={"tune.workers": 1})
    assert again.trials == first.trials
    assert longer.trials[:6] == first.trials
    assert again.run_id == first.run_id == longer.run_id
    assert len(trial_runs(folder, "parabola")) == 9


def diverging(params: dict[str, Any], context: Context) -> float:
    """A loop whose loss is no number for a while."""
    context.log(loss=float("nan") if params["x"] < 0.5 else 0.1)
    context.log(loss=float("inf"))
    return float(params["x"])


def test_a_loss_that_is_no_number_does_not_end_the_search(folder: Path) -> None:
    """What cannot be recorded as a number is left out of the trial's run; the rest is there."""
    result = surefit.tune(diverging, {"x": "0..1"}, trials=8, quiet=True)
    assert result.count("COMPLETE") == 8
    logged = [r for r in trial_runs(folder, "diverging") if "loss" in r.data.metrics]
    assert 0 < len(logged) < 8
    assert {r.data.metrics["loss"] for r in logged} == {0.1}


def test_hostile_objectives_fail_alone_with_a_reason(folder: Path) -> None:
    """What raises, exits, dies, hangs or returns no number is FAILED; the others go on."""
    result = surefit.tune(
        hostile, {"kind": KINDS}, method="grid", trials=50, set={"tune.deadline": 3.0}, quiet=True
    )
    state = {t.params["kind"]: t.state for t in result.trials}
    reason = {t.params["kind"]: t.reason for t in result.trials}
    assert {k for k, s in state.items() if s == "COMPLETE"} == {"fine", "flood"}
    assert set(state) == set(KINDS)
    assert "no luck" in reason["raise"]
    assert "SIGSEGV" in reason["segfault"]
    assert "3" in reason["die"]
    assert "3.0 s" in reason["hang"]
    assert "None" in reason["none"]
    runs = trial_runs(folder, "hostile")
    assert len(runs) == len(KINDS)
    assert {r.info.status for r in runs} == {"FINISHED", "FAILED"}
    raised = next(r for r in runs if r.data.tags.get("surefit.reason") == "ValueError: no luck")
    assert 'raise ValueError("no luck")' in raised.data.tags["surefit.error"]
    assert raised.data.tags["surefit.error"].endswith("first words")
    assert "1 failed: ValueError: no luck" in str(result)
    assert "failed for other reasons" in str(result)


def test_minimize_goes_down(folder: Path) -> None:
    """With direction "minimize" the smallest value is the best."""
    result = surefit.tune(
        lambda params, context: params["x"], {"x": "0..1"}, direction="minimize", trials=8,
        name="down", quiet=True,
    )  # fmt: skip
    assert result.best.value == min(t.value for t in result.trials if t.value is not None)


def test_equal_failures_end_the_search_with_the_users_own_error(folder: Path) -> None:
    """When the first trials all fail, the search stops and shows the reason."""

    def broken(params: dict[str, Any], context: Context) -> float:
        raise KeyError("colour", params["x"])

    with pytest.raises(UserCodeError, match="colour"):
        surefit.tune(broken, SPACE, trials=50, quiet=True)
    assert len(trial_runs(folder, "broken")) < 20


def test_a_script_told_to_end_closes_its_records(folder: Path) -> None:
    """SIGTERM reaches a script that uses the API: the search's run is KILLED, nothing RUNNING."""
    (folder / "search.py").write_text(
        "import os, signal, surefit\n"
        "def f(p, c):\n"
        "    if p['x'] > 0.2:\n"
        "        os.kill(int(os.environ['DRIVER']), signal.SIGTERM)\n"
        "        signal.pause()\n"
        "    return 0.0\n"
        "os.environ['DRIVER'] = str(os.getpid())\n"
        "surefit.tune(f, {'x': '0..1'}, trials=9, name='s', quiet=True)\n"
    )
    done = subprocess.run([sys.executable, "search.py"], cwd=folder, timeout=300)
    assert done.returncode == 128 + signal.SIGTERM
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("s").experiment_id])
    assert "RUNNING" not in {r.info.status for r in found}
    (parent,) = [r for r in found if r.data.tags["surefit.kind"] == "tune"]
    assert (parent.info.status, parent.data.tags["surefit.reason"]) == ("KILLED", "interrupted")


def test_patience_and_target_end_it_early(folder: Path) -> None:
    """A search ends when it is good enough, or gets no better for so many trials."""
    good = surefit.tune(
        parabola, SPACE, trials=60, set={"tune.target": -0.5, "tune.window": 1}, quiet=True
    )
    assert len(good.trials) <= 3
    flat = surefit.tune(
        lambda params, context: 1.0, SPACE, trials=60, name="flat",
        set={"tune.patience": 5, "tune.window": 1}, quiet=True,
    )  # fmt: skip
    assert len(flat.trials) == 6


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "journal lost"])
def test_what_ended_counts_though_time_ran_out_on_a_trial_before_it(
    folder: Path, lost: bool
) -> None:
    """The interrupted trial is missing until the same call goes on, in the same run; a better one
    behind it wins. Where the journal is lost too, no trial has a second run."""
    slow = folder / "slow"
    slow.touch()

    def objective(params: dict[str, Any], context: Context) -> float:
        while params["x"] == 0 and slow.exists():
            time.sleep(0.05)
        return float(params["x"])

    def search(**more: Any) -> surefit.TuneResult:
        choices = {"tune.workers": 2, "tune.method": "grid", "name": "gap"}
        return surefit.tune(objective, {"x": [0, 1, 2]}, set=choices, quiet=True, **more)

    short = search(budget="6s")
    assert [t.number for t in short.trials] == [1, 2]
    assert short.best.params == {"x": 2}
    slow.unlink()
    if lost:
        shutil.rmtree(folder / ".surefit" / "searches")
    whole = search()
    assert (whole.run_id, whole.resumed) == (short.run_id, 0 if lost else 2)
    assert [t.value for t in whole.trials] == [0, 1, 2]
    assert len(trial_runs(folder, "gap")) == 3
    assert whole.best.params == {"x": 2}


@pytest.mark.skipif(usable_cores() < 2, reason="one core: a second worker only takes turns")
def test_workers_that_would_idle_are_told_how_to_have_work(folder: Path, capsys: Any) -> None:
    """A window shorter than the workers leaves some without a job; the usual one does not."""
    few = {"tune.window": 1, "tune.workers": 2}
    surefit.tune(parabola, SPACE, trials=4, set=few)
    assert "2 workers have at most 1 job at once: tune.window = 2" in capsys.readouterr().err
    surefit.tune(parabola, SPACE, trials=4, set={"tune.workers": 2})
    assert "at once" not in capsys.readouterr().err


def test_a_wrong_direction_or_space_is_refused() -> None:
    """Mistakes are told before anything runs."""
    with pytest.raises(ConfigError, match="maximize"):
        surefit.tune(parabola, SPACE, direction="up", quiet=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        surefit.tune(parabola, {"x": "1..0"}, quiet=True)


def test_a_script_without_a_main_guard_works(folder: Path) -> None:
    """Workers never run the user's script again, so it needs no `if __name__ == "__main__"`."""
    script = folder / "search.py"
    script.write_text(
        "import surefit\n"
        "print('started')\n"
        "r = surefit.tune(lambda p, c: -p['x'], {'x': '0..1'}, trials=4, name='s', quiet=True)\n"
        "print(len(r.trials))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["started", "4"], done.stderr


def layers(trial: Any) -> None:
    trial.suggest_categorical("hidden", [(64,), (64, 64)])


def widths(trial: Any) -> None:
    trial.suggest_categorical("width", [np.int64(32), np.int64(64)])


@pytest.mark.filterwarnings("ignore:Choices for a categorical")  # Optuna's
@pytest.mark.parametrize(("space", "said"), [(layers, "a tuple"), (widths, "a int64")])
def test_options_that_a_search_cannot_keep_are_refused_before_the_first_trial(
    folder: Path, space: Any, said: str
) -> None:
    """A tuple or a NumPy scalar as an option is told with what to write instead; nothing runs."""
    with pytest.raises(UserCodeError, match=said) as caught:
        surefit.tune(lambda params, context: 1.0, space, trials=5, name="f", quiet=True)
    assert "a dict from each text to its value" in str(caught.value)
    assert trial_runs(folder, "f") == []


@dataclass
class Shifted:
    """An objective that is an instance."""

    by: Any = 0.0

    def __call__(self, params: dict[str, Any], context: Context) -> float:
        return float(params["x"] + np.sum(self.by))

    def method(self, params: dict[str, Any], context: Context) -> float:
        return self(params, context)


def times(params: dict[str, Any], context: Context, *, factor: float) -> float:
    return float(params["x"] * factor)


def closed(array: np.ndarray) -> Any:
    return lambda params, context: float(params["x"] + array.sum())


LONG = np.arange(5000.0)
CHANGED = np.where(LONG == 2500, 0, LONG)  # where NumPy's text of it has dots


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Shifted(1.0), Shifted(2.0)),
        (Shifted(1.0).method, Shifted(2.0).method),
        (functools.partial(times, factor=1), functools.partial(times, factor=2)),
        (functools.partial(times, factor=1), functools.partial(Shifted(), factor=1)),
        (closed(LONG), closed(CHANGED)),
        (lambda params, context: 1.0, lambda params, context: 2.0),
    ],
    ids=["instance", "method", "partial", "function", "closure", "one line"],
)
def test_functions_that_differ_in_what_they_hold_are_other_searches(one: Any, other: Any) -> None:
    """State, bound arguments and arrays count by their values; equal ones are the same."""
    assert identity.digest(one) != identity.digest(other)
    assert identity.digest(one) == identity.digest(copy.deepcopy(one))


def test_an_instance_or_a_partial_is_recorded_with_its_source(folder: Path) -> None:
    """The text of the file is kept for them as for a plain function."""
    for objective in (Shifted(), Shifted().method, functools.partial(times, factor=2)):
        assert source_of(objective) == Path(__file__).read_text("utf-8")


SCRIPT = """
    import re, sys, threading
    import numpy as np
    import helper
    import surefit

    SCALE = int(sys.argv[1])
    NAMES = {"alpha", "beta", "gamma", "delta"}
    TABLE = {"array": np.arange(3.0), "names": NAMES, "text": re.compile("x")}
    LOCK = threading.Lock()

    def objective(params, context):
        return SCALE * helper.value(params["x"]) + len(TABLE) + len(NAMES)

    print(surefit.tune(objective, {"x": "0..1"}, trials=3, quiet=True).resumed)
"""


def test_a_script_goes_on_while_what_its_objective_reads_is_the_same(folder: Path) -> None:
    """In a new process the search is found; another global or another helper file begins anew."""
    (folder / "search.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "helper.py").write_text("def value(x):\n    return x\n")

    def resumed(scale: int, seed: int = 0) -> str:
        env = os.environ | {"PYTHONHASHSEED": str(seed)}
        done = subprocess.run([sys.executable, "search.py", str(scale)], env=env, text=True,
                              capture_output=True, timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert [resumed(1), resumed(1, seed=7), resumed(2)] == ["0", "3", "0"]
    (folder / "helper.py").write_text("def value(x):\n    return -x\n")
    assert [resumed(1), resumed(1)] == ["0", "3"]


def test_an_objective_that_cannot_be_told_from_another_is_refused(folder: Path) -> None:
    """What it holds and pickle cannot take apart is named, before anything runs."""
    lock = threading.Lock()
    with pytest.raises(ConfigError, match=r"holds a _thread.lock, which cannot be pickled"):
        surefit.tune(lambda params, context: id(lock), SPACE, quiet=True)


def test_a_name_that_mlflow_refuses_is_told_at_the_first_trials(folder: Path) -> None:
    """`context.log` fails with the character and a name that would do, not the record later."""
    with pytest.raises(ValueError, match='no "@" in the name "recall@10"; log it as "recall_10"'):
        Context(seed=0).log(**{"recall@10": 0.5})


@pytest.mark.parametrize(
    "more", [{"target": "y"}, {"ensemble": True}, {"set": {"split.folds": 3}}],
    ids=["target", "ensemble", "setting"],
)  # fmt: skip
def test_what_says_nothing_of_a_function_is_refused(folder: Path, more: dict[str, Any]) -> None:
    """Arguments and settings of searches on data are no part of this one, and are named."""
    with pytest.raises(InputError, match="of a function"):
        surefit.tune(parabola, SPACE, quiet=True, **more)


def test_a_direction_is_of_a_function_alone(folder: Path) -> None:
    """For data the metric says which way is better."""
    with pytest.raises(InputError, match="the metric says"):
        surefit.tune("sklearn:iris", target="target", direction="minimize", quiet=True)


def page_of(folder: Path, result: surefit.TuneResult, db: str = "mlflow.db") -> str:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/{db}")
    return html.unescape(Path(client.download_artifacts(result.run_id, "report.html")).read_text())


@pytest.mark.parametrize("named", [False, True], ids=["there", "named"])
def test_the_file_of_the_folder_says_how_to_search_and_where_to_record(
    folder: Path, named: bool
) -> None:
    """[tune] and [tracking] count, what is a model's does not; the page has the call again."""
    file = "other.toml" if named else "surefit.toml"
    (folder / file).write_text(
        '[data]\npath = "none.csv"\ntarget = "y"\n[tracking]\nuri = "sqlite:///own.db"\n'
        '[tune]\ntrials = 3\nmethod = "random"\nensemble = true\n[tune.space]\nC = "0..1"\n'
    )
    more: Any = {"config": file} if named else {}
    result = surefit.tune(parabola, SPACE, set={"tune.window": 1}, quiet=True, **more)
    assert (len(result.trials), result.method) == (3, "random")
    assert not (folder / "mlflow.db").exists()
    assert result.next == ("surefit ui -c other.toml" if named else "surefit ui")
    again = (
        f"surefit.tune(parabola, {SPACE!r}, direction='maximize', trials=3, method='random', "
        + "config='other.toml', " * named
        + "set={'tune.window': 1})"
    )
    assert again in page_of(folder, result, "own.db")
    assert eval(again).resumed == 3


def test_without_a_project_mlflows_own_command_shows_the_trials(folder: Path) -> None:
    """`surefit ui` needs a project; where there is none, its store is named to MLflow."""
    result = surefit.tune(parabola, SPACE, trials=2, quiet=True)
    assert result.next == f"mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db"


def test_the_page_of_a_search_on_data_has_the_command_that_shows_it_again(folder: Path) -> None:
    """With what was given beside the file, so that it is the same search."""
    settings = {"model.family": "linear", "tune.space.C": "log 0.1..10", "split.folds": 3}
    result = surefit.tune("sklearn:iris", target="target", trials=3, set=settings, quiet=True)
    page = page_of(folder, result)
    again = next(line for line in page.splitlines() if "surefit tune" in line)
    words = shlex.split(again[again.index("surefit tune") :].partition("<")[0])
    done = subprocess.run([sys.executable, "-m", *words, "--json", "-q"], text=True,
                          capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run_id"] == result.run_id
    assert json.loads(done.stdout)["resumed"] == 3


def conditional(trial: Any) -> dict[str, Any]:
    """A space as one writes it for Optuna."""
    kind = trial.suggest_categorical("kind", ["a", "b"])
    x = trial.suggest_float("x", 0.0, 1.0) if kind == "a" else 2.0
    return {"kind": kind, "x": x}


def test_the_space_of_an_objective_may_be_a_function_of_a_trial(folder: Path) -> None:
    """What it returns is what the objective gets; what was suggested is recorded."""
    result = surefit.tune(parabola, conditional, trials=10, quiet=True)
    assert result.count("COMPLETE") == 10
    for trial in result.trials:
        assert set(trial.params) == ({"kind", "x"} if trial.params["kind"] == "a" else {"kind"})
        x = trial.params.get("x", 2.0)
        assert trial.value == pytest.approx(-((x - 0.3) ** 2))
    assert surefit.tune(parabola, conditional, trials=10, quiet=True).resumed == 10


@pytest.mark.parametrize("name", ["lr (log)", "a//b", "x" * 300])
def test_a_name_that_mlflow_refuses_is_refused_before_anything_is_written(
    folder: Path, name: str
) -> None:
    """Exit code 2 with another name, and no run is left open."""
    with pytest.raises(ConfigError, match="cannot be recorded"):
        surefit.tune(parabola, {name: "0..1"}, trials=2)
    assert not (folder / ".surefit" / "searches").exists()


def test_a_folder_that_takes_no_journal_is_told_in_one_message(folder: Path) -> None:
    """A file stands where the journals' folder should: as a read-only or full disk would."""
    (folder / ".surefit").write_text("")
    with pytest.raises(InputError, match="journal"):
        surefit.tune(parabola, SPACE, trials=2)


def test_a_new_parent_run_that_cannot_be_filled_ends_as_failed(folder: Path) -> None:
    """It is not left RUNNING, and the search begins anew with another."""
    project = configuration.of_function("p", config=None, overrides={})
    store = workspace.open_store(project)
    found = _search(parabola, SPACE, "maximize", project, scratch.place(folder))

    def fails(run: Run) -> None:
        raise ServiceError("the disk is full")

    with searches.open_journal(project, found) as journal:
        with (
            pytest.raises(ServiceError),
            searches.parent_run(store, found, journal, name="p", tags={}, items=fails),
        ):
            pass
        assert journal.parent_run_id is None
    assert [r.status for r in runs.search(store)] == ["FAILED"]
