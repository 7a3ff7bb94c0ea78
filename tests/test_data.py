"""From a table to features: what is inferred is noted with the line that overrides it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefit.core import cost
from surefit.core.data import prepare
from surefit.core.portable import coerce
from surefit.edges import sources
from surefit.errors import DataError
from surefit.sections import DataConfig
from tables import mixed


def look(frame, target="y", **keys):
    """The dataset of a frame."""
    return prepare(frame, DataConfig(path="x.csv", target=target, **keys))


def kinds(data):
    """The kind of each feature."""
    return {c.name: c.kind for c in data.columns}


def notes(data):
    """All notes with their overrides, as one text."""
    return "\n".join(f"{n.text} [{n.override}]" for n in data.notes)


def table(n=60, **columns):
    """A table with one honest number, the given columns, and a target."""
    rng = np.random.default_rng(3)
    return pd.DataFrame({"x": rng.normal(size=n), **columns, "y": np.tile(["no", "yes"], n // 2)})


def test_each_column_gets_the_kind_of_its_values():
    """Numbers, categories, long texts, dates and booleans are told apart."""
    assert kinds(look(mixed())) == {
        "size": "number", "age": "number", "gap": "number", "city": "category",
        "tier": "category", "note": "text", "since": "date", "member": "number",
    }  # fmt: skip


def test_many_levels_that_come_back_often_are_categories():
    """Sixty countries on many rows are levels; on few rows, or of many kinds, they are text."""
    for levels, rows, kind in ((60, 6000, "category"), (60, 600, "text"), (240, 24000, "text")):
        places = [f"place {i % levels}" for i in range(rows)]
        assert kinds(look(table(rows, place=places)))["place"] == kind


def test_numbers_stored_as_text_are_read_as_numbers_and_the_note_says_how_to_keep_them():
    """Blanks count as missing, the note has the override, and the override holds."""
    frame = table(code=[str(i % 7) if i % 10 else " " for i in range(60)])
    data = look(frame)
    assert kinds(data)["code"] == "number"
    assert "code holds numbers stored as text (6 blank): read as number" in notes(data)
    assert 'data.types = { "code" = "category" }' in notes(data)
    assert kinds(look(frame, types={"code": "category"}))["code"] == "category"


def test_dates_stored_as_text_are_read_as_dates():
    """ISO and slashed dates are dates; one that is none makes the column a category or text."""
    days = pd.date_range("2021-03-01", periods=60).strftime("%Y-%m-%d")
    assert kinds(look(table(day=days)))["day"] == "date"
    assert kinds(look(table(day=["2021-99-99", *days[:58], "2021-99-99"])))["day"] == "text"
    assert kinds(look(table(day=pd.to_datetime(days).strftime("%m/%d/%Y"))))["day"] == "date"


def test_columns_that_name_rows_are_no_features():
    """Row counters, keys and codes with another value in each row are left out with a note."""
    frame = table(number=range(1, 61), customer_id=np.arange(60) * 7 + 3,
                  code=[f"k{i:03}" for i in range(60)])  # fmt: skip
    data = look(frame)
    assert set(kinds(data)) == {"x"}
    assert "number counts the rows: not a feature" in notes(data)
    assert "customer_id differs in each row" in notes(data)
    assert 'data.types = { "code" = "category" }' in notes(data)
    assert list(data.row_id) == list(range(1, 61))
    assert "customer_id" in kinds(look(frame, types={"customer_id": "number"}))


@pytest.mark.parametrize(
    ("name", "is_id"),
    [("id", True), ("ID", True), ("user_id", True), ("userId", True), ("userID", True),
     ("userid", True), ("CUSTOMERID", True), ("row_id", True), ("bid", False), ("paid", False),
     ("amount_paid", False), ("PAID", False), ("fluid", False), ("valid", False)],
)  # fmt: skip
def test_a_word_that_ends_in_id_is_no_id(name, is_id):
    """Whole numbers that all differ are dropped by a name that says id, not by paid or bid."""
    data = look(table(**{name: np.arange(60) * 7 + 3}))
    assert (name in data.left_out) is is_id
    assert (name in kinds(data)) is not is_id


def test_constant_and_empty_columns_are_left_out_and_said():
    """A column with one value, or none, cannot inform."""
    data = look(table(one=1, none=np.nan))
    assert set(kinds(data)) == {"x"}
    assert "one has one value" in notes(data)
    assert "none is empty" in notes(data)


def test_rows_without_a_target_are_left_out_and_counted():
    """They are neither classes nor zeros."""
    frame = table()
    frame.loc[:9, "y"] = None
    data = look(frame)
    assert data.n_rows == 50
    assert "10 rows have no target" in notes(data)


@pytest.mark.parametrize(
    ("values", "task"),
    [(["a", "b"] * 30, "binary"), ([0, 1] * 30, "binary"), ([True, False] * 30, "binary"),
     ([1.5, 2.5] * 30, "binary"), (["a", "b", "c"] * 20, "multiclass"),
     ([0, 1, 2] * 60, "multiclass"), (list(range(60)), "regression"),
     ([i / 7 for i in range(60)], "regression"), ([0, 1.5, 2] * 20, "regression")],
)  # fmt: skip
def test_the_task_follows_from_the_target(values, task):
    """Texts and few whole numbers are classes; other numbers are values; the note says which."""
    data = look(table(len(values)).assign(y=values))
    assert data.task == task
    if isinstance(values[0], int | float) and not isinstance(values[0], bool):
        assert "data.task" in notes(data)


def test_the_task_can_be_chosen():
    """data.task overrides what was inferred, both ways."""
    frame = table().assign(y=[0, 1, 2] * 20)
    assert look(frame, task="regression").task == "regression"
    assert look(table().assign(y=range(60)), task="classification").task == "multiclass"


def test_labels_stay_as_the_user_wrote_them():
    """Classes are the user's own strings, integers or booleans; the positive one stands last."""
    assert look(table()).classes == ("no", "yes")
    assert look(table(), positive="no").classes == ("yes", "no")
    assert look(table().assign(y=[3, 7] * 30)).classes == (3, 7)
    assert look(table().assign(y=[True, False] * 30)).classes == (False, True)


