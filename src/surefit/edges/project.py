"""The user's own code: a function loaded from the file that the configuration names, by its path.

Nothing is imported from the current folder by chance. The file's folder is put last on the import
path, so that `import features` beside it works and none of its files hides a library's.
"""

from __future__ import annotations

import ast
import contextlib
import copyreg
import functools
import hashlib
import importlib.util
import linecache
import shutil
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import cloudpickle

from surefit.edges import redirect
from surefit.edges.redirect import Autologgers, Scratch
from surefit.errors import ConfigError, SurefitError, TerminatedError, UserCodeError, did_you_mean

_LIBRARIES = ("site-packages", "dist-packages", "<", "lib/python")
_PYTHONS = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib"))
_FOLDERS: list[str] = []  # put on the import path here, the latest first


@dataclass(frozen=True, kw_only=True)
class UserCode:
    """A function of the user's, ready to travel.

    Attributes:
        place: as the configuration says it: "model.py:build".
        function: cloudpickled, with all of the user's own modules that it uses inside.
        digest: SHA-256 of the source of the file and of the user's modules that it imports.
        files: their sources, by path relative to the project's folder.
        folder: where the file is.
        calls: the folders with what MLflow calls wrote as the file was imported.
        autologgers: those that are on since then.
    """

    place: str
    function: bytes = field(repr=False)
    digest: str
    files: dict[str, str] = field(repr=False)
    folder: str = ""
    calls: tuple[str, ...] = ()
    autologgers: Autologgers = field(default_factory=dict, repr=False)

    def load(self) -> Callable[..., Any]:
        """The function; from bytes that this run made."""
        loaded: Callable[..., Any] = cloudpickle.loads(self.function)
        return loaded


def load(place: str, root: Path, calls: Scratch) -> UserCode:
    """The function that "file.py:name" names, relative to the project's folder.

    Args:
        calls: where MLflow calls that the file makes as it is imported go.

    Raises:
        ConfigError: when there is no such file or function.
        UserCodeError: when the file fails as it is imported, the user's line first.
    """
    path, _, name = place.rpartition(":")
    file = (root / Path(path).expanduser()).resolve()
    if not file.is_file():
        near = did_you_mean(file.name, [p.name for p in file.parent.glob("*.py")])
        raise ConfigError(f'"{place}": there is no file {path}; {near}')
    with calls.redirected() as written:
        module = _import(file)
        on = redirect.autologgers()
    if not written:
        shutil.rmtree(calls.root, ignore_errors=True)
    function = getattr(module, name, None)
    if not callable(function):
        names = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise ConfigError(f'"{place}": {path} has no function {name}; {did_you_mean(name, names)}')
    carry(str(file.parent))
    _name_odd_modules()
    texts = {_relative(each, root): each.read_text("utf-8") for each in _sources(file)}
    digest = hashlib.sha256()
    for key in sorted(texts):
        digest.update(f"{key}\0{texts[key]}\0".encode())
    return UserCode(
        place=place, function=cloudpickle.dumps(function), digest=digest.hexdigest(), files=texts,
        folder=str(file.parent), calls=tuple(written), autologgers=on,
    )  # fmt: skip


def carry(folder: str) -> None:
    """From here on what is pickled holds the user's own modules of that folder by value."""
    for module in own_modules(Path(folder)):
        cloudpickle.register_pickle_by_value(module)


def names_function(place: str) -> bool:
    """Whether a text has the form "file.py:function"."""
    file, _, name = place.rpartition(":")
    return file.endswith(".py") and name.isidentifier()


def function(place: str, root: Path, calls: Scratch) -> Callable[..., Any]:
    """The function that "file.py:name" names; what it raises shows the user's line first.

    Its MLflow calls go nowhere: it is called thousands of times for one answer.

    Args:
        calls: where they go instead, as in `load`.

    Raises:
        ConfigError: when there is no such file or function.
        UserCodeError: when the file fails as it is imported, or the function as it is called.
    """
    code = load(place, root, calls)
    found = code.load()
    talks = any("mlflow" in text for text in code.files.values())

    @functools.wraps(found)
    def call(*args: Any, **kwargs: Any) -> Any:
        with users_line():
            if not talks:
                return found(*args, **kwargs)
            with calls.redirected() as written:
                answer = found(*args, **kwargs)
            for folder in written:
                shutil.rmtree(folder, ignore_errors=True)
            return answer

    return call


def _name_odd_modules() -> None:
    """Have modules of a class of their own pickled by name, as ordinary ones are.

    PyTorch's `torch.classes` is one, and comes along wherever a function names torch and `classes`.
    """
    for module in list(sys.modules.values()):
        kind = type(module)
        odd = isinstance(module, ModuleType) and kind is not ModuleType
        if odd and kind.__reduce_ex__ is object.__reduce_ex__:
            copyreg.pickle(kind, _by_name)


