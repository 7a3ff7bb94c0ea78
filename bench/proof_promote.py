"""Proofs for `surefit promote`: errors, power and looks of the gate, and promotions killed."""

from __future__ import annotations

import collections
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proving import Outcome, Row, Section, judged

FIRST_LOOK = 0.0304  # what the first look may spend of alpha 0.05: 6 alpha / pi^2
ALPHA = 0.05
NEAR = 0.03  # how far power may lie from theory


def verdicts(*, most: float | None, **world: Any) -> Outcome:
    """How often the gate gives each verdict; what is judged is PROMOTED."""
    import simulate

    found = simulate.verdicts(**world)
    rates = [found[v] for v in ("PROMOTED", "INCONCLUSIVE", "REJECTED")]
    cells = [str(rates[0].trials), *map(str, rates)]
    return Outcome(cells=cells, held=judged(rates[0], most=most))


def same_model(**world: Any) -> Outcome:
    """How often a model is promoted over itself with another seed, and how often that is wrong."""
    import simulate_gate

    by_gate, in_error, by_point = simulate_gate.same_model(**world)
    cells = [str(by_gate.trials), str(by_gate), str(in_error), str(by_point)]
    held = judged(by_gate, most=ALPHA) and judged(in_error, most=FIRST_LOOK)
    return Outcome(cells=cells, held=held)


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


def power_of_all(**world: Any) -> Outcome:
    """The power at the first look over all outcomes, beside theory."""
    import simulate

    found, theory = simulate.power_by_all_outcomes(**world)
    return Outcome(cells=[f"{found:.4f}", f"{theory:.4f}"], held=abs(found - theory) <= NEAR)


def killed(*, what: str, n_kills: int, served: bool = False) -> Outcome:
    """Promotions killed at random moments; alias and record are compared after each."""
    import test_races

    work = {"the move": test_races.move, "the whole command": test_races.promote_whole}[what]
    with trained_project(served=served) as trained:
        outcomes, n_late = test_races.killed(trained, n_kills, "production", 2, work)
    found = collections.Counter(outcomes)
    cells = [n_kills, n_late, found["done"], found["undone"], found["none"]]
    held = set(found) <= {"done", "undone", "none"} and n_late > 0
    return Outcome(cells=list(map(str, cells)), held=held)


def at_once(*, count: int, served: bool = False) -> Outcome:
    """Processes that move one alias at once: one record each, one chain."""
    import test_races

    with trained_project(served=served) as trained:
        test_races.at_once(trained, count, "production")
    return Outcome(cells=[str(count), str(count)], held=True)


@contextlib.contextmanager
def trained_project(*, served: bool) -> Iterator[Any]:
    """A project with three registered runs, in an embedded store or behind MLflow's own server."""
    from conftest import Server, free_port
    from promoting import project
    from surefit.edges import store

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pristine, uri = folder / "pristine.db", "sqlite:///mlflow.db"
        store._create_once(f"sqlite:///{pristine}", folder / "mlruns")
        server = None
        try:
            if served:
                server = Server(folder=folder / "server", port=free_port())
                server.folder.mkdir()
                shutil.copy(pristine, server.folder / "server.db")
                server.start()
                uri = server.uri
            (folder / "shop").mkdir()
            trained = project(folder / "shop", pristine, n=300, uri=uri)
            for name in trained.runs:
                trained.version_of(name)
            yield trained
        finally:
            if server is not None:
                server.stop()


SECTIONS = [
    Section(
        title="The same model under two seeds",
        about="Promoted over itself, fitted with another seed, on fresh test rows: by the whole "
        "gate at the first look (alpha 0.05, of which 3.04 % may be spent), and beside it by the "
        "point. Two seeds make two models, one of which is a little better in truth, so that some "
        "promotions are right; wrong is one whose challenger is no better on 50,000 more rows. "
        "Promise: promoted 5 % at most, wrongly 3.04 % at most.",
        columns=("metric", "rows", "seed", "promotions", "gate", "wrongly", "by the point", ""),
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
        title="Power over all outcomes",
        about="The first rows of the table above without chance: the verdict on each number of "
        "rows that only the challenger, or only the champion, gets right, weighted by how likely "
        "that is. Promise: within 3 points of the normal approximation.",
        columns=("gain", "gate", "theory", ""),
        rows=[
            Row(words=(f"{gain:g}",), call=power_of_all, arguments={"gain": gain, "n": 2000})
            for gain in (0.01, 0.02)
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
        about="`kill -9`, half of them at random moments of a promotion and half between its "
        "record and its end, then the next command. Promise: alias and record agree each time, and "
        "the chain is whole.",
        columns=("what", "store", "kills", "after the record began", "done", "undone",
                 "moved nothing", ""),
        alone=True,
        rows=[
            Row(words=(what, "a server" if served else "SQLite"), call=killed,
                arguments={"what": what, "n_kills": 50, "served": served})
            for served in (False, True)
            for what in ("the move", "the whole command")
        ],
    ),
    Section(
        title="Promotions at once",
        about="Processes that move one alias at the same time. Promise: as many records, one chain "
        "of them, and the alias is what the last one says.",
        columns=("store", "at once", "records", ""),
        alone=True,
        rows=[
            Row(words=("a server" if served else "SQLite",), call=at_once,
                arguments={"count": 20, "served": served})
            for served in (False, True)
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
