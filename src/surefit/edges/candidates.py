"""Which runs a comparison is about, found with few and small questions to the store.

MLflow takes about a millisecond to read a whole run, so that a store of 100,000 is never read
through: kinds, data and completeness are filtered on the server, the best by their recorded metric
come first, and each question has a limit. Only a `--where` that the server cannot decide is
decided on runs that were read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from surefit.edges import runs
from surefit.edges.runs import ENDED_WELL, RunRecord
from surefit.edges.store import Store

KINDS = ("train", "tune")
EXAMPLES = 20  # runs that are not ranked, of each reason and kind; there may be more
ALIKE = (("data", "surefit.data"), ("split", "surefit.split"), ("task", "surefit.task"))
TOP = "tags.`mlflow.parentRunId` IS NULL"
OURS = "tags.`surefit.kind` IS NOT NULL"
# MLflow stores an infinity as ±1.8e308, and orders it first.
INFINITE = 1e308
FINITE = f"metrics.`{{key}}` < {INFINITE} and metrics.`{{key}}` > -{INFINITE}"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the user asked for: MLflow's filter, and what is decided on runs that were read."""

    server: str = ""
    keep: Callable[[RunRecord], bool] | None = None


def ask(
    store: Store, asked: Question, *more: str, limit: int,
    order: str = "attributes.start_time DESC", deleted: bool = False,
) -> list[RunRecord]:  # fmt: skip
    """At most `limit` runs that the question and MLflow's filters `more` want."""
    where = " and ".join(part for part in (asked.server, *more) if part)
    found = runs.search(
        store, where, limit=None if asked.keep else limit, order=order, deleted=deleted
    )
    return list(itertools.islice(filter(asked.keep, found) if asked.keep else found, limit))


def newest(store: Store, asked: Question) -> RunRecord | None:
    """The newest complete training run or search: what others must be comparable with."""
    some = ask(store, asked, "attributes.status = 'FINISHED'", TOP, limit=EXAMPLES)
    found = [r for r in some if r.kind in KINDS and r.complete]
    return max(found or _both_kinds(store, asked, limit=1), key=lambda r: r.started, default=None)


def comparable(
    store: Store, asked: Question, first: RunRecord, *, metric: str, greater_is_better: bool,
    limit: int,
) -> tuple[list[RunRecord], list[tuple[RunRecord, str]], bool]:  # fmt: skip
    """Complete runs on the data, split and task of `first`, the best by recorded metric first.

    At most `limit`; those whose recorded metric is missing or no number, each with the reason; and
    whether there are more. Where `first` has not recorded the metric none is asked for it.
    """
    key = f"valid_{metric}"
    same = [f"tags.`{tag}` = '{first.tags.get(tag, '')}'" for _, tag in ALIKE]
    order = f"metrics.`{key}` {'DESC' if greater_is_better else 'ASC'}"
    if key not in first.metrics:
        found = _both_kinds(store, asked, *same, limit=limit + 1)
        return found[:limit], [], len(found) > limit
    found = _both_kinds(store, asked, *same, limit=limit + 1, order=order)
    wrong = [(r, why) for r in found if (why := without(r, key))]
    more = len(found) > limit
    if wrong and more:  # infinities are ordered first
        found = _both_kinds(
            store, asked, *same, FINITE.format(key=key), limit=limit + 1, order=order
        )
    sign = -1 if greater_is_better else 1
    good = [r for r in found if not without(r, key)]
    good.sort(key=lambda r: (sign * r.metrics[key], -r.started))
    return good[:limit], wrong, more


def _both_kinds(store: Store, asked: Question, *more: str, **options: Any) -> list[RunRecord]:
    return [r for k in KINDS for r in ask(store, asked, _kind(k), ENDED_WELL, *more, **options)]


def without(record: RunRecord, key: str) -> str:
    """Why the recorded metric ranks nothing; "" where it is a number."""
    value = record.metrics.get(key)
    if value is None:
        return f"without {key}"
    if not math.isfinite(value) or abs(value) >= INFINITE:
        return f"its {key} is {'NaN' if math.isnan(value) else 'infinite'}"
    return ""


def others(
    store: Store, asked: Question, first: RunRecord | None
) -> Iterator[tuple[RunRecord, str]]:
    """Training runs and searches that cannot be ranked beside `first`, each with its reason.

    The newest of each reason.
    """
    seen = {first.run_id} if first else set()
    for deleted, where in _questions(first):
        for record in ask(store, asked, *where, limit=EXAMPLES, deleted=deleted):
            if record.run_id not in seen and record.kind in KINDS:
                seen.add(record.run_id)
                yield record, unusable(record) or unlike(record, first) or "incomplete"


def _questions(first: RunRecord | None) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """Is it deleted, and MLflow's filters: each is quick in a store of 100,000 runs."""
    yield False, ("attributes.status != 'FINISHED'", TOP)
    yield False, ("attributes.status = 'FINISHED'", OURS, "tags.`surefit.status` IS NULL", TOP)
    yield True, (TOP,)
    for _, tag in ALIKE[:2] if first else ():
        assert first is not None
        differs = f"tags.`{tag}` != '{first.tags.get(tag, '')}'"
        for kind in KINDS:
            yield False, (_kind(kind), differs)


def unusable(record: RunRecord) -> str:
    """Why a run of ours has nothing to rank; "" where it has."""
    if record.kind not in KINDS:
        return f"of kind {record.kind}" if record.kind else ""
    if record.deleted:
        return "deleted"
    if record.status == "RUNNING":
        return "still running"
    if not record.complete:
        why = record.tags.get("surefit.reason", "did not complete")
        again = "; the same surefit tune goes on with it" if record.kind == "tune" else ""
        return f"{record.status}: {why}{again}"
    return ""


def unlike(record: RunRecord, first: RunRecord | None) -> str:
    """What of the data, the split and the task is another than that of `first`; "" if nothing."""
    if first is None:
        return ""
    wanted = [(what, record.tags.get(tag), first.tags.get(tag)) for what, tag in ALIKE]
    differs = [what for what, a, b in wanted if a != b]
    return f"another {' and '.join(differs)} than {first.name}" if differs else ""


def outside(store: Store, asked: Question, *, limit: int) -> list[RunRecord]:
    """The newest runs of other programs in the experiment; without a filter no nested ones."""
    nested = () if asked.server or asked.keep else (TOP,)
    return ask(store, asked, "tags.`surefit.kind` IS NULL", *nested, limit=limit)


def _kind(kind: str) -> str:
    return f"tags.`surefit.kind` = '{kind}'"
