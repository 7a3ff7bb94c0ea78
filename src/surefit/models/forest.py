"""Random forests of scikit-learn; missing values and category codes as they are."""

from __future__ import annotations

from typing import Any

from surefit.models import skops_files
from surefit.models.family import Family, Fitted, Params, Rows, Setting
from surefit.results import Task


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Fit all trees; the same whatever the number of threads."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    make: Any = RandomForestClassifier if setting.n_classes else RandomForestRegressor
    estimator = make(**params, random_state=setting.seed, n_jobs=setting.threads)
    estimator.fit(train.X, train.y)
    estimator.n_jobs = None  # whoever loads it decides
    return Fitted(estimator=estimator)


def _defaults(task: Task) -> dict[str, Any]:
    if task == "regression":
        return {"n_estimators": 200, "max_features": 0.5, "min_samples_leaf": 2}
    return {"n_estimators": 200, "max_features": "sqrt", "min_samples_leaf": 2}


def _known(task: Task) -> set[str]:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    make = RandomForestRegressor if task == "regression" else RandomForestClassifier
    return set(make().get_params()) - {"random_state", "n_jobs", "verbose", "warm_start"}


# Space: TabArena's for random forests, with the leaf size in place of min_samples_split.
FAMILY = Family(
    name="forest",
    encoding="ordinal",
    iterative=False,
    defaults=_defaults,
    known=_known,
    space=lambda task: {
        "max_features": "0.2..1",
        "max_samples": "0.5..0.99",
        "min_samples_leaf": "int log 1..32",
    },
    starts=lambda task: ({"max_features": 0.5, "max_samples": 0.9, "min_samples_leaf": 2},),
    fit=fit,
    predict=skops_files.class_probabilities,
    save=skops_files.save_estimator,
    load=skops_files.load_estimator,
    cost=lambda rows, columns, outputs: 0.2 + 4e-5 * rows * (1 + columns / 10),
)
