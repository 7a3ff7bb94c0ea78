"""What a worker runs for a function of the user's own: one trial.

A worker imports this file at its start, so that it imports next to nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surefit.core.context import Context
from surefit.edges.redirect import Scratch


@dataclass(frozen=True, kw_only=True)
class ObjectiveJob:
    """The objective's value, what it logged, and where its MLflow calls wrote."""

    objective: Callable[[dict[str, Any], Context], float]
    seed: int
    scratch: Scratch

    def __call__(self, shared: None, params: dict[str, Any], fold: int) -> Any:
        text = json.dumps([self.seed, params], sort_keys=True, default=str)
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
        context = Context(seed=seed)
        with self.scratch.redirected() as written:
            value = self.objective(params, context)
        return value, context.points, written
