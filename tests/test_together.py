"""Families searched together: which is tried next, the same whoever asks, and what is recorded."""

import tomllib
from dataclasses import replace

import pytest

import mlflow_files
from surefit.core.portfolio import ENTRY, Arm, choose, expected_costs
from surefit.core.space_text import parse
from surefit.edges.search import proposer
from surefit.errors import ConfigError, InputError
from surefit.verbs.families import FAMILY, Families, Study

AUTO = {
    "split.folds": 3, "model.family": "auto", "tune.families": ["lightgbm", "linear", "forest"],
    "tune.space": {
        "lightgbm": {"num_leaves": "int 2..16", "num_iterations": 20, "learning_rate": 0.2},
        "forest": {"n_estimators": 10, "min_samples_leaf": "int 1..9"},
    },
}  # fmt: skip
WORTH = {"cheap": 0.70, "good": 0.80, "dear": 0.75}


def families(method="tpe"):
    """Three studies of one dimension, of different cost."""
    studies = {}
    for name, usual in (("cheap", 0.1), ("good", 1.0), ("dear", 6.0)):
        made = proposer(method, parse({"x": "0..1"}), seed=1, greater_is_better=True,
                        starts=({"x": 0.5},))  # fmt: skip
        studies[name] = Study(proposer=made, usual=usual, cost=lambda p, usual=usual: usual)
    return Families(studies, seed=1, greater_is_better=True, n_folds=3)


def told(search, k, params):
    """Each family is as good as it is; every seventh trial fails, some are pruned."""
    value = WORTH[params[FAMILY]] - (params["x"] - 0.3) ** 2 / 10
    if k % 7 == 6:
        search.tell(k, None, "FAILED")
    elif k % 5 == 4:
        search.tell(k, None, "PRUNED", (value, value))
    else:
        search.tell(k, value, "COMPLETE")


def ask_all(search, n, params, window=4):
    """Ask under the engine's protocol; what is known already is taken from the record."""
    for k in range(n):
        if k >= window:
            told(search, k - window, params[k - window])
        if k < len(params):
            search.replay(k, params[k])
        elif (asked := search.ask(k)) is not None:
            params.append(asked)
        else:
            break
    return params


def test_cheap_starting_points_come_first_and_the_good_family_gets_most():
    """A dear family enters once twice its cost is spent; first trials are starting points."""
    asked = ask_all(families(), 40, [])
    firsts = [next(k for k, p in enumerate(asked) if p[FAMILY] == name) for name in WORTH]
    assert firsts[0] == 0
    assert firsts == sorted(firsts)
    assert all(asked[k]["x"] == 0.5 for k in firsts)
    entered = asked[: firsts[2]]
    assert sum({"cheap": 0.1, "good": 1.0}[p[FAMILY]] + 0.25 for p in entered) >= ENTRY * 6.0
    counts = {name: sum(p[FAMILY] == name for p in asked) for name in WORTH}
    assert counts["good"] > counts["cheap"] > counts["dear"] >= 1


def test_the_same_families_are_drawn_again_after_a_kill_at_any_trial():
    """A search rebuilt from its record proposes what it would have proposed."""
    whole = ask_all(families(), 30, [])
    for cut in (1, 5, 17, 29):
        assert ask_all(families(), 30, whole[:cut]) == whole


def test_a_family_whose_grid_is_done_stays_done_after_a_kill():
    """A search rebuilt from its record knows which families have nothing left to propose."""
    whole = ask_all(families("grid"), 40, [])
    for cut in range(1, len(whole)):
        assert ask_all(families("grid"), 40, whole[:cut]) == whole


def test_a_grid_of_several_families_ends_when_all_points_are_tried():
    """Each point of each family once."""
    asked = ask_all(families("grid"), 40, [])
    assert len(asked) == 3 * (5 + 1)  # the points and the start of each


def test_what_only_failed_is_not_tried_again_and_a_gap_makes_dear():
    """Costs of an improvement: infinite without hope, greater the further behind."""
    good = Arm(spent=4.0, told=[(1.0, 0.7), (2.0, 0.8)])
    behind = Arm(spent=4.0, told=[(1.0, 0.6), (2.0, 0.65)])
    failed = Arm(spent=2.0, told=[(1.0, None), (2.0, None)])
    costs = expected_costs({"g": good, "b": behind, "f": failed}, greater_is_better=True)
    assert costs["g"] < costs["b"] < costs["f"] == float("inf")
    further = replace(behind, told=[(1.0, 0.5), (2.0, 0.55)])
    worse = expected_costs({"g": good, "b": further}, greater_is_better=True)
    assert worse["b"] > costs["b"]
    assert choose(costs, 0.0) == "b"
    assert choose(costs, 0.99) == "g"
    assert choose({"f": float("inf")}, 0.5) is None