def _by_name(module: ModuleType) -> tuple[Callable[[str], ModuleType], tuple[str]]:
    return importlib.import_module, (module.__name__,)


def _import(file: Path) -> ModuleType:
    """Run the file anew, as the module named after it: it may have changed since the last time."""
    _on_path(str(file.parent))
    name = file.stem if file.stem not in sys.stdlib_module_names else f"user_{file.stem}"
    beside = {p.stem for p in file.parent.glob("*.py")}
    for old, there in list(sys.modules.items()):
        stale = old in beside and not installed(there)  # of another folder that had such a file
        if _within(there, file.parent) or stale:
            del sys.modules[old]
    linecache.checkcache()
    importlib.invalidate_caches()  # a file made a moment ago is one that can be imported
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with users_line(str(file)):
            # compiled here: a cached .pyc is told apart by the second, and edits are quicker
            exec(compile(file.read_bytes(), str(file), "exec"), vars(module))  # noqa: S102
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = kept
    return module


def _on_path(folder: str) -> None:
    """Behind all libraries, before the folders of projects that were loaded earlier."""
    if folder in sys.path and folder not in _FOLDERS:
        return
    if folder in _FOLDERS:
        _FOLDERS.remove(folder)
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
    places = [sys.path.index(other) for other in _FOLDERS if other in sys.path]
    sys.path.insert(min(places, default=len(sys.path)), folder)
    _FOLDERS.insert(0, folder)


def own_modules(folder: Path) -> list[ModuleType]:
    """The user's modules of the folder; `_import` threw out those of earlier loads."""
    return [m for _, m in sorted(sys.modules.items()) if _within(m, folder)]


def _sources(file: Path) -> list[Path]:
    """The file, the user's modules that it imported, and those that it will as it runs."""
    found = [Path(str(m.__file__)) for m in own_modules(file.parent)]
    for each in found:  # grows
        for name in imports(each.read_text("utf-8")):
            beside = file.parent / f"{name}.py"
            if beside.is_file() and beside not in found:
                found.append(beside)
    return sorted(set(found))


def imports(source: str) -> Iterator[str]:
    """The top-level modules that a file's text imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _within(module: ModuleType, folder: Path) -> bool:
    """Whether a module is the user's: a file under the folder that is no installed library."""
    path = getattr(module, "__file__", None)
    if not path or getattr(module, "__name__", "") == "__main__":
        return False
    file = Path(path)
    mine = file.suffix == ".py" and file.is_relative_to(folder) and not library_file(file)
    return mine and not _ours(module)


def installed(module: ModuleType) -> bool:
    """Whether a module is Python's own or an installed library's, or ours."""
    path = str(getattr(module, "__file__", None) or "")
    outside = any(part in path for part in _LIBRARIES) or library_file(Path(path))
    return not path or outside or _ours(module)


def library_file(file: Path) -> bool:
    """Whether a file is Python's own or an installed library's, wherever Python lies."""
    parts = file.parts
    installed_there = "site-packages" in parts or "dist-packages" in parts
    return installed_there or any(file.is_relative_to(folder) for folder in _PYTHONS)


def _ours(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] in ("surefit", "conftest", "pytest")


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


@contextmanager
def users_line(*files: str) -> Iterator[None]:
    """Turn what the user's code raises into an error that shows the user's own line first.

    Args:
        files: paths that are the user's; by default every file that is no library's.

    Raises:
        UserCodeError: from any exception in the block but our own errors, `sys.exit` included.
    """
    try:
        yield
    except (SurefitError, TerminatedError):
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(_told(error, files)) from error


def _told(error: BaseException, files: tuple[str, ...]) -> str:
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SyntaxError) and error.filename:
        shown = (error.text or "").strip()
        return f"{Path(error.filename).name}, line {error.lineno}: {said}\n    {shown}"
    frame = _users_frame(error.__traceback__, files)
    if frame is None:
        return f"{said}\n{''.join(traceback.format_exception(error)).strip()}"
    line = (frame.line or "").strip()
    where = f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
    rest = "".join(traceback.format_list(_below(error.__traceback__, frame))).rstrip()
    return f"{where}: {said}\n    {line}" + (f"\n  which led to\n{rest}" if rest else "")


def _users_frame(
    trace: TracebackType | None, files: tuple[str, ...]
) -> traceback.FrameSummary | None:
    mine = Path(__file__).parent.parent
    for frame in reversed(traceback.extract_tb(trace)):
        library = any(part in frame.filename for part in _LIBRARIES)
        if frame.filename in files or not (library or Path(frame.filename).is_relative_to(mine)):
            return frame
    return None


def _below(trace: TracebackType | None, frame: traceback.FrameSummary) -> list[Any]:
    """The last two frames under the user's: where in a library it ended."""
    frames = list(traceback.extract_tb(trace))
    return frames[frames.index(frame) + 1 :][-2:]
