"""The best model for a given time: surefit over families beside FLAML and Optuna with LightGBM.

    python bench/search_quality.py [--budget 60] [--seeds 0,1,2] [--sets telco,car] [NAME ...]
    ... --keep FILE     hours of it in pieces: what FILE holds is not run again, the rest is added
    ... --cores 1       for two of them side by side: taskset -c 0 python ..., taskset -c 1 ...
    ... --keep FILE --shown     the table of what FILE holds, and nothing is run

Needs `pip install "flaml[automl]"`. A quarter of each table's rows is held out by seed and seen by
nobody; each contender, in a process of its own, gets the other rows, the time and the cores, and
answers the held-out rows. Wins and losses are on those rows; a draw is a difference below a
thousandth of the score.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FOLDER = Path(os.environ.get("SUREFIT_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
SETS = {
    "telco": ("telco_churn.csv", "Churn", "binary", ["customerID"]),
    "mammography": ("mammography.csv", "class", "binary", []),
    "car": ("car.csv", "class", "multiclass", []),
    "letter": ("letter.csv", "class", "multiclass", []),
    "houses": ("house_prices.csv", "SalePrice", "regression", ["Id"]),
    "california": ("california_housing.csv", "MedHouseVal", "regression", []),
}
METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
LEVELS = 50  # texts with more distinct values are left out where a peer cannot read them

Answer = np.ndarray


def parts(name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, str, str]:
    """Rows to learn from and rows held out, the target, the task."""
    file, target, task, drop = SETS[name]
    frame = pd.read_csv(FOLDER / file, low_memory=False).drop(columns=drop)
    if "TotalCharges" in frame:
        frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"], errors="coerce")
    frame[target] = frame[target].astype(str) if task != "regression" else frame[target]
    held = np.random.default_rng(seed).random(len(frame)) < 0.25
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True), target, task


def encoded(*frames: pd.DataFrame) -> list[pd.DataFrame]:
    """Texts as categories of the first frame's levels, as a careful script would write it."""
    first, done = frames[0], []
    texts = [c for c in first if not pd.api.types.is_numeric_dtype(first[c])]
    for frame in frames:
        made = frame.copy()
        for column in texts:
            levels = sorted(first[column].dropna().unique())
            if len(levels) > LEVELS:
                made = made.drop(columns=column)
            else:
                made[column] = pd.Categorical(made[column], categories=levels)
        done.append(made)
    return done


def score(task: str, y: Any, answer: Answer, labels: list[str]) -> float:
    """The metric on held-out rows."""
    from sklearn import metrics

    if task == "regression":
        return float(metrics.root_mean_squared_error(y, answer))
    if task == "binary":
        return float(metrics.roc_auc_score(y == labels[1], answer[:, 1]))
    return float(metrics.log_loss(y, answer, labels=labels))


# --- (rows, held-out features, target, task, labels, seconds, seed, cores) → answers ---


def surefit(train: Any, held: Any, target: str, task: str, labels: list[str], budget: int,
            seed: int, cores: int) -> dict[str, Answer]:  # fmt: skip
    """surefit tune over all installed families."""
    return _surefit(train, held, target, labels, budget, seed, cores, ensemble=False)


def mixed(train: Any, held: Any, target: str, task: str, labels: list[str], budget: int,
          seed: int, cores: int) -> dict[str, Answer]:  # fmt: skip
    """The same with --ensemble, and what it is without: the ensemble is fitted beyond the time."""
    return _surefit(train, held, target, labels, budget, seed, cores, ensemble=True)


