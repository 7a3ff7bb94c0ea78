"""The values that verbs return, and the things that a run can record: frozen, keyword-only."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["binary", "multiclass", "regression"]
Verdict = Literal["PROMOTED", "REJECTED", "INCONCLUSIVE"]


def plain(value: Any) -> Any:
    """A result as dicts, lists and scalars that JSON can hold (NaN and infinities become None)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric's value on given rows, with its interval.

    Attributes:
        metric: scikit-learn's name of it, e.g. "roc_auc", "rmse".
        value: the point estimate, in the metric's own units.
        low, high: the interval's ends at confidence `level`; NaN where none can be given.
        n_rows: rows scored.
        greater_is_better: the direction, so that nobody downstream asks.
        method: how the interval was made.
        reliable: False where the interval is known to cover less than it says.
        note: why it is not reliable, or is missing.
    """

    metric: str
    value: float
    low: float
    high: float
    n_rows: int
    greater_is_better: bool
    level: float = 0.95
    method: str = ""
    reliable: bool = True
    note: str = ""

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            return f"{self.metric} {self.value:.4g}"
        return f"{self.metric} {self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self))


# --- what a run can record: computing code yields these, edges/runs.py alone writes them ---


@dataclass(frozen=True, kw_only=True)
class Param:
    """One parameter of a run; immutable once written."""

    key: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a run, at a step for curves."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One tag of a run."""

    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A frame stored as an artifact; Parquet or CSV by the path's ending."""

    path: str
    frame: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text stored as an artifact."""

    path: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture stored as `plots/<name>.png`, with its numbers as `plots/<name>.csv`."""

    name: str
    title: str
    png: bytes = field(repr=False)
    numbers: pd.DataFrame = field(repr=False)


Item = Param | Metric | Tag | Table | Text | Figure


# --- what the verbs return ---


class Shown:
    """How every result shows itself: text in a terminal, a table in a notebook, a dict for JSON."""

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self))


@dataclass(frozen=True, kw_only=True)
class TrainResult(Shown):
    """A trained, recorded model.

    Attributes:
        score: the deciding metric on validation rows, a fold each, averaged.
        scores: all reported metrics on the same rows.
        fold_scores: the deciding metric of each fold.
        baseline: the deciding metric of the prediction that looks at no feature.
        model_uri: loads the model in plain MLflow.
        version: the registered version's URI, when one was asked for.
    """

    run_id: str
    name: str
    family: str
    score: Score
    scores: tuple[Score, ...]
    fold_scores: tuple[float, ...]
    baseline: float
    model_uri: str
    version: str | None
    fit_seconds: float
    model_bytes: int
    inferred: tuple[str, ...]
    data: str
    split: str
    next: str

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        better = (self.score.value > self.baseline) == self.score.greater_is_better
        verdict = "beats" if better else "does not beat"
        lines = [
            f"Trained {self.family}: valid {self.score}; {verdict} the baseline "
            f"({self.baseline:.4g})",
            f"Run {self.run_id[:8]} ({self.name}), model {self.model_uri}",
        ]
        if not self.score.reliable:
            lines.append(f"Mind: {self.score.note}")
        if self.version:
            lines.append(f"Registered as {self.version}, without a gate")
        return [*lines, f"Next: {self.next}"]


