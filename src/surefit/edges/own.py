"""The user's own function as a family: `build(params)` or `train(ctx)`, fitted, saved, loaded."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import json
import os
import pickletools
import shutil
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import numpy as np
import pandas as pd

from surefit.edges import checkpoints, named, project
from surefit.edges.checkpoints import Checkpoints
from surefit.edges.loop import Context, Part
from surefit.edges.project import UserCode
from surefit.edges.redirect import Scratch
from surefit.errors import UserCodeError
from surefit.models import params as params_module
from surefit.models.costs import Size
from surefit.models.family import Family, Fitted, Rows, Setting
from surefit.models.family import Params as GivenParams
from surefit.models.params import Params
from surefit.models.skops_files import load_skops, save_skops


@dataclass(frozen=True, kw_only=True)
class Own:
    """What the jobs need to run the user's function.

    Attributes:
        kind: "build" or "train".
        code: the function.
        classes: the labels, () in regression.
        labels: whether build's estimators see labels "as_given" or "codes".
        checkpoints: where loops keep their state.
        scratch: where MLflow calls of the function go, a store a job.
    """

    kind: Literal["build", "train"]
    code: UserCode
    classes: tuple[Any, ...]
    labels: Literal["as_given", "codes"]
    checkpoints: Checkpoints = field(repr=False)
    scratch: Scratch = field(repr=False)

    @property
    def logs(self) -> bool:
        """Whether the user's sources name MLflow."""
        return any("mlflow" in text for text in self.code.files.values())


@dataclass(kw_only=True)
class Answering:
    """The user's fitted model, and where what its fit and its first answer logged is kept.

    Later answers measure its speed, or what it relies on: what those log is no part of the run.
    """

    model: Any = field(repr=False)
    calls: list[str]
    has_answered: bool = False


def family(own: Own) -> Family:
    """The user's function in the form of a built-in family."""
    return Family(
        name=own.code.place,
        encoding="raw",
        iterative=own.kind == "train",
        carves=own.kind == "train",
        open=True,
        defaults=_nothing,
        known=_no_names,
        space=_nothing,
        starts=_no_starts,
        fit=functools.partial(_fit, own),
        predict=functools.partial(_predict, own),
        save=functools.partial(_save, own),
        load=load_estimator,
        helpers=(load_own, raw_output, one_hot, of_label),
        needs=functools.partial(_needs, own),
        cost=_cost,
        requires=("cloudpickle",),
    )


def _nothing(task: str) -> dict[str, Any]:
    return {}


def _no_names(task: str) -> set[str]:
    return set()


def _no_starts(task: str) -> tuple[dict[str, Any], ...]:
    return ()


