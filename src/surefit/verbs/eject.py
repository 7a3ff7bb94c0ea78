"""`surefit eject`: a run → a folder with a plain script that gives the same predictions."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefit.config import Config
from surefit.core import fit, preprocess, script, script_own
from surefit.edges import csvtext, loop, own, sources
from surefit.edges.runs import RunRecord
from surefit.errors import InputError
from surefit.results import Ejected
from surefit.verbs import again, candidate
from surefit.verbs.again import Again
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides


def eject(
    run: str = "last",
    directory: str | Path | None = None,
    *,
    config: str | Path | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Ejected:
    """Write train.py and parts.csv: plain scikit-learn, the family's library and MLflow.

    Of a model of your own your files are copied beside it.

    The script reads the same data, fits the same model on the same rows, and writes the same
    predictions of the test rows; it needs no surefit. Files that are there are not overwritten.

    Args:
        run: a training run's or a search's id, its beginning, its name, or "last"; a search stands
            for its winner.
        directory: where to; by default ejected/ID in the project's folder.
        config, set: the project whose store is meant, as in `train`; `data.path` and
            `split.test_path` where the run's data are now. Another setting is refused.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the run is no training run, its data or your code have changed, or a file
            is in the way.
    """
    found = again.winner(
        again.find(run, config=config, overrides=set), reporter=Reporter(quiet=quiet)
    )
    root = found.work.project.root
    folder = Path(directory) if directory else root / "ejected" / found.record.run_id[:8]
    if found.record.tags.get("surefit.data") != found.work.data.digest:
        raise InputError(
            "The data have changed since this run: its rows cannot be named any more.",
            "put the file of that time back (--set data.path=FILE), or train again and eject that",
        )
    if found.record.tags.get("surefit.split") != found.work.split.digest:
        raise InputError("The rows are divided in another way than they were for this run.",
                         "surefit train its configuration again, and eject that run")  # fmt: skip
    texts = _own_texts(found) if found.chosen.code else {"train.py": script.script(_recipe(found))}
    parts = _parts(found)
    folder.mkdir(parents=True, exist_ok=True)
    taken = [n for n in (*texts, "parts.csv") if (folder / n).exists()]
    if taken:
        raise InputError(f"{folder / taken[0]} is there already.", "name another folder")
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    parts.to_csv(folder / "parts.csv", index=False)
    return Ejected(
        run_id=found.record.run_id,
        folder=str(folder),
        next=f"python {shlex.quote(str(folder / 'train.py'))}",
    )


def _recipe(found: Again) -> script.Recipe:
    problem = found.chosen.problem
    return script.Recipe(
        **_subject(found), family=problem.family, rounds=_rounds(found.record, problem),
        monotone=_monotone(found),
    )  # fmt: skip


def _subject(found: Again) -> dict[str, Any]:
    """The fields of `script.Subject`."""
    work, data = found.work, found.work.data
    file = (work.project.root / Path(work.config.data.path).expanduser()).resolve()
    return {
        "run_id": found.record.run_id, "name": found.record.name, "task": data.task,
        "read": _read(work.config, file), "file": str(file), "sha256": sources.sha256(file),
        "target": data.target,
        "classes": data.classes, "columns": [c.to_dict() for c in data.columns],
        "params": found.chosen.params, "seed": found.chosen.problem.seed,
        "weight": work.config.data.weight,
    }  # fmt: skip


def _own_texts(found: Again) -> dict[str, str]:
    """The script of a run of the user's own function, their files, and what those lean on."""
    code = found.chosen.code
    assert code is not None
    if code.digest != found.record.tags.get("surefit.code"):
        lacking = candidate.masked_files(found.record.tags)
        raise InputError(
            "Your model's code has changed since this run.",
            f"put the files of the run's code/ back{lacking and f', {lacking}'}, or train again",
        )
    model = found.work.config.model
    recipe = script_own.OwnRecipe(
        **_subject(found), kind="build" if model.build else "train", place=code.place,
        files=code.files, labels=model.labels, answers=own.ANSWERS, context=loop.PLAIN,
    )  # fmt: skip
    texts = {"train.py": script_own.script(recipe)}
    texts |= {f"code/{path}": text for path, text in code.files.items()}
    shim = script_own.plain(code.files)
    return texts | ({"code/surefit.py": shim} if shim else {})


