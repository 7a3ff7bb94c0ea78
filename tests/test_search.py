"""Proposers: pure functions of seed, number and results; rebuilt anywhere; strict about order."""

import contextlib
import importlib.util
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefit.core.space import grid
from surefit.core.space_text import parse
from surefit.edges import tpe
from surefit.edges.samplers import importances, ranges, replayed
from surefit.edges.search import METHODS as PLAIN
from surefit.edges.search import proposer
from surefit.errors import ConfigError, SurefitError

SPACE = parse(
    {
        "rate": "log 0.001..1",
        "leaves": "int log 8..255",
        "depth": "int 1..9 step 2",
        "frac": "0.1..1 step 0.1",
        "extra": [True, False, 1, "a"],
        "fixed": "gbdt",
    }
)
TRIALS = 24
CMAES = ("optuna:CmaEsSampler",) if importlib.util.find_spec("cmaes") else ()
METHODS = (*PLAIN, "optuna:NSGAIISampler", *CMAES)


def result(k, params):
    """What the objective says: some trials fail, some are pruned with their fold scores."""
    score = -abs(math.log10(params["rate"]) + 1.5) - params["depth"] / 50 + params["frac"] / 9
    if k % 7 == 3:
        return None, "FAILED", ()
    if k % 5 == 2:
        return score, "PRUNED", (score, score + 0.01, math.nan)
    return score, "COMPLETE", ()


def make(method, window, **changed):
    """A proposer over SPACE."""
    options = {"seed": 7, "greater_is_better": True, "window": window} | changed
    return proposer(method, SPACE, **options)


def advance(search, asked, told, until, window, params):
    """Ask and tell under the engine's protocol until `until` trials are asked."""
    for k in range(asked, until):
        while told < k - window + 1:
            search.tell(told, *result(told, params[told]))
            told += 1
        params.append(search.ask(k))
    return told


def run(method, window, trials=TRIALS, **changed):
    """The proposals of an undisturbed search."""
    params = []
    advance(make(method, window, **changed), 0, 0, trials, window, params)
    return params


@pytest.mark.parametrize("window", [1, 8])
@pytest.mark.parametrize("method", METHODS)
def test_a_search_rebuilt_at_any_point_goes_on_the_same(method, window):
    """Replayed from JSON after any number of asks and tells, the next proposals are identical."""
    undisturbed = run(method, window)
    for asked in range(TRIALS):
        search, told = make(method, window), 0
        params = json.loads(json.dumps(undisturbed[:asked]))
        for k in range(asked):
            while told < k - window + 1:  # as the engine that is dead had done
                search.tell(told, *result(told, params[told]))
                told += 1
            search.replay(k, params[k])
        advance(search, asked, told, min(asked + 3, TRIALS), window, params)
        assert params == undisturbed[: len(params)]
        assert [*map(repr, params)] == [*map(repr, undisturbed[: len(params)])]


def test_gaussian_processes_go_on_the_same_after_a_kill():
    """Optuna's GP sampler: the proposals behind a rebuilt record are those of the undisturbed."""
    pytest.importorskip("torch")
    undisturbed, search, params = run("optuna:GPSampler", 6, 15), make("optuna:GPSampler", 6), []
    for k, known in enumerate(undisturbed[:13]):
        if k >= 6:
            search.tell(k - 6, *result(k - 6, undisturbed[k - 6]))
        search.replay(k, known)
        params.append(known)
    advance(search, 13, 7, 15, 6, params)
    assert params == undisturbed


@pytest.mark.parametrize("method", METHODS)
def test_the_same_proposals_in_another_process(method):
    """Hash randomisation and a fresh interpreter change nothing."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_search as t;"
        f"print(t.run({method!r}, 8))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == str(run(method, 8))
    assert found.stderr == ""


@pytest.mark.parametrize("method", ["random", "qmc", "tpe"])
def test_the_seed_matters_and_so_do_results(method):
    """Another seed proposes other trials; TPE alone listens to the results."""
    assert run(method, 8) != run(method, 8, seed=8)
    flipped = run(method, 8, greater_is_better=False)
    assert (flipped != run(method, 8)) == (method == "tpe")


@pytest.mark.parametrize("method", METHODS)
def test_proposals_lie_in_the_space_as_plain_values(method):
    """Each proposal has every parameter, in plain Python types, on the axis."""
    for params in run(method, 8):
        assert list(params) == sorted(SPACE)
        assert params["fixed"] == "gbdt"
        assert [type(params[key]) for key in ("rate", "leaves", "depth")] == [float, int, int]
        assert params["frac"] in {i / 10 for i in range(1, 11)}
        for key, value in params.items():
            assert SPACE[key].decode(SPACE[key].encode(value)) == value


@pytest.mark.parametrize("method", ["random", "qmc", "tpe"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(-(2**70), 2**70), cut=st.integers(1, 11))
def test_any_seed_may_be_given(method, seed, cut):
    """Negative and huge seeds work, and proposals do not depend on how many follow."""
    assert run(method, 2, 12, seed=seed)[:cut] == run(method, 2, cut, seed=seed)


def test_tpe_finds_better_trials_than_random_search():
    """After 50 trials with eight in flight TPE's mean score is far above that of random draws."""

    def late(method):
        return [result(0, p)[0] for seed in range(4) for p in run(method, 8, 50, seed=seed)[30:]]

    assert sum(late("tpe")) / 80 > sum(late("random")) / 80 + 0.2


