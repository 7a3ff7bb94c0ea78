"""The search space: what may be written, what is said when it is wrong, and its laws."""

import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefit.core.space import Choice, FloatRange, IntRange, describe, digest, grid
from surefit.core.space_text import parse
from surefit.errors import ConfigError

scalars = st.one_of(
    st.booleans(), st.integers(-1000, 1000), st.text(max_size=8), st.floats(-1e6, 1e6), st.none()
)


@st.composite
def float_ranges(draw):
    log = draw(st.booleans())
    low = draw(st.floats(1e-9 if log else -1e9, 1e9))
    high = draw(st.floats(1e-9 if log else -1e9, 1e9).filter(lambda x: x != low))
    return FloatRange(min(low, high), max(low, high), log)


@st.composite
def ladders(draw):
    step, rungs = draw(st.sampled_from([0.001, 0.1, 0.25, 3.0])), draw(st.integers(1, 500))
    low = draw(st.integers(-50, 50))
    return FloatRange(low, round(low + rungs * step, 6), step=step)


@st.composite
def int_ranges(draw):
    log, step = draw(st.booleans()), draw(st.sampled_from([None, 1, 2, 7]))
    low, rungs = draw(st.integers(1 if log else -1000, 1000)), draw(st.integers(1, 10**6))
    return IntRange(low, low + rungs * (step or 1), log, None if log else step)


choices = st.lists(scalars, min_size=1, max_size=6, unique_by=lambda x: (type(x) is bool, x))
dimensions = st.one_of(
    float_ranges(), ladders(), int_ranges(), choices.map(lambda options: Choice(tuple(options)))
)
spaces = st.dictionaries(st.text(min_size=1).filter(str.strip), dimensions, max_size=4)


@pytest.mark.parametrize(
    ("value", "dimension"),
    [
        ("0.1..1", FloatRange(0.1, 1.0)),
        ("log 0.005..0.3", FloatRange(0.005, 0.3, log=True)),
        ("int 1..10", IntRange(1, 10)),
        ("int log 8..255", IntRange(8, 255, log=True)),
        ("int 1..9 step 2", IntRange(1, 9, step=2)),
        ("0..1 step 0.1", FloatRange(0, 1, step=0.1)),
        (" 1e-4 .. 1E2 ", FloatRange(1e-4, 100)),
        ("-2..-1", FloatRange(-2, -1)),
        ([True, False, "a", 3], Choice((True, False, "a", 3))),
        ([1, True], Choice((1, True))),
        (3, Choice((3,))),
        (False, Choice((False,))),
        ("gbdt", Choice(("gbdt",))),
        ("log loss", Choice(("log loss",))),
        ("../data", Choice(("../data",))),
        ('["a", null]', Choice(("a", None))),
        (["0.1..1"], Choice(("0.1..1",))),
    ],
)
def test_what_may_be_written(value, dimension):
    """Each form of the grammar gives the dimension it stands for."""
    assert parse({"x": value})["x"] == dimension


@pytest.mark.parametrize(
    ("value", "why", "line"),
    [
        ("1...10", "two dots", 'x = "1..10"'),
        ("1-10", "two dots", 'x = "1..10"'),
        ("int 1 to 10", "two dots", 'x = "int 1..10"'),
        ("log int 8..255", "int log", 'x = "int log 8..255"'),
        ("integer 1..5", "before the numbers", 'x = "int 1..5"'),
        ("loguniform 1..5", "before the numbers", 'x = "log 1..5"'),
        ("10..1", "below its start", 'x = "1..10"'),
        ("log int 10..1", "below its start", 'x = "int log 1..10"'),
        ("3..3", "starts where it ends", "x = 3"),
        ("log 0..1", "above 0", 'x = "log 0.001..1"'),
        ("log -2..-1", "above 0", 'x = "log 0.001..1"'),
        ("int log 0..9", "above 0", 'x = "int log 1..9"'),
        ("int log 0..1", "above 0", 'x = "int log 1..10"'),
        ("int 0.5..3", "whole numbers", 'x = "0.5..3"'),
        ("int 1..10 step 2", "pass 10 by", 'x = "int 1..9 step 2"'),
        ("0..1 step 0.3", "pass 1 by", 'x = "0..0.9 step 0.3"'),
        ("log 1..9 step 2", "no step", 'x = "log 1..9"'),
        ("0..1 step 2", "whole range", 'x = "0..1"'),
        ("0..1 step 0", "above 0", 'x = "0..1"'),
        ("0..inf", "finite", 'x = "0.01..1"'),
        ("nan..1", "finite", 'x = "0.01..1"'),
        ("int 0..99999999999999999999", "finite", 'x = "int 1..10"'),
        ("1..", "no range", 'x = ["1.."]'),
        ("0.1", "in quotes", "x = 0.1"),
        ("007", "in quotes", "x = 7"),
        (math.nan, "no value", 'x = "0..1"'),
        ([1, math.inf], "no value", "x = [1]"),
        ([], "at least one", "x = [true, false]"),
        ([[1, 2], [2, 3]], "inside a list", "x = [1, 2, 3]"),
        ([1, 1.0, 2], "twice", "x = [1, 2]"),
        ([1, {"a": 1}], "no text, number", "x = [1, \"{'a': 1}\"]"),
        ("[1, 2", "no list", 'x = ["a", "b"]'),
        ({"low": 1, "high": 9}, "a text", 'x = "int 1..9"'),
        ({"low": 0.1, "high": 9, "log": True}, "a text", 'x = "log 0.1..9"'),
        ({"y": "0..1"}, "quotes", '"x.y" = "0..1"'),
    ],
)
def test_each_mistake_shows_a_line_that_would_do(value, why, line):
    """A mistake names the key and the reason, and its corrected line is valid TOML that parses."""
    with pytest.raises(ConfigError) as caught:
        parse({"x": value})
    assert caught.value.what.count("x = ") >= 1
    assert why in caught.value.what
    assert caught.value.fix is not None
    assert caught.value.fix.split("  #")[0] == line
    parse(tomllib.loads(caught.value.fix))


