"""`--where`: what is understood, what the server gets, and what is decided here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefit.core import filters
from surefit.errors import InputError

RUN = {
    "metrics": {"valid_roc_auc": 0.83, "nan": float("nan")},
    "params": {"model.family": "lightgbm", "model.params.num_leaves": "31"},
    "tags": {"team": "risk", "note": "it's fine"},
    "attributes": {"run_name": "train lightgbm", "status": "FINISHED", "start_time": 5},
}


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("", True),
        ("metrics.valid_roc_auc > 0.8 and params.`model.family` = 'lightgbm'", True),
        ("metrics.valid_roc_auc > 0.9 or tags.team = 'risk'", True),
        ("params.model.family in ('linear', 'forest')", False),
        ("params.`model.family` not in ('linear')", True),
        ("params.`model.params.num_leaves` >= 31", True),
        ("params.`model.params.num_leaves` = 31.0", True),
        ("not (tags.team = 'risk')", False),
        ("tags.team = 'x' and tags.team = 'risk' or status = 'FINISHED'", True),
        ("tags.team = 'x' and (tags.team = 'risk' or status = 'FINISHED')", False),
        ("tags.absent != 'x'", False),
        ("tags.absent is null and tags.team is not null", True),
        ("metrics.nan > 0 or metrics.nan <= 0", False),
        ("attributes.run_name like 'train%' and run_name ilike 'TRAIN _ightgbm'", True),
        ('tags.note = "it\'s fine"', True),
        ("start_time < 6", True),
    ],
)
def test_a_filter_says_which_runs_are_meant(where, holds):
    """And binds before or, in and not in take lists, numbers in params compare as numbers."""
    assert filters.matches(filters.parse(where), RUN) is holds


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("metric.x >", "a number or a text in quotes"),
        ("metrics.x > 'a", "a quote is not closed"),
        ("(metrics.x > 1", "closing parenthesis"),
        ("metrics.x > 1 metrics.y > 2", "and, or, or the end"),
        ("metricz.x > 1", 'did you mean "metric"'),
        ("famly = 'x'", "is no attribute of a run"),
        ("metrics.x in 1", "opening parenthesis"),
        ("metrics.x ~ 1", "not understood"),
        ("and", "is no attribute"),
        ("params.x not = 3", "in is due"),
        ("tags.x is 'a'", "null is due"),
    ],
)
def test_a_mistake_is_named_with_its_place(where, says):
    """Every mistake is one message that says what is due."""
    with pytest.raises(InputError) as error:
        filters.parse(where)
    assert says in str(error.value)
    assert "Fix:" in str(error.value)


def test_the_server_gets_all_that_it_understands():
    """Plain comparisons joined by and are sent; or, in and numbers in params stay here."""
    tree = filters.parse(
        "metrics.m > 0.8 and tags.a = 'x' and params.p > 3 and (tags.a = 'x' or tags.b = 'y')"
    )
    sent, left = filters.server_part(tree)
    assert sent == "metrics.`m` > 0.8 and tags.`a` = 'x'"
    assert isinstance(left, filters.All)
    assert len(left.parts) == 2


NAMES = st.sampled_from(["model.family", "a", "b-c", "d/e"])
TESTS = st.builds(
    filters.Test,
    entity=st.sampled_from(["params", "tags"]),
    key=NAMES,
    op=st.sampled_from(["=", "!=", "like"]),
    value=st.sampled_from(["x", "y%", "it's"]),
)


@given(
    tests=st.lists(TESTS, max_size=3),
    facts=st.dictionaries(NAMES, st.sampled_from(["x", "yes", "it's"])),
)
def test_sending_a_part_changes_nothing(tests, facts):
    """What the server decides and what is left, together, are the filter."""
    run = {"metrics": {}, "params": facts, "tags": facts, "attributes": {}}
    tree = filters.All(parts=tuple(tests))
    sent, left = filters.server_part(tree)
    both = filters.matches(filters.parse(sent), run) and filters.matches(left, run)
    assert both == filters.matches(tree, run)
