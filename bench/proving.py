"""What the long proofs are made of: sections of rows, and what a row of a proof comes to.

See bench/prove.py for how an area adds its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "tests") not in sys.path:  # the short forms in the suite share their worlds with us
    sys.path.insert(0, str(ROOT / "tests"))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row's cells, and whether its promise held (None: nothing was promised)."""

    cells: Sequence[str]
    held: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment: its first cells, and the function that gives the others.

    Attributes:
        words: the first cells: what is tried.
        call: a module's function with `arguments`, run in a process of its own; it gives an
            Outcome. Where it raises, the row says so and counts as failed.
        repeats: passed as `n_datasets`, times `--scale`; None: `call` has no such argument.
        seed: passed as `seed`, and shown after the words; None: `call` has no such argument.
        fewest: repeats are never scaled below this.
    """

    words: Sequence[str]
    call: Callable[..., Outcome]
    arguments: dict[str, Any] = field(default_factory=dict)
    repeats: int | None = None
    seed: int | None = None
    fewest: int = 20


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of the page.

    Attributes:
        about: what is tried, and what is promised, in Markdown.
        columns: as many heads as a row has cells: its words, its seed where it has one, the cells
            of its outcome, and the verdict, whose head is empty.
        alone: rows run one after the other while nothing else runs: for rows that start processes
            or measure time.
    """

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Row]
    alone: bool = False


def judged(rate: Any, *, least: float | None = None, most: float | None = None) -> bool | None:
    """Whether a true rate within the bounds could have given this one, at 99 %, exactly."""
    if least is None and most is None:
        return None
    low = least is None or rate.at_least(least)
    return bool(low and (most is None or rate.at_most(most)))
