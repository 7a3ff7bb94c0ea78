"""`surefit evaluate`: saved predictions or a model → metrics with intervals, plots, a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from surefit.config import Project
from surefit.core import (
    baseline,
    dependence,
    evaluation,
    metrics,
    predictions,
    report,
    threshold,
)
from surefit.core.digest import ColumnDigests
from surefit.core.evaluation import Ask, Findings
from surefit.core.figures import evaluation_figures
from surefit.core.figures_slices import draw_slices, slice_numbers
from surefit.core.page import render
from surefit.core.predictions import Scored
from surefit.edges import batches, isolated, registry, runs, sources, temporary
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError
from surefit.items import Figure, Item, Metric, Table, Tag, Text
from surefit.redaction import redact
from surefit.results import Evaluation, Task
from surefit.verbs import background, board, looks, own_metrics, workspace
from surefit.verbs.own_metrics import Own
from surefit.verbs.reporter import Reporter
from surefit.verbs.train import score_items
from surefit.verbs.workspace import Data, Overrides, Workspace

OUTSIDE = (".csv", ".tsv", ".csv.gz", ".parquet", ".feather", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is evaluated: predictions, and where they come from.

    Attributes:
        join: gives them beside their targets; of test rows, once the look is counted.
        answer: the task and the classes that they are about.
        look, row_key: which look at test rows it is, once counted, and by what it is; None for
            rows that need no look.
        record: the training run, where there is one.
        work, at: the data and the scored rows' numbers in them, where the data are at hand.
        left_out: what cannot be computed or checked, each with the reason.
        again: the command that gives this evaluation again.
        version: the registered version that was asked for, as models:/NAME/3.
    """

    name: str
    rows: Literal["validation", "test", "given"]
    n_rows: int
    join: Callable[[], Scored] = field(repr=False)
    answer: tuple[Task, Sequence[Any]]
    metric: str
    tags: dict[str, str]
    look: int | None = None
    row_key: np.ndarray | None = field(default=None, repr=False)
    clusters: np.ndarray | None = field(default=None, repr=False)
    verified: bool = True
    record: RunRecord | None = field(default=None, repr=False)
    work: Workspace | None = field(default=None, repr=False)
    at: np.ndarray | None = field(default=None, repr=False)
    left_out: tuple[str, ...] = ()
    again: str = ""
    version: str = ""


