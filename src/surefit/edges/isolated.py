"""A model tried as its user will: a fresh process that cannot import surefit, and plain MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from surefit.errors import IntegrityError

_SCRIPT = """
import sys
sys.modules["surefit"] = None  # any import of it now fails
import pandas as pd
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.read_parquet(sys.argv[2])
model.predict(rows).to_parquet(sys.argv[3])
"""


def predict(model_folder: Path, rows: pd.DataFrame, *, timeout: float = 300) -> pd.DataFrame:
    """What the model in a local folder answers in a process of its own.

    Raises:
        IntegrityError: when it does not load or does not answer, with the last line it said.
    """
    # A pickle is there only where the run says so; the caller has checked the files' digests.
    allowed = str(any(Path(model_folder).rglob("parts/model.pkl"))).lower()
    with tempfile.TemporaryDirectory(prefix="surefit-") as scratch:
        given, answered = Path(scratch) / "rows.parquet", Path(scratch) / "answer.parquet"
        rows.to_parquet(given)
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _SCRIPT, model_folder, given, answered],
                capture_output=True, text=True, timeout=timeout, cwd=scratch,
                env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": allowed},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise IntegrityError(f"The model did not answer within {timeout:.0f} s.") from None
        if done.returncode != 0 or not answered.exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise IntegrityError(f"The model does not load in a fresh process: {last}")
        return pd.read_parquet(answered)
