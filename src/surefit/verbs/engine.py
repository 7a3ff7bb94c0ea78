"""The search loop: ask → run folds → judge in order → tell; the journal is the truth.

A job is one fold of one trial. Trial k is proposed from the results of trials up to k - window
alone, and folds are judged in fold order against limits kept from when the trial was asked, so the
same search gives the same table whatever the workers, the timing and the restarts.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from surefit.core import race
from surefit.core.race import Limits
from surefit.edges.jobs import SHORT, Job, Outcome, Workers
from surefit.edges.journal import Fold, Journal, Message, Trial
from surefit.edges.search import Proposer
from surefit.errors import UserCodeError
from surefit.wording import decimals

# Trials in a row that fail for one and the same reason and end the search: while none has worked,
# and later, when something that worked has gone. A grid may have a region that cannot work.
FAILURES_AT_FIRST, FAILURES_LATER = 5, 20

EVIDENCE = 6000  # characters kept of a failed job's traceback

AHEAD = 1  # jobs handed over beyond one a worker; of short jobs, one more for each worker

LOOK = 0.1  # seconds between looks at whether to go on

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
        spread: (trial, its rival, n) → the standard error of the difference of their means over
            folds 0..n-1, paired by row; None where it is not known.
        shown: (trial's number, its value) → the best so far as a person reads it.
        complete: a trial's parameters → all that its jobs are given.
        until: the `time.monotonic` value after which nothing new is started.
    """

    n_folds: int
    window: int
    race: bool
    greater_is_better: bool
    complete: Callable[[dict[str, Any]], dict[str, Any]]
    read: Callable[[Any], tuple[float, bytes | None]]
    trials: int
    spread: Callable[[int, int, int], float | None] = lambda trial, rival, n_folds: None
    shown: Callable[[int, float], str] = lambda number, value: decimals(value)
    until: float = math.inf
    target: float | None = None
    patience: int | None = None
    limits: Callable[[int, int], Any] | None = None


