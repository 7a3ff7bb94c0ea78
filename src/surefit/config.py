"""The only reader of surefit.toml: file, arguments and overrides become one frozen `Config`."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from surefit import mistakes
from surefit.errors import ConfigError, InputError
from surefit.redaction import redacted
from surefit.sections import (
    CheckConfig,
    DataConfig,
    GateConfig,
    MetricConfig,
    ModelConfig,
    Section,
    SplitConfig,
    TrackingConfig,
    TuneConfig,
)

FILE = "surefit.toml"
REMEMBERED = Path(".surefit") / "project.toml"
NOWHERE = "<function>"  # stands for the data path and the target of a search that has neither
# Of `[tune]`, what a search of a user's own function has not.
_OF_MODELS = ("ensemble", "epochs", "families", "log_models", "rows", "space")
Overrides = Iterable[str] | Mapping[str, Any]


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
    path = config or file_in(root, replaced=data is not None and target is not None)
    layers = [(path.name, _read(path))] if path else []
    layers.append(("argument", _arguments(data, target)))
    layers.append(("--set", _parse_overrides(overrides)))
    tables: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _replace_twin(tables, layer)
        _merge(tables, layer)
        origins.update(dict.fromkeys(_flatten(layer), origin))
    return Project(config=validate(tables, file=path), root=root, origins=origins)


def of_function(name: str, *, config: Path | None = None, overrides: Overrides = ()) -> Project:
    """The project of a search of a function: what a file says of searches and of the store.

    Args:
        name: of the function; data and a target it has not.
        config: as in `resolve`.
        overrides: of the sections tune and tracking, and the name.

    Raises:
        ConfigError: with every mistake at once, or for settings that say nothing of a function.
    """
    foreign = [k for k in override_values(overrides) if not _of_functions(k)]
    if foreign:
        raise ConfigError(
            f"{', '.join(foreign)}: a search of a function of your own has no such setting.",
            'set={"tune.workers": 2, "tracking.uri": "sqlite:///mlflow.db"}',
        )
    root = (config.parent if config else Path.cwd()).resolve()
    path = config or file_in(root)
    said = {k: v for k, v in (_read(path) if path else {}).items() if k in ("tune", "tracking")}
    if isinstance(said.get("tune"), Mapping):
        said["tune"] = {k: v for k, v in said["tune"].items() if _of_functions(f"tune.{k}")}
    origins = dict.fromkeys(_flatten(said), path.name if path else "")
    tables = {"name": name_of(name), "data": {"path": NOWHERE, "target": NOWHERE}, **said}
    project = Project(config=validate(tables, file=path), root=root, origins=origins)
    return amend(project, overrides)


def _of_functions(key: str) -> bool:
    section, _, rest = key.partition(".")
    known = key == "name" or section in ("tune", "tracking")
    return known and rest.partition(".")[0] not in _OF_MODELS


def amend(
    project: Project, overrides: Overrides, *, space: Mapping[str, Any] | str | None = None
) -> Project:
    """The project with further overrides, as by flags of a command, and another search space.

    Raises:
        ConfigError: with every mistake at once.
    """
    tables = project.config.model_dump(mode="json", exclude_unset=True)
    layer = _parse_overrides(overrides)
    _replace_twin(tables, layer)
    _merge(tables, layer)
    if space is not None:
        whole = space if isinstance(space, str) else dict(space)
        tables.setdefault("tune", {})["space"] = whole
        _merge(layer, {"tune": {"space": whole}})
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


def file_in(root: Path, *, replaced: bool = False) -> Path | None:
    """The file that is read without being named; what was remembered only where not `replaced`."""
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


def _replace_twin(tables: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Folds that a layer asks for stand in the place of an earlier one's `valid`, and so back."""
    asked, before = layer.get("split"), tables.get("split")
    if isinstance(asked, Mapping) and isinstance(before, dict):
        for key, other in (("folds", "valid"), ("valid", "folds")):
            if key in asked and other not in asked:
                before.pop(other, None)


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
