"""What a user's own objective is handed besides its hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass, field

from surefit.items import check_name


@dataclass(frozen=True, kw_only=True)
class Context:
    """A trial's seed, and a way to log from inside it.

    Attributes:
        seed: for every random generator of the trial; the same for the same hyperparameters.
        points: what was logged, as (key, value, step).
    """

    seed: int
    points: list[tuple[str, float, int]] = field(default_factory=list, repr=False)

    def log(self, *, step: int = 0, **metrics: float) -> None:
        """Log metrics at a step; they become the trial's run's, written when the trial counts.

        Raises:
            ValueError: for a name that MLflow would refuse, as "recall@10".
        """
        for key in metrics:
            check_name(key)
        self.points.extend((key, float(value), int(step)) for key, value in metrics.items())
