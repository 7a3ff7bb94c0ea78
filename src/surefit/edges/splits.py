"""The saved splits of a project, in `.surefit/splits`: what was decided once stays decided."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from surefit.errors import InputError

FOLDER = Path(".surefit") / "splits"


def load(root: Path, key: str) -> dict[str, np.ndarray] | None:
    """The arrays saved under the key; None where there are none, or the file is damaged."""
    file = root / FOLDER / f"{key}.npz"
    try:
        with np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError):
        raise InputError(
            f"The saved split {file.name} is damaged.",
            f"delete {FOLDER / file.name}: the next run divides the rows anew",
        ) from None


def save(root: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep the arrays; another process sees the old file or the new one, never half of one.

    Raises:
        InputError: when the folder cannot be written.
    """
    folder = root / FOLDER
    part = folder / f"{key}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / ".gitignore").write_text("*\n", "utf-8")
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(folder / f"{key}.npz")
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from None


def forget_older(root: Path, start: str, *, keep: int) -> None:
    """Of the splits whose keys start so, delete all but the last that were saved."""
    found = sorted((root / FOLDER).glob(f"{start}*.npz"), key=lambda f: f.stat().st_mtime_ns)
    for file in found[:-keep]:
        file.unlink(missing_ok=True)
