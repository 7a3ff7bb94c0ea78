"""Runs in a real MLflow store, made in milliseconds: predictions of known worth, no fitting."""

import dataclasses

import numpy as np
import pandas as pd
from scipy.special import expit

import surefit
from surefit.core import metrics
from surefit.edges import runs
from surefit.edges import store as stores
from surefit.items import Metric, Param, Table

AUC = metrics.find("roc_auc", "binary")


def world(n=200, seed=0):
    """`y` and a function from strength and seed to probabilities."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.5).astype(int)
    shared = rng.normal(size=n)

    def made(strength, own=0.3, seed=1):
        noise = np.random.default_rng(seed).normal(size=n) * own
        return expit(strength * (2 * y - 1) + shared + noise)

    return y, made


def auc(y, p):
    """The area under the curve, a fold at a time as `table` divides them, averaged."""
    folds = [np.arange(len(y)) % 2 == fold for fold in (0, 1)]
    return np.mean([metrics.value(AUC, y[f], np.column_stack([1 - p, p])[f]) for f in folds])


def table(y, p):
    """A predictions table as every run stores it."""
    return pd.DataFrame({
        "row_id": np.arange(len(y)), "fold": np.arange(len(y)) % 2, "target": y,
        "prediction": (p >= 0.5).astype(int), "probability_0": 1 - p, "probability_1": p,
    })  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Project:
    """An experiment of its own in a store, with runs that look as `surefit train` writes them."""

    store: stores.Store
    config: str
    name: str

    def compare(self, *names, **options):
        """`surefit.compare` on this project."""
        return surefit.compare(
            names, config=self.config, set={"name": self.name}, quiet=True, **options
        )

    def add(self, name, y, p, *, kind="train", tags=(), params=(), extra=(), status="FINISHED",
            columns=()):  # fmt: skip
        """A run with these predictions; its id."""
        known = {
            "surefit.data": "d1", "surefit.split": "s1", "surefit.task": "binary",
            "surefit.metric": "roc_auc", "surefit.classes": "[0, 1]", **dict(tags),
        }  # fmt: skip
        run_id = runs.start(self.store, name, kind, tags=known)
        run = runs.Run(store=self.store, run_id=run_id, name=name)
        value = auc(y, np.nan_to_num(p))
        frame = table(y, p).assign(**dict(columns))
        run.log([Table(path="predictions/valid.parquet", frame=frame),
                 Param(key="model.family", value="lightgbm"),
                 *(Param(key=k, value=v) for k, v in dict(params).items()),
                 *(Metric(key=k, value=v)
                   for k, v in ({"valid_roc_auc": value} | dict(extra)).items())])  # fmt: skip
        if status == "FINISHED":
            runs.end(self.store, run_id, "FINISHED")
        elif status != "RUNNING":
            runs.end(self.store, run_id, status, reason="broke")
        return run_id


def make(root, name):
    """A project in `root`, whose store is made on first use."""
    file = root / "surefit.toml"
    if not file.exists():
        file.write_text('[data]\npath = "none.csv"\ntarget = "y"\n')
    return Project(
        store=stores.connect("sqlite:///mlflow.db", root, name), config=str(file), name=name
    )
