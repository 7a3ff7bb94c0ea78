"""A search at work: its workers, its engine, and its journal's mirror in MLflow."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from surefit.core import race
from surefit.edges import jobs, nursery, pool, raypool, samplers
from surefit.edges.journal import Fold, Journal, Message, Trial
from surefit.edges.mirror import mirroring
from surefit.edges.runs import Run
from surefit.edges.store import Store
from surefit.errors import SurefitError
from surefit.sections import TuneConfig, seconds
from surefit.verbs import recovery
from surefit.verbs.engine import Engine, Rules
from surefit.verbs.fold_job import FAMILY
from surefit.verbs.reporter import Reporter
from surefit.verbs.searches import Search


class Running:
    """A search at work, from first job to last: `meanwhile` if need be, then `carry_out`."""

    def __init__(self, found: Search, journal: Journal, reporter: Reporter) -> None:
        self._found, self._journal, self._reporter = found, journal, reporter
        self._stack = contextlib.ExitStack()
        self._engine: Engine | None = None
        self._workers: jobs.Workers | None = None
        self._error: SurefitError | None = None
        self._paused: float | None = None  # since when it waits for `run`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.__exit__(*details)

    def meanwhile(self, slow: Callable[[], object]) -> None:
        """Search while `slow` is done in a thread; what ends the search is raised by `run`."""
        thread = threading.Thread(target=slow, name="surefit-meanwhile", daemon=True)
        thread.start()
        try:
            if not self._is_over():
                self._engaged().run(as_long_as=thread.is_alive)
        except SurefitError as error:
            self._error = error
        finally:
            thread.join()
        self._paused = time.monotonic()

    def carry_out(self, store: Store, parent: Run) -> int:
        """Run the search as far as its budget goes; MLflow has every trial when this returns.

        Gives the bytes of memory that its workers had at once at most.
        """
        search, say = self._found.fingerprint, self._reporter.say
        return self.run(mirroring(store, self._journal, parent.run_id, search=search, say=say))

    def run(self, recorded: AbstractContextManager[Any]) -> int:
        """Run the search into its journal; `recorded` is around it. Gives its workers' bytes.

        Where all has ended already, `recorded` still writes what a kill kept from MLflow.
        """
        with self._stack, recorded:
            if self._error:
                raise self._error
            if not self._is_over():
                if self._engine and self._paused:  # which the budget does not count
                    self._engine.extend(time.monotonic() - self._paused)
                self._engaged().run()
            return self._workers.peak_bytes if self._workers else 0

    def _is_over(self) -> bool:
        ended = {trial.number for trial in self._journal.trials() if trial.state != "ASKED"}
        return ended.issuperset(range(self._found.tune.trials))

    def _engaged(self) -> Engine:
        """The engine, with workers to run its jobs and a line to show how far it is."""
        if self._engine:
            return self._engine
        found, journal = self._found, self._journal
        proposer = found.propose()
        self._workers = self._stack.enter_context(_workers(found))
        self._stack.enter_context(samplers.quiet())  # of what the proposer has imported
        advance = self._stack.enter_context(self._reporter.progress("trials", found.tune.trials))
        if note := found.idle(self._workers.idle):
            self._reporter.say(note)

        def message(trial: Trial, folds: list[Fold]) -> Message:
            key = f"{found.fingerprint}/{trial.number}"
            return Message(
                key=key, kind="trial", payload=_trial_payload(found, journal, trial, folds)
            )

        self._engine = Engine(
            journal, proposer, self._workers, _rules(found, journal),
            message=message, advance=advance,
        )  # fmt: skip
        return self._engine


def _rules(found: Search, journal: Journal) -> Rules:
    until = math.inf
    if found.tune.budget:
        until = time.monotonic() + seconds(found.tune.budget)
    return Rules(
        n_folds=found.n_folds, window=found.window, race=found.tune.race,
        greater_is_better=found.greater_is_better, complete=found.complete, read=found.read,
        trials=found.tune.trials, until=until, target=found.tune.target,
        patience=found.tune.patience, shown=lambda k, v: found.shown(journal, k, v),
        spread=lambda k, rival, n: found.spread(journal, k, rival, n),
        limits=_limits(found, journal),
    )  # fmt: skip


def _limits(found: Search, journal: Journal) -> Callable[[int, int], Any] | None:
    """By epoch, the loss above which a loop is given up; a pure function of the trials told."""
    losses = found.losses
    if losses is None or not found.tune.race:
        return None
    curves: dict[tuple[int, int], Sequence[float]] = {}

    def limits(number: int, fold: int) -> tuple[float, ...]:
        told = [t.number for t in journal.trials()
                if t.state == "COMPLETE" and t.number <= number - found.window]  # fmt: skip
        for rival in told:
            if (rival, fold) not in curves:
                payload = journal.payload(rival, fold)
                curves[rival, fold] = losses(payload) if payload else ()
        return race.curve_limits([c for k in told if len(c := curves[k, fold])])

    return limits


def warm(tune: TuneConfig, preload: tuple[str, ...]) -> None:
    """Let the libraries that local workers need be imported while we do something else."""
    if str(tune.workers).startswith("ray"):
        nursery.close_idle()  # the command line began before it had read the configuration
    else:
        nursery.ready(preload)


def _workers(found: Search) -> jobs.Workers:
    """The processes that compute, here or on Ray."""
    memory = found.tune.memory_mb * 2**20 if found.tune.memory_mb else None
    if found.on_ray:
        return raypool.RayPool(
            found.job, address=found.on_ray, most=found.n_jobs, deadline=found.tune.deadline,
            memory=memory, preload=found.preload, shared=found.shared,
        )  # fmt: skip
    return pool.Pool(
        found.job, workers=found.workers, deadline=found.tune.deadline, memory=memory,
        preload=found.preload, shared=found.shared,
    )  # fmt: skip


def _trial_payload(
    found: Search, journal: Journal, trial: Trial, folds: list[Fold]
) -> dict[str, Any]:
    """What a trial's nested run holds: the parameters it varies and its family, and its scores."""
    name = found.metric
    key = found.value_key or f"valid_{name}"
    metrics = [(key, trial.value, 0)] if trial.value is not None else []
    metrics.append(("fit_seconds", sum(f.seconds for f in folds), 0))
    if found.n_folds > 1:
        metrics += [(f"fold_{f.fold}_{name}", f.score, 0) for f in folds if f.score is not None]
    payloads = [(f, p) for f in folds if (p := journal.payload(trial.number, f.fold)) is not None]
    kept = {f.fold: payload for f, payload in payloads if f.state == "COMPLETE"}
    told = [payload.decode() for f, payload in payloads if f.state == "FAILED"]
    logged = found.logged(list(kept.values()))
    metrics += [(m.key, m.value, m.step) for m in logged if math.isfinite(m.value)]
    calls = [
        ("" if found.n_folds == 1 else f"fold_{fold}", folder)
        for fold, payload in kept.items() for folder in found.calls(payload)
    ]  # fmt: skip
    family = str(trial.params.get(FAMILY, found.family))
    varied = {k: v for k, v in trial.params.items() if k != FAMILY}
    params = {"model.family": family} if family else {}
    return {
        "number": trial.number,
        "state": trial.state,
        "reason": trial.reason,
        "started": int(trial.started * 1000),
        "ended": int((trial.ended or trial.started) * 1000),
        "params": params | {f"{found.prefix}{k}": v for k, v in varied.items()},
        "metrics": metrics,
        "calls": calls,
        "tags": {
            "surefit.search": found.fingerprint,
            "surefit.family": family,
            **({"surefit.error": told[0]} if told else {}),
            recovery.TAG: recovery.packed(trial, folds),
        },
    }
