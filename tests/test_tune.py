"""Searches: one table whatever the workers; each trial once in MLflow; resumed, extended, ended."""

import sqlite3
import threading

import numpy as np
import pandas as pd
import pytest

import mlflow_files
from surefit.edges import journal
from surefit.errors import ConfigError, InputError
from tables import mixed, numbers

CHOSEN = {"model.family": "linear", "split.folds": 3}
BOOSTED = {
    "split.folds": 3, "model.params": {"num_iterations": 20, "early_stopping_round": 5},
    "tune.space": {"learning_rate": "log 0.02..0.5", "num_leaves": "int log 2..32",
                   "min_data_in_leaf": "int 1..20"},
}  # fmt: skip


def table(result):
    """All that a search decides, a row a trial; times are left out."""
    return [(t.number, t.state, t.value, dict(t.params), t.fold_scores) for t in result.trials]


def trials_of(folder, where=""):
    """The nested runs of trials, by number."""
    found = folder.runs("tags.`surefit.kind` = 'trial'" + where)
    return sorted(found, key=lambda r: int(r.data.tags["surefit.trial"]))


def check_mirror(folder, result):
    """MLflow has each trial of the result exactly once, ended, under its parent."""
    found = trials_of(folder)
    keys = [r.data.tags["surefit.key"] for r in found]
    assert len(keys) == len(set(keys)) == len(result.trials)
    assert not folder.runs("attributes.status = 'RUNNING'")
    for run, trial in zip(found, result.trials, strict=True):
        assert run.data.tags["mlflow.parentRunId"] == result.run_id
        assert run.data.tags["surefit.state"] == trial.state
        for key, value in trial.params.items():
            assert str(value) == run.data.params[f"model.params.{key}"].strip('"')
        if trial.value is not None:
            assert run.data.metrics[f"valid_{result.metric}"] == trial.value


def test_a_search_is_a_parent_run_with_a_nested_run_for_each_trial(searched):
    """Parameters, fold scores and value of each trial; the winner's model on the parent."""
    (parent,) = searched.runs("tags.`surefit.kind` = 'tune'")
    found = trials_of(searched)
    assert len(found) == 12
    for number, run in enumerate(found):
        assert run.info.status == "FINISHED"
        assert run.info.run_name == f"trial {number}"
        assert set(run.data.params) == {"model.family", "model.params.C"}
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    whole = [r for r in found if r.data.tags["surefit.state"] == "COMPLETE"]
    assert len(whole) >= 6
    for run in whole:
        folds = [run.data.metrics[f"fold_{i}_log_loss"] for i in range(3)]
        assert run.data.metrics["valid_log_loss"] == pytest.approx(sum(folds) / 3)
    best = min(whole, key=lambda r: r.data.metrics["valid_log_loss"])
    assert parent.data.tags["surefit.best_trial"] == best.data.tags["surefit.trial"]
    assert parent.data.metrics["trials"] == 12
    assert parent.data.metrics["valid_log_loss"] == pytest.approx(
        best.data.metrics["valid_log_loss"], rel=1e-6
    )
    assert parent.data.tags["surefit.status"] == "complete"
    assert parent.inputs.dataset_inputs
    kept = mlflow_files.table(searched.client, parent.info.run_id, "trials.parquet")
    assert list(kept["number"]) == list(range(12))
    assert "best.toml" in mlflow_files.listed(searched.client, parent.info.run_id)


def test_a_search_never_sees_test_rows(folder):
    """With every sealed target turned round, trials, winner and predictions are the same."""
    frame = numbers(150)
    frame.to_csv(folder.path / "d.csv", index=False)
    from surefit.core.data import prepare
    from surefit.core.split import make
    from surefit.sections import DataConfig, SplitConfig

    keys = {**CHOSEN, "data.id": "k"}
    frame["k"] = [f"r{i}" for i in range(150)]
    data = prepare(frame, DataConfig(path="d", target="y", id="k"))
    sealed = make(data, SplitConfig(folds=3)).test_rows
    turned = frame.copy()
    turned.loc[sealed, "y"] = turned.loc[sealed, "y"].map({"yes": "no", "no": "yes"})
    honest = folder.tune(frame, target="y", trials=6, set=keys)
    other = folder.tune(turned, target="y", trials=6, set=keys)
    assert honest.run_id != other.run_id
    assert table(honest) == table(other)
    a, b = (mlflow_files.table(folder.client, r.run_id, "predictions/test.parquet")
            for r in (honest, other))  # fmt: skip
    pd.testing.assert_frame_equal(a, b)


