"""A file means the same in training and in predicting, which read it in different ways."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from surefit.core import portable
from surefit.core.conform import conform
from surefit.core.data import prepare
from surefit.edges import batches, sources
from surefit.errors import DataError
from surefit.results import InputColumn
from surefit.sections import DataConfig

N = 60


def lines(header: str, row, end: str = "") -> str:
    """A table with the target `y`, and what `row` writes for each number."""
    rows = (f"{k * 7 % 2 + (k % 5 == 0)}{header[1]}{row(k)}{end}" for k in range(N))
    return "\n".join([header, *rows]) + "\n"


FILES = {
    "lines that end in a separator": lines("y,id,a,b", lambda k: f"{k + 1},{k / 4},{k % 3}", ","),
    "true and false with gaps": lines("y,t", lambda k: ("TRUE", "FALSE", "")[k % 3]),
    "true and false in words of their own": lines("y,t", lambda k: ("yes", "no", "")[k % 3]),
    "true and false": lines("y,t", lambda k: ("true", "false")[k % 2]),
    "a decimal comma and thousands": lines(
        "y;a;b", lambda k: f"{k},5;{k % 9 + 1}.{k:03d}{',50 €' if k % 4 == 0 else ''}"
    ),
    "tokens beside a decimal comma": lines("y;a;b", lambda k: f"{k},25;{'?' if k % 9 else '1,5'}"),
    "numbers that are dates": lines("y,d", lambda k: f"202401{k % 28 + 1:02d}"),
    "days first": lines("y,d", lambda k: f"{k % 28 + 1:02d}.{k % 12 + 1:02d}.2024"),
    "whole numbers and gaps": lines("y,a,b", lambda k: f"{k if k % 6 else ''},{k * 3}"),
    "quoted separators": lines("y,t,a", lambda k: f'"x, {k % 4}",{k}'),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_alike(name, tmp_path):
    """The model sees the same values in the rows of a file that it was trained on, whether they
    are asked for at once or a few at a time."""
    file = tmp_path / "rows.csv"
    file.write_text(FILES[name], "utf-8")
    types = {"d": "date"} if name == "numbers that are dates" else {}
    config = DataConfig(path=str(file), target="y", task="classification", types=types)
    loaded = sources.read(config, tmp_path)
    told = config.model_copy(update={"decimal": loaded.decimal})
    data = prepare(loaded.frame, told)
    columns = [c.to_dict() for c in data.columns]
    wanted = [InputColumn(name=c["name"], type=c["dtype"]) for c in columns]
    for n_rows in (N, 7):
        found = [
            portable.coerce(conform(part, wanted)[0], columns)
            for part, _ in batches.read(
                batches.look(str(file), config), [w.name for w in wanted], wanted, n_rows
            )
        ]
        again = pd.concat(found, ignore_index=True)
        for column in again.columns:
            mine, theirs = again[column], data.frame[column]
            assert mine.isna().tolist() == theirs.isna().tolist(), column
            assert mine.dropna().tolist() == theirs.dropna().tolist(), column


def test_what_the_two_readings_mean():
    """Amounts are amounts, a gap is a gap, and each value is spelled by itself."""
    texts = pd.Series(["1.234,50", "2.500", "999,00", "1e3", None])
    amounts = portable.as_number(texts, decimal_comma=True)
    assert amounts.dropna().tolist() == [1234.5, 2500.0, 999.0, 1000.0]
    assert portable.as_text(pd.Series([1.0, 1.5, np.nan, 1e20])).tolist()[:2] == ["1", "1.5"]
    assert portable.as_text(pd.Series([1.0])).tolist() == ["1"]
    times = [datetime.time(1, 0, 2), None]
    given = pd.DataFrame({
        "took": pd.to_timedelta(["5s", "2min"]), "at": times, "size": [1.0, 2.5],
    })  # fmt: skip
    wanted = [InputColumn(name=n, type=t)
              for n, t in (("took", "double"), ("at", "double"), ("size", "string"))]  # fmt: skip
    found, _ = conform(given, wanted)
    assert found["took"].tolist() == [5.0, 120.0]
    assert found["at"][0] == 3602.0
    assert found["size"].tolist() == ["1", "2.5"]
    with pytest.raises(DataError, match=r"dates are no numbers|e\.g\."):
        conform(pd.DataFrame({"a": pd.to_datetime(["2024-01-01"])}),
                [InputColumn(name="a", type="double")])  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,c\n1,2,7\n3,4.5,8\n", 'b is "4.5" in row 2, the model wants whole numbers'),
        ("a,b,c\n1,2,7\nabc,4,8\n", 'a is "abc" in row 2, the model wants numbers'),
        ("a,b,c\n1,2,7\n2,3\n", "line 3 has 2 fields, the header 3"),
        ("a,b,c\n1,2,7\n1,2,3,4\n", "line 3 has 4 fields, the header 3"),
        ("a,b,c\n1,2,7,9\n1,2,3,4\n", "more fields than the header has names"),
        ("a,b,c\n1,2,7,\n1,2,3,4\n", "more fields than the header has names"),
    ],
)
def test_lines_that_do_not_fit_are_refused_by_name(text, said, tmp_path):
    """In predicting as in training no field is left out or filled up, and a value that is no
    number is named with its column and row."""
    file = tmp_path / "rows.csv"
    file.write_text(text, "utf-8")
    config = DataConfig(path=str(file), target="c")
    wanted = [InputColumn(name="a", type="double"), InputColumn(name="b", type="long")]
    with pytest.raises(DataError, match=said):
        list(batches.read(batches.look(str(file), config), ["a", "b"], wanted, 5))
    if "model wants" not in said:
        with pytest.raises(DataError, match=said):
            sources.read(config, tmp_path)


def test_a_chosen_kind_says_what_it_cannot_read(tmp_path):
    """Texts that are no numbers are counted; numbers that are no dates are refused."""
    frame = pd.DataFrame({"a": ["1,5", "2,7", "3", "k.A."] * 15, "y": [0, 1] * 30})
    data = prepare(frame, DataConfig(path="x", target="y", types={"a": "number"}))
    assert data.frame["a"].head(3).tolist() == [1.5, 2.7, 3.0]
    assert any("15 texts, e.g. 'k.A.', cannot be read as numbers" in n.text for n in data.notes)
    days = frame.assign(a=np.arange(60))
    with pytest.raises(DataError, match=r"cannot be read as such, e\.g\. 0"):
        prepare(days, DataConfig(path="x", target="y", types={"a": "date"}))


def test_parts_with_tokens_keep_the_numbers_of_those_without(tmp_path):
    """Of two parts with a decimal comma one holds "NA": no value of the other is lost."""
    for k, last in enumerate(("2,5", "NA")):
        (tmp_path / f"part{k}.csv").write_text(f"y;a\n{k};1,5\n1;{last}\n", "utf-8")
    found = sources.read(DataConfig(path="part*.csv", target="y"), tmp_path).frame
    assert found["a"].tolist()[:3] == [1.5, 2.5, 1.5]
