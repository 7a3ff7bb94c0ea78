"""Proofs for `surefit evaluate`: how often the interval of a score holds the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proving import Outcome, Row, Section, judged

BAND = (0.93, 0.97)  # what the rate itself must lie between


def _outcome(rate: Any, band: Sequence[float] | None) -> Outcome:
    share = rate.hits / rate.trials
    held = None if band is None else bool(band[0] <= share <= band[1])
    if band is not None and rate.trials < 1000:  # few sets: chance alone leaves the band
        held = judged(rate, least=band[0], most=band[1])
    return Outcome(cells=[str(rate.trials), str(rate)], held=held)


def covered(*, band: Sequence[float] | None, **world: Any) -> Outcome:
    """The coverage of an interval in one of the worlds of tests/simulate.py."""
    import simulate

    return _outcome(simulate.covered(**world), band)


def groups_covered(*, band: Sequence[float] | None, **world: Any) -> Outcome:
    """The same where rows of a group are alike."""
    import simulate

    return _outcome(simulate.groups_covered(**world), band)


def time_covered(**world: Any) -> Outcome:
    """The same where errors follow one another."""
    import simulate

    return _outcome(simulate.time_covered(**world), None)


def standard(**world: Any) -> Outcome:
    """The coverage of any metric's interval on two balanced classes, or with normal errors."""
    import simulate

    rate = simulate.coverage(**world)
    return Outcome(cells=[str(rate.trials), str(rate)], held=judged(rate, least=0.93))


def _promised() -> list[Row]:
    worlds = {
        "roc_auc": ("balanced", "1 in 10 positive"),
        "accuracy": ("balanced", "1 in 10 positive"),
        "rmse": ("Gaussian errors", "lognormal errors"),
        "r2": ("Gaussian errors", "lognormal errors"),
    }
    cases = [(m, w, n) for m, them in worlds.items() for w in them for n in (200, 2000)]
    return [
        Row(words=(metric, world, f"{n:,}"), call=covered, repeats=2000 if n == 200 else 1000,
            seed=1000 + k, arguments={"name": metric, "world": world, "n": n, "band": BAND})
        for k, (metric, world, n) in enumerate(cases)
    ]  # fmt: skip


def _grouped() -> list[Row]:
    cases = [(m, n) for n in (20, 50, 8) for m in ("roc_auc", "accuracy", "rmse", "r2")]
    return [
        Row(words=(metric, str(n)), call=groups_covered, repeats=2000, seed=1100 + k,
            arguments={"name": metric, "n_groups": n, "band": BAND if n >= 20 else None})
        for k, (metric, n) in enumerate(cases)
    ]  # fmt: skip


def _hard() -> list[Row]:
    cases = [("accuracy", "right in 98 of 100", 200), ("roc_auc", "balanced", 50),
             ("roc_auc", "1 in 10 positive", 100), ("rmse", "lognormal errors, sigma 1", 200),
             ("r2", "lognormal errors, sigma 1", 200),
             ("rmse", "lognormal errors, sigma 1", 2000)]  # fmt: skip
    found = [
        Row(words=(metric, world, f"{n:,}"), call=covered, repeats=1000, seed=1200 + k,
            arguments={"name": metric, "world": world, "n": n, "band": None})
        for k, (metric, world, n) in enumerate(cases)
    ]  # fmt: skip
    return found + [
        Row(words=("rmse", f"errors remember half of the last, {how}", "1,000"), call=time_covered,
            repeats=1000, seed=1300 + k, arguments={"n": 1000, "blocked": blocked})
        for k, (how, blocked) in enumerate((("blocks of time", True), ("rows alone", False)))
    ]  # fmt: skip


def _standard(seed: int, *words: str, **arguments: Any) -> Row:
    return Row(words=words, call=standard, repeats=1000, seed=seed, arguments=arguments)


def _others() -> list[Row]:
    names = ("average_precision", "log_loss", "brier", "balanced_accuracy", "f1", "mcc",
             "precision", "recall", "specificity", "ks")  # fmt: skip
    numbers = [("mae", {}, ""), ("median_absolute_error", {}, ""), ("rmse", {"tails": "t5"}, "t5"),
               ("mae", {"tails": "t5"}, "t5")]  # fmt: skip
    return [
        *(_standard(1400 + k, m, "200", "balanced", name=m, n=200) for k, m in enumerate(names)),
        *(_standard(1450 + k, m, "200", f"{tails or 'Gaussian'} errors", name=m, n=200, **more)
          for k, (m, more, tails) in enumerate(numbers)),
        _standard(1470, "roc_auc", "500", "balanced, 5 folds", name="roc_auc", n=500, n_folds=5),
    ]  # fmt: skip


def _weighted() -> list[Row]:
    cases = [(name, n, uneven) for n, uneven in ((300, 0.5), (300, 1.0), (1000, 1.5))
             for name in ("roc_auc", "average_precision", "f1", "rmse")]  # fmt: skip
    return [
        _standard(1500 + k, name, f"{n:,}", f"{uneven:g}", name=name, n=n, uneven=uneven)
        for k, (name, n, uneven) in enumerate(cases)
    ]


SECTIONS = [
    Section(
        title="Intervals of a score",
        about="How often the 95 % interval of a fixed model's score holds the truth on fresh rows. "
        "Promise: between 93 and 97 %.",
        columns=("metric", "world", "rows", "seed", "data sets", "coverage", ""),
        rows=_promised(),
    ),
    Section(
        title="Intervals with groups",
        about="Ten rows a group; half of the errors' variance is the group's. Promise: between 93 "
        "and 97 % from 20 groups on; with fewer an interval is marked unreliable.",
        columns=("metric", "groups", "seed", "data sets", "coverage", ""),
        rows=_grouped(),
    ),
    Section(
        title="Hard cases",
        about="No promise: what an interval is worth where few rows carry the score, where errors "
        "are wild, or follow one another.",
        columns=("metric", "world", "rows", "seed", "data sets", "coverage", ""),
        rows=_hard(),
    ),
    Section(
        title="Intervals of other metrics",
        about="Promise: 93 % at least.",
        columns=("metric", "rows", "world", "seed", "data sets", "coverage", ""),
        rows=_others(),
    ),
    Section(
        title="Intervals of weighted rows",
        about="Weights are lognormal, *spread* the standard deviation of their logarithm: of 1,000 "
        "rows at 1.5 few more than a hundred count (Kish). Promise: 93 % at least.",
        columns=("metric", "rows", "spread", "seed", "data sets", "coverage", ""),
        rows=_weighted(),
    ),
]
