"""Random forests and extra trees of scikit-learn; missing values and codes as they are."""

from __future__ import annotations

import math
from typing import Any

from surefit.errors import ConfigError, did_you_mean
from surefit.models import skops_files
from surefit.models.costs import Size, number
from surefit.models.family import Family, Fitted, Inside, Params, Rows, Setting, monotone, weights
from surefit.results import Task


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Fit all trees; the same whatever the number of threads.

    `kind` is "random" or "extra"; `max_samples` makes extra trees draw their rows too.
    """
    make = _maker(str(params["kind"]), setting.n_classes)
    given = {k: v for k, v in params.items() if k not in ("kind", "monotone", "class_weight")}
    if given.get("max_samples") is not None:
        given["bootstrap"] = True
    estimator = make(
        **given, monotonic_cst=monotone(params, train), random_state=setting.seed,
        n_jobs=setting.threads,
    )  # fmt: skip
    estimator.fit(train.X, train.y, sample_weight=weights(params, train, setting.n_classes))
    estimator.n_jobs = None  # whoever loads it decides
    return Fitted(estimator=estimator)


def inside(estimator: Any) -> Inside:
    """The mean decrease in impurity by the splits on each column."""
    return Inside(kind="impurity", values=estimator.feature_importances_)


def _maker(kind: str, n_classes: int) -> Any:
    import sklearn.ensemble

    names = {"random": "RandomForest", "extra": "ExtraTrees"}
    if kind not in names:
        raise ConfigError(f'model.params.kind = "{kind}": {did_you_mean(kind, names)}')
    return getattr(sklearn.ensemble, names[kind] + ("Classifier" if n_classes else "Regressor"))


def _defaults(task: Task) -> dict[str, Any]:
    if task == "regression":
        return {"kind": "random", "n_estimators": 200, "max_features": 0.5, "min_samples_leaf": 2}
    return {"kind": "random", "n_estimators": 200, "max_features": "sqrt", "min_samples_leaf": 2}


def _known(task: Task) -> set[str]:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    make = RandomForestRegressor if task == "regression" else RandomForestClassifier
    taken = {"random_state", "n_jobs", "verbose", "warm_start", "monotonic_cst"}
    return (set(make().get_params()) | {"kind", "monotone", "class_weight"}) - taken


def _cost(size: Size, params: Params) -> float:
    """Each level of a tree sorts the rows by each of the columns it looks at, or draws a cut."""
    given = params.get("max_features")
    if isinstance(given, str):
        looked = math.sqrt(size.columns)
    elif isinstance(given, int):  # a count, as scikit-learn has it; a float is a share
        looked = min(given, size.columns)
    else:
        looked = size.columns * (1.0 if given is None else given)
    drawn = 0.35 if params.get("kind") == "extra" else 1.0
    trees = number(params, "n_estimators", 200)
    return 0.1 + 1.7e-8 * trees * drawn * looked * size.rows * math.log2(size.rows + 1)


# Space: TabArena's for random forests and extra trees, with the leaf size in place of
# min_samples_split.
FAMILY = Family(
    name="forest",
    encoding="ordinal",
    iterative=False,
    defaults=_defaults,
    known=_known,
    space=lambda task: {
        "kind": ["random", "extra"],
        "max_features": "0.2..1",
        "max_samples": "0.5..0.99",
        "min_samples_leaf": "int log 1..32",
    },
    starts=lambda task: (
        {"kind": "random", "max_features": 0.5, "max_samples": 0.9, "min_samples_leaf": 2},
        {"kind": "extra", "max_features": 0.75, "max_samples": 0.99, "min_samples_leaf": 2},
    ),
    fit=fit,
    inside=inside,
    predict=skops_files.class_probabilities,
    save=skops_files.save_estimator,
    load=skops_files.load_estimator,
    cost=_cost,
)
