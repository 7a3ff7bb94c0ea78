"""Columns by kind into a matrix, by scikit-learn and skrub; fitted on training rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from surefit.core.data import Column
from surefit.models.family import Encoding

TEXT_COMPONENTS = 30


class AsItIs:
    """No preprocessing: the user's own code does it, inside each fold."""

    def fit_transform(self, frame: Any) -> Any:
        """The frame itself."""
        return frame

    def transform(self, frame: Any) -> Any:
        """The frame itself."""
        return frame


def make(columns: Sequence[Column], encoding: Encoding) -> Any:
    """An unfitted ColumnTransformer.

    Args:
        columns: the features with their kinds.
        encoding: "ordinal" for trees (categories as codes, unknown and missing as NaN, numbers as
            they are), "onehot" for models that need numbers without gaps on one scale; "raw" for
            the user's own code, which gets the frame as it is.
    """
    if encoding == "raw":
        return AsItIs()
    from sklearn.compose import ColumnTransformer

    steps: list[tuple[str, Any, Any]] = []
    numbers = [c.name for c in columns if c.kind == "number"]
    categories = [c.name for c in columns if c.kind == "category"]
    if categories:
        steps.append(("category", _categories(encoding), categories))
    if numbers:
        steps.append(("number", _numbers(encoding), numbers))
    for column in columns:
        if column.kind in ("text", "date"):
            steps.append(
                (f"{column.kind}:{column.name}", _wide(column.kind, encoding), column.name)
            )
    return ColumnTransformer(steps, sparse_threshold=0.3)


def categorical_columns(columns: Sequence[Column], encoding: Encoding) -> tuple[int, ...]:
    """Which columns of the matrix are category codes: they come first."""
    count = sum(c.kind == "category" for c in columns)
    return tuple(range(count)) if encoding == "ordinal" else ()


def number_columns(columns: Sequence[Column]) -> dict[str, int]:
    """Where each number feature is in the matrix of the ordinal encoding, by name."""
    first = sum(c.kind == "category" for c in columns)
    numbers = [c.name for c in columns if c.kind == "number"]
    return {name: first + place for place, name in enumerate(numbers)}


def _categories(encoding: Encoding) -> Any:
    import numpy as np
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    if encoding == "onehot":
        return OneHotEncoder(handle_unknown="ignore", dtype=np.float64)
    return OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
    )


def _numbers(encoding: Encoding) -> Any:
    if encoding == "ordinal":
        return "passthrough"
    return _gapless(indicator=True)


def _gapless(*, indicator: bool) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    imputer = SimpleImputer(strategy="median", add_indicator=indicator, keep_empty_features=True)
    return make_pipeline(imputer, StandardScaler())


def _wide(kind: str, encoding: Encoding) -> Any:
    from sklearn.pipeline import make_pipeline
    from skrub import DatetimeEncoder, StringEncoder

    encoder: Any = DatetimeEncoder(add_weekday=True)
    if kind == "text":
        encoder = StringEncoder(n_components=TEXT_COMPONENTS, random_state=0)
    return make_pipeline(encoder, _gapless(indicator=False)) if encoding == "onehot" else encoder


def preprocess(*, encoding: Encoding = "ordinal") -> Any:
    """Preprocessing for a pipeline of your own: a plain, unfitted skrub and scikit-learn object.

    It reads any table, as `surefit.preprocess()` at the head of `make_pipeline`: numbers, dates,
    categories (at most 40 levels) and text.

    Args:
        encoding: "ordinal" for trees (missing stays NaN), "onehot" for models that need numbers
            without gaps on one scale.
    """
    from sklearn.pipeline import make_pipeline
    from skrub import DatetimeEncoder, StringEncoder, TableVectorizer

    low: Any = _categories(encoding)
    if encoding == "onehot":
        low.set_params(sparse_output=False)
    vectorizer = TableVectorizer(
        low_cardinality=low,
        high_cardinality=StringEncoder(n_components=TEXT_COMPONENTS, random_state=0),
        datetime=DatetimeEncoder(add_weekday=True),
    )
    if encoding == "ordinal":
        return vectorizer
    return make_pipeline(vectorizer, _gapless(indicator=False))
