"""`surefit compare` on a real store: who is ranked, who is not and why, and what is recorded."""

import itertools
import json
import math
import runpy
import subprocess
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

import boards
import conftest
import surefit
import tables
from surefit.cli import cli
from surefit.edges import runs
from surefit.errors import ConfigError, InputError
from surefit.items import Param, Text
from surefit.verbs import board
from surefit.verbs.board import assemble

COUNT = itertools.count()
# MLflow's own use of SQLAlchemy warns on its first query; nothing of ours does.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def project(root):
    return boards.make(root, f"project{next(COUNT)}")


def test_a_tied_run_from_far_away_is_not_proposed(project):
    """Being the smallest is no reason where a run is tied only because it scatters widely."""
    y, made = boards.world(n=60)
    order = sorted((made(1.0, seed=k) for k in range(8)), key=lambda p: boards.auc(y, p))
    project.add("far", y, order[0], extra={"model_bytes": 1e3})
    best = project.add("best", y, order[-1], extra={"model_bytes": 9e6})
    found = project.compare()
    assert [s.tied for s in found.standings] == [True, True]
    assert found.proposed.run_id == best


def test_the_best_is_ranked_and_the_cheapest_of_the_tied_proposed(project):
    """Of two equals the smaller is tied with the best and proposed; a poor run is worse."""
    y, made = boards.world()
    lesser, better = sorted((made(1.0, seed=k) for k in (1, 7)), key=lambda p: boards.auc(y, p))
    small = project.add("small", y, lesser, extra={"model_bytes": 1e3, "fit_seconds": 9})
    project.add("big", y, better, extra={"model_bytes": 9e6, "fit_seconds": 1})
    project.add("poor", y, made(0.0), extra={"model_bytes": 10})
    found = project.compare()
    assert [s.tied for s in found.standings] == [True, True, False]
    assert found.standings[-1].name == "poor"
    assert found.proposed.run_id == small
    assert "smallest model: 1 kB" in str(found)
    assert f"surefit promote {small[:8]}" in found.next
    assert "surefit promote best" in found.next
    assert str(found).count("  =") == 2
    record = runs.find(project.store, found.run_id)
    assert record.kind == "compare"
    assert record.tags["surefit.proposed"] == small
    assert float(record.metrics["corrected_roc_auc"]) == pytest.approx(found.corrected.value)
    assert "a cautious interval" in str(found)


def test_the_written_script_picks_the_same_by_plain_mlflow(
    tmp_path, pristine, monkeypatch, capsys, mlflow_at
):
    """Of runs with equal metrics both take the newest; rows of other data and trials are no rival.

    The script is the one that `surefit init` writes.
    """
    folder = conftest.new_folder(tmp_path / "ties", pristine)
    (folder.path / "surefit.toml").write_text(
        f'name = "ties"\ntracking.uri = "{folder.uri}"\n[data]\npath = "none.csv"\ntarget = "y"\n'
    )
    project = boards.make(folder.path, "ties")
    y, made = boards.world(100)
    for k in range(4):
        project.add("same", y, made(1.0), kind=("train", "tune")[k % 2])
    ends = {"valid_roc_auc_low": 0.8, "valid_roc_auc_high": 1}
    newest = project.add("newest", y, made(1.0), extra=ends)
    project.add("poor", y, made(0.1))
    project.add("other data", y, made(9.0), tags={"surefit.data": "d0"})
    project.add("trial", y, made(9.0), kind="trial")
    project.add("last", y, made(0.2))
    script = resources.files("surefit") / "templates" / "project" / "compare.py"
    monkeypatch.chdir(folder.path)
    mlflow_at(None)  # the script says where
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.partition("Best by plain MLflow:")[2].strip() == newest
    assert surefit.compare(quiet=True).best.run_id == newest


