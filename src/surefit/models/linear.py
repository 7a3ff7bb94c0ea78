"""Logistic, ridge and elastic net regression on imputed, scaled numbers and one-hot categories."""

from __future__ import annotations

import warnings
from typing import Any

from surefit.models import skops_files
from surefit.models.costs import Size
from surefit.models.family import Family, Fitted, Inside, Params, Rows, Setting, weights
from surefit.results import Task


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Fit to convergence, or to `max_iter` steps; deterministic.

    `l1_ratio` above 0 makes it an elastic net; 1 is the lasso.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

    given = {k: v for k, v in params.items() if k not in ("class_weight", "l1_ratio")}
    ratio = float(params.get("l1_ratio", 0.0))
    if setting.n_classes:
        solver = "saga" if ratio else "lbfgs"
        model: Any = LogisticRegression(
            **given, l1_ratio=ratio, solver=solver, random_state=setting.seed
        )
    else:
        model = ElasticNet(**given, l1_ratio=ratio) if ratio else Ridge(**given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train.X, train.y, sample_weight=weights(params, train, setting.n_classes))
    return Fitted(estimator=model)


def inside(estimator: Any) -> Inside:
    """The coefficients, with sign; of the second of two classes, or of each of more."""
    kind: Any = "log-odds" if hasattr(estimator, "classes_") else "target"
    return Inside(kind=kind, values=estimator.coef_)


def _defaults(task: Task) -> dict[str, Any]:
    if task == "regression":
        return {"alpha": 1.0}
    return {"C": 1.0, "max_iter": 500}


def _known(task: Task) -> set[str]:
    if task == "regression":
        return {"alpha", "l1_ratio", "fit_intercept", "tol", "max_iter", "positive"}
    return {"C", "l1_ratio", "max_iter", "tol", "class_weight", "fit_intercept"}


def _cost(size: Size, params: Params) -> float:
    wide = size.numbers + 5 * size.categories  # each category is some columns
    return 0.03 + 1e-7 * size.rows * wide * size.outputs


# Space: TabArena's (C log 0.1–1000), widened downwards for wide one-hot tables.
FAMILY = Family(
    name="linear",
    encoding="onehot",
    iterative=False,
    extrapolates=True,
    defaults=_defaults,
    known=_known,
    space=lambda task: (
        {"alpha": "log 0.001..1000"} if task == "regression" else {"C": "log 0.001..1000"}
    ),
    starts=lambda task: ({"alpha": 1.0},) if task == "regression" else ({"C": 1.0},),
    fit=fit,
    inside=inside,
    predict=skops_files.class_probabilities,
    save=skops_files.save_estimator,
    load=skops_files.load_estimator,
    cost=_cost,
)
