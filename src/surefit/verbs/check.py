"""`surefit check`: look at the data before any model → findings, baselines, a report, a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from surefit import config as configuration
from surefit.core import metrics, tableview
from surefit.core.columns import about_columns
from surefit.core.findings import CODES, Finding, Rows, rows_of, waive, without_echoes
from surefit.core.leaks import leaks
from surefit.core.page import render
from surefit.edges import runs
from surefit.edges import store as stores
from surefit.edges.store import Store
from surefit.errors import ConfigError, did_you_mean
from surefit.items import Item, Metric, Tag, Text
from surefit.results import Note, Shown, plain
from surefit.verbs import workspace
from surefit.verbs.findings import FILE
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Data, Overrides, Workspace
from surefit.wording import short

MOST_NOTES = 8  # in a terminal


@dataclass(frozen=True, kw_only=True)
class CheckResult(Shown):
    """What was found in a table, before any model.

    Attributes:
        findings: worst first; those with a reason in `[check] waive` last.
        baseline: the deciding metric of one answer for all rows.
        best_column, best_score: the single column that tells most, and its metric, cross-fitted.
    """

    run_id: str
    findings: tuple[Finding, ...]
    metric: str
    baseline: float
    best_column: str
    best_score: float
    data: str
    split: str
    digest: str
    inferred: tuple[Note, ...]
    report: str
    next: str

    @property
    def serious(self) -> tuple[Finding, ...]:
        """The findings that block a promotion."""
        return tuple(f for f in self.findings if f.blocks)

    @property
    def verdict(self) -> str:
        """One sentence."""
        return _verdict(self.findings)

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        lines = [self.verdict]
        notes = [f for f in self.findings if f.severity == "note" and not f.waived]
        hidden = {f.key for f in notes[MOST_NOTES:]} if len(notes) > MOST_NOTES + 1 else set()
        for f in self.findings:
            if f.key in hidden:
                continue
            mark = "waived" if f.waived else f.severity
            lines += [f"  {mark:<8} {f.key}: {f.words}",
                      f"           {'reason: ' + f.waived if f.waived else f.advice}"]  # fmt: skip
        if hidden:
            lines.append(f"  and {len(hidden)} more notes, in the report")
        if self.serious:
            key = self.serious[0].key
            lines.append(f'To accept one: [check] waive = {{ "{key}" = "why it is no leak" }}')
        lines.append(
            f"Baseline {self.metric} {short(self.baseline)}; "
            f"{self.best_column} alone {short(self.best_score)}"
        )
        lines.append(f"Run {self.run_id[:8]}   (its page: surefit report {self.run_id[:8]})")
        return [*lines, f"Next: {self.next}"]


def check(
    data: Data = None,
    *,
    target: str | None = None,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> CheckResult:
    """Look at a table for leaks, groups, repeats, noise and drift, and record what was found.

    No model is trained. Targets of test rows are not read: only their features are, so it is no
    look at them. Serious findings that are not waived block `promote` for these data.

    Args:
        data, target, config, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the configuration or the table cannot be used.
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=reporter)
    rows, found, unused = _looked(work)
    _refuse_wrong_codes(unused)
    for key in unused:
        reporter.say(f'Waived for nothing: {key} ("{work.config.check.waive[key]}")')
    store = workspace.open_store(project)
    configuration.remember(project)
    result = _recorded(store, work, rows, found)
    stores.analyze(store)
    return result


def of(store: Store, work: Workspace) -> None:
    """Look at rows that are loaded already, and record it as `surefit check` does."""
    rows, found, _ = _looked(work)
    _recorded(store, work, rows, found)


def _looked(work: Workspace) -> tuple[Rows, list[Finding], list[str]]:
    """What was looked at, what was found, and what is waived for nothing."""
    rows = rows_of(work.data, work.split, metrics.find(work.metric, work.data.task))
    told = without_echoes([*leaks(rows), *about_columns(rows)])
    return rows, *waive(told, work.config.check.waive)


def _recorded(store: Store, work: Workspace, rows: Rows, found: list[Finding]) -> CheckResult:
    serious = sum(f.blocks for f in found)
    tags = work.tags() | {"surefit.serious": str(serious)}
    with runs.recording(store, f"check {work.config.name}", "check", tags=tags) as run:
        run.log(workspace.setup_items(work))
        workspace.log_dataset(run, work)
        result = _result(run.run_id, work, rows, found)
        run.log(_items(result, rows))
    return result


def _refuse_wrong_codes(unused: list[str]) -> None:
    wrong = [k for k in unused if k.partition(":")[0] not in CODES]
    if wrong:
        advice = did_you_mean(wrong[0].partition(":")[0], CODES)
        raise ConfigError(f"check.waive: there is no finding {wrong[0]}; {advice}")


def _verdict(found: tuple[Finding, ...] | list[Finding]) -> str:
    serious = sum(f.blocks for f in found)
    warnings = sum(f.severity == "warning" and not f.waived for f in found)
    more = f", {warnings} to look at" if warnings else ""
    if serious:
        return f"{serious} serious {'finding' if serious == 1 else 'findings'}{more}"
    return f"No serious finding{more}"


def _result(run_id: str, work: Workspace, rows: Rows, found: list[Finding]) -> CheckResult:
    return CheckResult(
        run_id=run_id, findings=tuple(found), metric=work.metric, baseline=rows.baseline,
        best_column=rows.best_column, best_score=rows.best_score, data=work.data.describe(),
        split=work.split.describe(), digest=work.data.digest, inferred=work.data.notes,
        report=f"runs:/{run_id}/report.html",
        next="surefit train" if not any(f.blocks for f in found) else
        "mend or waive what is serious, then surefit check again",
    )  # fmt: skip


def _items(result: CheckResult, rows: Rows) -> Iterator[Item]:
    page = tableview.page("Check of the data", result.verdict, result.findings, rows, result.metric)
    listed = [{**plain(f), "key": f.key, "blocks": f.blocks} for f in result.findings]
    yield Text(path=FILE, text=json.dumps(listed, indent=1, ensure_ascii=False))
    yield Text(path="report.html", text=render(page))
    yield Metric(key=f"baseline_{result.metric}", value=result.baseline)
    yield Metric(key=f"single_{result.metric}", value=result.best_score)
    for severity in ("serious", "warning", "note"):
        count = sum(f.severity == severity and not f.waived for f in result.findings)
        yield Metric(key=f"findings_{severity}", value=count)
    yield Tag(key="mlflow.note.content", value=f"**{result.verdict}**\n\n{result.data}")
