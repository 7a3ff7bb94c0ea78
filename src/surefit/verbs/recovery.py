"""A search's journal made again from the nested runs in MLflow, where the file is gone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from surefit import masking
from surefit.edges import environment, mirror, runs
from surefit.edges.journal import Fold, Journal, Message, Trial
from surefit.edges.runs import TAG_LENGTH, RunRecord
from surefit.edges.store import Store
from surefit.errors import InputError
from surefit.verbs.reporter import Reporter

TAG = "surefit.journal"  # on a trial's run: what the journal holds of it, as JSON

_Kept = tuple[Trial, list[Fold], Message, str]


def packed(trial: Trial, folds: Sequence[Fold]) -> str:
    """What the journal must have again of a trial; "" where a tag cannot hold it, or must not."""
    if masking.masked(trial.params) != trial.params:
        return ""
    text = masking.as_json(json.dumps({
        "params": trial.params, "thresholds": trial.thresholds, "value": trial.value,
        "started": trial.started, "ended": trial.ended,
        "folds": [[f.fold, f.state, f.score, f.seconds, f.reason] for f in folds],
    }))  # fmt: skip
    return text if len(text) <= TAG_LENGTH else ""


def rebuild(store: Store, search: str, journal: Journal, reporter: Reporter) -> int:
    """Fill an empty journal with the trials that MLflow has of the search, up to the first gap.

    Returns:
        how many there were; 0 where the journal had trials of its own.

    Raises:
        InputError: when a process that lives runs this very search from another folder.
    """
    if journal.parent_run_id or journal.trials():
        return 0
    where = f"tags.`surefit.search` = '{search}' and tags.`surefit.kind` = 'tune'"
    for parent in runs.search(store, where):
        owner = parent.tags.get("surefit.owner", "")
        live = parent.status == "RUNNING" and owner != environment.owner()
        if live and environment.owner_alive(owner):
            raise InputError(
                f"This search is running already, from another folder: run {parent.run_id} of "
                f"{owner}.", "wait for it, or end that run, and run this command again",
            )  # fmt: skip
        mine = _ended(parent, mirror.trials_of(store, search))
        if mine:
            kept = list(_contiguous(mine))
            journal.adopt(parent.run_id, kept)  # none, too: those behind are found by their keys
            many = len(kept) or "none of its"
            reporter.say(f"The journal was not here: {many} trials are taken from MLflow")
            return len(kept)
    return 0


def _ended(parent: RunRecord, found: Iterator[RunRecord]) -> dict[int, RunRecord]:
    """The parent's trials that ended, by number."""
    return {
        int(r.tags["surefit.trial"]): r
        for r in found
        if r.tags.get("mlflow.parentRunId") == parent.run_id
        and r.status in ("FINISHED", "FAILED")
        and r.tags.get(TAG, "").startswith("{")
        and r.tags.get("surefit.reason") != runs.DIED  # else it was being written
    }


def _contiguous(mine: Mapping[int, RunRecord]) -> Iterator[_Kept]:
    """Trials 0, 1, 2, … up to the first that is missing."""
    number = 0
    while number in mine:
        record = mine[number]
        kept: dict[str, Any] = json.loads(record.tags[TAG])
        reason = record.tags.get("surefit.reason", "")
        state: Any = record.tags["surefit.state"]
        trial = Trial(
            number=number, params=kept["params"], thresholds=kept["thresholds"], state=state,
            value=kept["value"], reason=reason, started=kept["started"], ended=kept["ended"],
        )  # fmt: skip
        folds = [
            Fold(trial=number, fold=fold, state=how, score=score, seconds=seconds, reason=why)
            for fold, how, score, seconds, why in kept["folds"]
        ]  # fmt: skip
        payload = _payload(trial, record)
        message = Message(key=record.tags["surefit.key"], kind="trial", payload=payload)
        yield trial, folds, message, record.run_id
        number += 1


def _payload(trial: Trial, record: RunRecord) -> dict[str, Any]:
    """What the trial's run holds, should it have to be written again; of curves, their ends."""
    own = ("surefit.search", "surefit.family", "surefit.error", TAG)
    return {
        "number": trial.number, "state": trial.state, "reason": trial.reason,
        "started": int(trial.started * 1000),
        "ended": int((trial.ended or trial.started) * 1000),
        "params": dict(record.params),
        "metrics": [(k, v, 0) for k, v in record.metrics.items() if math.isfinite(v)],
        "calls": [], "tags": {k: record.tags[k] for k in own if k in record.tags},
    }  # fmt: skip