def test_a_row_without_a_target_leaves_the_classes_their_names():
    """Whole numbers that a gap has made floats of are the classes that they are without it."""
    whole = table().assign(y=[3, 7] * 30)
    gap = look(whole.assign(y=whole["y"].where(whole.index != 4)))
    assert gap.class_names == look(whole).class_names == ("3", "7")
    assert list(gap.y) == list(np.delete(look(whole).y, 4))
    assert cost.matrix({"3": {"7": 2.0}}, gap.classes)[0, 1] == 2
    assert look(table().assign(y=[0.5, 1.0] * 30), task="classification").classes == (0.5, 1.0)


@pytest.mark.parametrize(
    ("frame", "keys", "said"),
    [
        (pd.DataFrame({"x": [1.0], "y": ["a"]})[:0], {}, "no rows"),
        (table().assign(y="a"), {}, "one value only"),
        (table().assign(y=None), {}, "missing in every row"),
        (table()[["y"]], {}, "one column"),
        (table()[["y"]].assign(c=1), {}, "No column is left"),
        (table().assign(y=[f"c{i % 30}" for i in range(60)] ), {"positive": "c1"}, "one of two"),
        (table().assign(y=[1.0, np.inf] * 30), {"task": "regression"}, "finite number"),
        (table().assign(y=["1", "x"] * 30), {"task": "regression"}, "finite number"),
        (table(), {"id": "y"}, "must name each row once"),
        (table(), {"time": "y"}, "must be a date or a number"),
        (table(), {"id": "xx", "drop": ["zz"], "group": "X"}, "no such column"),
        (pd.concat([table(), table()[["x"]]], axis=1), {}, "unique"),
        (table(300).assign(y=[f"c{i}" for i in range(300)]), {}, "at most 200"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_says_why(frame, keys, said):
    """Each is one DataError in words."""
    with pytest.raises(DataError, match=said):
        look(frame, **keys)


def test_a_target_of_dates_is_refused_in_words():
    """Dates are neither classes nor values: nothing is trained on them by accident."""
    days = list(pd.date_range("2021-03-01", periods=2)) * 30
    with pytest.raises(DataError, match="date"):
        look(table().assign(y=days))


def test_all_misnamed_columns_are_told_at_once_with_the_nearest():
    """The message has a line for each."""
    with pytest.raises(DataError) as caught:
        look(table(city="a"), target="Y", id="citi", drop=["x2"])
    assert 'data.target = "Y": ' in str(caught.value)
    assert 'data.id = "citi": did you mean "city"?' in str(caught.value)
    assert 'data.drop = "x2"' in str(caught.value)


def test_the_digest_sees_every_cell_name_and_type():
    """Any change of a value, a name, a type or the order is other data."""
    frame = table(k=range(60))
    changed = [frame.assign(x=frame["x"].where(frame.index != 59, 0.5)),
               frame.rename(columns={"k": "kk"}), frame.astype({"k": "str"}),
               frame[::-1]]  # fmt: skip
    digests = {look(f).digest for f in [frame, *changed]}
    assert len(digests) == 5
    assert look(frame.copy()).digest == look(frame).digest


messy = st.lists(
    st.one_of(st.none(), st.floats(), st.integers(-(2**70), 2**70), st.booleans(), st.text(),
              st.just("2021-01-01"), st.just("3.5"), st.dates(), st.binary(max_size=3)),
    min_size=24, max_size=24,
)  # fmt: skip


@given(messy)
@settings(max_examples=80, deadline=None)
def test_any_column_of_values_becomes_a_feature_or_a_sentence(values):
    """Whatever stands in a column, it is understood or refused as a DataError, never a crash."""
    frame = table(24, odd=pd.Series(values, dtype=object))
    try:
        data = look(frame)
    except DataError:
        return
    assert data.n_rows == 24
    seen = coerce(frame, [c.to_dict() for c in data.columns])
    pd.testing.assert_frame_equal(seen, data.frame)


@given(st.lists(st.one_of(st.none(), st.integers(0, 3), st.text(max_size=3), st.booleans(),
                          st.floats(width=16)), min_size=24, max_size=24))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_any_target_becomes_a_task_or_a_sentence(values):
    """Whatever stands in the target, codes and classes agree, or a DataError says why."""
    frame = table(24).assign(y=pd.Series(values, dtype=object))
    try:
        data = look(frame)
    except DataError:
        return
    if data.classes:
        assert set(data.y) == set(range(len(data.classes)))
        assert len(set(data.class_names)) == len(data.classes)
    else:
        assert np.isfinite(data.y).all()


# --- reading files ---


def read(folder, name, content):
    """The table of a file with this content."""
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return sources.load(name, folder)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_of_a_csv_is_found(tmp_path, separator):
    """Comma, semicolon, tab and bar, with and without a byte order mark."""
    text = "\n".join(separator.join(row) for row in [("a", "b"), ("1", "x y"), ("2", "z")])
    assert list(read(tmp_path, "a.csv", text).columns) == ["a", "b"]
    assert list(read(tmp_path, "b.csv", b"\xef\xbb\xbf" + text.encode()).columns) == ["a", "b"]


def test_a_csv_in_latin_1_is_read_wherever_the_first_accent_stands(tmp_path):
    """An accent in the first line or in the last of many makes no difference."""
    rows = ["n,city", *(f"{i},Bern" for i in range(40_000)), "7,Zürich"]
    frame = read(tmp_path, "late.csv", "\n".join(rows).encode("latin-1"))
    assert frame["city"].iloc[-1] == "Zürich"
    early = [rows[0], rows[-1], *rows[1:-1]]
    frame = read(tmp_path, "early.csv", "\n".join(early).encode("latin-1"))
    assert frame["city"].iloc[0] == "Zürich"


def test_every_format_gives_the_same_table(tmp_path):
    """CSV, TSV, gzipped CSV, Parquet, Feather and JSON lines."""
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_feather(tmp_path / "t.feather")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for name in ("t.csv", "t.csv.gz", "t.tsv", "t.parquet", "t.feather", "t.jsonl"):
        found = sources.load(name, tmp_path)
        assert found.astype({"b": object}).to_dict() == frame.to_dict(), name


def test_the_bundled_sets_are_complete():
    """Each set named by sklearn:NAME has a target and features."""
    for name in sources.BUNDLED:
        frame = sources.load(f"sklearn:{name}", sources.Path())
        assert "target" in frame
        assert len(frame) > 100


def test_amounts_and_percentages_are_numbers():
    """Currencies, thousands, percent and brackets are read, in training and in the saved model."""
    given = {
        "price": ["$1,234.50", "$12", "($3.25)", "€ 7"],
        "share": ["12%", "-3.5 %", "0%", ""],
        "euro": ["1.234,50 €", "12,5", "-3", "1.000.000"],
    }
    frame = table(60, **{name: (values * 15) for name, values in given.items()})
    data = look(frame)
    assert [kinds(data)[name] for name in given] == ["number"] * 3
    assert data.frame["price"].tolist()[:4] == [1234.5, 12.0, -3.25, 7.0]
    assert data.frame["share"].tolist()[:3] == [12.0, -3.5, 0.0]
    assert data.frame["euro"].tolist()[:4] == [1234.5, 12.5, -3.0, 1_000_000.0]
    assert np.isnan(data.frame["share"][3])
    assert {c.name: c.style for c in data.columns if c.style} == {"euro": "decimal comma"}
    again = coerce(frame.head(4), [c.to_dict() for c in data.columns])
    pd.testing.assert_frame_equal(again, data.frame.head(4))
    odd = look(table(60, code=["1,23", "12-3", "4 5"] * 20))
    assert kinds(odd)["code"] == "category"


@pytest.mark.parametrize(
    ("texts", "first", "how"),
    [
        (["25/12/2024", "03/04/2024"], "2024-04-03", "the day first"),
        (["12/25/2024", "03/04/2024"], "2024-03-04", "the month first"),
        (["01/02/2024", "03/04/2024"], "2024-03-04", "the month first (none tells which)"),
        (["01.02.2024", "03.04.2024"], "2024-04-03", "the day first (none tells which)"),
        (["2024-12-25", "2024-03-04"], "2024-03-04", "read as date"),
    ],
)
def test_which_comes_first_day_or_month_is_one_answer_for_a_column(texts, first, how):
    """By the dates that can be read in one way only; a guess is told, and can be overridden."""
    frame = table(60, day=texts * 30)
    data = look(frame, time="day")
    assert kinds(data)["day"] == "date"
    assert str(data.frame["day"][1].date()) == first
    assert data.time[1] == data.frame["day"][1].value
    assert how in notes(data)
    day_first = look(frame, types={"day": "day-first date"})
    assert str(day_first.frame["day"][1].date()) == (
        "2024-04-03" if "/" in texts[0] or "." in texts[0] else "2024-03-04"
    )


def test_na_among_numbers_is_missing_whatever_the_texts_mean():
    """`missing = [""]` keeps NA as a level of texts; a column of numbers stays one."""
    data = look(table(60, area=["1.5", "NA", "7"] * 20, garage=["NA", "built in", "car port"] * 20))
    assert kinds(data) == {"x": "number", "area": "number", "garage": "category"}
    assert int(data.frame["area"].isna().sum()) == 20
    assert data.frame["garage"].notna().all()
    assert '(20 "NA")' in notes(data)


def test_many_numbers_taken_as_classes_are_told():
    """Sixty numbers that somebody says are classes are sixty classes, and that is said."""
    data = look(table(60).assign(y=range(60)), task="classification")
    assert len(data.classes) == 60
    assert "y has 60 distinct numbers, each a class" in notes(data)


def test_classes_that_read_alike_are_told():
    """Two classes that differ by blanks or case only are pointed out, and kept."""
    data = look(table(60).assign(y=["no", "yes", "Yes "] * 20))
    assert len(data.classes) == 3
    assert "written in two ways" in notes(data)


def test_rows_are_named_by_their_place_in_the_file():
    """Rows without a target are left out; the others keep their numbers, or their ids."""
    frame = pd.DataFrame(
        {"x": np.arange(40) * 0.5, "z": np.arange(40) % 7, "y": np.arange(40) % 2.0}
    )
    frame.loc[[0, 5, 6], "y"] = np.nan
    data = prepare(frame, DataConfig(path="t", target="y"))
    assert list(data.row_id[:4]) == [1, 2, 3, 4]
    assert set(data.row_id) == set(range(40)) - {0, 5, 6}
    assert data.unlabelled == {"0", "5", "6"}
    named = frame.assign(id=[2**63 + i for i in range(40)]).astype({"id": "uint64"})
    data = prepare(named, DataConfig(path="t", target="y", id="id"))
    assert data.row_id[0] == str(2**63 + 1)
    assert data.unlabelled == {str(2**63 + i) for i in (0, 5, 6)}


def test_infinite_numbers_are_missing_and_said_so():
    """Nothing is changed without a word."""
    frame = pd.DataFrame({"x": [1.0, np.inf, -np.inf, 2.0] * 10, "y": [0, 1] * 20})
    data = prepare(frame, DataConfig(path="t", target="y"))
    assert "x is infinite in 20 rows: taken as missing" in [n.text for n in data.notes]
    assert data.frame["x"].isna().sum() == 20


def test_a_counter_names_rows_also_where_targets_are_missing():
    """What names the rows of the whole table is no feature of those that have a target; a column
    that only counts from 0 gives way to one that says more."""
    frame = pd.DataFrame({
        "count": np.arange(40), "customer": [f"c{i}" for i in range(40)],
        "x": np.arange(40) % 7, "y": np.arange(40) % 2.0,
    })  # fmt: skip
    frame.loc[[0, 5], "y"] = np.nan
    data = prepare(frame, DataConfig(path="t", target="y"))
    assert [c.name for c in data.columns] == ["x"]
    assert (data.named, data.row_id[0]) == ("customer", "c1")
    assert data.unlabelled == {"c0", "c5"}


def test_times_with_a_zone_are_taken_in_utc():
    """A column with a time zone is a date like another, and a note says how it is read."""
    at = pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"at": at, "x": np.arange(60) % 9, "y": np.arange(60) % 2})
    data = prepare(frame, DataConfig(path="t", target="y"))
    assert data.raw["at"].dtype.kind == "M"
    assert data.raw["at"].iloc[0] == pd.Timestamp("2024-03-29 23:00")
    assert any("taken in UTC" in note.text for note in data.notes)
    objects = prepare(
        frame.assign(at=pd.Series(list(at.to_pydatetime()), dtype=object)),
        DataConfig(path="t", target="y"),
    )
    assert objects.raw["at"].iloc[0] == data.raw["at"].iloc[0]
    assert any("taken in UTC" in note.text for note in objects.notes)
