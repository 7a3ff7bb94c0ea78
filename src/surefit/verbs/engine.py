"""The search loop: ask → run folds → judge in order → tell; the journal is the truth.

A job is one fold of one trial. Trial k is proposed from the results of trials up to k - window
alone, and folds are judged in fold order against limits kept from when the trial was asked, so the
same search gives the same table whatever the workers, the timing and the restarts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from surefit.core import race
from surefit.edges.journal import Fold, Journal, Message, Trial
from surefit.edges.pool import Job, Outcome, Pool
from surefit.edges.search import Proposer
from surefit.errors import UserCodeError

FAILURES_IN_A_ROW = 5  # of the first trials, for one and the same reason: it makes no sense

State = Literal["COMPLETE", "PRUNED", "FAILED"]


class GivenUpError(Exception):
    """Raised by `Rules.read` for a fold that stopped because it was clearly behind."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What shapes a search; what ends it early is no part of its fingerprint.

    Attributes:
        read: a job's value → (score, payload to keep); ValueError says why it is no score.
        limits: (trial, fold) → a third argument of the job, from the complete trials up to
            `trial - window` alone; None: jobs have no such argument.
        target: the search ends once a trial told is at least as good.
        patience: the search ends after so many trials told without a better one.
        fixed: hyperparameters that every trial has.
        until: the `time.monotonic` value after which nothing new is started.
    """

    n_folds: int
    window: int
    race: bool
    greater_is_better: bool
    fixed: dict[str, Any]
    read: Callable[[Any], tuple[float, bytes | None]]
    trials: int
    until: float = math.inf
    target: float | None = None
    patience: int | None = None
    limits: Callable[[int, int], Any] | None = None


@dataclass(kw_only=True)
class _Open:
    """A trial that has not ended: its finished folds, and those that run."""

    number: int
    params: dict[str, Any]
    limits: list[float] | None
    started: float
    ended: dict[int, Fold] = field(default_factory=dict)
    running: dict[int, int] = field(default_factory=dict)  # fold → lease

    def judged(self) -> list[Fold]:
        """The finished folds before the first that is not."""
        found: list[Fold] = []
        while len(found) in self.ended:
            found.append(self.ended[len(found)])
        return found


class Engine:
    """Drives one search to its end, or as far as its budget goes."""

    def __init__(
        self,
        journal: Journal,
        proposer: Proposer,
        pool: Pool,
        rules: Rules,
        *,
        message: Callable[[Trial, list[Fold]], Message],
        advance: Callable[[int, str], None],
    ) -> None:
        self._journal, self._proposer, self._pool, self._rules = journal, proposer, pool, rules
        self._message, self._advance = message, advance
        self._ended: dict[int, tuple[State, float | None, list[float]]] = {}
        self._failures: dict[int, str] = {}
        self._told = 0
        self._complete: list[list[float]] = []  # fold scores of the complete trials told, in order
        self._open: dict[int, _Open] = {}
        self._asked = 0
        self._exhausted = False

    def run(self) -> None:
        """Run until the trials are done, the time is up, or the space is exhausted.

        Raises:
            UserCodeError: when the first trials all fail for one reason.
        """
        self._restore()
        while True:
            for number, fold in self._work():
                self._start(number, fold)
            outcome = self._pool.next(self._patience())
            if outcome is not None:
                self._take(outcome)
            elif not self._running() or time.monotonic() >= self._rules.until:
                return

    # --- what exists already ---

    def _restore(self) -> None:
        """Rebuild the state from the journal: ended trials stay ended, finished folds finished."""
        trials, folds = self._journal.trials(), self._journal.folds()
        for trial in trials:
            mine = [f for f in folds if f.trial == trial.number]
            if trial.state != "ASKED":
                scores = [f.score for f in mine if f.score is not None]
                self._ended[trial.number] = (trial.state, trial.value, scores)
        for trial in trials:
            self._tell_until(trial.number - self._rules.window)
            self._proposer.replay(trial.number, trial.params)
            self._asked = trial.number + 1
            if trial.state == "ASKED":
                ended = {f.fold: f for f in folds if f.trial == trial.number}
                self._open[trial.number] = _Open(
                    number=trial.number, params=trial.params, limits=trial.thresholds,
                    started=trial.started, ended=ended,
                )  # fmt: skip
        for number in list(self._open):
            self._judge(number)
        self._show()

    # --- what to do next ---

    def _work(self) -> Iterator[tuple[int, int]]:
        """Folds to start now, one a free worker: needed ones, new trials', then guesses."""
        free = self._pool.idle
        if time.monotonic() >= self._rules.until:
            return
        for number in sorted(self._open):
            trial = self._open[number]
            fold = len(trial.judged())
            if free and fold not in trial.running:
                free -= 1
                yield number, fold
        while free and self._ask():
            free -= 1
            yield self._asked - 1, 0
        for number in sorted(self._open):
            trial = self._open[number]
            for fold in range(self._rules.n_folds):
                if free and fold not in trial.running and fold not in trial.ended:
                    free -= 1
                    yield number, fold

    def _ask(self) -> bool:
        """Propose the next trial, if its turn has come."""
        k, rules = self._asked, self._rules
        due = k - rules.window
        if self._exhausted or k >= rules.trials or any(j <= due for j in self._open):
            return False
        self._tell_until(due)
        params = None if self._content() else self._proposer.ask(k)
        if params is None:
            self._exhausted = True
            return False
        limits = None
        if rules.race:
            limits = race.thresholds(
                self._complete, rules.n_folds, greater_is_better=rules.greater_is_better
            )
        self._journal.ask(k, params, limits)
        self._open[k] = _Open(number=k, params=params, limits=limits, started=time.time())
        self._asked += 1
        return True

    def _content(self) -> bool:
        """Whether the trials told are good enough, or no longer get better."""
        sign = 1 if self._rules.greater_is_better else -1
        best, since = -math.inf, 0
        for k in range(self._told):
            value = self._ended[k][1]
            better = value is not None and sign * value > best
            best, since = (sign * float(value or 0), 0) if better else (best, since + 1)
        target, patience = self._rules.target, self._rules.patience
        return (target is not None and best >= sign * target) or (
            patience is not None and since >= patience
        )

    def _tell_until(self, due: int) -> None:
        """Tell the results of trials up to `due`, in order, and no others."""
        while self._told <= due:
            state, value, scores = self._ended[self._told]
            steps = [float(np.mean(scores[: i + 1])) for i in range(len(scores))]
            self._proposer.tell(self._told, value, state, steps if state == "PRUNED" else ())
            if state == "COMPLETE":
                self._complete.append(scores)
            self._told += 1

    def _start(self, number: int, fold: int) -> None:
        trial = self._open[number]
        token = self._journal.lease(number, fold)
        trial.running[fold] = token
        params = {**self._rules.fixed, **trial.params}
        limits = self._rules.limits
        args = (params, fold) if limits is None else (params, fold, limits(number, fold))
        self._pool.submit(Job(key=(number, fold, token), args=args))

    # --- what came back ---

    def _take(self, outcome: Outcome) -> None:
        key: Any = outcome.key
        number, fold, token = key
        trial = self._open.get(number)
        if trial is None or trial.running.get(fold) != token:
            return
        state, score, reason, payload = self._read(outcome)
        self._journal.commit_fold(
            number, fold, token=token, state=state, score=score, seconds=outcome.seconds,
            payload=payload, reason=reason,
        )  # fmt: skip
        del trial.running[fold]
        trial.ended[fold] = Fold(
            trial=number, fold=fold, state=state, score=score, seconds=outcome.seconds,
            reason=reason, attempt=1,
        )  # fmt: skip
        self._judge(number)

    def _read(self, outcome: Outcome) -> tuple[State, float | None, str, bytes | None]:
        """A worker's outcome as a fold's: a score that is no finite number is a failure."""
        if outcome.state == "FAILED":
            return "FAILED", None, outcome.reason, None
        try:
            score, payload = self._rules.read(outcome.value)
        except GivenUpError as why:
            return "PRUNED", None, str(why), None
        except ValueError as error:
            return "FAILED", None, str(error), None
        if not math.isfinite(score):
            return "FAILED", None, f"the score is {score}", None
        return "COMPLETE", score, "", payload

    def _judge(self, number: int) -> None:
        """Look at the finished folds in their order, and end the trial where they say so."""
        trial, rules = self._open[number], self._rules
        folds = trial.judged()
        scores: list[float] = []
        for fold in folds:
            if fold.score is None:
                self._finish(trial, fold.state, None, scores, fold.reason, fold.fold)
                return
            scores.append(fold.score)
            if len(scores) < rules.n_folds and race.is_behind(
                scores, trial.limits, greater_is_better=rules.greater_is_better
            ):
                reason = f"behind after fold {fold.fold}"
                self._finish(trial, "PRUNED", None, scores, reason, fold.fold)
                return
        if len(scores) == rules.n_folds:
            value = float(np.mean(scores))
            self._finish(trial, "COMPLETE", value, scores, "", rules.n_folds - 1)

    def _finish(
        self, trial: _Open, state: State, value: float | None, scores: list[float], reason: str,
        last: int,
    ) -> None:  # fmt: skip
        for fold, token in trial.running.items():
            self._pool.cancel((trial.number, fold, token))
        del self._open[trial.number]
        self._ended[trial.number] = (state, value, scores)
        ended = Trial(
            number=trial.number, params=trial.params, thresholds=trial.limits, state=state,
            value=value, reason=reason, started=trial.started, ended=time.time(),
        )  # fmt: skip
        counted = [f for f in trial.ended.values() if f.fold <= last]
        message = self._message(ended, sorted(counted, key=lambda f: f.fold))
        self._journal.finish_trial(trial.number, state, value, reason, message=message)
        if state != "COMPLETE":
            self._journal.drop_payloads([trial.number])
        self._show()
        if state == "FAILED":
            self._failures[trial.number] = reason
            self._give_up_on_equal_failures()

    def _give_up_on_equal_failures(self) -> None:
        first = [self._failures.get(k) for k in range(FAILURES_IN_A_ROW)]
        if None not in first and len(set(first)) == 1:
            raise UserCodeError(f"The first {FAILURES_IN_A_ROW} trials all failed: {first[0]}")

    def _running(self) -> bool:
        return any(t.running for t in self._open.values())

    def _patience(self) -> float | None:
        left = self._rules.until - time.monotonic()
        return None if math.isinf(left) else max(0.0, left)

    def _show(self) -> None:
        values = [v for _, v, _ in self._ended.values() if v is not None]
        best = (max if self._rules.greater_is_better else min)(values) if values else math.nan
        self._advance(len(self._ended), f"best {best:.4f}" if values else "")
