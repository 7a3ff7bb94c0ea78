"""Several fitted models as one: their weighted mean, each with its own preprocessing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from surefit.errors import InputError
from surefit.models.family import Family, Fitted, Params, Rows, Setting
from surefit.models.logs import unlogged
from surefit.models.skops_files import load_skops, save_skops
from surefit.results import Task

NAME = "ensemble"
LOADERS: dict[str, Any] = {}  # a saved ensemble's predict.py fills its own, by family


class Fit(Protocol):
    """A fitted model (`surefit.core.fit.Model`)."""

    @property
    def family(self) -> Family: ...
    @property
    def preprocess(self) -> Any: ...
    @property
    def fitted(self) -> Fitted: ...
    @property
    def n_classes(self) -> int: ...
    def predict(self, frame: pd.DataFrame) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Member:
    """A fitted model and its weight."""

    name: str
    weight: float
    model: Fit = field(repr=False)


class AsIs:
    """Stands where a single model has its preprocessing."""

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame: each member preprocesses it by itself."""
        return frame


def of(members: Sequence[Member]) -> Family:
    """The family of one ensemble, which saves and loads all its members."""
    families = {m.model.family.name: m.model.family for m in members}
    requires = dict.fromkeys(r for f in families.values() for r in f.requires)
    return Family(
        name=NAME, encoding="ordinal", iterative=False, defaults=_nothing, known=_no_names,
        space=_nothing, starts=lambda task: (), fit=_not_fitted, predict=predict, save=save,
        load=load_estimator, cost=lambda size, params: 0.0, requires=tuple(requires),
        members=tuple(families.values()),
    )  # fmt: skip


def _nothing(task: Task) -> dict[str, Any]:
    return {}


def _no_names(task: Task) -> set[str]:
    return set()


def _not_fitted(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    raise InputError(
        "An ensemble is made of a search's trials; it is not fitted by itself.",
        "surefit tune --ensemble",
    )


def predict(estimator: Sequence[Member], X: Any, n_classes: int) -> np.ndarray:
    """The weighted mean of the members' probabilities (n, K), or values (n,)."""
    return np.asarray(sum(m.weight * m.model.predict(X) for m in estimator))


def save(estimator: Sequence[Member], folder: Path) -> None:
    """A folder a member; members with the same preprocessing share one file of it."""
    table, written = [], {}
    for number, member in enumerate(estimator):
        place = folder / str(number)
        place.mkdir()
        family = member.model.family
        member.model.family.save(member.model.fitted.estimator, place)
        kind = f"{family.encoding}{'-carved' if family.carves else ''}"
        if kind not in written:
            written[kind] = f"preprocess-{kind}.skops"
            save_skops(member.model.preprocess, folder / written[kind])
        table.append({"name": member.name, "family": family.name, "weight": member.weight,
                      "folder": str(number), "preprocess": written[kind],
                      "log": member.model.fitted.log})  # fmt: skip
    (folder / "members.json").write_text(json.dumps(table, indent=1), "utf-8")


def load_estimator(folder: Path, n_classes: int) -> Any:
    """The saved members as one function of a frame."""
    table = json.loads((folder / "members.json").read_text("utf-8"))
    shared = {m["preprocess"]: load_skops(folder / m["preprocess"]) for m in table}
    members = [
        (
            m["weight"],
            shared[m["preprocess"]],
            LOADERS[m["family"]](folder / m["folder"], n_classes),
            m.get("log"),
        )
        for m in table
    ]
    return lambda X: sum(
        w * unlogged(estimate(steps.transform(X)), log) for w, steps, estimate, log in members
    )
