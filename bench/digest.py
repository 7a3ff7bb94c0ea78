"""How fast a table gets its identity: surefit's digests beside pandas' row hashes and SHA-256.

python bench/digest.py [ROWS]
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from surefit.core.digest import digest


def table(n: int) -> pd.DataFrame:
    """30 columns: 20 numbers, 4 integers, 4 categories, a date, a text that is unique a row."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {f"x{i}": rng.normal(size=n) for i in range(20)}
    columns |= {f"n{i}": rng.integers(0, 1000, n) for i in range(4)}
    levels = np.array([f"level {i}" for i in range(50)], dtype=object)
    columns |= {f"c{i}": pd.Series(levels[rng.integers(0, 50, n)], dtype="str") for i in range(4)}
    columns["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**7, n), "s")
    columns["text"] = pd.Series([f"text {i * 7919 % n}" for i in range(n)], dtype="str")
    return pd.DataFrame(columns)


def peer(frame: pd.DataFrame) -> str:
    """The usual way: pandas' 64-bit row hashes, then SHA-256."""
    return hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy()).hexdigest()


def fastest(work: Callable[[], object], times: int = 3) -> tuple[float, float]:
    """The shortest of several runs: seconds on the clock, and of the processor."""
    found = []
    for _ in range(times):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - clock, time.process_time() - processor))
    return min(found)


if __name__ == "__main__":
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    frame = table(n_rows)
    print(f"{n_rows:,} rows x {frame.shape[1]} columns")
    for name, work in (
        ("surefit, two digests and row keys", lambda: digest(frame)),
        ("pandas hash_pandas_object + SHA-256", lambda: peer(frame)),
    ):
        clock, processor = fastest(work)
        print(f"{name:<36} {clock:6.2f} s on the clock, {processor:6.2f} s of processor")
