"""What `surefit tune` will search: families, spaces, starting points, and what identifies it."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from surefit import models
from surefit.core import dependence, metrics, portfolio, race, space_text
from surefit.core import space as spaces
from surefit.core.fit import FoldResult, Problem
from surefit.core.resampling import influence, layout
from surefit.edges import environment, nursery, project, samplers, scratch, search
from surefit.edges.journal import Journal
from surefit.edges.project import UserCode
from surefit.edges.samplers import Suggest
from surefit.edges.search import Proposer
from surefit.errors import ConfigError, did_you_mean
from surefit.models import costs
from surefit.models.family import LOG_TARGET, LOSS, Family
from surefit.sections import TuneConfig
from surefit.verbs import fold_job, repeat
from surefit.verbs.candidate import Candidate
from surefit.verbs.engine import GivenUpError
from surefit.verbs.families import Families, Study
from surefit.verbs.fold_job import FAMILY, of_family
from surefit.verbs.reporter import Reporter
from surefit.verbs.searches import Search
from surefit.verbs.train import clusters, fit_folds, fold_seconds, row_weights
from surefit.verbs.workspace import Workspace
from surefit.wording import decimals

NORMAL = 1.96  # standard errors on either side of a score that is shown while a search goes on
DECIDES = ("lightgbm", "numpy", "optuna", "scikit-learn", "scipy", "skrub", "surefit")

Params = dict[str, Any]


def plan(work: Workspace, chosen: Candidate) -> Search:
    """The search that the configuration asks for.

    Raises:
        ConfigError: for a family, method, space or parameter that cannot be.
    """
    tune, problem = work.config.tune, chosen.problem
    search.check_method(tune.method, suggested=isinstance(tune.space, str))
    if tune.ensemble and (work.config.model.own or tune.rows or tune.epochs):
        raise ConfigError(
            "An ensemble is made of built-in families, fitted in full.",
            "leave out --ensemble (tune.ensemble), or tune.rows and tune.epochs",
        )
    if tune.families and not work.config.model.together:
        raise ConfigError(
            f"tune.families are searched together, and model.family is {problem.family} alone.",
            'family = "auto"   # under [model]',
        )
    families = _families(work) if work.config.model.together else (problem.family,)
    code = None
    if isinstance(tune.space, str):
        code = project.load(
            tune.space, work.project.root, scratch.at_import(work.project.root, tune.space)
        )
    known = {} if code else {name: _space(work, problem, name) for name in families}
    fixed = {name: _fixed(work, problem, name, known.get(name, ())) for name in families}
    if tune.method == "grid":
        count = sum(len(spaces.grid(dimensions)) for dimensions in known.values())
        tune = tune.model_copy(update={"trials": min(count, tune.trials)})
    suggest = code.load() if code else None
    starts = {
        name: () if tune.method == "grid" else _starts(_family(problem, name), work, known[name])
        for name in known
    }
    shared = replace(problem, most_rows=tune.rows, most_steps=tune.epochs)
    complete = _completed(work, problem, fixed, suggest)
    metric = metrics.find(work.metric, work.data.task)
    return Search(
        family=work.config.model.label, metric=work.metric,
        greater_is_better=metric.greater_is_better, n_folds=work.split.n_folds, tune=tune,
        spaces=known, suggest=suggest, suggested_by=code, fixed=fixed,
        complete=complete,
        fingerprint=_fingerprint(work, tune, known, fixed, starts, chosen, code),
        command=repeat.command(work.project, tune), shared=shared,
        job=fold_job.of_trial, read=read, preload=nursery.FOLDS, calls=_calls,
        imported=chosen.code.calls if chosen.code else (),
        losses=_losses if work.config.model.train else None,
        shown=functools.partial(_shown, work), spread=_Spread(work, shared, complete),
        propose=lambda: _proposer(work, shared, tune, suggest, known, fixed, starts),
    )  # fmt: skip


def _families(work: Workspace) -> tuple[str, ...]:
    """Those that are searched together: the ones named, or all that are installed."""
    names = work.config.tune.families or models.installed()
    wrong = [n for n in names if n not in models.TOGETHER]
    if wrong:
        raise ConfigError(
            f"tune.families = {list(names)}: {did_you_mean(wrong[0], models.TOGETHER)}",
            'families = ["lightgbm", "linear", "forest"]   # under [tune]',
        )
    if work.config.model.params:
        raise ConfigError(
            'model.params belong to one family, and model.family = "auto" searches over several.',
            "[tune.space.lightgbm] num_iterations = 500   # a plain value is fixed",
        )
    for name in names:
        needs = models.named(name).requires
        _check_libraries(name, needs)
    return tuple(names)


def _check_libraries(name: str, libraries: Sequence[str]) -> None:
    if name not in models.installed():
        raise ConfigError(
            f"tune.families names {name}, and {' and '.join(libraries)} is not installed.",
            f'pip install "surefit[{libraries[0]}]"',
        )


def _family(problem: Problem, name: str) -> Family:
    return problem.model if name == problem.family else models.named(name)


def _fixed(work: Workspace, problem: Problem, name: str, varied: Container[str]) -> Params:
    given = {} if work.config.model.together else work.config.model.params
    whole = _family(problem, name).resolve(given, work.data.task)
    return {k: v for k, v in whole.items() if k not in varied}


def _space(work: Workspace, problem: Problem, name: str) -> spaces.Space:
    """One family's space: the user's, else its published one."""
    raw, family, table = work.config.tune.space, _family(problem, name), "tune.space"
    assert not isinstance(raw, str)
    if work.config.model.together:
        stray = [key for key in raw if key not in models.TOGETHER or not isinstance(raw[key], dict)]
        if stray:
            raise ConfigError(
                f"tune.space.{stray[0]}: where families are searched together, each has a table "
                "of its own.",
                f"[tune.space.lightgbm] {stray[0]} = ...",
            )
        raw, table = raw.get(name, {}), f"tune.space.{name}"
    elif any(key in models.NAMES and isinstance(value, dict) for key, value in raw.items()):
        raise ConfigError(
            f"tune.space has a table a family, and model.family is {name} alone.",
            'family = "auto"   # under [model]',
        )
    raw = raw or _published(family, work)
    if not raw:
        raise ConfigError(
            f"{name} has no space to search.",
            "--set 'tune.space.learning_rate=\"log 0.001..0.1\"', or [tune.space] in surefit.toml",
        )
    family.resolve(raw, work.data.task)  # refuses unknown names
    return space_text.parse(raw, table)


def _published(family: Family, work: Workspace) -> dict[str, Any]:
    """The family's own space, and what is worth trying for this target and this metric.

    The target's logarithm, where it has a long tail; the absolute error, where that is scored.
    """
    found, task = family.space(work.data.task), work.data.task
    if family.logs(task) and not family.extrapolates and work.try_log:
        found = {**found, LOG_TARGET: [False, True]}
    if task == "regression" and family.losses and work.try_absolute:
        found = {**found, LOSS: ["squared_error", "absolute_error"]}
    return found


def _completed(
    work: Workspace, problem: Problem, fixed: Mapping[str, Params], suggest: Suggest | None
) -> Callable[[Params], Params]:
    """From what a trial varies to all that its fits are given."""

    def complete(params: Params) -> Params:
        made = samplers.replayed(suggest, params)[0] if suggest else dict(params)
        name = made.pop(FAMILY, None) if work.config.model.together else problem.family
        if name not in fixed:
            raise ConfigError(
                f"The space says {FAMILY} = {name!r}; {did_you_mean(str(name), fixed)}",
                'trial.suggest_categorical("model.family", ["lightgbm", "linear"])',
            )
        if suggest:
            _family(problem, name).resolve(made, work.data.task)
        return {FAMILY: name, **fixed[name], **made}

    return complete


def _proposer(
    work: Workspace, problem: Problem, tune: TuneConfig, suggest: Suggest | None,
    known: Mapping[str, spaces.Space], fixed: Mapping[str, Params],
    starts: Mapping[str, Sequence[Params]],
) -> Proposer:  # fmt: skip
    greater = metrics.find(work.metric, work.data.task).greater_is_better
    make = functools.partial(
        search.proposer, tune.method, seed=tune.seed, greater_is_better=greater
    )
    window = tune.trials_in_flight(work.split.n_folds)
    if suggest:
        return make(space=suggest, window=window)
    if not work.config.model.together:
        (name,) = known
        return make(space=known[name], starts=starts[name], window=window)
    studies = {}
    for name, dimensions in known.items():
        cost = functools.partial(_cost, replace(problem, family=name), fixed[name])
        studies[name] = Study(
            proposer=make(space=dimensions, starts=starts[name]), cost=cost,
            usual=cost(next(iter(starts[name]), {})),
        )  # fmt: skip
    return Families(studies, seed=tune.seed, greater_is_better=greater, n_folds=work.split.n_folds)


def _cost(problem: Problem, fixed: Params, params: Mapping[str, Any]) -> float:
    return fold_seconds(problem, {**fixed, **params})


def read(result: FoldResult) -> tuple[float, bytes]:
    """The score, and the predictions and rounds as bytes; float32 is plenty for scores of rows.

    Raises:
        GivenUpError: when the fit was given up in the middle.
    """
    if result.pruned:
        raise GivenUpError(result.pruned)
    buffer = io.BytesIO()
    rounds = -1 if result.rounds is None else result.rounds
    losses = np.fmin.accumulate(np.asarray([loss for _, _, loss in result.curve]))
    np.savez(
        buffer, pred=result.pred.astype("float32"), rounds=rounds, losses=losses,
        calls=np.array("\n".join(result.calls)),
    )  # fmt: skip
    return result.score, buffer.getvalue()


def _losses(payload: bytes) -> list[float]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as kept:
        return [float(v) for v in kept["losses"]]


def _calls(payload: bytes) -> list[str]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as kept:
        return str(kept["calls"]).splitlines()


def kept_fold(payload: bytes) -> tuple[np.ndarray, int | None]:
    """A fold's predictions and rounds, from what `read` made of them."""
    with np.load(io.BytesIO(payload), allow_pickle=False) as kept:
        rounds = int(kept["rounds"])
        return kept["pred"].astype("float64"), None if rounds < 0 else rounds


