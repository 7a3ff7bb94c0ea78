"""What the latest check of the same data found: what the promotion gate asks for."""

from __future__ import annotations

import json
from typing import Any

from surefit.edges import runs
from surefit.edges.store import Store
from surefit.results import Check

FILE = "findings.json"


def latest(store: Store, data_digest: str) -> list[dict[str, Any]] | None:
    """The findings of the newest complete check of these data; None where there is none."""
    where = f"tags.`surefit.kind` = 'check' and tags.`surefit.data` = '{data_digest}'"
    for record in runs.search(store, where):
        if record.complete:
            text = runs.read_text(store, record.run_id, FILE)
            return list(json.loads(text)) if text is not None else None
    return None


def serious(store: Store, data_digest: str) -> list[dict[str, Any]]:
    """The serious findings of the latest check that nobody waived; [] where there was no check."""
    return [f for f in latest(store, data_digest) or [] if f["blocks"]]


def gate_check(store: Store, data_digest: str) -> Check | None:
    """The gate's question about the data; None where `surefit check` was never run on them."""
    found = latest(store, data_digest)
    if found is None:
        return None
    blocking = [f for f in found if f["blocks"]]
    waived = sum(bool(f["waived"]) for f in found)
    if not blocking:
        reason = f"none that blocks, {waived} waived" if waived else "none that blocks"
        return Check(name="findings in the data", verdict="PROMOTED", reason=reason)
    words = "; ".join(f"{f['key']}: {f['words']}" for f in blocking[:3])
    return Check(name="findings in the data", verdict="REJECTED", reason=words)
