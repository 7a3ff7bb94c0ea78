"""A promoted model in an environment that has what the model asks for, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
SCRIPT = """
import importlib.util, json, sys
assert importlib.util.find_spec("surefit") is None
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/promoted@production")
answer = model.predict(pd.read_parquet(sys.argv[2]))
print(json.dumps({"columns": list(answer.columns), "values": answer.iloc[:, 1:].to_numpy().tolist(),
                  "labels": answer["prediction"].tolist()}))
"""


@pytest.mark.skipif(not os.environ.get("CI"), reason="installs MLflow anew: set CI=1 to run it")
def test_a_promoted_model_answers_where_only_its_own_requirements_are_installed(
    folder, tmp_path, mlflow_at
):
    """Its requirements.txt is all that a new environment needs: no surefit, the same answers."""
    import mlflow

    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "amount": rng.normal(size=400), "region": rng.choice(["north", "south", "west"], 400),
    })  # fmt: skip
    table["bought"] = np.where(table["amount"] + rng.normal(size=400) / 2 > 0, "yes", "no")
    table.to_csv(folder.path / "promoted.csv", index=False)
    run = folder.train("promoted.csv", target="bought")
    assert folder.promote(run.run_id).verdict == "PROMOTED"
    rows = tmp_path / "rows.parquet"
    table.drop(columns="bought").to_parquet(rows)

    mlflow_at(folder.uri)
    uri = "models:/promoted@production"
    asked = mlflow.artifacts.download_artifacts(f"{uri}/requirements.txt", dst_path=str(tmp_path))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "clean"], check=True)
    python = tmp_path / "clean" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-compile", "-c", CONSTRAINTS, "-r", asked],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SCRIPT, folder.uri, rows],
        capture_output=True, text=True, cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    here = mlflow.pyfunc.load_model(uri).predict(pd.read_parquet(rows))
    assert answer["columns"] == list(here.columns)
    assert answer["labels"] == here["prediction"].tolist()
    np.testing.assert_allclose(answer["values"], here.iloc[:, 1:].to_numpy(), rtol=0, atol=1e-12)