def test_a_search_over_families_is_one_table_and_its_record_names_them(folder):
    """The same for one worker and two; resumed; the winner, of whichever family, is logged."""
    frame = "sklearn:iris"
    short = folder.tune(frame, target="target", trials=6, set=AUTO | {"tune.workers": 1})
    result = folder.tune(trials=14, set=AUTO | {"tune.workers": 2})
    other = folder.tune(trials=14, set=AUTO | {"name": "elsewhere"})
    assert result.run_id == short.run_id != other.run_id
    rows = [(t.family, t.state, t.value, dict(t.params)) for t in result.trials]
    assert rows == [(t.family, t.state, t.value, dict(t.params)) for t in other.trials]
    assert {t.family for t in result.trials} == {"lightgbm", "linear", "forest"}
    assert result.family == result.best.family
    by_run = {
        run.data.tags["surefit.trial"]: run.data.params["model.family"]
        for run in folder.runs("tags.`surefit.kind` = 'trial'")
        if run.data.tags["mlflow.parentRunId"] == result.run_id
    }
    assert by_run == {str(t.number): t.family for t in result.trials}
    (parent,) = [r for r in folder.runs("tags.`surefit.kind` = 'tune'")
                 if r.info.run_id == result.run_id]  # fmt: skip
    assert parent.data.tags["surefit.family"] == result.family
    assert "search_families.png" in " ".join(mlflow_files.listed(folder.client, result.run_id))
    best = tomllib.loads(mlflow_files.text(folder.client, result.run_id, "best.toml"))
    assert best["model"]["family"] == result.family
    (folder.path / "best.toml").write_text(
        mlflow_files.text(folder.client, result.run_id, "best.toml")
    )
    trained = folder.train(config="best.toml")
    assert trained.score.value == pytest.approx(result.score.value, rel=1e-5)
    assert trained.family == result.family


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tune.space": {"C": "0..1"}}, r"\[tune.space.lightgbm\] C = "),
        ({"tune.space": {"linear": {"C": "1...2"}}}, r"\[tune.space.linear\] has a mistake"),
        ({"tune.space": {"linear": {"D": "1..2"}}}, "linear has no such parameter"),
        ({"tune.families": ["lightgbm", "svm"]}, "tune.families"),
        ({"model.params": {"C": 1.0}}, "belong to one family"),
        ({"model.family": "linear"}, 'family = "auto"'),
    ],
)
def test_mistakes_about_several_families_are_told_with_the_line_that_would_do(
    folder, changed, said
):
    """Nothing is fitted or written."""
    with pytest.raises(ConfigError, match=said):
        folder.tune("sklearn:iris", target="target", set=AUTO | changed)


def test_train_fits_one_family(folder):
    """A search over families is not trained."""
    with pytest.raises(InputError, match="surefit tune"):
        folder.train("sklearn:iris", target="target", set={"model.family": "auto"})


SPACE = """
def space(trial):
    params = {"C": trial.suggest_float("C", 0.01, 10, log=True)}
    if trial.suggest_categorical("plain", [True, False]):
        params["fit_intercept"] = trial.suggest_categorical("intercept", [True, False])
    return params
"""


def test_a_space_may_be_a_function_of_a_trial(folder):
    """Its file is recorded and identifies the search; what it returns is fitted."""
    (folder.path / "model.py").write_text(SPACE)
    keys = {"model.family": "linear", "split.folds": 3, "tune.space": "model.py:space"}
    result = folder.tune("sklearn:iris", target="target", trials=9, set=keys)
    assert folder.tune(trials=9, set=keys).resumed == 9
    assert {frozenset(t.params) for t in result.trials} == {
        frozenset({"C", "plain"}), frozenset({"C", "plain", "intercept"})
    }  # fmt: skip
    assert "code/model.py" in mlflow_files.listed(folder.client, result.run_id)
    best = tomllib.loads(mlflow_files.text(folder.client, result.run_id, "best.toml"))
    assert best["model"]["params"]["C"] == result.best.params["C"]
    assert "plain" not in best["model"]["params"]
    (folder.path / "model.py").write_text(SPACE.replace("10", "20"))
    assert folder.tune(trials=2, set=keys).run_id != result.run_id
    (folder.path / "model.py").write_text(SPACE.replace("suggest_float", "sugest_float"))
    flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    ended = folder.command("tune", "--trials", 2, *flags)
    assert ended.code == 4
    assert "sugest_float" in ended.err
    assert "Traceback" not in ended.err
