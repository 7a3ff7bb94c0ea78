"""Comparisons: what is tied with the best, how lucky the best is, and whether to promote."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulate import best_of, called_worse, equals, luck_of_the_best, verdicts
from surefit.core import metrics, ranking
from surefit.core.gatetest import gate, spent
from surefit.errors import ConfigError, DataError

AUC = metrics.find("roc_auc", "binary")
ACCURACY = metrics.find("accuracy", "binary")
LOG_LOSS = metrics.find("log_loss", "binary")
RMSE = metrics.find("rmse", "regression")


def candidates(n=200, k=4, seed=0, own=0.6):
    return equals(n, k, np.random.default_rng(seed), own=own)


def poor(y, seed=9):
    p = np.random.default_rng(seed).random(len(y))
    return np.column_stack([1 - p, p])


def as_tuple(found):
    return found.value, found.low, found.high


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["roc_auc", "accuracy", "log_loss", "f1"]),
    seed=st.integers(0, 999),
    clustered=st.booleans(),
)
def test_two_differ_alike_in_either_order(name, seed, clustered):
    """How much better the better of two is does not depend on which was given first."""
    y, found = candidates(80, 2, seed)
    given = {"clusters": np.arange(80) // 2} if clustered else {}
    metric = metrics.find(name, "binary")
    there, back = (
        ranking.rank(metric, y, {k: found[k] for k in order}, n_resamples=100, **given)
        for order in (("c0", "c1"), ("c1", "c0"))
    )
    (one,), (other,) = there.differences.values(), back.differences.values()
    assert as_tuple(one) == pytest.approx(as_tuple(other), rel=1e-9, abs=1e-12)
    assert one.value >= 0


def test_better_is_positive_whatever_the_direction():
    """The better of two has a positive difference, for a score and for a loss."""
    y, found = candidates(300, 1)
    for metric in (AUC, LOG_LOSS):
        both = {"poor": poor(y), "good": found["c0"]}
        ranked = ranking.rank(metric, y, both, n_resamples=200)
        difference = ranked.differences["poor"]
        assert (ranked.best, difference.low > 0) == ("good", True)
        assert difference.differs


def test_order_of_rows_changes_no_value():
    """Rows in another order give the same values and the same ranking."""
    y, found = candidates()
    order = np.random.default_rng(3).permutation(len(y))
    moved = {name: pred[order] for name, pred in found.items()}
    first = ranking.rank(AUC, y, found, n_resamples=100)
    second = ranking.rank(AUC, y[order], moved, n_resamples=100)
    assert list(first.values) == list(second.values)
    assert list(first.values.values()) == pytest.approx(list(second.values.values()))


def test_ranking_tells_the_poor_from_the_equal():
    """Equal candidates are tied with the best, a random one is not; rows to decide are given."""
    y, found = candidates(400, 3)
    found = {"poor": poor(y), **found}
    ranked = ranking.rank(AUC, y, found, n_resamples=300)
    assert "poor" not in ranked.tied
    assert set(ranked.tied) == {"c0", "c1", "c2"}
    assert list(ranked.values)[-1] == "poor"
    assert ranked.differences["poor"].low > 0
    assert set(ranked.rows_to_decide) == set(ranked.tied[1:])
    assert all(rows > 400 for rows in ranked.rows_to_decide.values())
    assert ranked.to_dict()["best"] == ranked.best


def test_losses_rank_downwards():
    """The least loss is the best, and differences to it are not negative."""
    y, found = candidates(200, 4)
    ranked = ranking.rank(LOG_LOSS, y, found, n_resamples=100)
    values = list(ranked.values.values())
    assert values == sorted(values)
    assert all(d.value >= 0 for d in ranked.differences.values())


def test_identical_predictions_are_tied():
    """A copy of the best is tied with it at [0, 0], and no number of rows would decide."""
    y, found = candidates(100, 1)
    ranked = ranking.rank(AUC, y, {"one": found["c0"], "two": found["c0"]}, n_resamples=50)
    assert ranked.tied == ("one", "two")
    assert as_tuple(ranked.differences["two"]) == (0, 0, 0)
    assert ranked.rows_to_decide == {"two": None}


def test_equals_but_for_rounding_stand_as_they_were_given():
    """The last digits of a sum put nobody first; a real difference does."""
    values = np.array([0.5, 0.9, 0.9 + 2e-16, 0.9 + 1e-9, 0.5 + 1e-16])
    assert list(ranking.best_first(values)) == [3, 1, 2, 0, 4]


def test_one_candidate_is_the_best():
    """Alone, a candidate is best and tied with itself; none at all is an error."""
    y, found = candidates(50, 1)
    assert ranking.rank(AUC, y, found, n_resamples=20).tied == ("c0",)
    with pytest.raises(DataError, match="no candidates"):
        ranking.rank(AUC, y, {})
    with pytest.raises(DataError, match="undefined"):
        ranking.rank(AUC, np.zeros(50, dtype=int), found, n_resamples=20)


@pytest.mark.parametrize("given", [{"folds": 5}, {"clusters": 25}, {"folds": 5, "clusters": 25}])
def test_ranking_within_folds_and_clusters(given):
    """Folds and clusters are taken into account, and the values are means over folds."""
    y, found = candidates(200, 3)
    given = {key: np.arange(200) % count for key, count in given.items()}
    ranked = ranking.rank(ACCURACY, y, found, n_resamples=100, **given)
    assert ranked.best in found
    assert best_of(ACCURACY, y, found, n_resamples=50, **given).name == ranked.best


@pytest.mark.parametrize(("name", "n_datasets"), [("accuracy", 80), ("roc_auc", 40)])
def test_twenty_equal_candidates_are_seldom_told_apart(name, n_datasets):
    """Of 20 equal candidates any is called worse in 5 % of data sets at most, within chance."""
    found = called_worse(name, 200, n_datasets, 30, n_resamples=300)
    assert found.at_most(0.05), found


def test_corrected_best_is_less_flattering():
    """The corrected score of the best of 30 is nearer the truth than the raw one, and covers."""
    raw, corrected, covered = luck_of_the_best("accuracy", 200, 40, 31, n_resamples=150)
    assert raw > 0.02
    assert abs(corrected) < raw / 2
    assert covered.at_least(0.95)


def test_bias_is_flattery_in_both_directions():
    """The bias is positive for a score and for a loss, and the winner is the one picked."""
    y, found = candidates(150, 20)
    for metric in (AUC, LOG_LOSS):
        corrected = best_of(metric, y, found, n_resamples=100)
        assert corrected.bias == pytest.approx(metric.sign * (corrected.raw - corrected.value))
        assert corrected.bias > 0
        assert corrected.low < corrected.value < corrected.high
        assert corrected.name == ranking.rank(metric, y, found, n_resamples=20).best


def test_spending_never_exceeds_alpha():
    """The error spent over any number of looks stays under alpha, and falls with each."""
    each = [spent(0.05, look) for look in range(1, 2000)]
    assert sum(each) < 0.05 < sum(each) + 1e-4
    assert each == sorted(each, reverse=True)
    with pytest.raises(ConfigError):
        spent(0.05, 0)


@pytest.mark.parametrize(("name", "own"), [("accuracy", 0.6), ("accuracy", 0.03), ("roc_auc", 0.6)])
def test_gate_seldom_promotes_an_equal(name, own):
    """An equal challenger is promoted, and rejected, as seldom as the look may err, within chance.

    Also where the two differ in a handful of rows only.
    """
    found = verdicts(name, 300, 120, 32, own=own, n_resamples=400)
    assert found["PROMOTED"].at_most(spent(0.05, 1)), found
    assert found["REJECTED"].at_most(spent(0.05, 1)), found


def test_gate_promotes_a_better_one_mostly():
    """A challenger that is much better is promoted nearly always."""
    found = verdicts("roc_auc", 300, 30, 33, gain=1.5, n_resamples=300)
    assert found["PROMOTED"].hits >= 28


def test_gate_verdicts_mirror():
    """Champion and challenger exchanged, PROMOTED becomes REJECTED, with the bounds negated."""
    y, found = candidates(400, 1)
    there = gate(AUC, y, poor(y), found["c0"], n_resamples=500)
    back = gate(AUC, y, found["c0"], poor(y), n_resamples=500)
    assert (there.verdict, back.verdict) == ("PROMOTED", "REJECTED")
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.rows_to_decide is None


def test_later_looks_are_stricter():
    """Each further look at the same rows asks for more."""
    y, found = candidates(300, 2)
    bounds = [
        gate(AUC, y, found["c0"], found["c1"], look=look, n_resamples=500).low
        for look in (1, 2, 10, 100)
    ]
    assert bounds == sorted(bounds, reverse=True)


def test_not_worse_accepts_the_same_within_a_margin():
    """A copy of the champion is not worse by a margin, not better, and with no margin unknown."""
    y, found = candidates(200, 1)
    same = (AUC, y, found["c0"], found["c0"])
    assert gate(*same, against="not_worse", margin=0.01, n_resamples=50).verdict == "PROMOTED"
    assert gate(*same, margin=0.01, n_resamples=50).verdict == "REJECTED"
    even = gate(*same, n_resamples=50)
    assert (even.verdict, even.rows_to_decide) == ("INCONCLUSIVE", None)


def test_inconclusive_says_what_would_decide():
    """An undecided test gives the rows that would decide, more than there are, and a note."""
    y, found = candidates(200, 2)
    undecided = gate(AUC, y, found["c0"], found["c1"], n_resamples=300)
    assert undecided.verdict == "INCONCLUSIVE"
    assert undecided.rows_to_decide > 200
    assert "rows would decide" in undecided.note


def test_a_few_rows_never_decide():
    """Nine rows decide nothing, be the challenger right in all and the champion in none."""
    y = np.array([0, 1] * 4 + [0])
    right = np.column_stack([1 - y, y]).astype(float)
    found = gate(ACCURACY, y, right[:, ::-1], right, n_resamples=50)
    assert found.verdict == "INCONCLUSIVE"
    assert not found.reliable


def test_gate_takes_regression_and_clusters():
    """A loss in clusters: the challenger with half the error is promoted."""
    rng = np.random.default_rng(2)
    y, noise = rng.normal(size=300), rng.normal(size=300)
    found = gate(RMSE, y, y + noise, y + noise / 2, clusters=np.arange(300) // 6, n_resamples=300)
    assert found.verdict == "PROMOTED"
    assert found.difference == pytest.approx(found.champion - found.challenger)
    with pytest.raises(ConfigError):
        gate(RMSE, y, y, y, margin=-1.0)
