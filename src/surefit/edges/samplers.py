"""Optuna's samplers as sources of proposals, each a pure function of seed, number and results.

TPE, GP and random samplers know what the study holds and nothing else: a new one, seeded from
(seed, k), is made for each ask. Others (CMA-ES, NSGA-II) hide their state in attributes of the
trials, which a rebuilt study does not have: one sampler is kept, and a record is taken up by asking
it again. Optuna is imported inside the functions that use it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from surefit.edges import tpe
from surefit.edges.draws import Axis, Params, Space, decode, hash_of, snap, sobol
from surefit.edges.project import users_line
from surefit.errors import ConfigError, UserCodeError, did_you_mean

if TYPE_CHECKING:
    import optuna

FORGETFUL = ("TPESampler", "GPSampler", "RandomSampler")  # the study is all they know
NEEDS = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}  # libraries that Optuna does not bring
# They take a space of their own or another sampler, or end a search by a call of their own.
UNFIT = {"GridSampler": "grid", "BruteForceSampler": "grid", "QMCSampler": "qmc",
         "PartialFixedSampler": "tpe", "BaseSampler": "tpe", "BaseGASampler": "tpe"}  # fmt: skip
_FEWEST = 8  # complete trials below which importances would be noise

Suggest = Callable[[Any], Any]  # a user's function of an Optuna trial
Distributions = Mapping[str, "optuna.distributions.BaseDistribution"]


def check_sampler(name: str) -> None:
    """Refuse a sampler of Optuna's that there is not, or that cannot work here.

    Raises:
        ConfigError: naming the nearest, or the package that is missing.
    """
    import optuna

    known = [n for n in optuna.samplers.__all__ if n.endswith("Sampler") and n not in UNFIT]
    if name in UNFIT:
        raise ConfigError(
            f'method = "optuna:{name}" cannot be used here.', f'method = "{UNFIT[name]}"'
        )
    if name not in known:
        raise ConfigError(
            f'Optuna has no sampler "{name}" ({", ".join(known)}).', did_you_mean(name, known)
        )
    missing = NEEDS.get(name, "optuna")
    if importlib.util.find_spec(missing) is None:
        raise ConfigError(
            f'method = "optuna:{name}" needs the package {missing}, which is not installed.',
            f"pip install {missing}",
        )


def decides(method: str) -> tuple[str, ...]:
    """The libraries besides Optuna whose versions a sampler's proposals depend on."""
    missing = NEEDS.get(method.rpartition(":")[2])
    return (missing,) if missing else ()


class _Study:
    """One study in memory, told in order; trials asked and not told are RUNNING in it."""

    remembers = False

    def __init__(self, greater_is_better: bool) -> None:
        self._useful = 0  # results that a sampler can learn from
        self._storage, self._study = _study(greater_is_better)

    def told(self, k: int, value: float, state: str, steps: list[float]) -> None:
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


class Sampled(_Study):
    """Any sampler of Optuna's over a space.

    Until `tpe.STARTUP` results are in, TPE's proposals are Sobol points: more even than random
    ones, and those are the last a short search can spare.
    """

    def __init__(self, space: Space, seed: int, greater_is_better: bool, name: str) -> None:
        super().__init__(greater_is_better)
        self._space, self._seed, self._name = space, seed, name
        self._distributions = _distributions(space)
        self.remembers = name not in FORGETFUL
        if self.remembers:
            self._study.sampler = _sampler(name, hash_of(seed, name) % 2**32)

    def propose(self, k: int) -> Params | None:
        if self._name == "TPESampler" and self._useful < tpe.STARTUP:
            params = sobol(self._space, self._seed, k)
            self.adopt(k, params)
            return params
        if not self.remembers:
            seed = hash_of(self._seed, k) % 2**32
            self._study.sampler = _sampler(self._name, seed, self._distributions)
        with quiet(), _asked(self._name):
            places = self._study.ask(self._distributions).params
        return decode(self._space, places)

    def adopt(self, k: int, params: Params) -> None:
        from optuna.trial import TrialState

        self._study.add_trial(_trial(self._space, self._distributions, params, TrialState.RUNNING))


class Suggested(_Study):
    """Proposals made by a user's function of an Optuna trial, conditions and all."""

    def __init__(self, suggest: Suggest, seed: int, greater_is_better: bool, name: str) -> None:
        super().__init__(greater_is_better)
        self._suggest, self._seed, self._name = suggest, seed, name
        self.remembers = name not in FORGETFUL
        if self.remembers:
            self._study.sampler = _sampler(name, hash_of(seed, name) % 2**32)

    def propose(self, k: int) -> Params | None:
        if not self.remembers:
            self._study.sampler = _sampler(self._name, hash_of(self._seed, k) % 2**32)
        with quiet(), _asked(self._name):
            trial = self._study.ask()
            with _explained(self._suggest):
                self._suggest(trial)
        _check_options(self._suggest, trial.distributions)
        if not trial.params:
            raise UserCodeError(f"{_named(self._suggest)} suggested nothing to vary.")
        return dict(sorted(trial.params.items()))

    def adopt(self, k: int, params: Params) -> None:
        from optuna.trial import TrialState, create_trial

        _, distributions = replayed(self._suggest, params)
        self._study.add_trial(create_trial(
            state=TrialState.RUNNING, params={key: params[key] for key in distributions},
            distributions=distributions,
        ))  # fmt: skip


