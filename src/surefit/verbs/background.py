"""What a report says of the data, the model and the training run: read from the run's record."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from surefit import masking
from surefit.core import importance, inside
from surefit.core.figures_search import draw_losses
from surefit.core.report import About
from surefit.edges import runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.items import Figure
from surefit.verbs import findings
from surefit.verbs.reporter import duration
from surefit.verbs.workspace import CHECKED, Workspace


def about(store: Store, record: RunRecord | None, work: Workspace | None, again: str) -> About:
    """The background of an evaluation, as far as a training run or the data at hand tell it."""
    if record is None:
        return _of_data(store, work, again)
    said = json.loads(runs.read_text(store, record.run_id, "about.json") or "{}")
    facts = [(name, str(said[key])) for name, key in (("Rows and columns", "data"),
             ("Split", "split")) if key in said]  # fmt: skip
    facts.append(("Digest", record.tags.get("surefit.data", "")[:16]))
    config = runs.read_text(store, record.run_id, "best.toml") if record.kind == "tune" else None
    config = config or runs.read_text(store, record.run_id, "config.toml") or ""
    commands = [again]
    if config:
        commands += ["", "# the model itself, with the configuration below in again.toml",
                     "surefit train --config again.toml"]  # fmt: skip
    return About(
        data=facts, notes=[_note(n) for n in said.get("inferred", [])], model=_model(record),
        learning=_learning(store, record), importance=_importance(store, record),
        inside=_inside(store, record),
        again="\n".join(commands), config=config,
        findings=findings.latest(store, record.tags.get(CHECKED, "")),
    )  # fmt: skip


def _of_data(store: Store, work: Workspace | None, again: str) -> About:
    if work is None:
        return About(again=again)
    notes = [_note({"text": n.text, "override": n.override}) for n in work.data.notes]
    facts = [("Rows and columns", work.data.describe()), ("Split", work.split.describe()),
             ("Digest", work.data.digest[:16])]  # fmt: skip
    return About(
        data=facts, notes=notes, again=again, config=masking.as_toml(work.config.to_toml()),
        findings=findings.latest(store, work.looked_at),
    )  # fmt: skip


def _note(note: Mapping[str, Any]) -> str:
    override = note.get("override", "")
    return f"{note['text']}   [{override}]" if override else str(note["text"])


def _model(record: RunRecord) -> list[tuple[str, str]]:
    facts = [("Run", f"{record.name} ({record.run_id})")]
    facts += [(key, value) for key, value in record.params.items() if key.startswith("model.")]
    seconds, size = record.metrics.get("fit_seconds"), record.metrics.get("model_bytes")
    if seconds is not None:
        facts.append(("Time to fit", duration(seconds)))
    if size is not None:
        facts.append(("Size", f"{size / 1000:,.0f} kB"))
    if "surefit.importance" in record.tags:
        facts.append(("Permutation importance", record.tags["surefit.importance"]))
    commit = record.tags.get("mlflow.source.git.commit")
    return facts + ([("Commit", commit)] if commit else [])


def _learning(store: Store, record: RunRecord) -> Figure | None:
    """The training run's learning curves, drawn from the numbers that it stored."""
    table = runs.read_text(store, record.run_id, "plots/losses.csv")
    if table is None:
        return None
    numbers = pd.read_csv(io.StringIO(table), dtype={"fold": str})
    return draw_losses(numbers) if len(numbers) else None


def _inside(store: Store, record: RunRecord) -> Figure | None:
    """What the model says itself of its columns, as the training run recorded it."""
    table = runs.read_text(store, record.run_id, "plots/family.csv")
    if table is None:
        return None
    texts = {"feature": str, "column": str, "class": str}
    numbers = pd.read_csv(io.StringIO(table), dtype=texts, keep_default_na=False)
    return inside.draw(numbers) if len(numbers) else None


def _importance(store: Store, record: RunRecord) -> Figure | None:
    """What the training run found that its model relies on."""
    table = runs.read_text(store, record.run_id, "plots/importance.csv")
    if table is None:
        return None
    numbers = pd.read_csv(io.StringIO(table), dtype={"feature": str}, keep_default_na=False)
    metric = record.tags.get("surefit.metric", "the metric")
    return importance.draw(numbers, metric=metric) if len(numbers) else None
