"""The user's own code: functions of the project's files, their failures told with their line."""

from __future__ import annotations

import functools
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from surefit.errors import ConfigError, SurefitError, UserCodeError, did_you_mean


def names_function(spec: str) -> bool:
    """Whether a text has the form "file.py:function"."""
    file, _, name = spec.rpartition(":")
    return file.endswith(".py") and name.isidentifier()


def function(spec: str, root: Path) -> Callable[..., Any]:
    """The function that "file.py:name" names, in a file of the project's folder.

    Raises:
        ConfigError: when there is no such file or function.
        UserCodeError: when the file fails as it is imported; and, from the function itself, when
            it fails as it is called.
    """
    file, _, name = spec.rpartition(":")
    path = (root / file).resolve()
    if not path.is_file():
        raise ConfigError(f"{spec}: there is no file {file} in the project's folder.")
    module = _imported(path, root)
    found = getattr(module, name, None)
    if not callable(found):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise ConfigError(f"{spec}: {file} has no function {name}; {did_you_mean(name, known)}")

    @functools.wraps(found)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return found(*args, **kwargs)
        except SurefitError:
            raise
        except Exception as error:
            raise told(error, root) from error

    return call


def _imported(path: Path, root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"surefit_project_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(root))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise told(error, root) from error
    finally:
        sys.path.remove(str(root))
    return module


def told(error: BaseException, root: Path) -> UserCodeError:
    """A failure of the user's code as ours: their file, line and text of the line."""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{Path(error.filename).name}, line {error.lineno}"
        return UserCodeError(f"{place}: {error.msg}\n    {(error.text or '').strip()}")
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(root.resolve())]
    what = f"{type(error).__name__}: {error}"
    if not own:
        return UserCodeError(what)
    last = own[-1]
    where = Path(last.filename).relative_to(root.resolve())
    return UserCodeError(f"{where}, line {last.lineno}, in {last.name}: {what}\n    {last.line}")
