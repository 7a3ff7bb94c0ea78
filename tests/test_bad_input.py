"""Malformed tables: each is handled, or refused in one clear line with exit code 2."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from surefit import cli, models
from surefit.core import fit
from surefit.errors import DataError
from surefit.verbs import workspace
from surefit.verbs.candidate import candidate
from surefit.verbs.reporter import Reporter

N = 120


def good(n: int = N, **more: Any) -> pd.DataFrame:
    """Two features and a target that they tell something of."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    columns = {"x": x, "c": rng.choice(["a", "b", "d"], n), "y": (x + rng.normal(size=n) > 0) * 1}
    return pd.DataFrame({**columns, **more})


def texts(*lines: str) -> Callable[[Path], None]:
    """A CSV of these lines."""
    return lambda file: file.write_bytes("\n".join(lines).encode() + b"\n") and None


def csv(frame: pd.DataFrame) -> Callable[[Path], None]:
    return lambda file: frame.to_csv(file, index=False)


def put(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


def lines(frame: pd.DataFrame) -> list[str]:
    return frame.to_csv(index=False).splitlines()


def truncated_parquet(file: Path) -> None:
    good().to_parquet(file)
    file.write_bytes(file.read_bytes()[:-200])


def truncated_gzip(file: Path) -> None:
    file.write_bytes(gzip.compress("\n".join(lines(good())).encode())[:-30])


RAGGED_LONG = [*lines(good())[:5], "1,a,1,9", *lines(good())[6:]]
RAGGED_SHORT = [*lines(good())[:5], "1,a", *lines(good())[6:]]
LONG = "n" * 300

# name of the file, what is written there, what the one line must say
REFUSED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "empty file": ("t.csv", lambda f: f.touch(), "is empty"),
    "zero rows": ("t.csv", texts("x,c,y"), "no rows"),
    "zero rows parquet": ("t.parquet", lambda f: good().head(0).to_parquet(f), "no rows"),
    "one row": ("t.csv", csv(good(1)), "one value only"),
    "target twice": ("t.csv", texts("y,x,y", "a,1,b", "b,2,a"), 'Two columns are called "y"'),
    "two rows": (
        "t.csv",
        csv(pd.DataFrame({"x": [1, 2], "y": [0, 1]})),
        "cannot make|too few|one target",
    ),
    "one column": ("t.csv", csv(good()[["y"]]), "one column"),
    "no target column": ("t.csv", csv(good().drop(columns="y")), 'data.target = "y"'),
    "one class": ("t.csv", csv(good().assign(y=1)), "one value only"),
    "target all missing": ("t.csv", csv(good().assign(y=np.nan)), "missing in every row"),
    "target infinite": (
        "t.csv",
        csv(put(good().assign(y=np.arange(N) * 1.7), 3, "y", np.inf)),
        "finite",
    ),
    "target unique text": (
        "t.csv",
        csv(good(400).assign(y=[f"v{i}" for i in range(400)])),
        "400 classes",
    ),
    "ragged, long line": ("t.csv", texts(*RAGGED_LONG), "line 6 has 4 fields, the header 3"),
    "ragged, short line": ("t.csv", texts(*RAGGED_SHORT), "line 6 has 2 fields, the header 3"),
    "one name too few": ("t.csv", texts("x,c", *lines(good())[1:]), "more fields than the header"),
    "open quotation mark": (
        "t.csv",
        texts("x,c,y", '1,"a,1', "2,b,0"),
        "never closed|cannot be read",
    ),
    "NUL bytes": ("t.csv", texts(*lines(good())[:4], "1,\0,0"), r"NUL bytes \(first in line 5\)"),
    "not text": ("t.csv", lambda f: f.write_bytes(os.urandom(64) + b"\0" * 64), "NUL bytes"),
    "empty folder": ("t.csv", lambda f: f.mkdir(), "no files"),
    "truncated parquet": ("t.parquet", truncated_parquet, "cannot be read"),
    "text as parquet": ("t.parquet", texts("x,y", "1,2"), "cannot be read"),
    "parquet as text": ("t.csv", lambda f: good().to_parquet(f), "NUL bytes"),
    "truncated gzip": ("t.csv.gz", truncated_gzip, "cannot be read"),
    "broken feather": ("t.feather", texts("x"), "cannot be read"),
    "broken json": ("t.jsonl", texts('{"x": 1, "y": 0}', '{"x": '), "line 2 is no JSON"),
    "json of lists": ("t.jsonl", texts("[1, 2]"), "line 1 is no JSON object"),
    "unknown ending": ("t.xyz", csv(good()), r"ending in \.xyz"),
    "a workbook": ("t.xlsx", lambda f: f.write_bytes(b"PK"), "is a workbook"),
    "lists in parquet": (
        "t.parquet",
        lambda f: good(l=[[1, 2]] * N).to_parquet(f),
        '"l" holds Python objects',
    ),
    "nested json": (
        "t.jsonl",
        texts(*[json.dumps({"x": {"a": 1}, "y": i % 2}) for i in range(9)]),
        '"x" holds Python objects',
    ),
    "all constant": ("t.csv", csv(good().assign(x=1, c="a")), "No column is left"),
    "binary of other names": ("t.csv", texts("x;c;y", *lines(good())[1:3]), "data.target|fields"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line ends with code 2, one line that says what is wrong, and no traceback."""
    file, write, message = REFUSED[name]
    write(tmp_path / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["surefit", "train", file, "--target", "y", "-q"])
    assert cli._run() == 2
    said = capsys.readouterr().err
    first = said.removeprefix("Error: ").splitlines()[0] if name != "no target column" else said
    assert re.search(message, first), said
    assert "Traceback" not in said
    rest = said.splitlines()[1:]
    assert all(line.startswith(("  Fix: ", "  - ")) for line in rest), said
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    """A file that may not be read is refused in one line."""
    file = tmp_path / "t.csv"
    file.touch(mode=0)
    with pytest.raises(DataError, match=r"permission denied|is empty"):
        handled(tmp_path, "t.csv")


def odd_names(*names: str) -> pd.DataFrame:
    frame = good()
    for i, name in enumerate(names):
        frame[name] = np.arange(N) % (i + 3) + frame["x"]
    return frame


def objects(values: list[Any]) -> pd.DataFrame:
    return good(o=pd.Series((values * N)[:N], dtype=object))


HANDLED: dict[str, pd.DataFrame] = {
    "target with missing values": put(good(), 4, "y", None),
    "infinite values": put(good(), 4, "x", np.inf),
    "names LightGBM refuses": odd_names("a[1]", "{b}", 'c"', "d:e", "f,g", "h]"),
    "names scikit-learn refuses": odd_names("a__b", "transformers", "n_jobs", "remainder"),
    "text under such a name": good(a__b=[f"some words {i}" for i in range(N)]),
    "300 characters": odd_names(LONG),
    "Unicode names": odd_names("größe", "名前", "😀", "a\u0301", "\u202eabc"),
    "names of our own columns": odd_names("row_id", "fold", "target", "prediction", "row_key"),
    "numbers as names": good().rename(columns={"x": 0}),
    "booleans as text": good(b=np.where(np.arange(N) % 3, "yes", "no")),
    "columns held by Arrow": good(
        when=pd.date_range("2024-01-01", periods=N),
        k=pd.array([1, 2, None] * (N // 3), dtype="Int64"),
    ).convert_dtypes(dtype_backend="pyarrow"),
    "times of day": good(t=[datetime.time(i % 24, i % 60) for i in range(N)]),
    "whole numbers beyond 64 bits": good(k=[10**30 * i for i in range(N)]),
    "booleans with gaps": objects([True, False, None]),
    "mixed time zones": good(t=[f"2024-01-0{i % 9 + 1}T00:00:00+0{i % 3}:00" for i in range(N)]),
    "time zones as objects": objects(
        [pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-05-01", tz="Asia/Tokyo")]
    ),
    "dates beyond nanoseconds": good(
        t=["9999-12-31" if i % 9 == 0 else f"2024-01-{i % 28 + 1:02d}" for i in range(N)]
    ),
    "negative categories": good(k=np.arange(N) % 7 - 3),
    "huge categories": good(k=pd.Series([f"level {i}" for i in range(N)]).astype("category")),
    "category of numbers": good(k=pd.Series(np.arange(N) % 5).astype("category")),
    "nullable integers": good(k=pd.Series([1, None, 3] * (N // 3), dtype="Int64")),
    "nullable booleans": good(k=pd.Series([True, None, False] * (N // 3), dtype="boolean")),
    "integers beyond int64": objects([2**70, 2**71]),
    "decimals": objects([decimal.Decimal("1.5"), decimal.Decimal("2")]),
    "dates as objects": objects([datetime.date(2024, 1, i) for i in range(1, 28)]),
    "durations": good(d=pd.to_timedelta(np.arange(N), "h")),
    "periods": good(p=pd.period_range("2000-01", periods=N, freq="M")),
    "intervals": good(i=pd.cut(np.arange(N), 5)),
    "sparse": good(s=pd.arrays.SparseArray(np.arange(N) % 2 * 1.0)),
    "numbers and texts in one column": objects([1, "a", 2.5, None]),
    "empty column": good(e=np.nan),
    "whitespace texts": good(w=["  "] * N),
    "lone surrogates": objects(["\ud800x", "b"]),
    "rows of an index": good().set_index(pd.Index(np.arange(N)[::-1])),
    "multi-index columns": good().set_axis(
        pd.MultiIndex.from_tuples([("a", "x"), ("b", "c"), ("y", "")]), axis=1
    ),
    "wide": pd.concat(
        [
            good(),
            pd.DataFrame(
                np.random.default_rng(0).normal(size=(N, 10_000)),
                columns=[f"w{i}" for i in range(10_000)],
            ),
        ],
        axis=1,
    ),
}


def handled(root: Path, data: Any, target: str = "y") -> workspace.Workspace:
    project = workspace.project(
        data=data, target=target, config=None,
        overrides={"model.params.num_iterations": 3, "split.folds": 2},
    )  # fmt: skip
    work = workspace.load(project, frame=workspace.frame_of(data), reporter=Reporter(quiet=True))
    params = models.named("lightgbm").resolve(work.config.model.params, work.data.task)
    result = fit.fit_fold(candidate(work).problem, params, 0)
    assert np.isfinite(result.pred).all()
    return work


@pytest.mark.parametrize("name", HANDLED)
def test_handled(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is looked at, divided and fitted."""
    monkeypatch.chdir(tmp_path)
    handled(tmp_path, HANDLED[name], "y/" if name.startswith("multi") else "y")


@pytest.mark.parametrize(
    ("name", "frame", "message"),
    [
        ("doubled names", good().set_axis(["a", "a", "y"], axis=1), "doubled: a"),
        ("empty name", good().rename(columns={"x": " "}), "Column 1 has an empty name"),
        ("complex", good(z=np.arange(N) * 1j), "complex numbers"),
        ("objects", objects([object()]), "Python objects"),
        ("no columns", pd.DataFrame(), "no columns"),
    ],
)
def test_frames_refused(name: str, frame: pd.DataFrame, message: str) -> None:
    """What only a frame in memory can be is refused in one line too."""
    with pytest.raises(DataError, match=message) as caught:
        handled(Path(), frame)
    assert len(caught.value.what.splitlines()) == 1


def test_what_pandas_renames_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubled and empty names of a CSV get names, and the run says which."""
    monkeypatch.chdir(tmp_path)
    head, *rest = lines(good().assign(z=1.0, w=range(N)))
    (tmp_path / "t.csv").write_text("\n".join([head.replace("z", "x").replace(",w", ","), *rest]))
    texts = [n.text for n in handled(tmp_path, "t.csv").data.notes]
    assert any("x.1" in t for t in texts)
    assert any("Unnamed: 4" in t for t in texts)


def test_trailing_separators_are_no_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that end in a separator, under a header that does not, keep their columns, whatever
    stands in the first."""
    monkeypatch.chdir(tmp_path)
    for table in (good(), good().assign(n=range(1, N + 1))[["n", *good().columns]]):
        head, *rest = lines(table)
        (tmp_path / "t.csv").write_text("\n".join([head, *(line + "," for line in rest)]))
        raw = handled(tmp_path, "t.csv").data.raw
        for name in raw.columns:
            assert raw[name].astype(str).tolist() == table[name].astype(str).tolist()


def test_a_test_file_of_other_types_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers here and texts there are no column; nothing is turned into an id and left out."""
    monkeypatch.chdir(tmp_path)
    good().to_csv("train.csv", index=False)
    good(40).assign(x=[f"{i}kg" for i in range(40)]).to_csv("test.csv", index=False)
    project = workspace.project(
        data="train.csv", target="y", config=None, overrides={"split.test_path": "test.csv"}
    )
    with pytest.raises(DataError, match='"x" holds texts, numbers in the training rows'):
        workspace.load(project, frame=None, reporter=Reporter(quiet=True))
