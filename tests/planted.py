"""Tables with leaks of known kind and size, and clean ones, made by a seeded generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

Rng = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A table, and the columns of the leak in it (none: a clean table)."""

    kind: str
    frame: pd.DataFrame = field(repr=False)
    columns: frozenset[str]


def clean(rng: Rng, n: int, task: str) -> pd.DataFrame:
    """Honest features of a target with noise: numbers, categories, gaps."""
    x = rng.normal(size=(n, 4))
    level = rng.choice(["north", "south", "east", "west"], n)
    score = x[:, 0] - 0.7 * x[:, 1] + 0.5 * (level == "north") + 1.2 * rng.normal(size=n)
    frame = pd.DataFrame(x, columns=["a", "b", "c", "d"])
    frame.loc[rng.random(n) < 0.1, "d"] = np.nan
    frame["level"] = level
    frame["count"] = rng.poisson(4, n)
    frame["code"] = rng.integers(0, 30, n)
    frame["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "h")
    if task == "regression":
        return frame.assign(y=10 * score + 50)
    cut = [0.0] if task == "binary" else [-0.8, 0.8]
    return frame.assign(y=np.array(["no", "yes", "maybe"])[np.searchsorted(cut, score)])


def codes(frame: pd.DataFrame) -> np.ndarray:
    return np.unique(frame["y"], return_inverse=True)[1].astype("float64")


def flipped(frame: pd.DataFrame, rng: Rng, share: float) -> np.ndarray:
    """The target, a share of it drawn anew."""
    y = frame["y"].to_numpy().copy()
    wrong = rng.random(len(y)) < share
    y[wrong] = rng.choice(y, wrong.sum())
    return y


def noisy(share: float) -> Callable[[pd.DataFrame, Rng], pd.DataFrame]:
    return lambda f, r: f.assign(leak=f.y + share * f.y.std() * r.normal(size=len(f)))


def summed(f: pd.DataFrame, r: Rng, share: float = 0.5) -> pd.DataFrame:
    part = share * f.y + 20 * r.normal(size=len(f))
    return f.assign(leak=part, leak2=f.y - part)


def multiplied(f: pd.DataFrame, r: Rng) -> pd.DataFrame:
    part = np.exp(r.normal(size=len(f)))
    y = np.abs(f.y) + 1
    return f.assign(y=y, leak=part, leak2=y / part)


def subjects(f: pd.DataFrame, r: Rng, levels: int = 30) -> pd.DataFrame:
    who = r.integers(0, levels, len(f))
    mean, age = 40 * r.normal(size=levels), r.integers(20, 80, levels)
    return f.assign(y=f.y + mean[who], leak=who, age=age[who]).rename(columns={"leak": "subject"})


def present(f: pd.DataFrame, r: Rng, label: str, share: float) -> pd.DataFrame:
    there = (f.y == label) & (r.random(len(f)) < share)
    return f.assign(leak=np.where(there, r.normal(size=len(f)), np.nan))


REGRESSION: dict[str, Callable[[pd.DataFrame, Rng], pd.DataFrame]] = {
    "copy": lambda f, r: f.assign(leak=f.y),
    "negated": lambda f, r: f.assign(leak=-f.y),
    "scaled": lambda f, r: f.assign(leak=f.y * 1000 + 7),
    "rounded": lambda f, r: f.assign(leak=f.y.round()),
    "as text": lambda f, r: f.assign(leak=f.y.map("{:.2f}".format)),
    "rank": lambda f, r: f.assign(leak=f.y.rank()),
    "exponential": lambda f, r: f.assign(leak=np.exp(f.y / 10)),
    "squared distance": lambda f, r: f.assign(leak=(f.y - f.y.min()) ** 2),
    "noise 1 %": noisy(0.01),
    "noise 5 %": noisy(0.05),
    "noise 10 %": noisy(0.1),
    "noise 30 %": noisy(0.3),
    "with gaps": lambda f, r: f.assign(leak=f.y.where(r.random(len(f)) > 0.02)),
    "sum of two": summed,
    "uneven sum": lambda f, r: summed(f, r, 0.9),
    "difference": lambda f, r: f.assign(leak=f.y + 99 * f.c, leak2=f.c + 0.0),
    "product": multiplied,
    "sum with an honest column": lambda f, r: f.assign(leak=f.y - 30 * f.a),
    "subjects": subjects,
    "many subjects": lambda f, r: subjects(f, r, 90),
}
CLASSES: dict[str, Callable[[pd.DataFrame, Rng], pd.DataFrame]] = {
    "copy": lambda f, r: f.assign(leak=f.y),
    "codes": lambda f, r: f.assign(leak=codes(f)),
    "codes with jitter": lambda f, r: f.assign(leak=codes(f) + 0.1 * r.normal(size=len(f))),
    "renamed": lambda f, r: f.assign(leak=f.y.map({"no": "x1", "yes": "x2", "maybe": "x3"})),
    "finer levels": lambda f, r: f.assign(leak=f.y + r.choice(["-1", "-2", "-3"], len(f))),
    "1 % flipped": lambda f, r: f.assign(leak=flipped(f, r, 0.01)),
    "5 % flipped": lambda f, r: f.assign(leak=flipped(f, r, 0.05)),
    "10 % flipped": lambda f, r: f.assign(leak=flipped(f, r, 0.1)),
    "30 % flipped": lambda f, r: f.assign(leak=flipped(f, r, 0.3)),
    "date after": lambda f, r: f.assign(
        leak=(f.when + pd.Timedelta("3D")).where(f.y == "yes")),
    "present for all of a class": lambda f, r: present(f, r, "yes", 1.0),
    "present for half a class": lambda f, r: present(f, r, "yes", 0.5),
    "present for a tenth": lambda f, r: present(f, r, "yes", 0.1),
    "missing for half a class": lambda f, r: f.assign(
        leak=f.c.where(~((f.y == "yes") & (r.random(len(f)) < 0.5)))),
    "above a limit": lambda f, r: f.assign(
        leak=np.where(f.y == "yes", 5 + r.random(len(f)), r.random(len(f)))),
    "greater of two": lambda f, r: f.assign(
        leak=(u := r.normal(size=len(f))), leak2=u - (codes(f) - 0.5) * (1 + r.random(len(f)))),
    "two levels together": lambda f, r: f.assign(
        leak=(u := r.integers(0, 3, len(f))).astype(str),
        leak2=((codes(f).astype(int) + u) % 3).astype(str)),
}  # fmt: skip


def planted(n: int, seed: int) -> Iterator[Planted]:
    """Each kind of leak once, in each task that it fits."""
    plans = [("regression", k, f) for k, f in REGRESSION.items()]
    plans += [(t, k, f) for t in ("binary", "multiclass") for k, f in CLASSES.items()]
    for number, (task, kind, plant) in enumerate(plans):
        rng = np.random.default_rng([seed, number])
        frame = plant(clean(rng, n, task), rng)
        leaked = frozenset({"leak", "leak2", "subject"} & set(frame.columns))
        yield Planted(kind=f"{task}: {kind}", frame=frame, columns=leaked)


def honest(n: int, seed: int, tables: int) -> Iterator[Planted]:
    """Clean tables of each task in turn."""
    for number in range(tables):
        rng = np.random.default_rng([seed, 1, number])
        task = ("regression", "binary", "multiclass")[number % 3]
        yield Planted(kind=f"{task}: clean", frame=clean(rng, n, task), columns=frozenset())
