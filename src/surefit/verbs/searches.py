"""What every search is, and is around its engine: journal, parent run, and what comes of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from surefit import masking
from surefit.config import Project
from surefit.core import space, space_text
from surefit.core.figures_search import search_history, search_slices
from surefit.core.figures_space import space_figures
from surefit.core.search_page import render_search
from surefit.edges import journal as journals
from surefit.edges import runs, samplers, search
from surefit.edges.cores import usable_cores
from surefit.edges.journal import Journal
from surefit.edges.mirror import adopt
from surefit.edges.project import UserCode
from surefit.edges.runs import Run
from surefit.edges.samplers import Suggest
from surefit.edges.search import Proposer
from surefit.edges.store import Store
from surefit.errors import ConfigError, InputError, UserCodeError
from surefit.items import Item, Metric, Param, Table, Tag, Text  # fmt: skip
from surefit.models import AUTO
from surefit.redaction import redact
from surefit.results import Score, TrialRow  # fmt: skip
from surefit.sections import TuneConfig
from surefit.verbs.fold_job import FAMILY
from surefit.wording import decimals  # fmt: skip

SEARCHES = Path(".surefit") / "searches"


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search, resolved: what is varied, what is fixed, what a job computes, what identifies it.

    Attributes:
        family: its name, "auto" for several together, "" for a function of the user's own.
        spaces: what is varied, by family; {} where a function says so.
        suggest: the user's function of an Optuna trial, or None.
        suggested_by: its source.
        fixed: what is not varied, by family.
        complete: a trial's parameters → all that its jobs are given.
        propose: makes the proposer, anew.
        job: (shared, params, fold) → a value, in a worker.
        read: that value → (score, payload to keep); ValueError says why it is no score.
        spread: (journal, a trial, its rival, n) → as `Rules.spread`.
        shown: (journal, a trial's number, its value) → as a person reads it, with its interval.
        logged: a trial's folds' payloads → further metrics of its run.
        losses: a fold's payload → its best loss up to each epoch, of a loop that reports them.
        calls: a fold's payload → the folders with what its MLflow calls wrote.
        imported: those of the user's file, as it was imported.
        fingerprint: SHA-256 of all that decides the table of trials.
        command: what shows it again.
        prefix: before a parameter's name, in a trial's run.
        value_key: the metric a trial's value is logged as; by default `valid_<metric>`.
    """

    family: str
    metric: str
    greater_is_better: bool
    n_folds: int
    tune: TuneConfig
    spaces: Mapping[str, space.Space]
    fixed: Mapping[str, dict[str, Any]]
    fingerprint: str
    command: str
    complete: Callable[[dict[str, Any]], dict[str, Any]] = field(repr=False)
    propose: Callable[[], Proposer] = field(repr=False)
    shared: Any = field(repr=False)
    job: Callable[..., Any] = field(repr=False)
    read: Callable[[Any], tuple[float, bytes | None]] = field(repr=False)
    logged: Callable[[Sequence[bytes]], Sequence[Metric]] = field(repr=False, default=lambda _: ())
    losses: Callable[[bytes], Sequence[float]] | None = field(repr=False, default=None)
    calls: Callable[[bytes], Sequence[str]] = field(repr=False, default=lambda _: ())
    imported: tuple[str, ...] = ()
    suggest: Suggest | None = field(repr=False, default=None)
    suggested_by: UserCode | None = field(repr=False, default=None)
    spread: Callable[[Journal, int, int, int], float | None] = field(
        repr=False, default=lambda journal, trial, rival, n_folds: None
    )
    shown: Callable[[Journal, int, float], str] = field(
        repr=False, default=lambda journal, number, value: decimals(value)
    )
    preload: tuple[str, ...] = ()
    prefix: str = "model.params."
    value_key: str = ""

    @property
    def workers(self) -> int:
        """Processes that compute, one thread each; on Ray, as many as this machine would have."""
        cores = usable_cores()
        wanted = cores if isinstance(self.tune.workers, str) else self.tune.workers
        return max(1, min(wanted, self.n_jobs))

    @property
    def n_jobs(self) -> int:
        """Jobs at most."""
        return self.tune.trials * self.n_folds

    @property
    def on_ray(self) -> str:
        """The Ray cluster that runs the jobs: "ray", an address, or "" for local processes."""
        chosen = self.tune.workers
        return chosen if isinstance(chosen, str) and chosen.startswith("ray") else ""

    @property
    def window(self) -> int:
        """Trials in flight: trial k is proposed from the results up to k - window."""
        return self.tune.trials_in_flight(self.n_folds)

    def where(self) -> str:
        """Who computes, in words."""
        if self.on_ray:
            return "Ray" if self.on_ray == "ray" else f"Ray at {self.on_ray}"
        return f"{self.workers} worker{'s' * (self.workers != 1)}"

    def lost(self) -> str:
        """What a journal that was rebuilt from MLflow has not, and what comes of it."""
        if self.losses and self.tune.race:
            return (
                "       without the losses of their loops: which trials are given up in the middle "
                "from here on may differ"
            )
        return "       without their predictions: those that decide are computed again"

    def crowded(self) -> str:
        """What to say where more workers were asked for than there are cores; else ""."""
        cores = usable_cores()
        if self.on_ray or self.workers <= cores:
            return ""
        return (
            f"Note:  {self.workers} workers on {cores} core{'s' * (cores != 1)} take turns: good "
            'for jobs that wait, slower for those that compute (tune.workers = "auto")'
        )

    def idle(self, n_workers: int) -> str:
        """What to say where so many workers have more hands than work; else ""."""
        most = self.window * self.n_folds
        if n_workers <= most:
            return ""
        return (
            f"Note:  {n_workers} workers have at most {most} job{'s' * (most != 1)} at once: "
            f"tune.window = {-(-n_workers // self.n_folds)} has work for all (another search)"
        )

    @property
    def sign(self) -> int:
        """1 where greater is better, else -1."""
        return 1 if self.greater_is_better else -1

    def described(self) -> dict[str, str]:
        """What is varied, in words, by name; with several families, by family and name."""
        if self.suggest:
            return {"function": getattr(self.suggested_by, "place", "") or _name(self.suggest)}
        several = len(self.spaces) > 1
        return {
            f"{family}.{key}" if several else key: text
            for family, dimensions in self.spaces.items()
            for key, text in space.describe(dimensions).items()
        }

    def given(self, trial: TrialRow) -> dict[str, Any]:
        """All that a trial's fits were given."""
        known = {FAMILY: trial.family} if self.family == AUTO else {}
        return self.complete({**known, **trial.params})

    def space_of(self, rows: Sequence[TrialRow]) -> space.Space:
        """The space that trials of one family were drawn from, as far as all were from the same."""
        if self.suggest is None:
            return self.spaces[rows[0].family] if rows else {}
        known = {FAMILY: rows[0].family} if rows and self.family == AUTO else {}
        seen = samplers.ranges(self.suggest, [{**known, **r.params} for r in rows])
        everywhere = {k: v for k, v in seen.items() if all(k in r.params for r in rows)}
        return space_text.parse(everywhere)

    def best(self, rows: Sequence[TrialRow]) -> TrialRow:
        """The best complete trial, the first of equals.

        Raises:
            InputError: when the time was up before any trial ended.
            UserCodeError: when none completed, with the first one's reason.
        """
        complete = [r for r in rows if r.value is not None]
        if complete:
            return max(complete, key=lambda r: (self.sign * float(r.value or 0), -r.number))
        if not rows:
            raise InputError("The time was up before the first trial ended.", "a longer --budget")
        raise UserCodeError(
            f"None of {len(rows)} trials completed; the first: {rows[0].reason}",
            "its run in MLflow has the traceback and what it printed: tag surefit.error",
        )


