"""What fits cost by formula: finite, and more for more work."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefit import models
from surefit.core import space_text
from surefit.models.costs import Size, boosting_rounds

TASKS = ("binary", "multiclass", "regression")
sizes = st.builds(
    Size, task=st.sampled_from(TASKS), rows=st.integers(1, 10**7), numbers=st.integers(1, 3000),
    categories=st.integers(0, 300), outputs=st.integers(1, 50),
)  # fmt: skip


def seconds(name, size, **params):
    """A fit's, the family's defaults filled in."""
    family = models.named(name)
    return family.cost(size, {**family.defaults(size.task), **params})


@pytest.mark.parametrize("name", models.TOGETHER)
@given(size=sizes)
def test_more_rows_or_columns_never_cost_less(name, size):
    """And every cost is a positive number."""
    cost = seconds(name, size)
    assert math.isfinite(cost)
    assert cost > 0
    assert seconds(name, replace(size, rows=2 * size.rows)) >= cost
    assert seconds(name, replace(size, numbers=2 * size.numbers)) >= cost


@pytest.mark.parametrize("name", models.TOGETHER)
@pytest.mark.parametrize("task", TASKS)
def test_every_point_of_the_space_has_a_cost(name, task):
    """Also at the corners, and for values that are no numbers."""
    size = Size(task=task, rows=1000, numbers=10, categories=2, outputs=3)
    dimensions = space_text.parse(models.named(name).space(task))
    for n in (0, -1):
        corner = {key: dimension.points(2)[n] for key, dimension in dimensions.items()}
        assert 0 < seconds(name, size, **corner) < 1e4
    odd = dict.fromkeys(dimensions, None)
    assert seconds(name, size, **odd) > 0


@given(sizes, st.floats(1e-4, 1.0), st.integers(1, 5000))
def test_slower_learning_takes_more_rounds_up_to_the_most(size, rate, most):
    """Early stopping ends later the smaller the steps; `most` ends it in any case."""
    rounds = boosting_rounds(size, rate, most)
    assert 0 < rounds <= most
    assert boosting_rounds(size, rate / 2, most) >= rounds


def test_a_forest_may_look_at_a_count_of_columns():
    """`max_features` of scikit-learn: a share, a number of columns, a word, or None for all."""
    size = Size(task="binary", rows=1000, numbers=16, categories=0, outputs=1)
    asked = (4, 1, 0.25, "sqrt", None)
    cost = {given: seconds("forest", size, max_features=given) for given in asked}
    assert cost[4] == pytest.approx(cost[0.25])
    assert cost["sqrt"] == pytest.approx(cost[4])
    assert cost[1] < cost[4] < cost[None]


def test_trees_without_a_bound_have_no_more_leaves_than_rows():
    """Depths and leaves that nothing reaches cost no more than the rows allow."""
    size = Size(task="binary", rows=1000, numbers=16, categories=0, outputs=1)
    assert seconds("xgboost", size, max_depth=2000) == seconds("xgboost", size, max_depth=12)
    assert seconds("xgboost", size, max_depth=0, max_leaves=8) < seconds("xgboost", size)
    assert seconds("hist", size, max_leaf_nodes=None) == seconds("hist", size, max_leaf_nodes=9999)
