"""From a table to a model you can be sure of: train, evaluate, tune, compare and promote."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefit.comparison import Comparison as Comparison
    from surefit.config import Config as Config
    from surefit.core.preprocess import preprocess as preprocess
    from surefit.errors import SurefitError as SurefitError
    from surefit.results import Decision as Decision
    from surefit.results import Evaluation as Evaluation
    from surefit.results import Score as Score
    from surefit.results import TrainResult as TrainResult
    from surefit.results import TuneResult as TuneResult
    from surefit.verbs.check import check as check
    from surefit.verbs.compare import compare as compare
    from surefit.verbs.doctor import doctor as doctor
    from surefit.verbs.eject import eject as eject
    from surefit.verbs.evaluate import evaluate as evaluate
    from surefit.verbs.history import history as history
    from surefit.verbs.init import init as init
    from surefit.verbs.predict import predict as predict
    from surefit.verbs.promote import promote as promote
    from surefit.verbs.report import report as report
    from surefit.verbs.reproduce import reproduce as reproduce
    from surefit.verbs.rollback import rollback as rollback
    from surefit.verbs.train import train as train
    from surefit.verbs.tune import tune as tune

# Where each public name lives: importing surefit itself imports nothing heavy.
_HOMES = {
    "check": "verbs.check", "preprocess": "core.preprocess",
    "compare": "verbs.compare", "doctor": "verbs.doctor", "evaluate": "verbs.evaluate",
    "init": "verbs.init",
    "history": "verbs.history", "predict": "verbs.predict", "promote": "verbs.promote",
    "report": "verbs.report", "reproduce": "verbs.reproduce", "eject": "verbs.eject",
    "rollback": "verbs.rollback", "train": "verbs.train", "tune": "verbs.tune",
    "Config": "config", "SurefitError": "errors",
    "Comparison": "comparison", "Decision": "results", "Evaluation": "results", "Score": "results",
    "TrainResult": "results", "TuneResult": "results",
}  # fmt: skip
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("surefit")
    if name not in _HOMES:
        raise AttributeError(f"surefit has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"surefit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
