"""What a search costs beside its fits: surefit tune and its peers on the same 15 ms fit.

    python bench/tune.py [--trials N] [--rounds N] [NAME ...]

Each contender is a function of this file that runs the same objective on the same space in a fresh
process, with the imports and the store made before the clock starts, and tells when its last result
was told (`told`) and when every trial was in MLflow (`recorded`). Rounds are interleaved; medians
and their ratios to the first contender, the bare loop, are printed.
"""

import argparse
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

WORKERS = 2
SPACE = {"depth": "int 3..14", "leaf": "int log 1..64", "features": "0.3..1", "seed": "int 0..99"}
ROWS = 2700  # so that a fit takes about 15 ms

Marks = dict[str, float]  # seconds since the start: told, recorded; and counts


def rows() -> tuple[np.ndarray, np.ndarray]:
    """A table whose fit takes about 15 ms."""
    if not _ROWS:
        random = np.random.default_rng(0)
        X = random.normal(size=(ROWS, 12))
        _ROWS.append((X, (X[:, :4].sum(axis=1) + random.normal(size=ROWS) > 0).astype(int)))
    return _ROWS[0]


_ROWS: list[tuple[np.ndarray, np.ndarray]] = []


def fit(params: dict[str, Any]) -> float:
    """The objective's work: two trees, and their accuracy on the other half."""
    from sklearn.tree import DecisionTreeClassifier

    X, y = rows()
    correct = 0.0
    for part in (slice(None, None, 2), slice(1, None, 2)):
        tree = DecisionTreeClassifier(
            max_depth=params["depth"], min_samples_leaf=params["leaf"],
            max_features=params["features"], random_state=params["seed"],
        )  # fmt: skip
        rest = np.ones(len(y), dtype=bool)
        rest[part] = False
        correct += tree.fit(X[part], y[part]).score(X[rest], y[rest])
    return correct / 2


def suggested(trial: Any) -> dict[str, Any]:
    """The same space in Optuna's words."""
    return {
        "depth": trial.suggest_int("depth", 3, 14),
        "leaf": trial.suggest_int("leaf", 1, 64, log=True),
        "features": trial.suggest_float("features", 0.3, 1.0),
        "seed": trial.suggest_int("seed", 0, 99),
    }


# --- the contenders ---


def bare(trials: int) -> Marks:
    """Optuna alone, in one process, in memory: nothing is kept or tracked."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fit(suggested(optuna.create_study().ask()))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    started = time.perf_counter()
    study.optimize(lambda trial: fit(suggested(trial)), n_trials=trials)
    return {"told": time.perf_counter() - started}


def surefit(trials: int) -> Marks:
    """surefit.tune with two workers; the moments are read from its journal."""
    import surefit as product

    def objective(params: dict[str, Any], context: Any) -> float:
        return fit(params)

    def search(space: dict[str, str], n: int) -> Any:
        return product.tune(
            objective, space, trials=n, name="fit", set={"tune.workers": WORKERS}, quiet=True
        )

    search({**SPACE, "seed": "int 0..9"}, 2)
    before = set(Path(".surefit/searches").glob("*.sqlite"))
    moment: dict[str, float] = {}
    watcher = threading.Thread(target=_watch, args=(before, trials, moment), daemon=True)
    started = time.time()
    watcher.start()
    search(SPACE, trials)
    finished = time.time()
    watcher.join(5)
    (file,) = set(Path(".surefit/searches").glob("*.sqlite")) - before
    with contextlib.closing(sqlite3.connect(file)) as journal:
        told, busy = (
            journal.execute(sql).fetchone()[0]
            for sql in ("SELECT max(ended) FROM trial", "SELECT sum(seconds) FROM fold")
        )
    told -= started
    return {
        "told": told, "recorded": moment.get("recorded", finished) - started,
        "whole": finished - started, "path_ms": 1000 * (told - busy / WORKERS) / trials,
    }  # fmt: skip


def _watch(before: set[Path], trials: int, moment: dict[str, float]) -> None:
    """Note when the outbox of the new journal has been emptied of all trials."""
    while "recorded" not in moment:
        time.sleep(0.1)
        for file in set(Path(".surefit/searches").glob("*.sqlite")) - before:
            with (
                contextlib.suppress(sqlite3.Error),
                contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal,
            ):
                if journal.execute("SELECT sum(done) FROM outbox").fetchone()[0] == trials:
                    moment["recorded"] = time.time()


def callback(trials: int) -> Marks:
    """Optuna with optuna-integration's MLflowCallback, as its page shows it."""
    import optuna
    from optuna_integration.mlflow import MLflowCallback

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _experiment()
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    logged = MLflowCallback(tracking_uri=_STORE, metric_name="accuracy", create_experiment=False)
    started = time.perf_counter()
    study.optimize(lambda trial: fit(suggested(trial)), n_trials=trials, callbacks=[logged])
    return _all_at_once(started)


