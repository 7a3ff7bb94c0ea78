"""`surefit reproduce`: a run, run again from its record: IDENTICAL, WITHIN NOISE or DIFFERENT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from surefit.core import predictions
from surefit.core.fit import FoldResult
from surefit.edges import environment, runs
from surefit.edges.runs import RunRecord
from surefit.items import Item, Metric, Tag
from surefit.results import Reproduction
from surefit.verbs import again, candidate, reproduce_search, workspace
from surefit.verbs.again import Again
from surefit.verbs.reporter import Reporter
from surefit.verbs.train import final_model, fit_folds, in_row_order
from surefit.verbs.workspace import Overrides

SEEDS = 3


def reproduce(
    run: str = "last",
    *,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Reproduction:
    """Run a training run, a trial or a whole search again from its record: is it the same?

    Nothing is checked out: code, configuration, data and environment are compared as they are now.
    IDENTICAL: every prediction is the same, validation and test rows alike. WITHIN NOISE: the score
    differs by no more than those of three seeds do among themselves, which is measured here. Of a
    trial the scores of its folds are compared; of a search every trial's hyperparameters, end and
    score, and the winner's predictions of test rows.

    Args:
        run: the id of a training run, search or trial, its beginning, its name, or "last".
        config, set: the project whose store is meant, as in `train`; `data.path` and
            `split.test_path` where the run's data are now. Another setting is refused.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the run is none of these, or not complete.
    """
    reporter = Reporter(quiet=quiet)
    named = again.find(run, config=config, overrides=set)
    searched = named.record.kind in ("tune", "trial")
    found = (again.search if searched else again.training)(named, reporter)
    differs = list(_differences(found))
    tags = found.work.tags() | {"surefit.reproduces": named.record.run_id}
    title = f"reproduce {named.record.name}"
    with (
        found.chosen.redirected(found.store),  # what the user's code logs is in the run already
        runs.recording(found.store, title, "reproduce", tags=tags) as opened,
    ):
        opened.log(workspace.setup_items(found.work))
        if searched:
            result = _judged_search(found, named.record, differs, reporter, opened.run_id)
        else:
            result = _judged(found, differs, reporter, opened.run_id)
        opened.log(_items(result))
    found.chosen.forget()
    return result


def _judged(found: Again, differs: Sequence[str], reporter: Reporter, run_id: str) -> Reproduction:
    metric = found.chosen.problem.metric
    before = float(found.record.metrics.get(f"valid_{metric}", float("nan")))
    if found.record.tags.get("surefit.split") != found.work.split.digest:
        return _result(found, "DIFFERENT", differs, run_id, before, None, None, None)
    folds = fit_folds(found.chosen.problem, found.chosen.params, reporter)
    score, apart = _score(folds), _apart(found, folds)
    if apart == 0:
        return _result(found, "IDENTICAL", differs, run_id, before, score, apart, None)
    others = [_score(_seeded(found, seed, reporter)) for seed in range(1, SEEDS)]
    noise = max([score, *others]) - min([score, *others])
    verdict = "WITHIN NOISE" if abs(score - before) <= noise else "DIFFERENT"
    return _result(found, verdict, differs, run_id, before, score, apart, noise)


def _judged_search(
    found: Again, record: RunRecord, differs: Sequence[str], reporter: Reporter, run_id: str
) -> Reproduction:
    """The verdict on a search, or on one of its trials."""
    if found.record.tags.get("surefit.split") != found.work.split.digest:
        before = float(record.metrics.get(f"valid_{found.chosen.problem.metric}", float("nan")))
        other = replace(found, record=record)
        return _result(other, "DIFFERENT", differs, run_id, before, None, None, None)
    trial = record.kind == "trial"
    rerun = reproduce_search.of_trial(found, record) if trial else (
        reproduce_search.of_search(found, reporter))  # fmt: skip
    verdict, noise = "IDENTICAL", None
    if rerun.apart or rerun.differs:
        scores = [rerun.score, *(rerun.seeded(seed) for seed in range(1, SEEDS))]
        noise = max(scores) - min(scores)
        verdict = "WITHIN NOISE" if abs(rerun.score - rerun.before) <= noise else "DIFFERENT"
    return _result(
        replace(found, record=record), verdict, [*differs, *rerun.differs], run_id, rerun.before,
        rerun.score, rerun.apart, noise,
    )  # fmt: skip


def _seeded(found: Again, more: int, reporter: Reporter) -> list[FoldResult]:
    problem = found.chosen.problem
    other = replace(problem, seed=problem.seed + more, memory={})
    return fit_folds(other, found.chosen.params, reporter)


def _score(folds: Sequence[FoldResult]) -> float:
    return float(np.mean([f.score for f in folds]))


def _apart(found: Again, folds: list[FoldResult]) -> float:
    """The largest difference of any stored prediction, infinite where the rows are others."""
    work, chosen = found.work, found.chosen
    fresh = {predictions.VALID: predictions.valid_table(
        work.data, work.split, in_row_order(work.split, folds))}  # fmt: skip
    sealed = work.split.test_rows
    if len(sealed):
        model = final_model(chosen.problem, chosen.params, folds)
        fresh[predictions.TEST] = predictions.blind_table(
            work.data, work.split, model.predict(chosen.problem.frame.iloc[sealed])
        )
    return max(
        again.largest(runs.read_table(found.store, found.record.run_id, path), table)
        for path, table in fresh.items()
    )


def _differences(found: Again) -> Iterator[str]:
    """What is not as it was, in words."""
    tags = found.record.tags
    now = found.work.tags() | environment.git_tags(found.work.project.root)
    if found.chosen.code:
        now["surefit.code"] = found.chosen.code.digest
    named = {"surefit.config": "configuration", "surefit.data": "data", "surefit.split": "split",
             "surefit.code": "your model's code",
             "mlflow.source.git.commit": "git commit"}  # fmt: skip
    for tag, what in named.items():
        before, after = tags.get(tag, ""), now.get(tag, "")
        if before != after:
            yield f"{what}: {before[:12] or 'none'} then, {after[:12] or 'none'} now"
            if tag == "surefit.code" and (lacking := candidate.masked_files(tags)):
                yield f"the run's code/ is that of then {lacking}"
    if "true" in (tags.get("surefit.git.dirty"), now.get("surefit.git.dirty")):
        yield "git: uncommitted changes, then or now"
    kept = runs.read_text(found.store, found.record.run_id, "environment.txt") or ""
    yield from _versions(kept, environment.installed())


def _versions(before: str, after: str) -> Iterator[str]:
    then, now = _by_name(before), _by_name(after)
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"{name}: {then.get(name, 'absent')} then, {now.get(name, 'absent')} now"


def _by_name(text: str) -> dict[str, str]:
    pairs = (line.partition("==") for line in text.splitlines())
    return {name.lstrip("# "): version or "was" for name, _, version in pairs if name.strip()}


def _items(result: Reproduction) -> Iterator[Item]:
    yield Tag(key="surefit.verdict", value=result.verdict)
    for key, value in (("largest_difference", result.apart), ("seed_noise", result.noise),
                       (f"valid_{result.metric}", result.score)):  # fmt: skip
        if value is not None:
            yield Metric(key=key, value=value)


def _result(
    found: Again, verdict: Any, differs: Sequence[str], run_id: str, before: float,
    score: float | None, apart: float | None, noise: float | None,
) -> Reproduction:  # fmt: skip
    return Reproduction(
        verdict=verdict, run_id=run_id, subject=found.record.run_id, name=found.record.name,
        metric=found.chosen.problem.metric, before=before, score=score, apart=apart, noise=noise,
        differs=tuple(differs), next="surefit compare",
    )  # fmt: skip
