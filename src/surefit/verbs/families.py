"""Families searched together: one study a family, starting points first, then where it pays."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from surefit.core import portfolio
from surefit.core.portfolio import Arm
from surefit.edges.draws import hash_of
from surefit.edges.search import Proposer, State
from surefit.verbs.fold_job import FAMILY

Params = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One family's search.

    Attributes:
        cost: a trial's parameters → about what it costs, by a formula.
        usual: what its first one costs.
    """

    proposer: Proposer
    cost: Callable[[Mapping[str, Any]], float]
    usual: float


@dataclass(kw_only=True)
class _Told:
    """One family's trials so far."""

    asked: list[float] = field(default_factory=list)  # the cost of each of its trials
    told: list[tuple[float, float | None]] = field(default_factory=list)
    done: bool = False

    def arm(self) -> Arm:
        return Arm(spent=sum(self.asked), told=self.told)


class Families:
    """A proposer over several: which family trial k is of depends on seed, k and results alone.

    A family enters with its first starting point, the cheapest first, each once `portfolio.ENTRY`
    times as much has been spent as it costs itself: else a short search would end with first looks
    at dear families. Else a family is drawn by `core.portfolio` among those that entered;
    within a family its other starting points come first.
    """

    def __init__(
        self, studies: Mapping[str, Study], *, seed: int, greater_is_better: bool, n_folds: int
    ) -> None:
        self._studies, self._seed, self._n_folds = studies, seed, n_folds
        self._greater = greater_is_better
        self._order = sorted(studies, key=lambda name: (studies[name].usual, name))
        self._least = portfolio.LEAST * statistics.median(s.usual for s in studies.values())
        self._seen = {name: _Told() for name in studies}
        self._trials: list[tuple[str, int]] = []  # of each trial asked: its family, and which there
        self._told = 0

    def ask(self, k: int) -> Params | None:
        """Trial k of the search: its family's name and parameters."""
        while (name := self._next(k)) is not None:
            seen = self._seen[name]
            params = self._studies[name].proposer.ask(len(seen.asked))
            if params is not None:
                self._took(name, params)
                return {FAMILY: name, **params}
            seen.done = True
        return None

    def replay(self, k: int, params: Mapping[str, Any]) -> None:
        """Take trial k from the record."""
        mine = dict(params)
        name = str(mine.pop(FAMILY))
        while (drawn := self._next(k)) not in (None, name):  # it had nothing left to propose
            assert drawn
            if not self._seen[drawn].asked:
                break
            self._seen[drawn].done = True
        self._studies[name].proposer.replay(len(self._seen[name].asked), mine)
        self._took(name, mine)

    def tell(self, k: int, value: float | None, state: State, steps: Sequence[float] = ()) -> None:
        """How trial k ended; a family hears of its own trials only."""
        name, mine = self._trials[k]
        self._studies[name].proposer.tell(mine, value, state, steps)
        seen = self._seen[name]
        if state == "PRUNED":  # it cost the folds that it had
            seen.asked[mine] *= len(steps) / self._n_folds
        by_then = sum(seen.asked[: mine + 1])
        last = steps[-1] if state == "PRUNED" and steps else value
        seen.told.append((by_then, last if state != "FAILED" else None))
        self._told += 1

    def _next(self, k: int) -> str | None:
        spent = sum(sum(seen.asked) for seen in self._seen.values())
        for name in self._order:
            if not self._seen[name].asked and (
                k == 0 or spent >= portfolio.ENTRY * self._studies[name].usual
            ):
                return name
        arms = {n: seen.arm() for n, seen in self._seen.items() if seen.asked and not seen.done}
        costs = portfolio.expected_costs(arms, greater_is_better=self._greater)
        chosen = portfolio.choose(costs, (hash_of(self._seed, k, FAMILY) >> 11) / 2**53)
        left = (n for n in self._order if not self._seen[n].asked)
        return chosen if chosen is not None else next(left, None)

    def _took(self, name: str, params: Mapping[str, Any]) -> None:
        seen = self._seen[name]
        self._trials.append((name, len(seen.asked)))
        cost = self._studies[name].cost(params)
        seen.asked.append(self._least + (cost if math.isfinite(cost) else 0.0))
