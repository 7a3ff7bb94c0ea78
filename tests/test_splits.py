"""Splits of every kind: disjoint, whole units, frozen, the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefit.core import data as tables
from surefit.core import predictions
from surefit.core.data import Dataset
from surefit.core.split import TEST, UNUSED, Frozen, Split, make, read_parts
from surefit.errors import DataError
from surefit.sections import DataConfig, SplitConfig
from surefit.verbs import workspace
from surefit.verbs.reporter import Reporter

DAY = 86_400 * 10**9


def table(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        "x": rng.normal(size=n), "who": rng.integers(0, 40, n),
        "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n) // 4, "D"),
        "y": rng.choice(["no", "yes"], n, p=[0.8, 0.2]),
    })  # fmt: skip


def prepared(frame: pd.DataFrame, **keys: Any) -> Dataset:
    return tables.prepare(frame, DataConfig(path="t", target="y", **keys))


def laws(split: Split) -> None:
    """Every scored row is scored once, by a model that saw neither it nor a test row."""
    scored = np.concatenate([valid for _, valid in split.folds()])
    assert sorted(scored) == split.scored_rows.tolist()
    for train, valid in split.folds():
        assert not set(train) & set(valid)
        assert (split.block[train] >= 0).all()
        if split.groups is not None:
            assert not set(split.groups[train]) & set(split.groups[valid])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([{}, {"group": "who"}, {"time": "when"}, {"time": "when", "group": "who"}]),
    st.sampled_from([{"folds": 2}, {"folds": 5}, {"valid": 0.25}, {"test": 0.0}]),
    st.integers(0, 9),
)
def test_the_laws_hold_for_every_kind(keys: Any, how: Any, seed: int) -> None:
    """Folds are disjoint and cover; no group crosses; test rows are the last in time."""
    if keys.get("group") and keys.get("time"):
        keys = keys | {"group": "pair"}
    frame = table(seed=seed).assign(pair=lambda f: np.arange(len(f)) // 8)
    data = prepared(frame, **keys)
    split = make(data, SplitConfig(**how, seed=seed))
    laws(split)
    if data.time is not None and len(split.test_rows):
        assert data.time[split.test_rows].min() > data.time[split.train_rows].max()
    again = make(data, SplitConfig(**how, seed=seed))
    assert again.digest == split.digest


@pytest.mark.parametrize("keys", [{}, {"group": "who"}, {"time": "when"}])
def test_appended_rows_move_nothing(keys: dict[str, str]) -> None:
    """Rows that a saved split knows keep their places when rows are appended."""
    config, frame = SplitConfig(folds=4), table(800)
    first = make(prepared(frame.head(500), **keys), config)
    later = make(prepared(frame, **keys), config, Frozen.of(first))
    assert (later.block[:500] == first.block).all()
    laws(later)


@pytest.mark.parametrize("blank", [(3, 2, 400), (12, 300, 9), (300, 0, 0), (60, 0, 700)])
def test_appended_rows_move_nothing_where_a_kind_becomes_usual(blank: tuple[int, ...]) -> None:
    """Nor where a usual kind is one no more; and what is saved in between moves nothing either."""
    parts = [
        pd.concat([table(700, seed), *[table(1)] * n], ignore_index=True)
        for seed, n in enumerate(blank)
    ]
    split, frozen = None, None
    for k in range(len(parts)):
        data = prepared(pd.concat(parts[: k + 1], ignore_index=True))
        before, split = split, make(data, SplitConfig(folds=4), frozen)
        laws(split)
        if before is not None:
            assert (split.block[: len(before.block)] == before.block).all()
        frozen = Frozen.of(split)
    assert split is not None
    is_blank = data.row_key == pd.Series(data.row_key).mode()[0]
    if blank[-1] > 300 or blank[0] >= 300:
        assert len(np.unique(split.block[is_blank])) == 5


def test_a_split_saved_before_rows_were_counted_is_kept(tmp_path: Path) -> None:
    """A usual kind that an older saved split kept together stays together, unchanged."""
    frame = pd.concat([table(500), *[table(1)] * 200], ignore_index=True)
    frame.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "surefit.toml").write_text('[data]\npath = "t.csv"\ntarget = "y"\n')

    def load() -> workspace.Workspace:
        project = workspace.project(
            data=None, target=None, config=tmp_path / "surefit.toml", overrides={}
        )
        return workspace.load(project, frame=None, reporter=Reporter(quiet=True))

    work = load()
    assert len(np.unique(work.split.block[500:])) > 1
    unit, first = np.unique(work.data.row_key, return_index=True)
    for file in (tmp_path / ".surefit" / "splits").glob("*.npz"):
        np.savez(file, unit=unit, block=work.split.block[first], cuts=np.zeros(0))
    again = load().split
    assert len(np.unique(again.block[500:])) == 1
    assert load().split.digest == again.digest


def test_a_gap_in_a_column_of_integers_moves_nothing() -> None:
    """An appended missing value turns integers into floats; the rows before stay what they are."""
    frame = table()
    more = pd.concat([frame, frame.tail(1).assign(who=None, x=9.0)], ignore_index=True)
    one, two = prepared(frame), prepared(more.astype({"who": "float64"}))
    assert (one.unit == two.unit[:-1]).all()


def test_another_table_is_divided_anew() -> None:
    """A saved split of other rows is not used."""
    first = make(prepared(table()), SplitConfig())
    other = prepared(table(seed=5))
    assert make(other, SplitConfig(), Frozen.of(first)).digest == make(other, SplitConfig()).digest


@pytest.mark.parametrize("days", [366, -366, 60])
@pytest.mark.parametrize("how", [{}, {"gap": "5d"}, {"test": 0.0}, {"valid": 0.3}])
def test_boundaries_in_time_that_other_rows_leave_empty_are_drawn_anew(
    days: int, how: dict[str, Any]
) -> None:
    """A saved split by time is not used for rows that are all later, earlier, or a later window."""
    config, frame = SplitConfig(**how), table()
    first = make(prepared(frame, time="when"), config)
    other = prepared(frame.assign(when=frame["when"] + pd.Timedelta(days=days)), time="when")
    assert make(other, config, Frozen.of(first)).digest == make(other, config).digest
    assert not make(other, config, Frozen.of(first)).kept
    both = prepared(pd.concat([frame, frame.assign(when=frame["when"] + pd.Timedelta(days=366))],
                              ignore_index=True), time="when")  # fmt: skip
    grown = make(both, config, Frozen.of(first))
    assert grown.kept
    assert (grown.block[:400] == first.block).all()


def test_rows_without_a_group_are_each_a_group_of_their_own() -> None:
    """They are no giant group: each is divided and drawn by itself, and their number is told."""
    frame = table().astype({"who": "float64"})
    frame.loc[::2, "who"] = None
    data = prepared(pd.concat([frame, frame.head(2)], ignore_index=True), group="who")
    missing = np.append(np.arange(400) % 2 == 0, [True, False])
    split = make(data, SplitConfig())
    laws(split)
    n_groups = frame["who"].nunique() + missing.sum()
    assert data.groups is not None
    for codes in (data.groups, data.unit):
        assert len(np.unique(codes)) == n_groups
        assert not set(codes[missing]) & set(codes[~missing])
    assert (pd.Series(data.unit).groupby(data.groups).nunique() == 1).all()
    assert 0.1 < (split.block[missing] == TEST).mean() < 0.3
    told = '201 rows without a value of data.group = "who": each a group of its own'
    assert told in [note.text for note in data.notes]
    stored = predictions.valid_table(data, split, np.full((len(split.scored_rows), 2), 0.5))
    scored = predictions.read(stored, "binary", data.classes)
    assert len(np.unique(scored.groups)) == len(np.unique(data.groups[split.scored_rows]))
    with pytest.raises(DataError, match="missing in every row"):
        prepared(frame.assign(who=np.nan), group="who")


def test_rows_appended_without_a_group_move_nothing() -> None:
    """Neither rows with a group nor those without one change their place."""
    frame = table(800).astype({"who": "float64"})
    frame.loc[::3, "who"] = None
    first = make(prepared(frame.head(500), group="who"), SplitConfig())
    later = make(prepared(frame, group="who"), SplitConfig(), Frozen.of(first))
    assert later.kept
    assert (later.block[:500] == first.block).all()
    laws(later)


def test_gap_and_horizon() -> None:
    """Each scored window is as long as the horizon, and its model ends a gap before."""
    data = prepared(table(), time="when")
    split = make(data, SplitConfig(folds=3, gap="5d", horizon="10d"))
    laws(split)
    assert data.time is not None
    assert len(split.test_rows) == 40
    for train, valid in split.folds():
        start = data.time[valid].min()
        assert data.time[valid].max() - start < 10 * DAY
        assert data.time[train].max() < start - 5 * DAY
    assert data.time[split.train_rows].max() < data.time[split.test_rows].min() - 5 * DAY
    assert (split.block == UNUSED).sum() == 20


def test_a_gap_without_a_time_is_refused() -> None:
    """A gap needs a time column."""
    for key in ("gap", "horizon"):
        with pytest.raises(DataError, match=f"split.{key} needs a time column"):
            make(prepared(table()), SplitConfig(**{key: "5d"}))


@pytest.mark.parametrize("key", ["gap", "horizon"])
def test_a_span_of_the_other_kind_than_the_time_is_refused(key: str) -> None:
    """A number beside dates would be nanoseconds, a duration beside numbers no unit of theirs."""
    dates = prepared(table(), time="when")
    with pytest.raises(DataError, match=rf"split.{key} = 7 is a number.*dates") as caught:
        make(dates, SplitConfig(**{key: 7}))
    assert caught.value.fix == f'split.{key} = "7d"'
    numbers = prepared(table().assign(step=np.arange(400)), time="step")
    with pytest.raises(DataError, match=rf'split.{key} = "7d" is a duration.*numbers') as caught:
        make(numbers, SplitConfig(**{key: "7d"}))
    assert caught.value.fix.startswith(f"split.{key} = 7")
    assert make(dates, SplitConfig(gap=0)).digest == make(dates, SplitConfig()).digest


def test_a_number_is_a_time_too() -> None:
    """Gap and horizon count in the column's own units."""
    data = prepared(table().assign(step=np.arange(400)), time="step")
    split = make(data, SplitConfig(folds=2, gap=3.0, horizon=50.0))
    assert len(split.test_rows) == 50
    assert split.fold(1)[1].tolist() == list(range(300, 347))
    assert split.fold(1)[0].tolist() == list(range(297))