def replayed(
    suggest: Suggest, params: Mapping[str, Any]
) -> tuple[Params, dict[str, optuna.distributions.BaseDistribution]]:
    """What the user's function makes of suggested values: the hyperparameters, and the ranges.

    The hyperparameters are the mapping that it returns, or the suggested values themselves.

    Raises:
        UserCodeError: from its own exceptions.
    """
    from optuna.trial import FixedTrial

    trial = FixedTrial(dict(params))
    with _explained(suggest):
        returned = suggest(trial)
    made = dict(returned) if isinstance(returned, Mapping) else dict(trial.params)
    return made, trial.distributions


def ranges(suggest: Suggest, trials: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The ranges that trials were drawn from, in the words of `[tune.space]`.

    A name whose range differs from trial to trial is left out.
    """
    seen: dict[str, Any] = {}
    for params in trials:
        for key, distribution in replayed(suggest, params)[1].items():
            text = _words(distribution)
            seen[key] = text if seen.get(key, text) == text else None
    return {key: text for key, text in sorted(seen.items()) if text is not None}


def _words(distribution: optuna.distributions.BaseDistribution) -> Any:
    from optuna import distributions as d

    if isinstance(distribution, d.CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, d.FloatDistribution | d.IntDistribution)
    if distribution.single():
        return distribution.low
    words = "int " * isinstance(distribution, d.IntDistribution) + "log " * distribution.log
    step = "" if distribution.step in (None, 1) else f" step {distribution.step}"
    return f"{words}{distribution.low}..{distribution.high}{step if not distribution.log else ''}"


@contextlib.contextmanager
def _explained(suggest: Suggest) -> Iterator[None]:
    """The user's own line first; a name that Optuna's trials do not have, with the nearest."""
    try:
        with users_line():
            yield
    except UserCodeError as error:
        raise UserCodeError(
            f"{_named(suggest)} failed as the space of a search: {error}"
        ) from error


def _check_options(suggest: Suggest, distributions: Distributions) -> None:
    """Refuse options that a search cannot keep as they are, before a trial is paid for.

    Raises:
        UserCodeError: naming the first.
    """
    for key, distribution in distributions.items():
        for option in getattr(distribution, "choices", ()):
            plain = option is None or isinstance(option, str | bool | int | float)
            if not plain or (isinstance(option, float) and not math.isfinite(option)):
                raise UserCodeError(
                    f"{_named(suggest)} has the option {option!r} for {key}, a "
                    f"{type(option).__name__}; options are texts, finite numbers, True, False or "
                    "None.",
                    f'trial.suggest_categorical("{key}", ["small", "large"]), and a dict from each '
                    "text to its value where it is used",
                )


def _named(suggest: Suggest) -> str:
    return str(getattr(suggest, "__name__", "the space"))


def _sampler(
    name: str, seed: int, axes: Distributions | None = None
) -> optuna.samplers.BaseSampler:
    """A sampler of Optuna's; `axes` are known where every trial has the same."""
    if name == "TPESampler":
        return tpe.sampler(seed, axes)
    import optuna

    make = getattr(optuna.samplers, name)
    options: dict[str, Any] = {"seed": seed}
    if "warn_independent_sampling" in inspect.signature(make).parameters:
        options["warn_independent_sampling"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a sampler is experimental was the user's choice
        made: optuna.samplers.BaseSampler = make(**options)
    return made


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
        snapped = snap(space, params)
        trial = _trial(space, distributions, snapped, TrialState.COMPLETE, value / scale)
        study.add_trial(trial)
    evaluator = FanovaImportanceEvaluator(seed=hash_of(seed, "importances") % 2**32)
    try:
        found = get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # the forest found no variance to explain
        return {}
    shares = {key: float(share) for key, share in found.items()}
    if not all(math.isfinite(share) for share in shares.values()) or not sum(shares.values()):
        return {}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


# --- to Optuna and back ---


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
    with quiet():
        # A sampler is given so that Optuna seeds none from the system; each ask replaces it.
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(
            storage=storage, sampler=sampler, direction=direction, study_name="surefit"
        )
    return storage, study


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its news; the user's own verbosity is back at the end.

    A change costs half a millisecond, which all of Python's loggers take: within another such
    block there is none. Where Optuna was not imported there is nothing to quieten.
    """
    optuna = sys.modules.get("optuna")
    if optuna is None or (level := optuna.logging.get_verbosity()) >= optuna.logging.ERROR:
        yield
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


@contextlib.contextmanager
def _asked(name: str) -> Iterator[None]:
    """What a sampler is asked in: TPE is quick; those that compute with matrices have one thread.

    Sums depend on how many threads share them.
    """
    if name == "TPESampler":
        with tpe.quick():
            yield
        return
    if name not in NEEDS:
        yield
        return
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)