def evaluate(
    subject: str = "last",
    *,
    test: bool = False,
    data: Data = None,
    target: str | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Evaluation:
    """Score predictions and record metrics, pictures and a report as a run of its own.

    A run that saved predictions is scored from them; its model is not opened. Anything else that
    MLflow can load answers on the sealed test rows, in a process of its own. Slices, the best
    single feature and the features of the worst rows need the data; where they are not at hand
    all else is computed, and what is left out is said.

    Args:
        subject: a run (id, start of an id, name, "last" or "best"), a model ("models:/NAME/3",
            "models:/NAME@production"), a run of another program that logged its predictions as
            predictions/valid.parquet or .csv, or a CSV or Parquet file; predictions have the
            columns row_id and prediction or probability_<class>.
        test: score the test rows instead of the validation rows. It is a look, and is counted.
        data, target, config, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when there is no such subject, or its predictions cannot be scored.
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    store = workspace.open_store(project)

    def load() -> Workspace:
        return workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)

    if subject.lower().endswith(OUTSIDE):
        found = _from_file(subject, load(), workspace.frame_of(data))
    else:
        found = _from_store(store, subject, load, test=test)
    found = replace(found, again=found.again + _overridden(set))
    reporter.say(f"Plan:  score {found.n_rows:,} {found.rows} rows, 2,000 resamples")
    return _record(store, found, _own(found, project), project, reporter)


def _overridden(overrides: Overrides) -> str:
    """The overrides of this call, as one would type them again."""
    pairs = overrides.items() if isinstance(overrides, Mapping) else ()
    given = [f"{k}={v}" for k, v in pairs] if pairs else list(overrides)
    return redact("".join(f" --set {shlex.quote(str(text))}" for text in given))


def _from_store(store: Store, subject: str, load: Any, *, test: bool) -> Subject:
    version = ""
    if subject.startswith("models:/"):
        found = registry.resolve(store, subject)
        record = runs.find(store, found.run_id) if found.run_id else None
        if record is None or record.kind not in ("train", "tune") or not found.holds(record):
            return _from_model(store, found, load())
        version = found.uri()
    else:
        record = board.find(store, subject)
    if not record.kind:
        (table,) = runs.read_first(store, [record], predictions.FOREIGN)
        if isinstance(table, pd.DataFrame):
            given = _from_table(table, record.name, load())
            return replace(given, tags=given.tags | {"surefit.of": record.run_id})
    if record.kind not in ("train", "tune"):
        raise InputError(
            f'Run {record.run_id[:8]} "{record.name}" is of kind {record.kind or "unknown"}, '
            "and has no predictions to score.",
            "name a run of kind train or tune; surefit compare lists them",
        )
    if not record.complete:
        raise InputError(
            f'Run {record.run_id[:8]} "{record.name}" did not complete ({record.status}).'
        )
    if test:
        return replace(_test_rows(store, record, load()), version=version)
    return replace(_valid_rows(store, record, load), version=version)


def _valid_rows(store: Store, record: RunRecord, load: Any) -> Subject:
    frame = runs.read_table(store, record.run_id, predictions.VALID)
    if frame is None:
        raise InputError(f"Run {record.run_id[:8]} has no {predictions.VALID}.")
    scored = predictions.read(frame, *record.answer)
    work, at, clusters = None, None, scored.groups
    left_out: tuple[str, ...] = ()
    try:
        work = load()
        check_same_data(record, work)
        at = rows_of(frame, work)
        clusters = dependence.units(work.data, work.split, at, scored.folds)
    except InputError as error:  # predictions alone are enough for all but the features
        why = error.what.splitlines()[0].rstrip(".")
        work = None
        left_out = (f"slices, the best single column and features of the worst rows: {why}",)
    return Subject(
        name=record.name, rows="validation", n_rows=len(frame), join=lambda: scored,
        answer=record.answer, metric=record.tags["surefit.metric"], tags=inherited(record),
        record=record, work=work, at=at, left_out=left_out, clusters=clusters,
        again=f"surefit evaluate {record.run_id[:8]}",
    )  # fmt: skip


def _test_rows(store: Store, record: RunRecord, work: Workspace) -> Subject:
    check_same_data(record, work)
    blind = runs.read_table(store, record.run_id, predictions.TEST)
    if blind is None:
        raise InputError("This project has no test rows.", "split.test = 0.2")
    found = _sealed(record.name, blind, work, inherited(record))
    again = f"surefit evaluate {record.run_id[:8]} --test"
    return replace(found, record=record, again=again)


def _sealed(name: str, blind: pd.DataFrame, work: Workspace, tags: dict[str, str]) -> Subject:
    """Predictions of test rows: their targets are still to be looked at."""
    predictions.check_blind(blind, work.data)
    rows = rows_of(blind, work)
    return Subject(
        name=name, rows="test", n_rows=len(blind), join=lambda: joined(blind, work),
        answer=(work.data.task, work.data.classes), metric=work.metric, tags=tags,
        row_key=looks.keys(work, rows), clusters=dependence.units(work.data, work.split, rows),
        work=work, at=rows, again=f"surefit evaluate {name} --test",
    )  # fmt: skip


def _from_model(store: Store, version: registry.Version, work: Workspace) -> Subject:
    """A model of another program answers on the test rows; it may have been trained on them.

    So does the earlier model of a search that went on: what its run holds now is another's.
    """
    sealed = work.split.test_rows
    if not len(sealed):
        raise InputError("This project has no test rows.", "split.test = 0.2")
    with temporary.folder() as folder:
        local = registry.download(store, version, Path(folder))
        answered = isolated.predict(local, work.data.raw.iloc[sealed])
    answered.insert(0, "row_id", work.data.row_id[sealed])
    subject = _sealed(version.uri(), answered, work, work.tags())
    uri = version.uri()
    return replace(subject, verified=False, again=f"surefit evaluate {uri}", version=uri)


def _from_file(path: str, work: Workspace, frame: pd.DataFrame | None) -> Subject:
    sources.refuse_cut_short(path, Path.cwd())
    told = batches.told(Path(path))
    known = told.get("surefit.row_id") == "" and _numbered_alike(path, told, work, frame)
    found = _from_table(sources.load(path, Path.cwd()), path, work)
    return replace(found, name=Path(path).name, left_out=() if known else found.left_out)


def _numbered_alike(
    path: str, told: Mapping[str, str], work: Workspace, frame: pd.DataFrame | None
) -> bool:
    """Whether the rows that `surefit predict` had to number are known to be those of the data.

    Raises:
        InputError: they are known to be others.
    """
    n_rows = work.data.n_rows + len(work.data.unlabelled)
    theirs = int(told.get("surefit.n_rows", n_rows))
    columns = json.loads(told.get("surefit.columns", "{}"))
    same = _alike(columns, work, frame) if theirs == n_rows else False
    if same is False:
        has = "other ones" if theirs == n_rows else f"{n_rows:,}"
        raise InputError(
            f"{path} numbers the {theirs:,} rows of another table than "
            f"{work.config.data.path}, which has {has}.",
            "--set data.path=FILE, FILE being those rows with their targets",
        )
    return same is True


def _alike(columns: Mapping[str, str], work: Workspace, frame: pd.DataFrame | None) -> bool | None:
    """Whether at least half of the features have these digests; None where that cannot be told.

    Not all: a column may be read in another way from another file.
    """
    rows = work.data.raw
    shared = [name for name in rows.columns if name in columns]
    if work.data.unlabelled:  # these rows were numbered too
        rows = sources.read(work.config.data, work.project.root).frame if frame is None else frame
    if not shared or len(rows) != work.data.n_rows + len(work.data.unlabelled):
        return None
    ours = ColumnDigests()
    ours.add(rows[shared])
    return 2 * sum(columns[n] == found for n, found in ours.to_dict().items()) >= len(shared)


def _from_table(frame: pd.DataFrame, name: str, work: Workspace) -> Subject:
    """A table from outside; where it names sealed rows, scoring it is a look at these.

    Its own targets of sealed rows, if it has any, are compared with the data's once that counts.
    """
    frame = predictions.labelled(predictions.documented(frame), work.data)
    frame = predictions.completed(frame, work.data.classes)
    predictions.check_given(frame, work.data, name)
    rows = rows_of(frame, work)
    sealed = np.isin(rows, work.split.test_rows)
    predictions.check_targets(frame[~sealed], work.data, name)

    def join() -> Scored:
        predictions.check_targets(frame, work.data, name)
        return joined(frame.drop(columns=["target", "fold"], errors="ignore"), work)

    unsure: tuple[str, ...] = ()
    if work.data.named is None and "target" not in frame:
        unsure = (f"a check that these are the rows of {work.config.data.path}: they are numbered, "
                  f"and {name} does not say of what table",)  # fmt: skip
    return Subject(
        name=name, rows="given", n_rows=len(frame), join=join,
        answer=(work.data.task, work.data.classes), metric=work.metric, tags=work.tags(),
        row_key=looks.keys(work, rows[sealed]) if sealed.any() else None,
        clusters=dependence.units(work.data, work.split, rows), verified=False,
        work=work, at=rows, again=f"surefit evaluate {name}", left_out=unsure,
    )  # fmt: skip


def rows_of(frame: pd.DataFrame, work: Workspace) -> np.ndarray:
    """Row numbers in the data of a predictions table's rows."""
    return predictions.places(frame, work.data).dropna().to_numpy(dtype="int64")


def joined(blind: pd.DataFrame, work: Workspace) -> Scored:
    """Predictions beside the targets of their rows: of test rows, a look that was counted."""
    table = predictions.join(blind, work.data)
    return predictions.read(table, work.data.task, work.data.classes)


def inherited(record: RunRecord) -> dict[str, str]:
    """Tags that link a run to the one it is about, and to its data."""
    keys = ("surefit.data", "surefit.split", "surefit.task", "surefit.metric", "surefit.family")
    linked = {key: record.tags[key] for key in keys if key in record.tags}
    return linked | {"surefit.of": record.run_id}


def check_same_data(record: RunRecord, work: Workspace) -> None:
    """Refuse to join a run's predictions with other rows than it was trained beside.

    Raises:
        InputError: naming what differs.
    """
    for tag, now, what in (("surefit.data", work.data.digest, "data"),
                           ("surefit.split", work.split.digest, "split")):  # fmt: skip
        if record.tags.get(tag) != now:
            raise InputError(
                f'Run {record.run_id[:8]} "{record.name}" was made on another {what} than the '
                f"configuration names now ({record.tags.get(tag, 'none')[:8]}, now {now[:8]}).",
                "surefit train on the data as they are, or --set data.path=OLD_FILE",
            )
    predicts = target_of(record)
    if predicts not in ("", work.data.target):
        raise InputError(
            f'Run {record.run_id[:8]} "{record.name}" predicts {predicts}, and the configuration '
            f"names {work.data.target}.",
            f"--set data.target={shlex.quote(predicts)}",
        )


def target_of(record: RunRecord) -> str:
    """The column that a training run or a search predicts; "" where it has not said."""
    return record.params.get("data.target", "")


def _own(found: Subject, project: Project) -> Own:
    """The metrics that are asked for; what is wrong with them is said before a look is spent."""
    own, goal = own_metrics.find(project, *found.answer), project.config.metric.threshold
    if isinstance(goal, str) and found.answer[0] == "binary":
        threshold.check(goal, costs=own.costs)
    return own


def _ask(found: Subject, scored: Scored, own: Own, project: Project, reporter: Reporter) -> Ask:
    """What the configuration and the data at hand let us find out."""
    config = project.config.metric
    more, resamples = own_metrics.load(own, scored, reporter)
    ask = Ask(
        first=found.metric, more=more, own_resamples=resamples, threshold=config.threshold,
        costs=own.costs, clusters=found.clusters, calibrate=config.calibrate,
    )  # fmt: skip
    if found.work is None or found.at is None:
        return replace(ask, baseline=_recorded_baseline(found))
    data, split = found.work.data, found.work.split
    test, given = found.rows == "test", found.rows == "given"
    single = baseline.best_feature(
        metrics.find(found.metric, scored.task), data, split, test=test,
        given=found.at if given else None,
    )  # fmt: skip
    return replace(
        ask, features=data.frame.iloc[found.at], columns=data.columns, single=single,
        raw=data.raw.iloc[found.at],
        constant=baseline.constant_answers(data, split, found.at, test=test, given=given),
    )  # fmt: skip


def _recorded_baseline(found: Subject) -> float | None:
    """What training found one answer for all rows to be worth, on these same rows."""
    if found.record is None or found.rows != "validation":
        return None
    return found.record.metrics.get(f"baseline_{found.metric}")


def _record(
    store: Store, found: Subject, own: Own, project: Project, reporter: Reporter
) -> Evaluation:
    """The evaluation as a run; the look first, then the targets."""
    tags = found.tags | {
        "surefit.rows": found.rows,
        "surefit.verified": str(found.verified).lower(),
    }
    model = found.record.tags.get("surefit.model") if found.record is not None else None
    tags |= {"surefit.model": model} if model else {}
    tags |= {"surefit.version": found.version} if found.version else {}
    with runs.recording(store, f"evaluate {found.name}", "evaluate", tags=tags) as run:
        if found.work is not None:
            workspace.log_dataset(run, found.work)
        if model:
            runs.log_model_input(run, model)
        if found.row_key is not None:
            found = replace(found, look=looks.count(run, found.row_key))
        scored = found.join()
        findings = evaluation.assess(scored, _ask(found, scored, own, project, reporter))
        pictures = _pictures(scored, findings, _target(found))
        run.log(_items(found, scored, findings))
        run.log(pictures)
        result = _result(found, run.run_id, findings, pictures)
        about = background.about(store, found.record, found.work, found.again)
        page = report.page(result, findings, pictures, about)
        run.log([Text(path="report.html", text=render(page)),
                 Tag(key="mlflow.note.content", value=f"**{result.lines()[0]}**")])  # fmt: skip
    return result


def _target(found: Subject) -> str:
    """The target's name, where anything at hand knows it."""
    if found.work is not None:
        return found.work.data.target
    return "" if found.record is None else target_of(found.record)


def _pictures(scored: Scored, findings: Findings, target: str) -> list[Figure]:
    cut = findings.threshold.value if findings.threshold else 0.5
    names = [str(c) for c in scored.classes]
    pictures = evaluation_figures(
        scored.task, scored.y, scored.pred, names, threshold=cut, weights=scored.weights,
        target=target,
    )  # fmt: skip
    if findings.slices:
        first = findings.scores[0]
        pictures.append(draw_slices(slice_numbers(findings.slices, first), first.metric))
    return pictures


def _items(found: Subject, scored: Scored, findings: Findings) -> Iterator[Item]:
    prefix = {"validation": "valid", "test": "test", "given": "given"}[found.rows]
    yield from score_items(prefix, findings.scores, findings.baseline)
    if findings.single is not None:
        key = f"baseline_feature_{findings.scores[0].metric}"
        yield Metric(key=key, value=findings.single.value)
        yield Tag(key="surefit.best_feature", value=findings.single.column)
    if findings.threshold is not None:
        yield Metric(key=f"{prefix}_chosen_threshold", value=findings.threshold.value)
        yield from score_items(f"{prefix}_chosen", findings.threshold.scores, None)
    if findings.calibrated is not None:
        yield from score_items(f"{prefix}_calibrated", findings.calibrated.scores, None)
        yield Table(path=predictions.CALIBRATED, frame=predictions.calibrated_table(
            scored, findings.calibrated.pred))  # fmt: skip
    yield Table(path="worst_rows.csv", frame=findings.worst)
    if findings.classes is not None:
        yield Table(path="classes.csv", frame=findings.classes)


def _result(found: Subject, run_id: str, findings: Findings, pictures: list[Figure]) -> Evaluation:
    single = findings.single
    return Evaluation(
        run_id=run_id, subject=found.name, rows=found.rows, n_rows=found.n_rows,
        scores=findings.scores, baseline=findings.baseline, look=found.look,
        verified=found.verified, figures=tuple(f.name for f in pictures),
        pictures=tuple(pictures),
        report=f"runs:/{run_id}/report.html",
        next=f"surefit report {run_id[:8]}   (its page; or: surefit compare)",
        best_feature=single.column if single else None,
        best_feature_value=single.value if single else None,
        left_out=findings.left_out + found.left_out, slices=findings.slices,
        threshold=findings.threshold.value if findings.threshold else None,
    )  # fmt: skip
