"""What to try next: grid, random, QMC, Optuna's samplers and Hyperopt's TPE behind one seam.

Proposal k is a pure function of (seed, k), of the results told so far in trial order, and of the
parameters of the trials that are asked and not yet told. Nothing else counts: no clock, no global
random state. So a search that was killed is rebuilt by `replay` and `tell` from its journal and
goes on with the very proposals it would have made.

Another optimiser joins by a class with `propose`, `adopt` and `told`, and its line in `_SOURCES`;
one that keeps what it learned to itself says `remembers`, and is asked again when a record is taken
up.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from surefit.edges import samplers
from surefit.edges.draws import Params, Space, bug, snap, sobol, uniform
from surefit.edges.hyper import Hyper, check_hyperopt
from surefit.edges.samplers import Sampled, Suggest, Suggested
from surefit.errors import ConfigError, did_you_mean

State = Literal["COMPLETE", "PRUNED", "FAILED"]

# (space, seed, greater_is_better, how many starting points come first) → proposals after these
_SOURCES: dict[str, Callable[[Space, int, bool, int], _Source]] = {
    "grid": lambda space, seed, greater, skip: _Grid(space, skip),
    "hyperopt": lambda space, seed, greater, skip: Hyper(space, seed, greater),
    "qmc": lambda space, seed, greater, skip: _Drawn(functools.partial(sobol, space, seed)),
    "random": lambda space, seed, greater, skip: _Drawn(functools.partial(uniform, space, seed)),
    "tpe": lambda space, seed, greater, skip: Sampled(space, seed, greater, "TPESampler"),
}
METHODS = tuple(_SOURCES)
OPTUNA = "optuna:"  # before the name of one of Optuna's samplers
SHORT = {"gp": "GPSampler", "cmaes": "CmaEsSampler", "cma-es": "CmaEsSampler",
         "nsgaii": "NSGAIISampler"}  # fmt: skip
GRID_POINTS = 5  # values of a range without step in a grid; core/space.py has the same default


class Proposer(Protocol):
    """Asked for trials and told their results, both in the order 0, 1, 2, ..."""

    def ask(self, k: int) -> Params | None:
        """The parameters of trial `k`, in plain Python types; None when there are no more to try.

        Raises:
            SurefitError: `k` is not the next trial, or results are missing or too many (our bug).
        """

    def replay(self, k: int, params: Mapping[str, Any]) -> None:
        """Take `params` for trial `k` from the record instead of asking; costs next to nothing.

        Raises:
            SurefitError: `k` is not the next trial, or `params` are not of this space.
        """

    def tell(self, k: int, value: float | None, state: State, steps: Sequence[float] = ()) -> None:
        """Say how trial `k` ended.

        Args:
            value: the score, finite, for COMPLETE; ignored else.
            steps: the scores of a PRUNED trial until then, in order; those not finite are left out.

        Raises:
            SurefitError: `k` is not the next result, or COMPLETE comes without a finite value.
        """


def proposer(
    method: str,
    space: Space | Suggest,
    *,
    seed: int,
    greater_is_better: bool,
    starts: Sequence[Mapping[str, Any]] = (),
    window: int | None = None,
) -> Proposer:
    """A proposer for a new search, or for one to be rebuilt with `replay` and `tell`.

    Args:
        method: "grid" (each combination once, then None), "random", "qmc" (scrambled Sobol points,
            more even than random), "tpe", "hyperopt", or "optuna:" and the name of a sampler.
        space: as `surefit.core.space.parse` gives it; or a function of an Optuna trial.
        seed: any integer. A grid does not depend on it.
        greater_is_better: the direction of the values told.
        starts: parameters of trials 0, 1, ... for every method (a grid follows after them); what
            one leaves out is drawn at random from (seed, k).
        window: if given, `ask(k)` insists that exactly the results of 0 ... k - window are told.

    Raises:
        ConfigError: the method is unknown, or a start is outside the space; all such at once.
    """
    check_method(method, suggested=callable(space))
    name = _sampler_of(method)
    if callable(space):
        by = Suggested(space, seed, greater_is_better, name or "TPESampler")
        return _Proposer(by, lambda params: dict(params), [], window)
    filled = _fill(space, seed, starts)
    if method in _SOURCES:
        source = _SOURCES[method](space, seed, greater_is_better, len(starts))
    else:
        source = Sampled(space, seed, greater_is_better, str(name))
    return _Proposer(source, functools.partial(snap, space), filled, window)


def _sampler_of(method: str) -> str | None:
    known = {"tpe": "TPESampler", "random": "RandomSampler"}
    return method.removeprefix(OPTUNA) if method.startswith(OPTUNA) else known.get(method)


def check_method(method: str, *, suggested: bool = False) -> None:
    """Refuse a search method that there is not, or that cannot search such a space.

    Args:
        suggested: whether the space is a function of an Optuna trial.

    Raises:
        ConfigError: naming the nearest.
        MissingExtraError: with the line that installs what it needs.
    """
    if method.startswith(OPTUNA):
        samplers.check_sampler(method.removeprefix(OPTUNA))
    elif method not in METHODS:
        short = SHORT.get(method.lower())
        right = f'"{OPTUNA}{short}"' if short else '"tpe"'
        raise ConfigError(
            f'"{method}" is no search method ({", ".join(METHODS)} are, and "optuna:NAME" is any '
            "of Optuna's samplers).",
            f"write method = {right} in [tune]; {did_you_mean(method, METHODS)}",
        )
    elif method == "hyperopt":
        check_hyperopt()
    if suggested and method not in ("tpe", "random") and not method.startswith(OPTUNA):
        raise ConfigError(
            f'method = "{method}" cannot search a space that is a function of a trial.',
            'method = "tpe", "random", or "optuna:" and the name of a sampler',
        )


class _Source(Protocol):
    """Where proposals come from; asked and told in order, which `_Proposer` has checked."""

    remembers: bool

    def propose(self, k: int) -> Params | None: ...
    def adopt(self, k: int, params: Params) -> None: ...
    def told(self, k: int, value: float, state: State, steps: list[float]) -> None: ...


class _Proposer:
    """Holds the protocol: order, window, starting points, finite values."""

    def __init__(
        self,
        source: _Source,
        snapped: Callable[[Mapping[str, Any]], Params],
        starts: list[Params],
        window: int | None,
    ) -> None:
        self._source = source
        self._snapped = snapped
        self._starts = starts
        self._window = window
        self._asked = 0
        self._told = 0

    def ask(self, k: int) -> Params | None:
        self._expect("ask", k, self._asked)
        due = self._told if self._window is None else max(0, k - self._window + 1)
        if self._told != due:
            raise bug(f"ask({k}) came after {self._told} results, and {due} are due")
        if k < len(self._starts):
            params: Params | None = dict(self._starts[k])
            self._source.adopt(k, self._starts[k])
        else:
            params = self._source.propose(k)
        self._asked += params is not None
        return params

    def replay(self, k: int, params: Mapping[str, Any]) -> None:
        self._expect("replay", k, self._asked)
        try:
            known = self._snapped(params)
        except (ValueError, KeyError) as error:
            raise bug(f"trial {k} of the record is not of this search space: {error}") from error
        if not self._source.remembers or k < len(self._starts):
            self._source.adopt(k, known)
        elif (now := self._source.propose(k)) != known:
            raise bug(f"trial {k} of the record was {known}, and {now} is proposed now")
        self._asked += 1

    def tell(self, k: int, value: float | None, state: State, steps: Sequence[float] = ()) -> None:
        self._expect("tell", k, self._told)
        if k >= self._asked:
            raise bug(f"tell({k}) came before ask({k})")
        if state not in ("COMPLETE", "PRUNED", "FAILED"):
            raise bug(f"tell({k}) got the state {state!r}")
        complete = state == "COMPLETE"
        if complete and (value is None or not math.isfinite(value)):
            raise bug(f"tell({k}) says COMPLETE with the value {value}")
        finite = [float(step) for step in steps if math.isfinite(step)]
        self._source.told(k, float(value) if complete and value is not None else 0.0, state, finite)
        self._told += 1

    def _expect(self, verb: str, k: int, due: int) -> None:
        if k != due:
            raise bug(f"{verb}({k}) came where {verb}({due}) is due")


class _Drawn:
    """Proposals that depend on (seed, k) alone."""

    remembers = False

    def __init__(self, draw: Callable[[int], Params]) -> None:
        self._draw = draw

    def propose(self, k: int) -> Params | None:
        return self._draw(k)

    def adopt(self, k: int, params: Params) -> None:
        pass

    def told(self, k: int, value: float, state: State, steps: list[float]) -> None:
        pass


class _Grid(_Drawn):
    """Each combination once, the alphabetically last parameter varying fastest."""

    def __init__(self, space: Space, skip: int) -> None:
        columns = {key: space[key].points(GRID_POINTS) for key in sorted(space)}
        total = math.prod(len(column) for column in columns.values())

        def draw(k: int) -> Params:
            rest, params = k - skip, {}
            for key in reversed(columns):
                rest, i = divmod(rest, len(columns[key]))
                params[key] = columns[key][i]
            return dict(sorted(params.items()))

        super().__init__(draw)
        self._end = skip + total

    def propose(self, k: int) -> Params | None:
        return self._draw(k) if k < self._end else None


def _fill(space: Space, seed: int, starts: Sequence[Mapping[str, Any]]) -> list[Params]:
    """Starting points completed by random draws; ConfigError lists those outside the space."""
    filled, mistakes = [], []
    for k, start in enumerate(starts):
        merged = uniform(space, seed, k)
        for key, value in start.items():
            try:
                if key not in space:
                    raise ValueError(did_you_mean(key, space))
                merged[key] = space[key].decode(space[key].encode(value))
            except ValueError as error:
                mistakes.append(f"\n  start {k}: {key} = {value!r}: {error}")
        filled.append(merged)
    if mistakes:
        raise ConfigError(
            f"Starting points lie outside the search space:{''.join(mistakes)}",
            "widen those ranges in [tune.space], or drop the starting points",
        )
    return filled
