"""Laws of the split: disjoint, covering, whole units, the past before the future, nothing moves."""

import contextlib
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surefit.core.data import prepare
from surefit.core.split import TEST, UNUSED, make
from surefit.errors import DataError
from surefit.sections import DataConfig, SplitConfig

laws = settings(max_examples=40, deadline=None)


def rows(n, *, seed=0, classes=2, groups=None, doubled=0):
    """A table of n rows, of which `doubled` are repeated; a group of about n / groups rows each."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.normal(size=n), "k": rng.choice(["a", "b", "c"], n)})
    frame["y"] = rng.normal(size=n) if classes == 0 else rng.choice(list("pqrs")[:classes], n)
    frame["day"] = pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, n // 2, n), "D")
    if groups:
        frame["who"] = rng.integers(0, groups, n)
    return pd.concat([frame, frame.head(doubled)], ignore_index=True)


def divide(frame, *, test=0.2, seed=0, **keys):
    """The data and its split; keys of [data] and [split] as they are called there."""
    shape = {k: keys.pop(k) for k in ("folds", "valid") if k in keys} or {"folds": 3}
    data = prepare(frame, DataConfig(path="x", target="y", **keys))
    try:
        return data, make(data, SplitConfig(test=test, seed=seed, **shape))
    except DataError:
        return data, None


some = {"n": st.integers(60, 200), "seed": st.integers(0, 10_000), "folds": st.integers(2, 6)}


@given(**some, classes=st.sampled_from([0, 2, 3, 4]), groups=st.sampled_from([None, 12, 40]))
@laws
def test_folds_are_disjoint_and_cover_all_rows_but_the_test_rows(n, seed, folds, classes, groups):
    """Each row that is not sealed is scored once, by a model that never saw it or a test row."""
    keys = {"group": "who"} if groups else {}
    frame = rows(n, seed=seed, classes=classes, groups=groups)
    _, split = divide(frame, seed=seed, folds=folds, **keys)
    if split is None:
        return
    scored = np.concatenate([valid for _, valid in split.folds()])
    assert sorted(scored) == list(split.train_rows) == list(split.scored_rows)
    for train, valid in split.folds():
        assert not set(train) & set(valid)
        assert not (set(train) | set(valid)) & set(split.test_rows)
        assert len(train) + len(valid) == len(split.train_rows)
    assert list(split.fold_of_rows()) == [
        next(i for i, (_, v) in enumerate(split.folds()) if row in v) for row in split.scored_rows
    ]


@given(**some, groups=st.integers(8, 40), by=st.sampled_from(["group", "id", "row"]))
@laws
def test_no_unit_crosses_a_boundary(n, seed, folds, groups, by):
    """Rows of one group, and equal rows, are all test rows or all in one fold and one stop part."""
    frame = rows(n, seed=seed, groups=groups, doubled=20)
    if by == "id":
        frame = frame.drop(columns="who").assign(number=np.arange(len(frame)) * 3 + 1)
    keys = {"group": {"group": "who"}, "id": {"id": "number"}, "row": {}}[by]
    data, split = divide(frame, seed=seed, folds=folds, **keys)
    if split is None:
        return
    for blocks in pd.Series(split.block).groupby(data.unit).unique():
        assert len(blocks) == 1
    if by == "row":
        assert (split.block[-20:] == split.block[:20]).all()
    if by == "group":
        assert (pd.Series(split.block).groupby(frame["who"]).nunique() == 1).all()
    for train, _ in split.folds():
        stop, units = split.stop_rows(train), data.unit[train]
        assert len(set(units)) <= 2 or not set(units[stop]) & set(units[~stop])


@given(sizes=st.lists(st.integers(8, 60), min_size=3, max_size=9), seed=st.integers(0, 10_000))
@example(sizes=[30, 32, 8], seed=0)
@laws
def test_few_groups_give_up_some_for_early_stopping(sizes, seed):
    """Whole groups and never all, a fifth of the rows or the smallest; of two or one, some rows."""
    frame = rows(sum(sizes), seed=seed)
    frame["who"] = np.repeat(np.arange(len(sizes)), sizes)
    data, split = divide(frame, test=0.0, seed=seed, folds=2, group="who")
    if split is None:
        return
    for train, _ in split.folds():
        groups, n = np.unique(data.groups[train], return_counts=True)
        stop = split.stop_rows(train)
        torn = set(data.groups[train[stop]]) & set(data.groups[train[~stop]])
        assert 0 < stop.sum() <= max(n.min() * (len(groups) > 2), 0.2 * len(train))
        assert not torn or len(groups) <= 2


def usual(n: int) -> pd.DataFrame:
    """A table in which three of ten rows are one and the same, as of blank images."""
    frame = rows(n, seed=0)
    blank = np.random.default_rng(1).random(n) < 0.3
    return frame.iloc[np.where(blank, 0, np.arange(n))].reset_index(drop=True)


def test_a_common_row_is_divided_as_others_are():
    """Kept together a row that is a third of the table would be a fold: each part has its share."""
    frame = usual(2000)
    data, split = divide(frame)
    is_blank = data.row_key == pd.Series(data.row_key).mode()[0]
    assert 0.25 < is_blank.mean() < 0.4
    for _, valid in split.folds():
        assert abs(is_blank[valid].mean() - is_blank.mean()) < 0.05
    assert abs(is_blank[split.test_rows].mean() - is_blank.mean()) < 0.08
    train, _ = split.fold(0)
    stop = split.stop_rows(train)
    assert abs(is_blank[train[stop]].mean() - is_blank.mean()) < 0.12


def test_the_few_of_the_rare_class_among_blank_rows_are_divided():
    """Blank rows are one kind by their features: those of the rare class fill no one part."""
    frame = usual(2000)
    blank = (frame.drop(columns="y") == frame.drop(columns="y").iloc[0]).all(axis=1).to_numpy()
    rng = np.random.default_rng(2)
    rare = rng.random(len(frame)) < 0.05
    frame["y"] = np.where(rare, "yes", "no")
    _, split = divide(frame)
    both = blank & rare
    assert both.sum() > 10
    assert 0 < (split.block[both] == -1).sum() < both.sum() / 2
    copies = pd.concat([frame[~blank], frame[~blank].head(200)], ignore_index=True)
    _, split = divide(copies)
    assert (split.block[-200:] == split.block[:200]).all()


def test_copies_stay_together_also_where_features_are_few():
    """Thirty copies of a row are copies, though its features alone are of a usual kind."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 4, 600), "b": rng.integers(0, 4, 600)})
    frame["y"] = rng.normal(size=600).round(3)
    copies = pd.concat([frame, *[frame.head(100)] * 30], ignore_index=True)
    data, split = divide(copies)
    assert data.usual.mean() < 0.05
    blocks = pd.Series(split.block).groupby(data.row_key).nunique()
    assert (blocks == 1).mean() > 0.95


