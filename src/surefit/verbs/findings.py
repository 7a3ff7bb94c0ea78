"""What the latest check of the same data found: what the promotion gate asks for."""

from __future__ import annotations

import json
from typing import Any

from surefit.edges import runs
from surefit.edges.store import Store
from surefit.results import Check

FILE = "findings.json"
NAME = "findings in the data"


def latest(store: Store, data_digest: str) -> list[dict[str, Any]] | None:
    """The findings of the newest complete check of these data; None where there is none."""
    where = f"tags.`surefit.kind` = 'check' and tags.`surefit.data` = '{data_digest}'"
    for record in runs.search(store, where):
        if record.complete:
            text = runs.read_text(store, record.run_id, FILE)
            return list(json.loads(text)) if text is not None else None
    return None


def checks(found: list[dict[str, Any]] | None) -> list[Check]:
    """The gate's question about the data; unasked where `surefit check` was not run on them."""
    if found is None:
        reason = "nobody looked: surefit check was not run on these data"
        return [Check(name=NAME, verdict="PROMOTED", reason=reason)]
    blocking = [f for f in found if f["blocks"]]
    n_waived = len(waived(found))
    if not blocking:
        reason = f"none that blocks, {n_waived} waived" if n_waived else "none that blocks"
        return [Check(name=NAME, verdict="PROMOTED", reason=reason)]
    words = "; ".join(f"{f['key']}: {f['words']}" for f in blocking[:3])
    return [Check(name=NAME, verdict="REJECTED", reason=words)]


def waived(found: list[dict[str, Any]] | None) -> dict[str, str]:
    """The findings that were waived and why, by key."""
    return {f["key"]: str(f["waived"]) for f in found or [] if f["waived"]}
