"""A run of the user's own function as a readable script: their code, and what is around it."""

from __future__ import annotations

import ast
import inspect
import pprint
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from surefit.core import portable, preprocess
from surefit.core.kinds import MAX_LEVELS
from surefit.core.script import READ, Subject
from surefit.errors import InputError
from surefit.models.params import Params

_PLAIN = {"preprocess"}  # what of surefit a user's file may use: it is written beside it


@dataclass(frozen=True, kw_only=True)
class OwnRecipe(Subject):
    """All that the script of a model of the user's own holds.

    Attributes:
        place: "model.py:build".
        files: the user's sources, by path.
        answers: functions that make probabilities of whatever the model answers.
        context: what a loop's context is made of: the class of its rows, and functions that copy a
            state and put it back.
    """

    kind: Literal["build", "train"]
    place: str
    files: Mapping[str, str] = field(repr=False)
    labels: Literal["as_given", "codes"]
    answers: Sequence[Callable[..., Any]] = field(repr=False)
    context: Sequence[Any] = field(repr=False)


def script(recipe: OwnRecipe) -> str:
    """The script's text.

    Raises:
        InputError: where the user's module cannot be imported by its name.
    """
    path, _, function = recipe.place.rpartition(":")
    module = PurePosixPath(path).stem
    if not module.isidentifier() or module in sys.stdlib_module_names:
        raise InputError(
            f"eject cannot import {path} by its name.", "name it as a module of your own, model.py"
        )
    body = inspect.getsource(portable).partition("import pandas as pd\n")[2].strip()
    values = {
        "TARGET": recipe.target, "CLASSES": list(recipe.classes),
        "COLUMNS": [{"name": c["name"], "dtype": c["dtype"]} for c in recipe.columns],
        "PARAMS": dict(recipe.params), "SEED": recipe.seed, "TASK": recipe.task,
        "WEIGHT": recipe.weight,
    }  # fmt: skip
    used = set(values) if recipe.kind == "train" else set(values) - {"TASK", "WEIGHT"}
    lines = "\n".join(
        f"{key} = {pprint.pformat(value, width=96, sort_dicts=False)}"
        for key, value in values.items() if key in used
    )  # fmt: skip
    parent = PurePosixPath(path).parent.as_posix()
    answers = "\n\n".join(inspect.getsource(f) for f in recipe.answers)
    return (
        _HEAD.format(r=recipe, parent=parent, module=module, function=function)
        + READ.format(r=recipe)
        + f"{body}\n\n\n{lines}\n\n\n{inspect.getsource(Params)}\n\n{answers}\n\n{_CALM}"
        + (_loop(recipe) if recipe.kind == "train" else _fitted(recipe))
        + _MAIN
    )


def plain(files: Mapping[str, str]) -> str:
    """The text of a surefit.py that stands for the package: "" where no file needs one.

    Raises:
        InputError: where a file uses more of surefit than can be written so.
    """
    used = {name for text in files.values() for name in _of_surefit(text)}
    if used - _PLAIN:
        raise InputError(
            f"eject cannot do without surefit where your code uses surefit.{min(used - _PLAIN)}.",
            "surefit.preprocess() can be written in plain skrub; the rest cannot",
        )
    if not used:
        return ""
    parts = (
        preprocess.preprocess, preprocess._levels_as_columns, preprocess._categories,
        preprocess._gapless,
    )  # fmt: skip
    return _SHIM.format(
        levels=MAX_LEVELS, components=preprocess.TEXT_COMPONENTS,
        functions="\n\n".join(inspect.getsource(f) for f in parts),
    )  # fmt: skip


def _of_surefit(text: str) -> set[str]:
    """The names that a file takes from surefit; "" for a part of it."""
    tree, names, used = ast.parse(text), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            mine = [a for a in node.names if a.name.partition(".")[0] == "surefit"]
            names |= {a.asname or "surefit" for a in mine}
            used |= {a.name.partition(".")[2] for a in mine if "." in a.name}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("surefit"):
            part = (node.module or "").partition(".")[2]
            used |= {part} if part else {a.name for a in node.names}
    for node in ast.walk(tree):
        inside = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if inside and node.value.id in names:  # type: ignore[attr-defined]
            used.add(node.attr)  # type: ignore[attr-defined]
    return used


