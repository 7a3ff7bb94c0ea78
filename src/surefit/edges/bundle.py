"""A fitted model as a plain MLflow model that needs no surefit: parts, meta.json and predict.py.

Every family takes this one form. Files hold no pickle, unless the user's own class leaves no other
way, and then the run says so; a manifest with the SHA-256 of every file
is written last, and its own digest goes on the run and the registered version.
"""

from __future__ import annotations

import inspect
import json
import shutil
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol, cast

import pandas as pd

from surefit.edges import environment, own, temporary
from surefit.edges.runs import Run
from surefit.edges.sources import sha256
from surefit.edges.store import without_logs
from surefit.errors import IntegrityError
from surefit.models import logs, skops_files
from surefit.models.family import Family
from surefit.results import InputColumn

MANIFEST = "manifest.json"
_OWN_IMPORTS = "import os\nimport sys\nimport types\n\nimport cloudpickle\n"
_TYPES = {"long": "long", "double": "double", "boolean": "boolean", "datetime": "datetime"}


class FittedModel(Protocol):
    """What is saved: preprocessing and an estimator of a family."""

    @property
    def family(self) -> Family: ...
    @property
    def preprocess(self) -> Any: ...
    @property
    def fitted(self) -> Any: ...
    @property
    def n_classes(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A model in the store: its id, its manifest's SHA-256, its size; what its files need."""

    model_id: str
    digest: str
    n_bytes: int
    is_pickle: bool = False
    devices: tuple[str, ...] = ()


def log(
    run: Run,
    model: FittedModel,
    *,
    columns: Sequence[dict[str, str]],
    classes: Sequence[Any],
    example: pd.DataFrame,
    portable: Any,
) -> Logged:
    """Write the model's files and log them to the run as an MLflow model named "model".

    Args:
        columns: dicts with the name, dtype and kind of each input column, in order.
        classes: labels as the user wrote them, () in regression.
        example: a few raw rows, the model's input example.
        portable: the module whose `coerce` and `answer` travel in `predict.py`.
    """
    client = run.store.client
    experiment_id = run.store.experiment_id
    created = client.create_logged_model(
        experiment_id, name="model", source_run_id=run.run_id,
        tags={"surefit.family": model.family.name}, params={"model.family": model.family.name},
    )  # fmt: skip
    try:
        with temporary.folder() as scratch:
            folder = Path(scratch) / "model"
            parts = _write_parts(Path(scratch), model, columns, classes)
            code = Path(scratch) / "predict.py"
            code.write_text(source(model.family, portable), "utf-8")
            _save(
                folder, code, parts, model, columns, classes, example, run.run_id, created.model_id
            )
            digest, n_bytes = _seal(folder)
            is_pickle, devices = own.is_pickle(folder), own.devices_of(folder)
            client.log_model_artifacts(created.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(created.model_id, "FAILED")
        raise
    client.finalize_logged_model(created.model_id, "READY")
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run.run_id, [LoggedModelOutput(created.model_id, step=0)])
    return Logged(
        model_id=created.model_id, digest=digest, n_bytes=n_bytes, is_pickle=is_pickle,
        devices=devices,
    )  # fmt: skip


def _write_parts(
    scratch: Path, model: FittedModel, columns: Sequence[dict[str, str]], classes: Sequence[Any]
) -> Path:
    parts = scratch / "parts"
    parts.mkdir()
    if model.family.encoding != "raw" and not model.family.members:
        skops_files.save_skops(model.preprocess, parts / "preprocess.skops")
    model.family.save(model.fitted.estimator, parts)
    meta = {
        "columns": list(columns),
        "classes": list(classes),
        "n_classes": model.n_classes,
        "threshold": 0.5,
        "family": model.family.name,
    }
    if model.fitted.log is not None:
        meta["log"] = model.fitted.log
    (parts / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), "utf-8")
    return parts


