"""Numbers on real data sets equal scikit-learn's; skipped where the sets are not at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from surefit.core import baseline, data, metrics, stats
from surefit.sections import DataConfig
from test_metrics import theirs

FOLDER = Path(os.environ.get("SUREFIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
SETS = {
    "adult_test.csv": DataConfig(path="x", target="income", weight="fnlwgt"),
    "adult_train.csv": DataConfig(path="x", target="income", weight="fnlwgt"),
    "telco_churn.csv": DataConfig(path="x", target="Churn"),
    "titanic.csv": DataConfig(path="x", target="survived", task="classification"),
    "mammography.csv": DataConfig(path="x", target="class", task="classification"),
    "letter.csv": DataConfig(path="x", target="class"),
    "car.csv": DataConfig(path="x", target="class"),
    "california_housing.csv": DataConfig(path="x", target="MedHouseVal"),
    "bike_sharing.csv": DataConfig(path="x", target="cnt", task="regression"),
    "parkinsons.csv": DataConfig(path="x", target="total_UPDRS", task="regression"),
    "employee_salaries.csv": DataConfig(path="x", target="current_annual_salary"),
    "house_prices.csv": DataConfig(path="x", target="SalePrice"),
    "nycflights13.parquet": DataConfig(path="x", target="arr_delay", task="regression"),
}


def predicted(whole):
    """What the first three columns say of the target, on average: cheap, and not flat."""
    parts = []
    for column in whole.columns[:3]:
        codes = baseline._codes(whole.frame[column.name], column.kind)
        parts.append(baseline._means(whole, codes, np.arange(whole.n_rows))[codes])
    return np.mean(parts, axis=0)


@pytest.mark.parametrize("name", SETS)
def test_metrics_equal_scikit_learns_on_real_sets(name):
    """Every metric on a real set is scikit-learn's, with the set's weights where it has some."""
    file = FOLDER / name
    if not file.exists():
        pytest.skip(f"{name} is not at hand; SUREFIT_DATA names its folder")
    table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    whole = data.prepare(table, SETS[name])
    pred, compared = predicted(whole), 0
    for metric in metrics.reported(whole.task):
        ours = metrics.value(metric, whole.y, pred, weights=whole.weight)
        if np.isfinite(ours):
            compared += 1
            expected = theirs(metric.name, whole.task, whole.y, pred, whole.weight)
            assert ours == pytest.approx(expected, rel=1e-9, abs=1e-12), metric.name
            if metric.columns:
                found = stats.mean_value(metric, whole.y, pred, weights=whole.weight)
                assert found == pytest.approx(ours)
    assert compared >= 4