def test_a_grid_is_the_grid_then_none():
    """The grid proposer walks core's grid in its order, then answers None for good."""
    space = parse({"b": ["x", "y"], "a": "0..1", "c": "int 1..3"})
    search = proposer("grid", space, seed=0, greater_is_better=True)
    found = [search.ask(k) for k in range(30)]
    assert found == grid(space)
    assert search.ask(30) is None
    assert search.ask(30) is None
    search.tell(0, 1.0, "COMPLETE")


@pytest.mark.parametrize("method", METHODS)
def test_a_space_without_freedom_proposes_the_same(method):
    """Fixed parameters alone, or none, are a search too."""
    for raw in ({"x": 3}, {}):
        search = proposer(method, parse(raw), seed=0, greater_is_better=True)
        for k in range(8 if method != "grid" else 1):
            assert search.ask(k) == raw
            search.tell(k, 1.0, "COMPLETE")


@pytest.mark.parametrize("method", METHODS)
def test_starting_points_come_first(method):
    """Starts are trials 0, 1; what they leave out is drawn; a grid follows whole."""
    starts = [{"rate": 1, "extra": 1}, {"depth": 3.0, "frac": 0.3}]
    found = run(method, 8, starts=starts)
    assert (found[0]["rate"], found[0]["extra"]) == (1.0, 1)
    assert found[0]["extra"] is not True
    assert repr(found[1]["depth"]) == "3"
    if method == "grid":
        assert found[2:] == run(method, 8)[:-2]


def test_starts_outside_the_space_are_all_named():
    """A start with a wrong value or an unknown name is an error of the user's, said at once."""
    with pytest.raises(ConfigError, match=r"(?s)start 0: rate = 5.*start 1: dept.*\"depth\""):
        make("tpe", 8, starts=[{"rate": 5}, {"dept": 1}])


def test_an_unknown_method_lists_the_known():
    """A sampler of Optuna's by its short name is answered with the line that means it."""
    with pytest.raises(ConfigError, match="grid, hyperopt, qmc, random, tpe"):
        make("baysian", 8)
    with pytest.raises(ConfigError, match='method = "optuna:GPSampler"'):
        make("gp", 8)
    with pytest.raises(ConfigError, match="NSGAIISampler"):
        make("optuna:NSGASampler", 8)
    with pytest.raises(ConfigError, match='method = "grid"'):
        make("optuna:GridSampler", 8)


def suggest(trial):
    """A space with a condition, as a user writes it for Optuna."""
    if trial.suggest_categorical("kind", ["deep", "wide"]) == "deep":
        return {"layers": 2 ** trial.suggest_int("power", 1, 5)}
    trial.suggest_float("width", 1.0, 64.0, log=True)
    return None


@pytest.mark.parametrize("method", ["random", "tpe", "optuna:NSGAIISampler"])
def test_a_function_of_a_trial_proposes_the_same_again_and_after_a_kill(method):
    """Conditions hold, and a search rebuilt from its record goes on as it would have."""

    def told(search, k):
        search.tell(k, *((None, "FAILED") if k % 5 == 4 else (float(-(k % 7)), "COMPLETE")))

    def started():
        return proposer(method, suggest, seed=3, greater_is_better=True, window=4)

    first, params = started(), []
    for k in range(20):
        if k >= 4:
            told(first, k - 4)
        params.append(first.ask(k))
        assert set(params[k]) == {"kind", "power" if params[k]["kind"] == "deep" else "width"}
    assert {p["kind"] for p in params} == {"deep", "wide"}
    again = started()
    for k in range(20):
        if k >= 4:
            told(again, k - 4)
        if k < 13:
            again.replay(k, json.loads(json.dumps(params[k])))
        else:
            assert again.ask(k) == params[k]


