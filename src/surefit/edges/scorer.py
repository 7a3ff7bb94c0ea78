"""A model in this process, loaded by plain MLflow from a verified local folder."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from surefit.edges import own
from surefit.edges.store import first_line, without_logs
from surefit.errors import IntegrityError, UserCodeError
from surefit.models.skops_files import import_skops

Answer = Callable[[pd.DataFrame], pd.DataFrame]


def load(folder: Path, *, verified: bool) -> Answer:
    """A function from a frame that meets the signature to the model's answer.

    A model of ours is asked behind MLflow's own check of types, which refuses missing values in
    columns of whole numbers; the numbers are those that MLflow gives where it answers.

    Args:
        verified: its files are those that were written at training; a pickle is then read only
            where one was written.

    Raises:
        IntegrityError: when it does not load.
    """
    import mlflow.pyfunc

    before = os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION")
    if verified:
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = str(own.is_pickle(folder)).lower()
    try:
        with warnings.catch_warnings(), without_logs("mlflow"):
            warnings.simplefilter("ignore")
            if any(folder.rglob("*.skops")):
                import_skops()
            model = mlflow.pyfunc.load_model(str(folder))
    except Exception as error:
        raise IntegrityError(f"The model does not load: {first_line(error)}") from error
    finally:
        _restore("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", before)
    ours = model.unwrap_python_model() if verified else None

    def answer(frame: pd.DataFrame) -> pd.DataFrame:
        try:
            return _framed(model.predict(frame) if ours is None else ours.predict(None, frame))
        except Exception as error:
            raise UserCodeError(f"The model did not answer: {first_line(error)}") from error

    return answer


def _restore(name: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = before


def _framed(answered: Any) -> pd.DataFrame:
    if isinstance(answered, pd.DataFrame):
        return answered.reset_index(drop=True)
    return pd.DataFrame({"prediction": list(answered)})


def meta(folder: Path) -> dict[str, Any]:
    """The model's classes and threshold, {} for a model of another program."""
    for file in folder.rglob("meta.json"):
        found = json.loads(file.read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    return {}
