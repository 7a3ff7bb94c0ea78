"""What a run should know of its surroundings: git, platform, versions, and its own process."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import resource
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def git_tags(root: Path) -> dict[str, str]:
    """MLflow's git tags for the folder, {} outside a repository."""
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return {}
    return {
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD") or "",
        "surefit.git.dirty": str(bool(_git(root, "status", "--porcelain"))).lower(),
    }


def git_diff(root: Path) -> str:
    """What is uncommitted in the folder's repository, against HEAD; 1 MB at most, "" when clean."""
    return _git(root, "diff", "HEAD")[:1_000_000]


def git_between(root: Path, a: str, b: str) -> str:
    """What changed in the folder between two commits, as a diff of 1 MB at most.

    Empty where the repository does not have them.
    """
    return _git(root, "diff", a, b, "--", ".")[:1_000_000]


def peak_memory() -> int:
    """Bytes of memory this process had at its peak, all of its life."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def user() -> str:
    """Who runs this; "unknown" where the system does not say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def installed() -> str:
    """All installed distributions as `name==version` lines, with Python and platform on top."""
    found = dict(filter(None, map(_named, importlib.metadata.distributions())))
    head = f"# Python {platform.python_version()} on {platform.platform()}\n"
    return head + "".join(f"{name}=={found[name]}\n" for name in sorted(found))


def _named(found: importlib.metadata.Distribution) -> tuple[str, str] | None:
    """Name and version by the head of its metadata: to parse the whole takes ten times as long."""
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    head = text.partition("\n\n")[0].splitlines()
    told = dict(line.split(": ", 1) for line in head if line.startswith(("Name: ", "Version: ")))
    return (told["Name"].lower(), told["Version"]) if len(told) == 2 else None


def pinned(names: Iterable[str]) -> list[str]:
    """`name==version` for the named distributions, as installed here."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def version_of(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The installed versions of the named distributions; those that are absent are left out."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A library that a distribution asks for, and what is installed of it here.

    Attributes:
        extra: the optional part that asks for it, "" for the distribution itself.
        wanted: the range of versions that is tested, as pip writes it.
        installed: None where it is not.
        fits: whether what is installed is in the range.
    """

    name: str
    wanted: str
    extra: str
    installed: str | None
    fits: bool


def requirements(distribution: str) -> list[Requirement]:
    """What a distribution asks for on this Python, its optional parts included."""
    from packaging.requirements import Requirement as Parsed

    try:
        about = importlib.metadata.metadata(distribution)
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for text in about.get_all("Requires-Dist") or []:
        asked = Parsed(text)
        extras = ["", *(about.get_all("Provides-Extra") or [])]
        extra = next(
            (e for e in extras if not asked.marker or asked.marker.evaluate({"extra": e})), None
        )
        if extra is not None:
            version = version_of(asked.name)
            fits = version is not None and asked.specifier.contains(version, prereleases=True)
            found.append(Requirement(name=asked.name, wanted=str(asked.specifier), extra=extra,
                                     installed=version, fits=fits))  # fmt: skip
    return found


def owner() -> str:
    """This process, told apart from any other of this machine, before or after a restart."""
    place = f"{_boot()} {_processes()}"
    return f"{socket.gethostname()}/{place}/{os.getpid()}/{_started(os.getpid())}"


def owner_alive(text: str) -> bool:
    """Whether the process that `owner` named may still run; True where that cannot be known."""
    parts = text.split("/")
    if len(parts) != 4 or parts[0] != socket.gethostname():
        return True
    boot, _, processes = parts[1].partition(" ")
    if boot != _boot():
        return False
    if processes and processes != _processes():
        return True
    return _started(int(parts[2])) == parts[3]


def command_line() -> str:
    """The command that runs as a shell takes it, program name without its folder."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else ""


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _processes() -> str:
    """The space that process numbers are of: containers of one machine have each their own."""
    try:
        return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in clock ticks; "" when it does not run or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return ""
        return _started_by_ps(pid)
    return "" if stat[0] == "Z" else stat[19]


def _started_by_ps(pid: int) -> str:
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip()
