"""Gradient boosting by CatBoost (an extra), with its own encoding of categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit.models.costs import Size, boosting_rounds, number, usual_rate
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

OURS = {"iterations", "early_stopping_rounds", "monotone", "class_weight", LOSS}
LOSSES = {"squared_error": "RMSE", "absolute_error": "MAE", "poisson": "Poisson"}


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Boost until the loss on `stop` has not fallen for `early_stopping_rounds` rounds."""
    catboost = needed("catboost", "model.family = catboost")
    native = {
        **{k: v for k, v in params.items() if k not in OURS}, **objective(setting.task, params),
        "random_seed": setting.seed, "thread_count": setting.threads,
        "allow_writing_files": False, "verbose": False,
        "iterations": setting.rounds or int(params["iterations"]),
    }  # fmt: skip
    directions = monotone(params, train)
    if directions:
        native["monotone_constraints"] = directions

    def pool(rows: Rows) -> Any:
        return catboost.Pool(
            category_frame(rows.X, list(rows.categorical)), rows.y,
            cat_features=list(rows.categorical),
            weight=weights(params, rows, setting.n_classes),
        )  # fmt: skip

    model = catboost.CatBoost(native)
    if stop is None or setting.rounds is not None:
        model.fit(pool(train))
        return Fitted(estimator=model, rounds=model.tree_count_)
    model.fit(
        pool(train), eval_set=pool(stop), use_best_model=True,
        early_stopping_rounds=int(params["early_stopping_rounds"]),
    )  # fmt: skip
    return Fitted(
        estimator=model, curve=_curve(model.get_evals_result()), rounds=max(1, model.tree_count_)
    )


def objective(task: Task, params: Params) -> dict[str, Any]:
    """CatBoost's loss function, by which it stops early too."""
    classes = {"binary": "Logloss", "multiclass": "MultiClass"}
    return {"loss_function": classes.get(task) or fitted_loss(params, LOSSES)}


def _curve(results: dict[str, Any]) -> tuple[tuple[int, float, float], ...]:
    name = next(iter(results["learn"]))
    squared = 2 if name == "RMSE" else 1
    pairs = enumerate(zip(results["learn"][name], results["validation"][name], strict=True))
    return tuple((i + 1, float(t) ** squared, float(v) ** squared) for i, (t, v) in pairs)


def category_frame(X: Any, categorical: list[int]) -> Any:
    """Category codes as whole numbers, which CatBoost wants; -1 where missing or unknown."""
    if not categorical:
        return np.asarray(X, dtype="float64")
    frame = pd.DataFrame(np.asarray(X, dtype="float64"))
    for column in categorical:
        frame[column] = frame[column].fillna(-1).astype("int64")
    return frame


def catboost_output(model: Any, X: Any, n_classes: int) -> np.ndarray:
    """Probabilities (n, K), or values (n,) when `n_classes` is 0."""
    frame = category_frame(X, list(model.get_cat_feature_indices()))
    if n_classes:
        return np.asarray(model.predict(frame, prediction_type="Probability"), dtype="float64")
    kind = "Exponent" if model.get_param("loss_function") == "Poisson" else "RawFormulaVal"
    return np.asarray(model.predict(frame, prediction_type=kind), dtype="float64")


def inside(model: Any) -> Inside:
    """How far predictions change with a column on average: CatBoost's PredictionValuesChange."""
    return Inside(kind="change", values=np.asarray(model.get_feature_importance()))


def save(estimator: Any, folder: Path) -> None:
    """Write CatBoost's own binary format."""
    estimator.save_model(str(folder / "model.cbm"))


def load_estimator(folder: Path, n_classes: int) -> Any:
    """The saved model as a function of X."""
    import catboost

    model = catboost.CatBoost()
    model.load_model(str(folder / "model.cbm"))
    return lambda X: catboost_output(model, X, n_classes)


_KNOWN = {
    "learning_rate", "depth", "l2_leaf_reg", "subsample", "bootstrap_type", "colsample_bylevel",
    "rsm", "grow_policy", "leaf_estimation_iterations", "one_hot_max_size", "max_ctr_complexity",
    "boosting_type", "random_strength", "bagging_temperature", "min_data_in_leaf", "max_leaves",
    "border_count", *OURS,
}  # fmt: skip

_ALIASES = {
    "n_estimators": "iterations", "num_trees": "iterations", "num_boost_round": "iterations",
    "max_depth": "depth", "eta": "learning_rate", "reg_lambda": "l2_leaf_reg",
    "max_bin": "border_count", "min_child_samples": "min_data_in_leaf",
    "num_leaves": "max_leaves", "loss_function": LOSS, "objective": LOSS,
}  # fmt: skip


# Space: TabArena's for CatBoost (Apache-2.0; figures only). Starting points: the library's default
# and the tuned defaults of pytabkit (Holzmüller, Grinsztajn, Steinwart 2024, arXiv 2407.04491).
def _starts(task: Task) -> tuple[dict[str, Any], ...]:
    usual = {"learning_rate": usual_rate(task), "depth": 6, "l2_leaf_reg": 3.0, "subsample": 0.8}
    tuned = {"learning_rate": 0.09, "depth": 8, "leaf_estimation_iterations": 20}
    if task != "regression":
        tuned = {"learning_rate": 0.08, "depth": 7, "l2_leaf_reg": 1e-4, "subsample": 0.9,
                 "leaf_estimation_iterations": 1}  # fmt: skip
    return usual, {**usual, **tuned}


def _cost(size: Size, params: Params) -> float:
    """Categories are dear: their statistics are made anew, and combined, each round."""
    rate = number(params, "learning_rate", usual_rate(size.task))
    most = int(number(params, "iterations", 1000))
    rounds = boosting_rounds(size, rate, most) * (4 if size.task == "multiclass" else 1)
    numbers = 0.5 + 0.1 * size.numbers + 2e-6 * size.rows * size.columns
    tree = numbers + size.categories * (0.3 + 1.1e-4 * size.rows)
    depth = number(params, "depth", 6)
    return 0.1 + 1e-3 * min(rounds, most) * size.outputs * tree * float(2 ** ((depth - 6) / 2))


FAMILY = Family(
    name="catboost",
    encoding="ordinal",
    iterative=True,
    steps="iterations",
    defaults=lambda task: {
        "learning_rate": usual_rate(task),
        "iterations": 1000,
        "early_stopping_rounds": 50,
        "bootstrap_type": "Bernoulli",
        "boosting_type": "Plain",
    },
    known=lambda task: _KNOWN if task == "regression" else _KNOWN - {LOSS},
    losses=LOSSES,
    objective=objective,
    aliases=lambda: _ALIASES,
    space=lambda task: {
        "learning_rate": "log 0.005..0.1",
        "depth": "int 4..8",
        "l2_leaf_reg": "log 0.0001..5",
        "subsample": "0.7..1",
        "leaf_estimation_iterations": "int log 1..20",
    },
    starts=_starts,
    fit=fit,
    inside=inside,
    predict=catboost_output,
    save=save,
    load=load_estimator,
    helpers=(category_frame, catboost_output),
    cost=_cost,
    requires=("catboost",),
)
