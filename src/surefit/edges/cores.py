"""How many cores this process may use: its affinity, and the quotas of its control groups."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def usable_cores() -> int:
    """Cores this process may use: its affinity, and the quota of its container rounded down."""
    affinity = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = _cgroup_cores(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, min(affinity, int(quota)) if quota is not None else affinity)


def _cgroup_cores(membership: Path, root: Path) -> float | None:
    """The smallest CPU quota of this process's control groups and their parents, in cores."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        tops = [root] if not controllers else [root / controllers, root / "cpu"]
        for top in tops:
            inside = top / path.lstrip("/")  # absent where the container sees its own root only
            folders = [inside, *inside.parents]
            quotas += [_quota(f) for f in folders if f == top or top in f.parents]
    return min((q for q in quotas if q is not None), default=None)


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # absent, or "max"
        return None