def test_a_run_that_names_its_copies_tells_the_others(project):
    """Of a run recorded without them the same rows are drawn together, in either order."""
    y, made = boards.world(n=50)
    y = np.repeat(y, 4)
    one, other = (np.repeat(made(1.0, seed=k), 4) for k in (1, 7))
    project.add("old", y, one)
    apart = project.compare("old").standings[0].score
    project.add("new", y, other, columns={"copies_of": np.repeat(np.arange(50), 4)})
    orders = (("old", "new"), ("new", "old"), ())
    found = [project.compare(*names).standings for names in orders]
    told = [{s.name: (s.score.low, s.score.high) for s in standings} for standings in found]
    assert told[0] == told[1] == told[2]
    low, high = told[0]["old"]
    assert high - low > 1.3 * (apart.high - apart.low)


def test_what_cannot_be_ranked_is_listed_with_its_reason(project):
    """RUNNING, FAILED, deleted, without the metric, infinite, NaN, other data, split or rows."""
    y, made = boards.world()
    p = made(1.0)
    project.add("good", y, p)
    client = project.store.client
    reasons = {
        project.add("runs", y, p, status="RUNNING"): "still running",
        project.add("broke", y, p, status="FAILED"): "FAILED: broke",
        project.add("data", y, p, tags={"surefit.data": "d2"}): "another data than good",
        project.add("split", y, p, tags={"surefit.split": "s2"}): "another split than good",
        project.add("rows", y[:99], p[:99]): "predictions on other rows",
        project.add("target", 1 - y, p): "another target",
        project.add("nan", y, np.where(y == 1, np.nan, p)): "not finite",
    }
    deleted = project.add("deleted", y, p)
    client.delete_run(deleted)
    infinite, unknown = (project.add(n, y, p) for n in ("infinite", "unknown"))
    client.log_metric(infinite, "valid_roc_auc", math.inf, step=1)
    client.log_metric(unknown, "valid_roc_auc", math.nan, step=1)
    none = runs.start(
        project.store, "none", "train",
        tags={"surefit.data": "d1", "surefit.split": "s1", "surefit.task": "binary",
              "surefit.metric": "roc_auc", "surefit.classes": "[0, 1]"},
    )  # fmt: skip
    runs.end(project.store, none, "FINISHED")
    last = project.add("good too", y, made(0.9))
    reasons |= {deleted: "deleted", infinite: "its valid_roc_auc is infinite",
                unknown: "its valid_roc_auc is NaN", none: "without valid_roc_auc"}  # fmt: skip
    found = project.compare()
    said = {o.run_id: o.reason for o in found.left_out}
    assert set(said) == set(reasons)
    for run_id, reason in reasons.items():
        assert reason.replace("than good", "than good too") in said[run_id]
    assert {s.name for s in found.standings} == {"good", "good too"}
    named = project.compare(last, deleted)
    assert [o.reason for o in named.left_out] == ["deleted"]
    assert len(runs.read_table(project.store, found.run_id, "left_out.csv")) == len(reasons)


def test_no_runs_says_what_to_type(project):
    """An empty project, and one whose only run failed, say how to begin."""
    with pytest.raises(InputError, match="There is no run to compare") as error:
        project.compare()
    assert "surefit train" in str(error.value)
    y, made = boards.world()
    project.add("broke", y, made(1.0), status="FAILED")
    with pytest.raises(InputError, match="broke: FAILED"):
        project.compare()
    with pytest.raises(InputError, match="run_name = 'none'") as error:
        project.compare(where="run_name = 'none'")
    assert "a wider --where" in str(error.value)


def test_a_run_of_plain_mlflow_is_on_the_same_board(project):
    """With predictions it is ranked like any other, rows in any order; without it is listed."""
    y, made = boards.world()
    lesser, better = sorted((made(1.0, seed=k) for k in (1, 2)), key=lambda p: boards.auc(y, p))
    project.add("ours", y, lesser)
    client = MlflowClient(project.store.uri)
    experiment = project.store.experiment_id
    theirs = client.create_run(experiment, run_name="theirs").info.run_id
    shuffled = boards.table(y, better).drop(columns=["fold", "prediction"])
    shuffled = shuffled.sample(frac=1, random_state=0)
    client.log_text(theirs, shuffled.to_csv(index=False), "predictions/valid.csv")
    client.set_terminated(theirs)
    without = client.create_run(experiment, run_name="without").info.run_id
    client.log_metric(without, "val_roc_auc", 0.99)
    client.set_terminated(without)
    nested = client.create_run(experiment, tags={"mlflow.parentRunId": theirs}).info.run_id
    found = project.compare()
    assert [(s.run_id == theirs, s.outside) for s in found.standings] == [
        (True, True), (False, False),
    ]  # fmt: skip
    assert "(other program)" in str(found)
    assert not found.proposed.outside
    (left,) = found.left_out
    assert (left.run_id, left.value) == (without, 0.99)
    assert "logged by another program, without predictions" in left.reason
    assert nested not in {left.run_id for left in found.left_out}
    ranked = assemble(project.store)
    assert set(ranked.records) == {"ours"}, "only our own runs can be promoted"


