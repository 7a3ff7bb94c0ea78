"""scikit-learn's histogram gradient boosting, with native categories and missing values."""

from __future__ import annotations

from typing import Any

import numpy as np

from surefit.models import skops_files
from surefit.models.costs import Size, boosting_rounds, histogram_trees, number, usual_rate
from surefit.models.family import (
    LOSS,
    Family,
    Fitted,
    Inside,
    Params,
    Rows,
    Setting,
    monotone,
    weights,
)
from surefit.results import Task

LOSSES = {name: name for name in ("squared_error", "absolute_error", "poisson", "gamma")}
MOST_LEVELS = 255  # of a native category; a column with more is treated as a number


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Boost until the loss on `stop` has not fallen for `n_iter_no_change` rounds, and cut there.

    One thread: sums of gradients depend on how many share them.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    make: Any = HistGradientBoostingRegressor
    if setting.n_classes:
        make = HistGradientBoostingClassifier
    early = stop is not None and setting.rounds is None
    ours = ("max_iter", "monotone", "class_weight")
    estimator = make(
        **{k: v for k, v in params.items() if k not in ours},
        max_iter=setting.rounds or int(params["max_iter"]),
        categorical_features=[
            c for c in train.categorical if np.nanmax(train.X[:, c], initial=0) < MOST_LEVELS
        ] or None,
        monotonic_cst=monotone(params, train), early_stopping=early, scoring="loss",
        random_state=setting.seed,
    )  # fmt: skip
    weight = weights(params, train, setting.n_classes)
    with threadpool_limits(limits=1):
        if not early or stop is None:
            return Fitted(
                estimator=estimator.fit(train.X, train.y, sample_weight=weight),
                rounds=estimator.n_iter_,
            )
        estimator.fit(
            train.X, train.y, sample_weight=weight, X_val=stop.X, y_val=stop.y,
            sample_weight_val=weights(params, stop, setting.n_classes),
        )  # fmt: skip
    valid = -estimator.validation_score_[1:]
    best = int(np.argmin(valid)) + 1
    del estimator._predictors[best:]  # scikit-learn keeps the rounds after the best one
    pairs = zip(-estimator.train_score_[1:], valid, strict=True)
    curve = tuple((i + 1, float(t), float(v)) for i, (t, v) in enumerate(pairs))
    return Fitted(estimator=estimator, curve=curve, rounds=best)


def inside(estimator: Any) -> Inside:
    """What the splits on each column gained in all, from the trees themselves."""
    n_columns = estimator.n_features_in_
    first = list(estimator.categorical_features or ())  # scikit-learn puts these columns first
    order = np.array([*first, *(c for c in range(n_columns) if c not in first)])
    values = np.zeros(n_columns)
    for trees in estimator._predictors:
        for tree in trees:
            splits = tree.nodes[tree.nodes["is_leaf"] == 0]
            np.add.at(values, order[splits["feature_idx"]], splits["gain"])
    return Inside(kind="gain", values=values)


def _defaults(task: Task) -> dict[str, Any]:
    return {"learning_rate": usual_rate(task), "max_iter": 1000, "n_iter_no_change": 30}


def _names(task: Task) -> set[str]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    taken = {"random_state", "verbose", "warm_start", "early_stopping", "scoring",
             "validation_fraction", "categorical_features", "monotonic_cst",
             *(() if task == "regression" else (LOSS,))}  # fmt: skip
    return (set(HistGradientBoostingClassifier().get_params()) | {"monotone"}) - taken


def _cost(size: Size, params: Params) -> float:
    rate = number(params, "learning_rate", usual_rate(size.task))
    rounds = boosting_rounds(size, rate, int(number(params, "max_iter", 1000)))
    leaves = params.get("max_leaf_nodes", 31) or size.rows  # None: as many as there are rows
    return 0.05 + 1.3 * histogram_trees(size, rounds, leaves)


# Space: scikit-learn's own guide to the class, with the ranges of LightGBM in TabArena
# (Apache-2.0; figures only), whose histogram trees these are.
FAMILY = Family(
    name="hist",
    encoding="ordinal",
    iterative=True,
    steps="max_iter",
    defaults=_defaults,
    known=_names,
    losses=LOSSES,
    aliases=lambda: {
        "n_estimators": "max_iter", "num_leaves": "max_leaf_nodes", "objective": LOSS,
    },
    space=lambda task: {
        "learning_rate": "log 0.005..0.2",
        "max_leaf_nodes": "int log 4..200",
        "min_samples_leaf": "int log 1..64",
        "l2_regularization": "log 0.0001..2",
        "max_features": "0.4..1",
    },
    starts=lambda task: (
        {"learning_rate": usual_rate(task), "max_leaf_nodes": 31, "min_samples_leaf": 20,
         "l2_regularization": 1e-4, "max_features": 1.0},
    ),
    fit=fit,
    inside=inside,
    predict=skops_files.class_probabilities,
    save=skops_files.save_estimator,
    load=skops_files.load_estimator,
    cost=_cost,
)  # fmt: skip
