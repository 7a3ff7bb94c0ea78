"""What `surefit doctor` puts right in an open store: runs, searches, aliases; and artifacts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surefit.config import Project
from surefit.core import decision
from surefit.edges import environment, leftovers, registry, runs, upkeep
from surefit.edges.leftovers import Seen
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import SurefitError
from surefit.verbs import moves
from surefit.verbs.history import history
from surefit.verbs.searches import SEARCHES
from surefit.verbs.workspace import Overrides
from surefit.wording import counted

SOME = 5  # runs named of each kind
LONG = 24 * 3600  # seconds after which a run that cannot be judged from here is worth a word


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One thing that was looked at.

    Attributes:
        what: the thing: "libraries", "store", "runs", …
        state: "fine"; "mended": it was wrong and is right now; "note": worth knowing; "serious".
        words: what was found.
        fix: what to type or do; "" where nothing is to be done.
    """

    what: str
    state: Literal["fine", "mended", "note", "serious"]
    words: str
    fix: str = ""


def fine(what: str, words: str) -> Symptom:
    """All is well."""
    return Symptom(what=what, state="fine", words=words)


def mended(what: str, words: str) -> Symptom:
    """It was wrong, and was put right."""
    return Symptom(what=what, state="mended", words=words)


def note(what: str, words: str, fix: str = "") -> Symptom:
    """Worth knowing; nothing is broken."""
    return Symptom(what=what, state="note", words=words, fix=fix)


def serious(what: str, words: str, fix: str) -> Symptom:
    """Something does not work, or something is lost."""
    return Symptom(what=what, state="serious", words=words, fix=fix)


def of(
    store: Store, project: Project, *, config: str | Path | None, overrides: Overrides
) -> list[Symptom]:
    """What is to say of artifacts, runs, searches and aliases; what can be put right is."""
    found: list[Symptom] = []
    for part in (
        _artifacts(store),
        _runs(store),
        _searches(store, project.root / SEARCHES),
        _aliases(store, config, overrides),
    ):
        try:
            found += part
        except SurefitError as error:
            fix = error.fix or "surefit doctor, once it answers"
            found.append(serious("store", error.what, fix))
    return found


# --- artifacts ---


def _artifacts(store: Store) -> Iterator[Symptom]:
    """Whether artifacts can be written, and those of the newest run read."""
    location = upkeep.artifacts(store)
    folder = runs.local_folder(location)
    some = f"tags.`surefit.kind` != 'trial' and {runs.ENDED_WELL}"  # a trial has none
    newest = list(runs.search(store, some, limit=1))
    if folder is not None:
        why = upkeep.unwritable(folder)
        if newest and not folder.is_dir():
            yield serious(
                "artifacts", f"{folder} is not there: MLflow keeps absolute paths, and the project "
                "was moved or the folder deleted", f"move it back, or: ln -s '{Path.cwd()}/mlruns' "
                f"'{folder.parent}'",
            )  # fmt: skip
            return
        if why:
            yield serious("artifacts", f"nothing can be written: {why}", "give access to it")
            return
        yield fine("artifacts", f"{folder} can be written")
    for record in newest:
        if not store.client.list_artifacts(record.run_id):
            yield serious("artifacts", f"run {record.run_id[:8]} ({record.name}) has lost its "
                          f"artifacts under {location}", "put the folder back")  # fmt: skip
        elif folder is None:
            yield fine("artifacts", f"{location} can be read")


# --- runs ---


def _runs(store: Store) -> Iterator[Symptom]:
    """Runs left RUNNING: those of dead processes are closed, the others named."""
    closed = runs.close_the_dead(store)
    if closed:
        yield mended("runs", f"{len(closed)} left RUNNING by dead processes, closed as FAILED "
                     f"(its process died): {_named(closed)}")  # fmt: skip
    left = list(runs.search(store, "attributes.status = 'RUNNING'", limit=1000))
    ours = [r for r in left if _here(r)]
    old = [r for r in left if not _here(r) and time.time() - r.started / 1000 > LONG]
    if ours:
        yield fine("runs", f"{len(ours)} running now: {_named(ours)}")
    if old:
        example = f"MlflowClient().set_terminated('{old[0].run_id}', 'FAILED')"
        yield note("runs", f"{len(old)} RUNNING for over a day, of other programs or machines: "
                   f"{_named(old)}", f"if dead, in Python: {example}")  # fmt: skip
    if not closed and not left:
        yield fine("runs", "none left RUNNING")