def _surefit(
    train: Any, held: Any, target: str, labels: list[str], budget: int, seed: int,
    cores: int, *, ensemble: bool,
) -> dict[str, Answer]:  # fmt: skip
    import mlflow

    import surefit as product

    train.to_csv("rows.csv", index=False)
    keys = {"model.family": "auto", "split.test": 0.0, "tune.seed": seed, "tune.workers": cores}
    result = product.tune(
        "rows.csv", target=target, budget=f"{budget}s", trials=100_000, set=keys, quiet=True,
        ensemble=ensemble,
    )  # fmt: skip
    print(f"{len(result.trials)} trials, {result.family} {dict(result.best.params)}",
          file=sys.stderr)  # fmt: skip
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    models = {"surefit": result.model_uri}
    if ensemble:  # where it is no better it is not made
        models["mixed"] = result.ensemble.model_uri if result.ensemble else result.model_uri
    names = [f"probability_{label}" for label in labels] or ["prediction"]
    answers = {}
    for name, uri in models.items():
        answer = mlflow.pyfunc.load_model(uri).predict(held)
        answers[name] = answer[names].to_numpy() if labels else answer["prediction"].to_numpy()
    return answers


def flaml(train: Any, held: Any, target: str, task: str, labels: list[str], budget: int,
          seed: int, cores: int) -> dict[str, Answer]:  # fmt: skip
    """FLAML's AutoML with its defaults."""
    from flaml import AutoML

    X, held = encoded(train.drop(columns=target), held)
    automl = AutoML()
    automl.fit(
        X, train[target], task="regression" if task == "regression" else "classification",
        metric=METRIC[task], time_budget=budget, n_jobs=cores, seed=seed, verbose=0,
    )  # fmt: skip
    print(f"{automl.best_estimator} {automl.best_config}", file=sys.stderr)
    if task == "regression":
        return {"flaml": np.asarray(automl.predict(held))}
    return {"flaml": np.asarray(automl.predict_proba(held))[:, _order(automl.classes_, labels)]}


def script(train: Any, held: Any, target: str, task: str, labels: list[str], budget: int,
           seed: int, cores: int) -> dict[str, Answer]:  # fmt: skip
    """What one writes by hand: Optuna's TPE over LightGBM, five folds, early stopping, refit."""
    import lightgbm
    import optuna
    from sklearn.model_selection import KFold, StratifiedKFold

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    X, held = encoded(train.drop(columns=target), held)
    y = train[target]
    make = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    cut = (KFold if task == "regression" else StratifiedKFold)(5, shuffle=True, random_state=seed)

    def objective(trial: Any) -> float:
        params = {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 8, 255, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 1, 100, log=True),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "reg_lambda": trial.suggest_float("reg_lambda", 1e-3, 10.0, log=True),
        }
        scores, rounds = [], []
        for fit_on, scored in cut.split(X, y):
            model = make(n_estimators=1000, subsample_freq=1, n_jobs=cores, verbose=-1,
                         random_state=seed, **params)  # fmt: skip
            model.fit(X.iloc[fit_on], y.iloc[fit_on],
                      eval_set=[(X.iloc[scored], y.iloc[scored])],
                      callbacks=[lightgbm.early_stopping(50, verbose=False)])  # fmt: skip
            part = X.iloc[scored]
            found = model.predict(part) if task == "regression" else model.predict_proba(part)
            scores.append(score(task, y.iloc[scored], found, labels))
            rounds.append(model.best_iteration_)
        trial.set_user_attr("rounds", int(np.mean(rounds)))
        return float(np.mean(scores))

    direction = "maximize" if task == "binary" else "minimize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, timeout=budget)
    best = study.best_trial
    print(f"{len(study.trials)} trials {best.params}", file=sys.stderr)
    model = make(n_estimators=max(1, best.user_attrs["rounds"]), subsample_freq=1, n_jobs=cores,
                 verbose=-1, random_state=seed, **best.params)  # fmt: skip
    model.fit(X, y)
    if task == "regression":
        return {"script": np.asarray(model.predict(held))}
    return {"script": np.asarray(model.predict_proba(held))[:, _order(model.classes_, labels)]}


def _order(given: Any, labels: list[str]) -> list[int]:
    return [list(map(str, given)).index(label) for label in labels]


CONTENDERS: dict[str, Callable[..., dict[str, Answer]]] = {
    f.__name__: f for f in (surefit, mixed, flaml, script)
}


# --- side by side ---


