"""What `surefit compare` returns: standings, what is not ranked, what sets two apart."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import Any

from surefit.results import Score, Shown
from surefit.wording import ranked, short

SLICES = 5  # named in a terminal
BOARD_LINES = 40  # of each list in a terminal; --json, --csv and the report have all


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One candidate on the leaderboard.

    Attributes:
        worse_by: how much worse than the best, 0 for the best; in the metric's units.
        low, high: that difference's interval, together with all the others' (simultaneous).
        tied: True when it cannot be told from the best.
        rows_to_decide: validation rows that would tell it from the best, at this difference.
        outside: True for a run that another program logged, ranked by its predictions.
        shown: the value of what the board is sorted by, where that was asked for.
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
    latency_ms: float | None = None
    outside: bool = False
    shown: float | str | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A run that is not ranked, and why; `value` is the metric as it was logged, where it was."""

    run_id: str
    name: str
    reason: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Unpaired:
    """A run's place by its metric alone, on rows of its own: a choice that was typed.

    Attributes:
        value, low, high: the metric and its interval; NaN where none is known.
        behind, behind_low, behind_high: the difference to the first with an interval as if the
            rows had nothing in common, over all of them together.
        told_apart: whether that interval leaves out 0; None where there is none.
        reason: why it could not be ranked on the same rows; "" where it was.
    """

    rank: int
    run_id: str
    name: str
    value: float
    low: float
    high: float
    behind: float
    behind_low: float
    behind_high: float
    told_apart: bool | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """How far another seed alone moves the metric.

    Attributes:
        sd: standard deviation among runs that differ in `model.seed` alone, pooled.
        reach: 95 % of differences between two such runs are smaller.
        n_runs, n_configurations: what it was measured on.
    """

    sd: float
    reach: float
    n_runs: int
    n_configurations: int


@dataclass(frozen=True, kw_only=True)
class Differing:
    """One thing that two runs have not in common; None where one of them lacks it."""

    what: str
    key: str
    a: str | None
    b: str | None


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A row that the two decide differently."""

    row_id: str
    target: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class SliceContrast:
    """Two models on the rows where a column has one value or lies in one range.

    Attributes:
        a, b: the metric of each there.
        better_by: how much better `a` is there, in the metric's units; below 0: `b` is.
        low, high: its 95 % interval; NaN where none can be given.
        differs: shown to differ, false discoveries among all slices controlled.
        small: too few rows to tell; not tested.
    """

    column: str
    value: str
    n_rows: int
    a: float
    b: float
    better_by: float
    low: float
    high: float
    differs: bool
    small: bool


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Why two runs differ: what was different, and where they disagree.

    Attributes:
        a, b: their names.
        differs: data, split, configuration, parameters, commit, packages.
        n_rows, both_right, only_a, only_b, both_wrong: rows, by who is right; in regression
            "right" is whose error is smaller, and both_right counts equal errors.
        flips: rows whose decision flips (regression: the largest disagreements), at most 1,000,
            the most confident first.
        n_flips: all of them.
        slices: the metric of both by slice, those where they differ first.
        no_slices: why there are none.
        code: the difference in code, as a unified diff; "" where none is known.
    """

    a: str
    b: str
    differs: tuple[Differing, ...]
    n_rows: int = 0
    both_right: int = 0
    only_a: int = 0
    only_b: int = 0
    both_wrong: int = 0
    n_flips: int = 0
    flips: tuple[Flip, ...] = ()
    slices: tuple[SliceContrast, ...] = ()
    no_slices: str = ""
    code: str = field(default="", repr=False)

    def lines(self) -> list[str]:
        """What sets them apart, in words."""
        lines = [f"What differs between {self.a} and {self.b}:"]
        for d in self.differs[:BOARD_LINES]:
            lines.append(f"  {d.what:<10} {d.key}: {_or_none(d.a)} | {_or_none(d.b)}")
        lines += _more(len(self.differs))
        if not self.differs:
            lines.append("  nothing that was recorded")
        if self.code:
            lines.append(f"  code       {_changed(self.code)} (pair/code.diff)")
        return [*lines, self._where(), *self._sliced()]

    def _sliced(self) -> list[str]:
        """The slices on which they differ."""
        if not self.slices:
            return [f"By slice: {self.no_slices}."] if self.no_slices else []
        differ = [s for s in self.slices if s.differs]
        if not differ:
            return [f"On none of {len(self.slices)} slices are they shown to differ."]
        lines = [f"They differ on {len(differ)} of {len(self.slices)} slices:"]
        for s in differ[:SLICES]:
            better = self.a if s.better_by > 0 else self.b
            both = f"{short(s.a)} | {short(s.b)}, {better} is better"
            lines.append(f"  {s.column} = {s.value} ({s.n_rows:,} rows): {both}")
        return lines + ([f"  … and {len(differ) - SLICES} more"] if len(differ) > SLICES else [])

    def _where(self) -> str:
        if not self.n_flips and not self.both_wrong:  # regression, or no difference at all
            return (
                f"Of {self.n_rows:,} rows {self.a} is nearer on {self.only_a:,}, {self.b} on "
                f"{self.only_b:,}, equal on {self.both_right:,}"
            )
        return (
            f"Of {self.n_rows:,} rows both are right on {self.both_right:,}, only {self.a} on "
            f"{self.only_a:,}, only {self.b} on {self.only_b:,}, neither on "
            f"{self.both_wrong:,}; {self.n_flips:,} decisions flip"
        )


