"""A run as a readable script of scikit-learn, the family's library and MLflow: the way out."""

from __future__ import annotations

import inspect
import pprint
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from surefit import models
from surefit.core import portable
from surefit.core.preprocess import TEXT_COMPONENTS
from surefit.errors import InputError
from surefit.models.family import LOG_TARGET, LOSS
from surefit.results import Task


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The run that a script is of, its rows and its settings.

    Attributes:
        read: an expression of pandas that reads the table from FILE.
        file, sha256: that file, and its digest as it was, since rows are taken by number.
        columns: dicts with the name, kind and dtype of each feature; style where it has one.
        weight: the column of row weights.
    """

    run_id: str
    name: str
    task: Task
    read: str
    file: str
    sha256: str
    target: str
    classes: Sequence[Any]
    columns: Sequence[dict[str, str]]
    params: Mapping[str, Any] = field(repr=False)
    seed: int
    weight: str | None = None

    @property
    def imports(self) -> str:
        """What reading needs beside pandas, which notes indices and guesses dates and numbers."""
        used = [name for name in ("gzip", "json", "pyarrow.parquet") if f"{name}." in self.read]
        return "".join(f"import {name}\n" for name in used) + "\n" * bool(used)


@dataclass(frozen=True, kw_only=True)
class Recipe(Subject):
    """All that the script of a built-in family holds.

    Attributes:
        rounds: steps of the final fit, for families that take steps.
        monotone: column of the matrix → direction.
    """

    family: str
    rounds: int | None
    monotone: Mapping[int, int] = field(default_factory=dict, repr=False)


# How each family is fitted and asked, in its own library's words.
_LIGHTGBM = """
import lightgbm


def fit(X, y, weight):
    fixed = {"verbosity": -1, "deterministic": True, "force_row_wise": True,
             "feature_pre_filter": False, "num_threads": 1, "seed": SEED}
    if MONOTONE:
        fixed["monotone_constraints"] = directions(X)
    rows = lightgbm.Dataset(
        X, y, weight=weight, categorical_feature=CATEGORICAL, free_raw_data=False
    )
    return lightgbm.train({**PARAMS, **fixed, **OBJECTIVE}, rows, ROUNDS)


def estimate(model, X):
    raw = np.asarray(model.predict(X))
    return np.column_stack([1 - raw, raw]) if len(CLASSES) == 2 else raw
"""
_XGBOOST = """
import xgboost


def matrix(X, y=None, weight=None):
    kinds = ["c" if i in CATEGORICAL else "q" for i in range(X.shape[1])]
    return xgboost.DMatrix(
        X, y, weight=weight, feature_types=kinds, enable_categorical=True, nthread=1
    )


def fit(X, y, weight):
    fixed = {"verbosity": 0, "tree_method": "hist", "nthread": 1, "seed": SEED}
    if MONOTONE:
        fixed["monotone_constraints"] = tuple(directions(X))
    return xgboost.train({**PARAMS, **fixed, **OBJECTIVE}, matrix(X, y, weight), ROUNDS)


def estimate(model, X):
    raw = np.asarray(model.predict(matrix(X)), dtype="float64")
    return np.column_stack([1 - raw, raw]) if len(CLASSES) == 2 else raw
"""
_CATBOOST = """
import catboost


def whole(X):
    if not CATEGORICAL:
        return X
    frame = pd.DataFrame(np.asarray(X, dtype="float64"))
    for column in CATEGORICAL:
        frame[column] = frame[column].fillna(-1).astype("int64")
    return frame


def fit(X, y, weight):
    fixed = {"random_seed": SEED, "thread_count": 1, "allow_writing_files": False,
             "verbose": False, "iterations": ROUNDS}
    if MONOTONE:
        fixed["monotone_constraints"] = directions(X)
    model = catboost.CatBoost({**PARAMS, **fixed, **OBJECTIVE})
    return model.fit(catboost.Pool(whole(X), y, weight=weight, cat_features=CATEGORICAL))


def estimate(model, X):
    kind = "Probability" if CLASSES else "RawFormulaVal"
    if OBJECTIVE["loss_function"] == "Poisson":
        kind = "Exponent"
    return np.asarray(model.predict(whole(X), prediction_type=kind), dtype="float64")
"""
_SKLEARN = """
{imports}

def fit(X, y, weight):
    with threadpool_limits(limits=1):  # sums depend on how many threads share them
        return {make}.fit(X, y{weighted})


