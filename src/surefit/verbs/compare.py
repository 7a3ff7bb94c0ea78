"""`surefit compare`: a leaderboard on the same rows, with paired differences and ties."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from surefit.comparison import Comparison, Pair, Standing, Unpaired, as_row
from surefit.core import choosing, predictions, stats
from surefit.core.comparison_page import pictures, render_page
from surefit.core.contest import Contest
from surefit.edges import candidates, runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store
from surefit.errors import ConfigError, InputError, SurefitError, did_you_mean
from surefit.items import Figure, Item, Metric, Param, Table, Tag, Text
from surefit.results import Score
from surefit.verbs import board, pairs, workspace
from surefit.verbs.board import Entries
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides
from surefit.wording import counted

CSV = (".csv", ".parquet")


def compare(
    candidates: Iterable[str] = (),
    *,
    where: str = "",
    metric: str | None = None,
    sort: str = "",
    unpaired: bool = False,
    limit: int = board.LIMIT,
    csv: str | Path | None = None,
    config: str | Path | None = None,
    data: workspace.Data = None,
    target: str | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Comparison:
    """Rank runs by their saved out-of-fold predictions, and say which cannot be told apart.

    Only runs on the same rows, divided the same way, are ranked; the others are listed with the
    reason. The best's score is corrected for having been picked. Exactly two candidates are also
    set side by side: what differs, and where they disagree.

    Args:
        candidates: runs (ids or names); by default all training runs, searches and runs that
            other programs logged to the experiment.
        where: MLflow's filter, e.g. "params.`model.family` = 'lightgbm'", and beyond it `or`,
            `in`, `not` and parentheses.
        metric: another metric than the one that decides.
        sort: show the board by a metric, parameter or cost ("fit_seconds", "-model_bytes").
        unpaired: rank what is not on the same rows too, apart, by its metric alone.
        limit: read the predictions of so many runs, the best by their recorded metric.
        csv: write the board to this file (.csv or .parquet).
        config, data, target, set: as in `train`.
        quiet: say nothing on standard error.

    Raises:
        InputError: when nothing can be compared.
        ServiceError: when the MLflow store fails.
    """
    reporter = Reporter(quiet=quiet)
    names = [candidates] if isinstance(candidates, str) else list(candidates)
    _check(names, where, limit, csv)
    project = workspace.project(data=data, target=target, config=config, overrides=set)
    store = workspace.open_store(project)
    entries = board.gather(store, names, where=where, metric=metric, limit=limit)
    _check_sort(sort, entries)
    n_rows, n_runs = len(entries.rows.y), counted(len(entries.scored), "run")
    reporter.say(f"Plan:  compare {n_runs} by {entries.metric.name} on {n_rows:,} rows, "
                 "2,000 resamples")  # fmt: skip
    whole, best_score, n_candidates = board.judge(store, entries)
    places = _unpaired(store, entries, whole) if unpaired else ()
    two = pairs.side_by_side(store, project, entries, data, reporter) if len(names) == 2 else None
    with runs.recording(store, "compare", "compare", tags=_tags(entries, unpaired)) as run:
        result = _result(store, entries, whole, run.run_id, best_score, n_candidates, places, sort,
                         pair=two, whole_project=not (names or where or metric))  # fmt: skip
        run.log(_items(result, entries))
    if csv is not None:
        _write(result, Path(csv))
    return result


def _write(result: Comparison, file: Path) -> None:
    try:
        runs.write_table(_table(result.ordered()), file)
    except OSError as error:
        raise InputError(
            f"--csv {file} cannot be written: {error.strerror or error}. The comparison is "
            f"recorded: run {result.run_id}.", "another file, or leaderboard.csv of that run",
        ) from None  # fmt: skip


def _check(names: Sequence[str], where: str, limit: int, csv: str | Path | None) -> None:
    if names and where:
        raise ConfigError("Name the runs, or give --where; not both.")
    if limit < 2:
        raise ConfigError(f"--limit {limit}: two runs at least are compared.", "--limit 25")
    if csv is not None and Path(csv).suffix not in CSV:
        raise ConfigError(f"--csv {csv} is neither .csv nor .parquet.", "--csv board.csv")
    if csv is not None and not Path(csv).absolute().parent.is_dir():
        raise ConfigError(f"--csv {csv}: there is no folder {Path(csv).parent}.")


# --- the board ---


def _tags(entries: Entries, unpaired: bool) -> dict[str, str]:
    keys = ("surefit.data", "surefit.split", "surefit.task")
    known = {k: entries.first.tags[k] for k in keys if k in entries.first.tags}
    chosen = {"surefit.unpaired": "true"} if unpaired else {}
    return known | {"surefit.metric": entries.metric.name} | chosen


def _result(
    store: Store,
    entries: Entries,
    whole: Contest,
    run_id: str,
    best_score: Score,
    n_candidates: int,
    places: tuple[Unpaired, ...],
    sort: str,
    *,
    pair: Pair | None,
    whole_project: bool,
) -> Comparison:
    standings = [
        _standing(entries, whole, place, name, sort)
        for place, name in enumerate(whole.ranking.values, start=1)
    ]
    spreads = {name: d.spread for name, d in whole.ranking.differences.items()}
    chosen, why = choosing.cheapest([s for s in standings if s.tied], spreads)
    repeats = board.repeats(store, entries, whole.ranking.values)
    return Comparison(
        run_id=run_id, metric=entries.metric.name, n_rows=whole.ranking.n_rows,
        standings=tuple(standings), corrected=best_score, n_candidates=n_candidates,
        left_out=entries.left_out, next=_next(standings, chosen, whole=whole_project),
        proposed=chosen, why_proposed=why, more=entries.more, unpaired=places, sort=sort,
        noise=choosing.noise_floor(repeats), pair=pair,
        report=f"runs:/{run_id}/report.html",
    )  # fmt: skip


def _next(standings: Sequence[Standing], proposed: Standing, *, whole: bool) -> str:
    """What to type next; "best" is the best of the whole project, so of a part an id is named."""
    best = next((s for s in standings if not s.outside), None)
    if best is None:
        return "surefit train   (runs of other programs cannot be promoted)"
    line = "surefit promote best" if whole else f"surefit promote {best.run_id[:8]}"
    if proposed.run_id == best.run_id or proposed.outside:
        return f"{line}   (that is {best.name}, {best.run_id[:8]})"
    return (
        f"{line}   ({best.name})   or   surefit promote {proposed.run_id[:8]}   "
        f"({proposed.name}, the cheapest of the near)"
    )


def _standing(entries: Entries, whole: Contest, place: int, name: str, sort: str) -> Standing:
    record = entries.records[name]
    difference = whole.ranking.differences.get(name)
    size = record.metrics.get("model_bytes")
    return Standing(
        rank=place, run_id=record.run_id, name=name, kind=record.kind,
        family=family_of(record), score=whole.scores[name],
        worse_by=difference.value if difference else 0.0,
        low=difference.low if difference else 0.0, high=difference.high if difference else 0.0,
        tied=name in whole.ranking.tied,
        rows_to_decide=difference.rows_to_decide if difference else None,
        fit_seconds=record.metrics.get("fit_seconds"),
        model_bytes=int(size) if size is not None else None,
        latency_ms=record.metrics.get("predict_one_row_ms"), outside=not record.kind,
        shown=shown(record, sort, whole.scores[name]) if sort else None,
    )  # fmt: skip


def family_of(record: RunRecord) -> str:
    """What the run's model is; of a search over families, the winner's."""
    named = record.tags.get("surefit.family", "")
    return named or record.params.get("model.family", "")


def _check_sort(sort: str, entries: Entries) -> None:
    """Refuse what no run has, before anything is computed."""
    if not sort or sort.lstrip("-") in ("name", "started", "value"):
        return
    records = entries.records.values()
    if all(shown(r, sort, None) is None for r in records):
        known = {k for r in records for k in (*r.metrics, *r.params)}
        raise InputError(
            f'No run has "{sort.lstrip("-")}" to sort by; '
            + did_you_mean(sort.lstrip("-"), known | {"name", "started"})
        )


def shown(record: RunRecord, sort: str, score: Score | None) -> float | str | None:
    """The value of a run that the board is sorted by: a metric, a parameter, a tag, or its name."""
    entity, _, rest = sort.lstrip("-").partition(".")
    key = rest if entity in ("metrics", "params", "tags") else sort.lstrip("-")
    if key == "value" and score is not None:
        return score.value
    if key in ("name", "started"):
        return record.name if key == "name" else float(record.started)
    for name in (key, f"valid_{key}"):
        value = record.metrics.get(name) if entity not in ("params", "tags") else None
        if value is not None and math.isfinite(value):
            return value
    known: Mapping[str, str] = record.tags if entity == "tags" else record.params
    text = known.get(key, known.get(f"model.params.{key}"))
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text


# --- by metric alone ---


def _unpaired(store: Store, entries: Entries, whole: Contest) -> tuple[Unpaired, ...]:
    """All runs with the metric, on whatever rows; those of another task never."""
    places = {
        record.run_id: (name, s.value, s.low, s.high, "")
        for name, record in entries.records.items()
        for s in (whole.scores[name],)
    }
    for left in entries.left_out:
        record = entries.unranked[left.run_id]
        other = record.tags.get("surefit.task", entries.rows.task) != entries.rows.task
        if left.value is None or other or candidates.unusable(record):
            continue
        value, low, high = board.recorded(record, entries.metric.name)
        if math.isnan(low) and record.kind:
            value, low, high = _from_predictions(store, entries, record, value)
        places[record.run_id] = (record.name, value, low, high, left.reason)
    return choosing.by_metric(places, greater_is_better=entries.metric.greater_is_better)


def _from_predictions(
    store: Store, entries: Entries, record: RunRecord, value: float
) -> tuple[float, float, float]:
    """The interval on the run's own rows, where its predictions are there."""
    try:
        table = runs.read_table(store, record.run_id, predictions.VALID)
        if table is not None:
            own = predictions.read(table, *record.answer)
            found = stats.score(entries.metric, own.y, own.pred, **own.drawn)
            return found.value, found.low, found.high
    except SurefitError:
        pass
    return value, math.nan, math.nan


