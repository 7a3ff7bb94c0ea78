"""The only reader of surefit.toml: typed, frozen sections; every mistake is reported at once."""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from surefit import mistakes
from surefit.errors import ConfigError, InputError
from surefit.redaction import redacted

FILE = "surefit.toml"
REMEMBERED = Path(".surefit") / "project.toml"
Kind = Literal["number", "category", "text", "date", "day-first date"]
Overrides = Iterable[str] | Mapping[str, Any]
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


class Config(Section):
    """A whole project, resolved.

    Raises:
        ConfigError: on reading, with every mistake of the file in one message.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    data: DataConfig
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    metric: MetricConfig = MetricConfig()
    tune: TuneConfig = TuneConfig()
    gate: GateConfig = GateConfig()
    check: CheckConfig = CheckConfig()
    tracking: TrackingConfig = TrackingConfig()

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """The configuration that a TOML file holds.

        Raises:
            ConfigError: with every mistake at once.
        """
        return resolve(config=Path(path)).config

    def flat(self) -> dict[str, Any]:
        """Dotted keys and values, e.g. {"split.test": 0.2}; absent optional keys are left out."""
        return _flatten(self._recorded(exclude_none=True))

    def _recorded(self, **how: Any) -> dict[str, Any]:
        """The sections as plain values, passwords and keys in addresses left out."""
        tables = self.model_dump(mode="json", **how)
        for section, key in (("data", "path"), ("split", "test_path")):
            if isinstance(tables.get(section, {}).get(key), str):
                tables[section][key] = redacted(tables[section][key])
        return tables

    def to_toml(self) -> str:
        """The configuration as TOML that reads back to an equal one."""
        import tomlkit

        tables = self._recorded(exclude_none=True)
        if self.split.valid is not None:
            tables["split"].pop("folds", None)
        return tomlkit.dumps({"name": self.name, **tables})

    def changed(self) -> dict[str, dict[str, Any]]:
        """Each section's keys that are not at their defaults."""
        return self._recorded(exclude={"name"}, exclude_none=True, exclude_defaults=True)

    def digest(self, *sections: str) -> str:
        """SHA-256 (hex) of the named sections, or of all that decides a model's numbers."""
        chosen = sections or ("data", "split", "model", "metric")
        values = self._recorded(include=set(chosen))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Project:
    """A configuration, the folder its paths are relative to, and where each key came from."""

    config: Config
    root: Path
    origins: Mapping[str, str]


