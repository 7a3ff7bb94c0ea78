"""MLflow calls of the user's own code, led to a scratch store: of a job, or of a file's import.

The environment says where, so nothing of MLflow is imported here; a store is made, by copying an
empty one, when the user's code imports MLflow, or has. The driver reads it once the job counts
(`scratch`). What the code changed of MLflow's global state is put back.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STORE = "mlflow.db"
ARTIFACTS = "artifacts"
_OURS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow's global state: module, name, and what it is in a fresh process.
_GLOBALS = (
    ("mlflow.tracking._tracking_service.utils", "_tracking_uri", None),
    ("mlflow.tracking._model_registry.utils", "_registry_uri", None),
    ("mlflow.tracking.fluent", "_active_experiment_id", None),
    ("mlflow.utils.autologging_utils", "_AUTOLOGGING_GLOBALLY_DISABLED", False),
)
_ALL = "mlflow"  # mlflow.autolog(): switches on those of all libraries, imported already or later
_GLOBALLY = "globally_configured"  # marks the settings of those
_FLUENT = "mlflow.tracking.fluent"  # these are a thread's own
_OF_THREAD: dict[str, list[Any] | None] = {
    "_active_run_stack": [], "_last_active_run_id": None, "_last_logged_model_id": None,
}  # fmt: skip


Autologgers = Mapping[str, Mapping[str, Any]]  # settings by name


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Where the jobs of one run or search have their stores.

    Attributes:
        root: a folder that holds one folder a job.
        template: an empty store to copy; where the file is not there, MLflow makes its own.
    """

    root: str
    template: str

    @contextlib.contextmanager
    def redirected(self, autologgers: Autologgers | None = None) -> Iterator[list[str]]:
        """Lead MLflow calls of the block to a new store.

        Gives a list that holds the store's folder when the block has ended, or nothing where
        nothing was written.

        Args:
            autologgers: those that the user's file switched on as it was imported: on here too.
        """
        made: list[str] = []
        kept: list[str] = []
        before = dict(os.environ)
        state = _State.now()
        finder = _OnImport(lambda: made.append(self._make()))
        try:
            if "mlflow" in sys.modules:
                finder.act()
                state.clear()
            else:
                sys.meta_path.insert(0, finder)
            _switch_on(autologgers or {})
            yield kept
        finally:
            failed = sys.exc_info()[0] is not None
            with contextlib.suppress(ValueError):
                sys.meta_path.remove(finder)
            if "mlflow" in sys.modules:
                if any(_written(Path(folder) / STORE) for folder in made):
                    _close(failed=failed)
                state.put_back()
            for name in [n for n in os.environ if n not in before and "MLFLOW_" in n]:
                del os.environ[name]
            os.environ.update({n: v for n, v in before.items() if "MLFLOW_" in n})
            for folder in made:
                if not failed and _written(Path(folder) / STORE):
                    kept.append(folder)
                else:
                    shutil.rmtree(folder, ignore_errors=True)

    def _make(self) -> str:
        Path(self.root).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.root))
        if self.template and Path(self.template).is_file():
            shutil.copyfile(self.template, folder / STORE)
            os.utime(folder / STORE, (0, 0))  # tells whether anything was written
        uri = f"sqlite:///{folder / STORE}"
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            os.environ.pop(name, None)
        os.environ.update(_OURS)
        os.environ.update(
            MLFLOW_TRACKING_URI=uri, MLFLOW_REGISTRY_URI=uri,
            _MLFLOW_SERVER_ARTIFACT_ROOT=(folder / ARTIFACTS).as_uri(),
        )  # fmt: skip
        return str(folder)


def _written(store: Path) -> bool:
    return store.exists() and store.stat().st_mtime > 0


class _OnImport:
    """Acts once, just before MLflow is imported; finds nothing itself."""

    def __init__(self, act: Any) -> None:
        self._act = act
        self._acted = False

    def act(self) -> None:
        if not self._acted:
            self._acted = True
            self._act()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "mlflow":
            self.act()


def _close(*, failed: bool) -> None:
    """End the runs that the user's code left open, and write what it logged asynchronously."""
    mlflow = sys.modules["mlflow"]
    with contextlib.suppress(Exception):  # the store may be what failed
        mlflow.flush_async_logging()
    for _ in range(100):
        if mlflow.active_run() is None:
            break
        with contextlib.suppress(Exception):
            mlflow.end_run("FAILED" if failed else "FINISHED")


@dataclass(frozen=True, kw_only=True)
class _State:
    """MLflow's global state as it was; of a process that had not imported it, a fresh one's."""

    values: dict[tuple[str, str], Any]
    autologgers: dict[str, Any]
    on_import: dict[str, Any]

    @classmethod
    def now(cls) -> _State:
        values: dict[tuple[str, str], Any] = {}
        for module, name, fresh in _GLOBALS:
            values[module, name] = getattr(sys.modules.get(module), name, fresh)
        for name, none in _OF_THREAD.items():
            there = getattr(sys.modules.get(_FLUENT), name, None)
            values[_FLUENT, name] = copy.copy(there.get() if there is not None else none)
        return cls(
            values=values, autologgers={k: dict(v) for k, v in _autologgers().items()},
            on_import={k: copy.copy(v) for k, v in _on_import().items()},
        )  # fmt: skip

    def clear(self) -> None:
        """As in a fresh process: no store, no run, no autologger from before."""
        _put({(module, name): fresh for module, name, fresh in _GLOBALS})
        _put({(_FLUENT, name): copy.copy(none) for name, none in _OF_THREAD.items()})
        for settings in _autologgers().values():
            settings.clear()  # which is off; settings that say so would outdo mlflow.autolog()
        _on_import().clear()

    def put_back(self) -> None:
        _put(self.values)
        for there, before in ((_autologgers(), self.autologgers), (_on_import(), self.on_import)):
            there.clear()
            there.update(before)


def _autologgers() -> dict[str, dict[str, Any]]:
    module = sys.modules.get("mlflow.utils.autologging_utils")
    found: dict[str, dict[str, Any]] = getattr(module, "AUTOLOGGING_INTEGRATIONS", {})
    return found


def _on_import() -> dict[str, Any]:
    """What MLflow does as a library is imported later: switch its autologger on."""
    module = sys.modules.get("mlflow.utils.import_hooks")
    found: dict[str, Any] = getattr(module, "_post_import_hooks", {})
    return found


def autologgers() -> Autologgers:
    """Those that are on, and those that are switched off alone, to be set so elsewhere."""
    told = {k: dict(v) for k, v in _autologgers().items() if v}
    if all(settings.get("disable", True) for settings in told.values()):
        return {}
    return {k: v for k, v in told.items() if _ALL not in told or not v.get(_GLOBALLY)}


def _switch_on(wanted: Autologgers) -> None:
    """Call the autologgers' functions with their settings; MLflow would say so in every fit."""
    speaker = logging.getLogger(_FLUENT)
    before = speaker.level
    speaker.setLevel(logging.WARNING)
    try:
        for name in sorted(wanted, key=lambda n: n == _ALL):
            module = importlib.import_module("mlflow" if name == _ALL else f"mlflow.{name}")
            known = inspect.signature(module.autolog).parameters
            module.autolog(**{k: v for k, v in wanted[name].items() if k in known})
    finally:
        speaker.setLevel(before)


def _put(values: dict[tuple[str, str], Any]) -> None:
    for (module, name), value in values.items():
        there = sys.modules.get(module)
        if there is None or not hasattr(there, name):
            continue
        if name in _OF_THREAD:
            getattr(there, name).set(value)
        else:
            setattr(there, name, value)
