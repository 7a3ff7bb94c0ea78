"""Ended trials as nested runs: many in one transaction of MLflow's own tables, or one by one.

MLflow's client takes about 15 ms of CPU and eight commits a run. Where the store is a database that
this process opens itself, the rows go in through MLflow's table models, in one transaction with the
look whether they are there already: all of a batch or nothing, never a run that is left RUNNING. A
server, or a version of MLflow whose tables are not as we know them, gets the client's calls.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from surefit import masking
from surefit.edges import runs
from surefit.edges.runs import TAG_LENGTH, Run, RunRecord
from surefit.edges.store import Store, first_line
from surefit.errors import ServiceError
from surefit.items import Metric, Param, Tag

# The columns that a run's rows fill. With others than these MLflow's client writes.
_COLUMNS = {
    "SqlRun": {
        "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status",
        "start_time", "end_time", "deleted_time", "source_version", "lifecycle_stage",
        "artifact_uri", "experiment_id",
    },
    "SqlTag": {"key", "value", "run_uuid"},
    "SqlParam": {"key", "value", "run_uuid"},
    "SqlMetric": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
    "SqlLatestMetric": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Nested:
    """A run that has ended, to be written once.

    Attributes:
        key: what makes it this run and no other: the tag `surefit.key`.
        metrics: (key, value, step), in the order in which they were logged.
        status: MLflow's: "FINISHED" or "FAILED".
        started, ended: milliseconds since 1970.
    """

    key: str
    name: str
    kind: str
    parent: str
    status: str
    reason: str
    started: int
    ended: int
    tags: Mapping[str, str] = field(repr=False)
    params: Mapping[str, Any] = field(repr=False)
    metrics: Sequence[tuple[str, float, int]] = field(repr=False)

    def last_tag(self) -> tuple[str, str]:
        """What says how it ended."""
        if self.reason:
            return "surefit.reason", self.reason[:TAG_LENGTH]
        return "surefit.status", runs.COMPLETE


def write_all(store: Store, batch: Sequence[Nested]) -> dict[str, str] | None:
    """Write the batch's runs in one transaction; key → run id. None where that cannot be done.

    A key that the experiment has already is left as it is, and not in the answer.

    Raises:
        ServiceError: when the database fails; nothing of the batch is there then.
    """
    tables = _tables(store)
    if tables is None:
        return None
    import sqlalchemy

    session_of = store.client._client._tracking_client.store.ManagedSessionMaker
    location = store.client.get_experiment(store.experiment_id).artifact_location
    try:
        with session_of(read_only=False) as session:
            tag, run = tables["SqlTag"], tables["SqlRun"]
            known = sqlalchemy.select(tag.value).join(run, run.run_uuid == tag.run_uuid).where(
                tag.key == "surefit.key", tag.value.in_([n.key for n in batch]),
                run.experiment_id == int(store.experiment_id), run.lifecycle_stage == "active",
            )  # fmt: skip
            there = set(session.execute(known).scalars())
            fresh = {n.key: (uuid.uuid4().hex, n) for n in batch if n.key not in there}
            for name, rows in _rows(store, location, fresh.values()).items():
                if rows:
                    session.execute(sqlalchemy.insert(tables[name]), rows)
    except Exception as error:  # MLflow's own, or SQLAlchemy's
        raise ServiceError(f"MLflow ({store.uri}) failed: {first_line(error)}") from error
    return {key: run_id for key, (run_id, _) in fresh.items()}


def write(store: Store, nested: Nested, there: RunRecord | None) -> str:
    """Write one run by the client: the one that is there already, or a new one; gives its id."""
    if there is not None and _whole(there, nested):
        return there.run_id
    run_id = there.run_id if there is not None and runs.reopen(store, there.run_id) else None
    if run_id is None:
        run_id = runs.start(
            store, nested.name, nested.kind, tags={**nested.tags, "surefit.key": nested.key},
            parent=nested.parent, started=nested.started,
        )  # fmt: skip
    key, value = nested.last_tag()
    Run(store=store, run_id=run_id, name=nested.name).log(
        [
            *(Param(key=k, value=v) for k, v in nested.params.items()),
            *(Metric(key=k, value=v, step=step) for k, v, step in nested.metrics),
            Tag(key=key, value=value),
        ]
    )
    store.client.set_terminated(run_id, nested.status, end_time=nested.ended)
    return run_id


def _whole(there: RunRecord, nested: Nested) -> bool:
    """Whether a run of the store is this one, with all that it should hold."""
    key, value = nested.last_tag()
    return there.status == nested.status and there.tags.get(key) == masking.tag(value)


def _tables(store: Store) -> dict[str, Any] | None:
    """MLflow's table models, where they are as we know them and the database is ours to open."""
    if store.uri.startswith("http"):
        return None
    from mlflow.store.tracking.dbmodels import models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if type(store.client._client._tracking_client.store) is not SqlAlchemyStore:
        return None
    found = {name: getattr(models, name, None) for name in _COLUMNS}
    for name, model in found.items():
        if model is None or {c.name for c in model.__table__.columns} != _COLUMNS[name]:
            return None
    return found


def _rows(store: Store, location: str, fresh: Any) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table, in the order in which they may be inserted."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _COLUMNS}
    ours = runs.common_tags()
    for run_id, nested in fresh:
        rows["SqlRun"].append({
            "run_uuid": run_id, "name": nested.name, "source_type": "UNKNOWN", "source_name": "",
            "entry_point_name": "", "user_id": ours["mlflow.user"], "status": nested.status,
            "start_time": nested.started, "end_time": nested.ended, "deleted_time": None,
            "source_version": "", "lifecycle_stage": "active",
            "artifact_uri": f"{location.rstrip('/')}/{run_id}/artifacts",
            "experiment_id": int(store.experiment_id),
        })  # fmt: skip
        tags = {
            **ours, "surefit.kind": nested.kind, **nested.tags, "surefit.key": nested.key,
            "mlflow.parentRunId": nested.parent, "mlflow.runName": nested.name,
            **dict([nested.last_tag()]),
        }  # fmt: skip
        rows["SqlTag"] += [
            {"run_uuid": run_id, "key": k, "value": masking.tag(v)[:TAG_LENGTH]}
            for k, v in tags.items()
        ]
        rows["SqlParam"] += [
            {"run_uuid": run_id, "key": k, "value": runs.param_text(k, v)}
            for k, v in nested.params.items()
        ]
        points = list(_points(run_id, nested))
        rows["SqlMetric"] += points
        latest: dict[str, dict[str, Any]] = {}
        for point in points:
            before = latest.get(point["key"])
            if before is None or (point["step"], point["value"]) >= (
                before["step"], before["value"],
            ):  # fmt: skip
                latest[point["key"]] = point
        rows["SqlLatestMetric"] += latest.values()
    return rows


def _points(run_id: str, nested: Nested) -> Iterator[dict[str, Any]]:
    """Rows of metrics: each once, and no infinities, which MLflow would rank first."""
    seen = set()
    for key, value, step in nested.metrics:
        is_nan = value != value
        point = (key, 0.0 if is_nan else float(value), step, is_nan)
        if abs(point[1]) < float("inf") and point not in seen:
            seen.add(point)
            yield {
                "run_uuid": run_id, "key": key, "value": point[1], "timestamp": nested.ended,
                "step": step, "is_nan": is_nan,
            }  # fmt: skip
