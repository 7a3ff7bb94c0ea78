"""How far the cost formulas of the families are from what fits take: one fold each, on one core.

    python bench/fit_costs.py [--sets telco_churn,car] [--families lightgbm,forest]

Prints, for each table and family, the seconds of a fold whose rows were preprocessed before, those
of the formula (`models/costs.py`), and their ratio. Run it alone on the machine.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = "1"

import pandas as pd  # noqa: E402

from surefit import models  # noqa: E402
from surefit.core import fit  # noqa: E402
from surefit.core.data import prepare  # noqa: E402
from surefit.core.fit import Problem  # noqa: E402
from surefit.core.split import make  # noqa: E402
from surefit.sections import DataConfig, SplitConfig  # noqa: E402
from surefit.verbs.train import fold_seconds  # noqa: E402

FOLDER = Path(os.environ.get("SUREFIT_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
SETS = {  # target, columns that are no features
    "telco_churn.csv": ("Churn", ["customerID"]),
    "mammography.csv": ("class", []),
    "car.csv": ("class", []),
    "letter.csv": ("class", []),
    "house_prices.csv": ("SalePrice", ["Id"]),
    "california_housing.csv": ("MedHouseVal", []),
    "adult_train.csv": ("income", []),
    "bike_sharing.csv": ("cnt", ["casual", "registered", "instant"]),
    "parkinsons.csv": ("total_UPDRS", []),
    "employee_salaries.csv": ("current_annual_salary", []),
    "titanic.csv": ("survived", ["boat", "body"]),
}
METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}


def problem(file: str, family: str) -> Problem:
    """Five folds of a table."""
    target, drop = SETS[file]
    frame = pd.read_csv(FOLDER / file, low_memory=False).drop(columns=drop)
    data = prepare(frame, DataConfig(path=file, target=target))
    split = make(data, SplitConfig())
    return fit.problem(data, split, family=family, metric=METRIC[data.task], seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--families", default=",".join(models.installed()))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| table | family | seconds | formula | ratio |\n|---|---|---|---|---|")
    for name in given.sets.split(","):
        file = name if name in SETS else f"{name}.csv"
        for family in given.families.split(","):
            posed = problem(file, family)
            start = posed.model.starts(posed.task)[0]
            params = posed.model.resolve(start, posed.task)
            fit.fit_fold(posed, {**params, **_few(posed)}, 0)  # preprocesses the rows
            started = time.perf_counter()
            fit.fit_fold(posed, params, 0)
            taken, said = time.perf_counter() - started, fold_seconds(posed, params)
            print(f"| {file} | {family} | {taken:.2f} | {said:.2f} | {taken / said:.2f} |",
                  flush=True)  # fmt: skip


def _few(posed: Problem) -> dict[str, int]:
    """Hardly any rounds or trees."""
    if posed.model.steps:
        return {posed.model.steps: 2}
    return {"n_estimators": 2} if posed.family == "forest" else {}


if __name__ == "__main__":
    main()
