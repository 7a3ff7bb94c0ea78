"""The baseline that looks at no feature: class shares, or the mean."""

from __future__ import annotations

from typing import Any

from surefit.models import skops_files
from surefit.models.family import Family, Fitted, Params, Rows, Setting
from surefit.results import Task


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """Learn the class shares or the mean of the target."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    make: Any = DummyClassifier if setting.n_classes else DummyRegressor
    return Fitted(estimator=make(**params).fit(train.X, train.y))


def _defaults(task: Task) -> dict[str, Any]:
    return {"strategy": "mean" if task == "regression" else "prior"}


FAMILY = Family(
    name="dummy",
    encoding="ordinal",
    iterative=False,
    defaults=_defaults,
    known=lambda task: {"strategy"},
    space=lambda task: {
        "strategy": ["mean", "median"] if task == "regression" else ["prior", "uniform"]
    },
    starts=lambda task: (),
    fit=fit,
    predict=skops_files.class_probabilities,
    save=skops_files.save_estimator,
    load=skops_files.load_estimator,
    cost=lambda size, params: 0.001,
)
