"""The values that verbs return, frozen and keyword-only; those of `compare` are comparison.py's."""

from __future__ import annotations

import abc
import base64
import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from surefit.items import Figure
from surefit.wording import decimals, ranked, short

Task = Literal["binary", "multiclass", "regression"]
Verdict = Literal["PROMOTED", "REJECTED", "INCONCLUSIVE"]
ANSWERS = {"PROMOTED": "passed", "REJECTED": "failed", "INCONCLUSIVE": "open"}  # of one check

SHOWN_REASONS = 3  # of a search's failed trials, the most frequent first


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
            return f"{self.metric} {short(self.value)}"
        return f"{self.metric} {short(self.value)} [{short(self.low)}, {short(self.high)}]"

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready."""
        return dict(plain(self))


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something inferred, in words, with the line of TOML that overrides it."""

    text: str
    override: str = ""


@dataclass(frozen=True, kw_only=True)
class InputColumn:
    """A column that a model's signature asks for, its type in MLflow's words."""

    name: str
    type: str


# --- what the verbs return ---


class Shown(abc.ABC):
    """How every result shows itself: text in a terminal, a table in a notebook, a dict for JSON."""

    @abc.abstractmethod
    def lines(self) -> list[str]:
        """The result in words, the verdict first."""

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
        lines = [
            f"Trained {self.family}: valid {self.score}; {_beats(self.score, self.baseline)} "
            "the baseline "
            f"({short(self.baseline)})",
            f"Run {self.run_id[:8]} ({self.name}), model {self.model_uri}",
        ]
        if not self.score.reliable:
            lines.append(f"Mind: {self.score.note}")
        if self.version:
            lines.append(f"Registered as {self.version}, without a gate")
        return [*lines, f"Next: {self.next}"]


@dataclass(frozen=True, kw_only=True)
class SliceScore:
    """A metric on the rows where a column has one value or lies in one range.

    Attributes:
        rest: the metric on all other rows.
        worse_by: how much worse the slice is than the rest, in the metric's units; below 0: better.
        low, high: its 95 % interval.
        p_value: of being no worse than the rest, one-sided; NaN where it was not tested.
        worse: shown to be worse, false discoveries among all slices controlled.
        small: too few rows to tell; not tested.
    """

    column: str
    value: str
    score: Score
    rest: float
    worse_by: float
    low: float
    high: float
    p_value: float
    worse: bool
    small: bool

    def __str__(self) -> str:
        return (
            f"{self.column} = {self.value}: {self.score}, {self.score.n_rows:,} rows, "
            f"worse than the rest by {short(self.worse_by)} "
            f"[{short(self.low)}, {short(self.high)}]"
        )


