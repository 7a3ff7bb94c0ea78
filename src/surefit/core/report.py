"""The report of an evaluation: from what was found out to a page a person would read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from surefit.core.calibration import Calibration
from surefit.core.evaluation import Findings
from surefit.core.page import Page, Section, TableBlock, Tone
from surefit.core.threshold import Choice
from surefit.items import Figure
from surefit.results import Evaluation, Score, without_silence
from surefit.wording import short

SLICES_SHOWN = 40
FEATURES_SHOWN = 10
COLUMNS = ("metric", "value", "low", "high", "interval by", "mind")


@dataclass(frozen=True, kw_only=True)
class About:
    """Where the predictions come from, for the reader; what is not known is left empty.

    Attributes:
        data: (name, value) pairs on the data and its split.
        notes: what was inferred about the data.
        model: (name, value) pairs: family, hyperparameters, times, size.
        learning: the training run's learning curves.
        importance: what the model relies on, as the training run found it.
        inside: what the model says itself of its columns.
        findings: what `surefit check` found in the data, as it was recorded; None: no check ran.
        again: the commands that give this evaluation again.
        config: the configuration as TOML.
    """

    data: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    model: Sequence[tuple[str, str]] = ()
    learning: Figure | None = field(default=None, repr=False)
    importance: Figure | None = field(default=None, repr=False)
    inside: Figure | None = field(default=None, repr=False)
    findings: Sequence[Mapping[str, Any]] | None = None
    again: str = ""
    config: str = ""


def page(result: Evaluation, found: Findings, pictures: Sequence[Figure], about: About) -> Page:
    """The whole report as a value."""
    return Page(
        title=f"Evaluation of {result.subject}",
        verdict=_verdict(result),
        subtitle=_subtitle(result),
        tone=_tone(result),
        facts=_cards(result),
        sections=list(_sections(result, found, pictures, about)),
        footer="Written by surefit. The numbers behind each picture lie beside it as CSV.",
    )


def _beats(score: Score, other: float) -> bool:
    return (score.value > other) == score.greater_is_better


def _hardest(result: Evaluation) -> tuple[str, float]:
    """The better of the two baselines."""
    constant = ("one answer for all rows", result.baseline)
    if result.best_feature is None or result.best_feature_value is None:
        return constant
    single = (f"the best single column, {result.best_feature}", result.best_feature_value)
    up = result.scores[0].greater_is_better
    return single if (single[1] > constant[1]) == up else constant


def _verdict(result: Evaluation) -> str:
    first = result.scores[0]
    name, value = _hardest(result)
    relation = "better than" if _beats(first, value) else "no better than"
    if math.isfinite(first.low) and first.low <= value <= first.high:
        relation = "not told from"
    return f"{first}: {relation} {name} ({short(value)})"


def _subtitle(result: Evaluation) -> str:
    if not result.verified:
        return "These predictions come from outside: they may be in-sample, and promote nothing."
    where = {
        "validation": "on rows that the models of each fold had not seen",
        "test": "on the sealed test rows",
        "given": "on the rows of a file",
    }[result.rows]
    return f"Measured {where}, with the range for new rows of the same kind in brackets."


def _tone(result: Evaluation) -> Tone:
    if not _beats(result.scores[0], _hardest(result)[1]):
        return "bad"
    shown = not _verdict(result).count("not told from")
    return "good" if result.verified and shown else "unsure"


def _cards(result: Evaluation) -> list[tuple[str, str]]:
    cards = [
        ("Rows", f"{result.n_rows:,} {result.rows}"),
        ("One answer for all rows", short(result.baseline)),
    ]
    if result.best_feature is not None and result.best_feature_value is not None:
        cards.append((f"{result.best_feature} alone", short(result.best_feature_value)))
    if result.slices:
        worse = sum(s.worse for s in result.slices)
        cards.append(("Slices worse than the rest", f"{worse} of {len(result.slices)}"))
    if result.look:
        cards.append(("Look at these test rows", str(result.look)))
    return cards


def _sections(
    result: Evaluation, found: Findings, pictures: Sequence[Figure], about: About
) -> Iterator[Section]:
    yield _how_good(result)
    shown = {p.name: p for p in pictures}
    if result.slices:
        yield _where(result, [shown[n] for n in ("slices",) if n in shown])
        yield _slices(result)
    if len(found.worst):
        yield _worst(found.worst)
    yield Section(
        title="Pictures",
        text="Where there are folds, pictures show the rows of all of them together, so that an "
        "area in a title may differ a little from the mean over folds above.",
        figures=[p for p in pictures if p.name != "slices"],
    )
    if found.classes is not None:
        yield _classes(found.classes)
    if found.threshold is not None:
        yield _threshold(found.threshold)
    if found.calibration is not None:
        yield _calibration(found.calibration)
    if found.calibrated is not None:
        yield Section(
            title=f"Calibrated: {found.calibrated.method}",
            text="All metrics of the calibrated probabilities, each fold's calibrated by what was "
            "fitted on the other folds. They are in predictions/calibrated.parquet.",
            table=score_rows(found.calibrated.scores),
        )
    yield from _background(about)


def score_rows(scores: Sequence[Score]) -> TableBlock:
    """Scores as a table."""
    scored = [(s.metric, s.value, s.low, s.high, s.method, s.note) for s in scores]
    columns, rows = without_silence(COLUMNS, scored)
    return TableBlock(columns=columns, rows=rows)


def _how_good(result: Evaluation) -> Section:
    text = (
        "Each metric with its 95 % interval: the range for new rows of the same kind, for these "
        "fitted models. Scores of several folds are averaged, never pooled."
    )
    if result.left_out:
        text += "\n\nLeft out:\n\n" + "\n".join(f"- {what}" for what in result.left_out)
    return Section(title="How good, and how sure", text=text, table=score_rows(result.scores))


def _classes(table: pd.DataFrame) -> Section:
    rows = [
        (r["class"], r["n_rows"], r["f1"],
         _ranged(r["precision"], r["precision_low"], r["precision_high"]),
         _ranged(r["recall"], r["recall_low"], r["recall_high"]), r["roc_auc"])
        for r in table.to_dict("records")
    ]  # fmt: skip
    columns = ("class", "rows", "F1", "precision", "recall", "area against the rest")
    return Section(
        title="By class", text="The class with the lowest F1 first.",
        table=TableBlock(columns=columns, rows=rows),
    )  # fmt: skip


def _where(result: Evaluation, pictures: Sequence[Figure]) -> Section:
    worse = sum(s.worse for s in result.slices)
    small = sum(s.small for s in result.slices)
    head = f"{worse or 'None'} of {len(result.slices)} slices "
    head += "are" if worse > 1 else "is"
    text = (
        f"{head} shown to be worse than all other rows. Of those named at most 5 % are expected "
        f"to be named by chance (Benjamini and Hochberg); {small} had too few rows to be tested. "
        "A slice is one value of a column, or a quarter of a column of numbers."
    )
    return Section(title="Where it fails", text=text, figures=pictures)


def _slices(result: Evaluation) -> Section:
    metric = result.scores[0].metric
    rows: Sequence[Sequence[Any]] = [
        (s.column, s.value, s.score.n_rows, _ranged(s.score.value, s.score.low, s.score.high),
         s.rest, _ranged(s.worse_by, s.low, s.high),
         "few rows" if s.small else "worse" if s.worse else "")
        for s in result.slices[:SLICES_SHOWN]
    ]  # fmt: skip
    columns, rows = without_silence(
        ("column", "value", "rows", metric, "the rest", "worse by", "shown"), rows
    )
    caption = (
        f"The first {SLICES_SHOWN} of {len(result.slices)}; all of them in plots/slices.csv."
        if len(result.slices) > SLICES_SHOWN
        else ""
    )
    table = TableBlock(columns=columns, rows=rows, caption=caption)
    return Section(title="Slices", table=table)


def _ranged(value: float, low: float, high: float) -> str | None:
    if not math.isfinite(value):
        return None
    if not math.isfinite(low):
        return short(value)
    largest = max(abs(value), abs(low), abs(high))
    if largest >= 1_000:
        return f"{short(value)} [{short(low)}, {short(high)}]"
    places = 3 if largest < 10 else 2 if largest < 100 else 1
    return f"{value:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def _worst(table: pd.DataFrame) -> Section:
    own = [c for c in ("row_id", "target", "predicted", "error", "probability_of_target")
           if c in table]  # fmt: skip
    features = [c for c in table.columns if c not in own][:FEATURES_SHOWN]
    shown = table[[*own, *features]].astype({"row_id": str})  # a name, not an amount
    rows = [[_short(v) for v in row] for row in shown.itertuples(index=False, name=None)]
    hidden = len(table.columns) - len(shown.columns)
    caption = f"{hidden} more columns in worst_rows.csv." if hidden else ""
    return Section(
        title="The worst rows",
        text="The rows that are most wrong: often a mistake in the data, or a kind of row that the "
        "model has not seen.",
        table=TableBlock(
            columns=[str(c).replace("_", " ") if c in own else str(c) for c in shown.columns],
            rows=rows, caption=caption,
        ),
    )  # fmt: skip


def _short(value: object) -> object:
    text = str(value)
    return text[:59] + "…" if isinstance(value, str) and len(text) > 60 else value


def _threshold(choice: Choice) -> Section:
    if choice.by_part:
        said = ", ".join(f"{cut:.3g}" for cut in choice.by_part)
        text = (
            f"Chosen for {choice.goal}: {choice.value:.4g}. The worth below is cross-fitted: each "
            f"fold is scored with the threshold chosen on the other folds ({said}), never on its "
            "own rows."
        )
    else:
        text = f"Given: {choice.value:.4g}."
    default = {s.metric: s for s in choice.default}
    rows = [
        (s.metric, s.value, s.low, s.high, default[s.metric].value, default[s.metric].low,
         default[s.metric].high)
        for s in choice.scores
    ]  # fmt: skip
    columns = ("metric", "at it", "low", "high", "at 0.5", "low at 0.5", "high at 0.5")
    return Section(title="Threshold", text=text, table=TableBlock(columns=columns, rows=rows))


def _calibration(measured: Calibration) -> Section:
    raw = measured.scores["as it is"][2]
    text = (
        f"The expected calibration error is {raw.value:.4f} [{raw.low:.4f}, {raw.high:.4f}]; "
        f"perfectly calibrated probabilities would show about {measured.by_noise:.4f} on as many "
        "rows, by noise alone."
    )
    if len(measured.scores) > 1:
        text += (
            " Each calibrator is fitted on the other folds' rows. Least log-loss: "
            f"{measured.best}. Nothing was changed in the model."
        )
    rows = [
        (method, s.metric, s.value, s.low, s.high)
        for method, scores in measured.scores.items()
        for s in scores
    ]
    columns = ("probabilities", "metric", "value", "low", "high")
    return Section(title="Calibration", text=text, table=TableBlock(columns=columns, rows=rows))


def _background(about: About) -> Iterator[Section]:
    if about.data or about.notes:
        listed = "\n".join(f"- {note}" for note in about.notes)
        yield Section(
            title="The data", facts=about.data,
            text=f"Inferred, each to be overridden in surefit.toml:\n\n{listed}" if listed else "",
        )  # fmt: skip
    if about.data or about.findings is not None:
        yield _findings(about.findings)
    if about.model:
        pictures = (about.importance, about.inside, about.learning)
        yield Section(
            title="The model", facts=about.model, figures=[p for p in pictures if p is not None]
        )
    if about.again:
        yield Section(title="How to run it again", code=about.again)
    if about.config:
        yield Section(title="Configuration", code=about.config)


def _findings(found: Sequence[Mapping[str, Any]] | None) -> Section:
    """What `surefit check` said of these data."""
    title = "What check found in the data"
    if found is None:
        return Section(
            title=title, text="No check has looked at these data: leaks, repeats and drift would "
            "show in `surefit check`.",
        )  # fmt: skip
    if not found:
        return Section(title=title, text="Nothing: no leak, no repeats across the split, no drift.")
    rows = [
        (f["key"], "waived" if f["waived"] else f["severity"], f["words"],
         f"waived: {f['waived']}" if f["waived"] else f["advice"])
        for f in found
    ]  # fmt: skip
    table = TableBlock(
        columns=("code", "severity", "what", "what to do"), rows=rows, numeric=(),
    )  # fmt: skip
    return Section(title=title, table=table)