def _cost(size: Size, params: Mapping[str, Any]) -> float:
    return 0.5 + 1e-4 * size.rows  # nobody knows: enough for large tables to be given workers


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators seeded inside the block, and as they were after it."""
    before = checkpoints.generators()
    checkpoints.seed_all(seed)
    try:
        yield
    finally:
        checkpoints.restore_generators(before)


def _fit(own: Own, params: GivenParams, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    fit = _fit_build if own.kind == "build" else _fit_loop
    with own.scratch.redirected(own.code.autologgers) as written:
        fitted = fit(own, params, train, stop, setting)
    answering = Answering(model=fitted.estimator, calls=written)
    return replace(fitted, estimator=answering, calls=answering.calls)


def _fit_build(
    own: Own, params: GivenParams, train: Rows, stop: Rows | None, setting: Setting
) -> Fitted:
    if train.weight is not None:
        raise UserCodeError(
            "data.weight does not reach a model of build(params).",
            'model.train = "model.py:train" has ctx.train.weight',
        )
    build = own.code.load()
    with _seeded(setting.seed), _one_thread(), project.users_line():
        model = build(Params(params))
    missing = [name for name in ("fit", "predict") if not hasattr(model, name)]
    if missing:
        raise UserCodeError(
            f"{own.code.place} returned {type(model).__name__}, which has no {missing[0]}.",
            "return an object with fit(X, y) and predict(X)",
        )
    y: Any = train.y
    if own.classes and own.labels == "as_given":
        y = np.asarray(own.classes)[train.y]
    with _seeded(setting.seed), _one_thread(), project.users_line():
        fitted = model.fit(train.X, y)
    return Fitted(estimator=model if fitted is None else fitted)


def _fit_loop(
    own: Own, params: GivenParams, train: Rows, stop: Rows | None, setting: Setting
) -> Fitted:
    if stop is None:
        raise UserCodeError(
            f"{len(train.y)} rows are too few to carve ctx.valid from.", "more rows, or build"
        )
    loop = own.code.load()
    checkpoint = own.checkpoints.of(
        setting.job,
        setting.seed,
        sorted(params.items()),
        len(train.y),
        *([setting.most_steps] if setting.most_steps else []),
        *([setting.limits] if setting.limits else []),
    )
    context = Context(
        train=Part(X=train.X, y=train.y, weight=train.weight),
        valid=Part(X=stop.X, y=stop.y, weight=stop.weight),
        params=Params(params), seed=setting.seed, task=setting.task, classes=own.classes,
        checkpoint=checkpoint, most=setting.most_steps, limits=setting.limits,
    )  # fmt: skip
    with _seeded(setting.seed), _one_thread(), project.users_line():
        model = loop(context)
    if not (callable(model) or hasattr(model, "predict") or hasattr(model, "predict_proba")):
        raise UserCodeError(
            f"{own.code.place} returned {type(model).__name__}, which does not predict.",
            "return an object with predict(X) or predict_proba(X), or a function of a frame",
        )
    return Fitted(
        estimator=model, curve=context.curve(), rounds=context.rounds, steps=context.steps()
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums depend on how many threads share them: one, unless the user's loop asks for more."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    if torch is None:
        with threadpool_limits(limits=1):
            yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _predict(own: Own, estimator: Answering, X: pd.DataFrame, n_classes: int) -> np.ndarray:
    if not own.logs:
        return _answer(own, estimator.model, X)
    with own.scratch.redirected(own.code.autologgers) as written:
        answer = _answer(own, estimator.model, X)
    if estimator.has_answered:
        for folder in written:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        estimator.calls.extend(written)
    estimator.has_answered = True
    return answer


def _answer(own: Own, model: Any, X: pd.DataFrame) -> np.ndarray:
    with _seeded(0), _one_thread(), project.users_line():
        return raw_output(model, X, list(own.classes))


# --- the rest of what travels inside saved models ---


def raw_output(model: Any, X: pd.DataFrame, classes: list[Any]) -> np.ndarray:
    """Probabilities (n, K), or values (n,) in regression, from whatever the model answers.

    predict_proba where there is one; else predict, or the model called: probabilities (n, K), of
    two classes the second's (n,), labels as the user wrote them, or their numbers.
    """
    if classes and hasattr(model, "predict_proba"):
        found = np.asarray(model.predict_proba(X), dtype="float64")
        labels = getattr(model, "classes_", range(len(classes)))
        seen = [of_label(label, classes) for label in labels]
        if found.ndim != 2 or found.shape != (len(X), len(seen)):
            raise ValueError(f"predict_proba gave {found.shape} for {len(X)} rows")
        answer = np.zeros((len(X), len(classes)))
        answer[:, seen] = found
    else:
        found = np.asarray(model.predict(X) if hasattr(model, "predict") else model(X))
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if len(found) != len(X):
            raise ValueError(f"the model gave {len(found)} answers for {len(X)} rows")
        answer = one_hot(found, classes) if classes else found.astype("float64")
    if answer.ndim != (2 if classes else 1):
        raise ValueError(f"the model's answer has the shape {answer.shape}")
    if not np.isfinite(answer).all():
        wrong = int((~np.isfinite(answer)).sum())
        raise ValueError(f"{wrong} of the model's answers are not finite")
    return answer


def one_hot(found: np.ndarray, classes: list[Any]) -> np.ndarray:
    """(n, K) probabilities from probabilities, labels or class numbers."""
    if found.ndim == 2:
        if found.shape[1] != len(classes):
            raise ValueError(f"the model gave {found.shape[1]} columns for {len(classes)} classes")
        return found.astype("float64")
    fractions = found.dtype.kind == "f" and not np.isin(found, classes).all()
    if len(classes) == 2 and fractions and ((found >= 0) & (found <= 1)).all():
        return np.column_stack([1 - found, found]).astype("float64")
    codes = [of_label(label, classes) for label in found.tolist()]
    return np.eye(len(classes))[codes]


def of_label(label: Any, classes: list[Any]) -> int:
    """The number of a class, given as the user's label or as the number itself."""
    label = label.item() if hasattr(label, "item") else label
    if label in classes:
        return classes.index(label)
    if isinstance(label, (int, float)) and label in range(len(classes)):
        return int(label)
    raise ValueError(f"{label!r} is none of the classes {classes[:5]}")


