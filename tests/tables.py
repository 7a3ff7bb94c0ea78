"""Small made tables with every kind of column; each is a pure function of its arguments."""

import numpy as np
import pandas as pd

TEXTS = ("fast delivery and kind people", "arrived broken, want money back", "it does what it says",
         "never again", "my third one of these", "colour is off, otherwise fine")  # fmt: skip


def mixed(n=160, *, task="binary", seed=0):
    """Numbers, gaps, categories, long texts, dates, booleans; and a target that depends on them."""
    rng = np.random.default_rng(seed)
    size, age = rng.normal(size=n), rng.integers(18, 90, n)
    city = rng.choice(["Bern", "Genf", "Chur"], n)
    text = [f"{rng.choice(TEXTS)} {rng.integers(0, 10**6)} {rng.choice(TEXTS)}" for _ in range(n)]
    frame = pd.DataFrame({
        "size": size, "age": age, "gap": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
        "city": city, "tier": np.where(rng.random(n) < 0.15, None, rng.choice(["a", "b"], n)),
        "note": text, "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(
            rng.integers(0, 900, n), "D"),
        "member": rng.random(n) < 0.5,
    })  # fmt: skip
    signal = size + (city == "Bern") + 0.02 * age + rng.normal(scale=0.5, size=n)
    if task == "regression":
        frame["y"] = signal
    else:
        edges = np.quantile(signal, [0.5] if task == "binary" else [0.33, 0.66])
        frame["y"] = np.asarray(["low", "mid", "top"])[np.searchsorted(edges, signal)]
    return frame


def numbers(n=120, *, seed=0):
    """Two informative numbers and a binary target."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    y = np.where(X[:, 0] + rng.normal(scale=0.7, size=n) > 0, "yes", "no")
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y})
