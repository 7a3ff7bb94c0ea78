"""The log of decisions: what settles it with the registry, what an undo returns to, tampering."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from surefit.core import decision
from surefit.core.decision import Entry, Step


def entry(sequence, version, *, previous=None, outcome="done", action="promote", ended=0.0):
    return Entry(
        run_id=f"run{sequence}", sequence=sequence, digest=f"d{sequence}",
        follows=f"d{sequence - 1}" if sequence > 1 else "", action=action, verdict="PROMOTED",
        version=version, previous=previous, outcome=outcome, by="surefit", when="", ended=ended,
    )  # fmt: skip


def test_a_settled_log_needs_nothing() -> None:
    """Where log and registry agree, there is nothing to do."""
    assert decision.settle([], None, now=0) == []
    assert decision.settle([entry(1, "1"), entry(2, "2")], "2", now=0) == []


def test_a_half_done_move_is_finished_or_undone() -> None:
    """An open record is done where its alias moved, and undone where it did not."""
    half = entry(2, "2", previous="1", outcome="open")
    assert decision.settle([entry(1, "1"), half], "2", now=0) == [Step(kind="finish", entry=half)]
    assert decision.settle([entry(1, "1"), half], "1", now=0) == [Step(kind="undo", entry=half)]


def test_a_move_made_elsewhere_is_adopted() -> None:
    """A version that no record names is adopted, a removed alias too; an undo comes first."""
    assert decision.settle([entry(1, "1")], "7", now=0) == [Step(kind="adopt", version="7")]
    assert decision.settle([entry(1, "1")], None, now=0) == [Step(kind="adopt", version=None)]
    assert decision.settle([], "1", now=0) == [Step(kind="adopt", version="1")]
    half = entry(2, "2", outcome="open")
    steps = decision.settle([entry(1, "1"), half], "7", now=0)
    assert [s.kind for s in steps] == ["undo", "adopt"]


def test_a_late_landing_is_taken_as_ours() -> None:
    """A move that was given up and lands after all is done, or put back where a newer one stands;
    long afterwards it is somebody's own."""
    late = entry(2, "2", outcome="undone", ended=1000.0)
    assert [s.kind for s in decision.settle([entry(1, "1"), late], "2", now=1100)] == ["late"]
    newer = [entry(1, "1"), late, entry(3, "3")]
    assert decision.settle(newer, "2", now=1100) == [Step(kind="restore", version="3")]
    assert [s.kind for s in decision.settle(newer, "2", now=9000)] == ["adopt"]


@given(st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(["done", "undone", "none"]))),
       st.sampled_from(["1", "2", "3", None]))  # fmt: skip
def test_settling_ends_in_agreement(moves, named) -> None:
    """Whatever the log and the registry say, after the steps they say the same."""
    entries = [entry(k, v, outcome=o) for k, (v, o) in enumerate(moves, start=1)]
    if entries:
        entries[-1] = entry(len(entries), entries[-1].version, outcome="open")
    says = {e.sequence: e for e in entries}
    for step in decision.settle(entries, named, now=10.0**6):
        if step.kind in ("finish", "undo", "late"):
            outcome = "undone" if step.kind == "undo" else "done"
            says[step.entry.sequence] = Entry(**{**vars(step.entry), "outcome": outcome})
        elif step.kind == "adopt":
            says[len(says) + 1] = entry(len(says) + 1, step.version, action="outside")
        else:
            named = step.version
    assert decision.standing([says[k] for k in sorted(says)]) == named


def test_rollbacks_go_back_one_promotion_each() -> None:
    """Two rollbacks undo two promotions; after going forward an undo takes that back."""
    log = [entry(1, "1"), entry(2, "2"), entry(3, "3")]
    assert decision.to_return_to(log) == "2"
    log.append(entry(4, "2", action="rollback"))
    assert decision.to_return_to(log) == "1"
    log.append(entry(5, "1", action="rollback"))
    assert decision.to_return_to(log) is None
    log.append(entry(6, "3", action="rollback"))
    assert decision.to_return_to(log) == "1"


def chain(n):
    entries, texts, before = [], {}, None
    for k in range(1, n + 1):
        text = decision.record(
            model="m", alias="production", action="promote", version=str(k),
            previous=str(k - 1) if k > 1 else None, moves=True, before=before,
            facts={"who": "me", "why": None}, evidence=None,
        )  # fmt: skip
        before = entry(k, str(k), previous=str(k - 1) if k > 1 else None)
        follows = entries[-1].digest if entries else ""
        before = Entry(**{**vars(before), "digest": decision.digest(text), "follows": follows})
        entries.append(before)
        texts[before.run_id] = text
    return entries, texts


@given(st.integers(1, 5), st.data())
def test_tampering_shows(n, data) -> None:
    """A whole chain has no faults; a record changed, emptied or removed from its middle shows."""
    entries, texts = chain(n)
    assert decision.faults(entries, texts) == []
    victim = data.draw(st.integers(0, n - 1))
    name = entries[victim].run_id
    content = json.loads(texts[name]) | {"version": "99"}
    assert decision.faults(entries, {**texts, name: json.dumps(content)})
    assert decision.faults(entries, {**texts, name: None})
    if victim < n - 1:
        assert decision.faults(entries[:victim] + entries[victim + 1 :], texts)


def test_a_forged_tag_shows() -> None:
    """A run's tags that no longer say what its record says are told, by what they say."""
    entries, texts = chain(2)
    forged = Entry(**{**vars(entries[1]), "version": "7"})
    assert decision.faults([entries[0], forged], texts) == [
        "record 2 (run run2): its tag says version 7"
    ]