def test_appended_rows_move_no_common_row():
    """The nth of equal rows stays where it is when more of them come."""
    frame = usual(2000)
    _, before = divide(frame.head(1500))
    _, after = divide(frame)
    assert ((before.block == -1) == (after.block[:1500] == -1)).all()


def test_rows_that_chance_makes_equal_are_no_copies():
    """In a table of a few columns with a few levels each kind of row is on every side."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.integers(0, 3, 600) for name in "abc"})
    frame["y"] = random.choice(["no", "yes"], 600)
    data, split = divide(frame)
    folds_of_kind = pd.Series(split.fold_of_rows()).groupby(data.row_key[split.scored_rows])
    assert folds_of_kind.nunique().median() == split.n_folds


def test_rows_copied_to_balance_classes_stay_together():
    """Twenty rows that somebody copied twenty-five times each tell no fold of their own answer."""
    frame = rows(1000, seed=0)
    frame = pd.concat([frame.head(500), *[frame.tail(20)] * 25], ignore_index=True)
    data, split = divide(frame)
    assert pd.Series(split.block).groupby(data.row_key).nunique().max() == 1


@given(**some, keys=st.sampled_from([{}, {"group": "who"}, {"time": "day"}]))
@laws
def test_the_same_seed_gives_the_same_split_and_another_seed_another(n, seed, folds, keys):
    """The split is a pure function of data and configuration."""
    frame = rows(n, seed=seed, groups=30)
    _, first = divide(frame, seed=seed, folds=folds, **keys)
    _, again = divide(frame, seed=seed, folds=folds, **keys)
    _, other = divide(frame, seed=seed + 1, folds=folds, **keys)
    if first is None or other is None:
        return
    assert first.digest == again.digest
    assert (first.block == again.block).all()
    if "time" not in keys:
        assert first.digest != other.digest


@given(**some, by=st.sampled_from(["row", "group", "id"]))
@laws
def test_appended_rows_move_no_test_row(n, seed, folds, by):
    """What was sealed stays sealed, and what was not is never sealed, when the table grows."""
    frame = rows(n + 80, seed=seed, groups=30).assign(number=np.arange(n + 80) * 7)
    keys = {"row": {"drop": ["number"]}, "group": {"group": "who", "drop": ["number"]},
            "id": {"id": "number"}}[by]  # fmt: skip
    _, before = divide(frame.head(n), seed=seed, folds=folds, **keys)
    _, after = divide(frame, seed=seed, folds=folds, **keys)
    if before is None or after is None:
        return
    assert ((before.block == TEST) == (after.block == TEST)[:n]).all()


@given(**some)
@laws
def test_a_time_split_trains_on_the_past_only(n, seed, folds):
    """Every training row is earlier than every row that its model scores; test rows come last."""
    frame = rows(n, seed=seed)
    _, split = divide(frame, folds=folds, time="day")
    if split is None:
        return
    day = frame["day"].to_numpy()
    for train, valid in split.folds():
        assert day[train].max() < day[valid].min()
    assert day[split.train_rows].max() < day[split.test_rows].min()


@given(**some, groups=st.integers(20, 60))
@laws
def test_with_group_and_time_no_group_of_the_future_is_in_the_past(n, seed, folds, groups):
    """Past rows of test groups are purged and counted; so are those of a scored block's groups."""
    frame = rows(n, seed=seed, groups=groups)
    _, split = divide(frame, folds=folds, time="day", group="who")
    if split is None:
        return
    who, day = frame["who"].to_numpy(), frame["day"].to_numpy()
    assert not set(who[split.test_rows]) & set(who[split.train_rows])
    for train, valid in split.folds():
        assert not set(who[train]) & set(who[valid])
        assert day[train].max() < day[valid].min()
    purged = int((split.block == UNUSED).sum())
    if purged:
        assert f"{purged:,} rows left out" in split.describe()


