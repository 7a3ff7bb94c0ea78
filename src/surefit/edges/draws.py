"""Draws from a search space that are pure functions of (space, seed, k); places on its axes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from surefit.errors import SurefitError

Params = dict[str, Any]


class Axis(Protocol):
    """A dimension as an interval with both ends included (`surefit.core.space.Axis`)."""

    @property
    def kind(self) -> Literal["float", "int", "choice"]: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def log(self) -> bool: ...
    def at(self, fraction: float) -> float: ...


class Dimension(Protocol):
    """One dimension of a search space (`surefit.core.space.Dimension`)."""

    @property
    def axis(self) -> Axis: ...
    def encode(self, value: Any) -> float: ...
    def decode(self, place: float) -> Any: ...
    def points(self, n: int) -> tuple[Any, ...]: ...


Space = Mapping[str, Dimension]


def hash_of(*parts: object) -> int:
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _place(space: Space, key: str, fraction: float) -> Any:
    return space[key].decode(space[key].axis.at(fraction))


def uniform(space: Space, seed: int, k: int) -> Params:
    """Random values, each straight from a hash of (seed, k, name).

    No generator in between: NumPy may change its streams between versions, SHA-256 may not, and a
    parameter keeps its values when another joins the space.
    """
    return {key: _place(space, key, (hash_of(seed, k, key) >> 11) / 2**53) for key in sorted(space)}


def sobol(space: Space, seed: int, k: int) -> Params:
    """Point k of a scrambled Sobol sequence."""
    from scipy.stats import qmc

    varied = sorted(key for key in space if space[key].axis.high > space[key].axis.low)
    fractions: dict[str, float] = dict.fromkeys(space, 0.0)
    if varied:
        engine = qmc.Sobol(len(varied), scramble=True, rng=hash_of(seed, "sobol") % 2**32)
        if k:
            engine.fast_forward(k)
        point = engine.random(1)[0]
        fractions.update(zip(varied, map(float, point), strict=True))
    return {key: _place(space, key, fractions[key]) for key in sorted(space)}


def snap(space: Space, params: Mapping[str, Any]) -> Params:
    """The same parameters exactly as the space has them (1 becomes 1.0 where floats live)."""
    if params.keys() != space.keys():
        raise ValueError(f"it has {sorted(params)}, the space has {sorted(space)}")
    return {key: space[key].decode(space[key].encode(params[key])) for key in sorted(space)}


def decode(space: Space, places: Mapping[str, Any]) -> Params:
    """Parameters from places on the axes; what does not vary is at the start of its axis."""
    fixed = {key: space[key].axis.low for key in space}
    merged = fixed | dict(places)
    return {key: space[key].decode(merged[key]) for key in sorted(space)}


def bug(what: str) -> SurefitError:
    return SurefitError(
        f"The search engine broke its own protocol: {what}.",
        "this is a bug of surefit; please report it with this message",
    )
