"""Hyperparameters against the score: the numbers, and that each picture can be drawn."""

import numpy as np
import pandas as pd
import pytest

from surefit.core import figures_space as space
from surefit.core.search_page import render_search
from surefit.results import Score, TrialRow


def trials(n=40):
    rng = np.random.default_rng(0)
    params = pd.DataFrame({
        "rate": 10 ** rng.uniform(-3, 0, n), "leaves": rng.integers(4, 64, n),
        "extra": rng.choice([True, False], n).astype(object), "same": 1.0,
    })  # fmt: skip
    params.loc[0, "leaves"] = np.nan
    return params, -np.abs(np.log10(params["rate"]) + 1.5).to_numpy()


def test_all_pictures_of_a_search_have_numbers():
    """Importances, contours and parallel coordinates, each with a picture of bounded size."""
    params, score = trials()
    shares = {"rate": 0.9, "leaves": 0.1}
    found = list(space.space_figures(
        params, score, shares, metric="auc", greater_is_better=True, log=["rate"]
    ))  # fmt: skip
    names = [f.name for f in found]
    assert names == ["search_importances", "search_contours", "search_parallel"]
    for figure in found:
        assert figure.png.startswith(b"\x89PNG")
        assert len(figure.png) < 200_000
        assert len(figure.numbers)
    assert set(found[1].numbers["param_x"]) <= {"rate", "leaves", "extra"}
    assert set(found[2].numbers["param"]) == {"rate", "leaves", "extra"}


def test_a_contour_is_the_trials_smoothed():
    """Near trials the contour has their score; where none is near it has none."""
    at = np.array([[0.0, 0.0], [1.0, 1.0]])
    smooth, near = space._smoothed(at, np.array([1.0, 3.0]), np.array([[0, 0], [1, 1], [0, 1.0]]))
    assert smooth[:2] == pytest.approx([1, 3])
    assert np.isnan(smooth[2])
    assert list(near) == [1, 1, 0]


def test_places_follow_the_scale():
    """Log parameters are placed by their logarithm, categories evenly, unset ones nowhere."""
    at, labels = space.place(pd.Series([0.01, 0.1, 1.0, np.nan]), log=True)
    assert at[:3] == pytest.approx([0, 0.5, 1])
    assert np.isnan(at[3])
    assert labels == ["0.01", "0.1", "1"]
    at, labels = space.place(pd.Series(["b", "a", None], dtype=object), log=False)
    assert (list(at[:2]), labels) == ([1, 0], ["a", "b"])


def test_too_few_trials_draw_nothing():
    """With three trials or with nothing that varies there is no picture."""
    params, score = trials(3)
    assert not list(space.space_figures(params, score, {}, metric="m", greater_is_better=True))
    one = pd.DataFrame({"same": [1.0] * 9})
    assert not list(
        space.space_figures(one, np.arange(9.0), {}, metric="m", greater_is_better=True)
    )


def test_the_page_of_a_search_names_the_best_first():
    """The report holds the best, its correction and the trials, best first."""
    rows = [
        TrialRow(number=k, state="COMPLETE", value=v, params={"p": v}, fold_scores=(v,), seconds=1,
                 reason="")
        for k, v in enumerate((0.5, 0.9, 0.7))
    ]  # fmt: skip
    corrected = Score(metric="auc", value=0.8, low=0.7, high=0.9, n_rows=9, greater_is_better=True)
    page = render_search(
        name="x", trials=rows, best=rows[1], corrected=corrected, metric="auc", importances={},
        figures=[], command="surefit tune",
    )  # fmt: skip
    assert "Trial 1: auc 0.9000, corrected 0.8000" in page
    table = page[page.rindex("<tbody") :]
    assert table.index("0.9") < table.index("0.7") < table.index("0.5")


def test_the_page_of_several_families_names_each_trials_own():
    """Without it a row of another family than the winner's is all dashes."""
    rows = [
        TrialRow(number=k, state="COMPLETE", value=v, params={f"of_{family}": v}, family=family,
                 fold_scores=(v,), seconds=1, reason="")
        for k, (family, v) in enumerate((("linear", 0.5), ("forest", 0.9)))
    ]  # fmt: skip
    corrected = Score(metric="auc", value=0.8, low=0.7, high=0.9, n_rows=9, greater_is_better=True)
    page = render_search(
        name="x", trials=rows, best=rows[1], corrected=corrected, metric="auc", importances={},
        figures=[], command="surefit tune",
    )  # fmt: skip
    table = page[page.rindex("<table") :]
    assert table.index(">family") < table.index("forest") < table.index("linear")