@dataclass(frozen=True, kw_only=True)
class Evaluation(Shown):
    """Metrics of one model's predictions, with intervals.

    Attributes:
        subject: the run, model or file that was evaluated.
        rows: "validation" or "test".
        look: which look at these test rows this was, from 1; None for validation rows.
        verified: False for predictions that came from outside: they may be in-sample.
    """

    run_id: str
    subject: str
    rows: Literal["validation", "test", "given"]
    n_rows: int
    scores: tuple[Score, ...]
    baseline: float
    look: int | None
    verified: bool
    figures: tuple[str, ...]
    report: str
    next: str

    def score(self, metric: str) -> Score:
        """The score of that name.

        Raises:
            KeyError: when it was not computed.
        """
        return next(s for s in self.scores if s.metric == metric)

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        first = self.scores[0]
        better = (first.value > self.baseline) == first.greater_is_better
        verdict = "beats" if better else "does not beat"
        lines = [
            f"{self.subject} on {self.n_rows:,} {self.rows} rows: {first}; "
            f"{verdict} the baseline ({self.baseline:.4g})"
        ]
        width = max(len(s.metric) for s in self.scores)
        for s in self.scores:
            interval = f"[{s.low:.4f}, {s.high:.4f}]" if math.isfinite(s.low) else ""
            mark = "" if s.reliable else f"  ({s.note})"
            lines.append(f"  {s.metric:<{width}}  {s.value:10.4f}  {interval}{mark}")
        if self.look:
            lines.append(f"This was look {self.look} at these test rows.")
        if not self.verified:
            lines.append("Unverified: these predictions come from outside and may be in-sample.")
        return [*lines, f"Run {self.run_id[:8]}, report {self.report}", f"Next: {self.next}"]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial of a search; `value` is the mean over its folds, None unless it is complete."""

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    fold_scores: tuple[float, ...]
    seconds: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class TuneResult(Shown):
    """A finished search and its refitted winner.

    Attributes:
        best: the winning trial.
        score: the winner's deciding metric on validation rows, as it stands.
        corrected: the same, corrected for having been picked as the best of all trials.
        importances: share of the score's variation that each hyperparameter explains.
    """

    run_id: str
    name: str
    family: str
    method: str
    metric: str
    trials: tuple[TrialRow, ...] = field(repr=False)
    best: TrialRow
    score: Score
    corrected: Score
    importances: Mapping[str, float]
    model_uri: str
    seconds: float
    resumed: int
    next: str

    def count(self, state: str) -> int:
        """How many trials ended in that state: COMPLETE, PRUNED or FAILED."""
        return sum(t.state == state for t in self.trials)

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        counts = ", ".join(
            f"{self.count(s)} {s.lower()}"
            for s in ("COMPLETE", "PRUNED", "FAILED")
            if self.count(s)
        )
        chosen = ", ".join(f"{k}={_brief(v)}" for k, v in self.best.params.items())
        lines = [
            f"Best of {len(self.trials)} trials ({counts}): trial {self.best.number}, "
            f"valid {self.score}",
            f"  corrected for having been picked: {self.corrected}",
            f"  {chosen}",
        ]
        if self.importances:
            ranked = sorted(self.importances.items(), key=lambda kv: -kv[1])
            lines.append("  what mattered: " + ", ".join(f"{k} {v:.0%}" for k, v in ranked[:4]))
        if self.resumed:
            lines.append(f"  {self.resumed} trials were there already and were not run again")
        return [*lines, f"Run {self.run_id[:8]} ({self.name}), model {self.model_uri}",
                f"Next: {self.next}"]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reproduction(Shown):
    """A run that was run again.

    Attributes:
        subject: the run that was reproduced; `run_id` is the record of doing so.
        before, score: the deciding metric then and now; None where it could not be run.
        apart: the largest difference of any stored prediction; 0 is IDENTICAL.
        noise: how far the scores of three seeds lie apart, where that was needed.
        differs: what is not as it was: code, configuration, data, environment.
    """

    verdict: Literal["IDENTICAL", "WITHIN NOISE", "DIFFERENT"]
    run_id: str
    subject: str
    name: str
    metric: str
    before: float
    score: float | None
    apart: float | None
    noise: float | None
    differs: tuple[str, ...]
    next: str

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        first = f"{self.verdict}: {self.name} ({self.subject[:8]})"
        if self.score is None:
            return [f"{first} cannot be run again on these rows", *self._differs()]
        lines = [f"{first}, valid {self.metric} {self.before:.6g} then, {self.score:.6g} now"]
        if self.noise is not None:
            lines.append(f"  three seeds lie {self.noise:.3g} apart")
        return [*lines, *self._differs(), f"Run {self.run_id[:8]}", f"Next: {self.next}"]

    def _differs(self) -> list[str]:
        if not self.differs:
            return ["  code, configuration, data and environment are as they were"]
        return [f"  differs: {what}" for what in self.differs]


@dataclass(frozen=True, kw_only=True)
class Ejected(Shown):
    """A run written as a plain script that needs no surefit."""

    run_id: str
    folder: str
    next: str

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        return [
            f"Wrote {self.folder}/train.py and parts.csv: plain scikit-learn and MLflow, run "
            f"{self.run_id[:8]}",
            f"Next: {self.next}",
        ]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One candidate on the leaderboard.

    Attributes:
        worse_by: how much worse than the best, 0 for the best; in the metric's units.
        low, high: that difference's interval, together with all the others' (simultaneous).
        tied: True when it cannot be told from the best.
        rows_to_decide: validation rows that would tell it from the best, at this difference.
    """

    rank: int
    run_id: str
    name: str
    kind: str
    family: str
    score: Score
    worse_by: float
    low: float
    high: float
    tied: bool
    rows_to_decide: int | None
    fit_seconds: float | None
    model_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A run that is not ranked, and why."""

    run_id: str
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Comparison(Shown):
    """Candidates compared on the same out-of-fold rows.

    Attributes:
        corrected: the best's score, corrected for having been picked among all candidates and
            all complete trials of their searches.
    """

    run_id: str
    metric: str
    n_rows: int
    standings: tuple[Standing, ...]
    corrected: Score
    n_candidates: int
    left_out: tuple[LeftOut, ...]
    next: str

    @property
    def best(self) -> Standing:
        """The first on the board."""
        return self.standings[0]

    @property
    def tied(self) -> tuple[Standing, ...]:
        """Those that cannot be told from the best, itself left out."""
        return tuple(s for s in self.standings[1:] if s.tied)

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        first = f"Best on {self.n_rows:,} validation rows: {self.best.name}, {self.best.score}"
        if self.tied:
            first += f"; {len(self.tied)} cannot be told from it"
        width = max(len(s.name) for s in self.standings)
        lines = [
            first, "",
            f"  {'':>3} {'run':<8}  {'name':<{width}}  {self.metric:>10}  {'95 % interval':^19}"
            f"  {'behind':>9}  ",
        ]  # fmt: skip
        for s in self.standings:
            behind = "" if s.rank == 1 else f"{s.worse_by:9.4g}"
            state = "best" if s.rank == 1 else ("tied" if s.tied else "worse")
            interval = f"[{s.score.low:.4g}, {s.score.high:.4g}]"
            lines.append(
                f"  {s.rank:>3} {s.run_id[:8]}  {s.name:<{width}}  {s.score.value:>10.5g}"
                f"  {interval:^19}  {behind:>9}  {state}"
            )
        lines += [
            "",
            f"Corrected for having been picked among {self.n_candidates}: {self.corrected}",
        ]
        lines += self._undecided() + [f"  not ranked: {o.name} ({o.reason})" for o in self.left_out]
        return [*lines, f"Run {self.run_id[:8]}", f"Next: {self.next}"]

    def _undecided(self) -> list[str]:
        needed = [s.rows_to_decide for s in self.tied if s.rows_to_decide]
        if not needed:
            return []
        more = max(0, min(needed) - self.n_rows)
        return [f"Tied: about {_rounded(more)} more validation rows would tell the nearest apart."]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question of the gate and its answer."""

    name: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decision(Shown):
    """What the gate decided, why, and what was done."""

    verdict: Verdict
    run_id: str
    subject: str
    version: str
    alias: str
    previous: str | None
    checks: tuple[Check, ...]
    look: int
    n_rows: int
    moved: bool
    uri: str
    next: str

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        what = {"PROMOTED": f"is now {self.uri}", "REJECTED": "stays out",
                "INCONCLUSIVE": "cannot be judged yet"}[self.verdict]  # fmt: skip
        if self.verdict == "PROMOTED" and not self.moved:
            what = (
                f"is {self.uri} already"
                if self.previous == self.version
                else (f"would become {self.uri} (dry run)")
            )
        lines = [f"{self.verdict}: {self.subject} (version {self.version}) {what}"]
        lines += [f"  {c.verdict.lower():<12} {c.name}: {c.reason}" for c in self.checks]
        return [*lines, f"Run {self.run_id[:8]}", f"Next: {self.next}"]


def _rounded(count: int) -> str:
    """Two significant digits: nothing finer is known."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
