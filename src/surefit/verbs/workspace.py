"""What every verb starts from: the configuration, the data, its split and the store."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit import config as configuration
from surefit import models
from surefit.config import Config, Project
from surefit.core import data as tables
from surefit.core import dependence, gate, metrics, predictions
from surefit.core import split as splits
from surefit.core.data import Dataset
from surefit.core.split import Frozen, Split
from surefit.edges import environment, frames, runs, sources
from surefit.edges import splits as saved
from surefit.edges import store as stores
from surefit.edges.runs import Run
from surefit.edges.store import Store
from surefit.errors import ConfigError, DataError, InputError, did_you_mean
from surefit.items import Item, Param, Table, Tag, Text
from surefit.models import logs
from surefit.models.family import LOG_TARGET, LOSS
from surefit.redaction import redacted
from surefit.verbs.reporter import Reporter

ABSOLUTE = ("mae", "median_absolute_error", "mape")  # scores that the absolute error is fitted for
TABLES = 5  # of a project have their split saved by themselves, those last seen for the first time
CHECKED = "surefit.checked"  # the digest of all that the findings of a check depend on
Data = Any  # a path, or a pandas, Polars or Arrow table, or None
Overrides = configuration.Overrides


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A project with its rows loaded and divided."""

    project: Project
    data: Dataset = field(repr=False)
    split: Split = field(repr=False)
    metric: str

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return self.project.config

    @property
    def try_log(self) -> bool:
        """Whether a target's logarithm is worth a try: it has a long tail, and nobody chose yet."""
        if self.data.task != "regression" or LOG_TARGET in self.config.model.params:
            return False
        return logs.long_tail(self.data.y[self.split.train_rows])

    @property
    def try_absolute(self) -> bool:
        """Whether the absolute error is worth fitting: it is what is scored, and nobody chose."""
        return self.metric in ABSOLUTE and LOSS not in self.config.model.params

    @property
    def looked_at(self) -> str:
        """The digest of what a check looks at: the rows, their division, target and features."""
        features = [(c.name, c.kind) for c in self.data.columns]
        seen = [self.data.digest, self.split.digest, self.data.task, self.data.target, features]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def tags(self) -> dict[str, str]:
        """The tags by which runs on the same rows are found."""
        return {
            "surefit.data": self.data.digest,
            "surefit.data.unordered": self.data.unordered,
            "surefit.split": self.split.digest,
            CHECKED: self.looked_at,
            "surefit.config": self.config.digest(),
            "surefit.task": self.data.task,
            "surefit.metric": self.metric,
        }


def project(
    *, data: Data, target: str | None, config: str | Path | None, overrides: Overrides
) -> Project:
    """The project that the arguments of a verb name; a frame stands for `data.path`.

    Raises:
        ConfigError: with every mistake at once.
    """
    path = "<DataFrame>" if frames.is_table(data) else data
    if isinstance(config, Mapping):
        raise ConfigError(
            "config names a file.", "set={...} takes settings: set={'split.folds': 3}"
        )
    return configuration.resolve(
        config=Path(config) if config else None,
        data=str(path) if path is not None else None,
        target=target,
        overrides=overrides,
    )


