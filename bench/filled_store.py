"""A store with very many runs, made in seconds: rows inserted through MLflow's own table models.

The runs look as surefit writes them (tags, params, metrics, a predictions table). Runs of one
strength share an artifact folder, so that 100,000 runs do not need 100,000 files.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa
from mlflow.store.tracking.dbmodels.models import (
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from scipy.special import expit

from surefit.edges import store as stores

DATA, SPLIT = "d" * 64, "e" * 64
STRENGTHS = 40  # distinct predictions
CHUNK = 5_000  # runs inserted at a time
METRICS = ("roc_auc", "log_loss", "accuracy", "brier")
PARAMS = ("learning_rate", "num_leaves", "min_child_samples", "subsample")
SEARCHES, TRAINED = 10, 200


def fill(
    root: Path, n_runs: int, *, shape: str = "mixed", n_rows: int = 1_000,
    uri: str = "sqlite:///mlflow.db", database: str = "", artifacts: str = "",
) -> stores.Store:  # fmt: skip
    """A store with so many runs of the project "bench".

    Args:
        root: an empty folder, for the predictions; the store is `mlflow.db` in it.
        n_runs: runs in all.
        shape: "mixed" is 200 training runs, 10 searches and their trials; "train" is training runs
            only, of which each could be ranked.
        n_rows: validation rows.
        uri: another store, a server or a database.
        database: where its rows are, in SQLAlchemy's words; by default `mlflow.db`.
        artifacts: what MLflow calls the folder `root / "shared"`; by default its path.
    """
    store = stores.connect(uri, root, "bench")
    values = _predictions(root, n_rows)
    artifacts = artifacts or (root / "shared").as_uri()
    engine = sa.create_engine(database or f"sqlite:///{root / 'mlflow.db'}")
    rng = np.random.default_rng(0)
    with engine.begin() as connection:
        for start in range(0, n_runs, CHUNK):
            tables = _rows(store, artifacts, range(start, min(n_runs, start + CHUNK)), shape,
                           values, rng)  # fmt: skip
            for table, rows in tables.items():
                connection.execute(sa.insert(table), rows)
    engine.dispose()
    stores.analyze(store)
    return store


def _predictions(root: Path, n_rows: int) -> np.ndarray:
    """Tables of out-of-fold predictions, from poor to good; their area under the curve."""
    from surefit.core import metrics

    rng = np.random.default_rng(1)
    y = (rng.random(n_rows) < 0.5).astype(int)
    shared = rng.normal(size=n_rows)
    found = []
    for k in range(STRENGTHS):
        score = (0.4 + 0.02 * k) * (2 * y - 1) + shared + 0.3 * rng.normal(size=n_rows)
        p = expit(score)
        frame = pd.DataFrame({
            "row_id": np.arange(n_rows), "fold": np.arange(n_rows) % 5, "target": y,
            "prediction": (p >= 0.5).astype(int), "probability_0": 1 - p, "probability_1": p,
        })  # fmt: skip
        folder = root / "shared" / str(k) / "predictions"
        folder.mkdir(parents=True)
        frame.to_parquet(folder / "valid.parquet", index=False, write_page_checksum=True)
        found.append(
            metrics.value(metrics.find("roc_auc", "binary"), y, np.column_stack([1 - p, p]))
        )
    return np.array(found)


def _rows(
    store: stores.Store, artifacts: str, numbers: range, shape: str, values: np.ndarray,
    rng: np.random.Generator,
) -> dict[type, list[dict]]:  # fmt: skip
    tables: dict[type, list[dict]] = {
        SqlRun: [],
        SqlTag: [],
        SqlParam: [],
        SqlMetric: [],
        SqlLatestMetric: [],
    }
    for number in numbers:
        run_id = uuid.UUID(int=int(rng.integers(0, 2**63)) << 64 | number).hex
        kind = _kind(number, shape)
        name = f"{kind} {number}"
        strength = int(rng.integers(0, STRENGTHS))
        tables[SqlRun].append({
            "run_uuid": run_id, "name": name, "source_type": "LOCAL", "source_name": "bench",
            "entry_point_name": "", "user_id": "bench", "status": "FINISHED",
            "start_time": 1_700_000_000_000 + number, "end_time": 1_700_000_001_000 + number,
            "source_version": "", "lifecycle_stage": "active",
            "artifact_uri": f"{artifacts}/{strength}",
            "experiment_id": int(store.experiment_id),
        })  # fmt: skip
        tables[SqlTag] += [
            {"run_uuid": run_id, "key": k, "value": v} for k, v in _tags(name, kind, number)
        ]
        params = [("model.family", ("lightgbm", "linear", "forest")[number % 3])]
        params += [(f"model.params.{p}", f"{rng.random():.6f}") for p in PARAMS]
        tables[SqlParam] += [{"run_uuid": run_id, "key": k, "value": v} for k, v in params]
        for metric in METRICS:
            row = {
                "run_uuid": run_id, "key": f"valid_{metric}", "value": float(values[strength]),
                "timestamp": 1_700_000_000_000, "step": 0, "is_nan": False,
            }  # fmt: skip
            tables[SqlMetric].append(row)
            tables[SqlLatestMetric].append(row)
    return tables


def _kind(number: int, shape: str) -> str:
    if shape == "train" or number < TRAINED:
        return "train"
    return "tune" if number < TRAINED + SEARCHES else "trial"


def _tags(name: str, kind: str, number: int) -> Iterator[tuple[str, str]]:
    yield from (
        ("mlflow.runName", name), ("mlflow.user", "bench"), ("mlflow.source.type", "LOCAL"),
        ("surefit.kind", kind), ("surefit.status", "complete"),
    )  # fmt: skip
    if kind == "trial":
        yield "mlflow.parentRunId", "0" * 32
        yield "surefit.trial", str(number)
        return
    yield from (
        ("surefit.data", DATA), ("surefit.split", SPLIT), ("surefit.task", "binary"),
        ("surefit.metric", "roc_auc"), ("surefit.classes", "[0, 1]"),
    )  # fmt: skip
