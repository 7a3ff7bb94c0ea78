"""A model tried as its user will: a fresh process that cannot import surefit, and plain MLflow."""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from surefit.edges import own, temporary
from surefit.errors import IntegrityError
from surefit.models.skops_files import import_skops

_SCRIPT = """
import json, os, pathlib, sys, threading, time
sys.modules["surefit"] = None  # any import of it now fails
def end_with_the_caller():  # whose end of the pipe closes when it dies, however it does
    os.read(int(sys.argv[6]), 1)
    os._exit(1)
threading.Thread(target=end_with_the_caller, daemon=True).start()
import pandas as pd
import mlflow.pyfunc
if any(pathlib.Path(sys.argv[1]).rglob("*.skops")):
    import_skops()  # it is the same without it, seconds later
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.read_parquet(sys.argv[2])
answer = model.predict(rows)
if not isinstance(answer, pd.DataFrame):
    answer = pd.DataFrame({"prediction": getattr(answer, "tolist", lambda: answer)()})
answer.to_parquet(sys.argv[3])
times = []
for k in range(min(int(sys.argv[5]), len(rows))):
    start = time.perf_counter()
    model.predict(rows.iloc[k : k + 1])
    times.append(1000 * (time.perf_counter() - start))
pathlib.Path(sys.argv[4]).write_text(json.dumps(times))
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered, and how long single rows took it, in milliseconds."""

    frame: pd.DataFrame = field(repr=False)
    milliseconds: tuple[float, ...]

    @property
    def p95_ms(self) -> float | None:
        """The time of one row that 95 % do not exceed; None where none was timed."""
        if not self.milliseconds:
            return None
        return sorted(self.milliseconds)[math.ceil(0.95 * len(self.milliseconds)) - 1]


def predict(model_folder: Path, rows: pd.DataFrame, *, timeout: float = 300) -> pd.DataFrame:
    """What the model in a local folder answers in a process of its own.

    Raises:
        IntegrityError: when it does not load or does not answer, with the last line it said.
    """
    return try_out(model_folder, rows, n_timed=0, timeout=timeout).frame


def try_out(
    model_folder: Path, rows: pd.DataFrame, *, n_timed: int, timeout: float = 300
) -> Answer:
    """The same, and the time of each of the first `n_timed` rows asked alone.

    Raises:
        IntegrityError: when it does not load or does not answer, with the last line it said.
    """
    # A pickle is there only where the run says so; the caller has checked the files' digests.
    allowed = str(own.is_pickle(Path(model_folder))).lower()
    with temporary.folder() as scratch:
        given, answered = Path(scratch) / "rows.parquet", Path(scratch) / "answer.parquet"
        times = Path(scratch) / "times.json"
        rows.to_parquet(given)
        script = inspect.getsource(import_skops) + _SCRIPT
        life, ours = os.pipe()
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", script, model_folder, given, answered,
                 times, str(n_timed), str(life)],
                capture_output=True, text=True, timeout=timeout, cwd=scratch, pass_fds=[life],
                env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": allowed,
                     "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"},  # what it logs
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise IntegrityError(f"The model did not answer within {timeout:.0f} s.") from None
        finally:
            os.close(life)
            os.close(ours)
        if done.returncode != 0 or not answered.exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise IntegrityError(f"The model does not load in a fresh process: {last}")
        timed = json.loads(times.read_text()) if times.exists() else []
        return Answer(frame=pd.read_parquet(answered), milliseconds=tuple(timed))
