"""MLflow's own server on a store, for people to look at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from surefit.edges.store import Store
from surefit.errors import ServiceError
from surefit.redaction import redact


def serve(store: Store, *, host: str, port: int) -> None:
    """Run MLflow's UI in the foreground until it is interrupted; it starts no jobs.

    Raises:
        ServiceError: when it does not start.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri,
               "--host", host, "--port", str(port)]  # fmt: skip
    code = subprocess.run(command, env=environment).returncode
    if code not in (0, -2, 130):
        raise ServiceError(f"MLflow's UI ended with exit code {code}.", "surefit ui --port 5001")


def page(store: Store) -> str:
    """The address of the project's experiment on a server."""
    return f"{redact(store.uri).rstrip('/')}/#/experiments/{store.experiment_id}/runs"
