"""The report in a real browser: nothing on the console, tables sort, pictures are shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import browser
from simulate import numbers, two_classes
from surefit.core import report
from surefit.core.evaluation import Ask, assess
from surefit.core.figures import evaluation_figures
from surefit.core.figures_slices import draw_slices, slice_numbers
from surefit.core.kinds import Column
from surefit.core.page import render
from surefit.core.predictions import Scored
from surefit.core.report import About
from surefit.results import Evaluation

EVIL = "<script>alert(1)</script>"
pytestmark = pytest.mark.skipif(browser.found() is None, reason="no Chromium on this machine")


def scored_of(task, rng):
    if task == "binary":
        y, pred = two_classes(300, rng)
        classes = ("no", EVIL)
    elif task == "multiclass":
        y, pred = rng.integers(0, 26, 900), rng.dirichlet(np.ones(26), 900)
        classes = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    else:
        (y, pred), classes = numbers(300, rng), ()
    return Scored(task=task, classes=classes, row_id=np.arange(len(y)), y=y, pred=pred, folds=None)


def html(task):
    """A whole report on made-up rows, hostile names among them."""
    rng = np.random.default_rng(0)
    scored = scored_of(task, rng)
    features = pd.DataFrame({EVIL: rng.choice(["a", "b", EVIL], len(scored.y))})
    columns = (Column(name=EVIL, dtype="string", kind="category"),)
    first = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[task]
    goal = "f1" if task == "binary" else None
    found = assess(
        scored, Ask(first=first, features=features, columns=columns, raw=features, threshold=goal)
    )
    pictures = evaluation_figures(task, scored.y, scored.pred, [str(c) for c in scored.classes])
    pictures.append(draw_slices(slice_numbers(found.slices, found.scores[0]), first))
    result = Evaluation(
        run_id="r", subject=EVIL, rows="given", n_rows=len(scored.y), scores=found.scores,
        baseline=found.baseline, look=None, verified=True, figures=(), report="", next="",
        slices=found.slices,
    )  # fmt: skip
    about = About(notes=[EVIL], model=[(EVIL, EVIL)], again=EVIL, config=EVIL)
    return render(report.page(result, found, pictures, about))


SORTED = """
(() => {
  const table = document.querySelectorAll('table')[0];
  const button = table.tHead.rows[0].cells[1].querySelector('button');
  const read = () => [...table.tBodies[0].rows].map(r => Number(r.cells[1].dataset.order));
  button.click(); const down = read();
  button.click(); const up = read();
  return [down, up];
})()
"""
SHOWN = "[...document.images].map(i => i.complete && i.naturalWidth > 100)"
WIDE = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_report_works_in_a_real_browser(task, tmp_path):
    """No console message, every table sorts both ways, every picture is drawn, none overflows."""
    file = tmp_path / "report.html"
    file.write_text(html(task), "utf-8")
    assert file.stat().st_size < 2_000_000
    with browser.page(browser.found(), file) as tab:
        down, up = tab.run(SORTED)
        assert down == sorted(down, reverse=True)
        assert up == sorted(up)
        assert len(down) > 3
        assert tab.run(SHOWN)
        assert all(tab.run(SHOWN))
        assert tab.run(WIDE)
        assert tab.run("document.scripts.length") == 1
        assert tab.said == []