def test_the_users_own_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """split.column decides, and is no feature."""
    monkeypatch.chdir(tmp_path)
    frame = table()
    frame["part"] = np.where(
        np.arange(400) < 100, "test", np.where(frame.index < 200, "valid", "train")
    )
    work = loaded(frame, {"split.column": "part"})
    assert "part" not in [c.name for c in work.data.columns]
    assert work.split.test_rows.tolist() == list(range(100))
    train, valid = work.split.fold(0)
    assert valid.tolist() == list(range(100, 200))
    assert train.tolist() == list(range(200, 400))
    numbered = loaded(frame.assign(part=np.arange(400) % 3), {"split.column": "part"})
    assert numbered.split.n_folds == 3
    assert (numbered.split.block == np.arange(400) % 3).all()
    halves = loaded(frame.assign(part=np.where(frame.index < 100, "test", "train")),
                    {"split.column": "part", "split.folds": 4})  # fmt: skip
    assert halves.split.n_folds == 4
    assert halves.split.test_rows.tolist() == list(range(100))


def test_words_of_a_split_column() -> None:
    """The usual words, in any case; others are refused."""
    assert read_parts(["Train", "VAL", 1.0, None], "p").tolist() == ["train", "valid", "1", ""]
    with pytest.raises(DataError, match="holds 'maybe'"):
        read_parts(["maybe"], "p")