ANSWERS = (raw_output, one_hot, of_label)  # what makes probabilities of a model's answer


def load_own(folder: Path) -> Any:
    """The user's model: from skops where it could be saved so, else from its pickle."""
    if (folder / "model.skops").exists():
        return load_skops(folder / "model.skops")
    if os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "").lower() == "false":
        raise RuntimeError(
            "this model holds a pickle of its author's own class, and "
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false forbids to load one"
        )
    names = {}
    if (folder / "names.pkl").exists():  # what a pickle inside the model's asks its modules for
        names = cloudpickle.loads((folder / "names.pkl").read_bytes())
    before = {name: sys.modules.get(name) for name in names}
    for name, values in names.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(values)
    try:
        return cloudpickle.loads((folder / "model.pkl").read_bytes())
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def load_estimator(folder: Path, n_classes: int) -> Any:
    """The saved model as a function of the user's columns."""
    classes = json.loads((folder / "meta.json").read_text("utf-8"))["classes"]
    model = load_own(folder)
    return lambda X: raw_output(model, X, classes)


# --- saving ---


def _save(own: Own, estimator: Answering, folder: Path) -> None:
    """skops when every type is on the reviewed list, else a pickle that carries the code."""
    model = estimator.model
    try:
        save_skops(model, folder / "model.skops")
    except Exception:  # skops refuses what it does not know in many ways
        (folder / "model.skops").unlink(missing_ok=True)
    else:
        return
    cloudpickle.register_pickle_by_value(params_module)
    project.carry(own.code.folder)  # modules that were imported only as the function ran, too
    try:
        with project.users_line():
            data, devices = pickled(model)
            asked = named.asked_for(data, project.own_modules(Path(own.code.folder)))
        names = cloudpickle.dumps(asked) if asked else b""
    finally:
        cloudpickle.unregister_pickle_by_value(params_module)
    if "surefit" in _modules_in(data) | _modules_in(names):
        raise UserCodeError(
            f"The model that {own.code.place} made holds something of surefit, "
            "and could not be loaded without it.",
            "keep ctx and surefit's functions out of the model's attributes and methods",
        )
    (folder / "model.pkl").write_bytes(data)
    if devices:
        (folder / "devices.json").write_text(json.dumps(devices), "utf-8")
    if names:
        (folder / "names.pkl").write_bytes(names)


def pickled(model: Any) -> tuple[bytes, list[str]]:
    """A model's pickle, with its code, and the devices besides the CPU that its tensors are on."""
    torch = sys.modules.get("torch")
    devices: set[str] = set()

    class Noting(cloudpickle.Pickler):
        def persistent_id(self, value: Any) -> None:
            if torch is not None and isinstance(value, torch.Tensor):
                devices.add(value.device.type)

    file = io.BytesIO()
    Noting(file).dump(model)
    return file.getvalue(), sorted(devices - {"cpu"})


def is_pickle(model_folder: Path) -> bool:
    """Whether a saved model holds a pickle."""
    return any(model_folder.rglob("parts/model.pkl"))


def devices_of(model_folder: Path) -> tuple[str, ...]:
    """What a saved model needs besides a CPU to be loaded: ("cuda",)."""
    files = model_folder.rglob("parts/devices.json")
    return tuple(d for file in files for d in json.loads(file.read_text("utf-8")))


def _modules_in(data: bytes) -> set[str]:
    """The top-level modules that a pickle names."""
    parsed = pickletools.genops(data) if data else ()
    texts = [argument for _, argument, _ in parsed if isinstance(argument, str)]
    own = {params_module.__name__, params_module.__package__}  # carried by value
    named = {t.partition(" ")[0] for t in texts} - own
    return {t.partition(".")[0] for t in named if t in sys.modules}


def _needs(own: Own, estimator: Answering) -> tuple[str, ...]:
    """The distributions that the model's code and the user's files import."""
    modules = {m for text in own.code.files.values() for m in project.imports(text)}
    with contextlib.suppress(Exception):  # what skops can save need not be picklable
        modules |= _modules_in(cloudpickle.dumps(estimator.model))
    return tuple(sorted(_distributions(modules) - {"surefit"}))


def _distributions(modules: set[str]) -> set[str]:
    known = importlib.metadata.packages_distributions()
    return {known[m][0] for m in modules if m in known and m not in sys.stdlib_module_names}
