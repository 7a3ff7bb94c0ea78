"""What makes a function of the user's own that function and no other, the same in every process.

Its code and the files beside it that it imports, what it is bound to and closed over, and the
globals that it reads. Values count as pickle takes them apart, arrays by their bytes; installed
libraries count by name.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

from surefit.edges import project
from surefit.errors import ConfigError

_ATOMS = (type(None), bool, int, float, complex, str, type(...), type(NotImplemented))
# Of a class: what Python makes of it, and what says nothing of what it does.
_MACHINERY = frozenset({
    "__annotations__", "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__",
    "__firstlineno__", "__module__", "__static_attributes__", "__weakref__", "_abc_impl",
})  # fmt: skip


class _UnlikeError(Exception):
    """A value that cannot be told from another in the next process; its kind, in words."""


def digest(function: Callable[..., Any]) -> str:
    """SHA-256 of all that decides what a function answers, as far as Python can tell.

    Raises:
        ConfigError: for something it holds that cannot be told from another in the next process.
    """
    try:
        return _digest(function)
    except (_UnlikeError, RecursionError) as error:
        held = "values in each other too deep" if isinstance(error, RecursionError) else error
        raise ConfigError(
            f"Whether an earlier search was of the same function cannot be told: "
            f"{getattr(function, '__name__', 'the objective')} holds {held}.",
            "make that inside the function; outside it plain values, arrays and tables can be held",
        ) from error


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose text it is: of a decorated one, a partial, a method or an instance."""
    found: Callable[..., Any] = inspect.unwrap(function)
    if isinstance(found, functools.partial):
        return inner(found.func)
    if isinstance(found, MethodType):
        return inner(found.__func__)
    call = getattr(type(found), "__call__", None)  # noqa: B004 - of its class, to be looked into
    if isinstance(call, FunctionType) and not isinstance(found, type):
        return inner(call)
    return found


def _digest(value: Any) -> str:
    reader = _Reader()
    reader.read(value)
    return reader.hexdigest()


