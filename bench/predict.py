"""Predict on nycflights13 five times over: memory and time beside plain pyfunc on the same rows.

    python bench/predict.py NYCFLIGHTS.parquet [TIMES]

Each runs in a process of its own; memory is the peak of that process.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

CONFIG = """
name = "flights"
[data]
path = "flights.parquet"
target = "arr_delay"
task = "regression"
drop = ["dep_delay", "arr_time", "air_time", "tailnum"]
types = { dest = "category" }
[split]
valid = 0.2
[model]
params = { num_iterations = 100 }
"""

PLAIN = """
import sys, mlflow, pandas as pd, pyarrow.parquet as pq
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model(sys.argv[1])
names = model.metadata.get_input_schema().input_names()
frame = pq.read_table(sys.argv[2], columns=names).to_pandas()
model.predict(frame).to_parquet("plain.parquet")
"""


def timed(what: str, command: list[str], folder: Path) -> None:
    """Run a command, and print its seconds and its peak memory."""
    before = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - before
    print(f"{what:<28} {seconds:7.1f} s {used.ru_utime + used.ru_stime:7.1f} s of CPU "
          f"{used.ru_maxrss / 1024:7.0f} MB, exit {status}")  # fmt: skip


def enlarge(source: Path, target: Path, times: int) -> int:
    """Write a table so many times over; give its rows."""
    table = pq.read_table(source)
    with pq.ParquetWriter(target, table.schema) as writer:
        for _ in range(times):
            writer.write_table(table)
    return times * table.num_rows


def main() -> None:
    """Train, promote, and score both ways."""
    source, times = Path(sys.argv[1]).resolve(), int((sys.argv[2:] or ["5"])[0])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "surefit.toml").write_text(CONFIG, "utf-8")
        table = pq.read_table(source)
        pq.write_table(table.filter(pc.is_valid(table["arr_delay"])),
                       folder / "flights.parquet")  # fmt: skip
        rows = enlarge(source, folder / "large.parquet", times)
        print(f"{rows:,} rows, {(folder / 'large.parquet').stat().st_size / 1e6:.0f} MB of Parquet")
        command = [sys.executable, "-m", "surefit"]
        timed("surefit train", [*command, "train", "-q"], folder)
        timed("surefit promote", [*command, "promote", "last", "-q"], folder)
        timed("surefit predict", [*command, "predict", "large.parquet", "--out", "ours.parquet",
                                  "-q"], folder)  # fmt: skip
        timed("plain pyfunc, whole in memory",
              [sys.executable, "-W", "ignore", "-c", PLAIN, "models:/flights@production",
               "large.parquet"], folder)  # fmt: skip
        ours, plain = (pq.read_table(folder / f"{n}.parquet")["prediction"].to_numpy()
                       for n in ("ours", "plain"))  # fmt: skip
        print(
            f"largest difference {abs(ours - plain).max():.2g}; "
            f"this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
        )


if __name__ == "__main__":
    main()