def test_the_table_is_the_same_for_one_two_and_four_workers(folder):
    """Which trial is proposed, pruned and best does not depend on the machine."""
    tables = []
    for workers in (1, 2, 4):
        chosen = {**BOOSTED, "tune.workers": workers, "name": f"w{workers}"}
        result = folder.tune("sklearn:iris", target="target", trials=14, set=chosen)
        tables.append(table(result))
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == 14


@pytest.mark.parametrize(
    ("method", "task"),
    [("tpe", "binary"), ("hyperopt", "binary"), ("hyperopt", "multiclass"),
     ("optuna:NSGAIISampler", "multiclass"), ("tpe", "regression")],
)  # fmt: skip
def test_a_method_searches_tables_of_other_tasks(folder, method, task):
    """From the table to the refitted winner; `make prove` has every method on every task."""
    frame = mixed(120, task=task)[["size", "age", "city", "y"]]
    space = {"alpha" if task == "regression" else "C": "log 0.01..100"}
    keys = {"model.family": "linear", "split.folds": 2, "tune.race": False, "tune.space": space}
    result = folder.tune(frame, target="y", trials=6, method=method, set=keys)
    assert result.count("COMPLETE") == len(result.trials) == (5 if method == "grid" else 6)
    assert len({tuple(t.params.items()) for t in result.trials}) == len(result.trials)
    assert result.score.value == pytest.approx(result.best.value, rel=1e-5)
    assert result.model_uri.startswith("models:/")


@pytest.mark.parametrize("method", ["grid", "random", "qmc", "tpe"])
def test_each_method_proposes_inside_the_space_and_repeats_itself(folder, method):
    """Grid, random, quasi-random and TPE: values of the space, and the same again elsewhere."""
    space = {"C": "log 0.01..100", "fit_intercept": [True, False]}
    chosen = {**CHOSEN, "tune.space": space}
    first = folder.tune("sklearn:iris", target="target", trials=7, method=method, set=chosen)
    assert len(first.trials) == 7
    for trial in first.trials:
        assert 0.01 <= trial.params["C"] <= 100
        assert trial.params["fit_intercept"] in (True, False)
    if method == "grid":
        assert len({tuple(t.params.items()) for t in first.trials}) == 7
    other = folder.tune(trials=7, method=method, set={**chosen, "name": "again"})
    assert table(first) == table(other)


def test_a_grid_ends_when_all_its_points_are_tried(folder):
    """More trials than points are not asked for."""
    chosen = {**CHOSEN, "tune.space": {"C": [0.1, 1, 10]}}
    result = folder.tune("sklearn:iris", target="target", trials=50, method="grid", set=chosen)
    assert [t.params["C"] for t in result.trials] == [0.1, 1, 10]


def test_more_trials_extend_a_search_and_the_same_again_runs_nothing(folder):
    """The first trials stay, new ones follow as in one go, the parent is one run."""
    short = folder.tune("sklearn:iris", target="target", trials=5, set=CHOSEN)
    again = folder.tune(trials=5, set=CHOSEN)
    assert again.run_id == short.run_id
    assert again.resumed == 5
    assert again.model_uri == short.model_uri
    assert again.score == short.score
    longer = folder.tune(trials=11, set=CHOSEN)
    assert longer.run_id == short.run_id
    assert table(longer)[:5] == table(short)
    whole = folder.tune(trials=11, set={**CHOSEN, "name": "undisturbed"})
    assert table(whole) == table(longer)
    assert len(trials_of(folder, f" and tags.`mlflow.parentRunId` = '{longer.run_id}'")) == 11


def test_a_search_that_went_on_to_a_better_trial_is_another_version(folder):
    """Promoted, extended, promoted again: the alias never names another model than the run's, and
    the first model is still whole when it is gone back to."""
    space = {**CHOSEN, "tune.space": {"C": [1e-5, 1.0]}}
    first = folder.tune("sklearn:breast_cancer", target="target", trials=1, method="grid",
                        set=space)  # fmt: skip
    assert folder.promote(first.run_id, set={"gate.against": "not_worse"}).version == "1"
    longer = folder.tune(trials=2, method="grid", set=space)
    assert longer.best.number == 1
    decision = folder.promote(longer.run_id, force=True, reason="a better trial")
    assert (decision.version, decision.moved) == ("2", True)
    assert not any("manifest" in c.reason for c in decision.checks)
    judged = folder.evaluate("models:/breast_cancer/1")
    given = folder.evaluate(longer.run_id, test=True)
    assert judged.n_rows == given.n_rows
    assert judged.scores[0] != given.scores[0]  # of the first model, not the second's
    back = folder.rollback()
    assert (back.version, back.moved) == ("1", True), back


