"""Checkpoints of a user's loop: one file a job, replaced as a whole, gone when the run is recorded.

A file is the SHA-256 of its contents and then the contents, a pickle that this project wrote. It is
read only from the project's own folder, when this user owns it and its digest is right; a torn or
foreign file counts as none.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

FOLDER = Path(".surefit") / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where the jobs of one run or search keep their state.

    Attributes:
        folder: of this configuration, data and code alone.
        keep: whether a finished job's file stays until `clear`, for when the run is killed later.
    """

    folder: Path
    keep: bool = True

    def of(self, *names: Any) -> Checkpoint:
        """The checkpoint of the job that these values name."""
        key = hashlib.sha256(repr(names).encode()).hexdigest()[:32]
        return Checkpoint(file=self.folder / f"{key}.ckpt", keep=self.keep)

    def clear(self) -> None:
        """Remove all of them: what they were for is recorded."""
        shutil.rmtree(self.folder, ignore_errors=True)


def at(root: Path, *names: Any, keep: bool = True) -> Checkpoints:
    """The checkpoints under the project's folder that these values name."""
    key = hashlib.sha256(repr(names).encode()).hexdigest()[:16]
    return Checkpoints(folder=root / FOLDER / key, keep=keep)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One job's file."""

    file: Path
    keep: bool

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file as a whole: a reader sees the old one or the new one."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = io.BytesIO()
        cloudpickle.dump(state, content)
        data = content.getvalue()
        draft = self.file.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.file)

    def read(self) -> dict[str, Any] | None:
        """The state last written, or None."""
        try:
            if self.file.is_symlink() or self.file.stat().st_uid != os.getuid():
                return None
            raw = self.file.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(raw[32:]).digest() != raw[:32]:
            return None
        try:
            state: dict[str, Any] = cloudpickle.loads(raw[32:])
        except Exception:  # written with other versions of the user's libraries
            return None
        return state

    def done(self) -> None:
        """The job is over."""
        if not self.keep:
            self.file.unlink(missing_ok=True)


def seed_all(seed: int) -> None:
    """Seed every random generator that is global: Python's, NumPy's, and torch's where it is."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def generators() -> dict[str, Any]:
    """The states of those generators."""
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_initialized()  # asking would take GPU memory
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state() if torch is not None else None,
        "cuda": torch.cuda.get_rng_state_all() if torch is not None and cuda else None,
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Set the generators to states that `generators` gave."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch = sys.modules.get("torch")
    if torch is not None and states["torch"] is not None:
        torch.set_rng_state(states["torch"])
        if states["cuda"] is not None:
            torch.cuda.set_rng_state_all(states["cuda"])