def source(family: Family, portable: Any) -> str:
    """The text of `predict.py` for a family: our functions as they are tested, importing none."""
    shared = (
        skops_files.load_skops, skops_files.class_probabilities, logs.unlogged, *family.helpers,
        family.load,
    )  # fmt: skip
    imports = _OWN_IMPORTS if family.encoding == "raw" else ""
    load, apply = _steps(family)
    body = inspect.getsource(portable).partition("from typing import Any\n")[2]
    functions = "\n\n".join(inspect.getsource(cast(FunctionType, f)) for f in shared)
    functions += "".join(f"\n\n{_loader(member)}" for member in family.members)
    if family.members:
        named = ", ".join(f'"{m.name}": load_{m.name}' for m in family.members)
        functions += f"\n\nLOADERS = {{{named}}}\n"
    return f'''"""How this model answers: plain MLflow, scikit-learn and the family's library.

Written when the model was trained; it needs no other file than those beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
{imports}{body}

TRUSTED = {json.dumps(skops_files.TRUSTED, indent=4)}


{functions}

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Model(PythonModel):
    """Answers a frame with `prediction` and, for classes, `probability_<class>`."""

    def load_context(self, context):
        folder = Path(context.artifacts["parts"])
        self.meta = json.loads((folder / "meta.json").read_text("utf-8"))
{load}        self.estimate = load_estimator(folder, self.meta["n_classes"])

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
{apply}
        raw = unlogged(raw, self.meta.get("log"))
        return answer(raw, self.meta["classes"], self.meta["threshold"])


set_model(Model())
'''


def _loader(family: Family) -> str:
    """A member's `load` with its helpers inside: families use the same names."""
    inner = (*family.helpers, family.load)
    texts = [inspect.getsource(cast(FunctionType, f)).rstrip() for f in inner]
    body = textwrap.indent("\n\n".join(texts), " " * 4)
    called = cast(FunctionType, family.load).__name__
    return (
        f"def load_{family.name}(folder, n_classes):\n{body}\n\n"
        f"    return {called}(folder, n_classes)\n"
    )


def _steps(family: Family) -> tuple[str, str]:
    """The lines of `predict.py` that load the preprocessing, and that apply it."""
    indent = " " * 8
    if family.encoding == "raw":
        given = f'{indent}frame = as_given(model_input, self.meta["columns"])\n'
        return "", f"{given}{indent}raw = self.estimate(frame)"
    read = f'{indent}frame = coerce(model_input, self.meta["columns"])\n'
    if family.members:
        return "", f"{read}{indent}raw = self.estimate(frame)"
    load = f'{indent}self.preprocess = load_skops(folder / "preprocess.skops")\n'
    return load, f"{read}{indent}raw = self.estimate(self.preprocess.transform(frame))"


def _save(
    folder: Path,
    code: Path,
    parts: Path,
    model: FittedModel,
    columns: Sequence[dict[str, str]],
    classes: Sequence[Any],
    example: pd.DataFrame,
    run_id: str,
    model_id: str,
) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model

    with warnings.catch_warnings(), without_logs("mlflow"):
        # About type hints of other forms, and integers that may go missing: neither applies here.
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(code),
            artifacts={"parts": str(parts)},
            signature=_signature(columns, classes),
            input_example=example,
            pip_requirements=environment.pinned(_requirements(model, columns)),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )
    _without_paths(folder)
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)


def _requirements(model: FittedModel, columns: Sequence[dict[str, str]]) -> list[str]:
    family = model.family
    needed = ["mlflow", "numpy", "pandas", "scikit-learn", "skops", *family.requires]
    needed += [name for name in family.needs(model.fitted.estimator) if name not in needed]
    if family.encoding != "raw" and any(c["kind"] in ("text", "date") for c in columns):
        needed.append("skrub")
    return needed


