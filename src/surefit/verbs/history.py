"""`surefit history`: who moved an alias, when, why and on what evidence; tampering is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surefit.core import decision
from surefit.core.decision import Entry
from surefit.edges import registry, runs
from surefit.results import Shown
from surefit.verbs import moves, workspace
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides
from surefit.wording import counted


@dataclass(frozen=True, kw_only=True)
class Event:
    """One decision about an alias.

    Attributes:
        record: its number in the alias's history, from 1.
        action: "promote", "rollback", "train" (a model trained straight to the alias) or "outside".
        verdict: the gate's answer, "UNGATED" where training asked none, or "".
        outcome: "done" where the alias moved, "undone" where a crash prevented it, else "none".
        by: "surefit", or "outside" for a move without evidence.
    """

    record: int
    action: str
    verdict: str
    version: str | None
    previous: str | None
    outcome: str
    by: str
    who: str
    when: str
    why: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class History(Shown):
    """An alias's decisions, oldest first, and what is wrong with their chain."""

    model: str
    alias: str
    version: str | None
    events: tuple[Event, ...]
    faults: tuple[str, ...]
    next: str

    def lines(self) -> list[str]:
        """The history in words, the newest first."""
        state = f"version {self.version}" if self.version else "not set"
        whole = "the chain of records is whole" if not self.faults else "TAMPERED WITH"
        n_decisions = counted(len(self.events), "decision")
        lines = [f"models:/{self.model}@{self.alias} is {state}; {n_decisions}, {whole}"]
        lines += [f"  ! {fault}" for fault in self.faults]
        for e in reversed(self.events):
            lines.append(f"  {e.record:>3}  {e.when or '':<20}  {_told(e)}  (run {e.run_id[:8]})")
        return [*lines, f"Next: {self.next}"]


def history(
    *,
    to: str = "production",
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> History:
    """The decisions about an alias, their chain of digests verified.

    A promotion that was cut short is finished or undone first, and a move made in MLflow's UI is
    written down as made outside.

    Args:
        to: the alias.
        config, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    workspace.check_alias(to)
    project = workspace.project(data=None, target=None, config=config, overrides=set)
    store = workspace.open_store(project)
    stages = project.config.gate.stages
    with moves.opened(store, to, stages=stages, reporter=reporter) as log:
        entries, named = log.entries, log.named
    texts: dict[str, str | None] = {}
    who: dict[str, tuple[str, str]] = {}
    for entry in entries:
        texts[entry.run_id] = text = runs.read_text(store, entry.run_id, moves.RECORD)
        who[entry.run_id] = decision.who_and_why(text)
    faults = decision.faults(entries, texts)
    tagged = registry.numbered(store, named.version) if named else None
    faults += decision.version_faults(entries, dict(tagged.tags) if tagged else {})
    return History(
        model=store.experiment, alias=to, version=named.version if named else None,
        events=tuple(_event(e, *who[e.run_id]) for e in entries), faults=tuple(faults),
        next=_next(entries, faults, to),
    )  # fmt: skip


def _event(entry: Entry, who: str, why: str) -> Event:
    return Event(
        record=entry.sequence, action=entry.action, verdict=entry.verdict, version=entry.version,
        previous=entry.previous, outcome=entry.outcome, by=entry.by, who=who, when=entry.when,
        why=why, run_id=entry.run_id,
    )  # fmt: skip


def _told(event: Event) -> str:
    there = f"version {event.version}" if event.version else "nothing"
    before = f" (was {event.previous})" if event.previous else ""
    if event.action == "outside":
        return f"made outside: {there}{before}, no evidence"
    text = {"done": f"{event.action} → {there}{before}",
            "undone": f"{event.action} → {there}, cut short and undone"}.get(
        event.outcome, f"{event.action} of {there}: not moved")  # fmt: skip
    text = f"{event.verdict}: {text}" if event.verdict else text
    forced = " by force" if event.outcome == "done" and event.verdict != "PROMOTED" and (
        event.action == "promote") else ""  # fmt: skip
    return f"{text}{forced}, {event.who}" + (f', "{event.why}"' if event.why else "")


def _next(entries: Sequence[Entry], faults: Sequence[str], alias: str) -> str:
    if faults:
        return "look at the runs named above; --force --reason promotes all the same"
    back = decision.to_return_to(entries)
    to = "" if alias == "production" else f" --to {alias}"
    return (
        f"surefit rollback{to}   (back to version {back})" if back else f"surefit promote best{to}"
    )
