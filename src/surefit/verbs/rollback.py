"""`surefit rollback`: the version before, or another that served, back in one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from surefit.core import decision
from surefit.edges import registry, runs
from surefit.edges.registry import Version
from surefit.errors import InputError
from surefit.items import Tag
from surefit.results import Check, Shown, plain
from surefit.verbs import moves, trial, workspace
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides


@dataclass(frozen=True, kw_only=True)
class Rollback(Shown):
    """What was restored, and what was checked first."""

    model: str
    alias: str
    version: str
    previous: str | None
    moved: bool
    checks: tuple[Check, ...]
    record: int
    run_id: str
    next: str

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        uri = f"models:/{self.model}@{self.alias}"
        verdict = f"ROLLED BACK: {uri} is version {self.version} (was {self.previous})"
        if not self.moved:
            verdict = f"REFUSED: {uri} stays version {self.previous}"
        lines = [verdict]
        lines += [f"  {c.verdict.lower():<12} {c.name}: {c.reason}" for c in self.checks]
        return [*lines, f"Run {self.run_id[:8]}", f"Next: {self.next}"]


def rollback(
    *,
    version: str | int | None = None,
    to: str = "production",
    reason: str = "",
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Rollback:
    """Point an alias back at the version it named before, and write a record of it.

    No gate is asked: the version served already. Its files must be whole, and it must answer its
    own example rows in a fresh process.

    Args:
        version: another version of the model than the one before.
        to: the alias.
        reason: why, for the record.
        config, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when there is no version to go back to.
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    workspace.check_alias(to)
    project = workspace.project(data=None, target=None, config=config, overrides=set)
    store = workspace.open_store(project)
    stages = project.config.gate.stages
    with moves.opened(store, to, stages=stages, reporter=reporter) as log:
        chosen = _chosen(log, str(version) if version is not None else None)
        before = log.named.version if log.named else None
    reporter.say(f"Plan:  {to} back to version {chosen.version}, tried first, about 5 s")
    tags = {"surefit.alias": to, "surefit.of": chosen.run_id}
    with runs.recording(store, f"rollback {to}", "promote", tags=tags) as run:
        found = trial.answers(store, chosen, manifest=registry.manifest(store, chosen))
        with moves.opened(store, to, stages=stages, reporter=reporter) as log:
            lost = moves.overtaken(log, before)
            checks = (*found.checks, *lost)
            moved = not lost and all(c.verdict != "REJECTED" for c in checks)
            facts = moves.facts(project.root, verdict=None, why=reason)
            entry = moves.write(
                log, run, action="rollback", version=chosen.version, moves=moved, facts=facts,
                evidence={"checks": plain(checks), "latency_p95_ms": found.p95_ms},
            )  # fmt: skip
            result = Rollback(
                model=store.experiment, alias=to, version=chosen.version, previous=entry.previous,
                moved=moved, checks=checks, record=entry.sequence, run_id=run.run_id,
                next="surefit history" if moved else "surefit rollback --version N",
            )  # fmt: skip
            run.log([Tag(key="mlflow.note.content", value="\n\n".join(result.lines()[:-2]))])
            if moved:
                moves.carry_out(log, entry, chosen)
    return result


def _chosen(log: moves.Log, version: str | None) -> Version:
    wanted = version or decision.to_return_to(log.entries)
    if wanted is None:
        raise InputError(
            f"There is no version before this one on record for {log.alias}.",
            "surefit rollback --version N; surefit history shows what there was",
        )
    found = registry.numbered(log.store, wanted)
    if found is None:
        known = ", ".join(v.version for v in registry.versions(log.store)) or "none"
        raise InputError(f"There is no version {wanted}; registered are: {known}.")
    if log.named is not None and log.named.version == found.version:
        raise InputError(f"{log.alias} is version {found.version} already.", "surefit history")
    return found
