"""The log of decisions about an alias: records chained by digest, settled with the registry.

A record is the text of `decision.json`. It holds its number in the log and the SHA-256 of the
record before it, so that a changed, removed or inserted record shows. What became of its move
(`open`, `done`, `undone`, or `none`) stands in a tag of its run, and in the record after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = 1
LATE = 15 * 60  # seconds within which a move that was given up may still land

Action = Literal["promote", "rollback", "train", "outside"]
Outcome = Literal["none", "open", "done", "undone"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One decision, as its run's tags tell it.

    Attributes:
        sequence: its place in the alias's log, from 1.
        digest: SHA-256 of its record, as it was written.
        follows: the digest of the record before it, "" for the first.
        version: what the alias was to name; None where it was removed.
        previous: what it named before.
        outcome: whether the alias moved.
        ended: seconds since 1970 when the outcome was written, 0 while it is open.
    """

    run_id: str
    sequence: int
    digest: str
    follows: str
    action: str
    verdict: str
    version: str | None
    previous: str | None
    outcome: str
    by: str
    when: str
    ended: float = 0.0


def digest(text: str) -> str:
    """SHA-256 (hex) of a record's bytes, as `sha256sum decision.json` gives it."""
    return hashlib.sha256(text.encode()).hexdigest()


def standing(entries: Sequence[Entry]) -> str | None:
    """The version that the log says the alias names; None before any move."""
    moved = [e for e in entries if e.outcome == "done"]
    return moved[-1].version if moved else None


def record(
    *,
    model: str,
    alias: str,
    action: Action,
    version: str | None,
    previous: str | None,
    moves: bool,
    before: Entry | None,
    facts: Mapping[str, Any],
    evidence: Mapping[str, Any] | None,
) -> str:
    """The text of a decision record; keys are documented in docs/promotion.md."""
    follows = None
    if before is not None:
        follows = {"run": before.run_id, "sha256": before.digest, "outcome": before.outcome}
    content = {
        "schema": SCHEMA,
        "sequence": before.sequence + 1 if before else 1,
        "model": model,
        "alias": alias,
        "action": action,
        "version": version,
        "previous": previous,
        "moves": moves,
        **facts,
        "evidence": evidence,
        "follows": follows,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


# --- the log and the registry ---


@dataclass(frozen=True, kw_only=True)
class Step:
    """What brings log and registry together.

    `finish` and `undo` close an open entry; `late` takes an undone one as done after all;
    `restore` moves the alias back to `version`; `adopt` writes what was done elsewhere.
    """

    kind: Literal["finish", "undo", "late", "restore", "adopt"]
    entry: Entry | None = None
    version: str | None = None


def settle(entries: Sequence[Entry], named: str | None, *, now: float) -> list[Step]:
    """The steps after which the log says what the registry says.

    A half-done promotion whose alias moved is finished, else it is undone: a recovery never moves
    an alias to another version. But one of our own moves that was given up may land later (a
    request that timed out): within 15 minutes it is taken as ours; the newest decision stands.

    Args:
        entries: the alias's log, in order.
        named: the version that the registry's alias names now, or None.
        now: seconds since 1970.
    """
    steps: list[Step] = []
    closed: list[Entry] = []
    for entry in entries:
        if entry.outcome != "open":
            closed.append(entry)
            continue
        kind: Literal["finish", "undo"] = "finish" if entry.version == named else "undo"
        steps.append(Step(kind=kind, entry=entry))
        if kind == "finish":
            closed.append(_with_outcome(entry, "done"))
    if standing(closed) == named:
        return steps
    late = [
        e for e in entries
        if e.outcome == "undone" and e.version == named and now - e.ended < LATE
    ]  # fmt: skip
    if not late:
        return [*steps, Step(kind="adopt", version=named)]
    newer = [e for e in closed if e.outcome == "done" and e.sequence > late[-1].sequence]
    if newer:
        return [*steps, Step(kind="restore", version=standing(closed))]
    return [*steps, Step(kind="late", entry=late[-1])]


def _with_outcome(entry: Entry, outcome: Outcome) -> Entry:
    return Entry(**{**vars(entry), "outcome": outcome})


def to_return_to(entries: Sequence[Entry]) -> str | None:
    """The version before the one the alias names, as an undo would take it.

    Moves stack up; a rollback takes versions off the stack down to the one it names, so that two
    rollbacks go back two promotions.
    """
    stack: list[str | None] = []
    for entry in entries:
        if entry.outcome != "done":
            continue
        if entry.action == "rollback" and entry.version in stack:
            while stack[-1] != entry.version:
                stack.pop()
            continue
        if not stack and entry.previous is not None:
            stack.append(entry.previous)
        stack.append(entry.version)
    return stack[-2] if len(stack) > 1 else None


# --- tampering ---


def faults(entries: Sequence[Entry], texts: Mapping[str, str | None]) -> list[str]:
    """What is wrong with a log, in words; [] when its chain is whole.

    Args:
        entries: the alias's log, in order.
        texts: each record as it is stored now, by run id; None where it is gone.
    """
    found = []
    for place, entry in enumerate(entries, start=1):
        what = f"record {entry.sequence} (run {entry.run_id[:8]})"
        if entry.sequence != place:
            found.append(f"{what} stands where record {place} should: one was removed or inserted")
            break
        text = texts.get(entry.run_id)
        if text is None:
            found.append(f"{what} has lost its decision.json")
            continue
        if digest(text) != entry.digest:
            found.append(f"{what} was changed after it was written")
        else:
            found += [f"{what}: {m}" for m in _mismatches(json.loads(text), entry)]
        if place > 1:
            before = entries[place - 2]
            if entry.follows != before.digest:
                found.append(f"{what} does not follow record {before.sequence} as it is now")
    return found


def version_faults(entries: Sequence[Entry], tags: Mapping[str, str]) -> list[str]:
    """Whether the version in place names a record of this log by another digest than it has.

    The version's tag holds the digest of the newest record too, which no later record does.
    """
    named = next((e for e in entries if e.run_id == tags.get("surefit.decision")), None)
    if named is None or tags.get("surefit.decision.sha256", named.digest) == named.digest:
        return []
    return [f"record {named.sequence} is not the one that the version's tags name"]


def who_and_why(text: str | None) -> tuple[str, str]:
    """Who decided and why, from a record; "?" and "" where it cannot be read."""
    try:
        content = json.loads(text or "")
        return str(content.get("who") or "?"), str(content.get("why") or "")
    except (ValueError, AttributeError):
        return "?", ""


def _mismatches(content: Mapping[str, Any], entry: Entry) -> list[str]:
    """Where the run's tags no longer say what its record says."""
    follows = (content.get("follows") or {}).get("sha256", "")
    told = {
        "sequence": entry.sequence, "version": entry.version, "previous": entry.previous,
        "action": entry.action,
    }  # fmt: skip
    wrong = [f"its tag says {k} {v}" for k, v in told.items() if content.get(k) != v]
    return wrong + (["its tag names another record before it"] if follows != entry.follows else [])
