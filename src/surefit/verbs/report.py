"""`surefit report`: a run's report as one HTML file, to read and to send."""

from __future__ import annotations

import re
from pathlib import Path

from surefit.edges import runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError
from surefit.results import ReportFile
from surefit.verbs import board, workspace
from surefit.verbs.evaluate import evaluate
from surefit.verbs.workspace import Overrides

REPORT = "report.html"


def report(
    run: str = "last",
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> ReportFile:
    """Write a run's report to a file.

    Args:
        run: a run of any kind that has a report (an evaluation, a comparison); or a training run,
            of which the newest evaluation is taken, and made where there is none.
        out: the file; by default "report-<name>.html" in the current folder. It is overwritten.
        config, set, quiet: as in `train`.

    Raises:
        InputError: when there is no such run, it has no report, or the file cannot be written.
        ServiceError: when the MLflow store fails.
    """
    project = workspace.project(data=None, target=None, config=config, overrides=set)
    store = workspace.open_store(project)
    record = board.find(store, run)
    found = record if _has_report(store, record) else _newest_evaluation(store, record)
    if found is None:
        made = evaluate(record.run_id, config=config, set=set, quiet=quiet)
        found = runs.find(store, made.run_id)
    html = runs.read_text(store, found.run_id, REPORT)
    if html is None:
        raise InputError(f'Run {found.run_id[:8]} "{found.name}" has no report.')
    path = Path(out) if out is not None else Path(f"report-{_file_name(found.name)}.html")
    try:
        path.write_text(html, "utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", "--out FILE") from None
    return ReportFile(
        path=str(path), run_id=found.run_id, subject=found.name, n_bytes=path.stat().st_size
    )


def _has_report(store: Store, record: RunRecord) -> bool:
    return runs.read_text(store, record.run_id, REPORT) is not None


def _newest_evaluation(store: Store, record: RunRecord) -> RunRecord | None:
    where = f"tags.`surefit.of` = '{record.run_id}' and tags.`surefit.kind` = 'evaluate'"
    return next((r for r in runs.search(store, where) if r.complete), None)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "run"
