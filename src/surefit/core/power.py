"""What a look at test rows can still find, said before it is taken."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from surefit.core.gatetest import spent
from surefit.core.metrics import Metric
from surefit.core.ranking import paired, spread_of
from surefit.core.resampling import layout
from surefit.wording import short


def detectable(error: float, *, alpha: float, look: int, power: float = 0.8) -> float:
    """The least true gain that is promoted with the given chance."""
    return float((ndtri(power) - ndtri(spent(alpha, look))) * error)


def standard_error(
    metric: Metric, y: np.ndarray, champion: np.ndarray, challenger: np.ndarray, n_rows: int, *,
    clusters: np.ndarray | None = None, weights: np.ndarray | None = None,
) -> float:  # fmt: skip
    """The difference's standard error on `n_rows` test rows, told from validation rows."""
    rows = layout(len(y), clusters=clusters, weights=weights)
    both = paired(metric, y, [challenger, champion], rows=rows, n_resamples=200, seed=0)
    _, draws, _ = both.between(0, 1)
    return float(spread_of(draws) * np.sqrt(len(y) / n_rows))


def cost_in_words(*, alpha: float, look: int, error: float | None, metric: str) -> str:
    """What this look can find, beside what the first could."""
    left = f"alpha {spent(alpha, look):.2g} of {alpha:g} is spent on look {look}"
    if error is None or not error > 0:
        if look == 1:
            return left
        ratio = detectable(1, alpha=alpha, look=look) / detectable(1, alpha=alpha, look=1)
        return f"{left}: a gain must be {ratio:.2f} times what the first look needed"
    now = detectable(error, alpha=alpha, look=look)
    text = f"{left}: a true gain of {_rounded(now)} in {metric} is found 4 times in 5"
    if look > 1:
        text += f" (the first look: {_rounded(detectable(error, alpha=alpha, look=1))})"
    return text


def _rounded(gain: float) -> str:
    return short(float(f"{gain:.2g}"))
