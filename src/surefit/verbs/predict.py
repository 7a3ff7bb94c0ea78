"""`surefit predict`: a file larger than memory scored with a verified model, in batches."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from surefit.core.conform import conform, ignored
from surefit.core.digest import ColumnDigests
from surefit.edges import batches, bundle, registry, runs, scorer, temporary
from surefit.edges.batches import Parts, Table
from surefit.edges.scorer import Answer
from surefit.edges.store import Store
from surefit.errors import InputError, SurefitError, did_you_mean
from surefit.results import InputColumn, Shown
from surefit.verbs import workspace
from surefit.verbs.reporter import Reporter, duration
from surefit.verbs.workspace import Overrides


@dataclass(frozen=True, kw_only=True)
class Predicted(Shown):
    """A file that was scored.

    Attributes:
        resumed: rows that an earlier try had scored already.
        casts: columns that were read as another type than they had, in words.
        ignored: columns that the model does not ask for.
    """

    out: str
    model: str
    version: str | None
    run_id: str
    n_rows: int
    resumed: int
    id: str | None
    threshold: float | None
    casts: tuple[str, ...]
    ignored: tuple[str, ...]
    seconds: float
    next: str

    def lines(self) -> list[str]:
        """The result in words."""
        lines = [f"Scored {self.n_rows:,} rows with {self.model} in {duration(self.seconds)}"]
        if self.resumed:
            lines.append(f"  {self.resumed:,} of them were there from an earlier try")
        lines += [f"  {cast}" for cast in self.casts]
        if self.ignored:
            lines.append(f"  not asked for: {', '.join(self.ignored)}")
        named = f"by {self.id}" if self.id else "by number, from 0"
        return [*lines, f"{self.out}: rows named {named} (row_id)", f"Next: {self.next}"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that answers, verified, in a local folder."""

    uri: str
    version: str | None
    run_id: str
    manifest: str
    folder: Path
    inputs: tuple[InputColumn, ...] = field(repr=False)


def predict(
    input: str,
    *,
    out: str | Path,
    model: str = "production",
    id: str | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Predicted:
    """Score a CSV or Parquet file with the promoted model, or any other.

    The file is read in batches and never whole. The output appears whole or not at all; a try that
    was cut short is gone on from by the same command.

    Args:
        input: a .csv or .parquet file.
        out: a .csv or .parquet file, replaced if it is there: row_id, prediction and, for classes,
            probability_<class>. Which model answered stands in the Parquet file's metadata, or
            beside a CSV in NAME.meta.json.
        model: an alias, a version's number, a models:/ URI, or a run.
        id: the column that names a row; by default data.id, else the column that named the rows
            in training, else rows are numbered from 0.
        config, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the file does not fit the model's signature, naming each difference.
        IntegrityError: when the model's files are not those that were written at training.
    """
    started, reporter = time.monotonic(), Reporter(quiet=quiet)
    target = _output(out, input)
    project = workspace.project(data=None, target=None, config=config, overrides=set)
    table = batches.look(input, project.config.data)
    _id_column(table, id, None)  # a wrong name is refused before a model is fetched
    store = workspace.open_store(project)
    with temporary.folder() as scratch:
        subject = _subject(store, model, Path(scratch))
        id = _id_column(table, id, project.config.data.id or _named(store, subject.run_id))
        _say_plan(reporter, table, subject)
        names = _names(table, subject.inputs, id)
        size = batches.rows_a_batch(len(names))
        parts = Parts(target, _key(table, subject, names, size, id))
        with parts.opened() as done:
            batched = batches.read(
                table, names, subject.inputs, size, missing=project.config.data.missing
            )
            seen = ColumnDigests()
            watched = _watched(batched, seen) if id is None else batched
            casts, n_rows, resumed = _score(table, watched, subject, id, parts, done, reporter)
            about = scorer.meta(subject.folder)
            parts.finish(n_rows[0], _about(subject, about, n_rows[1], id, seen))
    return Predicted(
        out=str(out), model=subject.uri, version=subject.version, run_id=subject.run_id,
        n_rows=n_rows[1], resumed=resumed, id=id, threshold=_threshold(about),
        casts=tuple(casts), ignored=tuple(ignored([n for n in table.names if n != id],
                                                  subject.inputs)),
        seconds=time.monotonic() - started,
        next=f"surefit evaluate {shlex.quote(str(out))} --set data.path=FILE   "
             "(once FILE has the same rows with their targets)",
    )  # fmt: skip


def _output(out: str | Path, given: str) -> Path:
    target = Path(out).expanduser().resolve()
    if target.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {out}: predictions are written as CSV or Parquet.",
                         "--out predictions.parquet")  # fmt: skip
    if not target.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {target.parent.name}.")
    if target == Path(given).expanduser().resolve():
        raise InputError("--out is the input itself.", "--out predictions.parquet")
    return target


def _id_column(table: Table, asked: str | None, configured: str | None) -> str | None:
    if asked and asked not in table.names:
        raise InputError(f'--id "{asked}": {did_you_mean(asked, table.names)}')
    return asked or (configured if configured in table.names else None)


def _named(store: Store, run_id: str | None) -> str | None:
    """The column by which the rows of a run are named, where it was found by itself."""
    try:
        text = runs.read_text(store, run_id, "about.json") if run_id else None
    except SurefitError:  # the model outlives its run
        return None
    named = json.loads(text or "{}").get("row_id")
    return named if isinstance(named, str) else None


