"""Temporary folders of ours, each with a mark inside: a name alone proves no owner."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "surefit-"
_MARK = ".surefit-scratch"


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """An empty folder that is gone after the block; the mark lies beside it."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as made:
        _mark(Path(made))
        inside = Path(made) / "files"
        inside.mkdir()
        yield str(inside)


def make() -> Path:
    """A folder that whoever asks for it removes."""
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    _mark(made)
    return made


def marked() -> Iterator[Path]:
    """The folders of ours that are there."""
    for found in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if not found.is_symlink() and (found / _MARK).is_file():
                yield found


def _mark(made: Path) -> None:
    (made / _MARK).write_text("A scratch folder of surefit; surefit doctor removes it.\n", "utf-8")