def open_journal(project: Project, found: Search) -> Journal:
    """The search's journal under the project's folder, ours alone until it is closed.

    One a search, an experiment and a store: the trials in another experiment are other runs.

    Raises:
        InputError: when another process runs this very search, or the folder cannot be written.
        ConfigError: for a method that there is not, or a name that MLflow refuses; nothing is
            written then.
    """
    _check_names(found)
    search.check_method(found.tune.method, suggested=found.suggest is not None)
    where = f"{project.config.tracking.uri}\n{project.config.name}"
    place = hashlib.sha256(where.encode()).hexdigest()[:8]
    path = project.root / SEARCHES / f"{found.fingerprint[:16]}-{place}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (project.root / SEARCHES.parent / ".gitignore").write_text("*\n", "utf-8")
    except OSError as error:
        raise InputError(
            f"A search keeps its journal in {path.parent}, which cannot be written: "
            f"{error.strerror or error}.", "make room or give access there",
        ) from None  # fmt: skip
    return journals.open(path, found.fingerprint)


def _check_names(found: Search) -> None:
    """Refuse names of hyperparameters that no parameter of a run can have."""
    for key in found.described() if found.suggest is None else ():
        is_path = posixpath.normpath(f"a.{key}") == f"a.{key}"
        if not (is_path and re.fullmatch(r"[\w.\- :/]{1,200}", key)):
            raise ConfigError(
                f'"{key[:80]}" cannot be recorded: MLflow takes letters, digits, spaces and '
                "_ - . : / in a parameter's name.",
                f'another name, such as "{re.sub(r"[^a-zA-Z0-9]+", "_", key[:80]).strip("_")}"',
            )


