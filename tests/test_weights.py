"""Weights of rows (`data.weight`) count alike wherever a score is made of predictions."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlflow_files import table


def weighted_auc(frame: pd.DataFrame) -> float:
    """scikit-learn's, a fold at a time, averaged."""
    label = frame["target"] == "yes"
    return float(np.mean([
        roc_auc_score(label[f], frame["probability_yes"][f], sample_weight=frame["weight"][f])
        for f in (frame["fold"] == k for k in frame["fold"].unique())
    ]))  # fmt: skip


@pytest.fixture
def weighted(folder):
    """A project whose rows count differently, written as surefit.toml."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 500))
    frame = pd.DataFrame({"x": x, "z": rng.normal(size=500), "count": rng.integers(1, 9, 500)})
    frame["bought"] = np.where(x + noise * np.where(frame["count"] > 5, 3, 0.5) > 0, "yes", "no")
    frame.to_csv(folder.path / "shop.csv", index=False)
    (folder.path / "surefit.toml").write_text(
        'name = "weighted"\n[data]\npath = "shop.csv"\ntarget = "bought"\nweight = "count"\n'
        '[split]\ntest = 0.4\nfolds = 3\n[model]\nfamily = "linear"\n'
    )
    return folder


def test_training_searching_comparing_and_promoting_weigh_rows_alike(weighted):
    """One run's score is the same weighted number in its record, on the board and at the gate."""
    run = weighted.train()
    valid = table(weighted.client, run.run_id, "predictions/valid.parquet")
    truth = weighted_auc(valid)
    plain = weighted_auc(valid.assign(weight=1))
    assert abs(truth - plain) > 0.005
    assert run.score.value == pytest.approx(truth)
    assert np.mean(run.fold_scores) == pytest.approx(truth)

    search = weighted.tune(trials=2, set={"tune.method": "random"})
    found = weighted_auc(table(weighted.client, search.run_id, "predictions/valid.parquet"))
    assert search.best.value == pytest.approx(found, abs=1e-6)
    assert search.score.value == pytest.approx(found, abs=1e-6)

    board = weighted.compare()
    values = {s.run_id: s.score.value for s in board.standings}
    assert values == pytest.approx({run.run_id: truth, search.run_id: found}, abs=1e-6)

    decided = weighted.promote(run.run_id, set={"gate.floors": {"roc_auc": 0.5}})
    test = table(weighted.client, run.run_id, "predictions/test.parquet")
    rows = pd.read_csv(weighted.path / "shop.csv").iloc[test["row_id"]]
    at_gate = roc_auc_score(
        rows["bought"] == "yes", test["probability_yes"], sample_weight=rows["count"]
    )
    assert f"roc_auc {at_gate:.4f}" in str(decided)