class _Reader:
    """Reads a value into one hash; things met before are numbered, so that cycles end."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._met: dict[int, tuple[int, Any]] = {}  # by id: number, and kept lest an id come again
        self._files: set[Path] = set()

    def hexdigest(self) -> str:
        """Of all that was read."""
        return self._hash.hexdigest()

    def read(self, value: Any) -> None:
        """One value, with all that it holds.

        Raises:
            _UnlikeError: for something that cannot be taken apart.
        """
        if type(value) in _ATOMS:
            self._put(type(value).__name__, repr(value))
        elif type(value) in (bytes, bytearray):
            self._put("bytes", value)
        elif type(value) is tuple:  # whether two equal ones are the same one is Python's affair
            self._all("tuple", value)
        elif any(value is shared for shared in _generators()):
            self._put("global generator", type(value).__name__)
        elif id(value) in self._met:
            self._put("met", str(self._met[id(value)][0]))
        else:
            self._met[id(value)] = len(self._met), value
            self._new(value)

    def _new(self, value: Any) -> None:
        if type(value) is list:
            self._all("list", value)
        elif type(value) in (set, frozenset):
            self._all("set", sorted(_digest(each) for each in value))
        elif type(value) is dict:
            self._pairs(value)
        elif isinstance(value, ModuleType):
            self._module(value)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, CodeType):
            self._code(value)
        elif isinstance(value, type):
            self._class(value)
        elif type(value) is getattr(sys.modules.get("numpy"), "ndarray", None):
            self._put("array", str(value.dtype), str(value.shape))
            self.read(value.tolist() if value.dtype.hasobject else value.tobytes())
        elif isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ())):
            self._tensor(value)
        elif type(value) is getattr(sys.modules.get("pandas"), "DataFrame", None):
            self._put("frame")  # by column: how pandas keeps them together changes with use
            self.read((value.columns, value.index, [part.array for _, part in value.items()]))
        else:
            self._object(value)

    def _put(self, *parts: str | bytes | bytearray) -> None:
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            self._hash.update(b"%d:" % len(data))
            self._hash.update(data)

    def _all(self, kind: str, values: Iterable[Any]) -> None:
        listed = list(values)
        self._put(kind, str(len(listed)))
        for each in listed:
            self.read(each)

    def _pairs(self, values: Mapping[Any, Any]) -> None:
        keyed = sorted(((_digest(key), key) for key in values), key=lambda pair: pair[0])
        self._put("dict", str(len(keyed)))
        for found, key in keyed:
            self._put(found)
            self.read(values[key])

    def _object(self, value: Any) -> None:
        """Anything else, as pickle would make it again."""
        reduce = cloudpickle.Pickler.dispatch_table.get(type(value))
        try:
            made = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise _UnlikeError(f"a {kind}, which cannot be pickled") from error
        if isinstance(made, str):
            self._put("name", str(getattr(value, "__module__", "")), made)
            self.read(getattr(value, "__wrapped__", None))  # functools.cache
            return
        parts: list[Any] = [*made, None, None, None]
        how, arguments, state, items, pairs = parts[:5]
        self._put("object")
        self.read(how)
        self.read(tuple(arguments))
        self.read(state)
        self._all("items", items or ())
        self._pairs(dict(pairs or ()))

    def _tensor(self, tensor: Any) -> None:
        """A PyTorch tensor by its bytes; those of its pickle differ from process to process."""
        kind, byte = type(tensor).__qualname__, sys.modules["torch"].uint8
        self._put(kind, str(tensor.dtype), str(tuple(tensor.shape)), str(tensor.requires_grad))
        try:
            flat = tensor.detach().cpu().reshape(-1).contiguous()
            self._put(flat.view(byte).numpy().tobytes())
        except (RuntimeError, TypeError) as error:
            raise _UnlikeError(f"a {kind} without plain values") from error

    def _module(self, module: ModuleType) -> None:
        self._put("module", module.__name__)
        if not _known_by_name(module):
            file = Path(str(module.__file__))
            package = sorted(file.parent.rglob("*.py")) if hasattr(module, "__path__") else [file]
            for each in package:
                self._file(each)

    def _function(self, function: FunctionType) -> None:
        self._put("function", function.__module__ or "", function.__qualname__)
        if _by_name(function):
            return
        told = self._text(function)
        self._code(function.__code__)
        self.read(function.__defaults__)
        self.read(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # not filled yet
                self.read(cell.cell_contents)
        for key, value in sorted(vars(function).items()):
            self._named(key, value, told)
        for key in sorted(set(_read_globals(function.__code__))):
            if key in function.__globals__:
                self._named(key, function.__globals__[key], told)

    def _class(self, found: type) -> None:
        self._put("class", found.__module__, found.__qualname__)
        if _by_name(found):
            return
        told = self._text(found)
        self.read((type(found), found.__bases__))
        for key, value in sorted(vars(found).items()):
            if key not in _MACHINERY:
                self._named(key, value, told or key.startswith("__"))

    def _named(self, key: str, value: Any, told: bool) -> None:
        """A value that a text makes: where the text is told, one that cannot be read may be."""
        self._put(key)
        before, n_met, files = self._hash.copy(), len(self._met), set(self._files)
        try:
            self.read(value)
        except _UnlikeError:
            if not told:
                raise
            self._hash, self._files = before, files
            while len(self._met) > n_met:
                self._met.popitem()

    def _code(self, code: CodeType) -> None:
        self._put("code", code.co_code, str(code.co_firstlineno), *code.co_names, *code.co_varnames)
        self.read(code.co_consts)

    def _text(self, found: Any) -> bool:
        """Its file, and those beside it that the file imports; whether there is one."""
        try:
            path = inspect.getsourcefile(found)
            if path and Path(path).is_file():
                self._file(Path(path))
                return True
            text = inspect.getsource(found)
        except (OSError, TypeError):  # typed at a prompt: the code says what it does
            return False
        self._imported(text, Path.cwd())
        return False

    def _file(self, file: Path) -> None:
        self._put("file", file.name)
        if file not in self._files:
            self._files.add(file)
            text = file.read_text("utf-8")
            self._put(text)
            if not project.library_file(file):
                self._imported(text, file.parent)

    def _imported(self, text: str, folder: Path) -> None:
        for each in sorted(set(_beside(text, folder))):
            self._file(each)


def _generators() -> Iterator[Any]:
    """The random generators of a whole process; libraries' distributions hold them too."""
    yield getattr(sys.modules.get("random"), "_inst", _generators)
    yield getattr(sys.modules.get("numpy.random.mtrand"), "_rand", _generators)


def _by_name(found: Any) -> bool:
    """Whether a function or class is an installed library's, and can be found there."""
    module = sys.modules.get(found.__module__ or "")
    return module is not None and _known_by_name(module) and "<locals>" not in found.__qualname__


def _known_by_name(module: ModuleType) -> bool:
    return module.__name__ != "__main__" and project.installed(module)


def _read_globals(code: CodeType) -> Iterator[str]:
    """The global names that a function reads, in functions and classes within it too."""
    for step in dis.get_instructions(code):
        if step.opname.startswith("LOAD_") and ("GLOBAL" in step.opname or "NAME" in step.opname):
            yield str(step.argval)
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from _read_globals(inside)


def _beside(text: str, folder: Path) -> Iterator[Path]:
    """The files under a folder that a text imports, wherever in it."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(text))))
    except SyntaxError:  # a function cut out of its cell
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = folder.joinpath(*[".."] * (node.level - 1)).resolve()
            for alias in node.names:
                parts = node.module.split(".") if node.module else []
                yield from _files_of(base, [*parts, alias.name])


def _files_of(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Those that importing `a.b.c` runs, and c's where it is a module."""
    for n in range(1, len(parts) + 1):
        at = folder.joinpath(*parts[:n])
        for file in (at.with_name(f"{at.name}.py"), at / "__init__.py"):
            if file.is_file():
                yield file