def _subject(store: Store, reference: str, scratch: Path) -> Subject:
    """The model that a reference names, downloaded and its manifest verified."""
    version = _version(store, reference)
    if version is not None:
        uri, folder = version.uri(), registry.download(store, version, scratch)
        manifest, run_id = registry.manifest(store, version), version.run_id
    else:
        record = runs.find(store, reference)
        model_id = record.tags.get("surefit.model")
        if not model_id:
            raise InputError(f'Run {record.run_id[:8]} "{record.name}" has no model.')
        uri, folder = f"models:/{model_id}", registry.download_logged(store, model_id, scratch)
        manifest, run_id = record.tags.get("surefit.manifest", ""), record.run_id
    if manifest:
        bundle.verify(folder, manifest)
    return Subject(
        uri=uri, version=version.version if version else None, run_id=run_id, manifest=manifest,
        folder=folder, inputs=tuple(bundle.inputs(folder)),
    )  # fmt: skip


def _version(store: Store, reference: str) -> registry.Version | None:
    if reference.startswith("models:/"):
        return registry.resolve(store, reference)
    if reference.isdigit():
        return registry.resolve(store, f"models:/{store.experiment}/{reference}")
    found = registry.by_alias(store, reference)
    if found is None and reference == "production":
        raise InputError("No version is in production yet.", "surefit promote best, or --model RUN")
    return found


def _say_plan(reporter: Reporter, table: Table, subject: Subject) -> None:
    rows = f"{table.n_rows:,} rows" if table.n_rows is not None else "rows"
    whole = "files verified" if subject.manifest else "its files cannot be verified: no manifest"
    reporter.say(f"Plan:  score the {rows} of {table.path.name} with {subject.uri}; {whole}")


def _names(table: Table, inputs: Sequence[InputColumn], id: str | None) -> list[str]:
    """The columns to read; what the signature asks for and is missing is told by `conform`."""
    wanted = [w.name for w in inputs]
    if not set(wanted) <= set(table.names):
        conform(pd.DataFrame(columns=list(table.names)), inputs)
    return [n for n in table.names if n in {*wanted, id}]


def _key(
    table: Table, subject: Subject, names: Sequence[str], size: int, id: str | None
) -> dict[str, object]:
    """What makes an earlier try's parts those of this work."""
    return {"input": table.identity(), "model": subject.uri, "manifest": subject.manifest,
            "columns": list(names), "rows_a_part": size, "id": id}  # fmt: skip


def _watched(
    batched: Iterable[tuple[pd.DataFrame, float]], seen: ColumnDigests
) -> Iterator[tuple[pd.DataFrame, float]]:
    for frame, share in batched:
        seen.add(frame)
        yield frame, share


def _score(
    table: Table, batched: Iterable[tuple[pd.DataFrame, float]], subject: Subject, id: str | None,
    parts: Parts, done: int, reporter: Reporter,
) -> tuple[list[str], tuple[int, int], int]:  # fmt: skip
    """Score batch by batch; what was cast, (parts, rows), and rows that were there already."""
    answer: Answer | None = None
    casts: dict[str, None] = {}
    number = row = 0
    with reporter.progress("scored, percent", 100) as advance:
        for frame, share in batched:
            ready, notes = conform(frame, subject.inputs)
            casts.update(dict.fromkeys(notes))
            if number >= done:
                answer = answer or scorer.load(subject.folder, verified=bool(subject.manifest))
                parts.add(number, _answered(answer(ready), frame, id, row))
            number, row = number + 1, row + len(frame)
            advance(round(100 * share), f"{row:,} rows")
    if number == 0:
        raise InputError(f"{table.path.name} has no rows.")
    return list(casts), (number, row), parts.rows(min(done, number))


def _answered(answer: pd.DataFrame, frame: pd.DataFrame, id: str | None, row: int) -> pd.DataFrame:
    ids = frame[id].to_numpy() if id else np.arange(row, row + len(frame))
    return pd.concat([pd.DataFrame({"row_id": ids}), answer], axis=1)


def _threshold(about: dict[str, object]) -> float | None:
    """The share from which the positive class is predicted; None where there are not two."""
    classes, threshold = about.get("classes"), about.get("threshold")
    two = isinstance(classes, list) and len(classes) == 2
    return float(threshold) if two and isinstance(threshold, int | float) else None


def _about(
    subject: Subject, about: dict[str, object], n_rows: int, id: str | None,
    seen: ColumnDigests,
) -> dict[str, str]:  # fmt: skip
    """The output's metadata: which model answered, where the decision lies, what names a row.

    Rows without a name are known by the columns that were `seen`.
    """
    classes = about.get("classes")
    told = {
        "surefit.model": subject.uri, "surefit.version": subject.version or "",
        "surefit.run": subject.run_id, "surefit.manifest": subject.manifest,
        "surefit.classes": json.dumps(classes or []), "surefit.n_rows": str(n_rows),
        "surefit.row_id": id or "",
    }  # fmt: skip
    told |= {} if id else {"surefit.columns": json.dumps(seen.to_dict(), ensure_ascii=False)}
    decided = _threshold(about)
    return told | ({"surefit.threshold": f"{decided:g}"} if decided is not None else {})
