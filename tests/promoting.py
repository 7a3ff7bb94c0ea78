"""A small trained project for tests of promotion: one store, two good runs and a poor one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from surefit.edges import registry, runs
from surefit.verbs import workspace
from surefit.verbs.train import train


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Where the project lies, and its runs by name."""

    config: Path
    runs: dict[str, str]

    def store(self):
        """The open store."""
        project = workspace.project(data=None, target=None, config=self.config, overrides=())
        return workspace.open_store(project)

    def version_of(self, name: str) -> registry.Version:
        """The registered version of a run; registered now if it is not."""
        store = self.store()
        return registry.register(store, runs.find(store, self.runs[name]))

    def named(self, alias: str) -> str | None:
        """The version that an alias names."""
        found = registry.by_alias(self.store(), alias)
        return found.version if found else None


def rows(n: int, *, seed: int = 0) -> pd.DataFrame:
    """A table with an id, a region, two telling numbers and a yes/no target."""
    rng = np.random.default_rng(seed)
    x1, x2 = rng.normal(size=(2, n))
    yes = rng.random(n) < 1 / (1 + np.exp(-2 * x1 - x2))
    return pd.DataFrame({
        "key": [f"r{k}" for k in range(n)], "region": rng.choice(["north", "south"], n),
        "x1": x1, "x2": x2, "count": rng.integers(0, 9, n), "bought": np.where(yes, "yes", "no"),
    })  # fmt: skip


CONFIG = """
name = "shop"
[data]
path = "shop.csv"
target = "bought"
id = "key"
[split]
test = 0.4
folds = 3
[model]
family = "linear"
[gate]
against = "not_worse"
margin = 0.2
reuse = "ignore"
[tracking]
uri = "{uri}"
"""


RUNS = {
    "good": {"model.params.C": 0.01},
    "better": {"model.params.C": 1.0},
    "poor": {"model.family": "dummy"},
}


def project(
    folder: Path,
    pristine: Path,
    *,
    n: int = 600,
    uri: str = "sqlite:///mlflow.db",
    leak: bool = False,
    names: Sequence[str] = tuple(RUNS),
) -> Trained:
    """A project with three runs: "good", "better" (the same family, other settings), "poor"; or
    those named. With `leak`, a column tells the target."""
    shutil.copy(pristine, folder / "mlflow.db")
    config = folder / "surefit.toml"
    config.write_text(CONFIG.format(uri=uri), "utf-8")
    table = rows(n)
    if leak:
        table["told"] = table["bought"].map({"yes": "bought it", "no": "left"})
    table.to_csv(folder / "shop.csv", index=False)
    made = {
        name: train(config=config, set=RUNS[name], name=name, quiet=True).run_id for name in names
    }
    return Trained(config=config, runs=made)