def storage(trials: int) -> Marks:
    """Optuna on MLflow's own storage (mlflow.optuna)."""
    import mlflow
    import optuna
    from mlflow.optuna.storage import MlflowStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    experiment = _experiment()
    kept = MlflowStorage(experiment_id=experiment)
    study = optuna.create_study(
        storage=kept, direction="maximize", sampler=optuna.samplers.TPESampler(seed=0)
    )
    started = time.perf_counter()
    study.optimize(lambda trial: fit(suggested(trial)), n_trials=trials)
    mlflow.flush_async_logging()
    return _all_at_once(started)


def gridsearch(trials: int) -> Marks:
    """RandomizedSearchCV, the same two fits a trial, under scikit-learn autologging."""
    import mlflow
    from scipy import stats
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.tree import DecisionTreeClassifier

    X, y = rows()
    _experiment()
    mlflow.sklearn.autolog(max_tuning_runs=trials, log_models=False)
    ranges = {"max_depth": stats.randint(3, 15), "min_samples_leaf": stats.randint(1, 65),
              "max_features": stats.uniform(0.3, 0.7)}  # fmt: skip
    search = RandomizedSearchCV(DecisionTreeClassifier(), ranges, n_iter=trials, cv=2,
                                n_jobs=WORKERS, random_state=0)  # fmt: skip
    started = time.perf_counter()
    search.fit(X, y)
    return _all_at_once(started)


def raytune(trials: int) -> Marks:
    """Ray Tune with its Optuna search and MLflowLoggerCallback."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import ray
    from ray import tune as ray_tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    _experiment()
    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR")
    space = {"depth": ray_tune.randint(3, 15), "leaf": ray_tune.lograndint(1, 65),
             "features": ray_tune.uniform(0.3, 1.0), "seed": ray_tune.randint(0, 100)}  # fmt: skip
    logged = MLflowLoggerCallback(tracking_uri=_STORE, experiment_name="bench")
    tuner = ray_tune.Tuner(
        lambda params: {"accuracy": fit(params)}, param_space=space,
        tune_config=ray_tune.TuneConfig(num_samples=trials, metric="accuracy", mode="max"),
        run_config=ray_tune.RunConfig(
            callbacks=[logged], storage_path=str(Path.cwd() / "ray"), verbose=0
        ),
    )  # fmt: skip
    started = time.perf_counter()
    tuner.fit()
    marks = _all_at_once(started)
    ray.shutdown()
    return marks


_STORE = "sqlite:///mlflow.db"


def _experiment() -> str:
    """A store and an experiment, made before the clock starts."""
    import mlflow

    mlflow.set_tracking_uri(_STORE)
    return str(mlflow.set_experiment("bench").experiment_id)


def _all_at_once(started: float) -> Marks:
    """Peers that record as they go have told and recorded at the same moment; and their runs."""
    import mlflow

    taken = time.perf_counter() - started
    runs = len(mlflow.MlflowClient().search_runs(["1"], max_results=5000))
    return {"told": taken, "recorded": taken, "runs": runs}


# what each peer needs: pip install optuna-integration "ray[tune]"
CONTENDERS: dict[str, Callable[[int], Marks]] = {
    f.__name__: f for f in (bare, surefit, callback, storage, gridsearch, raytune)
}


# --- side by side ---


def measured(name: str, trials: int) -> Marks:
    """One contender in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--one", name, "--trials", str(trials)],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: Marks = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table(marks: dict[str, list[Marks]], first: str) -> str:
    """Medians, and their ratios to the first contender's time to its last result."""
    keys = list(dict.fromkeys(key for runs in marks.values() for run in runs for key in run))
    lines = [" ".join(["contender".ljust(14), *(f"{k:>10}{'ratio':>7}" for k in keys)])]
    base = statistics.median(run["told"] for run in marks[first])
    for name, runs in marks.items():
        cells = []
        for key in keys:
            values = [run[key] for run in runs if key in run]
            median = statistics.median(values) if values else float("nan")
            ratio = (
                "" if not values or key.endswith("_ms") or key == "runs" else f"{median / base:.2f}"
            )
            cells.append(f"{median:10.2f}{ratio:>7}" if values else " " * 17)
        lines.append(" ".join([name.ljust(14), *cells]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CONTENDERS)}; by default all")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        warnings.simplefilter("ignore")
        print(json.dumps(CONTENDERS[given.one](given.trials)))
        return
    names = list(dict.fromkeys(["bare", *(given.names or CONTENDERS)]))
    marks: dict[str, list[Marks]] = {name: [] for name in names}
    for _ in range(given.rounds):
        for name in names:
            marks[name].append(measured(name, given.trials))
    trials = [{"depth": 3 + k % 12, "leaf": 1 + k, "features": 0.65, "seed": k} for k in range(60)]
    fit(trials[0])  # with its imports
    started = time.perf_counter()
    for params in trials:
        fit(params)
    each = (time.perf_counter() - started) / len(trials) * 1000
    print(f"{given.trials} trials, a fit {each:.0f} ms, {WORKERS} workers, seconds (median of "
          f"{given.rounds})")  # fmt: skip
    print(table(marks, names[0]))


if __name__ == "__main__":
    main()
