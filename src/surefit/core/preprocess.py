"""Columns by kind into a matrix, by scikit-learn and skrub; fitted on training rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from surefit.core.kinds import MAX_LEVELS, Column
from surefit.models.family import Encoding

TEXT_COMPONENTS = 30


def preprocess(*, scale: bool = False, text_components: int = TEXT_COMPONENTS) -> Any:
    """An unfitted transformer from a mixed frame to numbers, for a model of your own.

    skrub's TableVectorizer: numbers stay, text that holds numbers or dates is read as such, a
    category (at most 40 levels) is one column of codes or, for `scale`, one column a level, free
    text is its TF-IDF of character n-grams cut to `text_components`, dates are their parts. In
    `make_pipeline(surefit.preprocess(), model)` it is fitted inside each fold. It holds skrub and
    scikit-learn alone: a model saved with it does not need surefit.

    Args:
        scale: for models that need numbers without gaps on one scale (linear models, networks,
            neighbours): categories one-hot, missing numbers imputed by the median, all scaled.
            False is for trees: codes for categories, missing as NaN.
        text_components: columns for each free text.

    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> model = make_pipeline(preprocess(scale=True), Ridge())
    """
    from sklearn.pipeline import make_pipeline
    from skrub import DatetimeEncoder, StringEncoder, TableVectorizer

    table = TableVectorizer(
        cardinality_threshold=MAX_LEVELS + 1,
        low_cardinality=_levels_as_columns() if scale else _categories("ordinal"),
        high_cardinality=StringEncoder(n_components=text_components, random_state=0),
        datetime=DatetimeEncoder(add_weekday=True),
    )
    return make_pipeline(table, _gapless(indicator=False)) if scale else table


class AsItIs:
    """No preprocessing: the user's own code does it, inside each fold."""

    def fit_transform(self, frame: Any) -> Any:
        """The frame itself."""
        return frame

    def transform(self, frame: Any) -> Any:
        """The frame itself."""
        return frame


def _levels_as_columns() -> Any:
    """skrub puts frames together, and these hold no sparse columns."""
    from sklearn.preprocessing import OneHotEncoder

    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


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
    for number, column in enumerate(columns):  # scikit-learn refuses some names of columns as steps
        if column.kind in ("text", "date"):
            steps.append((f"{column.kind}-{number}", _wide(column.kind, encoding), column.name))
    return ColumnTransformer(steps, sparse_threshold=0.3)


def matrix(
    transformer: Any,
    columns: Sequence[Column],
    encoding: Encoding,
    frame: pd.DataFrame,
    rows: np.ndarray,
    *,
    fit: bool,
) -> Any:
    """The chosen rows as the model's matrix; with `fit` the transformer is fitted on them first.

    Numbers alone, for trees, go straight into the matrix: they are passed through as they are, and
    a ColumnTransformer would copy them three times.
    """
    if encoding == "ordinal" and all(c.kind == "number" for c in columns):
        if fit:
            transformer.fit(frame.iloc[rows[:1]])  # it learns the names, nothing else
        found = np.empty((len(rows), len(columns)))
        for place, column in enumerate(columns):
            found[:, place] = frame[column.name].to_numpy()[rows]
        return found
    chosen = frame.iloc[rows]
    return transformer.fit_transform(chosen) if fit else transformer.transform(chosen)


def categorical_columns(columns: Sequence[Column], encoding: Encoding) -> tuple[int, ...]:
    """Which columns of the matrix are category codes: they come first."""
    count = sum(c.kind == "category" for c in columns)
    return tuple(range(count)) if encoding == "ordinal" else ()


def number_columns(columns: Sequence[Column]) -> dict[str, int]:
    """Where each number feature is in the matrix of the ordinal encoding, by name."""
    first = sum(c.kind == "category" for c in columns)
    numbers = [c.name for c in columns if c.kind == "number"]
    return {name: first + place for place, name in enumerate(numbers)}


def places(
    transformer: Any, columns: Sequence[Column], encoding: Encoding
) -> list[tuple[str, str]]:
    """(feature, name) of each column of the matrix that a fitted `make` gives.

    A category's level is "sex = male", what tells of a gap "age is missing", and a part of a date
    or a text what skrub calls it.
    """
    found: list[tuple[str, str]] = []
    kinds = {kind: [c.name for c in columns if c.kind == kind] for kind in ("category", "number")}
    for name, step, _ in transformer.transformers_:
        if name == "category" and encoding == "onehot":
            pairs = zip(kinds["category"], step.categories_, strict=True)
            found += [(feature, f"{feature} = {_level(v)}") for feature, vs in pairs for v in vs]
        elif name in kinds:
            found += [(feature, feature) for feature in kinds[name]]
            if name == "number" and encoding == "onehot":
                gaps = step[0].indicator_.features_
                found += [(f, f"{f} is missing") for f in np.array(kinds["number"])[gaps]]
        elif name != "remainder":
            feature = columns[int(name.rpartition("-")[2])].name
            found += [(feature, str(part)) for part in step.get_feature_names_out()]
    return found


def _level(value: Any) -> str:
    return "missing" if pd.isna(value) else str(value)


def _categories(encoding: Encoding) -> Any:
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
