"""The gate's questions one by one, and its error and power by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from simulate import Rate, looks_at_equals, power_at, power_of_gains, two_classes
from simulate_gate import question, same_model, slices_of_equals
from surefit.core import gate, metrics, power, strata
from surefit.core.kinds import Column
from surefit.core.reliability import miscalibration
from surefit.core.strata import Slice
from surefit.errors import ConfigError
from surefit.sections import GateConfig


def test_floors_and_ceilings() -> None:
    """A floor passes by the interval's safe end, fails by its kind end, and by the point if asked;
    for a loss it is a ceiling."""
    y, pred = two_classes(2000, np.random.default_rng(0))
    auc = metrics.value(metrics.find("roc_auc", "binary"), y, pred)

    def verdict(**config):
        return [c.verdict for c in gate.floor_checks(question(y, pred, **config))]

    assert verdict(floors={"roc_auc": auc - 0.1}) == ["PROMOTED"]
    assert verdict(floors={"roc_auc": auc + 0.1}) == ["REJECTED"]
    assert verdict(floors={"roc_auc": auc - 0.001}) == ["INCONCLUSIVE"]
    assert verdict(floors={"roc_auc": auc - 0.001}, floors_by="point") == ["PROMOTED"]
    assert verdict(floors={"roc_auc": auc + 0.001}, floors_by="point") == ["REJECTED"]
    assert verdict(floors={"brier": 0.9, "log_loss": 0.01}) == ["PROMOTED", "REJECTED"]
    near = auc - 0.001
    mixed = {"roc_auc": {"value": near, "by": "point"}, "average_precision": 0.1}
    assert verdict(floors=mixed) == ["PROMOTED", "PROMOTED"]
    mixed = {"roc_auc": {"value": near, "by": "interval"}}
    assert verdict(floors=mixed, floors_by="point") == ["INCONCLUSIVE"]


def test_a_floor_that_nothing_can_reach_is_refused() -> None:
    """A percentage where a share is meant, or a negative loss, with the line that works."""
    for floors, said in (({"roc_auc": 80}, r"0 to 1"), ({"log_loss": -1}, "0 to inf")):
        with pytest.raises(ConfigError, match=said) as refused:
            gate.check_asked(GateConfig(floors=floors), "binary", [])
        assert ("{ roc_auc = 0.8 }" in str(refused.value)) == ("roc_auc" in floors)


def test_a_harmed_slice_is_found_among_sound_ones() -> None:
    """A slice where the challenger guesses is named; small ones are listed; sound ones pass."""
    rng = np.random.default_rng(1)
    y, champion = two_classes(3000, rng)
    part = rng.integers(0, 3, size=3000)
    challenger = champion.copy()
    challenger[part == 2] = 0.5
    parts = [Slice(name=f"part {k}", member=part == k) for k in range(3)]
    parts.append(Slice(name="tiny", member=np.arange(3000) < 5))
    (check,) = gate.slice_check(question(y, challenger), champion, parts)
    assert check.verdict == "REJECTED"
    assert "part 2 (" in check.reason
    assert "part 1 (" not in check.reason
    assert "too small to tell: tiny" in check.reason
    (check,) = gate.slice_check(question(y, champion), champion, parts)
    assert check.verdict == "PROMOTED"


def test_a_slice_of_few_groups_or_of_no_weight_rejects_nothing() -> None:
    """Of equal models none is shown worse on the evidence of one group, however many rows it has;
    where a class has no weight in a slice, nothing is asked of it."""
    rng = np.random.default_rng(2)
    y, champion = two_classes(600, rng)
    near = (champion[:, 1] + rng.uniform(-0.05, 0.05, 600)).clip(0.01, 0.99)
    challenger = np.column_stack([1 - near, near])
    group = np.arange(600) // 30
    parts = [Slice(name=f"g={k}", member=group == k) for k in range(20)]
    asked = replace(question(y, challenger), clusters=group)
    (check,) = gate.slice_check(asked, champion, parts)
    assert check.verdict == "PROMOTED"
    assert "of 0 tested; too small to tell: g=0, g=1" in check.reason
    rows = replace(asked.rows, weights=np.where((group == 3) & (y == 1), 0.0, 1.0))
    (check,) = gate.slice_check(replace(question(y, challenger), rows=rows), champion, parts)
    assert "too small to tell: g=3" in check.reason
    none = replace(asked.rows, weights=(y == 0).astype(float))
    (check,) = gate.undecidable(replace(asked, rows=none))
    assert "roc_auc is undefined" in check.reason


def test_slices_are_values_and_quarters() -> None:
    """A category's values and a number's quarters are slices, a missing value is its own."""
    frame = pd.DataFrame({"c": ["a", "b", None, "a"] * 25, "x": np.arange(100.0)})
    columns = [Column(name="c", dtype="string", kind="category"),
               Column(name="x", dtype="double", kind="number")]  # fmt: skip
    found = strata.slices(frame, columns, ["c", "x"])
    assert [s.name for s in found[:3]] == ["c = a", "c = b", "c = missing"]
    assert sorted(s.n_rows for s in found) == [25] * 6 + [50]
    with pytest.raises(ConfigError, match="is no feature"):
        strata.slices(frame, columns, ["y"])


def test_calibration_is_judged_beside_chance() -> None:
    """Calibrated probabilities pass; overconfident ones reject; a limit below chance is open."""
    rng = np.random.default_rng(2)
    y, pred = two_classes(4000, rng)
    sharp = expit(4 * np.log(pred[:, 1] / pred[:, 0]))
    wrong = np.column_stack([1 - sharp, sharp])

    def verdict(pred, limit):
        return gate.calibration_check(question(y, pred, calibration=limit))[0].verdict

    assert verdict(pred, 0.05) == "PROMOTED"
    assert verdict(wrong, 0.05) == "REJECTED"
    assert verdict(pred, 0.001) == "INCONCLUSIVE"
    found = miscalibration(y, pred, alpha=0.05)
    assert 0 < found.gap < 2 * found.chance


def test_calibrated_models_are_seldom_called_miscalibrated() -> None:
    """Calibrated probabilities exceed what chance allows no more often than alpha says."""
    rng, hits = np.random.default_rng(3), 0
    for k in range(200):
        y, pred = two_classes(500, rng)
        found = miscalibration(y, pred, alpha=0.05, seed=k)
        hits += found.gap > found.chance
    assert Rate(hits=hits, trials=200).at_most(0.05)


def test_copies_are_no_evidence_of_miscalibration() -> None:
    """Each row three times, or ten: a calibrated model is called so no more often than alone."""
    rng = np.random.default_rng(4)
    for times in (3, 10):
        hits = 0
        for k in range(100):
            y, pred = two_classes(100, rng)
            of, ten = np.tile(np.arange(100), times), (np.tile(y, times), np.tile(pred, (times, 1)))
            found = miscalibration(*ten, alpha=0.05, clusters=of, seed=k)
            hits += found.gap > found.chance
        assert Rate(hits=hits, trials=100).at_most(0.05)
    y, pred = two_classes(600, rng)
    wrong = expit(3 * np.log(pred[:, 1] / pred[:, 0]))
    found = miscalibration(y, np.column_stack([1 - wrong, wrong]), alpha=0.05,
                           clusters=np.arange(600) // 3)  # fmt: skip
    assert found.gap > found.chance


def test_rows_count_in_calibration_by_their_weight() -> None:
    """Equal weights change nothing, a row of weight 0 is as good as gone, and a gate that weighs
    out the rows on which a model is overconfident promotes it; weighted noise is called no more
    often than alpha says."""
    rng = np.random.default_rng(5)
    y, pred = two_classes(3000, rng)
    sharp = expit(6 * np.log(pred[:, 1] / pred[:, 0]))
    pred[2000:] = np.column_stack([1 - sharp, sharp])[2000:]
    plain = miscalibration(y, pred, alpha=0.05)
    assert miscalibration(y, pred, alpha=0.05, weights=np.full(3000, 2.0)).gap == pytest.approx(
        plain.gap
    )
    weights = np.r_[np.ones(2000), np.zeros(1000)]
    kept = miscalibration(y[:2000], pred[:2000], alpha=0.05)
    assert miscalibration(y, pred, alpha=0.05, weights=weights).gap == pytest.approx(kept.gap)
    asked = question(y, pred, calibration=0.05)
    assert gate.calibration_check(asked)[0].verdict == "REJECTED"
    weighed = replace(asked, rows=replace(asked.rows, weights=weights))
    assert gate.calibration_check(weighed)[0].verdict == "PROMOTED"
    hits = 0
    for k in range(100):
        y, pred = two_classes(400, rng)
        found = miscalibration(y, pred, alpha=0.05, weights=rng.exponential(size=400), seed=k)
        hits += found.gap > found.chance
    assert Rate(hits=hits, trials=100).at_most(0.05)


def test_limits() -> None:
    """Latency and size over their limit reject; unmeasured is undecided."""
    config = GateConfig(latency_ms=10, size_mb=1)
    checks = gate.limit_checks(config, p95_ms=11.0, n_bytes=500_000)
    assert [c.verdict for c in checks] == ["REJECTED", "PROMOTED"]
    assert gate.limit_checks(config, p95_ms=None, n_bytes=2e6)[0].verdict == "INCONCLUSIVE"


def test_the_cost_of_a_look_is_said() -> None:
    """A later look needs a larger gain, and the words say how much larger."""
    first = power.detectable(0.01, alpha=0.05, look=1)
    assert power.detectable(0.01, alpha=0.05, look=10) > 1.5 * first
    assert power_at(first, 0.01, alpha=0.05, look=1) == pytest.approx(0.8)
    said = power.cost_in_words(alpha=0.05, look=10, error=None, metric="roc_auc")
    assert "times what the first look needed" in said


def test_the_same_model_under_two_seeds_is_seldom_promoted() -> None:
    """A/A on fresh rows: the whole gate errs at most at what a first look may spend, where a point
    comparison tosses a coin; nor is any of four slices called worse more often."""
    by_gate, in_error, by_point = same_model(300, 20, seed=6, n_trees=5)
    assert by_gate.at_most(0.05)
    assert in_error.at_most(0.0304)
    assert by_point.hits >= 3
    assert slices_of_equals(400, 10, seed=7, n_slices=4).at_most(0.0304)


def test_equal_challengers_are_seldom_promoted() -> None:
    """A/A over five looks: the gate errs at most at alpha, where a point comparison mostly does."""
    by_gate, by_point = looks_at_equals(500, 15, 5, seed=4, n_resamples=500)
    assert by_gate.at_most(0.05)
    assert by_point.hits > 10


@pytest.mark.parametrize(("gain", "look"), [(0.01, 1), (0.02, 1), (0.02, 10)])
def test_power_is_what_theory_says(gain, look) -> None:
    """True gains are promoted about as often as the normal approximation foretells."""
    found, expected, _ = power_of_gains(gain, 1500, 20, seed=5, look=look)
    assert found.at_least(max(expected - 0.03, 1e-9))
    assert found.at_most(min(expected + 0.03, 1 - 1e-9))
