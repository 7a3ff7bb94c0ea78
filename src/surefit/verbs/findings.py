"""What `surefit check` found in the data: reports show it, and the promotion gate asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from surefit.edges import runs
from surefit.edges.store import Store
from surefit.errors import SurefitError
from surefit.results import Check, Verdict
from surefit.sections import GateConfig
from surefit.verbs.workspace import CHECKED, Workspace

FILE = "findings.json"
NAME = "findings in the data"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is known of the data that a challenger was trained on.

    Attributes:
        listed: the findings, waived by the configuration as it is now; None where nobody looked.
        run_id: the check that found them, "" where there is none.
        trouble: why nobody looked.
    """

    listed: list[dict[str, Any]] | None = field(default=None, repr=False)
    run_id: str = ""
    trouble: str = ""

    @property
    def waived(self) -> dict[str, str]:
        """The findings that were waived and why, by key."""
        return {f["key"]: str(f["waived"]) for f in self.listed or [] if f["waived"]}


def latest(store: Store, looked_at: str) -> list[dict[str, Any]] | None:
    """The findings of the newest complete check of just this; None where there is none."""
    return _newest(store, looked_at)[0]


def _newest(store: Store, looked_at: str) -> tuple[list[dict[str, Any]] | None, str]:
    where = f"tags.`surefit.kind` = 'check' and tags.`{CHECKED}` = '{looked_at}'"
    for record in runs.search(store, where):
        if record.complete:
            text = runs.read_text(store, record.run_id, FILE)
            if text is not None:
                return list(json.loads(text)), record.run_id
    return None, ""


def for_gate(store: Store, work: Workspace, look: Callable[[], None]) -> Found:
    """The findings that the gate asks for, as `gate.check` wants them.

    Args:
        look: checks the rows and records it, where no check of them is on record.
    """
    how = work.config.gate.check
    if how == "skip":
        return Found(trouble='gate.check = "skip": nobody asked')
    listed, run_id = _newest(store, work.looked_at)
    if listed is None and how == "run":
        try:
            look()
        except SurefitError as error:
            return Found(trouble=f"these data could not be checked: {error.what}")
        listed, run_id = _newest(store, work.looked_at)
    if listed is None:
        return Found(trouble="nobody looked: surefit check was not run on these data")
    return Found(listed=_waived(listed, work.config.check.waive), run_id=run_id)


def _waived(listed: list[dict[str, Any]], reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    """The findings with the reasons that count now, whichever counted when they were found."""
    told = []
    for found in listed:
        reason = reasons.get(found["key"], reasons.get(found["code"], ""))
        blocks = found["severity"] == "serious" and not reason
        told.append({**found, "waived": reason, "blocks": blocks})
    return told


def check(found: Found, config: GateConfig) -> Check:
    """The gate's question about the data."""
    if found.listed is None:
        verdict: Verdict = "PROMOTED" if config.check == "skip" else "INCONCLUSIVE"
        return Check(name=NAME, verdict=verdict, reason=found.trouble)
    blocking = [f for f in found.listed if f["blocks"]]
    by = f" (check {found.run_id[:8]})"
    if not blocking:
        n_waived = len(found.waived)
        also = f", {n_waived} waived" if n_waived else ""
        return Check(name=NAME, verdict="PROMOTED", reason=f"none that blocks{also}{by}")
    words = "; ".join(f"{f['key']}: {f['words'].rstrip('.')}" for f in blocking[:3])
    more = f"; and {len(blocking) - 3} more" if len(blocking) > 3 else ""
    return Check(name=NAME, verdict="REJECTED", reason=f"{words}{more}{by}")


def advice(found: Found, config: GateConfig) -> str:
    """What to do where the findings are in the way; "" where they are not."""
    if found.listed is None:
        return "surefit check, then the same command again" if config.check == "require" else ""
    blocking = [f for f in found.listed if f["blocks"]]
    if not blocking:
        return ""
    first = blocking[0]
    return f'{first["advice"]}; or accept it: [check] waive = {{ "{first["key"]}" = "why" }}'
