"""`surefit doctor`: close dead runs, tune the store, and say what is wrong, with what mends it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surefit import config as configuration
from surefit.config import Project
from surefit.edges import environment, leftovers, upkeep
from surefit.edges import store as stores
from surefit.edges.environment import Requirement
from surefit.edges.store import Store
from surefit.errors import ConfigError, SurefitError
from surefit.redaction import redacted
from surefit.results import Shown
from surefit.verbs import remedies, workspace
from surefit.verbs.remedies import Symptom, fine, mended, note, serious
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides

LITTLE, TOO_LITTLE = 2e9, 2e8  # bytes free on a disk
PURPOSES = {  # of the optional parts, in words
    "xgboost": "the family xgboost", "catboost": "the family catboost", "torch": "the family mlp",
    "hyperopt": "tune.method = hyperopt", "ray": "searches on a Ray cluster",
    "postgres": "data.path as a query of PostgreSQL",
    "files": "tables at http:// and other addresses",
    "s3": "tables at s3://", "gcs": "tables at gs://", "azure": "tables at az://",
}  # fmt: skip
FILES = (".csv", ".tsv", ".parquet", ".feather", ".arrow", ".jsonl", ".ndjson")
NOT_FOR_USERS = ("dev", "test", "docs", "all")


@dataclass(frozen=True, kw_only=True)
class Diagnosis(Shown):
    """What `surefit doctor` looked at, what it put right, and what is wrong.

    Attributes:
        folder: the project's folder.
        store: its MLflow store; "" where there is no project here.
        symptoms: everything that was looked at, in the order of the work.
    """

    folder: str
    store: str
    symptoms: tuple[Symptom, ...]
    next: str

    @property
    def serious(self) -> tuple[Symptom, ...]:
        """What keeps surefit from working, or has lost something."""
        return self._in("serious")

    def _in(self, state: Literal["fine", "mended", "note", "serious"]) -> tuple[Symptom, ...]:
        return tuple(s for s in self.symptoms if s.state == state)

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        counts = [
            (len(self._in("mended")), "put right"),
            (len(self._in("note")), "to know"),
            (len(self._in("fine")), "fine"),
        ]
        rest = ", ".join(f"{count} {what}" for count, what in counts if count)
        wrong = len(self.serious)
        verdict = f"{wrong} serious {'finding' if wrong == 1 else 'findings'}" if wrong else "Sound"
        lines = [f"{verdict}: {rest}" if rest else verdict]
        width = max((len(s.what) for s in self.symptoms), default=0)
        for s in self.symptoms:
            lines.append(f"  {s.state:<8} {s.what:<{width}}  {s.words}")
            if s.fix:
                lines.append(f"  {'':<8} {'':<{width}}  → {s.fix}")
        return [*lines, f"Next: {self.next}"]


def doctor(
    *, config: str | Path | None = None, set: Overrides = (), quiet: bool = False
) -> Diagnosis:
    """Look at the project, its store and this machine; put right what can be put right safely.

    Runs left RUNNING by processes that died are closed with the reason, trials of a search that
    died are written into MLflow, promotions cut short are finished or undone, the embedded store
    gets WAL and statistics, and scratch that nobody uses is removed. No run is deleted, no search
    goes on and no alias moves to another version.

    Args:
        config, set: as in `train`.
        quiet: say nothing on standard error.
    """
    symptoms = list(_libraries(environment.requirements("surefit")))
    project, about = _project(config, set)
    symptoms.append(about)
    root = project.root if project else Path.cwd()
    store = None
    if project is not None:
        symptoms += _data(project)
        store, about_store = _opened(project, Reporter(quiet=quiet))
        symptoms += about_store
        if store is not None:
            symptoms += remedies.of(store, project, config=config, overrides=set)
    symptoms += [*_disk(root), *_leftovers(root)]
    uri = project.config.tracking.uri if project else ""
    return Diagnosis(
        folder=str(root), store=redacted(store.uri if store else uri), symptoms=tuple(symptoms),
        next=_next(symptoms, project),
    )  # fmt: skip


def _next(symptoms: list[Symptom], project: Project | None) -> str:
    worst = next((s for s in symptoms if s.state == "serious"), None)
    if worst is not None:
        return f"mend the serious ({worst.what} first), then surefit doctor again"
    return "surefit compare" if project else "surefit train FILE --target COLUMN"


# --- libraries ---


def _libraries(asked: list[Requirement]) -> Iterator[Symptom]:
    """The libraries that surefit needs, and its optional parts."""
    needed = [r for r in asked if not r.extra]
    wrong = [r for r in needed if not r.fits]
    for r in wrong:
        have = f"{r.installed} is outside" if r.installed else "not installed; it needs"
        yield serious("libraries", f"{r.name} {have} {r.wanted}", _install(f"{r.name}{r.wanted}"))
    if not needed:
        yield serious("libraries", "surefit itself is not installed as a distribution",
                      "pip install surefit")  # fmt: skip
    elif not wrong:
        mlflow = next((r.installed for r in needed if r.name == "mlflow"), None)
        yield fine("libraries", f"all {len(needed)} in the tested range (MLflow {mlflow})")
    by_extra: dict[str, list[Requirement]] = {}
    for r in asked:
        if r.extra and r.extra not in NOT_FOR_USERS:
            by_extra.setdefault(r.extra, []).append(r)
    yield from _parts(by_extra)


def _parts(by_extra: dict[str, list[Requirement]]) -> Iterator[Symptom]:
    present = [extra for extra, parts in by_extra.items() if all(r.fits for r in parts)]
    if present:
        yield fine("optional parts", f"ready: {', '.join(present)}")
    absent = {}
    for extra, parts in by_extra.items():
        purpose = PURPOSES.get(extra, f"the part {extra}")
        outside = [f"{r.name} {r.installed} is outside {r.wanted}" for r in parts
                   if r.installed and not r.fits]  # fmt: skip
        if outside:
            words = f"{purpose}: {'; '.join(outside)}"
            yield note("optional parts", words, _install(f"surefit[{extra}]"))
        elif extra not in present:
            absent[extra] = purpose
    if absent:  # nobody may have asked for them
        told = ", ".join(f"{extra} ({purpose})" for extra, purpose in absent.items())
        yield fine("optional parts", f"not installed, for whoever wants them: {told}")


def _install(what: str) -> str:
    return f"pip install '{what}'"


# --- the project and its store ---


def _project(config: str | Path | None, overrides: Overrides) -> tuple[Project | None, Symptom]:
    here = Path(configuration.FILE).is_file() or configuration.REMEMBERED.is_file()
    if config is None and not overrides and not here:
        return None, note(
            "project", "none in this folder: its store, runs and searches were not looked at",
            "surefit init --data FILE --target COLUMN, or -c FILE",
        )  # fmt: skip
    try:
        project = workspace.project(data=None, target=None, config=config, overrides=overrides)
    except ConfigError as error:
        return None, serious("project", error.what, error.fix or "mend the configuration")
    return project, fine("project", f"{project.config.name} in {project.root}")


def _data(project: Project) -> Iterator[Symptom]:
    """Whether a table in a plain file is where the configuration says."""
    path = project.config.data.path
    file = project.root / Path(path).expanduser()
    plain = Path(path).suffix.lower() in FILES and not any(m in path for m in ("://", "*", "\n"))
    if plain and not file.exists():
        yield serious("data", f"data.path = {path} is not there",
                      "put the file back, or name another in surefit.toml")  # fmt: skip


def _opened(project: Project, reporter: Reporter) -> tuple[Store | None, list[Symptom]]:
    """The store, open; and what is to say of it."""
    uri = project.config.tracking.uri
    file = upkeep.file_of(uri, project.root)
    found: list[Symptom] = []
    if file is not None and not file.exists():
        return None, [_not_made_yet(file)]
    if file is not None:
        found, usable = _about_file(file)
        if not usable:
            return None, found
    reporter.say(f"Store: {redacted(uri)}")
    try:
        store = stores.connect(uri, project.root, project.config.name)
    except SurefitError as error:
        return None, [*found, serious("store", error.what, error.fix or "see docs/mlflow.md")]
    if file is None:
        found += _about_server(store)
    else:
        stores.analyze(store)
    return store, [*found, *_plain_clients(store)]


def _not_made_yet(file: Path) -> Symptom:
    why = upkeep.unwritable(file.parent)
    if why:
        return serious("store", f"{file} cannot be made: {why}", "give access to that folder")
    return note("store", f"{file} is made by the first command that records something")


def _about_file(file: Path) -> tuple[list[Symptom], bool]:
    """What is to say of an embedded store's file, and whether it can be opened."""
    seen = upkeep.look(file)
    if seen.problem:
        fix = f"stop all that writes it, then: sqlite3 '{file}' .recover | sqlite3 saved.db"
        return [serious("store", f"{file} is damaged: {seen.problem}", fix)], False
    known = upkeep.schemas()
    if seen.schema is None:
        fix = "name another store in tracking.uri, or move the file away"
        return [serious("store", f"{file} holds no MLflow tables", fix)], False
    if seen.schema != known[0]:
        older = seen.schema in known
        fix = (f"copy the file, then: mlflow db upgrade sqlite:///{file}" if older
               else "pip install -U mlflow")  # fmt: skip
        words = "an older MLflow" if older else "a newer MLflow than the one installed"
        return [serious("store", f"{file} has the tables of {words} ({seen.schema})", fix)], False
    found = [fine("store", f"{file} is whole, {seen.n_bytes / 1e6:,.1f} MB, schema {seen.schema}")]
    if not seen.wal:
        done = upkeep.set_wal(file)
        found.append(
            mended("store", "WAL set: readers and writers do not wait for each other") if done
            else note("store", "WAL cannot be set while others use it",
                      "surefit doctor, when nothing else runs")
        )  # fmt: skip
    if not seen.analysed:
        found.append(mended("store", "analysed: ordered searches, in MLflow's UI too, are fast"))
    return found, True