@dataclass(kw_only=True)
class _Open:
    """A trial that has not ended: its finished folds, and those that run."""

    number: int
    params: dict[str, Any]
    limits: Limits | None
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
        pool: Workers,
        rules: Rules,
        *,
        message: Callable[[Trial, list[Fold]], Message],
        advance: Callable[[int, str], None],
    ) -> None:
        self._journal, self._proposer, self._pool, self._rules = journal, proposer, pool, rules
        self._message, self._advance = message, advance
        self._ended: dict[int, tuple[State, float | None, list[float]]] = {}
        self._failures: dict[int, str] = {}  # of this start: number → its reason
        self._looked = 0  # trials whose end was looked at, in their order
        self._in_a_row: list[str] = []  # the kind of each of the last ones that failed alike
        self._worked = False
        self._told = 0
        self._good, self._since = -math.inf, 0  # the best told, oriented, and trials since then
        # number and fold scores of the complete trials told, in order
        self._complete: list[tuple[int, list[float]]] = []
        self._open: dict[int, _Open] = {}
        self._asked = 0
        self._best: int | None = None  # the best complete trial, and how it is shown
        self._said = ""
        self._shown = -1  # ended trials, when the progress was shown last
        self._exhausted = False
        self._size = 0  # workers that there are
        self._short = False  # whether the last job was

    def run(self, *, as_long_as: Callable[[], bool] | None = None) -> None:
        """Run until the trials are done, the time is up, or the space is exhausted.

        Args:
            as_long_as: asked at least every `LOOK` seconds; once it is not so this returns, and
                may be called again.

        Raises:
            UserCodeError: when trials in a row fail for one reason.
        """
        if not self._size:
            self._restore()
            self._size = self._pool.idle
        while as_long_as is None or as_long_as():
            if len(self._ended) != self._shown:
                self._show()
            due = self._work()
            if due is not None:
                self._start(*due)
            patience = self._patience(math.inf if as_long_as is None else LOOK)
            outcome = self._pool.next(patience if due is None else 0.0)
            if outcome is not None:
                self._take(outcome)
            elif due is None and (not self._running() or time.monotonic() >= self._rules.until):
                return

    def extend(self, seconds: float) -> None:
        """Move the end of the time budget: so long nothing was searched."""
        self._rules = replace(self._rules, until=self._rules.until + seconds)

    # --- what exists already ---

    def _restore(self) -> None:
        """Rebuild the state from the journal: ended trials stay ended, finished folds finished."""
        trials, folds = self._journal.trials(), self._journal.folds_by_trial()
        for trial in trials:
            mine = folds.get(trial.number, [])
            if trial.state != "ASKED":
                scores = [f.score for f in mine if f.score is not None]
                self._ended[trial.number] = (trial.state, trial.value, scores)
        for trial in trials:
            self._tell_until(trial.number - self._rules.window)
            self._proposer.replay(trial.number, trial.params)
            self._asked = trial.number + 1
            if trial.state == "ASKED":
                ended = {f.fold: f for f in folds.get(trial.number, [])}
                self._open[trial.number] = _Open(
                    number=trial.number, params=trial.params, limits=_limits(trial.thresholds),
                    started=trial.started, ended=ended,
                )  # fmt: skip
        for number in list(self._open):
            self._judge(number)

    # --- what to do next ---

    def _work(self) -> tuple[int, int] | None:
        """The fold to hand over now: a needed one, a new trial's, or a guess for a free worker.

        There are a few more than workers, so that none waits while we propose.
        """
        if time.monotonic() >= self._rules.until:
            return None
        idle = self._pool.idle
        waiting = max(0, sum(len(t.running) for t in self._open.values()) - self._size)
        if idle or waiting < (self._size if self._short else AHEAD):
            for number in sorted(self._open):
                fold = len(self._open[number].judged())
                if fold not in self._open[number].running:
                    return number, fold
            if self._ask():
                return self._asked - 1, 0
        for number in sorted(self._open) if idle else ():
            trial = self._open[number]
            for fold in range(self._rules.n_folds):
                if fold not in trial.running and fold not in trial.ended:
                    return number, fold
        return None

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
            limits = race.limits(
                self._complete, rules.n_folds, greater_is_better=rules.greater_is_better
            )
        self._journal.ask(k, params, limits.to_json() if limits else None)
        self._open[k] = _Open(number=k, params=params, limits=limits, started=time.time())
        self._asked += 1
        return True

    def _content(self) -> bool:
        """Whether the trials told are good enough, or no longer get better."""
        target, patience = self._rules.target, self._rules.patience
        sign = 1 if self._rules.greater_is_better else -1
        return (target is not None and self._good >= sign * target) or (
            patience is not None and self._since >= patience
        )

    def _tell_until(self, due: int) -> None:
        """Tell the results of trials up to `due`, in order, and no others."""
        while self._told <= due:
            state, value, scores = self._ended[self._told]
            steps = [float(np.mean(scores[: i + 1])) for i in range(len(scores))]
            self._proposer.tell(self._told, value, state, steps if state == "PRUNED" else ())
            if state == "COMPLETE":
                self._complete.append((self._told, scores))
            sign = 1 if self._rules.greater_is_better else -1
            better = value is not None and sign * value > self._good
            if value is not None and better:
                self._good = sign * value
            self._since = 0 if better else self._since + 1
            self._told += 1

    def _start(self, number: int, fold: int) -> None:
        trial = self._open[number]
        token = self._journal.lease(number, fold)
        trial.running[fold] = token
        params, limits = self._rules.complete(trial.params), self._rules.limits
        args = (params, fold) if limits is None else (params, fold, limits(number, fold))
        self._pool.submit(Job(key=(number, fold, token), args=args))

    # --- what came back ---

    def _take(self, outcome: Outcome) -> None:
        key: Any = outcome.key
        number, fold, token = key
        trial = self._open.get(number)
        if trial is None or trial.running.get(fold) != token:
            return
        self._short = outcome.seconds < SHORT
        state, score, reason, payload = self._read(outcome)
        self._journal.commit_fold(
            number, fold, token=token, state=state, score=score, seconds=outcome.seconds,
            payload=payload, reason=reason,
        )  # fmt: skip
        del trial.running[fold]
        trial.ended[fold] = Fold(
            trial=number, fold=fold, state=state, score=score, seconds=outcome.seconds,
            reason=reason,
        )  # fmt: skip
        self._judge(number)

    def _read(self, outcome: Outcome) -> tuple[State, float | None, str, bytes | None]:
        """A worker's outcome as a fold's: a score that is no finite number is a failure."""
        if outcome.state == "FAILED":
            reason = outcome.reason.removeprefix("UserCodeError: ")
            return "FAILED", None, reason, _evidence(outcome).encode(errors="replace") or None
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
            if len(scores) < rules.n_folds and self._is_behind(trial, scores):
                reason = f"behind after fold {fold.fold}"
                self._finish(trial, "PRUNED", None, scores, reason, fold.fold)
                return
        if len(scores) == rules.n_folds:
            value = float(np.mean(scores))
            self._finish(trial, "COMPLETE", value, scores, "", rules.n_folds - 1)

    def _is_behind(self, trial: _Open, scores: list[float]) -> bool:
        if trial.limits is None:
            return False
        spread = self._rules.spread(trial.number, trial.limits.rival, len(scores))
        return race.is_behind(
            scores, trial.limits, greater_is_better=self._rules.greater_is_better, spread=spread
        )

    def _finish(
        self, trial: _Open, state: State, value: float | None, scores: list[float], reason: str,
        last: int,
    ) -> None:  # fmt: skip
        for fold, token in trial.running.items():
            self._pool.cancel((trial.number, fold, token))
        del self._open[trial.number]
        self._ended[trial.number] = (state, value, scores)
        ended = Trial(
            number=trial.number, params=trial.params, state=state,
            thresholds=trial.limits.to_json() if trial.limits else None,
            value=value, reason=reason, started=trial.started, ended=time.time(),
        )  # fmt: skip
        counted = [f for f in trial.ended.values() if f.fold <= last]
        message = self._message(ended, sorted(counted, key=lambda f: f.fold))
        self._journal.finish_trial(trial.number, state, value, reason, last=last, message=message)
        if state != "COMPLETE":
            self._journal.drop_payloads([trial.number])
        if state == "FAILED":
            self._failures[trial.number] = reason
        self._give_up_on_equal_failures()

    def _give_up_on_equal_failures(self) -> None:
        """End the search where trials failed in a row, all alike: in their order, however fast.

        Counted from this start on: the same command may go on, once the reason is mended.
        """
        while self._looked in self._ended:
            reason = self._failures.get(self._looked)
            self._worked |= self._ended[self._looked][0] != "FAILED"
            self._looked += 1
            if reason is None or self._in_a_row[:1] != [_kind(reason)]:
                self._in_a_row.clear()
            if reason is None:
                continue
            self._in_a_row.append(_kind(reason))
            if len(self._in_a_row) == (FAILURES_LATER if self._worked else FAILURES_AT_FIRST):
                n = len(self._in_a_row)
                raise UserCodeError(
                    f"{reason}\n  {n} trials in a row failed so: the search ends.",
                    "mend it and run the same command: it goes on behind them",
                )

    def _running(self) -> bool:
        return any(t.running for t in self._open.values())

    def _patience(self, most: float) -> float | None:
        left = min(most, self._rules.until - time.monotonic())
        return None if math.isinf(left) else min(max(0.0, left), 3600.0)

    def _show(self) -> None:
        sign = 1 if self._rules.greater_is_better else -1
        values = [(sign * v, -k) for k, (_, v, _) in self._ended.items() if v is not None]
        best = -max(values)[1] if values else None
        if best != self._best:
            self._best, value = best, None if best is None else self._ended[best][1]
            self._said = self._rules.shown(best or 0, value) if value is not None else ""
        busy = sum(len(t.running) for t in self._open.values())
        self._shown = len(self._ended)
        note = f"best {self._said}, " if self._said else ""
        busy = min(busy, self._size)  # a job that has ended may not have been looked at yet
        self._advance(len(self._ended), f"{note}{busy} of {self._size} workers busy")


def _evidence(outcome: Outcome) -> str:
    """The ends of a failed job's traceback and of what it printed."""
    parts = (outcome.traceback[-EVIDENCE:], outcome.output.strip()[-EVIDENCE // 4 :])
    return "\nIt printed:\n".join(parts) if parts[1] else parts[0]


def _kind(reason: str) -> str:
    """A failure without the values that differ from trial to trial; its line stays."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|(?<!line )(?<!\w)[-+]?\d[\w.+-]*", "…", reason)


def _limits(kept: Any) -> Limits | None:
    return None if kept is None else Limits(**kept)
