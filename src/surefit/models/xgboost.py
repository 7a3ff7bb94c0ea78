"""Gradient boosting by XGBoost (an extra), with native categories and missing values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from surefit.models.costs import DEEPEST, Size, boosting_rounds, histogram_trees, number, usual_rate
from surefit.models.family import (
    LOSS,
    Family,
    Fitted,
    Inside,
    Params,
    Rows,
    Setting,
    fitted_loss,
    monotone,
    needed,
    weights,
)
from surefit.results import Task

OURS = {"num_boost_round", "early_stopping_rounds", "monotone", "class_weight", LOSS}
LOSSES = {
    "squared_error": "reg:squarederror", "absolute_error": "reg:absoluteerror",
    "poisson": "count:poisson", "gamma": "reg:gamma",
}  # fmt: skip


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Boost until the loss on `stop` has not fallen for `early_stopping_rounds` rounds."""
    xgboost = needed("xgboost", "model.family = xgboost")
    native = {
        **{k: v for k, v in params.items() if k not in OURS}, **objective(setting.task, params),
        "seed": setting.seed, "verbosity": 0, "nthread": setting.threads, "tree_method": "hist",
    }  # fmt: skip
    if setting.task == "multiclass":
        native["num_class"] = setting.n_classes
    directions = monotone(params, train)
    if directions:
        native["monotone_constraints"] = tuple(directions)
    kinds = ["c" if i in train.categorical else "q" for i in range(train.X.shape[1])]

    def matrix(rows: Rows) -> Any:
        return xgboost.DMatrix(
            rows.X, rows.y, weight=weights(params, rows, setting.n_classes), feature_types=kinds,
            enable_categorical=True, nthread=setting.threads,
        )  # fmt: skip

    binned = matrix(train)
    losses: dict[str, Any] = {}
    early: dict[str, Any] = {}
    if stop is not None and setting.rounds is None:
        sets = [(matrix(stop), "valid")]
        if setting.curve:
            sets.insert(0, (binned, "train"))
        early = {"evals": sets, "early_stopping_rounds": int(params["early_stopping_rounds"])}
    rounds = setting.rounds or int(params["num_boost_round"])
    booster = xgboost.train(
        native, binned, rounds, evals_result=losses, verbose_eval=False, **early
    )
    best = booster.best_iteration + 1 if early else rounds
    return Fitted(estimator=booster[:best], curve=_curve(losses), rounds=best)


def objective(task: Task, params: Params) -> dict[str, Any]:
    """XGBoost's objective; its metric, by which it stops early, goes by that."""
    classes = {"binary": "binary:logistic", "multiclass": "multi:softprob"}
    return {"objective": classes.get(task) or fitted_loss(params, LOSSES)}


def _curve(losses: dict[str, Any]) -> tuple[tuple[int, float, float], ...]:
    if not losses:
        return ()
    squared = 2 if "rmse" in losses["valid"] else 1
    valid = next(iter(losses["valid"].values()))
    train = next(iter(losses["train"].values())) if "train" in losses else [np.nan] * len(valid)
    pairs = enumerate(zip(train, valid, strict=True))
    return tuple((i + 1, float(t) ** squared, float(v) ** squared) for i, (t, v) in pairs)


def booster_output(booster: Any, X: Any, n_classes: int) -> np.ndarray:
    """Probabilities (n, K), or values (n,) when `n_classes` is 0."""
    import xgboost

    data = xgboost.DMatrix(X, feature_types=booster.feature_types, enable_categorical=True)
    raw = np.asarray(booster.predict(data), dtype="float64")
    return np.column_stack([1 - raw, raw]) if n_classes == 2 else raw


def inside(booster: Any) -> Inside:
    """What the splits on each column gained in all."""
    values = np.zeros(booster.num_features())
    for name, gain in booster.get_score(importance_type="total_gain").items():
        values[int(name.removeprefix("f"))] = gain
    return Inside(kind="gain", values=values)


def save(estimator: Any, folder: Path) -> None:
    """Write XGBoost's own binary JSON."""
    estimator.save_model(str(folder / "booster.ubj"))


def load_estimator(folder: Path, n_classes: int) -> Any:
    """The saved booster as a function of X."""
    import xgboost

    booster = xgboost.Booster(model_file=str(folder / "booster.ubj"))
    return lambda X: booster_output(booster, X, n_classes)


_KNOWN = {
    "learning_rate", "max_depth", "max_leaves", "grow_policy", "min_child_weight", "subsample",
    "colsample_bytree", "colsample_bylevel", "colsample_bynode", "reg_alpha", "reg_lambda",
    "gamma", "max_bin", "max_cat_to_onehot", "max_cat_threshold", "max_delta_step",
    "scale_pos_weight", *OURS,
}  # fmt: skip

_ALIASES = {
    "n_estimators": "num_boost_round", "num_round": "num_boost_round", "eta": "learning_rate",
    "lambda": "reg_lambda", "alpha": "reg_alpha", "min_split_loss": "gamma", "objective": LOSS,
}  # fmt: skip


# Space: TabArena's for XGBoost (Apache-2.0; figures only). Starting points: the library's default
# and the tuned defaults of pytabkit (Holzmüller, Grinsztajn, Steinwart 2024, arXiv 2407.04491).
def _starts(task: Task) -> tuple[dict[str, Any], ...]:
    usual = {"learning_rate": usual_rate(task), "max_depth": 6, "min_child_weight": 1.0,
             "subsample": 1.0, "colsample_bylevel": 1.0, "reg_lambda": 1.0}  # fmt: skip
    tuned = {"max_depth": 9, "min_child_weight": 2.0, "subsample": 0.7, "reg_lambda": 1e-4}
    if task != "regression":
        tuned = {"learning_rate": 0.08, "max_depth": 6, "min_child_weight": 0.001,
                 "colsample_bylevel": 0.9, "subsample": 0.65, "reg_lambda": 1e-4}  # fmt: skip
    return usual, {**usual, **tuned}


def _cost(size: Size, params: Params) -> float:
    rate = number(params, "learning_rate", usual_rate(size.task))
    rounds = boosting_rounds(size, rate, int(number(params, "num_boost_round", 1000)))
    deepest = 2 ** min(number(params, "max_depth", 6), DEEPEST)
    return 0.05 + 1.3 * histogram_trees(size, rounds, number(params, "max_leaves", deepest))


FAMILY = Family(
    name="xgboost",
    encoding="ordinal",
    iterative=True,
    steps="num_boost_round",
    defaults=lambda task: {
        "learning_rate": usual_rate(task),
        "num_boost_round": 1000,
        "early_stopping_rounds": 50,
    },
    known=lambda task: _KNOWN if task == "regression" else _KNOWN - {LOSS},
    losses=LOSSES,
    objective=objective,
    aliases=lambda: _ALIASES,
    space=lambda task: {
        "learning_rate": "log 0.005..0.1",
        "max_depth": "int log 4..10",
        "min_child_weight": "log 0.001..5",
        "subsample": "0.6..1",
        "colsample_bylevel": "0.6..1",
        "reg_lambda": "log 0.0001..5",
    },
    starts=_starts,
    fit=fit,
    inside=inside,
    predict=booster_output,
    save=save,
    load=load_estimator,
    helpers=(booster_output,),
    cost=_cost,
    requires=("xgboost",),
)
