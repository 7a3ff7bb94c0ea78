"""Gradient boosting by LightGBM, with its native categories and missing values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from surefit.models.costs import Size, boosting_rounds, histogram_trees, number, usual_rate
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
    weights,
)
from surefit.results import Task

OURS = {"num_iterations", "early_stopping_round", "monotone", "class_weight", LOSS}
LOSSES = {
    "squared_error": "regression", "absolute_error": "regression_l1", "poisson": "poisson",
    "gamma": "gamma",
}  # fmt: skip
# These decide how rows are binned and kept: rows binned with others cannot be used again. LightGBM
# would bin them anew, and leave them so for the next fit.
BINNING = (
    "bin_construct_sample_cnt", "data_random_seed", "enable_bundle", "forcedbins_filename",
    "is_enable_sparse", "linear_tree", "max_bin", "max_bin_by_feature", "max_cat_to_onehot",
    "min_data_in_bin", "pre_partition", "two_round", "use_missing", "zero_as_missing",
)  # fmt: skip
FIXED = {
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,  # binned rows are shared by trials with other min_data_in_leaf
}


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Boost until the loss on `stop` has not fallen for `early_stopping_round` rounds.

    The result does not depend on the number of threads (LightGBM's `deterministic`).
    """
    import lightgbm

    given = {k: v for k, v in params.items() if k not in OURS}
    native = {
        **given, **FIXED, **objective(setting.task, params),
        "num_threads": setting.threads, "seed": setting.seed,
    }  # fmt: skip
    if setting.task == "multiclass":
        native["num_class"] = setting.n_classes
    directions = monotone(params, train)
    if directions:
        native["monotone_constraints"] = directions
    weight = weights(params, train, setting.n_classes)
    rounds = setting.rounds or int(params["num_iterations"])
    binned = _binned(native, train, "train", setting, reference=None)
    _weigh(binned, weight)
    sets: list[Any] = []
    names: list[str] = []
    callbacks: list[Any] = []
    losses: dict[str, Any] = {}
    if stop is not None and setting.rounds is None:
        stopping = _binned(native, stop, "stop", setting, reference=binned)
        _weigh(stopping, weights(params, stop, setting.n_classes))
        sets.append(stopping)
        names.append("valid")
        callbacks.append(
            lightgbm.early_stopping(int(params["early_stopping_round"]), verbose=False)
        )
        callbacks.append(lightgbm.record_evaluation(losses))
        if setting.curve:
            sets.append(binned)
            names.append("train")
            native["is_provide_training_metric"] = True
    booster = lightgbm.train(
        native, binned, rounds, valid_sets=sets, valid_names=names, callbacks=callbacks
    )
    best = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
    return Fitted(estimator=booster, curve=_curve(losses), rounds=best)


def objective(task: Task, params: Params) -> dict[str, Any]:
    """LightGBM's objective; its metric, by which it stops early, goes by that."""
    return {"objective": fitted_loss(params, LOSSES) if task == "regression" else task}


def _binned(params: dict[str, Any], rows: Rows, part: str, setting: Setting, reference: Any) -> Any:
    import lightgbm

    key = ("lightgbm", part, *(repr(params.get(name)) for name in BINNING))
    if key not in setting.cache:
        keep = {k: params[k] for k in (*BINNING, *FIXED, "num_threads") if k in params}
        setting.cache[key] = lightgbm.Dataset(
            rows.X,
            rows.y,
            categorical_feature=list(rows.categorical),
            reference=reference,
            params=keep,
            free_raw_data=False,
        ).construct()
    return setting.cache[key]


def _weigh(binned: Any, weight: np.ndarray | None) -> None:
    """Set the rows' weights; those of an earlier fit stay where LightGBM is given none, or ones."""
    binned.set_field("weight", None)
    binned.set_weight(weight)


def _curve(losses: dict[str, Any]) -> tuple[tuple[int, float, float], ...]:
    if not losses:
        return ()
    valid = next(iter(losses["valid"].values()))
    train = next(iter(losses["train"].values())) if "train" in losses else [np.nan] * len(valid)
    return tuple(
        (i + 1, float(t), float(v)) for i, (t, v) in enumerate(zip(train, valid, strict=True))
    )