def seconds(text: str) -> float:
    """Seconds in a duration such as "90s", "10m", "1.5h" or "45".

    Raises:
        ValueError: when the text is no positive duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if not match or float(match[1]) <= 0:
        raise ValueError(f'"{text}" is no duration; write for example "90s", "10m" or "2h"')
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def resolve(
    *,
    config: Path | None = None,
    data: str | None = None,
    target: str | None = None,
    overrides: Overrides = (),
    root: Path | None = None,
) -> Project:
    """The project for a command: the file, then the arguments, then `--set` overrides.

    Args:
        config: a TOML file; by default `surefit.toml` in `root`, or, when that is missing, what
            the last `surefit train FILE --target COLUMN` in this folder used.
        data, target: the table and its target column; they replace what the file says.
        overrides: texts `dotted.key=value`, the value in TOML (`0.05`, `[1, 2]`, `true`) or text;
            or a mapping of dotted keys to values, of which None leaves the key as it is.
        root: the project's folder; by default the file's folder, else the current one.

    Raises:
        ConfigError: with every mistake at once.
    """
    root = (root or (config.parent if config else Path.cwd())).resolve()
    path = config or _file_in(root, replaced=data is not None and target is not None)
    layers = [(path.name, _read(path))] if path else []
    layers.append(("argument", _arguments(data, target)))
    layers.append(("--set", _parse_overrides(overrides)))
    tables: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _merge(tables, layer)
        origins.update(dict.fromkeys(_flatten(layer), origin))
    return Project(config=validate(tables, file=path), root=root, origins=origins)


def amend(
    project: Project, overrides: Overrides, *, space: Mapping[str, Any] | str | None = None
) -> Project:
    """The project with further overrides, as by flags of a command, and another search space.

    Raises:
        ConfigError: with every mistake at once.
    """
    tables = project.config.model_dump(mode="json", exclude_unset=True)
    layer = _parse_overrides(overrides)
    _merge(tables, layer)
    if space is not None:
        whole = space if isinstance(space, str) else dict(space)
        tables.setdefault("tune", {})["space"] = whole
    origins = {**project.origins, **dict.fromkeys(_flatten(layer), "argument")}
    return Project(config=validate(tables), root=project.root, origins=origins)


def validate(tables: Mapping[str, Any], *, file: Path | None = None) -> Config:
    """A typed configuration from TOML tables, which `file` holds for the most part.

    Raises:
        ConfigError: with every mistake at once.
    """
    data = tables.get("data")
    if "name" not in tables and isinstance(data, Mapping) and isinstance(data.get("path"), str):
        tables = {"name": name_of(data["path"]), **tables}
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        found = mistakes.listed([dict(e) for e in error.errors(include_url=False)], tables, Config)
        if file is None and not (isinstance(data, Mapping) and {"path", "target"} & set(data)):
            raise ConfigError(
                "No data set is named here, and there is no surefit.toml in this folder.",
                "surefit train FILE --target COLUMN",
            ) from None
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        lines = "\n".join(f"  - {m}" for m in found)
        untold = isinstance(data, Mapping) and "target" not in data
        fix = "--target COLUMN says which column is to be predicted" if untold else None
        raise ConfigError(f"The configuration has {count}:\n{lines}", fix) from None


def name_of(path: str) -> str:
    """A project name made from a data path, e.g. "data/churn 2.csv" → "churn-2"."""
    path = re.split(r"[?#]", path)[0] if "://" in path else path
    stem = re.split(r"[:/\\]", path.rstrip("/"))[-1].split(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "project"


def _file_in(root: Path, *, replaced: bool) -> Path | None:
    if (root / FILE).is_file():
        return root / FILE
    remembered = root / REMEMBERED
    return remembered if remembered.is_file() and not replaced else None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}.", "surefit init writes one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise mistakes.not_toml(path, text, str(error)) from None


def _arguments(data: str | None, target: str | None) -> dict[str, Any]:
    given = {key: value for key, value in (("path", data), ("target", target)) if value is not None}
    return {"data": given} if given else {}


def _parse_overrides(overrides: Overrides) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for key, value in override_values(overrides).items():
        if value is None:
            continue
        for part in reversed(key.split(".")):
            value = {part: value}
        _merge(tables, value)
    return tables


def override_values(overrides: Overrides) -> dict[str, Any]:
    """Overrides as dotted keys and values, however they were given.

    Raises:
        ConfigError: for texts that are not `key=value`.
    """
    if isinstance(overrides, Mapping):
        return {key: _as_toml(value) for key, value in overrides.items()}
    texts = [overrides] if isinstance(overrides, str) else list(overrides)
    wrong = [text for text in texts if not re.match(r"[^=\s]+=", text)]
    if wrong:
        raise ConfigError(
            f"--set takes key=value; got {', '.join(map(repr, wrong))}.",
            "--set model.params.learning_rate=0.05",
        )
    values: dict[str, Any] = {}
    for key, _, raw in (text.partition("=") for text in texts):
        try:
            values[key] = tomllib.loads(f"v = {raw}")["v"]
        except tomllib.TOMLDecodeError:
            values[key] = raw
    return values


def _as_toml(value: Any) -> Any:
    """A value of Python or NumPy as TOML would have given it."""
    if isinstance(value, Mapping):
        return {str(k): _as_toml(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_as_toml(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def remember(project: Project) -> None:
    """Keep data, split and store for the next commands here, where no surefit.toml names them.

    Raises:
        InputError: when the folder cannot be written.
    """
    if (project.root / FILE).exists():
        return
    path = project.root / REMEMBERED
    try:
        path.parent.mkdir(exist_ok=True)
        lasting = {"model": ModelConfig(), "tune": TuneConfig()}
        path.touch(mode=0o600)  # the store's address may hold a password
        path.write_text(project.config.model_copy(update=lasting).to_toml(), "utf-8")
        (path.parent / ".gitignore").write_text("*\n", "utf-8")
    except OSError as error:
        raise InputError(f"{path.parent} cannot be written: {error.strerror}.") from None