def test_what_a_function_of_a_trial_returns_and_ranges():
    """The mapping it returns is what is fitted; its ranges can be said in our own words."""
    made, _ = replayed(suggest, {"kind": "deep", "power": 3})
    assert made == {"layers": 8}
    assert replayed(suggest, {"kind": "wide", "width": 2.0})[0] == {"kind": "wide", "width": 2.0}
    seen = ranges(suggest, [{"kind": "deep", "power": 3}, {"kind": "wide", "width": 2.0}])
    assert seen == {"kind": ["deep", "wide"], "power": "int 1..5", "width": "log 1.0..64.0"}
    assert set(parse(seen)) == {"kind", "power", "width"}
    with pytest.raises(ConfigError, match="cannot search a space that is a function"):
        proposer("grid", suggest, seed=0, greater_is_better=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_broken_protocol_is_our_bug(method):
    """Calls out of order, wrong windows and values that are not finite raise with exit code 70."""

    def broken(call, *args):
        with pytest.raises(SurefitError, match="protocol") as caught:
            call(*args)
        assert caught.value.exit_code == 70

    search = make(method, 2)
    broken(search.ask, 1)
    broken(search.tell, 0, 1.0, "COMPLETE")
    params = search.ask(0)
    broken(search.replay, 0, params)
    broken(search.replay, 1, params | {"rate": 7})
    broken(search.replay, 1, {"rate": 0.1})
    search.ask(1)
    broken(search.ask, 2)
    broken(search.tell, 1, 1.0, "COMPLETE")
    for value in (math.nan, math.inf, None):
        broken(search.tell, 0, value, "COMPLETE")
    broken(search.tell, 0, 1.0, "RUNNING")
    search.tell(0, math.nan, "FAILED")
    assert search.ask(2)


def test_tpe_survives_searches_where_all_fail_or_are_pruned_at_once():
    """No result, or none with a score, still gives proposals."""
    for state in ("FAILED", "PRUNED"):
        search = make("tpe", 1)
        for k in range(12):
            assert search.ask(k)
            search.tell(k, None, state)


@pytest.mark.parametrize("suggested", [False, True])
def test_tpe_with_scipy_proposes_what_optuna_would(monkeypatch, suggested):
    """Sixty proposals differ by no more than rounding, of a space and of a function of a trial."""

    def suggest(trial):
        return {
            "rate": trial.suggest_float("rate", 0.001, 1, log=True),
            "depth": trial.suggest_int("depth", 1, 9, step=2),
            "frac": trial.suggest_float("frac", 0.1, 1, step=0.1),
        }

    def proposals():
        search = proposer(
            "tpe", suggest if suggested else SPACE, seed=7, greater_is_better=True, window=1
        )
        params = []
        advance(search, 0, 0, 60, 1, params)
        return params

    ours = proposals()
    monkeypatch.setattr(tpe, "quick", contextlib.nullcontext)
    for mine, optunas in zip(ours, proposals(), strict=True):
        for name, value in mine.items():
            if isinstance(value, float):
                assert value == pytest.approx(optunas[name], rel=1e-9)
            else:
                assert value == optunas[name]


def test_only_proposals_of_ours_are_asked_for_with_scipy():
    """In the block SciPy's function is called; outside, and in another thread, Optuna's own."""
    from optuna.samplers._tpe import _truncnorm
    from scipy.special import log_ndtr

    x = np.array([6.5])  # where Optuna's own is an approximation
    with tpe.quick():
        within = _truncnorm._log_ndtr(x)
        with ThreadPoolExecutor(1) as beside:
            elsewhere = beside.submit(_truncnorm._log_ndtr, x).result()
    assert within == log_ndtr(x)
    assert elsewhere == _truncnorm._log_ndtr(x) == _truncnorm._log_ndtr_single(6.5) != within


def test_optuna_is_quiet_and_the_users_verbosity_stays(capfd):
    """A search prints nothing and leaves Optuna's level as it found it."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        run("tpe", 8)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


def test_importing_the_seam_imports_no_optuna():
    """Commands that do not tune do not pay for Optuna."""
    code = "import sys, surefit.edges.search; sys.exit('optuna' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importances_name_what_matters():
    """The parameter that moves the score has the largest share; shares sum to 1 and repeat."""
    trials = [(p, math.log10(p["rate"])) for p in run("random", 1, 40)]
    found = importances(SPACE, trials)
    assert next(iter(found)) == "rate"
    assert found["rate"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert "fixed" not in found
    assert found == importances(SPACE, trials)
    assert found.keys() == importances(SPACE, [(p, v * 1e300) for p, v in trials]).keys()


def test_importances_are_empty_when_nothing_can_be_said():
    """Too few trials, equal scores and missing scores give no shares."""
    params = run("random", 1, 12)
    assert importances(SPACE, [(p, float(i)) for i, p in enumerate(params[:7])]) == {}
    assert importances(SPACE, [(p, 1.0) for p in params]) == {}
    assert importances(SPACE, [(p, math.nan) for p in params]) == {}
    assert importances(parse({"x": 1}), [({"x": 1}, float(i)) for i in range(9)]) == {}
