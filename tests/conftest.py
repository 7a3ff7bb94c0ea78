"""What the tests share: small tables, trained projects, a real MLflow server, the command line."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of larger public tables; tests that need it are skipped where it is not."""
    named = os.environ.get("SUREFIT_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "titanic.csv").is_file():
        pytest.skip("the larger tables are not here: name their folder in SUREFIT_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """No store or setting of the person who runs the tests reaches them."""
    kept = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith("MLFLOW_")}
    yield
    os.environ.update(kept)


PLACES = ("TRACKING_URI", "REGISTRY_URI", "EXPERIMENT_ID", "EXPERIMENT_NAME", "RUN_ID")


def _named_places() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.removeprefix("MLFLOW_") in PLACES}


@pytest.fixture(autouse=True)
def _no_place_is_left() -> Iterator[None]:
    """No call leaves MLflow a store, an experiment or a run that later calls would follow."""
    before = _named_places()
    yield
    after = _named_places()
    for key in after:
        del os.environ[key]
    os.environ.update(before)
    assert after == before


@pytest.fixture
def mlflow_at() -> Iterator[Callable[[str | None], None]]:
    """Points MLflow's own functions at a store for the length of a test."""
    import mlflow

    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def mlflow_loaded() -> None:
    """MLflow and SQLAlchemy imported: what they warn of while they load is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("mlflow.pyfunc", "mlflow.artifacts", "mlflow.models", "optuna", "skrub",
                     "mlflow.store.tracking.sqlalchemy_store",
                     "mlflow.store.model_registry.sqlalchemy_store"):  # fmt: skip
            importlib.import_module(name)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, mlflow_loaded: None) -> Path:
    """A store as surefit makes it on first use, before any experiment."""
    from surefit.edges import store

    folder = tmp_path_factory.mktemp("pristine")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store._create_once(f"sqlite:///{folder / 'mlflow.db'}", folder / "mlruns")
    assert not (folder / "mlflow.db-wal").exists()
    return folder / "mlflow.db"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A project's folder: verbs of the API and commands run as if typed there."""

    path: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    def __getattr__(self, verb: str) -> Any:
        """`folder.train(...)` is `surefit.train(..., quiet=True)` in this folder."""
        import surefit

        found = getattr(surefit, verb)

        def call(*arguments: Any, **options: Any) -> Any:
            with contextlib.chdir(self.path):
                return found(*arguments, **{"quiet": True, **options})

        return call

    def command(self, *arguments: Any) -> Ended:
        """A surefit command in this process, from its arguments to its exit code."""
        from surefit import cli

        out, err, argv = io.StringIO(), io.StringIO(), sys.argv
        with (
            contextlib.chdir(self.path),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            sys.argv = ["surefit", *map(str, arguments)]
            try:
                code = cli._run()
            finally:
                sys.argv = argv
        return Ended(code=code, out=out.getvalue(), err=err.getvalue())

    def started(self, *arguments: Any, **more: str) -> subprocess.Popen[str]:
        """A surefit command as a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "surefit", *map(str, arguments)], cwd=self.path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **more},
        )  # fmt: skip
        self.processes.append(process)
        return process

    @property
    def client(self) -> Any:
        """Plain MLflow on this folder's store."""
        import mlflow

        return mlflow.MlflowClient(self.uri, registry_uri=self.uri)

    @property
    def uri(self) -> str:
        """The store's address."""
        return f"sqlite:///{self.path / 'mlflow.db'}"

    def runs(self, where: str = "") -> list[Any]:
        """All runs of all experiments that match, the newest first."""
        ids = [e.experiment_id for e in self.client.search_experiments()]
        return list(self.client.search_runs(ids, where, max_results=1000))


def new_folder(path: Path, pristine: Path) -> Folder:
    """An empty folder with a fresh store."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(pristine, path / "mlflow.db")
    return Folder(path=path)


@pytest.fixture
def folder(tmp_path: Path, pristine: Path) -> Iterator[Folder]:
    """An empty project folder with a fresh store; what was started in it ends with the test."""
    made = new_folder(tmp_path / "project", pristine)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, pristine: Path) -> Folder:
    """breast_cancer in three folds with a run of each family; tests only add to it."""
    project = new_folder(tmp_path_factory.mktemp("trained"), pristine)
    few = {"split.folds": 3, "model.params.num_iterations": 30, "model.params.learning_rate": 0.2}
    project.train("sklearn:breast_cancer", target="target", set=few)
    project.train(set={"model.family": "linear"})
    project.train(set={"model.family": "dummy"})
    project.train(set={"model.family": "forest", "model.params.n_estimators": 20})
    return project


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, pristine: Path) -> Folder:
    """wine in three folds with a finished search of twelve linear models; tests only read it."""
    project = new_folder(tmp_path_factory.mktemp("searched"), pristine)
    chosen = {"split.folds": 3, "model.family": "linear"}
    project.tune("sklearn:wine", target="target", trials=12, set=chosen)
    return project


# --- a server ---


@dataclass(kw_only=True)
class Server:
    """MLflow's own tracking server on a free port, with its own store and artifacts."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder,
                env={**os.environ, "PATH": with_environment_bin(),
                     "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                     "MLFLOW_DISABLE_TELEMETRY": "true"},
            )  # fmt: skip
        wait_for(f"{self.uri}/health", self.process)

    def stop(self) -> None:
        """Kill it with all its processes."""
        if self.process is not None:
            end_group(self.process)
            self.process = None


def with_environment_bin() -> str:
    """PATH with this environment's programs first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str, process: subprocess.Popen[Any], seconds: float = 120) -> None:
    """Until the address answers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, f"ended with {process.returncode} before it answered"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as reply:
            if reply.status == 200:
                return
        time.sleep(0.2)
    raise TimeoutError(address)


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that was started with its own session, and all of that session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, pristine: Path) -> Iterator[Server]:
    """A running MLflow server for all tests of this process."""
    found = Server(folder=tmp_path_factory.mktemp("server"), port=free_port())
    shutil.copy(pristine, found.folder / "server.db")
    found.start()
    yield found
    found.stop()