def test_a_board_of_other_programs_alone(project):
    """Without any run of ours the tables say what the task and the classes are."""
    y, made = boards.world()
    client = MlflowClient(project.store.uri)
    for name, strength in (("one", 1.0), ("two", 0.2)):
        run_id = client.create_run(project.store.experiment_id, run_name=name).info.run_id
        labelled = boards.table(y, made(strength)).replace({"target": {0: "no", 1: "yes"}})
        labelled = labelled.rename(
            columns={"probability_0": "probability_no", "probability_1": "probability_yes"}
        )
        client.log_text(run_id, labelled.to_csv(index=False), "predictions/valid.csv")
        client.set_terminated(run_id)
    found = project.compare()
    assert (found.best.name, found.metric) == ("one", "roc_auc")
    assert "cannot be promoted" in found.next


def test_a_weight_or_group_in_another_programs_table_counts_for_nothing(project):
    """Its table is read for its answers: other columns may be features."""
    y, made = boards.world()
    p = made(0.5)
    frame = boards.table(y, p).assign(weight=np.where(p > 0.5, 9.0, 0.1), group=1)
    client = MlflowClient(project.store.uri)
    run_id = client.create_run(project.store.experiment_id, run_name="alone").info.run_id
    client.log_text(run_id, frame.to_csv(index=False), "predictions/valid.csv")
    client.set_terminated(run_id)
    assert project.compare().best.score.value == pytest.approx(boards.auc(y, p))


def test_unpaired_is_a_typed_choice_that_the_record_keeps(project):
    """Runs on other data are ranked apart by metric with unpaired intervals, and it is tagged."""
    y, made = boards.world()
    other = project.add("other data", y[:150], made(2.0)[:150], tags={"surefit.data": "d2"})
    project.add("task", y, made(1.0), tags={"surefit.data": "d3", "surefit.task": "regression"})
    ours = project.add("ours", y, made(0.1))
    plain = project.compare()
    assert plain.unpaired == ()
    assert [s.run_id for s in plain.standings] == [ours]
    assert "nothing was picked" in str(plain)
    asked = project.compare(unpaired=True)
    assert [u.run_id for u in asked.unpaired] == [other, ours]
    first, second = asked.unpaired
    assert second.told_apart
    assert second.behind == pytest.approx(first.value - second.value)
    assert [s.run_id for s in asked.standings] == [ours]
    record = runs.find(project.store, asked.run_id)
    assert record.tags["surefit.unpaired"] == "true"
    assert "--unpaired" in record.tags["mlflow.note.content"]
    assert "surefit.unpaired" not in runs.find(project.store, plain.run_id).tags


def test_where_limit_and_sort(project):
    """The filter chooses, the limit takes the best by recorded metric, sorting only shows."""
    y, made = boards.world()
    for k in range(6):
        project.add(
            f"run {k}", y, made(0.2 * k), params={"model.params.num_leaves": 8 + k},
            extra={"model_bytes": 100 - k},
        )  # fmt: skip
    chosen = project.compare(where="params.model.params.num_leaves in (8, 9) or run_name = 'run 5'")
    assert {s.name for s in chosen.standings} == {"run 0", "run 1", "run 5"}
    assert "surefit promote best" not in chosen.next
    limited = project.compare(limit=2)
    assert [s.name for s in limited.standings] == ["run 5", "run 4"]
    assert limited.more
    assert "--limit" in str(limited)
    by_size = project.compare(sort="model_bytes")
    assert [s.name for s in by_size.ordered()] == [f"run {k}" for k in (5, 4, 3, 2, 1, 0)]
    assert [s.rank for s in by_size.standings] == [1, 2, 3, 4, 5, 6]
    by_leaves = project.compare(sort="-num_leaves")
    assert by_leaves.ordered()[0].name == "run 5"
    with pytest.raises(InputError, match="did you mean"):
        project.compare(sort="model_byte")
    with pytest.raises(ConfigError):
        project.compare("run 1", where="metrics.x > 1")