@contextlib.contextmanager
def parent_run(
    store: Store,
    found: Search,
    journal: Journal,
    *,
    name: str,
    tags: Mapping[str, str],
    items: Callable[[Run], None],
) -> Iterator[Run]:
    """The search's own run, open: the one it had, or a new one that `items` fills."""
    known = journal.parent_run_id
    if known and runs.reopen(store, known):
        with runs.closing(Run(store=store, run_id=known, name=name)) as run:
            yield run
        return
    owned = {**tags, "surefit.family": found.family, "surefit.search": found.fingerprint}
    run_id = runs.start(store, name, "tune", tags=owned)
    with runs.closing(Run(store=store, run_id=run_id, name=name)) as run:
        run.log(_search_items(found))
        items(run)
        if known:  # it was deleted: its trials have a parent again
            adopt(store, journal, run, search=found.fingerprint)
        journal.set_parent(run_id)  # the last: a parent that is taken up again is whole
        yield run


def _search_items(found: Search) -> Iterator[Item]:
    if found.family:
        yield Param(key="model.family", value=found.family)
    for key in ("method", "seed", "race"):
        yield Param(key=f"tune.{key}", value=getattr(found.tune, key))
    yield Param(key="tune.window", value=found.window)
    for key, text in found.described().items():
        yield Param(key=f"tune.space.{key}", value=text)
    for family, values in found.fixed.items():
        several = f"{family}." if len(found.fixed) > 1 else ""
        for key, value in values.items():
            yield Param(key=f"fixed.{several}{key}", value=value)
    if found.suggested_by:
        for path, text in found.suggested_by.files.items():
            yield Text(path=f"code/{path}", text=text)


def needed_calls(found: Search, journal: Journal) -> set[str]:
    """The folders with what MLflow calls wrote that are still to be recorded."""
    waiting = {
        folder for entry in journal.outbox_pending() for _, folder in entry.payload.get("calls", ())
    }
    unfinished = {trial.number for trial in journal.unfinished()}
    for fold in journal.folds():
        counts = fold.trial in unfinished and fold.state == "COMPLETE"
        payload = journal.payload(fold.trial, fold.fold) if counts else None
        if payload is not None:
            waiting.update(found.calls(payload))
    return waiting


