"""The sections of surefit.toml: what each key may be, typed and frozen; reading is config.py's."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Kind = Literal["number", "category", "text", "date", "day-first date"]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A part of the configuration; frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataConfig(Section):
    """Where the rows come from and what their columns mean."""

    path: str = Field(min_length=1)
    target: str = Field(min_length=1)
    id: str | None = None
    group: str | None = None
    time: str | None = None
    weight: str | None = None
    drop: list[str] = []
    types: dict[str, Kind] = {}
    task: Literal["auto", "classification", "regression"] = "auto"
    positive: str | int | float | bool | None = None
    query: str | None = None
    format: Literal["csv", "parquet", "feather", "jsonl"] | None = None
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None
    missing: list[str] | None = None

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codecs.lookup(value)
            except (LookupError, ValueError):
                raise ValueError('no such encoding; for example "utf-8", "cp1252"') from None
        return value

    @model_validator(mode="after")
    def _separate(self) -> DataConfig:
        if self.separator is not None and self.separator == self.decimal:
            raise ValueError("separator and decimal must differ")
        return self


class SplitConfig(Section):
    """How rows are divided into test rows and folds."""

    test: Share = 0.2
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    valid: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    column: str | None = None
    test_path: str | None = None
    gap: str | Annotated[float, Field(ge=0.0)] | None = None
    horizon: str | Annotated[float, Field(gt=0.0)] | None = None

    @field_validator("gap", "horizon")
    @classmethod
    def _span(cls, value: str | float | None) -> str | float | None:
        if isinstance(value, str):
            seconds(value)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> SplitConfig:
        if self.column is not None and self.test_path is not None:
            raise ValueError("give column or test_path, not both")
        if self.valid is not None and "folds" in self.model_fields_set:
            raise ValueError("give folds or valid, not both")
        if self.valid is not None and self.valid + self.test >= 1:
            raise ValueError("test + valid must be below 1: some rows must be left to train on")
        return self


class ModelConfig(Section):
    """Which family, or function of the user's, is fitted, with which hyperparameters."""

    family: str = "lightgbm"
    build: str | None = None
    train: str | None = None
    labels: Literal["as_given", "codes"] = "as_given"
    params: dict[str, Any] = {}
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _one_model(self) -> ModelConfig:
        given = [k for k in ("build", "train") if getattr(self, k) is not None]
        if len(given) == 2:
            raise ValueError("give build or train, not both")
        for key in given:
            if not re.fullmatch(r"[^:]+\.py:[A-Za-z_]\w*", getattr(self, key)):
                raise ValueError(f'{key} names a file and a function, as "model.py:{key}"')
        return self

    @property
    def own(self) -> str | None:
        """The user's function, as "model.py:build"; None where a built-in family is fitted."""
        return self.build or self.train

    @property
    def together(self) -> bool:
        """Whether a search goes over several families."""
        return self.family == "auto" and self.own is None

    @property
    def label(self) -> str:
        """What runs are recorded under: the family, or the user's function."""
        return self.own or self.family


class MetricConfig(Section):
    """The metric that decides, and what else `evaluate` reports."""

    optimize: str = "auto"
    also: list[str] = []
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | str | None = None
    cost: dict[str, dict[str, float]] = {}
    calibrate: Literal["isotonic", "platt"] | None = None


# Never of the machine, whose cores must not change a search. RMSE on held-out rows after a minute
# over families on two cores, windows 8, 4, 3, 2 at five folds: california_housing .450 .450 .450
# .443 (15, 16, 20, 22 trials), house_prices 33.3 33.3 31.4 31.4 thousand (14, 14, 21, 23).
JOBS_IN_FLIGHT = 8


class TuneConfig(Section):
    """How hyperparameters are searched."""

    method: str = "tpe"
    trials: Annotated[int, Field(ge=1)] = 50
    budget: str | None = None
    workers: (
        Annotated[int, Field(ge=1)]
        | Literal["auto", "ray"]
        | Annotated[str, Field(pattern=r"^ray://[^\s/]+$")]
    ) = "auto"
    window: Annotated[int, Field(ge=1)] | None = None
    race: bool = True
    deadline: Annotated[float, Field(gt=0)] | None = None
    memory_mb: Annotated[int, Field(gt=0)] | None = None
    target: float | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    rows: Annotated[int, Field(ge=10)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    log_models: Literal["best", "all"] = "best"
    ensemble: bool = False
    families: list[str] = []
    space: dict[str, Any] | str = {}

    def trials_in_flight(self, n_folds: int) -> int:
        """The window: as given, or as few trials as have `JOBS_IN_FLIGHT` folds, two at least."""
        return self.window or max(2, -(-JOBS_IN_FLIGHT // n_folds))

    @field_validator("space")
    @classmethod
    def _names_a_function(cls, value: dict[str, Any] | str) -> dict[str, Any] | str:
        if isinstance(value, str) and not re.fullmatch(r".+\.py:\w+", value):
            raise ValueError('a table, or a file and a function of a trial, as "model.py:space"')
        return value

    @field_validator("budget")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            seconds(value)
        return value


JudgedBy = Literal["interval", "point"]


class Floor(Section):
    """A floor, for a loss a ceiling, with its own way of being judged."""

    value: float
    by: JudgedBy


def _floor(given: Any) -> float | Floor:
    """A number, or a table of `value` and `by`; else the mistake, with a line that works."""
    table = {"value": given} if not isinstance(given, Mapping | Floor) else dict(given)
    value, by = table.pop("value", None), table.pop("by", None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        value = math.nan
    if table or math.isnan(value) or by not in (None, *get_args(JudgedBy)):
        right = f"{0.8 if math.isnan(value) else value:g}"
        raise ValueError(f'write {right}, or {{ value = {right}, by = "point" }} (or "interval")')
    return Floor(value=float(value), by=by) if by else float(value)


class GateConfig(Section):
    """What a model must show before it is promoted."""

    floors: dict[str, Annotated[float | Floor, BeforeValidator(_floor)]] = {}
    floors_by: JudgedBy = "interval"
    against: Literal["better", "not_worse"] = "better"
    margin: Annotated[float, Field(ge=0.0)] = 0.0
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    reuse: Literal["spend", "ignore"] = "spend"
    slices: list[str] = []
    slice_margin: Annotated[float, Field(ge=0.0)] = 0.0
    calibration: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    latency_ms: Annotated[float, Field(gt=0.0)] | None = None
    size_mb: Annotated[float, Field(gt=0.0)] | None = None
    check: Literal["run", "require", "skip"] = "run"
    stages: bool = False

    def limits(self) -> dict[str, Floor]:
        """Each floor with the way it is judged: its own, else `floors_by`."""
        return {
            name: limit if isinstance(limit, Floor) else Floor(value=limit, by=self.floors_by)
            for name, limit in self.floors.items()
        }


class CheckConfig(Section):
    """Findings of `surefit check` that were looked at and are accepted, each with its reason."""

    waive: dict[str, Annotated[str, Field(min_length=1)]] = {}


class TrackingConfig(Section):
    """The MLflow store."""

    uri: str = "sqlite:///mlflow.db"


def seconds(text: str) -> float:
    """Seconds in a duration such as "90s", "10m", "1.5h" or "45".

    Raises:
        ValueError: when the text is no positive duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if not match or float(match[1]) <= 0:
        raise ValueError(f'"{text}" is no duration; write for example "90s", "10m" or "2h"')
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
