"""The test behind the gate: is the challenger better, at the error that is left to spend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from surefit.core.metrics import Metric
from surefit.core.ranking import enough_rows, paired, spread_of
from surefit.core.resampling import Layout, ends, layout, widening
from surefit.errors import ConfigError
from surefit.results import Verdict, plain
from surefit.wording import short, signed

FEWEST_FOR_A_VERDICT = 10


@dataclass(frozen=True, kw_only=True)
class GateTest:
    """Whether a challenger may replace the champion, at the error rate spent by this look.

    Attributes:
        metric: the metric's name.
        champion, challenger: their values.
        difference: positive where the challenger is better.
        low, high: one-sided bounds, each at error `alpha_spent`.
        threshold: what the difference must exceed: `margin`, or `-margin` for "not_worse".
        against, alpha, look, alpha_spent: what was asked, and what this look may spend.
        verdict: PROMOTED, REJECTED or INCONCLUSIVE.
        rows_to_decide: rows that would give a verdict were the difference to stay; None where
            there is one, or never would be.
        n_rows: rows compared.
        reliable, note: as in `results.Score`.
    """

    metric: str
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    threshold: float
    against: str
    alpha: float
    look: int
    alpha_spent: float
    verdict: Verdict
    rows_to_decide: int | None
    n_rows: int
    method: str
    reliable: bool = True
    note: str = ""

    def __str__(self) -> str:
        ends = f"[{short(self.low)}, {short(self.high)}]"
        return f"{self.verdict}: {self.metric} {signed(self.difference)} {ends}"

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self))


def spent(alpha: float, look: int) -> float:
    """The error rate that look number `look` at the same rows may spend: 6 alpha / (pi k)^2.

    Summed over all looks, however many, it is `alpha`.

    Raises:
        ConfigError: `look` is under 1, or `alpha` is not between 0 and 0.5.
    """
    if look < 1 or not 0 < alpha < 0.5:
        raise ConfigError(
            f"alpha = {alpha}, look = {look}: alpha must lie in (0, 0.5) and looks start at 1.",
            "alpha = 0.05, look = 1",
        )
    return 6 * alpha / (math.pi * look) ** 2


def gate(
    metric: Metric,
    y: NDArray[Any],
    champion: NDArray[Any],
    challenger: NDArray[Any],
    *,
    alpha: float = 0.05,
    look: int = 1,
    margin: float = 0.0,
    against: Literal["better", "not_worse"] = "better",
    clusters: Any = None,
    weights: Any = None,
    n_resamples: int = 5000,
    seed: int = 0,
) -> GateTest:
    """Whether a challenger may replace the champion, on rows that neither was trained on.

    PROMOTED where the lower bound of the challenger's gain lies above the threshold (`margin`, or
    `-margin` for "not_worse"), REJECTED where the upper bound lies below it, else INCONCLUSIVE
    with the rows that would decide. Each bound is one-sided at the error that this look may spend,
    so that a worthless challenger is promoted with probability `alpha` at most over all looks.

    Bounds are the further out of paired BCa's and the paired *t* interval's, whose degrees of
    freedom count the rows in which the two differ: BCa alone errs where only few do. Under 10 rows
    (or clusters) there is no verdict. Assumes what `stats.scores` does.

    Raises:
        DataError: the metric is undefined on these rows, or the arrays do not pair up.
        ConfigError: alpha, look or margin are out of range.
    """
    tail = spent(alpha, look)
    if margin < 0 or against not in ("better", "not_worse"):
        raise ConfigError(
            f'margin = {margin}, against = "{against}": the margin must be 0 or more, against '
            '"better" or "not_worse".',
            'margin = 0.0\nagainst = "better"   # under [gate]',
        )
    rows = layout(len(y), clusters=clusters, weights=weights)
    both = paired(metric, y, [challenger, champion], rows=rows, n_resamples=n_resamples, seed=seed)
    gain, draws, units = both.between(0, 1)
    reach = widening(tail, units, rows) * spread_of(draws)
    low, high = gain - reach, gain + reach
    if reach > 0:
        bca = ends(gain, draws, units, rows=rows, tail=tail)
        low, high = min(low, bca[0]), max(high, bca[1])
    threshold = margin if against == "better" else -margin
    verdict, note = _verdict(low, high, threshold=threshold, rows=rows, same=reach == gain == 0)
    unsure = verdict == "INCONCLUSIVE" and rows.n_units >= FEWEST_FOR_A_VERDICT
    more = enough_rows(len(y), gain - threshold, reach) if unsure else None
    if more is not None and not note:
        note = f"about {more:,} rows would decide if the difference stays as it is"
    return GateTest(
        metric=metric.name, champion=float(metric.sign * both.values[1]),
        challenger=float(metric.sign * both.values[0]), difference=gain, low=low, high=high,
        threshold=threshold, against=against, alpha=alpha, look=look, alpha_spent=tail,
        verdict=verdict, rows_to_decide=more, n_rows=len(y),
        method="paired bootstrap, the wider of BCa and t", reliable=not rows.doubt,
        note=note,
    )  # fmt: skip


def _verdict(
    low: float, high: float, *, threshold: float, rows: Layout, same: bool
) -> tuple[Verdict, str]:
    what = "rows" if rows.clusters is None else "clusters"
    if rows.n_units < FEWEST_FOR_A_VERDICT:
        return "INCONCLUSIVE", f"{rows.n_units} {what}: under {FEWEST_FOR_A_VERDICT} decide nothing"
    note = "both score the same in every resample" if same else ""
    if low > threshold:
        return "PROMOTED", note
    return ("REJECTED", note) if high < threshold else ("INCONCLUSIVE", note)