def test_two_runs_side_by_side(project):
    """What differs, who is right where, the rows whose decision flips, and both curves."""
    y, made = boards.world()
    a, b = made(1.0), made(0.4, seed=2)
    ids = []
    for name, p, rate in (("a", a, 0.1), ("b", b, 0.2)):
        run_id = project.add(name, y, p, tags={"mlflow.source.git.commit": name * 40})
        run = runs.Run(store=project.store, run_id=run_id, name=name)
        run.log([
            Param(key="model.params.learning_rate", value=rate),
            Text(path="config.toml", text=f"[model]\nseed = {len(name)}\nrate = {rate}\n"),
            Text(path="environment.txt", text=f"numpy==2.{rate}\npandas==2.2\n"),
            Text(path="code/model.py", text=f"def build(p):\n    return {name!r}\n"),
        ])  # fmt: skip
        ids.append(run_id)
    found = project.compare(*ids)
    pair = found.pair
    assert {d.key for d in pair.differs} == {
        "mlflow.source.git.commit", "model.rate", "model.params.learning_rate", "numpy",
    }  # fmt: skip
    right_a, right_b = (a >= 0.5) == y, (b >= 0.5) == y
    names = {pair.a: right_a, pair.b: right_b} if pair.a == "a" else {"b": right_b, "a": right_a}
    one, two = names.values()
    assert (pair.both_right, pair.only_a) == ((one & two).sum(), (one & ~two).sum())
    assert pair.n_flips == len(pair.flips) == (right_a != right_b).sum()
    assert "-    return 'a'\n+    return 'b'" in pair.code
    assert "1 lines added, 1 removed" in str(found)
    assert "not there" in pair.no_slices or "none.csv" in pair.no_slices
    files = {f.path for f in project.store.client.list_artifacts(found.run_id, "plots")}
    assert {"plots/pair_roc.png", "plots/pair_roc.csv"} <= files
    assert "What differs" in runs.read_text(project.store, found.run_id, "report.html")
    assert json.loads(json.dumps(found.to_dict()))["pair"]["n_flips"] == pair.n_flips


def test_two_runs_differ_on_slices_of_the_data(folder):
    """With the data at hand the slices on which two runs differ are shown, drawn and kept."""
    table = tables.numbers()
    table["region"] = np.where(np.arange(len(table)) % 2, "north", "south")
    table.to_csv(folder.path / "d.csv", index=False)
    few = {"split.folds": 2, "model.family": "dummy"}
    one = folder.train("d.csv", target="y", set=few).run_id
    two = folder.train(set={"model.family": "linear"}).run_id
    found = folder.compare([one, two])
    assert {"north", "south"} <= {s.value for s in found.pair.slices if s.column == "region"}
    assert all(s.better_by < 0 for s in found.pair.slices if s.differs)
    assert any(s.differs for s in found.pair.slices)
    assert "slices:" in str(found)
    assert "model.family" in {d.key for d in found.pair.differs}
    files = {f.path for f in folder.client.list_artifacts(found.run_id, "pair")}
    assert "pair/slices.csv" in files
    assert "By slice" in (folder.path / folder.report(found.run_id).path).read_text()


def test_code_between_two_commits_is_gits(tmp_path):
    """Two commits of a repository are told apart by git; unknown ones are not an error."""
    from surefit.edges import environment

    def git(*arguments):
        done = subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b",
                               *arguments], check=True, capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    git("init", "-q")
    commits = []
    for k in (1, 2):
        (tmp_path / "model.py").write_text(f"rate = {k}\n")
        git("add", ".")
        git("commit", "-qm", "x")
        commits.append(git("rev-parse", "HEAD"))
    assert "+rate = 2" in environment.git_between(tmp_path, *commits)
    assert environment.git_between(tmp_path, "a" * 40, commits[0]) == ""