def predict(estimator: Any, X: Any, n_classes: int) -> np.ndarray:
    """Probabilities (n, K), or values (n,) when `n_classes` is 0."""
    raw = np.asarray(estimator.predict(X))
    return np.column_stack([1 - raw, raw]) if n_classes == 2 else raw


def save(estimator: Any, folder: Path) -> None:
    """Write LightGBM's own text format, cut at the best round."""
    estimator.save_model(str(folder / "booster.txt"))


def load_estimator(folder: Path, n_classes: int) -> Any:
    """The saved booster as a function of X."""
    import lightgbm

    booster = lightgbm.Booster(model_file=str(folder / "booster.txt"))

    def estimate(X: Any) -> np.ndarray:
        raw = np.asarray(booster.predict(X))
        return np.column_stack([1 - raw, raw]) if n_classes == 2 else raw

    return estimate


def inside(estimator: Any) -> Inside:
    """What the splits on each column gained in all, up to the best round."""
    return Inside(kind="gain", values=estimator.feature_importance(
        "gain", iteration=estimator.best_iteration if estimator.best_iteration > 0 else None
    ))  # fmt: skip


def _defaults(task: Task) -> dict[str, Any]:
    return {
        "learning_rate": usual_rate(task),
        "num_iterations": 1000,
        "early_stopping_round": 50,
        "bagging_freq": 1,  # else a bagging_fraction would do nothing
    }


def _known(task: Task) -> set[str]:
    from lightgbm.basic import _ConfigAliases

    aliases = _ConfigAliases._get_all_param_aliases()
    taken = {"objective", "metric", "num_class", "num_threads", "seed", *FIXED}
    return {*OURS, *aliases} - taken - (set() if task == "regression" else {LOSS})


def _aliases() -> dict[str, str]:
    from lightgbm.basic import _ConfigAliases

    known = _ConfigAliases._get_all_param_aliases()
    ours = dict.fromkeys(("objective", *known["objective"]), LOSS)
    return {a: name for name, others in known.items() for a in others if a != name} | ours


# Space: TabArena's for LightGBM (Apache-2.0; figures only). Starting points: the library's default,
# the tuned defaults of pytabkit (Holzmüller, Grinsztajn, Steinwart 2024, arXiv 2407.04491), and
# extremely randomised trees.
def _starts(task: Task) -> tuple[dict[str, Any], ...]:
    usual = {
        "learning_rate": usual_rate(task), "num_leaves": 31, "min_data_in_leaf": 20,
        "feature_fraction": 1.0, "bagging_fraction": 1.0, "lambda_l1": 1e-4, "lambda_l2": 1e-4,
        "extra_trees": False,
    }  # fmt: skip
    tuned = {
        "learning_rate": 0.05,
        "bagging_fraction": 0.7,
        "num_leaves": 100,
        "min_data_in_leaf": 3,
    }
    if task != "regression":
        tuned = {
            "learning_rate": 0.04, "bagging_fraction": 0.75, "num_leaves": 50,
            "min_data_in_leaf": 40,
        }  # fmt: skip
    extra = {"extra_trees": True, "learning_rate": 0.03, "num_leaves": 128, "feature_fraction": 0.9}
    return usual, {**usual, **tuned}, {**usual, **extra, "min_data_in_leaf": 5}


def _cost(size: Size, params: Params) -> float:
    rate = number(params, "learning_rate", usual_rate(size.task))
    rounds = boosting_rounds(size, rate, int(number(params, "num_iterations", 1000)))
    return 0.05 + histogram_trees(size, rounds, number(params, "num_leaves", 31))


FAMILY = Family(
    name="lightgbm",
    encoding="ordinal",
    iterative=True,
    steps="num_iterations",
    defaults=_defaults,
    known=_known,
    losses=LOSSES,
    objective=objective,
    aliases=_aliases,
    space=lambda task: {
        "learning_rate": "log 0.005..0.1",
        "num_leaves": "int log 2..200",
        "min_data_in_leaf": "int log 1..64",
        "feature_fraction": "0.4..1",
        "bagging_fraction": "0.7..1",
        "lambda_l1": "log 0.0001..1",
        "lambda_l2": "log 0.0001..2",
        "extra_trees": [False, True],
    },
    starts=_starts,
    fit=fit,
    inside=inside,
    predict=predict,
    save=save,
    load=load_estimator,
    cost=_cost,
    requires=("lightgbm",),
)
