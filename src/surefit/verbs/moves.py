"""Moving an alias so that the log of decisions and the registry never disagree.

Under a lock: what is half done is settled, the record is written, the alias moves, the record is
confirmed. Whatever dies in between, the next command that opens the log finishes or undoes it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from surefit import masking
from surefit.core import decision
from surefit.core.decision import Action, Entry, Step
from surefit.edges import environment, lock, registry, runs
from surefit.edges.registry import Version
from surefit.edges.runs import Run
from surefit.edges.store import Store
from surefit.items import Tag, Text
from surefit.results import Check
from surefit.verbs.reporter import Reporter

RECORD = "decision.json"


@dataclass(frozen=True, kw_only=True)
class Log:
    """An alias's log, locked and settled: what it says is what the registry says."""

    store: Store = field(repr=False)
    alias: str
    stages: bool
    entries: tuple[Entry, ...]
    named: Version | None
    still_locked: Callable[[], None] = field(repr=False)


@contextlib.contextmanager
def opened(store: Store, alias: str, *, stages: bool, reporter: Reporter) -> Iterator[Log]:
    """Lock an alias and bring its log and the registry together, saying what that took.

    Raises:
        ServiceError: when the lock cannot be had, or the store fails.
    """
    with lock.held(store, alias) as still_locked:
        entries, named = read(store, alias), registry.by_alias(store, alias)
        log = Log(store=store, alias=alias, stages=stages, entries=entries, named=named,
                  still_locked=still_locked)  # fmt: skip
        steps = decision.settle(entries, named.version if named else None, now=time.time())
        for step in steps:
            reporter.say(f"Note:  {_settled(log, step)}")
        if steps:
            entries, named = read(store, alias), registry.by_alias(store, alias)
            log = Log(**{**vars(log), "entries": entries, "named": named})
        yield log


def read(store: Store, alias: str) -> tuple[Entry, ...]:
    """An alias's log as the runs' tags tell it, in order."""
    found = runs.search(
        store, f"tags.`surefit.alias` = '{alias}' and tags.`surefit.record` LIKE '%'"
    )
    return tuple(sorted((_entry(r) for r in found), key=lambda e: (e.sequence, e.when)))


def write(
    log: Log,
    run: Run,
    *,
    action: Action,
    version: str | None,
    moves: bool,
    facts: Mapping[str, Any],
    evidence: Mapping[str, Any] | None,
    outcome: str = "open",
) -> Entry:
    """Append a record to the log: its file first, then the tags by which it counts, in one call."""
    before = log.entries[-1] if log.entries else None
    previous = log.named.version if log.named else decision.standing(log.entries)
    if action == "outside":
        previous = decision.standing(log.entries)
    text = masking.as_json(decision.record(
        model=log.store.experiment, alias=log.alias, action=action, version=version,
        previous=previous, moves=moves, before=before, facts=facts, evidence=evidence,
    ))  # fmt: skip
    log.still_locked()
    run.log([Text(path=RECORD, text=text)])
    tags = {
        "surefit.alias": log.alias, "surefit.action": action,
        "surefit.record": decision.digest(text),
        "surefit.sequence": str(before.sequence + 1 if before else 1),
        "surefit.follows": before.digest if before else "",
        "surefit.version": version or "", "surefit.previous": previous or "",
        "surefit.verdict": str(facts.get("verdict") or ""), "surefit.by": str(facts["by"]),
        "surefit.when": str(facts["when"]), "surefit.move": outcome if moves else "none",
    }  # fmt: skip
    run.log(Tag(key=key, value=value) for key, value in tags.items())
    return next(e for e in read(log.store, log.alias) if e.run_id == run.run_id)


def overtaken(log: Log, before: str | None) -> list[Check]:
    """Whether the alias moved since it was looked at: then what was judged is no longer so."""
    after = log.named.version if log.named else None
    if before == after:
        return []
    reason = f"{log.alias} moved from version {before} to {after} while this was judged"
    return [Check(name="no other move meanwhile", verdict="INCONCLUSIVE", reason=reason)]