def test_another_space_or_seed_is_another_search(folder):
    """What decides the table makes a search of its own; what does not, does not."""
    first = folder.tune("sklearn:iris", target="target", trials=3, set=CHOSEN)
    for change in ({"tune.space": {"C": "log 0.1..10"}}, {"tune.seed": 1}, {"split.seed": 1}):
        other = folder.tune(trials=3, set={**CHOSEN, **change})
        assert other.run_id != first.run_id
        assert other.resumed == 0
    same = folder.tune(trials=3, set={**CHOSEN, "split.seed": 0, "tune.workers": 1})
    assert same.run_id == first.run_id


@pytest.mark.parametrize("column", ["time", "group", "weight"])
def test_a_race_on_rows_that_are_not_alike(folder, column):
    """Rows in blocks of time, in groups and of different weight are raced too, fold by fold."""
    frame = numbers(240)
    rng = np.random.default_rng(3)
    frame["column"] = {
        "time": pd.date_range("2024-01-01", periods=240, freq="h"), "group": np.arange(240) % 24,
        "weight": rng.uniform(0.5, 2, 240),
    }[column]  # fmt: skip
    keys = {"model.family": "linear", f"data.{column}": "column", "split.folds": 4,
            "metric.optimize": "log_loss", "tune.space": {"C": "log 0.00001..100"}}  # fmt: skip
    result = folder.tune(frame, target="y", trials=16, method="random", set=keys)
    assert result.count("PRUNED") >= 1
    assert result.count("FAILED") == 0


def test_trials_that_are_clearly_behind_are_dropped_and_said(folder):
    """Racing prunes by the same rule every time, and says after which fold."""
    chosen = {**CHOSEN, "split.folds": 4, "tune.space": {"C": "log 0.00001..100"}}
    results = [
        folder.tune("sklearn:wine", target="target", trials=30, method="random",
                    set={**chosen, "name": name, "tune.workers": workers})
        for name, workers in (("a", 1), ("b", 2))
    ]  # fmt: skip
    assert table(results[0]) == table(results[1])
    assert results[0].count("PRUNED") >= 3
    pruned = [t for t in results[0].trials if t.state == "PRUNED"]
    assert all(t.number >= 6 and len(t.fold_scores) < 4 for t in pruned)
    assert all("behind after fold" in t.reason for t in pruned)
    free = folder.tune(trials=30, method="random", set={**chosen, "tune.race": False})
    assert free.count("COMPLETE") == 30
    assert [t.params for t in free.trials] == [t.params for t in results[0].trials]
    assert free.best.params == results[0].best.params


def test_a_time_budget_ends_the_same_sequence_earlier(folder):
    """What was reached are trials of the search without a budget; more time goes on from there."""
    whole = folder.tune("sklearn:iris", target="target", trials=40, set={**BOOSTED, "name": "w"})
    short = folder.tune(trials=40, budget="3s", set=BOOSTED)
    n = len(short.trials)
    assert 0 < n <= 40
    assert table(short) == [table(whole)[t.number] for t in short.trials]
    rest = folder.tune(trials=40, set=BOOSTED)
    assert rest.resumed >= n
    assert table(rest) == table(whole)


def test_a_second_process_on_the_same_search_is_told(folder):
    """It does not wait and does not write: one line with the process that has the search."""
    folder.tune("sklearn:iris", target="target", trials=2, set=CHOSEN)
    (file,) = (folder.path / ".surefit" / "searches").glob("*.sqlite")
    connection = sqlite3.connect(file)
    (fingerprint,) = connection.execute("SELECT fingerprint FROM search").fetchone()
    connection.close()
    with journal.open(file, fingerprint), pytest.raises(InputError, match="running already"):
        folder.tune(trials=3, set=CHOSEN)
    assert len(folder.tune(trials=3, set=CHOSEN).trials) == 3


