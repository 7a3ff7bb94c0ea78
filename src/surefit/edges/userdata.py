"""The user's own function that gives the table: `data.path = "data.py:load"`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from surefit.errors import DataError, TerminatedError, UserCodeError, did_you_mean


def call(file: Path, name: str) -> Any:
    """What the function gives, called without arguments, its folder on the import path.

    Raises:
        DataError: when there is no such file or function.
        UserCodeError: when it fails, with its traceback.
    """
    if not file.is_file():
        raise DataError(f"There is no file {file.name} for data.path.", f"write def {name}() in it")
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        module = _imported(file)
        function = getattr(module, name, None)
        if not callable(function):
            known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
            advice = did_you_mean(name, known) if known else "it defines none"
            raise DataError(f"{file.name} has no function {name}; {advice}")
        return _run(function, f"{file.name}:{name}")
    finally:
        sys.path.remove(folder)


def _imported(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"surefit_user_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    execute = spec.loader.exec_module
    _run(lambda: execute(module), file.name)
    return module


def _run(function: Any, what: str) -> Any:
    try:
        return function()
    except TerminatedError:
        raise
    except (Exception, SystemExit) as error:
        lines = "".join(traceback.format_exception(error)).rstrip()
        raise UserCodeError(f"{what} failed: {type(error).__name__}: {error}\n{lines}") from error