def estimate(model, X):
    if not CLASSES:
        return np.asarray(model.predict(X), dtype="float64")
    answer = np.zeros((X.shape[0], len(CLASSES)))
    answer[:, model.classes_] = model.predict_proba(X)
    return answer
"""
_MLP = """
import torch


def matrix(X):
    dense = np.nan_to_num(X.toarray() if hasattr(X, "toarray") else np.asarray(X))
    return torch.from_numpy((3 * (dense / np.hypot(3, dense))).astype("float32"))  # within +-3


def network(width):
    parts = []
    for _ in range(PARAMS["layers"]):
        parts += [torch.nn.Linear(width, PARAMS["hidden"]), torch.nn.SiLU(),
                  torch.nn.Dropout(PARAMS["dropout"])]
        width = PARAMS["hidden"]
    return torch.nn.Sequential(*parts, torch.nn.Linear(width, len(CLASSES) or 1))


def fit(X, y, weight):
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums depend on how many threads share them
    centre, scale = (0.0, 1.0) if CLASSES else (float(y.mean()), float(y.std()) or 1.0)
    net, rows = network(X.shape[1]), matrix(X)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=PARAMS["lr"], weight_decay=PARAMS["weight_decay"]
    )
    target = torch.from_numpy(y)
    if not CLASSES:
        target = ((target - centre) / scale).float()
    weight = np.ones(len(y)) if weight is None else weight / weight.mean()
    weight = torch.from_numpy(weight).float()
    net.train()
    for _ in range(ROUNDS):
        for chosen in torch.randperm(len(target)).split(min(PARAMS["batch"], len(target))):
            optimizer.zero_grad()
            out = net(rows[chosen])
            if CLASSES:
                losses = torch.nn.functional.cross_entropy(out, target[chosen], reduction="none")
            else:
                losses = (out[:, 0] - target[chosen]) ** 2
            ((losses * weight[chosen]).sum() / weight[chosen].sum()).backward()
            optimizer.step()
    return net.eval(), centre, scale, (y.min(), y.max())


def estimate(model, X):
    net, centre, scale, limits = model
    with torch.no_grad():
        out = net(matrix(X)).double()
    if CLASSES:
        return torch.softmax(out, dim=1).numpy()
    return np.clip(out[:, 0].numpy() * scale + centre, *limits)
"""
_DIRECTIONS = """

def directions(X):
    found = [0] * X.shape[1]
    for column, direction in MONOTONE.items():
        found[column] = direction
    return found
"""
_BALANCED = {
    "": """

def weights(table, y):
    return None
""",
    "column": """

def weights(table, y):
    return table[WEIGHT].to_numpy(dtype="float64")
""",
    "class": """

def weights(table, y):
    if CLASS_WEIGHT == "balanced":
        by_class = len(y) / (len(CLASSES) * np.maximum(np.bincount(y, minlength=len(CLASSES)), 1))
    else:
        by_class = np.asarray(CLASS_WEIGHT, dtype="float64")
    return by_class[y] * (table[WEIGHT].to_numpy(dtype="float64") if WEIGHT else 1.0)
