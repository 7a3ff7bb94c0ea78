"""A script that uses plain MLflow joins by two lines, or by a file: the documented example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

DOCUMENTED = Path(__file__).parents[1] / "docs" / "mlflow.md"


def test_the_documented_script_is_evaluated_like_any_run_and_so_is_its_file(folder):
    """The script of docs/mlflow.md, as it stands there, then its run and its file evaluated."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"tenure": rng.integers(1, 70, 400), "charges": rng.normal(60, 9, 400)})
    frame["churned"] = np.where(frame["tenure"] + rng.normal(0, 20, 400) < 35, "yes", "no")
    frame.to_csv(folder.path / "churn.csv", index=False)
    folder.train("churn.csv", target="churned", set={"model.family": "dummy", "split.folds": 2})
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENTED.read_text("utf-8"), re.DOTALL)
    (script,) = [text for text in blocks if "my script" in text]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=folder.path, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = folder.evaluate("my script")
    assert not result.verified
    assert result.look is None
    assert result.score("roc_auc").value > 0.8
    own = folder.runs("attributes.run_name = 'my script'")[0].info.run_id
    assert folder.client.get_run(result.run_id).data.tags["surefit.of"] == own
    file = folder.client.download_artifacts(own, "predictions/valid.csv", str(folder.path))
    assert folder.evaluate(file).scores == result.scores
    ranked = folder.compare()
    assert [s.name for s in ranked.standings] == ["my script", "train dummy"]
    assert ranked.n_rows == result.n_rows