def test_a_given_test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """split.test_path holds the test rows, all of them and no others."""
    monkeypatch.chdir(tmp_path)
    frame = table()
    frame.head(100).to_csv("test.csv", index=False)
    frame.tail(300).to_csv("train.csv", index=False)
    work = loaded("train.csv", {"split.test_path": "test.csv"})
    assert (work.split.block == TEST).tolist() == [False] * 300 + [True] * 100
    laws(work.split)
    frame.head(100).drop(columns="y").to_csv("test.csv", index=False)
    with pytest.raises(DataError, match="lacks the columns y"):
        loaded("train.csv", {"split.test_path": "test.csv"})


def test_a_later_run_reuses_the_saved_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folds of the first run are those of the second, on a table with rows appended."""
    monkeypatch.chdir(tmp_path)
    frame = table()
    frame.head(300).to_csv("t.csv", index=False)
    first = loaded("t.csv", {})
    frame.to_csv("t.csv", index=False)
    second = loaded("t.csv", {}, quiet=False)
    assert (second.split.block[:300] == first.split.block).all()
    assert "saved earlier" in capsys.readouterr().err
    table(seed=5).to_csv("t.csv", index=False)
    loaded("t.csv", {}, quiet=False)
    assert "divided anew" in capsys.readouterr().err
    other = loaded("t.csv", {"split.seed": 1})
    assert other.split.digest != second.split.digest


def loaded(data: Any, overrides: dict[str, Any], *, quiet: bool = True) -> workspace.Workspace:
    project = workspace.project(data=data, target="y", config=None, overrides=overrides)
    frame = workspace.frame_of(data)
    return workspace.load(project, frame=frame, reporter=Reporter(quiet=quiet))


def test_a_part_of_the_table_makes_nothing_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run on some of the rows the whole table is divided as before; few files are kept."""
    monkeypatch.chdir(tmp_path)
    frame = table(600)
    digests = []
    for n in (600, 200, 600):
        frame.head(n).to_csv("t.csv", index=False)
        digests.append(loaded("t.csv", {}).split.digest)
    assert digests[2] == digests[0] != digests[1]
    for n in range(400, 410):
        frame.head(n).to_csv("t.csv", index=False)
        loaded("t.csv", {})
    assert len(list((tmp_path / ".surefit" / "splits").glob("*.npz"))) == 1 + workspace.TABLES