def _monotone(found: Again) -> dict[int, int]:
    """Column of the matrix → direction, for the features that have one."""
    places = preprocess.number_columns(found.work.data.columns)
    chosen = found.chosen.params.get("monotone") or {}
    return {places[name]: int(way) for name, way in chosen.items() if way}


def _read(config: Config, file: Path) -> str:
    """The call of pandas that reads the file, which it knows as FILE, as training did."""
    path = config.data.path
    if config.split.test_path is not None:
        raise InputError(
            "eject cannot write a run with a test file of its own: rows are named in one table.",
            "the run's model and its predict.py load in plain MLflow without surefit",
        )
    if path.startswith("sklearn:"):
        raise InputError(
            "eject needs a file; scikit-learn's own sets are prepared by surefit.",
            "save the table as a file, and train on that",
        )
    ending = path.removesuffix(".gz").rpartition(".")[2].lower() if file.is_file() else ""
    if ending in ("csv", "tsv", "txt"):
        return _read_csv(config, file)
    if ending == "jsonl":
        return _read_json_lines(file)
    calls = {"parquet": "pyarrow.parquet.read_table(FILE).to_pandas(ignore_metadata=True)",
             "feather": "pd.read_feather(FILE)"}  # fmt: skip
    if ending not in calls:
        raise InputError(
            f"eject cannot read {path} in plain pandas.",
            "save the table as one CSV or Parquet file, and train on that",
        )
    return calls[ending]


def _read_csv(config: Config, file: Path) -> str:
    """pandas' call that reads a text file as training did: its dialect, and what is missing."""
    found = sources.dialect(file, config.data)
    usual = {"sep": ",", "encoding": "utf-8", "decimal": ".", "skiprows": 0}
    given = {"sep": found.separator, "encoding": found.encoding, "decimal": found.decimal,
             "skiprows": found.skip}  # fmt: skip
    missing = config.data.missing
    told: dict[str, object] = {k: v for k, v in given.items() if v != usual[k]}
    told |= {
        "keep_default_na": False,
        "na_values": ["", *(csvtext.TOKENS if missing is None else missing)],
    }
    arguments = "".join(f",\n        {k}={v!r}" for k, v in told.items())
    return f"pd.read_csv(\n        FILE, low_memory=False{arguments},\n    )"


def _read_json_lines(file: Path) -> str:
    """Not pandas' call, which makes numbers of digits and dates of some columns."""
    content = "Path(FILE).read_bytes()"
    content = f"gzip.decompress({content})" if file.suffix == ".gz" else content
    row = f"json.loads(line) for line in {content}.splitlines() if line.strip()"
    return f"pd.DataFrame.from_records([\n        {row}\n    ])"


def _rounds(record: RunRecord, problem: fit.Problem) -> int | None:
    n = problem.split.n_folds
    keys = [f"fold_{k}_rounds" for k in range(n)]
    rounds = [record.metrics[k] for k in keys if k in record.metrics]
    if not rounds:
        return None
    if n == 1:
        return int(rounds[0])
    return max(1, round(fit.REFIT_ROUNDS * float(np.mean(rounds))))


def _parts(found: Again) -> pd.DataFrame:
    """Which rows the final model was fitted on, and which are sealed."""
    split, family = found.work.split, found.chosen.problem.model
    part = np.full(found.work.data.n_rows, "", dtype=object)
    rows = split.train_rows
    if split.n_folds == 1:
        rows, _ = split.fold(0)
        given_up = family.iterative and not family.carves
        rows = rows[~split.stop_rows(rows)] if given_up else rows
    part[rows], part[split.test_rows] = "train", "test"
    if family.carves:
        part[rows[split.stop_rows(rows)]] = "valid"
    return pd.DataFrame({"part": part})
