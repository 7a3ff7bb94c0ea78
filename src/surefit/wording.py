"""Numbers and counts as people read them, the same in every message, page and picture."""

from __future__ import annotations

import math


def short(value: float) -> str:
    """Four significant digits, whole numbers from 1,000 up, powers only where they are needed."""
    if math.isfinite(value) and 1_000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def signed(value: float) -> str:
    """The same, with its sign."""
    return f"{'' if value < 0 else '+'}{short(value)}"


def counted(n: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def ranked(value: float) -> str:
    """Five significant digits, so that close candidates differ; whole numbers from 10,000 up."""
    return short(value) if 100_000 <= abs(value) < 1e9 else f"{value:,.5g}"


def decimals(value: float) -> str:
    """Four decimals, for numbers one below the other; as in `short` where they do not fit."""
    if value == 0 or 1e-3 <= abs(value) < 1_000 or not math.isfinite(value):
        return f"{value:.4f}"
    return short(value)