def _about_server(store: Store) -> Iterator[Symptom]:
    where = redacted(store.uri)
    if not store.uri.startswith("http"):
        yield fine("store", f"{where} answers, its schema is this MLflow's")
        return
    theirs, ours = upkeep.server_version(store), environment.version_of("mlflow") or "?"
    if theirs is None:
        yield fine("store", f"{where} answers; it does not tell its version")
    elif theirs.split(".")[:2] == ours.split(".")[:2]:
        yield fine("store", f"{where} answers, MLflow {theirs}")
    else:
        fix = f"pip install 'mlflow=={theirs}', or the same version on the server"
        yield note("store", f"{where} answers with MLflow {theirs}, this client is {ours}", fix)


def _plain_clients(store: Store) -> Iterator[Symptom]:
    """Whether plain MLflow commands typed here reach the same store."""
    other = os.environ.get("MLFLOW_TRACKING_URI")
    if other and other != store.uri:
        yield note(
            "environment", f"MLFLOW_TRACKING_URI={redacted(other)} is another store than the "
            "project's: plain mlflow commands here go there",
            f"export MLFLOW_TRACKING_URI={redacted(store.uri)}",
        )  # fmt: skip


# --- the machine ---


def _disk(root: Path) -> Iterator[Symptom]:
    """Space where the project and its temporary files lie."""
    seen: dict[int, Path] = {}
    for folder in (root, Path(tempfile.gettempdir())):
        if folder.exists():
            seen.setdefault(folder.stat().st_dev, folder)
    for folder in seen.values():
        free = shutil.disk_usage(folder).free
        words = f"{free / 1e9:,.1f} GB free at {folder}"
        if free < TOO_LITTLE:
            yield serious("disk", words, "make room: runs cannot be recorded without")
        elif free < LITTLE:
            yield note("disk", words, "make room soon: models and predictions are kept")
        else:
            yield fine("disk", words)


def _leftovers(root: Path) -> Iterator[Symptom]:
    """Half-written and forgotten files: removed where nobody can want them, else named."""
    for what, heap in (("half-written checkpoints", leftovers.drafts(root)),
                       ("scratch folders of dead processes", leftovers.scratch())):  # fmt: skip
        if heap.paths:
            leftovers.remove(heap)
            yield mended("leftovers", f"{len(heap.paths)} {what} removed, {_size(heap.n_bytes)}")
    kept = leftovers.saved_states(root)
    if kept.paths:
        folder = kept.paths[0].parent.parent
        yield note(
            "leftovers", f"{len(kept.paths)} checkpoints of runs cut short, {_size(kept.n_bytes)}, "
            f"the newest {kept.days:.0f} days old: the same command resumes from them",
            f"to forget them: rm -r '{folder}'",
        )  # fmt: skip


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:,.1f} kB"
