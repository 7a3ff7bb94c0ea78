"""Opening an MLflow store: the embedded one is made once, under a lock."""

from __future__ import annotations

import base64
import contextlib
import importlib
import logging
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surefit.errors import InputError, ServiceError

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open MLflow store and the project's experiment in it."""

    client: Any = field(repr=False)
    uri: str
    experiment: str
    experiment_id: str


def preload(uri: str) -> None:
    """Import what `connect` will need of MLflow: one to two seconds, in any thread."""
    _quiet_environment()  # some of it is read as MLflow is imported
    with contextlib.suppress(Exception):  # which `connect` will meet, and tell
        importlib.import_module("mlflow")
        if not uri.startswith("http"):
            importlib.import_module("mlflow.store.tracking.sqlalchemy_store")


def connect(uri: str, root: Path, experiment: str) -> Store:
    """Open the store, making it and the experiment on first use.

    An embedded SQLite store is created once under a file lock (MLflow creates its tables without
    one), gets WAL, and keeps its artifacts in `mlruns` beside it.

    Raises:
        ServiceError: when the store does not answer.
        InputError: when the uri is of a kind that MLflow no longer has, or the experiment is
            deleted.
    """
    uri, artifacts = _resolve(uri, root)
    _quiet_environment()
    if artifacts is not None:
        _create_once(uri, artifacts)
    else:
        _answers(uri)
    client = _client(uri)
    experiment_id = _experiment(client, experiment, artifacts)
    return Store(client=client, uri=uri, experiment=experiment, experiment_id=experiment_id)


def _client(uri: str) -> _Client:
    from mlflow import MlflowClient

    try:
        return _Client(MlflowClient(uri, registry_uri=uri), uri)
    except Exception as error:  # SQLAlchemy's come as they are: no database, or a newer MLflow's
        raise ServiceError(
            f"The store {uri} cannot be opened: {first_line(error)}",
            "move the file away to start a new store, or name another in tracking.uri",
        ) from error


def _resolve(uri: str, root: Path) -> tuple[str, Path | None]:
    """The absolute uri, and the artifacts' folder where the store is embedded."""
    if uri.startswith("sqlite:///"):
        file = (root / uri.removeprefix("sqlite:///")).resolve()
        return f"sqlite:///{file}", file.parent / "mlruns"
    if re.match(r"(https?|postgresql|mysql|mssql)(\+\w+)?://", uri):
        return uri, None
    raise InputError(
        f'tracking.uri = "{uri}" is no store that MLflow 3 writes to.',
        'tracking.uri = "sqlite:///mlflow.db", or the http:// address of a server',
    )


def _quiet_environment() -> None:
    """Defaults for this process, where the user has set none: no bars, no endless retries."""
    defaults = {
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is the result's
        "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    }
    for key, value in defaults.items():
        os.environ.setdefault(key, value)


def _create_once(uri: str, artifacts: Path) -> None:
    file = Path(uri.removeprefix("sqlite:///"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        import sqlite3

        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with _locked(file.with_name(f".{file.name}.lock")):
            fresh = not file.exists() or file.stat().st_size == 0
            if fresh:
                # Made beside its place: killed in between, its tables would never be whole.
                draft = file.with_name(f".{file.name}.new")
                for left in file.parent.glob(f"{draft.name}*"):
                    left.unlink()
                with without_logs("alembic", "mlflow"):  # which takes a third of a second
                    SqlAlchemyStore(f"sqlite:///{draft}", str(artifacts)).engine.dispose()
                with contextlib.closing(sqlite3.connect(draft)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
                draft.replace(file)
    except OSError as error:
        raise ServiceError(f"The store {file} cannot be made: {error.strerror}.") from None
    except Exception as error:
        raise ServiceError(
            f"The store {file} cannot be opened: {first_line(error)}",
            "move the file away to start a new store, or name another in tracking.uri",
        ) from error


def analyze(store: Store) -> None:
    """Give an embedded store the statistics that make ordered searches fast; else nothing."""
    if not store.uri.startswith("sqlite:///"):
        return
    import sqlite3

    with contextlib.suppress(sqlite3.OperationalError):  # busy: the next command does it
        with contextlib.closing(
            sqlite3.connect(store.uri.removeprefix("sqlite:///"))
        ) as connection:
            connection.execute("PRAGMA analysis_limit=1000")
            connection.execute("ANALYZE")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def without_logs(*names: str) -> Iterator[None]:
    """Also for loggers below these that have a level of their own."""
    known = [n for n in logging.Logger.manager.loggerDict if n.startswith(tuple(names))]
    loggers = [logging.getLogger(name) for name in {*names, *known}]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _health(uri: str) -> urllib.request.Request:
    """A server's health page; user name and password of the address go into the header."""
    parts = urllib.parse.urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=host, path=f"{parts.path.rstrip('/')}/health").geturl()
    known = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return urllib.request.Request(  # noqa: S310
        plain, headers={"Authorization": f"Basic {known}"} if at else {}
    )


def _answers(uri: str) -> None:
    """One quick look whether a server is there: MLflow itself would try for minutes."""
    if not uri.startswith("http"):
        _listens(uri)
        return
    try:
        with urllib.request.urlopen(_health(uri), timeout=10):  # noqa: S310
            return
    except urllib.error.HTTPError:
        return  # it answers; MLflow's own message is better
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ServiceError(
            f"The MLflow server {uri} does not answer: {reason}.",
            "start it, or name another store in tracking.uri",
        ) from None


def _listens(uri: str) -> None:
    """Whether a database's server takes connections, where its address is a host's."""
    try:
        parts = urllib.parse.urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return  # MLflow's own message is better
    port = port or DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if not host or not port:
        return
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        raise ServiceError(
            f"The database at {host}:{port} does not answer: {error.strerror or error}.",
            "start it, or name another store in tracking.uri",
        ) from None


class _Client:
    """MLflow's client, its failures told as ours."""

    def __init__(self, client: Any, uri: str) -> None:
        self._client = client
        self._uri = uri

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            from mlflow.exceptions import MlflowException

            try:
                return method(*args, **kwargs)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"):
                    raise
                raise ServiceError(
                    f"MLflow ({self._uri}) failed at {name}: {first_line(error)}"
                ) from error
            except OSError as error:
                raise ServiceError(f"MLflow failed at {name}: {first_line(error)}") from error

        return call

    def post_once(self, endpoint: str, body: dict[str, Any]) -> Any:
        """One POST to MLflow's public REST interface, without the client's retries; the answer.

        Raises:
            ServiceError: when no good answer came; whether the server acted is not known then.
        """
        from mlflow.utils.rest_utils import http_request

        creds = self._client._tracking_client.store.get_host_creds()
        path = f"/api/2.0/mlflow/{endpoint}"
        try:
            reply = http_request(creds, path, "POST", max_retries=0, json=body)
            if reply.status_code == 200:
                return reply.json()
            reason = f"it answered {reply.status_code}: {reply.text[:200]}"
        except Exception as error:
            reason = first_line(error)
        raise ServiceError(f"MLflow ({self._uri}) failed at {endpoint}: {reason}")


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _experiment(client: Any, name: str, artifacts: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = (artifacts / name).as_uri() if artifacts is not None else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # made by another process meanwhile, or the reply was lost
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise InputError(
            f'The experiment "{name}" is deleted in this store.',
            f"mlflow experiments restore --experiment-id {found.experiment_id if found else '…'}, "
            "or another name in surefit.toml",
        )
    return str(found.experiment_id)
