"""The rows that a model gets most wrong, with what it saw."""

from __future__ import annotations

import numpy as np
import pandas as pd

from surefit.core.predictions import Scored

N_ROWS = 20


def losses(scored: Scored) -> np.ndarray:
    """(n,) how wrong each row is: 1 less the true class's probability, or the absolute error."""
    if scored.task == "regression":
        return np.asarray(np.abs(scored.pred - scored.y))
    return np.asarray(1 - scored.pred[np.arange(len(scored.y)), scored.y])


def rows(scored: Scored, features: pd.DataFrame | None = None, *, n: int = N_ROWS) -> pd.DataFrame:
    """The `n` worst rows, the worst first: row_id, target, predicted, how wrong, and features.

    Args:
        features: (n_rows, ...) in the order of `scored`; None where the data are not at hand.
    """
    loss = losses(scored)
    worst = np.argsort(-loss, kind="stable")[:n]
    table = pd.DataFrame({"row_id": scored.row_id[worst]})
    if scored.task == "regression":
        table["target"], table["predicted"] = scored.y[worst], scored.pred[worst]
        table["error"] = scored.y[worst] - scored.pred[worst]
    else:
        names = np.array([str(c) for c in scored.classes], dtype=object)
        called = scored.pred[worst].argmax(axis=1)
        table["target"], table["predicted"] = names[scored.y[worst]], names[called]
        table["probability_of_target"] = 1 - loss[worst]
    if features is None:
        return table
    seen = features.iloc[worst].reset_index(drop=True)
    return pd.concat([table, seen.add_prefix("feature ") if _clash(table, seen) else seen], axis=1)


def _clash(table: pd.DataFrame, seen: pd.DataFrame) -> bool:
    return bool(set(table.columns) & set(seen.columns))