def trial_rows(found: Search, journal: Journal) -> list[TrialRow]:
    """The trials that have ended, in their order.

    Where the time was up, one that has not ended may lie before one that has: it was proposed
    without knowing of the other, so each is what it would have been anyway, and both count.
    """
    folds = journal.folds_by_trial()
    rows = []
    for trial in journal.trials():
        if trial.state == "ASKED":
            continue
        mine = folds.get(trial.number, [])
        row = TrialRow(
            number=trial.number, state=trial.state, value=trial.value,
            params={k: v for k, v in trial.params.items() if k != FAMILY},
            family=str(trial.params.get(FAMILY, found.family)),
            fold_scores=tuple(f.score for f in mine if f.score is not None),
            seconds=sum(f.seconds for f in mine), reason=trial.reason,
        )  # fmt: skip
        rows.append(row)
    return rows


def importances(found: Search, rows: Sequence[TrialRow], family: str) -> dict[str, float]:
    """The share of the score's variation that each hyperparameter explains; {} with few trials."""
    mine = [r for r in rows if r.value is not None and r.family == family]
    varied = found.space_of(mine)
    scored = [({k: r.params[k] for k in varied}, float(r.value or 0)) for r in mine]
    return samplers.importances(varied, scored)


def outcome_items(
    found: Search,
    rows: Sequence[TrialRow],
    best: TrialRow,
    weights: Mapping[str, float],
    *,
    corrected: Score,
    name: str,
    tied: Sequence[int] = (),
) -> Iterator[Item]:
    """What the parent run says of the whole search: counts, the best, the table, the pictures."""
    yield Metric(key="trials", value=len(rows))
    for state in ("COMPLETE", "PRUNED", "FAILED"):
        yield Metric(key=f"trials_{state.lower()}", value=sum(r.state == state for r in rows))
    yield Tag(key="surefit.best_trial", value=str(best.number))
    yield Tag(key="surefit.family", value=best.family)
    yield Tag(key="surefit.tied", value=json.dumps(list(tied)))
    shown = [_shown(r) for r in rows]
    table = _trials_table(shown)
    yield Table(path="trials.parquet", frame=table)
    values = table["value"].astype("float64")
    states = pd.DataFrame({"trial": table["number"], "value": values, "state": table["state"]})
    drawn = [search_history(states, metric=found.metric, greater_is_better=found.greater_is_better)]
    complete = [r for r in rows if r.state == "COMPLETE"]
    mine = [r for r in complete if r.family == best.family]
    logged = [k for k, d in found.space_of(mine).items() if d.axis.log]
    if len({r.family for r in complete}) > 1:
        families = pd.DataFrame({"family": [r.family for r in complete]})
        reached = [r.value for r in complete]
        drawn.append(search_slices(
            families, reached, metric=found.metric, title="Score by family",
            name="search_families",
        ))  # fmt: skip
    settings, scores = pd.DataFrame([dict(_shown(r).params) for r in mine]), [r.value for r in mine]
    drawn.append(search_slices(settings, scores, metric=found.metric, log=logged))
    drawn += space_figures(
        settings, scores, weights, metric=found.metric,
        greater_is_better=found.greater_is_better, log=logged,
    )  # fmt: skip
    yield from drawn
    page = render_search(
        name=f"{name} by {found.tune.method}", trials=shown, best=_shown(best),
        corrected=corrected, metric=found.metric, importances=weights, figures=drawn,
        command=redact(found.command), tied=tied,
    )  # fmt: skip
    yield Text(path="report.html", text=page)
    if weights:
        yield Text(path="importances.json", text=json.dumps(dict(weights), indent=1))


def _shown(trial: TrialRow) -> TrialRow:
    """The trial as it is recorded: without secrets in its parameters and its reason."""
    params = masking.masked(dict(trial.params))
    return replace(trial, params=params, reason=redact(trial.reason))


def _trials_table(rows: Sequence[TrialRow]) -> pd.DataFrame:
    """A row a trial; parameters and fold scores in columns of their own."""
    records = []
    for r in rows:
        record: dict[str, Any] = {
            "number": r.number, "family": r.family, "state": r.state, "value": r.value,
            "seconds": r.seconds, "reason": r.reason,
        }  # fmt: skip
        record |= {f"fold_{i}": score for i, score in enumerate(r.fold_scores)}
        records.append(record | {f"params.{k}": v for k, v in r.params.items()})
    return pd.DataFrame(records)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", "a function"))
