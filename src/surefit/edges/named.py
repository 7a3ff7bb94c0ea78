"""What a pickle asks the user's own modules for as it is loaded, so that it can be carried along.

A model's `__getstate__` may hold a pickle of its own (skorch's does, made by `torch.save`). That
one names the user's classes instead of carrying them, and would not load where their file is not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import cloudpickle


class _Watched(ModuleType):
    """Stands for a module, and notes what is taken from it."""

    def __init__(self, real: ModuleType) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _taken={})

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        self._taken[name] = value
        return value


def asked_for(data: bytes, modules: Sequence[ModuleType]) -> dict[str, dict[str, Any]]:
    """Module → name → value of what loading the pickle takes from the given modules.

    Raises:
        Exception: whatever loading it raises.
    """
    watched = {module.__name__: _Watched(module) for module in modules}
    real = {name: sys.modules[name] for name in watched if name in sys.modules}
    sys.modules.update(watched)
    try:
        cloudpickle.loads(data)
    finally:
        for name in watched:
            sys.modules.pop(name, None)
        sys.modules.update(real)
    return {name: dict(module._taken) for name, module in watched.items() if module._taken}
