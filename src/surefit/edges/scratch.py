"""The driver's side of scratch stores: an empty one to copy, and what the user's calls left in one.

Read with SQLite alone, in a millisecond: opening each by MLflow would cost a tenth of a second, and
the same MLflow wrote them just before.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import json
import os
import shutil
import sqlite3
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surefit import masking
from surefit.edges import environment, temporary
from surefit.edges.redirect import STORE, Scratch
from surefit.edges.runs import Run, param_text
from surefit.edges.store import Store, without_logs
from surefit.items import File, Item, Metric, Param, Tag, safe_name

FOLDER = Path(".surefit") / "calls"
READY = 2  # MLflow's number for a logged model that is whole
_CLAIM = "owner.json"


# --- places ---


def place(root: Path) -> Scratch:
    """A new place for the scratch stores of one command; nothing is made before a job needs it."""
    token = os.urandom(8).hex()
    return Scratch(root=str((root / FOLDER / token).absolute()), template=_template(root))


def at_import(root: Path, place: str, *, called: bool = False) -> Scratch:
    """Where MLflow calls go that a file ("model.py:build") makes as it is imported.

    They stay for as long as this process; a store is made ready where the file makes some.

    Args:
        called: a store is needed for calls inside the file's functions too.
    """
    folder = temporary.make()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    template = Path(_template(root))
    file = root / Path(place.rpartition(":")[0]).expanduser()
    text = file.read_text("utf-8") if file.is_file() and not template.is_file() else ""
    if "mlflow" in text if called else _calls_at_import(text):
        template.parent.mkdir(parents=True, exist_ok=True)
        _make_template(template, "")
    return Scratch(root=str(folder), template=str(template))


def _calls_at_import(text: str) -> bool:
    """Whether statements outside functions and classes name MLflow, its import aside."""
    with contextlib.suppress(SyntaxError):
        apart = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
        parts = [node for node in ast.parse(text).body if not isinstance(node, apart)]
        return any("mlflow" in (ast.get_source_segment(text, node) or "") for node in parts)
    return False


def _template(root: Path) -> str:
    version = environment.version_of("mlflow") or "unknown"
    return str((root / FOLDER / f"empty-{version}.sqlite").absolute())


def prepare(scratch: Scratch, store: Store, texts: Iterable[str], *, search: str = "") -> None:
    """Make what the jobs need, when the user's sources name MLflow; sweep what the dead left.

    Args:
        texts: the user's sources.
        search: the fingerprint of the search that the stores belong to; they outlive its process.
    """
    folder = Path(scratch.root).parent
    for place, owner, its_search in _claims(folder):
        if not its_search and not environment.owner_alive(owner):
            shutil.rmtree(place, ignore_errors=True)
    if not any("mlflow" in text for text in texts):
        return
    Path(scratch.root).mkdir(parents=True, exist_ok=True)
    (folder.parent / ".gitignore").write_text("*\n", "utf-8")
    claim = {"owner": environment.owner(), "search": search}
    draft = Path(scratch.root) / f"{_CLAIM}.{os.getpid()}"
    draft.write_text(json.dumps(claim), "utf-8")
    draft.replace(Path(scratch.root) / _CLAIM)
    if not Path(scratch.template).is_file():
        _make_template(Path(scratch.template), store.uri)


def _claims(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """The places in a folder: each with its owner, and its search. One cut short is nobody's."""
    for file in folder.glob(f"*/{_CLAIM}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            claim = json.loads(file.read_text("utf-8"))
            yield file.parent, str(claim["owner"]), str(claim["search"])


def remove(scratch: Scratch) -> None:
    """All stores of the place."""
    shutil.rmtree(scratch.root, ignore_errors=True)


def sweep(root: Path, search: str, needed: Iterable[str]) -> None:
    """Remove the stores of a search's jobs that do not count: killed, late, or recorded already."""
    keep = set(needed)
    for place, _, its_search in _claims(root / FOLDER):
        if its_search != search:
            continue
        jobs = [p for p in place.iterdir() if p.is_dir()]
        for job in jobs:
            if str(job) not in keep:
                shutil.rmtree(job, ignore_errors=True)
        if not any(str(job) in keep for job in jobs):
            shutil.rmtree(place, ignore_errors=True)


def _make_template(file: Path, uri: str) -> None:
    """The tables of MLflow's store without a row: taken from the project's own where it is one.

    MLflow takes more than a second to make them itself.
    """
    draft = file.with_suffix(f".{os.getpid()}")
    draft.unlink(missing_ok=True)
    if uri.startswith("sqlite:///"):
        _copy_tables(Path(uri.removeprefix("sqlite:///")), draft)
    else:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with temporary.folder() as folder:
            with without_logs("alembic", "mlflow"):
                SqlAlchemyStore(f"sqlite:///{folder}/{STORE}", folder).engine.dispose()
            _copy_tables(Path(folder) / STORE, draft)
    draft.replace(file)


def _copy_tables(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        made = old.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
            "ORDER BY type = 'table' DESC"
        )
        for (sql,) in made:
            new.execute(sql)
        for (version,) in old.execute("SELECT version_num FROM alembic_version"):
            new.execute("INSERT INTO alembic_version VALUES (?)", (version,))
        new.commit()


# --- what was written ---


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that the user's code logged with MLflow."""

    name: str
    folder: Path
    kind: str
    params: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What the user's code wrote in one job, its runs taken together.

    Attributes:
        metrics: (key, value, step).
        files: path in the run → the file.
    """

    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)


def read(folder: str) -> Calls:
    """What one job's scratch store holds. Of further runs, what differs is named after its run."""
    calls = Calls()
    file = Path(folder) / STORE
    if not file.is_file():
        return calls
    with contextlib.closing(sqlite3.connect(file)) as connection:
        runs = connection.execute(
            "SELECT run_uuid, name, artifact_uri FROM runs WHERE lifecycle_stage = 'active' "
            "ORDER BY start_time, rowid"
        ).fetchall()
        for run_id, name, artifacts in runs:
            _add(calls, connection, run_id, safe_name(str(name)), _path(artifacts))
        calls.models.extend(_models(connection))
    return calls


def _add(
    calls: Calls, connection: sqlite3.Connection, run_id: str, name: str, folder: Path
) -> None:
    def rows(what: str, table: str) -> list[Any]:
        # both names are ours
        query = f"SELECT {what} FROM {table} WHERE run_uuid = ? ORDER BY rowid"  # noqa: S608
        return connection.execute(query, (run_id,)).fetchall()

    for key, value in rows("key, value", "params"):
        _set(calls.params, key, value, name)
    for key, value in rows("key, value", "tags"):
        if not key.startswith("mlflow.") or key == "mlflow.note.content":
            _set(calls.tags, key, value, name)
    seen = {key for key, _, _ in calls.metrics}
    for key, value, step, is_nan in rows("key, value, step, is_nan", "metrics"):
        if not is_nan:
            calls.metrics.append((f"{name}.{key}" if key in seen else key, value, step))
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        path = file.relative_to(folder).as_posix()
        calls.files[f"{name}/{path}" if path in calls.files else path] = file


def _set(known: dict[str, str], key: str, value: str, name: str) -> None:
    known[f"{name}.{key}" if known.get(key, value) != value else key] = value


def _models(connection: sqlite3.Connection) -> Iterator[Model]:
    found = connection.execute(
        "SELECT model_id, name, artifact_location, model_type FROM logged_models "
        "WHERE status = ? ORDER BY creation_timestamp_ms",
        (READY,),
    ).fetchall()
    for model_id, name, location, kind in found:
        params, tags = (
            dict(connection.execute(
                f"SELECT {what}_key, {what}_value FROM logged_model_{what}s "  # noqa: S608
                "WHERE model_id = ?", (model_id,),
            ).fetchall())
            for what in ("param", "tag")
        )  # fmt: skip
        yield Model(
            name=name, folder=_path(location), kind=kind or "", params=params,
            tags={k: v for k, v in tags.items() if not k.startswith("mlflow.")},
        )  # fmt: skip


def _path(uri: str) -> Path:
    parts = urllib.parse.urlsplit(uri)
    return Path(urllib.parse.unquote(parts.path) if parts.scheme == "file" else uri)


# --- as a run's items ---


def items(jobs: Sequence[tuple[str, Calls]], taken: Iterable[str]) -> Iterator[Item]:
    """What the calls of a run's jobs leave on it.

    Args:
        jobs: ("", calls) of the fit whose names stay as they are, ("fold_0", calls) of a fold:
            its metrics are fold_0_<key>, its files lie in folds/0, its parameters are named
            fold_0.<key> where they differ.
        taken: metrics, parameters, tags and paths that the run has already: the user's are then
            named own_<key>.
    """
    used = set(taken)

    def free(key: str) -> str:
        return f"own_{key}" if key in used else key

    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    for label, calls in jobs:
        for known, given in ((params, calls.params), (tags, calls.tags)):
            for key, value in given.items():
                differs = known.setdefault(free(key), value) != value
                if differs:
                    known[f"{label}.{key}" if label else f"own_{key}"] = value
        for key, number, step in calls.metrics:
            yield Metric(key=f"{label}_{key}" if label else free(key), value=number, step=step)
        for path, file in calls.files.items():
            where = f"folds/{label.rpartition('_')[2]}/{path}" if label else free(path)
            yield File(path=where, source=str(file))
    yield from (Param(key=key, value=value) for key, value in params.items())
    yield from (Tag(key=key, value=value) for key, value in tags.items())


def record(run: Run, jobs: Sequence[tuple[str, str]]) -> None:
    """Copy what jobs' stores hold into a run; the models of that job alone whose label is "".

    Args:
        jobs: (label as in `items`, the store's folder).
    """
    read_jobs = [(label, read(folder)) for label, folder in jobs]
    run.log(items(read_jobs, set(run.written)))
    for label, calls in read_jobs:
        for model in calls.models if not label else ():
            _copy_model(run, model)


def _copy_model(run: Run, model: Model) -> None:
    """A model logged by the user's code as a model of the run; "model" itself is surefit's."""
    from mlflow.entities import LoggedModelOutput

    client = run.store.client
    known = client.search_logged_models(
        [run.store.experiment_id], f"source_run_id = '{run.run_id}'"
    )
    name = f"own_{model.name}" if model.name == "model" else model.name
    if any(m.name == name and str(m.status) == "READY" for m in known):
        return  # the outbox tries again what it cannot know was done
    created = client.create_logged_model(
        run.store.experiment_id, name=name, source_run_id=run.run_id,
        tags={k: masking.tag(v) for k, v in model.tags.items()},
        params={k: param_text(k, v) for k, v in model.params.items()},
        model_type=model.kind or None,
    )  # fmt: skip
    described = model.folder / "MLmodel"
    if described.is_file():
        _name_anew(described, run.run_id, created.model_id, created.artifact_location)
    client.log_model_artifacts(created.model_id, str(model.folder))
    client.finalize_logged_model(created.model_id, "READY")
    client.log_outputs(run.run_id, [LoggedModelOutput(created.model_id, step=0)])


def _name_anew(file: Path, run_id: str, model_id: str, location: str) -> None:
    import yaml

    told = yaml.safe_load(file.read_text("utf-8"))
    for key, value in (("run_id", run_id), ("model_id", model_id), ("artifact_path", location)):
        if key in told:
            told[key] = value
    file.write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), "utf-8")
