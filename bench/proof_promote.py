"""Proofs for `surefit promote`: errors, power and looks of the gate, and promotions killed."""

from __future__ import annotations

import collections
import tempfile
from pathlib import Path
from typing import Any

from proving import Outcome, Row, Section, judged

FIRST_LOOK = 0.0304  # what the first look may spend of alpha 0.05: 6 alpha / pi^2
NEAR = 0.03  # how far power may lie from theory


def verdicts(*, most: float | None, **world: Any) -> Outcome:
    """How often the gate gives each verdict; what is judged is PROMOTED."""
    import simulate

    found = simulate.verdicts(**world)
    rates = [found[v] for v in ("PROMOTED", "INCONCLUSIVE", "REJECTED")]
    cells = [str(rates[0].trials), *map(str, rates)]
    return Outcome(cells=cells, held=judged(rates[0], most=most))


def same_model(**world: Any) -> Outcome:
    """How often a model is promoted over itself with another seed."""
    import simulate_gate

    by_gate, by_point = simulate_gate.same_model(**world)
    cells = [str(by_gate.trials), str(by_gate), str(by_point)]
    return Outcome(cells=cells, held=judged(by_gate, most=FIRST_LOOK))


def over_looks(*, n_datasets: int, **world: Any) -> Outcome:
    """How often any of ten equal challengers is promoted, one look after the other."""
    import simulate

    by_gate, by_point = simulate.looks_at_equals(n_projects=n_datasets, n_looks=10, **world)
    cells = [str(n_datasets), str(by_gate), str(by_point)]
    return Outcome(cells=cells, held=judged(by_gate, most=0.05))


def slices_of_equals(**world: Any) -> Outcome:
    """How often a slice is called worse under an equal challenger."""
    import simulate_gate

    rate = simulate_gate.slices_of_equals(**world)
    return Outcome(cells=[str(rate.trials), str(rate)], held=judged(rate, most=FIRST_LOOK))


def power(**world: Any) -> Outcome:
    """How often a true gain is promoted; judged against theory at the first look."""
    import simulate

    rate, theory, by_point = simulate.power_of_gains(**world)
    held = judged(rate, least=theory - NEAR, most=theory + NEAR) if world["look"] == 1 else None
    cells = [str(rate.trials), str(rate), f"{theory:.3f}", str(by_point)]
    return Outcome(cells=cells, held=held)


def killed(*, what: str, n_kills: int) -> Outcome:
    """Promotions killed at random moments; alias and record are compared after each."""
    import test_races
    from promoting import project
    from surefit.edges import store

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store._create_once(f"sqlite:///{folder / 'pristine.db'}", folder / "mlruns")
        (folder / "shop").mkdir()
        trained = project(folder / "shop", folder / "pristine.db", n=300)
        for name in trained.runs:
            trained.version_of(name)
        work = {"the move": test_races.move, "the whole command": test_races.promote_whole}[what]
        outcomes = test_races.killed(trained, n_kills, "production", 2, work)
    found = collections.Counter(outcomes)
    cells = [str(n_kills), str(found["done"]), str(found["undone"]), str(found["none"])]
    return Outcome(cells=cells, held=set(found) <= {"done", "undone", "none"})


SECTIONS = [
    Section(
        title="The same model under two seeds",
        about="Promoted over itself, fitted with another seed, on fresh test rows: by the whole "
        "gate at the first look (alpha 0.05, of which 3.04 % may be spent), and beside it by the "
        "point. Promise: 3.04 % at most.",
        columns=("metric", "rows", "seed", "promotions", "gate", "by the point", ""),
        rows=[
            Row(words=(name, "1,000"), call=same_model, repeats=1000, seed=3100 + k,
                arguments={"name": name, "n": 1000})
            for k, name in enumerate(("accuracy", "roc_auc", "log_loss"))
        ],
    ),
    Section(
        title="Ten looks",
        about="Ten equal challengers, one after the other on the same test rows: is any of them "
        "promoted? Promise: 5 % at most.",
        columns=("metric", "rows", "seed", "projects", "gate", "by the point", ""),
        rows=[
            Row(words=(name, "1,000"), call=over_looks, repeats=1000, seed=3200 + k,
                arguments={"name": name, "n": 1000})
            for k, name in enumerate(("accuracy", "roc_auc"))
        ],
    ),
    Section(
        title="What looks cost in power",
        about="A challenger truly better by so many points of accuracy on 2,000 test rows; the two "
        "differ in a further 6 % of the rows. Promise at the first look: within 3 points of the "
        "normal approximation; later looks as they are.",
        columns=("gain", "look", "seed", "sets", "gate", "theory", "by the point", ""),
        rows=[
            Row(words=(f"{gain:g}", str(look)), call=power, repeats=2000 if look == 1 else 500,
                seed=3300 + round(1000 * gain) + look,
                arguments={"gain": gain, "n": 2000, "look": look})
            for gain in (0.01, 0.02)
            for look in range(1, 11)
        ],
    ),
    Section(
        title="Slices of an equal challenger",
        about="Rejected for harm to any of so many slices. Promise: 3.04 % at most.",
        columns=("slices", "rows", "seed", "sets", "rejected", ""),
        rows=[
            Row(words=(str(n), "2,000"), call=slices_of_equals, repeats=1000, seed=3400 + n,
                arguments={"n": 2000, "n_slices": n})
            for n in (2, 8)
        ],
    ),
    Section(
        title="Promotions killed",
        about="`kill -9` at random moments, then the next command. Promise: alias and record "
        "agree each time, and the chain is whole.",
        columns=("what", "kills", "done", "undone", "moved nothing", ""),
        alone=True,
        rows=[
            Row(words=(what,), call=killed, arguments={"what": what, "n_kills": 50})
            for what in ("the move", "the whole command")
        ],
    ),
    Section(
        title="The gate",
        about="A challenger with no gain (0) or with a real one, at the first look with alpha "
        "0.05, which may spend 3.04 %. Promise: a worthless challenger is promoted no more often.",
        columns=("metric", "rows", "gain", "seed", "sets", "PROMOTED", "INCONCLUSIVE", "REJECTED",
                 ""),
        rows=[
            Row(words=(name, "1,000", f"{gain:g}"), call=verdicts, repeats=1500,
                seed=3000 + round(gain * 100) + k,
                arguments={"name": name, "n": 1000, "gain": gain, "most": most})
            for gain, most in ((0.0, FIRST_LOOK), (0.4, None), (0.8, None))
            for k, name in enumerate(("accuracy", "roc_auc", "log_loss"))
        ],
    ),
]  # fmt: skip
