"""MLflow's model registry: versions, aliases and stages of the project's registered model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefit.edges import lock, runs
from surefit.edges.runs import RunRecord
from surefit.edges.store import Store, first_line
from surefit.errors import InputError, IntegrityError, ServiceError

MANIFEST = "surefit.manifest"  # the digest of a model's files: of its run, and of its version
STAGES = {"staging": "Staging", "production": "Production"}


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version, and the run and logged model that it is of ("": not known)."""

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]
    model_id: str = ""
    aliases: tuple[str, ...] = ()

    def uri(self, alias: str | None = None) -> str:
        """`models:/NAME@ALIAS`, or `models:/NAME/VERSION`."""
        return f"models:/{self.name}@{alias}" if alias else f"models:/{self.name}/{self.version}"

    def holds(self, record: RunRecord) -> bool:
        """Whether it is the run's model as it is now: a search that goes on gets another one.

        A version that was registered by hand has no manifest of its own.
        """
        if self.run_id != record.run_id:
            return False
        if MANIFEST in self.tags:
            return self.tags[MANIFEST] == record.tags.get(MANIFEST, "")
        return bool(self.model_id) and self.model_id == record.tags.get("surefit.model")


def register(store: Store, record: RunRecord, *, description: str = "") -> Version:
    """The registered version of a run's model; registered now if it is not, never twice.

    Raises:
        InputError: when the run logged no model.
    """
    model_id = record.tags.get("surefit.model")
    if not model_id:
        raise InputError(
            f'Run {record.run_id[:8]} "{record.name}" has no model to register.',
            "name a run of kind train or tune; surefit compare lists them",
        )
    with lock.held(store, "register"):
        for found in reversed(versions(store)):  # the first, should a lost reply have made two
            if found.holds(record):
                return found
        _ensure_model(store)
        return _create(store, record, model_id, description)


def _create(store: Store, record: RunRecord, model_id: str, description: str) -> Version:
    source = store.client.get_logged_model(model_id).artifact_location
    if not store.uri.startswith("sqlite:"):
        source = (
            f"models:/{model_id}"  # a server knows its models; the embedded store asks a global
        )
    created = store.client.create_model_version(
        store.experiment, source, run_id=record.run_id, model_id=model_id, description=description,
        await_creation_for=None,  # it is ready at once; waiting prints a line of MLflow's
        tags={
            "surefit.run": record.run_id,
            MANIFEST: record.tags.get(MANIFEST, ""),
            "surefit.family": record.tags.get("surefit.family")
            or record.params.get("model.family", ""),
        },
    )  # fmt: skip
    return _version(created)


def _ensure_model(store: Store) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.client.get_registered_model(store.experiment)
    except MlflowException:
        try:
            store.client.create_registered_model(store.experiment)
        except MlflowException:  # another process was quicker, or a lost reply was asked again
            store.client.get_registered_model(store.experiment)


def versions(store: Store) -> list[Version]:
    """All versions of the project's model, newest first; [] when it has none."""
    found = store.client.search_model_versions(f"name = '{store.experiment}'", max_results=10_000)
    ordered = sorted(found, key=lambda v: int(v.version), reverse=True)
    return [_version(v) for v in ordered]


def manifest(store: Store, version: Version) -> str:
    """The digest of a version's files, as it was registered with; "" where nobody knows it.

    A version that was registered by hand has that of its run.
    """
    if MANIFEST in version.tags or not version.run_id:
        return version.tags.get(MANIFEST, "")
    try:
        record = runs.find(store, version.run_id)
    except InputError:  # the model outlives its run
        return ""
    return record.tags.get(MANIFEST, "") if version.holds(record) else ""


def by_alias(store: Store, alias: str) -> Version | None:
    """The version an alias names, or None where MLflow says that there is none.

    Raises:
        ServiceError: when anything else is answered, by MLflow or by what is before it.
    """
    from mlflow.exceptions import MlflowException

    try:
        return _version(store.client.get_model_version_by_alias(store.experiment, alias))
    except (MlflowException, ServiceError) as error:
        if _is_absent(store, error, f"Registered model alias {alias} not found"):
            return None
        if isinstance(error, ServiceError):
            raise
        raise ServiceError(
            f'The alias "{alias}" cannot be looked up: {first_line(error)}'
        ) from error