@dataclass(frozen=True, kw_only=True)
class Evaluation(Shown):
    """Metrics of one model's predictions, with intervals.

    Attributes:
        subject: the run, model or file that was evaluated.
        rows: "validation" or "test".
        look: which look at these test rows this was, from 1; None for validation rows.
        verified: False for predictions that came from outside: they may be in-sample.
        best_feature, best_feature_value: the single column that does best alone, and how well.
        left_out: what could not be computed, and why.
        slices: the metric on each value or range of each column, the worst first.
        threshold: the one chosen for the metric or cost asked for.
        pictures: what `figures` names, with their numbers.
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
    pictures: tuple[Figure, ...] = field(default=(), repr=False)
    best_feature: str | None = None
    best_feature_value: float | None = None
    left_out: tuple[str, ...] = ()
    slices: tuple[SliceScore, ...] = field(default=(), repr=False)
    threshold: float | None = None

    def score(self, metric: str) -> Score:
        """The score of that name.

        Raises:
            KeyError: when it was not computed.
        """
        return next(s for s in self.scores if s.metric == metric)

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        lines = [f"{self.subject} on {self.n_rows:,} {self.rows} rows: {self.verdict()}"]
        width = max(len(s.metric) for s in self.scores)
        for s in self.scores:
            interval = f"[{decimals(s.low)}, {decimals(s.high)}]" if math.isfinite(s.low) else ""
            mark = "" if s.reliable else f"  ({s.note})"
            lines.append(f"  {s.metric:<{width}}  {decimals(s.value):>10}  {interval}{mark}")
        lines += self._slice_lines()
        if self.threshold is not None:
            lines.append(f"Threshold chosen: {self.threshold:.4g} (its worth is in the report)")
        lines += [f"Left out: {what}" for what in self.left_out]
        if self.look:
            lines.append(f"This was look {self.look} at these test rows.")
        if not self.verified:
            lines.append("Unverified: these predictions come from outside and may be in-sample.")
        return [*lines, f"Run {self.run_id[:8]}, report {self.report}", f"Next: {self.next}"]

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready; the slices too."""
        return super().to_dict() | {"slices": plain(self.slices)}

    def _repr_html_(self) -> str:
        head, *_ = self.lines()
        cells = [
            (s.metric, short(s.value), short(s.low), short(s.high), s.method, s.note)
            for s in self.scores
        ]
        rest = "\n".join(self.lines()[1 + len(self.scores) :])
        columns = ("metric", "value", "low", "high", "interval by", "mind")
        return (
            f"<p><b>{html.escape(head)}</b></p>"
            f"{_html_table(*without_silence(columns, cells))}"
            f"<pre>{html.escape(rest)}</pre>{_html_pictures(self.pictures)}"
        )

    def verdict(self) -> str:
        """The first score against its baselines, in one sentence."""
        first = self.scores[0]
        said = f"{first}; {_beats(first, self.baseline)} the baseline ({short(self.baseline)})"
        if self.best_feature is None or self.best_feature_value is None:
            return said
        feature = f"{self.best_feature} alone ({short(self.best_feature_value)})"
        verdict = _beats(first, self.best_feature_value)
        if verdict == _beats(first, self.baseline):
            return f"{said} {'and' if verdict == 'beats' else 'or'} {feature}"
        return f"{said}, {verdict} {feature}"

    def _slice_lines(self) -> list[str]:
        worse = [s for s in self.slices if s.worse]
        if not self.slices:
            return []
        if not worse:
            return [f"None of {len(self.slices)} slices is shown to be worse than the rest."]
        shown = [f"  {s}" for s in worse[:3]]
        return [f"{len(worse)} of {len(self.slices)} slices are worse than the rest:", *shown]