def load(found: Project, *, frame: pd.DataFrame | None, reporter: Reporter) -> Workspace:
    """Load, look at and divide the rows, saying what was inferred.

    Raises:
        InputError: when the table, the split or the metric cannot be used.
    """
    config = found.config
    if frame is None and config.data.path == "<DataFrame>":
        raise InputError(
            "This project was last used with a DataFrame, which is not at hand.",
            "pass the frame again, or name a file in surefit.toml",
        )
    loaded = sources.Loaded(frame=frame) if frame is not None else _read(found)
    data = _prepared(found, loaded)
    split, how = _divided(found, data)
    chosen = config.metric.optimize
    metric = metrics.default(data.task).name if chosen == "auto" else chosen
    metrics.find(metric, data.task)
    reporter.say(f"Data:  {data.describe()}")
    for note in data.notes:
        override = f"   [{note.override}]" if note.override else ""
        reporter.say(f"       {note.text}{override}")
    work = Workspace(project=found, data=data, split=split, metric=metric)
    if not (config.model.own or config.model.together):
        if work.try_log:
            reporter.say(f"       {data.target} has a long tail: its logarithm may be easier to "
                         f"learn   [model.params.{LOG_TARGET} = true]")  # fmt: skip
        if work.try_absolute and models.named(config.model.family).losses:
            reporter.say(f"       {metric} is scored: the absolute error may be the better loss"
                         f'   [model.params.{LOSS} = "absolute_error"]')  # fmt: skip
    reporter.say(f"Split: {split.describe()}{how}")
    if config.split.test and (doubt := _few_to_test(data, split)):
        reporter.say(f"       {doubt}")
    return work


def _few_to_test(data: Dataset, split: Split) -> str:
    """That whole groups left too few among the test rows to judge a model by, or ""."""
    sealed = split.test_rows
    if not len(sealed):
        if data.part is not None:  # the user's own split, which has none
            return ""
        what = "row" if data.groups is None else "group"
        return f"no {what} fell among the test rows: another split.seed, or split.test = 0"
    units = dependence.units(data, split, sealed)
    few = gate.too_few(units, len(sealed), dependence.named(data))
    return f"{few}; split.test = 0 trains on all" if few else ""


def _read(found: Project) -> sources.Loaded:
    return sources.read(found.config.data, found.root)


def _prepared(found: Project, loaded: sources.Loaded) -> Dataset:
    config, table, part = found.config, loaded.frame, None
    column = config.split.column
    no_features: tuple[str, ...] = ()
    if config.split.test_path is not None:
        table, part = _with_test(found, table)
    elif column is not None:
        if column not in table.columns:
            advice = did_you_mean(column, map(str, table.columns))
            raise DataError(f'The table has no column split.column = "{column}"; {advice}')
        part = splits.read_parts(table[column].tolist(), column)
        no_features = (column,)
    told = config.data.model_copy(update={"decimal": config.data.decimal or loaded.decimal})
    data = tables.prepare(table, told, part=part, no_features=no_features)
    return replace(data, notes=(*loaded.notes, *data.notes))


