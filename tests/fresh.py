"""A run's model as its user has it: plain MLflow in a fresh process that cannot import surefit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import json, sys
sys.modules["surefit"] = None
import mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
worst = 0.0
for run_id, model_uri, table, target in json.loads(sys.argv[2]):
    model = mlflow.pyfunc.load_model(model_uri)
    stored = pd.read_parquet(mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="predictions/test.parquet"))
    rows = pd.read_parquet(table).iloc[stored["row_id"]]
    answer = model.predict(rows.drop(columns=[target]))
    names = [c for c in stored.columns if c.startswith("probability_")] or ["prediction"]
    assert len(answer) > 0
    worst = max(worst, float(np.abs(answer[names].to_numpy() - stored[names].to_numpy()).max()))
print(worst)
"""


def furthest(root: Path, *models: tuple[str, str, Path, str]) -> float:
    """How far answers are from the predictions stored for the test rows, at the most.

    Args:
        models: the run's id, the model's URI, the table as Parquet, and the target's name.
    """
    asked = json.dumps([[*model[:2], str(model[2]), model[3]] for model in models])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT, f"sqlite:///{root / 'mlflow.db'}", asked],
        capture_output=True, text=True, cwd="/",
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        | {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.strip().splitlines()[-1])