def test_all_mistakes_come_at_once():
    """Three wrong lines of four give one error with three corrected lines."""
    with pytest.raises(ConfigError) as caught:
        parse({"a": "2..1", "b": [], "c": "0..1", "d": "log 0..1"})
    assert len(caught.value.what.splitlines()) == 4
    assert parse(tomllib.loads(caught.value.fix)).keys() == {"a", "b", "d"}


numbers = st.sampled_from(
    ["0", "1", "-3", "0.5", "1e3", "1e-9", "nan", "inf", "1e300", "7", "1e99"]
)
words = st.sampled_from(["", "int ", "log ", "int log ", "log int ", "uniform ", "Int "])


@given(words, numbers, st.sampled_from(["..", "...", "-", " to "]), numbers, st.none() | numbers)
def test_any_range_parses_or_its_correction_does(word, low, dots, high, step):
    """Whatever is wrong with a range, the line that is offered is right."""
    text = f"{word}{low}{dots}{high}" + ("" if step is None else f" step {step}")
    try:
        space = parse({"x": text})
    except ConfigError as error:
        space = parse(tomllib.loads(error.fix))
    assert parse(describe(space)) == space


@given(st.text())
def test_no_text_breaks_the_parser(text):
    """Any text is a range, a fixed value or a ConfigError."""
    try:
        parse({"x": text})
    except ConfigError as error:
        parse(tomllib.loads(error.fix))


@given(spaces)
def test_the_canonical_text_parses_back(space):
    """parse(describe(s)) == s, with the same digest, in any order of the keys."""
    again = parse(describe(space))
    assert again == space
    assert digest(again) == digest(space) == digest(dict(reversed(list(space.items()))))


@given(dimensions, st.floats(0, 1))
def test_a_place_on_the_axis_and_its_value_are_one(dimension, fraction):
    """decode gives a plain value inside the dimension, and encode finds its place again."""
    value = dimension.decode(dimension.axis.at(fraction))
    assert dimension.decode(dimension.encode(value)) == value
    if not isinstance(dimension, Choice):
        assert dimension.low <= value <= dimension.high
        assert type(value) is (int if isinstance(dimension, IntRange) else float)


@given(dimensions)
def test_what_lies_outside_has_no_place(dimension):
    """encode refuses other types, infinities and values beyond the ends."""
    outside = [math.nan, math.inf, (), "no such option at all"]
    if not isinstance(dimension, Choice):
        outside += [dimension.low - 1, dimension.high + 1, True, None, str(dimension.low)]
    for value in outside:
        with pytest.raises(ValueError):
            dimension.encode(value)


def test_options_differ_by_meaning():
    """true is not 1, and 1.0 is 1."""
    choice = Choice((True, 1, "1"))
    assert [choice.encode(x) for x in (True, 1, 1.0, "1")] == [0, 1, 1, 2]


def test_a_ladder_has_the_decimals_that_were_written():
    """0..1 step 0.1 holds 0.3, not 0.30000000000000004."""
    ladder = parse({"x": "0..1 step 0.1"})["x"]
    assert ladder.points(5) == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
    with pytest.raises(ValueError, match="step"):
        ladder.encode(0.35)


def test_integers_get_equal_shares():
    """Each of 1..4 is a quarter of the axis, the ends included."""
    axis = IntRange(1, 4).axis
    counts = [sum(axis.at(i / 1000) == n for i in range(1000)) for n in (1, 2, 3, 4)]
    assert all(abs(count - 250) <= 1 for count in counts)


def test_a_grid_is_in_a_fixed_order_and_log_spaced():
    """The last name varies fastest; a log range goes by ratio; a short integer range is whole."""
    space = parse({"b": ["x", "y"], "a": "log 0.01..100", "n": "int 1..2"})
    points = grid(space, points=3)
    assert [p["a"] for p in points[::4]] == pytest.approx([0.01, 1, 100])
    assert [tuple(p.values())[1:] for p in points[:4]] == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]
    assert len(points) == 12
    assert [p["k"] for p in grid(parse({"k": "int log 1..1000"}), 4)] == [1, 10, 100, 1000]
    assert grid(parse({})) == [{}]


@given(int_ranges(), st.integers(1, 9))
def test_grid_values_of_integers_are_inside_and_apart(dimension, n):
    """A grid over integers repeats nothing and leaves nothing."""
    points = dimension.points(n) if dimension.axis.high < 1000 or not dimension.step else (1, 2)
    assert len(set(points)) == len(points) > 0


def test_a_grid_too_large_shows_the_counts():
    """Above 100,000 points the error says how many each parameter brings."""
    with pytest.raises(ConfigError, match=r"a 5 x b 20,001 x c 2"):
        grid(parse({"a": "0..1", "b": "int 0..100000 step 5", "c": [1, 2]}))


def test_a_space_is_read_only():
    """Nobody downstream can change a space."""
    with pytest.raises(TypeError):
        parse({"x": 1})["x"] = Choice((2,))


def test_a_range_made_in_python_is_checked_too():
    """The dataclasses refuse what the text form refuses."""
    for make in (lambda: FloatRange(1, 0), lambda: IntRange(0, 5, log=True), lambda: Choice(())):
        with pytest.raises(ConfigError):
            make()