def _shown(work: Workspace, journal: Journal, number: int, value: float) -> str:
    """A trial's value with its interval, quick enough to show while the search goes on."""
    payloads = [journal.payload(number, fold) for fold in range(work.split.n_folds)]
    if any(p is None for p in payloads):
        return decimals(value)
    tested = [work.split.fold(fold)[1] for fold in range(work.split.n_folds)]
    place = np.searchsorted(work.split.scored_rows, np.concatenate(tested))
    pred = np.concatenate([kept_fold(p)[0] for p in payloads if p is not None])[np.argsort(place)]
    rows = layout(
        len(pred),
        folds=work.split.fold_of_rows(),
        clusters=clusters(work, work.split.scored_rows),
        weights=row_weights(work, work.split.scored_rows),
    )
    metric = metrics.find(work.metric, work.data.task)
    units = influence(
        metric, work.data.y[work.split.scored_rows][rows.order], pred[rows.order], rows
    )
    if units is None:
        return decimals(value)
    reach = NORMAL * float(np.sqrt((units**2).sum()))
    low, high = np.clip([value - reach, value + reach], *metric.bounds)
    return f"{decimals(value)} [{decimals(low)}, {decimals(high)}]"


class _Spread:
    """How sure the rows are of the difference of two trials; a fold's shares are kept a while.

    A rival whose predictions were lost with the journal is fitted once more: it decides the same.
    """

    def __init__(
        self, work: Workspace, shared: Problem, complete: Callable[[Params], Params]
    ) -> None:
        self._work, self._shared, self._complete = work, shared, complete
        self._shares = functools.lru_cache(maxsize=64)(self._shares_of)

    def __call__(self, journal: Journal, trial: int, rival: int, n_folds: int) -> float | None:
        mine = self._known(journal, trial, n_folds)
        if not mine:
            return None
        if journal.payload(rival, 0) is None:
            (params,) = (t.params for t in journal.trials() if t.number == rival)
            predict_again(self._shared, self._complete(params), journal, rival)
        return race.paired_spread(mine, self._known(journal, rival, n_folds))

    def _known(self, journal: Journal, trial: int, n_folds: int) -> list[np.ndarray]:
        """The shares in each of the first folds; [] for a metric that has none."""
        found = [self._shares(journal, trial, fold) for fold in range(n_folds)]
        return [shares for shares in found if shares is not None]

    def _shares_of(self, journal: Journal, trial: int, fold: int) -> np.ndarray | None:
        work, payload = self._work, journal.payload(trial, fold)
        if payload is None:
            return None
        rows = work.split.fold(fold)[1]
        metric = metrics.find(work.metric, work.data.task)
        return race.fold_shares(
            metric,
            work.data.y[rows],
            kept_fold(payload)[0],
            dependence.units(work.data, work.split, rows),
            row_weights(work, rows),
        )