def _here(record: RunRecord) -> bool:
    """Whether a run's process is on this machine: then it lives, since the dead were closed."""
    owner = record.tags.get("surefit.owner", "")
    return owner.split("/")[0] == environment.owner().split("/")[0]


def _named(records: list[RunRecord]) -> str:
    names = ", ".join(f"{r.run_id[:8]} ({r.name})" for r in records[:SOME])
    return f"{names}, …" if len(records) > SOME else names


# --- searches ---


def _searches(store: Store, folder: Path) -> Iterator[Symptom]:
    """Journals: what is missing in MLflow is written, what was cut short is named."""
    seen = leftovers.searches(folder)
    told = [symptom for s in seen if (symptom := _search(store, s)) is not None]
    yield from told
    if seen and not told:
        yield fine("searches", f"{len(seen)} here, each whole in MLflow")


def _search(store: Store, seen: Seen) -> Symptom | None:
    name = f"search {seen.path.stem[:8]}"
    if seen.running:
        return fine("searches", f"{name} is running: {seen.trials} trials so far")
    if seen.problem:
        return serious("searches", f"the journal {seen.path} cannot be read: {seen.problem}",
                       f"mv '{seen.path}' '{seen.path}.old'; the search starts anew")  # fmt: skip
    parent = _parent(store, seen)
    if seen.pending:
        return _write_behind(store, seen, name, parent)
    if seen.unfinished and parent is not None and not parent.complete:
        done = seen.trials - seen.unfinished
        trials = f"{done} trial{'s' * (done != 1)}"
        return note("searches", f"{name} ({parent.name}) was cut short after {trials}",
                    "the same surefit tune goes on; no trial is run again")  # fmt: skip
    return None


def _parent(store: Store, seen: Seen) -> RunRecord | None:
    try:
        record = runs.find(store, seen.parent_run_id or "")
    except SurefitError:
        return None
    return None if record.deleted else record


def _write_behind(store: Store, seen: Seen, name: str, parent: RunRecord | None) -> Symptom:
    if parent is None:
        return note("searches", f"{name}: {seen.pending} trials are not in MLflow, and its run is "
                    "deleted", "the same surefit tune writes them under a new run")  # fmt: skip
    try:
        leftovers.write_behind(store, seen)
    except SurefitError as error:
        return serious("searches", f"{name}: {error.what}", error.fix or "surefit doctor again")
    return mended("searches", f"{name} ({parent.name}): {seen.pending} trials were not in MLflow "
                  "and are now")  # fmt: skip


# --- aliases ---


def _aliases(
    store: Store, config: str | Path | None, overrides: Overrides
) -> Iterator[Symptom]:  # fmt: skip
    """Logs of decisions: what was cut short is settled, and each chain is verified."""
    known = {r.tags["surefit.alias"] for r in runs.search(store, "tags.`surefit.alias` LIKE '%'")}
    for alias in sorted(known):
        entries, named = moves.read(store, alias), registry.by_alias(store, alias)
        version = named.version if named else None
        steps = decision.settle(entries, version, now=time.time())
        found = history(to=alias, config=config, set=overrides, quiet=True)  # settles it
        what = f"{alias} is {f'version {found.version}' if found.version else 'not set'}"
        for fault in found.faults:
            yield serious("aliases", f"{alias}: {fault}", f"surefit history --to {alias}")
        cut = [s.kind for s in steps if s.kind != "adopt"]
        if cut:
            yield mended("aliases", f"{what}; a promotion was cut short ({', '.join(cut)})")
        elif steps:
            words = f"{what}: moved outside of surefit, written down without evidence"
            yield note("aliases", words, f"surefit history --to {alias}")
        elif not found.faults:
            yield fine(
                "aliases", f"{what}; its log of {counted(len(entries), 'decision')} is whole"
            )