def _fitted(recipe: OwnRecipe) -> str:
    given = "np.asarray(CLASSES)[y]" if recipe.classes and recipe.labels == "as_given" else "y"
    return _BUILD.format(given=given)


def _loop(recipe: OwnRecipe) -> str:
    parts = "\n\n".join(inspect.getsource(thing) for thing in recipe.context)
    return _TRAIN.format(parts=parts)


_HEAD = '''"""{r.name}: {r.place}, as trained in run {r.run_id}.

Your own code, in the folder `code`, and what was done around it. `parts.csv` beside this file says
which rows (by number, those without a target left out) are for training, for watching a loop, and
for testing.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import hashlib
import math
import random
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

CODE = Path(__file__).resolve().parent / "code"
sys.path[:0] = [str(CODE / "{parent}"), str(CODE)]
from {module} import {function} as yours  # noqa: E402


'''
_CALM = '''
@contextlib.contextmanager
def calm(seed):
    """Global generators seeded, and one thread: sums depend on how many share them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(1)
    with threadpool_limits(limits=1, user_api="blas" if torch is not None else None):
        yield

'''
_BUILD = """
def fit(table, frame, y, train, valid):
    X, y = frame.iloc[train], y[train]
    with calm(SEED):
        model = yours(Params(PARAMS))
    with calm(SEED):
        fitted = model.fit(X, {given})
    return model if fitted is None else fitted
"""
_TRAIN = '''
{parts}

class Context:
    """Rows, epochs and early stopping for your loop; it keeps no checkpoints."""

    def __init__(self, train, valid):
        self.train, self.valid = train, valid
        self.params, self.seed, self.task, self.classes = Params(PARAMS), SEED, TASK, tuple(CLASSES)
        self.best, self.kept, self.losses, self.epoch = None, None, [], 0

    def epochs(self, n, *, state=None, patience=10):
        for epoch in range(n):
            if patience is not None and self.best and epoch - self.best[1] >= patience:
                break
            self.epoch = epoch
            yield epoch, state
            losses = [loss for at, loss in self.losses if at == epoch]
            better = losses and math.isfinite(losses[-1])
            if better and (not self.best or losses[-1] < self.best[0]):
                self.best, self.kept = (losses[-1], epoch + 1), _capture(state)
        if self.best is not None and state is not None:
            _restore(state, self.kept)

    def log(self, **values):
        print(f"epoch {{self.epoch + 1}}: {{values}}")
        if "valid_loss" in values:
            self.losses.append((self.epoch, float(values["valid_loss"])))


def fit(table, frame, y, train, valid):
    weight = None if WEIGHT is None else table[WEIGHT].to_numpy(dtype="float64")
    parts = [
        Part(X=frame.iloc[rows], y=y[rows], weight=None if weight is None else weight[rows])
        for rows in (train, valid)
    ]
    with calm(SEED):
        return yours(Context(*parts))
'''
_MAIN = """

def main() -> None:
    here = Path(__file__).resolve().parent
    table = read()
    table = table[table[TARGET].notna()].reset_index(drop=True)
    part = pd.read_csv(here / "parts.csv", keep_default_na=False)["part"].to_numpy()
    train, valid, test = (np.flatnonzero(part == name) for name in ("train", "valid", "test"))
    frame = as_given(table, COLUMNS)
    if CLASSES:
        codes = {label: code for code, label in enumerate(CLASSES)}
        y = table[TARGET].map(codes).astype("int64").to_numpy()
    else:
        y = table[TARGET].astype("float64").to_numpy()
    model = fit(table, frame, y, train, valid)

    def predict(rows: pd.DataFrame) -> pd.DataFrame:
        with calm(0):
            raw = raw_output(model, as_given(rows, COLUMNS), CLASSES)
        return answer(raw, CLASSES, 0.5)

    predictions = predict(table.iloc[test]).assign(row=test)
    predictions.to_csv(here / "predictions.csv", index=False)
    with mlflow.active_run() or mlflow.start_run():
        mlflow.log_params(PARAMS)
        mlflow.log_artifact(str(here / "predictions.csv"))
        print(f"{len(test)} test rows predicted: {here / 'predictions.csv'}")


if __name__ == "__main__":
    main()
"""
_SHIM = '''"""What your code uses of surefit, in plain skrub and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_LEVELS = {levels}
TEXT_COMPONENTS = {components}


{functions}'''