def predict_again(shared: Problem, params: Params, journal: Journal, number: int) -> None:
    """A trial's predictions, which a journal that was rebuilt from MLflow has not."""
    problem, mine = of_family(shared, params)
    for result in reversed(fit_folds(problem, mine, Reporter(quiet=True))):
        # fold 0 is the last: where its predictions are, all are
        journal.put_payload(number, result.fold, read(result)[1])


def _starts(family: Family, work: Workspace, dimensions: spaces.Space) -> tuple[Params, ...]:
    """The family's starting points, as far as they lie inside the space."""
    usable: list[Params] = []
    for start in family.starts(work.data.task):
        inside = {k: v for k, v in start.items() if k in dimensions}
        try:
            for key, value in inside.items():
                dimensions[key].encode(value)
        except ValueError:
            continue
        if inside and inside not in usable:
            usable.append(inside)
    ways = {k: dimensions[k].points(2) for k in (LOG_TARGET, LOSS) if k in dimensions}
    return _each_way(usable, ways) if usable else ()


def _each_way(starts: Sequence[Params], ways: Mapping[str, Sequence[Any]]) -> tuple[Params, ...]:
    """The first starting point in the usual way and in each other, the rest by turns."""
    usual = {**starts[0], **{key: values[0] for key, values in ways.items()}}
    others = [{**usual, key: value} for key, values in ways.items() for value in values[1:]]
    turns = [(place, key, values) for place, (key, values) in enumerate(ways.items())]
    rest = [
        {**start, **{key: values[(k >> place) % len(values)] for place, key, values in turns}}
        for k, start in enumerate(starts[1:], start=1)
    ]
    return (usual, *others, *rest)