def _is_absent(store: Store, error: Exception, told: str) -> bool:
    """Whether MLflow itself says that something is not there; of an alias, in the words `told`.

    MLflow's client reads any page with the status 404 so; its server's answers are JSON.
    """
    cause = error.__cause__ if isinstance(error, ServiceError) else error
    code = getattr(cause, "error_code", "")
    if store.uri.startswith("http"):
        code = getattr(cause, "json", {}).get("error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (
        code == "INVALID_PARAMETER_VALUE" and told in str(cause)
    )


def move(store: Store, alias: str, version: Version, *, stages: bool) -> None:
    """Point an alias at a version; with `stages`, MLflow's stage of that name too."""
    store.client.set_registered_model_alias(store.experiment, alias, version.version)
    if stages and alias in STAGES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            store.client.transition_model_version_stage(
                store.experiment, version.version, STAGES[alias], archive_existing_versions=True
            )


def remove(store: Store, alias: str) -> None:
    """Take an alias away."""
    store.client.delete_registered_model_alias(store.experiment, alias)


def aliases(store: Store) -> dict[str, str]:
    """The model's aliases and the versions they name; {} when it has none."""
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_registered_model(store.experiment).aliases
    except MlflowException:
        return {}
    return {str(alias): str(version) for alias, version in dict(found or {}).items()}


def numbered(store: Store, version: str) -> Version | None:
    """The version of that number, or None."""
    return next((v for v in versions(store) if v.version == version), None)


def tag(store: Store, version: Version, tags: Mapping[str, str]) -> None:
    """Write tags on a version."""
    for key, value in tags.items():
        store.client.set_model_version_tag(store.experiment, version.version, key, value)


def resolve(store: Store, uri: str) -> Version:
    """The version that `models:/NAME/3`, `models:/NAME@alias` or `models:/NAME/Stage` names.

    Raises:
        InputError: when there is none.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@(.+)|/(.+))", uri)
    if match is None:
        raise InputError(f"{uri} names no version.", "models:/NAME/3 or models:/NAME@production")
    name, alias, place = match.groups()
    if name != store.experiment:
        raise InputError(
            f"{uri} is no version of this project's model, models:/{store.experiment}."
        )
    if alias:
        found = by_alias(store, alias)
    elif place.isdigit():
        found = next((v for v in versions(store) if v.version == place), None)
    else:
        found = _in_stage(store, STAGES.get(place.lower(), place))
    if found is None:
        raise InputError(f"There is no {uri}.", "surefit promote best")
    return found


def _in_stage(store: Store, stage: str) -> Version | None:
    found = store.client.search_model_versions(f"name = '{store.experiment}'")
    return next((_version(v) for v in found if v.current_stage == stage), None)


def download(store: Store, version: Version, folder: Path) -> Path:
    """The version's files, copied into a private folder."""
    source = store.client.get_model_version_download_uri(version.name, version.version)
    logged = re.fullmatch(r"models:/(m-[0-9a-f]+)", source)
    if logged:  # MLflow would look for it in the global store
        source = store.client.get_logged_model(logged[1]).artifact_location
    return _fetched(store, source, folder, version.uri())


def download_logged(store: Store, model_id: str, folder: Path) -> Path:
    """The files of a model that a run logged, registered or not, in a private folder."""
    source = store.client.get_logged_model(model_id).artifact_location
    return _fetched(store, source, folder, f"models:/{model_id}")


def _fetched(store: Store, source: str, folder: Path, what: str) -> Path:
    from mlflow.artifacts import download_artifacts

    target = folder / "model"
    target.mkdir()
    try:
        return Path(
            download_artifacts(artifact_uri=source, dst_path=str(target), tracking_uri=store.uri)
        )
    except Exception as error:
        raise IntegrityError(f"The files of {what} cannot be had: {error}") from error


def _model_in(source: str) -> str:
    """The logged model that a version's source names; MLflow's SQL store keeps that alone."""
    named = re.search(r"\bm-[0-9a-f]{32}\b", source)
    return named[0] if named else ""


def _version(found: Any) -> Version:
    return Version(
        name=found.name, version=str(found.version), run_id=found.run_id or "",
        tags=dict(found.tags or {}), aliases=tuple(found.aliases or ()),
        model_id=found.model_id or _model_in(found.source or ""),
    )  # fmt: skip