def _signature(columns: Sequence[dict[str, str]], classes: Sequence[Any]) -> Any:
    """The user's own column types in; labels as the user wrote them, and probabilities, out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = [ColSpec(_TYPES.get(c["dtype"], "string"), c["name"]) for c in columns]
    label = "double"
    if classes:
        kinds = {bool: "boolean", int: "long", float: "double"}
        label = kinds.get(type(classes[0]), "string")
    outputs = [ColSpec(label, "prediction")]
    outputs += [ColSpec("double", f"probability_{c}") for c in classes]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _without_paths(folder: Path) -> None:
    """MLflow writes where the files came from on this machine; nobody needs that."""
    import yaml

    file = folder / "MLmodel"
    described = yaml.safe_load(file.read_text("utf-8"))
    flavor = described["flavors"]["python_function"]
    flavor["model_code_path"] = "predict.py"
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    file.write_text(yaml.safe_dump(described, sort_keys=False, allow_unicode=True), "utf-8")


def _seal(folder: Path) -> tuple[str, int]:
    """Write the manifest; give its SHA-256 and the bytes of all files."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    digests = {p.relative_to(folder).as_posix(): sha256(p) for p in files}
    (folder / MANIFEST).write_text(json.dumps({"sha256": digests}, indent=1), "utf-8")
    return sha256(folder / MANIFEST), sum(p.stat().st_size for p in files)


def verify(folder: Path, digest: str) -> None:
    """Check a downloaded model against its manifest, and the manifest against the run's record.

    Raises:
        IntegrityError: when a file was changed, added or lost, naming it.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise IntegrityError("The model's files have no manifest.json: the upload was cut short.")
    if sha256(manifest) != digest:
        raise IntegrityError("manifest.json is not the one that was written at training.")
    expected = json.loads(manifest.read_text("utf-8"))["sha256"]
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if not p.is_dir()}
    links = [name for name, p in files.items() if p.is_symlink()]
    # MLflow notes a registered version's name in a file of its own as it downloads.
    added = sorted(set(files) - set(expected) - {MANIFEST, "registered_model_meta"})
    lost = sorted(set(expected) - set(files))
    changed = sorted(n for n in set(expected) & set(files) if sha256(files[n]) != expected[n])
    for names, what in ((links, "is a link"), (added, "was added"), (lost, "is missing"),
                        (changed, "was changed")):  # fmt: skip
        if names:
            raise IntegrityError(
                f"{names[0]} {what} since the model was trained: it is not loaded."
            )


def inputs(folder: Path) -> list[InputColumn]:
    """The columns that a model's signature asks for, by the text of its MLmodel file alone.

    Raises:
        IntegrityError: when it has no signature of named columns.
    """
    import yaml

    described = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    told = json.loads((described.get("signature") or {}).get("inputs") or "[]")
    if not told or any("name" not in column or "type" not in column for column in told):
        raise IntegrityError("The model has no signature of named columns.")
    return [InputColumn(name=str(c["name"]), type=str(c["type"])) for c in told]


def example(folder: Path) -> pd.DataFrame | None:
    """The model's example rows, or None where it has none that are a table."""
    file = folder / "input_example.json"
    if not file.is_file():
        return None
    told = json.loads(file.read_text("utf-8"))
    if not isinstance(told, dict) or "data" not in told:
        return None
    return pd.DataFrame(told["data"], columns=told.get("columns"))


def requirements(folder: Path) -> tuple[list[str], int]:
    """What this environment lacks of the model's pinned requirements, and how many it pins."""
    unmet, pinned = [], _pinned(folder)
    for name, version in pinned:
        here = environment.version_of(name)
        if here is None or (version and here != version):
            unmet.append(f"{name} {version}, here {here or 'not installed'}")
    return unmet, len(pinned)


def pins(folder: Path, library: str) -> bool:
    """Whether the model's requirements name a library."""
    return any(name == library for name, _ in _pinned(folder))


def _pinned(folder: Path) -> list[tuple[str, str]]:
    """The distributions that the model's requirements name, with the version or ""."""
    file = folder / "requirements.txt"
    lines = file.read_text("utf-8").split("\n") if file.is_file() else []
    parts = (line.strip().partition("==") for line in lines if line.strip())
    return [(name, version) for name, _, version in parts]
