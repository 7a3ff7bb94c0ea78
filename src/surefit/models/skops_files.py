"""scikit-learn objects in skops files: no pickle, and only types that we have reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

import numpy as np

# Types beyond skops' own list that our estimators and encoders, and ordinary scikit-learn pipelines
# of the user's, are made of. Each only holds data, or is one harmless function: none runs code of
# the file when it is built again. A partial calls nothing but functions that are trusted too.
TRUSTED = [
    "builtins.object",
    "collections.OrderedDict",
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
    "skrub._agg_joiner",
    "skrub._apply_to_each_col.ApplyToEachCol",
    "skrub._check_input.CheckInputDataFrame",
    "skrub._clean_categories.CleanCategories",
    "skrub._clean_null_strings.CleanNullStrings",
    "skrub._dataframe._common.is_any_date",
    "skrub._dataframe._common.is_categorical",
    "skrub._dataframe._common.is_numeric",
    "skrub._datetime_encoder.DatetimeEncoder",
    "skrub._drop_uninformative.DropUninformative",
    "skrub._duration_to_float.DurationToFloat",
    "skrub._scaling_factor.scaling_factor",
    "skrub._string_encoder.StringEncoder",
    "skrub._table_vectorizer.PassThrough",
    "skrub._table_vectorizer.ShortReprDict",
    "skrub._table_vectorizer.TableVectorizer",
    "skrub._table_vectorizer._created_by_predicate",
    "skrub._to_datetime.ToDatetime",
    "skrub._to_float.ToFloat",
    "skrub._to_str.ToStr",
    "skrub.selectors._base.All",
    "skrub.selectors._base.And",
    "skrub.selectors._base.Cols",
    "skrub.selectors._base.Filter",
    "skrub.selectors._base.Sub",
    "skrub.selectors._selectors._cardinality_below",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
]


def save_skops(thing: Any, path: Path) -> None:
    """Write a fitted scikit-learn object.

    Raises:
        TypeError: when it holds a type that is not on the reviewed list.
    """
    import_skops()
    import skops.io

    skops.io.dump(thing, path, compression=ZIP_DEFLATED, compresslevel=3)
    unknown = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED)
    if unknown:
        raise TypeError(f"types not on the reviewed list: {sorted(unknown)}")


def import_skops() -> None:
    """Import skops, which looks through all of scikit-learn, but not through PyTorch for that.

    scikit-learn holds an adapter for PyTorch that imports it where it is installed: seconds, for
    nothing. Only this thread, and only now, is told that there is none. Needs nothing of ours:
    processes without surefit run its source.
    """
    import importlib
    import sys
    import threading

    caller = threading.get_ident()

    class NoTorch:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torch" and threading.get_ident() == caller:
                raise ModuleNotFoundError("No module named 'torch'", name="torch")

    if "torch" in sys.modules or "skops.io" in sys.modules:
        return
    finder = NoTorch()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("skops.io")
    finally:
        sys.meta_path.remove(finder)


def load_skops(path: Path) -> Any:
    """Read what `save_skops` wrote; a type off the list is refused."""
    import skops.io

    return skops.io.load(path, trusted=TRUSTED)


def class_probabilities(estimator: Any, X: Any, n_classes: int) -> np.ndarray:
    """(n, K) probabilities, with zeros for classes the estimator has not seen; or (n,) values."""
    if not n_classes:
        return np.asarray(estimator.predict(X), dtype="float64")
    probabilities = np.zeros((X.shape[0], n_classes))
    probabilities[:, estimator.classes_.astype("int64")] = estimator.predict_proba(X)
    return probabilities


def save_estimator(estimator: Any, folder: Path) -> None:
    """Write `estimator.skops` into the folder."""
    save_skops(estimator, folder / "estimator.skops")


def load_estimator(folder: Path, n_classes: int) -> Any:
    """The saved estimator as a function of X."""
    estimator = load_skops(folder / "estimator.skops")
    return lambda X: class_probabilities(estimator, X, n_classes)