def _with_test(found: Project, table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The table, the given test file's rows below it, and which rows are which."""
    path = str(found.config.split.test_path)
    test = sources.read(found.config.data, found.root, path=path).frame
    lost = [str(c) for c in table.columns if c not in set(test.columns)]
    if lost:
        raise DataError(
            f"split.test_path = {redacted(path)} lacks the columns {', '.join(lost[:5])}.",
            "test rows are scored against their targets: the file needs all columns",
        )
    for name in table.columns:
        here, there = (_holds(t[name]) for t in (table, test))
        if here != there and "nothing" not in (here, there):
            raise DataError(
                f'split.test_path = {redacted(path)}: "{name}" holds {there}, {here} in the '
                "training rows.",
                "write it the same way in both files",
            )
    part = np.repeat(np.asarray(["train", "test"], dtype=object), [len(table), len(test)])
    return pd.concat([table, test[list(table.columns)]], ignore_index=True), part


def _holds(values: pd.Series) -> str:
    if values.isna().all():
        return "nothing"
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.infer_dtype(values) == "boolean":
        return "numbers"
    return "dates" if pd.api.types.is_datetime64_any_dtype(values) else "texts"


def _divided(found: Project, data: Dataset) -> tuple[Split, str]:
    """The split, by what an earlier run decided for these rows; and whether it did, in words."""
    config = found.config
    what = [config.name, data.target, config.data.id, config.data.group, config.data.time,
            config.split.model_dump(mode="json")]  # fmt: skip
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    # of this very table, which a part of it or a later one must not make forgotten; and the last
    places = {p: saved.load(found.root, p) for p in (f"{key}-{data.unordered[:16]}", key)}
    kept = next((arrays for arrays in places.values() if arrays is not None), None)
    frozen = None
    if kept is not None:
        cuts = kept["cuts"] if len(kept["cuts"]) else None
        # one that was saved before rows were counted divides nothing that it kept together
        count = kept.get("count", np.full(len(kept["unit"]), data.n_rows))
        frozen = Frozen(unit=kept["unit"], block=kept["block"], count=count, cuts=cuts)
    split = splits.make(data, config.split, frozen)
    now = Frozen.of(split)
    arrays = {"unit": now.unit, "block": now.block, "count": now.count,
              "cuts": now.cuts if now.cuts is not None else np.zeros(0)}  # fmt: skip
    if found.root.is_dir():
        for place, old in places.items():
            same = old and all(k in old and np.array_equal(old[k], v) for k, v in arrays.items())
            if not same:
                saved.save(found.root, place, arrays)
        saved.forget_older(found.root, f"{key}-", keep=TABLES)
    if split.kept:
        return split, " (saved earlier)"
    return split, " (divided anew: the one saved earlier is of other rows)" if kept else ""


def open_store(found: Project) -> Store:
    """The project's MLflow store and experiment; runs whose process died are closed."""
    store = stores.connect(found.config.tracking.uri, found.root, found.config.name)
    runs.close_the_dead(store)
    return store


def frame_of(data: Data) -> pd.DataFrame | None:
    """The frame a caller gave, or None where they gave a path or nothing."""
    return frames.to_pandas(data) if frames.is_table(data) else None


def setup_items(work: Workspace) -> Iterator[Item]:
    """What every run of the project records of its configuration, data, split and surroundings."""
    for key, value in work.config.flat().items():
        if not key.startswith(("tune.", "model.", "tracking.", "gate.")):
            yield Param(key=key, value=value)
    yield Text(path="config.toml", text=work.config.to_toml())
    yield Text(path="environment.txt", text=environment.installed())
    origins = {k: work.project.origins.get(k, "default") for k in work.config.flat()}
    notes = [{"text": n.text, "override": n.override} for n in work.data.notes]
    about = {"data": work.data.describe(), "split": work.split.describe(), "inferred": notes,
             "row_id": work.data.named, "origins": origins}  # fmt: skip
    yield Text(path="about.json", text=json.dumps(about, indent=1, ensure_ascii=False))
    yield Table(path="split.parquet", frame=_split_table(work))
    for key, value in environment.git_tags(work.project.root).items():
        yield Tag(key=key, value=value)


def _split_table(work: Workspace) -> pd.DataFrame:
    return pd.DataFrame({
        "row_id": predictions.stored_ids(work.data.row_id), "block": work.split.block,
        "row_key": work.data.row_key, "unit": work.split.unit,
    })  # fmt: skip


def log_dataset(run: Run, work: Workspace) -> None:
    """The run's data set, in MLflow's own terms."""
    columns = [{"name": c.name, "type": c.dtype, "required": True} for c in work.data.columns]
    profile = {"num_rows": work.data.n_rows, "num_features": len(columns), "task": work.data.task}
    runs.log_dataset(
        run, name=work.config.name, digest=work.data.digest, source=redacted(work.config.data.path),
        schema=json.dumps({"mlflow_colspec": columns}), profile=json.dumps(profile),
    )  # fmt: skip


def check_alias(alias: str) -> None:
    """Refuse what MLflow refuses as an alias, or resolves otherwise.

    Raises:
        ConfigError: with a name that works.
    """
    if not re.fullmatch(r"[\w-]{1,255}", alias):
        why = "letters, digits, - and _, at most 255"
    elif alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        why = "it names a version by itself"
    else:
        return
    raise ConfigError(f'"{alias[:80]}" is no alias that MLflow takes: {why}.', "--to production")
