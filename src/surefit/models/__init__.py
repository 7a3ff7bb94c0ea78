"""The built-in families, by name; each file of this folder is one."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from surefit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from surefit.models.family import Family

NAMES = ("lightgbm", "hist", "xgboost", "catboost", "forest", "linear", "mlp", "dummy")


AUTO = "auto"  # families searched together
TOGETHER = tuple(name for name in NAMES if name != "dummy")


def installed() -> tuple[str, ...]:
    """The families that can be searched together here: all whose libraries are there."""
    return tuple(
        name for name in TOGETHER
        if all(importlib.util.find_spec(library) for library in named(name).requires)
    )  # fmt: skip


def named(name: str) -> Family:
    """The family of that name.

    Raises:
        ConfigError: when there is none, naming the nearest.
    """
    if name not in NAMES:
        raise ConfigError(f'model.family = "{name}": {did_you_mean(name, NAMES)}')
    found: Family = importlib.import_module(f"surefit.models.{name}").FAMILY
    return found