@dataclass(frozen=True, kw_only=True)
class Comparison(Shown):
    """Candidates compared on the same out-of-fold rows.

    Attributes:
        corrected: the best's score, corrected for having been picked among all candidates and
            all complete trials of their searches.
        proposed: the cheapest of those that cannot be told from the best.
        why_proposed: by what it is the cheapest.
        more: True where further runs could have been ranked, and were not read.
        unpaired: all, by metric alone, where that was asked for.
        noise: what another seed alone does, where runs tell.
        sort: what the board is shown by, where not by rank.
        pair: for two runs, what sets them apart.
    """

    run_id: str
    metric: str
    n_rows: int
    standings: tuple[Standing, ...]
    corrected: Score
    n_candidates: int
    left_out: tuple[LeftOut, ...]
    next: str
    proposed: Standing
    why_proposed: str
    more: bool = False
    unpaired: tuple[Unpaired, ...] = ()
    noise: NoiseFloor | None = None
    sort: str = ""
    pair: Pair | None = None
    report: str = field(default="")

    @property
    def best(self) -> Standing:
        """The first on the board."""
        return self.standings[0]

    @property
    def tied(self) -> tuple[Standing, ...]:
        """Those that cannot be told from the best, itself left out."""
        return tuple(s for s in self.standings[1:] if s.tied)

    def ordered(self) -> list[Standing]:
        """The standings as they are shown: by rank, or by `sort`; missing values last."""
        if not self.sort:
            return list(self.standings)
        down = -1 if self.sort.startswith("-") else 1
        numbers = [s for s in self.standings if isinstance(s.shown, int | float)]
        texts = [s for s in self.standings if isinstance(s.shown, str)]
        numbers.sort(key=lambda s: down * float(s.shown or 0))
        texts.sort(key=lambda s: str(s.shown), reverse=down < 0)
        return [*numbers, *texts, *(s for s in self.standings if s.shown is None)]

    def lines(self) -> list[str]:
        """The result in words, the verdict first."""
        lines = [self.headline(), "", *self._board(), ""]
        lines += self._among()
        lines.append(self.luck())
        if self.corrected.note:
            lines.append(f"  ({self.corrected.note})")
        lines += self._undecided() + self._noise() + self._not_ranked() + self._unpaired()
        if self.pair:
            lines += ["", *self.pair.lines()]
        return [*lines, f"Run {self.run_id[:8]}, report {self.report}", f"Next: {self.next}"]

    def headline(self) -> str:
        """The verdict in one line."""
        first = f"Best on {self.n_rows:,} validation rows: {self.best.name}, {self.best.score}"
        return first + (f"; {len(self.tied)} cannot be told from it" if self.tied else "")

    def luck(self) -> str:
        """The best's score without the luck of having been picked, in one line."""
        if self.n_candidates < 2:
            return "A single candidate: nothing was picked, so that its score needs no correction"
        return f"Corrected for having been picked among {self.n_candidates}: {self.corrected}"

    def _board(self) -> list[str]:
        shown = self.ordered()[:BOARD_LINES]
        width = max(len(s.name) for s in shown)
        extra = f"  {self.sort.lstrip('-')}" if self.sort else ""
        lines = [
            f"  {'':>3} {'run':<8}  {'name':<{width}}  {self.metric:>10}  {'95 % interval':^19}"
            f"  {'behind':>9}  {'':<6}{extra}".rstrip()
        ]
        for s in shown:
            behind = "" if s.rank == 1 else short(s.worse_by)
            place = "=" if s.tied and self.tied else str(s.rank)
            interval = f"[{short(s.score.low)}, {short(s.score.high)}]"
            lines.append(
                f"  {place:>3} {s.run_id[:8]}  {s.name:<{width}}  {ranked(s.score.value):>10}"
                f"  {interval:^19}  {behind:>9}  {_state(s):<6}"
                + (f"  {_brief(s.shown)}" if self.sort else "")
                + ("  (other program)" if s.outside else "")
            )
        return [*(line.rstrip() for line in lines), *_more(len(self.standings))]

    def _among(self) -> list[str]:
        if not self.tied:
            return []
        return [f"Among the tied, proposed: {self.proposed.name} ({self.why_proposed})"]

    def _undecided(self) -> list[str]:
        lines = []
        needed = [s.rows_to_decide for s in self.tied if s.rows_to_decide]
        if needed:
            more = max(0, min(needed) - self.n_rows)
            lines.append(
                f"Tied: about {_rounded(more)} more validation rows would tell the nearest apart."
            )
        if self.more:
            lines.append(
                f"Only the {len(self.standings)} best by their recorded {self.metric} were read; "
                "--limit reads more. The correction knows of no others."
            )
        return lines

    def _noise(self) -> list[str]:
        if self.noise is None:
            return []
        n = self.noise
        repeated = f"{n.n_runs} runs that differ in the seed alone"
        if not n.sd:
            return [f"Noise floor: another seed changes nothing ({repeated})."]
        return [
            f"Noise floor: another seed alone moves {self.metric} by {n.sd:.2g} (standard "
            f"deviation, {repeated}); two such runs differ by up to {n.reach:.2g}."
        ]

    def _not_ranked(self) -> list[str]:
        lines = []
        for o in self.left_out[:BOARD_LINES]:
            value = "" if o.value is None else f", {self.metric} {ranked(o.value)} as logged"
            lines.append(f"  not ranked: {o.run_id[:8]} {o.name} ({o.reason}{value})")
        return lines + _more(len(self.left_out))

    def _unpaired(self) -> list[str]:
        if not self.unpaired:
            return []
        if not any(u.reason for u in self.unpaired):
            return ["--unpaired adds nothing: every run of this task is on the same rows."]
        lines = ["", "Ranked by metric alone, as asked (--unpaired); the rows are not the same:"]
        for u in self.unpaired[:BOARD_LINES]:
            interval = "" if math.isnan(u.low) else f" [{short(u.low)}, {short(u.high)}]"
            state = {None: "no interval", True: "worse", False: "not told apart"}[u.told_apart]
            if u.told_apart is None and not math.isnan(u.low):
                state = "the first has no interval"
            state = "first" if u.rank == 1 else state
            why = f"  ({u.reason})" if u.reason else ""
            lines.append(
                f"  {u.rank:>3} {u.run_id[:8]}  {u.name}  {ranked(u.value)}{interval}  {state}{why}"
            )
        return lines + _more(len(self.unpaired))

    def _repr_html_(self) -> str:
        cells = ("", "name", self.metric, "95 % interval", "behind", "")
        head = "".join(f"<th>{html.escape(c)}</th>" for c in cells)
        rows = "".join(_html_row(s) for s in self.ordered()[:BOARD_LINES])
        board = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        rest = self.lines()
        rest = rest[rest.index("", 2) + 1 :]
        said = "".join(f"<p>{html.escape(line)}</p>" for line in rest if line)
        return f"<p><b>{html.escape(self.headline())}</b></p>{board}{said}"