# --- the record ---


def _items(result: Comparison, entries: Entries) -> Iterator[Item]:
    best = result.best
    yield Param(key="best", value=best.run_id)
    yield Param(key="proposed", value=result.proposed.run_id)
    yield Param(key="candidates", value=result.n_candidates)
    yield Metric(key=f"best_{result.metric}", value=best.score.value)
    yield Metric(key=f"corrected_{result.metric}", value=result.corrected.value)
    yield Metric(key=f"corrected_{result.metric}_low", value=result.corrected.low)
    yield Metric(key=f"corrected_{result.metric}_high", value=result.corrected.high)
    yield Metric(key="tied", value=len(result.tied))
    yield Tag(key="surefit.best", value=best.run_id)
    yield Tag(key="surefit.proposed", value=result.proposed.run_id)
    yield Tag(key="mlflow.note.content", value=_note(result))
    yield Table(path="leaderboard.csv", frame=_table(result.standings))
    for path, values in (("left_out.csv", result.left_out), ("unpaired.csv", result.unpaired)):
        if values:
            yield Table(path=path, frame=pd.DataFrame([vars(v) for v in values]))
    drawn: list[Figure] = [pictures(result)]
    if result.pair:
        yield from pairs.items(result.pair)
        drawn += pairs.figures(result.pair, entries)
    yield from drawn
    yield Text(path="report.html", text=render_page(result, drawn))


def _note(result: Comparison) -> str:
    note = f"**{result.headline()}**"
    if result.tied:
        note += f"\n\nProposed: {result.proposed.name} ({result.why_proposed})."
    if result.unpaired:
        note += (
            f"\n\nRanked by metric alone as well, as asked (--unpaired): {len(result.unpaired)} "
            "runs, not all on the same rows (unpaired.csv)."
        )
    return note


def _table(standings: Sequence[Standing]) -> pd.DataFrame:
    return pd.DataFrame([as_row(s) for s in standings])