def test_two_searches_at_once_in_threads_do_not_mix(folder):
    """Different searches of one project run beside each other on one store."""
    folder.train("sklearn:iris", target="target", set=CHOSEN)
    results = {}

    def search(seed):
        results[seed] = tuned(folder, seed)

    threads = [threading.Thread(target=search, args=(seed,)) for seed in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for seed in (1, 2):
        where = f" and tags.`mlflow.parentRunId` = '{results[seed].run_id}'"
        assert len(trials_of(folder, where)) == 4


def tuned(folder, seed):
    """A search started without changing the folder of the process."""
    import surefit

    chosen = {**CHOSEN, "tune.seed": seed, "tracking.uri": folder.uri, "name": "iris",
              "tune.workers": 1, "data.path": "sklearn:iris", "data.target": "target"}  # fmt: skip
    file = folder.path / "surefit.toml"
    if not file.exists():
        file.write_text('name = "iris"\n[data]\npath = "sklearn:iris"\ntarget = "target"\n')
    return surefit.tune(config=file, trials=4, set=chosen, quiet=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tune.space": {"c": "log 1..2"}}, 'did you mean "C"'),
        ({"tune.space": {"C": "log 2..1"}}, "tune.space"),
        ({"tune.method": "tep"}, 'did you mean "tpe"'),
        ({"tune.trials": 0}, "tune.trials = 0"),
        ({"tune.budget": "0s"}, "no duration"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_before_anything_is_written(folder, change, said):
    """Unknown names, empty ranges, unknown methods: one message, no run, no journal."""
    with pytest.raises(ConfigError, match=said):
        folder.tune("sklearn:iris", target="target", set={**CHOSEN, **change})
    assert not folder.runs()
    assert not list(folder.path.rglob("*.sqlite"))


def test_trials_that_fail_are_failed_with_their_reason_and_the_search_goes_on(folder):
    """A value the family cannot use ends its trials only; if all fail, exit code 4."""
    chosen = {**CHOSEN, "tune.space": {"C": [-1.0, 1.0], "max_iter": [50, 100]}}
    result = folder.tune("sklearn:iris", target="target", trials=4, method="grid", set=chosen)
    assert result.count("FAILED") == 2
    assert result.count("COMPLETE") == 2
    failed = trials_of(folder, " and attributes.status = 'FAILED'")
    assert len(failed) == 2
    assert all("C" in r.data.tags["surefit.reason"] for r in failed)
    check_mirror(folder, result)
    ended = folder.command("tune", "-q", "--trials", "6", "--set", "model.family=linear", "--set",
                           "tune.space.C=[-1.0, -2.0]", "--set", "split.folds=3")  # fmt: skip
    assert ended.code == 4
    assert "Traceback" not in ended.err
    (parent,) = folder.runs("tags.`surefit.kind` = 'tune' and attributes.status = 'FAILED'")
    assert "must be a float in the range" in parent.data.tags["surefit.reason"]
    assert not folder.runs("attributes.status = 'RUNNING'")


def test_a_lighter_search_scores_its_winner_in_full(folder):
    """Fewer rows and rounds for trials, all of them for the winner; both scores are kept."""
    frame = mixed(300)[["size", "age", "city", "y"]]
    keys = {**BOOSTED, "tune.rows": 60, "tune.epochs": 3}
    result = folder.tune(frame, target="y", trials=4, set=keys)
    run = folder.client.get_run(result.run_id)
    assert result.searched.value == pytest.approx(result.best.value, rel=1e-5)
    assert run.data.metrics["searched_roc_auc"] == pytest.approx(result.searched.value)
    assert run.data.metrics["valid_roc_auc"] == pytest.approx(result.score.value)
    assert "searched lightly" in str(result)
    (folder.path / "best.toml").write_text(
        mlflow_files.text(folder.client, result.run_id, "best.toml")
    )
    trained = folder.train(frame, target="y", config=folder.path / "best.toml")
    assert trained.score.value == pytest.approx(result.score.value, rel=1e-5)
    again = folder.tune(frame, target="y", trials=4, set=keys)
    assert again.score.value == pytest.approx(result.score.value, rel=1e-5)
    assert again.model_uri == result.model_uri
    full = folder.tune(frame, target="y", trials=4, set=BOOSTED)
    assert full.run_id != result.run_id
    assert full.searched is None


def test_every_trial_has_a_model_where_that_is_asked_for(folder):
    """One a complete trial, once; a trial's model is promoted like another."""
    keys = {**CHOSEN, "tune.log_models": "all"}
    frame = mixed(150)[["size", "age", "y"]]
    folder.tune(frame, target="y", trials=3, set=keys)
    folder.tune(frame, target="y", trials=4, set=keys)
    models = [run.data.tags["surefit.model"] for run in trials_of(folder)]
    assert len(models) == len(set(models)) == 4
    assert len(list((folder.path / "mlruns").rglob("MLmodel"))) >= 5


def test_a_search_ends_when_it_is_good_enough_or_gets_no_better(folder):
    """By a target in the metric's own direction, and by trials told without a better one."""
    content = folder.tune("sklearn:iris", target="target", trials=40,
                          set={**CHOSEN, "tune.target": 5.0})  # fmt: skip
    assert len(content.trials) == 3  # the window: the first result told was good enough
    keys = {**CHOSEN, "tune.seed": 1, "tune.window": 1, "tune.patience": 3}
    patient = folder.tune(trials=40, set=keys)
    values = [t.value for t in patient.trials]
    assert 4 <= len(values) < 40
    assert min(values[:-3]) < min(values[-3:])
