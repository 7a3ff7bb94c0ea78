"""Hyperparameters as the user's functions see them: `params.depth`, `params["depth"]`.

Its class travels by value inside saved models: it imports nothing of surefit.
"""

from __future__ import annotations

import difflib
from typing import Any


class Params(dict[str, Any]):
    """A dict whose keys are attributes too; a missing one names the nearest."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self:
            return self[name]
        close = difflib.get_close_matches(name, list(self), n=1)
        advice = f'did you mean "{close[0]}"?' if close else f"set model.params.{name}"
        raise AttributeError(f"the parameters have no {name!r}; {advice}")

    def __missing__(self, name: str) -> Any:
        try:
            return self.__getattr__(name)
        except AttributeError as error:
            raise KeyError(str(error)) from None
