"""`surefit.tune(objective, space)`: the same search over a function of the user's own."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from surefit import config as configuration
from surefit.config import Config, Project
from surefit.core import space as spaces
from surefit.core import space_text
from surefit.core.context import Context
from surefit.edges import environment, identity, samplers, scratch, search, server
from surefit.edges import store as stores
from surefit.edges.redirect import Scratch
from surefit.edges.runs import Run
from surefit.edges.samplers import Suggest
from surefit.errors import ConfigError
from surefit.items import Item, Metric, Tag, Text
from surefit.redaction import redact
from surefit.results import Score, TuneResult
from surefit.verbs import extras, recovery, repeat, searches, workspace
from surefit.verbs.objective_job import ObjectiveJob
from surefit.verbs.reporter import Reporter
from surefit.verbs.running import Running, warm
from surefit.verbs.searches import Search

Objective = Callable[[dict[str, Any], Context], float]
Direction = Literal["maximize", "minimize"]
Space = Mapping[str, Any] | Suggest  # ranges by name, or a function of an Optuna trial

# Libraries that workers may have before they are forked: importing them starts no threads.
FORKED = ("catboost", "lightgbm", "numpy", "pandas", "scipy", "sklearn", "statsmodels", "xgboost")
DECIDES = ("numpy", "optuna", "scipy", "surefit")


def tune_objective(
    objective: Objective,
    space: Space,
    *,
    direction: Direction | None = None,
    config: Path | None = None,
    name: str | None = None,
    overrides: workspace.Overrides = (),
    quiet: bool = False,
) -> TuneResult:
    """Search the space for the best value of a function; see `surefit.tune`.

    Raises:
        ConfigError: when the space, the direction or an override is wrong.
        UserCodeError: when no trial completes, or the first ones all fail alike.
    """
    reporter = Reporter(quiet=quiet)
    direction = direction or "maximize"
    if direction not in ("maximize", "minimize"):
        raise ConfigError(f'direction = "{direction}"; it is "maximize" or "minimize".')
    title = name or getattr(objective, "__name__", "objective").strip("<>")
    project = configuration.of_function(title, config=config, overrides=overrides)
    needed = libraries(source_of(objective))
    warm(project.config.tune, needed)
    calls = scratch.place(project.root)
    found = replace(
        _search(objective, space, direction, project, calls), preload=needed
    )  # fmt: skip
    store = workspace.open_store(project)
    with searches.open_journal(project, found) as journal:
        recovery.rebuild(store, found.fingerprint, journal, reporter)
        finished = len(journal.trials()) - len(journal.unfinished())
        left = max(0, found.tune.trials - finished)
        reporter.say(f"Plan:  {left} trials of {title} on {found.where()}")
        if crowded := found.crowded():
            reporter.say(crowded)

        def items(run: Run) -> None:
            run.log(_items(objective))

        with searches.parent_run(
            store, found, journal, name=f"tune {title}", tags={}, items=items
        ) as parent:
            started = time.monotonic()
            scratch.sweep(project.root, found.fingerprint, searches.needed_calls(found, journal))
            texts = [source_of(objective)]
            scratch.prepare(calls, store, texts, search=found.fingerprint)
            with Running(found, journal, reporter) as running:
                workers = running.carry_out(store, parent)
            rows = searches.trial_rows(found, journal)
            best = found.best(rows)
            weights = searches.importances(found, rows, "")
            score = _score(float(best.value or 0), found)
            parent.log(
                searches.outcome_items(found, rows, best, weights, corrected=score, name=title)
            )
            parent.log([
                extras.memory(workers),
                Metric(key="best_objective", value=float(best.value or 0)),
                Text(path="best.json", text=json.dumps(found.given(best), indent=1, default=str)),
            ])  # fmt: skip
        scratch.sweep(project.root, found.fingerprint, searches.needed_calls(found, journal))
    stores.analyze(store)
    return TuneResult(
        run_id=parent.run_id, name=parent.name, family="", method=found.tune.method,
        metric=found.metric, trials=tuple(rows), best=best, score=score, corrected=score,
        importances=weights, model_uri="", seconds=time.monotonic() - started, resumed=finished,
        next=_next(project, config, store),
    )  # fmt: skip


def _next(project: Project, config: Path | None, store: stores.Store) -> str:
    """What shows the trials, with and without a project in the folder."""
    if config:
        return f"surefit ui -c {shlex.quote(str(config))}"
    if configuration.file_in(project.root):
        return "surefit ui"
    if store.uri.startswith("http"):
        return f"open {server.page(store)}"
    return f"mlflow ui --backend-store-uri {shlex.quote(redact(store.uri))}"


def _search(
    objective: Objective, space: Space, direction: Direction, project: Project, calls: Scratch
) -> Search:
    tune = project.config.tune
    suggest = space if callable(space) else None
    search.check_method(tune.method, suggested=suggest is not None)
    dimensions = {} if callable(space) else space_text.parse(space)
    if tune.method == "grid":
        count = len(spaces.grid(dimensions))
        tune = tune.model_copy(update={"trials": min(count, tune.trials)})
    return Search(
        family="", metric="objective", greater_is_better=direction == "maximize", n_folds=1,
        tune=tune, spaces={"": dimensions}, suggest=suggest, fixed={"": {}},
        complete=lambda params: samplers.replayed(suggest, params)[0] if suggest else params,
        propose=lambda: search.proposer(
            tune.method, suggest or dimensions, seed=tune.seed,
            greater_is_better=direction == "maximize", window=tune.trials_in_flight(1),
        ),
        fingerprint=_fingerprint(objective, suggest, dimensions, direction, project.config),
        command=repeat.call(
            f"{_called(objective)}, {_called(space) if callable(space) else dict(space)!r}",
            project, tune, direction=direction,
        ),
        shared=None, read=_read, logged=_logged, calls=_calls,
        job=ObjectiveJob(objective=objective, seed=tune.seed, scratch=calls),
        prefix="", value_key="objective",
    )  # fmt: skip


def _called(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", "objective"))


def _fingerprint(
    objective: Objective,
    suggest: Suggest | None,
    dimensions: spaces.Space,
    direction: Direction,
    config: Config,
) -> str:
    """SHA-256 of all that decides the table of trials, the functions with what they hold."""
    parts = {
        "objective": identity.digest(objective),
        "function": identity.digest(suggest) if suggest else None,
        "space": spaces.digest(dimensions), "direction": direction,
        "method": config.tune.method, "seed": config.tune.seed,
        "window": config.tune.trials_in_flight(1),
        "versions": environment.pinned((*DECIDES, *samplers.decides(config.tune.method))),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_of(function: Callable[..., Any]) -> str:
    """The text of the file that defines a function, or of the function itself in a notebook."""
    wanted = identity.inner(function)
    try:
        path = inspect.getsourcefile(wanted)
        if path and Path(path).is_file():
            return Path(path).read_text("utf-8")
        return inspect.getsource(wanted)
    except (OSError, TypeError):
        return f"{getattr(wanted, '__module__', '')}.{getattr(wanted, '__qualname__', '')}"


def libraries(source: str) -> tuple[str, ...]:
    """What workers import first: known libraries that a file imports anywhere, and their job."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # a function cut out of a notebook, indented
        nodes = []
    names = {"numpy"}
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    known = {n for n in names if n.partition(".")[0] in FORKED}
    return (*sorted(known), "surefit.verbs.objective_job")


def _read(outcome: Any) -> tuple[float, bytes]:
    value, points, calls = outcome
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"the objective returned {value!r}, which is no number")
    return float(value), json.dumps({"points": points, "calls": calls}).encode()


def _logged(payloads: Sequence[bytes]) -> list[Metric]:
    points = [point for payload in payloads for point in json.loads(payload)["points"]]
    return [Metric(key=key, value=value, step=step) for key, value, step in points]


def _calls(payload: bytes) -> list[str]:
    return list(json.loads(payload)["calls"])


def _items(objective: Objective) -> Iterator[Item]:
    yield Text(path="environment.txt", text=environment.installed())
    yield Text(path="objective.py", text=source_of(objective))
    for key, value in environment.git_tags(Path.cwd()).items():
        yield Tag(key=key, value=value)


def _score(value: float, found: Search) -> Score:
    return Score(
        metric="objective", value=value, low=math.nan, high=math.nan, n_rows=0,
        greater_is_better=found.greater_is_better,
        note="a function gives one number: its interval is not known",
    )  # fmt: skip