def carry_out(log: Log, entry: Entry, version: Version) -> None:
    """Move the alias as the record says, and confirm it."""
    log.still_locked()
    registry.move(log.store, log.alias, version, stages=log.stages)
    _confirm(log, entry, version)


def _confirm(log: Log, entry: Entry, version: Version) -> None:
    gate = "rolled back to" if entry.action == "rollback" else entry.verdict.lower()
    if entry.action == "promote" and entry.verdict != "PROMOTED":
        gate = f"forced ({gate})"
    registry.tag(
        log.store, version,
        {"surefit.gate": gate, "surefit.decision": entry.run_id,
         "surefit.decision.sha256": entry.digest},
    )  # fmt: skip
    _outcome(log.store, entry, "done")


def _outcome(store: Store, entry: Entry, outcome: str) -> None:
    run = Run(store=store, run_id=entry.run_id, name="")
    run.log([Tag(key="surefit.move", value=outcome),
             Tag(key="surefit.moved_at", value=f"{time.time():.3f}")])  # fmt: skip


def _settled(log: Log, step: Step) -> str:
    """Do one step; give what was done in words."""
    if step.kind == "adopt":
        return _adopt(log, step.version)
    if step.kind == "restore":
        version = registry.numbered(log.store, step.version or "")
        if version is None:
            return f"version {step.version} is gone: {log.alias} is left as it is"
        registry.move(log.store, log.alias, version, stages=log.stages)
        return f"a move that was given up landed late; {log.alias} is version {step.version} again"
    entry = step.entry
    assert entry is not None
    move = "move" if entry.action == "train" else entry.action
    what = f"the {move} to version {entry.version} (run {entry.run_id[:8]})"
    if step.kind == "undo":
        _outcome(log.store, entry, "undone")
        return f"{what} was cut short before {log.alias} moved; it is undone"
    version = registry.numbered(log.store, entry.version or "")
    if version is not None:
        registry.move(log.store, log.alias, version, stages=log.stages)  # the stage may be missing
        _confirm(log, entry, version)
        runs.complete(log.store, entry.run_id)
    return f"{what} was cut short after {log.alias} moved; it is finished"


def _adopt(log: Log, version: str | None) -> str:
    """Write down what was done elsewhere, without evidence; it is never undone."""
    before = decision.standing(log.entries)
    tags = {"surefit.alias": log.alias}
    told: dict[str, Any] = {"by": "outside", "who": None, "when": now(), "why": None, "git": {},
                            "verdict": None, "forced": False}  # fmt: skip
    with runs.recording(log.store, f"adopted {log.alias}", "promote", tags=tags) as run:
        write(log, run, action="outside", version=version, moves=True, facts=told,
              evidence=None, outcome="done")  # fmt: skip
    there = f"names version {version}" if version else "is gone"
    was = f"version {before}" if before else "nothing on record"
    return f"{log.alias} {there} (was: {was}); the move was made outside, without evidence"


def now() -> str:
    """The time, for records."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def facts(root: Any, *, verdict: str | None, why: str, forced: bool = False) -> dict[str, Any]:
    """Who decided, when, why, and from which commit."""
    return {"verdict": verdict, "forced": forced, "by": "surefit", "who": environment.user(),
            "when": now(), "why": why or None, "git": environment.git_tags(root)}  # fmt: skip


def _entry(record: runs.RunRecord) -> Entry:
    tags = record.tags
    return Entry(
        run_id=record.run_id, sequence=int(tags.get("surefit.sequence", 0) or 0),
        digest=tags["surefit.record"], follows=tags.get("surefit.follows", ""),
        action=tags.get("surefit.action", ""), verdict=tags.get("surefit.verdict", ""),
        version=tags.get("surefit.version") or None,
        previous=tags.get("surefit.previous") or None,
        outcome=tags.get("surefit.move", "none"), by=tags.get("surefit.by", ""),
        when=tags.get("surefit.when", ""), ended=float(tags.get("surefit.moved_at", 0) or 0),
    )  # fmt: skip
