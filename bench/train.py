"""What recording a training run costs beside its fits: `python bench/train.py [ROWS]`.

Trains LightGBM on a made-up table in a temporary folder, three times after a warm-up, and prints
the seconds of the whole verb, of its fits, and the rest.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from unittest import mock

import numpy as np
import pandas as pd

import surefit
from surefit.core import fit


def main(rows: int) -> None:
    """Time the verb, and inside it the fits."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 10)), columns=[f"x{i}" for i in range(10)])
    frame["y"] = (frame["x0"] + rng.normal(size=rows) > 0).map({True: "yes", False: "no"})
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for turn in range(4):
            fits: list[float] = []
            with mock.patch.object(fit, "fit_fold", _timed(fit.fit_fold, fits)):
                with mock.patch.object(fit, "fit_rows", _timed(fit.fit_rows, fits)):
                    started = time.perf_counter()
                    surefit.train(frame, target="y", quiet=True)
                    whole = time.perf_counter() - started
            if turn:
                rest = whole - sum(fits)
                print(f"whole {whole:.2f} s, fits {sum(fits):.2f} s, rest {rest:.2f} s")
        os.chdir("/")


def _timed(function, spent):
    def call(*args, **kwargs):
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - started)

    return call


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
