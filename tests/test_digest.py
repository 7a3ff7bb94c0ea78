"""The identity of a table: one cell anywhere makes another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefit.core.digest import ColumnDigests, digest, row_keys


def table(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    text = [f"text {i} {'x' * int(rng.integers(0, 30))}" for i in range(n)]
    return pd.DataFrame({
        "number": rng.normal(size=n), "integer": rng.integers(-(2**62), 2**62, n),
        "gap": np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 5, n)),
        "level": pd.Series(rng.choice(["a", "b", None], n), dtype="str"),
        "text": pd.Series(text, dtype="str"), "flag": rng.random(n) < 0.5,
        "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**6, n), "s"),
    })  # fmt: skip


CHANGES = {
    "number": lambda v: np.nextafter(v, 9), "integer": lambda v: v + 1, "gap": lambda v: 7.0,
    "level": lambda v: "c", "text": lambda v: v + " ", "flag": lambda v: not v,
    "when": lambda v: v + pd.Timedelta("1s"),
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(CHANGES)), st.integers(0, 199))
def test_one_changed_cell_is_another_table(column: str, row: int) -> None:
    """Both digests and that row's key change; no other row's key does."""
    one = table()
    two = one.copy()
    two.loc[row, column] = CHANGES[column](two.loc[row, column])
    a, b = digest(one), digest(two)
    assert a.ordered != b.ordered
    assert a.unordered != b.unordered
    assert np.flatnonzero(a.row_keys != b.row_keys).tolist() == [row]


def test_order_is_seen_by_one_digest_only() -> None:
    """Shuffled rows keep the unordered digest; columns of other order keep the rows' keys."""
    one = table()
    two = one.sample(frac=1, random_state=1)
    assert digest(one).ordered != digest(two).ordered
    assert digest(one).unordered == digest(two).unordered
    assert (row_keys(one) == row_keys(one[one.columns[::-1]])).all()


def test_swapped_cells_and_renamed_columns_are_seen() -> None:
    """Two values that change places, in a row or in a column, make another table."""
    one = pd.DataFrame({"a": [1, 2, 3], "b": [2, 1, 3]})
    swapped = pd.DataFrame({"a": [2, 1, 3], "b": [1, 2, 3]})
    assert digest(one).unordered == digest(swapped.iloc[[1, 0, 2]]).unordered
    down = pd.DataFrame({"a": [2, 1, 3], "b": [2, 1, 3]})
    assert digest(one).unordered != digest(down).unordered
    assert digest(one).ordered != digest(one.rename(columns={"a": "c"})).ordered


def test_the_schema_counts_and_how_values_are_held_does_not() -> None:
    """3 and 3.0 are the same row and another schema; a category is its text."""
    whole, real = pd.DataFrame({"a": [3, 4]}), pd.DataFrame({"a": [3.0, 4.0]})
    assert digest(whole).ordered != digest(real).ordered
    assert (row_keys(whole) == row_keys(real)).all()
    text = pd.DataFrame({"a": ["x", "y", None]})
    assert digest(text).ordered == digest(text.astype("category")).ordered
    assert digest(text.astype(object)).ordered == digest(text).ordered
    assert digest(whole.astype("Int64")).ordered == digest(whole).ordered
    levels = pd.DataFrame({"a": pd.Categorical([2**60 + 1, 7, None])})
    spelled = pd.DataFrame({"a": [str(2**60 + 1), "7", None]})
    assert digest(levels).ordered == digest(spelled).ordered
    full, texts = pd.DataFrame({"a": [3, 7]}), pd.DataFrame({"a": ["3", "7"]})
    assert digest(full.astype("category")).ordered == digest(texts).ordered


@pytest.mark.parametrize("values", [["", None], ["a", "a\0"], ["é", "e\u0301"], ["x" * 20000, "y"]])
def test_texts_that_look_alike_differ(values: list[str | None]) -> None:
    """Empty is not missing; bytes count, not looks; very long texts too."""
    one, two = (pd.DataFrame({"a": pd.Series([v], dtype="str")}) for v in values)
    assert row_keys(one)[0] != row_keys(two)[0]


def test_keys_do_not_collide_and_are_even() -> None:
    """A hundred thousand different rows have different keys, half of each bit set."""
    n = 100_000
    keys = row_keys(pd.DataFrame({"i": np.arange(n), "t": [f"{i:06d}" for i in range(n)]}))
    assert len(np.unique(keys)) == n
    bits = (keys[:, None] >> np.arange(64, dtype="uint64")) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.01


def test_polars_and_pandas_agree() -> None:
    """The same cells from Polars have the same identity."""
    polars = pytest.importorskip("polars")
    from surefit.edges.frames import to_pandas

    one = table()
    assert digest(to_pandas(polars.from_pandas(one))).ordered == digest(one).ordered


def test_a_column_says_the_same_in_batches_and_whichever_way_it_is_read() -> None:
    """Text of digits, truths and numbers in two batches are the columns of a typed frame; order and
    every cell count."""
    typed = pd.DataFrame({
        "number": [7, 1.5, np.nan, 1e300], "whole": [1, 2, 3, 4], "truth": [True, False] * 2,
        "town": ["Bern", None, "Oslo", "7"], "day": pd.to_datetime(["2024-01-01"] * 4),
    })  # fmt: skip
    texts = typed.assign(
        number=["007", "1.5", None, "1e300"], whole=["01", "2.0", "3", "4"],
        truth=["True", "false", "TRUE", "False"], day=typed["day"].astype("datetime64[us]"),
    )  # fmt: skip
    assert told(typed) == told(texts[:3], texts[3:])
    assert told(typed[::-1])["whole"] != told(typed)["whole"]
    changed = typed.assign(number=[7, 1.5001, np.nan, 1e300], town=["Bern", None, "Olso", "7"])
    differ = {name for name, found in told(changed).items() if found != told(typed)[name]}
    assert differ == {"number", "town"}


def told(*batches: pd.DataFrame) -> dict[str, str]:
    """The digests of a table that comes so."""
    found = ColumnDigests()
    for batch in batches:
        found.add(batch)
    return found.to_dict()
