"""A registered version tried before an alias moves to it: its files, its answers, its speed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from surefit.core import predictions
from surefit.core.conform import conform
from surefit.edges import bundle, isolated, registry, temporary
from surefit.edges.registry import Version
from surefit.edges.store import Store
from surefit.errors import InputError, IntegrityError
from surefit.results import Check, Verdict

TRIED_ROWS = 200  # rows on which a version must repeat its stored predictions
TIMED_ROWS = 40  # rows that are asked one by one, for the latency
TOLERANCE = 1e-9  # largest difference of a probability, or relative difference of a value
SINGLE = 1e-5  # the same of torch's float32, whose sums go by how many rows are asked at once
NAME = "loads without surefit and repeats its predictions"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What trying a version showed."""

    checks: tuple[Check, ...]
    p95_ms: float | None = None


def repeats(
    store: Store, version: Version, *, manifest: str, rows: pd.DataFrame, stored: pd.DataFrame
) -> Trial:
    """Load a version as its user will, from the registry, and compare with stored predictions.

    Args:
        manifest: the SHA-256 of manifest.json as recorded at training.
        rows: raw rows; `stored`: the predictions of the same rows, in the same order.
    """
    try:
        with temporary.folder() as folder:
            local = registry.download(store, version, Path(folder))
            bundle.verify(local, manifest)
            unmet, n_pinned = bundle.requirements(local)
            tolerance = SINGLE if bundle.pins(local, "torch") else TOLERANCE
            answer = isolated.try_out(local, rows, n_timed=TIMED_ROWS)
    except IntegrityError as error:
        return Trial(checks=(Check(name=NAME, verdict="REJECTED", reason=error.what),))
    largest = _largest_difference(answer.frame, stored)
    verdict: Verdict = "PROMOTED" if largest <= tolerance else "REJECTED"
    reason = (
        f"{len(rows)} rows in a fresh process, largest difference {largest:.2g} (tolerance "
        f"{tolerance:g})"
    )
    missing = any("not installed" in line for line in unmet)
    needs = Check(
        name="dependencies", verdict="REJECTED" if missing else "PROMOTED",
        reason="; ".join(unmet) or f"all {n_pinned} that the model pins are installed here",
    )  # fmt: skip
    checks = (Check(name=NAME, verdict=verdict, reason=reason), needs)
    return Trial(checks=checks, p95_ms=answer.p95_ms)


def answers(store: Store, version: Version, *, manifest: str) -> Trial:
    """Whether a version that served before is whole and still answers its own example rows."""
    name = "is whole and answers its example rows"
    try:
        with temporary.folder() as folder:
            local = registry.download(store, version, Path(folder))
            if manifest:
                bundle.verify(local, manifest)
            rows = bundle.example(local)
            if rows is None:
                reason = "it has no example rows" + ("" if manifest else " and no manifest")
                return Trial(checks=(Check(name=name, verdict="INCONCLUSIVE", reason=reason),))
            rows, _ = conform(rows, bundle.inputs(local))
            answer = isolated.try_out(local, rows, n_timed=TIMED_ROWS)
    except (IntegrityError, InputError) as error:
        return Trial(checks=(Check(name=name, verdict="REJECTED", reason=error.what),))
    reason = f"{len(answer.frame)} rows in a fresh process"
    if not manifest:
        reason += "; it has no manifest, so its files could not be checked"
    return Trial(
        checks=(Check(name=name, verdict="PROMOTED", reason=reason),), p95_ms=answer.p95_ms
    )


def _largest_difference(answered: pd.DataFrame, stored: pd.DataFrame) -> float:
    columns = predictions.answer_columns(stored)
    a, b = (f[columns].to_numpy(dtype="float64") for f in (answered, stored))
    scale = np.maximum(1.0, np.abs(b)) if columns == ["prediction"] else 1.0
    return float(np.abs((a - b) / scale).max())