@given(**some, classes=st.integers(2, 4))
@laws
def test_folds_are_stratified_within_one_row_a_class(n, seed, folds, classes):
    """Where each row is its own unit, no fold has two rows of a class more than another."""
    data, split = divide(rows(n, seed=seed, classes=classes), seed=seed, folds=folds)
    if split is None:
        return
    counts = np.array([np.bincount(data.y[v], minlength=classes) for _, v in split.folds()])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= classes


@given(**some, valid=st.floats(0.1, 0.5))
@laws
def test_one_validation_set_is_one_fold(n, seed, folds, valid):
    """split.valid gives one model, scored on rows apart from training and test rows."""
    _, split = divide(rows(n, seed=seed), seed=seed, valid=valid)
    if split is None:
        return
    ((train, scored),) = list(split.folds())
    assert sorted([*train, *scored]) == list(split.train_rows)
    assert list(scored) == list(split.scored_rows)


def test_the_shares_are_about_what_was_asked():
    """A fifth is sealed, and each fold has about its share."""
    _, split = divide(rows(5000), folds=5)
    assert abs(len(split.test_rows) / 5000 - 0.2) < 0.02
    sizes = [len(valid) for _, valid in split.folds()]
    assert max(sizes) - min(sizes) <= 2
    _, alone = divide(rows(5000), valid=0.2)
    assert abs(len(alone.scored_rows) / 5000 - 0.2) < 0.02


def test_without_test_rows_all_rows_are_used():
    """split.test = 0 seals nothing, by row and by time."""
    for keys in ({}, {"time": "day"}):
        _, split = divide(rows(90), test=0.0, **keys)
        assert len(split.test_rows) == 0
        assert "no test rows" in split.describe()


def test_a_class_that_only_test_rows_have_does_not_disturb_the_folds():
    """Large groups are dealt out evenly although one class has no row to deal."""
    frame = rows(400, groups=12)
    _, split = divide(frame, group="who")
    frame.loc[split.test_rows, "y"] = "rare"
    _, again = divide(frame, group="who")
    sizes = [len(valid) for _, valid in again.folds()]
    assert max(sizes) < 3 * min(sizes)


@pytest.mark.parametrize(
    ("frame", "keys", "said"),
    [
        (rows(200, groups=2), {"group": "who", "folds": 5}, "groups cannot make 5 folds"),
        (rows(8), {"folds": 7}, r"cannot make 7 folds|too few rows"),
        (rows(60).assign(day=pd.Timestamp("2021-01-01")), {"time": "day"}, "All times are equal"),
        (rows(60).assign(y=["rare", *["p"] * 59]), {}, "one target value only"),
    ],
)
def test_rows_that_cannot_be_divided_so_are_told_with_a_way_out(frame, keys, said):
    """Too few groups, rows, times or rows of a class: what there is, and what to change."""
    shape = {k: keys.pop(k) for k in ("folds",) if k in keys}
    keys = dict(keys)
    data = prepare(frame, DataConfig(path="x", target="y", **keys))
    refused = []
    for seed in range(20):  # some seed seals the only row of the class
        with contextlib.suppress(DataError):
            make(data, SplitConfig(seed=seed, **shape))
            continue
        with pytest.raises(DataError) as caught:
            make(data, SplitConfig(seed=seed, **shape))
        refused.append(caught.value)
    assert all(error.fix for error in refused)
    assert any(re.search(said, str(error)) for error in refused)


def test_groups_that_all_reach_into_the_future_are_told():
    """Where each group has test rows, none is left to train on: the refusal says so, with a way."""
    frame = pd.DataFrame({
        "x": np.arange(200.0), "day": np.arange(200) // 4, "who": np.arange(200) % 4,
        "y": np.arange(200) % 2,
    })  # fmt: skip
    data = prepare(frame, DataConfig(path="x", target="y", time="day", group="who"))
    with pytest.raises(DataError, match="Every group has rows at the end of the time"):
        make(data, SplitConfig())