def one(name: str, contender: str, budget: int, seed: int, cores: int) -> None:
    """Print the scores of a contender's models on the held-out rows, and the seconds taken."""
    warnings.simplefilter("ignore")
    train, held, target, task = parts(name, seed)
    labels = sorted(train[target].unique()) if task != "regression" else []
    started = time.perf_counter()
    answers = CONTENDERS[contender](
        train, held.drop(columns=target), target, task, labels, budget, seed, cores
    )
    taken = time.perf_counter() - started
    print(
        json.dumps({k: [score(task, held[target], v, labels), taken] for k, v in answers.items()})
    )


Found = dict[str, list[float]]  # by contender: score on held-out rows, seconds taken


def measured(name: str, contender: str, budget: int, seed: int, cores: int) -> Found:
    """The same in a process and a folder of its own."""
    asked = ["--one", name, contender, str(budget), str(seed), str(cores)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, *asked], cwd=folder, capture_output=True,
            text=True,
        )  # fmt: skip
    if done.returncode:
        print(f"{contender} on {name}: {done.stderr[-1500:]}", file=sys.stderr)
        return {}
    told = [line for line in done.stderr.splitlines() if "trials" in line or "{" in line]
    print(f"    {name} {seed} {contender}: {' '.join(told)[-300:]}", file=sys.stderr, flush=True)
    found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return found


class Kept:
    """What was measured, a line of JSON each, in a file where one is given."""

    def __init__(self, file: Path | None, budget: int, cores: int) -> None:
        self._file, self._asked = file, {"budget": budget, "cores": cores}

    def get(self, name: str, seed: int) -> Found:
        """All that is known of a set and a seed, at this budget."""
        wanted = {**self._asked, "set": name, "seed": seed}
        lines = self._file.read_text().splitlines() if self._file and self._file.exists() else []
        found: Found = {}
        for line in map(json.loads, lines):
            if wanted.items() <= line.items():
                found |= line["found"]
        return found

    def add(self, name: str, seed: int, found: Found) -> None:
        """Write down what was found, also beside another process that does."""
        if self._file and found:
            with self._file.open("a") as file:
                line = {"set": name, "seed": seed, **self._asked, "found": found}
                file.write(json.dumps(line) + "\n")


def table(names: list[str], sets: list[str], seeds: list[int], given: argparse.Namespace) -> None:
    """Measure what is not known, print a row each, then wins, draws and losses of the first."""
    searches = [n for n in names if n != "surefit" or "mixed" not in names]  # one makes both
    missing = [float("nan")] * 2
    kept = Kept(given.keep, given.budget, given.cores)
    wins = {peer: [0, 0, 0] for peer in names[1:]}
    for seed, name in itertools.product(seeds, sets):
        task = SETS[name][2]
        models = kept.get(name, seed)
        for contender in searches:
            if contender not in models and not given.shown:
                new = measured(name, contender, given.budget, seed, given.cores)
                kept.add(name, seed, new)
                models |= new
        found = {n: models.get(n, missing) for n in names}
        cells = " | ".join(f"{v:.4f} ({s:.0f})" for v, s in found.values())
        print(f"| {name} | {METRIC[task]} | {seed} | {cells} |", flush=True)
        first, sign = found[names[0]][0], 1 if task == "binary" else -1
        for peer in wins:
            gap = sign * (first - found[peer][0]) / abs(first)
            if not math.isnan(gap):
                wins[peer][0 if gap > 1e-3 else 2 if gap < -1e-3 else 1] += 1
    print("\n" + "\n".join(
        f"{names[0]} against {peer}: {w} won, {d} drawn, {lost} lost"
        for peer, (w, d, lost) in wins.items()
    ))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CONTENDERS)}")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--shown", action="store_true", help="the table of what FILE holds")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, contender, *numbers = given.one
        one(name, contender, *map(int, numbers))
        return
    names = given.names or ["surefit", "flaml", "script"]
    print(f"{given.budget} s, cores: {given.cores}, score on held-out rows (seconds taken)\n")
    print(f"| set | metric | seed | {' | '.join(names)} |\n|---|---|---|{'---|' * len(names)}")
    table(names, given.sets.split(","), [int(s) for s in given.seeds.split(",")], given)


if __name__ == "__main__":
    main()