""",
}
_STEPS = {
    "num_iterations", "early_stopping_round", "num_boost_round", "early_stopping_rounds",
    "iterations",
}  # fmt: skip
_ONEHOT = ("linear", "mlp")
_APART = {"monotone", "class_weight", LOG_TARGET}  # of PARAMS: they have lines of their own
KNOWN = ("catboost", "dummy", "forest", "hist", "lightgbm", "linear", "mlp", "xgboost")


def script(recipe: Recipe) -> str:
    """The script's text.

    Raises:
        InputError: for what it cannot say in plain code yet.
    """
    if recipe.family not in KNOWN:
        raise InputError(
            f"eject cannot write {recipe.family} as a plain script.",
            "the run's model and its predict.py load in plain MLflow without surefit",
        )
    body = inspect.getsource(portable).partition("from typing import Any\n")[2].strip()
    body = body.replace("from __future__ import annotations\n", "").replace(
        "import numpy as np\nimport pandas as pd\n", ""
    )
    return "".join([
        _HEAD.format(r=recipe), READ.format(r=recipe), body.strip(), _settings(recipe),
        _preprocessing(recipe), _weighting(recipe), "\n", _estimator(recipe), _main(recipe),
    ])  # fmt: skip


def _main(recipe: Recipe) -> str:
    """The main program; it fits logarithms of 1 + the target where the run did."""
    if not recipe.params.get(LOG_TARGET):
        return _MAIN
    text = _MAIN
    for line, instead in _LOGGED.items():
        assert line in text
        text = text.replace(line, instead)
    return text


def _weighting(recipe: Recipe) -> str:
    """How rows are weighted, and which way features may push, where the run says so."""
    which = "class" if _class_weight(recipe) else "column" if recipe.weight else ""
    return _BALANCED[which] + (_DIRECTIONS if recipe.monotone else "")


def _class_weight(recipe: Recipe) -> Any:
    return recipe.params.get("class_weight") if recipe.classes else None


def _settings(recipe: Recipe) -> str:
    ordinal = recipe.family not in _ONEHOT
    count = sum(c["kind"] == "category" for c in recipe.columns)
    objective = models.named(recipe.family).objective(recipe.task, recipe.params)
    apart = _APART | ({LOSS} if objective else set())
    if recipe.task == "multiclass" and recipe.family in ("lightgbm", "xgboost"):
        objective["num_class"] = len(recipe.classes)
    values = {
        "TARGET": recipe.target, "CLASSES": list(recipe.classes),
        "COLUMNS": [{k: c[k] for k in ("name", "kind", "style") if k in c} for c in recipe.columns],
        "CATEGORICAL": list(range(count)) if ordinal else [],
        "PARAMS": {k: v for k, v in recipe.params.items()
                   if k not in _steps(recipe.family) | apart},
        "OBJECTIVE": objective, "SEED": recipe.seed, "ROUNDS": recipe.rounds,
        "WEIGHT": recipe.weight, "CLASS_WEIGHT": _class_weight(recipe),
        "MONOTONE": dict(recipe.monotone),
    }  # fmt: skip
    unused = {"OBJECTIVE"} if not objective else set()
    if not _class_weight(recipe):
        unused |= {"CLASS_WEIGHT"} if recipe.weight else {"CLASS_WEIGHT", "WEIGHT"}
    if not recipe.monotone and not objective:
        unused |= {"MONOTONE"}
    lines = "\n".join(
        f"{key} = {pprint.pformat(value, width=96, sort_dicts=False)}"
        for key, value in values.items()
        if key not in unused
    )
    return f"\n\n\n{lines}\n"


def _steps(family: str) -> set[str]:
    if family == "linear":
        return set()
    return {"max_iter"} if family == "hist" else _STEPS


def _preprocessing(recipe: Recipe) -> str:
    onehot = recipe.family in _ONEHOT
    of = {k: [c["name"] for c in recipe.columns if c["kind"] == k]
          for k in ("category", "number", "text", "date")}  # fmt: skip
    gaps = (
        "make_pipeline(SimpleImputer(strategy='median', {more}keep_empty_features=True),\n"
        "                      StandardScaler())"
    )
    category = (
        "OneHotEncoder(handle_unknown='ignore', dtype=np.float64)" if onehot else
        "OrdinalEncoder(handle_unknown='use_encoded_value', unknown_value=np.nan,\n"
        "                                    encoded_missing_value=np.nan)"
    )  # fmt: skip
    number = gaps.format(more="add_indicator=True, ") if onehot else '"passthrough"'
    steps = []
    if of["category"]:
        steps.append(f'("category", {category}, {of["category"]!r})')
    if of["number"]:
        steps.append(f'("number", {number}, {of["number"]!r})')
    for place, column in enumerate(recipe.columns):  # not each name may be a step's
        encoder = {"date": "DatetimeEncoder(add_weekday=True)",
                   "text": f"StringEncoder(n_components={TEXT_COMPONENTS}, random_state=0)",
                   }.get(column["kind"])  # fmt: skip
        if encoder:
            full = f"make_pipeline({encoder}, {gaps.format(more='')})" if onehot else encoder
            steps.append(f'("{column["kind"]}-{place}", {full}, {column["name"]!r})')
    lines = "".join(f"        {step},\n" for step in steps)
    skrub = "from skrub import DatetimeEncoder, StringEncoder\n" if of["text"] + of["date"] else ""
    return (
        f"\n{_SKLEARN_IMPORTS}{skrub}\n\ndef preprocessing():\n"
        f"    return ColumnTransformer([\n{lines}    ], sparse_threshold=0.3)\n"
    )


def _estimator(recipe: Recipe) -> str:
    native = {"lightgbm": _LIGHTGBM, "xgboost": _XGBOOST, "catboost": _CATBOOST, "mlp": _MLP}
    if recipe.family in native:
        return native[recipe.family]
    imports, make = _sklearn(recipe)
    weighted = "" if recipe.family == "dummy" else ", sample_weight=weight"
    return _SKLEARN.format(imports=imports, make=make, weighted=weighted)


def _sklearn(recipe: Recipe) -> tuple[str, str]:
    kind = "Classifier" if recipe.classes else "Regressor"
    shaped = ", monotonic_cst=directions(X)" if recipe.monotone else ""
    if recipe.family == "dummy":
        return f"from sklearn.dummy import Dummy{kind}\n", f"Dummy{kind}(**PARAMS)"
    if recipe.family == "linear":
        name = "LogisticRegression" if recipe.classes else "Ridge"
        ratio, more = recipe.params.get("l1_ratio", 0), ""
        if ratio:
            name = name if recipe.classes else "ElasticNet"
            more = ", solver='saga', random_state=SEED" if recipe.classes else ""
        return f"from sklearn.linear_model import {name}\n", f"{name}(**PARAMS{more})"
    if recipe.family == "forest":
        name = {"random": "RandomForest", "extra": "ExtraTrees"}[recipe.params["kind"]] + kind
        more = ", bootstrap=True" if recipe.params.get("max_samples") is not None else ""
        given = "{k: v for k, v in PARAMS.items() if k not in ('kind', 'bootstrap')}"
        if "bootstrap" in recipe.params and not more:
            more = f", bootstrap={recipe.params['bootstrap']!r}"
        call = f"{name}(**{given}{more}{shaped}, random_state=SEED)"
        return f"from sklearn.ensemble import {name}\n", call
    name = f"HistGradientBoosting{kind}"
    return (
        f"from sklearn.ensemble import {name}\n",
        f"{name}(**PARAMS, max_iter=ROUNDS, categorical_features=CATEGORICAL or None,\n"
        f"            early_stopping=False, scoring='loss', random_state=SEED{shaped})",
    )


_SKLEARN_IMPORTS = """
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits
"""
_HEAD = '''"""{r.name}: {r.family}, as trained in run {r.run_id}.