def as_row(s: Standing) -> dict[str, Any]:
    """A standing as one row of a table."""
    return {
        "rank": s.rank, "name": s.name, "run_id": s.run_id, "kind": s.kind, "family": s.family,
        "value": s.score.value, "low": s.score.low, "high": s.score.high, "worse_by": s.worse_by,
        "worse_low": s.low, "worse_high": s.high, "tied": s.tied,
        "rows_to_decide": s.rows_to_decide, "fit_seconds": s.fit_seconds,
        "model_bytes": s.model_bytes, "latency_ms": s.latency_ms, "outside": s.outside,
    }  # fmt: skip


def _html_row(s: Standing) -> str:
    cells = (
        s.rank, s.name, ranked(s.score.value), f"[{short(s.score.low)}, {short(s.score.high)}]",
        "" if s.rank == 1 else short(s.worse_by), _state(s),
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in cells) + "</tr>"


def _state(s: Standing) -> str:
    return "best" if s.rank == 1 else ("tied" if s.tied else "worse")


def _more(count: int) -> list[str]:
    return [f"  … and {count - BOARD_LINES} more (--json)"] if count > BOARD_LINES else []


def _changed(diff: str) -> str:
    """How much a unified diff changes, in words."""
    lines = diff.splitlines()
    added = sum(x.startswith("+") and not x.startswith("+++") for x in lines)
    gone = sum(x.startswith("-") and not x.startswith("---") for x in lines)
    return f"{added} lines added, {gone} removed"


def _or_none(value: str | None) -> str:
    return "–" if value is None else value if len(value) <= 60 else value[:57] + "…"


def _brief(value: float | str | None) -> str:
    return "–" if value is None else ranked(value) if isinstance(value, float) else str(value)


def _rounded(count: int) -> str:
    """Two significant digits: nothing finer is known."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"