def test_repeats_with_other_seeds_give_a_noise_floor(project):
    """Runs equal but for model.seed say what the seed alone does; others do not."""
    y, made = boards.world()
    for k in range(3):
        run_id = project.add(f"seed {k}", y, made(1.0, seed=k), tags={"surefit.config": f"c{k}"})
        text = Text(path="config.toml", text=f"[model]\nseed = {k}\n")
        runs.Run(store=project.store, run_id=run_id, name="").log([text])
    found = project.compare()
    values = [s.score.value for s in found.standings]
    assert (found.noise.n_runs, found.noise.n_configurations) == (3, 1)
    assert found.noise.sd == pytest.approx(np.std(values, ddof=1))
    assert "Noise floor" in str(found)


def test_terminal_json_csv_and_notebook(project, tmp_path):
    """The command prints a board or JSON, writes the CSV, and a notebook gets a table."""
    y, made = boards.world()
    project.add("<b>", y, made(1.0))
    project.add("two", y, made(0.5))
    file = tmp_path / "board.csv"
    command = ["compare", "-q", "-c", project.config, "--set", f"name={project.name}"]
    shown = CliRunner().invoke(cli, [*command, "--csv", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "Best on 200 validation rows: <b>" in shown.stdout
    assert list(pd.read_csv(file)["name"]) == ["<b>", "two"]
    as_json = CliRunner().invoke(cli, [*command, "--json"])
    assert json.loads(as_json.stdout)["proposed"]["name"]
    html = project.compare()._repr_html_()
    assert "<table>" in html
    assert "&lt;b&gt;" in html
    refused = CliRunner().invoke(cli, [*command, "--csv", "board.xlsx"])
    assert refused.exit_code != 0
    (tmp_path / "folder.csv").mkdir()
    unwritable = CliRunner().invoke(cli, [*command, "--csv", str(tmp_path / "folder.csv")])
    assert isinstance(unwritable.exception, InputError)
    assert "cannot be written: Is a directory. The comparison is recorded: run" in str(
        unwritable.exception
    )


def test_names_and_beginnings_find_runs_without_reading_all(project):
    """By name, by the beginning of an id, "last"; doubled and unknown names say so."""
    y, made = boards.world(50)
    one = project.add('one\'s "x"', y, made(1.0))
    two = project.add("two's", y, made(1.0))
    project.add("same", y, made(1.0))
    newest = project.add("same", y, made(1.0))
    store = project.store
    assert runs.find(store, one[:12]).run_id == one
    assert runs.find(store, "two's").run_id == two
    assert runs.find(store, "last").run_id == newest
    with pytest.raises(InputError, match='Several runs are called "same"'):
        runs.find(store, "same")
    with pytest.raises(InputError, match="did you mean"):
        runs.find(store, "twos")
    with pytest.raises(InputError, match="cannot search for the name"):
        runs.find(store, 'one\'s "x"')


def test_a_search_on_the_board_corrects_for_its_trials(project):
    """All complete trials of a search are candidates of the correction; lost ones are named."""
    from surefit.core import predictions
    from surefit.items import Table, Tag

    y, made = boards.world()
    run_id = project.add("search", y, made(1.0), kind="tune", extra={"trials_complete": 5})
    project.add("ours", y, made(0.9))
    classes = [0, 1]
    first = predictions.read(boards.table(y, made(1.0)), "binary", classes)
    preds = {k: np.column_stack([1 - made(0.9, seed=k), made(0.9, seed=k)]) for k in range(3)}
    frame = predictions.trials_table(first, preds)
    runs.Run(store=project.store, run_id=run_id, name="").log([
        Table(path=board.TRIALS, frame=frame)
    ])  # fmt: skip
    found = project.compare()
    assert found.n_candidates == 5
    one = predictions.trials_table(first, {**preds, 3: first.pred})
    search = runs.Run(store=project.store, run_id=run_id, name="")
    search.log([Table(path=board.TRIALS, frame=one), Tag(key="surefit.best_trial", value="3")])
    assert project.compare().n_candidates == 5  # its best trial is the search's own entry
    assert "2 lesser trials were too many to keep" in found.corrected.note