def _fingerprint(
    work: Workspace, config: TuneConfig, known: Mapping[str, spaces.Space],
    fixed: Mapping[str, Params], starts: Mapping[str, Sequence[Params]], chosen: Candidate,
    code: UserCode | None,
) -> str:  # fmt: skip
    """SHA-256 of all that decides the table of trials; budgets and workers do not."""
    libraries = [library for name in fixed for library in _family(chosen.problem, name).requires]
    by_method = ("hyperopt",) if config.method == "hyperopt" else samplers.decides(config.method)
    parts: dict[str, Any] = {
        "data": work.data.digest, "split": work.split.digest, "metric": work.metric,
        "family": work.config.model.label, "code": chosen.code_digest(),
        "seeds": [work.config.model.seed, config.seed],
        "space": {name: spaces.digest(dimensions) for name, dimensions in known.items()},
        "function": [code.place, code.digest] if code else None,
        "fixed": {name: dict(values) for name, values in fixed.items()},
        "starts": {name: list(points) for name, points in starts.items()},
        "method": config.method, "race": config.race and race.RULE,
        "window": config.trials_in_flight(work.split.n_folds),
        "versions": environment.versions_of((*DECIDES, *libraries, *by_method)),
    }  # fmt: skip
    if work.config.model.together:
        parts["choice"] = [portfolio.RULE, costs.RULE]
    if config.rows or config.epochs:
        parts["light"] = [config.rows, config.epochs]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