Plain pandas, scikit-learn, the family's library and MLflow. `parts.csv` beside this file says which
rows (by number, those without a target left out) are for training and which are for testing.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd


'''
READ = """{r.imports}FILE = {r.file!r}
SHA256 = {r.sha256!r}  # of the file as it was: rows are taken by number


def read() -> pd.DataFrame:
    with open(FILE, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            sys.exit(f"{{FILE}} is not the file of this run: parts.csv names other rows.")
    return {r.read}


"""
_MAIN = """

def main() -> None:
    here = Path(__file__).resolve().parent
    table = read()
    table = table[table[TARGET].notna()].reset_index(drop=True)
    part = pd.read_csv(here / "parts.csv", keep_default_na=False)["part"].to_numpy()
    train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    frame = coerce(table, COLUMNS)
    if CLASSES:
        y = table[TARGET].map({label: code for code, label in enumerate(CLASSES)}).astype("int64")
    else:
        y = table[TARGET].astype("float64")

    with threadpool_limits(limits=1, user_api="blas"):
        encoder = preprocessing()
        codes = y.to_numpy()[train]
        weight = weights(table.iloc[train], codes)
        model = fit(encoder.fit_transform(frame.iloc[train]), codes, weight)

    def predict(rows: pd.DataFrame) -> pd.DataFrame:
        raw = estimate(model, encoder.transform(coerce(rows, COLUMNS)))
        return answer(raw, CLASSES, 0.5)

    predictions = predict(table.iloc[test]).assign(row=test)
    predictions.to_csv(here / "predictions.csv", index=False)
    with mlflow.start_run():
        mlflow.log_params(PARAMS)
        mlflow.log_artifact(str(here / "predictions.csv"))
        print(f"{len(test)} test rows predicted: {here / 'predictions.csv'}")


if __name__ == "__main__":
    main()
"""
# What differs where logarithms are fitted: answers are held within those, and taken back.
_LOGGED = {
    """        codes = y.to_numpy()[train]
        weight = weights(table.iloc[train], codes)
""": """        codes = np.log1p(y.to_numpy()[train])
        weight = weights(table.iloc[train], codes)
""",
    """        raw = estimate(model, encoder.transform(coerce(rows, COLUMNS)))
""": """        raw = estimate(model, encoder.transform(coerce(rows, COLUMNS)))
        raw = np.expm1(np.clip(raw, codes.min(), codes.max()))
""",
}