def without_silence(
    columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """A table without its last column where that says nothing in any row."""
    if any(row[-1] for row in rows):
        return columns, rows
    return columns[:-1], [row[:-1] for row in rows]


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table for a notebook; every cell is escaped."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"


def _html_pictures(pictures: tuple[Figure, ...]) -> str:
    """Pictures for a notebook, folded away."""
    shown = "".join(
        f'<img alt="{html.escape(p.title)}" style="max-width:32em;background:white" '
        f'src="data:image/png;base64,{base64.b64encode(p.png).decode()}">'
        for p in pictures
    )
    return f"<details><summary>{len(pictures)} pictures</summary>{shown}</details>" if shown else ""


def _beats(score: Score, other: float) -> str:
    gap = score.value - other if score.greater_is_better else other - score.value
    if gap <= 1e-9 * max(1.0, abs(other)):
        return "does not beat"
    if score.low <= other <= score.high:
        return "cannot be told from"
    return "beats" if score.reliable else "may beat"


@dataclass(frozen=True, kw_only=True)
class ReportFile(Shown):
    """A report written to a file."""

    path: str
    run_id: str
    subject: str
    n_bytes: int

    def lines(self) -> list[str]:
        """The result in words."""
        return [f"Wrote {self.path} ({self.n_bytes / 1000:,.0f} kB): {self.subject}"]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial of a search; `value` is the mean over its folds, None unless it is complete.

    Attributes:
        family: what it fitted; "" for a function of the user's own.
    """

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    fold_scores: tuple[float, ...]
    seconds: float
    reason: str
    family: str = ""


@dataclass(frozen=True, kw_only=True)
class EnsembleResult(Shown):
    """The best trials of a search as one model.

    Attributes:
        members: weight by trial.
        score: of out-of-fold predictions by ensembles that were chosen on the other folds.
        corrected: of the ensemble as it is, selected anew on parts of the rows.
    """

    run_id: str
    model_uri: str
    members: Mapping[int, float]
    score: Score
    corrected: Score

    def lines(self) -> list[str]:
        """The result in words."""
        shown = ", ".join(f"trial {n} x {w:.2g}" for n, w in self.members.items())
        return [
            f"Ensemble: valid {self.score}, corrected {self.corrected}",
            f"  {shown}",
            f"  run {self.run_id[:8]}, model {self.model_uri}",
        ]


@dataclass(frozen=True, kw_only=True)
class TuneResult(Shown):
    """A finished search and its refitted winner.

    Attributes:
        best: the winning trial.
        score: the winner's deciding metric on validation rows, as it stands.
        corrected: the same, corrected for having been picked as the best of all trials.
        family: the winner's.
        tied: further trials that cannot be told from the best, of the best ten, the best first.
        searched: where trials were fitted on fewer rows or steps (`tune.rows`, `tune.epochs`), the
            winner's score so; `score` is that of its fits in full.
        ensemble: the best trials as one model, where that was asked for and brought something.
        importances: share of the score's variation that each hyperparameter explains; where
            families were searched together, among the trials of the winner's.
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
    tied: tuple[int, ...] = ()
    searched: Score | None = None
    ensemble: EnsembleResult | None = None

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
        by_family = Counter(t.family for t in self.trials)
        if len(by_family) > 1:
            chosen = f"{self.family}: {chosen}"
        first = f"Best of {len(self.trials)} trials ({counts}): trial {self.best.number}, "
        lines = [f"{first}{'valid ' if self.model_uri else ''}{self.score}", f"  {chosen}"]
        if math.isfinite(self.corrected.low):
            lines.insert(1, f"  corrected for having been picked: {self.corrected}")
        if self.searched is not None:
            lines.append(f"  searched lightly: {self.searched}; the scores above are of full fits")
        if self.tied:
            lines.append(f"  tied with it: trials {', '.join(map(str, self.tied))}")
        if len(by_family) > 1:
            shown = ", ".join(f"{name} {n}" for name, n in by_family.most_common())
            lines.append(f"  trials by family: {shown}")
        if self.importances:
            ranked = sorted(self.importances.items(), key=lambda kv: -kv[1])
            lines.append("  what mattered: " + ", ".join(f"{k} {v:.0%}" for k, v in ranked[:4]))
        reasons = Counter(t.reason for t in self.trials if t.state == "FAILED").most_common()
        for reason, n in reasons[:SHOWN_REASONS]:
            lines.append(f"  {n} failed: {reason}")
        if len(reasons) > SHOWN_REASONS:
            others = sum(n for _, n in reasons[SHOWN_REASONS:])
            lines.append(f"  {others} failed for other reasons: trials.parquet has each")
        if self.resumed:
            noun = "trial" if self.resumed == 1 else "trials"
            lines.append(f"  {self.resumed} {noun} of before kept, not run again")
        model = f", model {self.model_uri}" if self.model_uri else ""
        lines.append(f"Run {self.run_id[:8]} ({self.name}){model}")
        lines += self.ensemble.lines() if self.ensemble else []
        return [*lines, f"Next: {self.next}"]


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
        lines = [
            f"{first}, valid {self.metric} {ranked(self.before)} then, {ranked(self.score)} now"
        ]
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
class Check:
    """One question of the gate and its answer.

    Attributes:
        rows_to_decide: where it cannot tell, test rows that would if the numbers stay; else None.
    """

    name: str
    verdict: Verdict
    reason: str
    rows_to_decide: int | None = None


@dataclass(frozen=True, kw_only=True)
class Decision(Shown):
    """What the gate decided, why, and what was done.

    Attributes:
        checks: the gate's questions, each with its answer and reason.
        look: which look at the test rows this was, from 1; 0 where none was taken.
        n_rows: test rows that decided.
        moved: whether the alias was moved.
        forced, why: moved though the gate did not promote, and the reason given.
        record: the decision's number in the alias's history; 0 where nothing was decided.
        evidence: what it rests on, as in decision.json.
    """

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
    forced: bool = False
    why: str = ""
    record: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict, repr=False)

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
        if self.forced:
            what = f"is now {self.uri}, by force: {self.why}"
        lines = [f"{self.verdict}: {self.subject} (version {self.version}) {what}"]
        lines += [f"  {ANSWERS[c.verdict]:<7} {c.name}: {c.reason}" for c in self.checks]
        return [*lines, f"Run {self.run_id[:8]}", f"Next: {self.next}"]

    def to_dict(self) -> dict[str, Any]:
        """Stable keys, JSON-ready; the evidence with them."""
        return {**super().to_dict(), "evidence": plain(self.evidence)}


def _brief(value: Any) -> str:
    return short(value) if isinstance(value, float) else str(value)
