"""scikit-learn objects in skops files: no pickle, and only types that we have reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

import numpy as np

# Types beyond skops' own list that our estimators and encoders are made of. Each only holds data:
# none runs code of the file when it is built again.
TRUSTED = [
    "collections.OrderedDict",
    "numpy.dtype",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.tree._tree.Tree",
    "skrub._agg_joiner",
    "skrub._datetime_encoder.DatetimeEncoder",
    "skrub._string_encoder.StringEncoder",
    "skrub._to_float.ToFloat",
    "skrub._to_str.ToStr",
    "skrub._scaling_factor.scaling_factor",
]


def save_skops(thing: Any, path: Path) -> None:
    """Write a fitted scikit-learn object.

    Raises:
        TypeError: when it holds a type that is not on the reviewed list.
    """
    import skops.io

    skops.io.dump(thing, path, compression=ZIP_DEFLATED, compresslevel=3)
    unknown = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED)
    if unknown:
        raise TypeError(f"types not on the reviewed list: {sorted(unknown)}")


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
