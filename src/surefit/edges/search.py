"""What to try next: grid, random, QMC, and Optuna's TPE behind one seam.

Proposal k is a pure function of (seed, k), of the results told so far in trial order, and of the
parameters of the trials that are asked and not yet told. Nothing else counts: no clock, no global
random state, no sampler that remembers. So a search that was killed is rebuilt by `replay`
and `tell` from its journal and goes on with the very proposals it would have made.

That rules out Optuna's CMA-ES and NSGA-II: they hide their state in attributes of the trials, which
a rebuilt study does not have. Optuna is imported inside the functions that use it. Another
optimiser joins by a class with `propose`, `adopt` and `told`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from surefit.errors import ConfigError, SurefitError, did_you_mean

if TYPE_CHECKING:
    import optuna

State = Literal["COMPLETE", "PRUNED", "FAILED"]
Params = dict[str, Any]

METHODS = ("grid", "qmc", "random", "tpe")
GRID_POINTS = 5  # values of a range without step in a grid; core/space.py has the same default
# Results before TPE models them. Regret as a share of random search's after 20, 30 and 50 trials at
# window 8 (48 noisy functions of five parameters; one step of the table is within the noise):
# Sobol, then TPE from 2: .78 .55 .33; 4: .76 .46 .29; 6: .80 .50 .27; 10: .79 .49 .27;
# random, then TPE from 10, Optuna's default: .85 .63 .40.
STARTUP = 4
_FEWEST = 8  # complete trials below which importances would be noise


class Axis(Protocol):
    """A dimension as an interval with both ends included (`surefit.core.space.Axis`)."""

    @property
    def kind(self) -> Literal["float", "int", "choice"]: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def log(self) -> bool: ...
    def at(self, fraction: float) -> float: ...


class Dimension(Protocol):
    """One dimension of a search space (`surefit.core.space.Dimension`)."""

    @property
    def axis(self) -> Axis: ...
    def encode(self, value: Any) -> float: ...
    def decode(self, place: float) -> Any: ...
    def points(self, n: int) -> tuple[Any, ...]: ...


Space = Mapping[str, Dimension]


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
    space: Space,
    *,
    seed: int,
    greater_is_better: bool,
    starts: Sequence[Mapping[str, Any]] = (),
    window: int | None = None,
) -> Proposer:
    """A proposer for a new search, or for one to be rebuilt with `replay` and `tell`.

    Args:
        method: "grid" (each combination once, then None), "random", "qmc" (scrambled Sobol points,
            more even than random), "tpe".
        space: as `surefit.core.space.parse` gives it.
        seed: any integer. A grid does not depend on it.
        greater_is_better: the direction of the values told.
        starts: parameters of trials 0, 1, ... for every method (a grid follows after them); what
            one leaves out is drawn at random from (seed, k).
        window: if given, `ask(k)` insists that exactly the results of 0 ... k - window are told.

    Raises:
        ConfigError: the method is unknown, or a start is outside the space; all such at once.
    """
    check_method(method)
    sources: dict[str, Callable[[], _Source]] = {
        "grid": lambda: _Grid(space, skip=len(starts)),
        "qmc": lambda: _Drawn(functools.partial(_sobol, space, seed)),
        "random": lambda: _Drawn(functools.partial(_uniform, space, seed)),
        "tpe": lambda: _Tpe(space, seed, greater_is_better),
    }
    filled = _fill(space, seed, starts)
    return _Proposer(sources[method](), space, filled, window)


def check_method(method: str) -> None:
    """Refuse a search method that there is not.

    Raises:
        ConfigError: naming the nearest.
    """
    if method not in METHODS:
        raise ConfigError(
            f'"{method}" is no search method ({", ".join(METHODS)} are).',
            f'write method = "tpe" in [tune]; {did_you_mean(method, METHODS)}',
        )


class _Source(Protocol):
    """Where proposals come from; asked and told in order, which `_Proposer` has checked."""

    def propose(self, k: int) -> Params | None: ...
    def adopt(self, k: int, params: Params) -> None: ...
    def told(self, k: int, value: float, state: State, steps: list[float]) -> None: ...


class _Proposer:
    """Holds the protocol: order, window, starting points, finite values."""

    def __init__(
        self, source: _Source, space: Space, starts: list[Params], window: int | None
    ) -> None:
        self._source = source
        self._space = space
        self._starts = starts
        self._window = window
        self._asked = 0
        self._told = 0

    def ask(self, k: int) -> Params | None:
        self._expect("ask", k, self._asked)
        due = self._told if self._window is None else max(0, k - self._window + 1)
        if self._told != due:
            raise _bug(f"ask({k}) came after {self._told} results, and {due} are due")
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
            self._source.adopt(k, _snap(self._space, params))
        except (ValueError, KeyError) as error:
            raise _bug(f"trial {k} of the record is not of this search space: {error}") from error
        self._asked += 1

    def tell(self, k: int, value: float | None, state: State, steps: Sequence[float] = ()) -> None:
        self._expect("tell", k, self._told)
        if k >= self._asked:
            raise _bug(f"tell({k}) came before ask({k})")
        if state not in ("COMPLETE", "PRUNED", "FAILED"):
            raise _bug(f"tell({k}) got the state {state!r}")
        complete = state == "COMPLETE"
        if complete and (value is None or not math.isfinite(value)):
            raise _bug(f"tell({k}) says COMPLETE with the value {value}")
        finite = [float(step) for step in steps if math.isfinite(step)]
        self._source.told(k, float(value) if complete and value is not None else 0.0, state, finite)
        self._told += 1

    def _expect(self, verb: str, k: int, due: int) -> None:
        if k != due:
            raise _bug(f"{verb}({k}) came where {verb}({due}) is due")


class _Drawn:
    """Proposals that depend on (seed, k) alone."""

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


class _Tpe:
    """Optuna's TPE: one study in memory, a sampler newly seeded from (seed, k) for each ask.

    Trials asked and not told are RUNNING in the study, so TPE keeps away from them. Until `STARTUP`
    results are in, proposals are Sobol points: more even than random ones, and those are the last
    a short search can spare.
    """

    def __init__(self, space: Space, seed: int, greater_is_better: bool) -> None:
        self._space = space
        self._seed = seed
        self._distributions = _distributions(space)
        self._useful = 0  # results that TPE can learn from
        self._storage, self._study = _study(greater_is_better)

    def propose(self, k: int) -> Params | None:
        if self._useful < STARTUP:
            params = _sobol(self._space, self._seed, k)
            self.adopt(k, params)
            return params
        from optuna.samplers import TPESampler

        self._study.sampler = TPESampler(seed=_hash(self._seed, k) % 2**32, n_startup_trials=1)
        places = self._study.ask(self._distributions).params
        return _decode(self._space, places)

    def adopt(self, k: int, params: Params) -> None:
        from optuna.trial import TrialState

        self._study.add_trial(_trial(self._space, self._distributions, params, TrialState.RUNNING))

    def told(self, k: int, value: float, state: State, steps: list[float]) -> None:
        from optuna.trial import TrialState

        if state == "COMPLETE":
            self._study.tell(k, value)
        elif state == "FAILED":  # a trial left RUNNING would repel TPE for ever
            self._study.tell(k, state=TrialState.FAIL)
        else:
            for step, score in enumerate(steps):  # the storage holds one study: trial id == number
                self._storage.set_trial_intermediate_value(k, step, score)
            self._study.tell(k, state=TrialState.PRUNED)
        self._useful += state != "FAILED"


def importances(
    space: Space, trials: Iterable[tuple[Mapping[str, Any], float | None]], *, seed: int = 0
) -> dict[str, float]:
    """How much of the variance of the score each parameter explains (fANOVA, 64 trees).

    Assumes that the trials cover the space: a search that homed in says little about the rest.
    Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter
    Importance".

    Args:
        space: the search space.
        trials: parameters and final value of the COMPLETE trials; pairs without a finite value are
            left out.
        seed: of the forest; the same trials and seed give the same numbers.

    Returns:
        Shares in [0, 1] that sum to 1, the greatest first; fixed parameters are absent. Empty with
        fewer than 8 values, with equal values, or when nothing varies.
    """
    pairs = [(p, float(v)) for p, v in trials if v is not None and math.isfinite(v)]
    distributions = _distributions(space)
    if len(pairs) < _FEWEST or len({v for _, v in pairs}) == 1 or not distributions:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    study = _study(True)[1]
    scale = max(abs(v) for _, v in pairs)  # squares of huge values would overflow
    for params, value in pairs:
        snapped = _snap(space, params)
        trial = _trial(space, distributions, snapped, TrialState.COMPLETE, value / scale)
        study.add_trial(trial)
    evaluator = FanovaImportanceEvaluator(seed=_hash(seed, "importances") % 2**32)
    try:
        found = get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # the forest found no variance to explain
        return {}
    shares = {key: float(share) for key, share in found.items()}
    if not all(math.isfinite(share) for share in shares.values()) or not sum(shares.values()):
        return {}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


# --- draws: pure functions of (space, seed, k) ---


def _hash(*parts: object) -> int:
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _place(space: Space, key: str, fraction: float) -> Any:
    return space[key].decode(space[key].axis.at(fraction))


def _uniform(space: Space, seed: int, k: int) -> Params:
    """Random values, each straight from a hash of (seed, k, name).

    No generator in between: NumPy may change its streams between versions, SHA-256 may not, and a
    parameter keeps its values when another joins the space.
    """
    return {key: _place(space, key, (_hash(seed, k, key) >> 11) / 2**53) for key in sorted(space)}


def _sobol(space: Space, seed: int, k: int) -> Params:
    """Point k of a scrambled Sobol sequence."""
    from scipy.stats import qmc

    varied = sorted(key for key in space if space[key].axis.high > space[key].axis.low)
    fractions: dict[str, float] = dict.fromkeys(space, 0.0)
    if varied:
        engine = qmc.Sobol(len(varied), scramble=True, rng=_hash(seed, "sobol") % 2**32)
        if k:
            engine.fast_forward(k)
        point = engine.random(1)[0]
        fractions.update(zip(varied, map(float, point), strict=True))
    return {key: _place(space, key, fractions[key]) for key in sorted(space)}


def _fill(space: Space, seed: int, starts: Sequence[Mapping[str, Any]]) -> list[Params]:
    """Starting points completed by random draws; ConfigError lists those outside the space."""
    filled, mistakes = [], []
    for k, start in enumerate(starts):
        merged = _uniform(space, seed, k)
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


# --- to Optuna and back ---


def _snap(space: Space, params: Mapping[str, Any]) -> Params:
    """The same parameters exactly as the space has them (1 becomes 1.0 where floats live)."""
    if params.keys() != space.keys():
        raise ValueError(f"it has {sorted(params)}, the space has {sorted(space)}")
    return {key: space[key].decode(space[key].encode(params[key])) for key in sorted(space)}


def _decode(space: Space, places: Mapping[str, Any]) -> Params:
    """Parameters from places on the axes; what does not vary is at the start of its axis."""
    fixed = {key: space[key].axis.low for key in space}
    merged = fixed | dict(places)
    return {key: space[key].decode(merged[key]) for key in sorted(space)}


def _distributions(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    """The axes that vary, as Optuna has them: options and steps as plain numbers."""
    axes = {key: space[key].axis for key in sorted(space)}
    return {key: _distribution(axis) for key, axis in axes.items() if axis.high > axis.low}


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    from optuna import distributions as d

    if axis.kind == "choice":
        return d.CategoricalDistribution(range(int(axis.high) + 1))
    if axis.kind == "int":
        return d.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return d.FloatDistribution(axis.low, axis.high, log=axis.log)


def _trial(
    space: Space,
    distributions: dict[str, optuna.distributions.BaseDistribution],
    params: Params,
    state: optuna.trial.TrialState,
    value: float | None = None,
) -> optuna.trial.FrozenTrial:
    from optuna.trial import create_trial

    places = {key: space[key].encode(params[key]) for key in distributions}
    return create_trial(state=state, params=places, distributions=distributions, value=value)


def _study(greater_is_better: bool) -> tuple[optuna.storages.InMemoryStorage, optuna.Study]:
    import optuna

    storage = optuna.storages.InMemoryStorage()
    direction = "maximize" if greater_is_better else "minimize"
    with _quiet():
        # A sampler is given so that Optuna seeds none from the system; each ask replaces it.
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(
            storage=storage, sampler=sampler, direction=direction, study_name="surefit"
        )
    return storage, study


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its news; the user's own verbosity is back at the end."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _bug(what: str) -> SurefitError:
    return SurefitError(
        f"The search engine broke its own protocol: {what}.",
        "this is a bug of surefit; please report it with this message",
    )
