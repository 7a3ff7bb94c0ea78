"""The default model on a public set with an official test file."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

import surefit

DATA = Path(os.environ.get("SUREFIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.mark.skipif(not (DATA / "adult_train.csv").is_file(), reason="SUREFIT_DATA is not here")
def test_the_default_reaches_its_known_score_on_adult(tmp_path, monkeypatch, mlflow_at):
    """Without any choice it is as good as LightGBM's own default: .8715 accuracy and .9274 AUC."""
    import mlflow
    from sklearn.metrics import accuracy_score, roc_auc_score

    monkeypatch.chdir(tmp_path)
    test = pd.read_csv(DATA / "adult_test.csv")
    target = test.columns[-1]
    settings = {"split.test": 0.0, "split.folds": 5}
    result = surefit.train(DATA / "adult_train.csv", target=target, set=settings, quiet=True)
    mlflow_at(f"sqlite:///{tmp_path / 'mlflow.db'}")
    answer = mlflow.pyfunc.load_model(result.model_uri).predict(test.drop(columns=[target]))
    truth = test[target].astype(str).str.rstrip(".").to_numpy()
    positive = answer.columns[-1]
    label = positive.removeprefix("probability_")
    accuracy = accuracy_score(truth, answer["prediction"].astype(str))
    auc = roc_auc_score(truth == label, answer[positive])
    print(f"accuracy {accuracy:.4f}, AUC {auc:.4f}")
    assert accuracy >= 0.8715
    assert auc >= 0.9274
