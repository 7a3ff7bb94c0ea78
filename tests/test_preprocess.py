"""surefit.preprocess: any mixed frame to numbers, fitted inside each fold."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import surefit


def mixed(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    words = np.array(["red house", "blue garden", "green door"])
    return pd.DataFrame({
        "x": np.where(rng.random(n) < 0.1, np.nan, x), "size": rng.integers(0, 9, n),
        "level": rng.choice(["a", "b", None], n), "flag": rng.random(n) < 0.5,
        "text": [f"{words[i % 3]} number {i}" for i in range(n)],
        "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 999, n), "D"),
        "as text": [f"{v:.1f}" for v in x], "y": (x + rng.normal(size=n) > 0) * 1,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "model"),
    [(False, HistGradientBoostingClassifier(max_iter=20)), (True, LogisticRegression())],
)
def test_a_mixed_frame_is_learned_from(scale: bool, model: object) -> None:
    """Numbers, gaps, levels, flags, texts, dates and numbers stored as text, in one pipeline."""
    frame = mixed()
    y = frame.pop("y")
    pipeline = make_pipeline(surefit.preprocess(scale=scale, text_components=4), model)
    assert cross_val_score(pipeline, frame, y, cv=3, error_score="raise").mean() > 0.6


def test_new_levels_and_gaps_at_prediction() -> None:
    """Levels that were not seen, and gaps in new places, give numbers all the same."""
    frame = mixed()
    y = frame.pop("y")
    for scale in (False, True):
        fitted = surefit.preprocess(scale=scale, text_components=4).fit(frame, y)
        new = frame.head(5).assign(level="never seen", x=np.nan, text=None, when=pd.NaT)
        out = np.asarray(fitted.transform(new), dtype="float64")
        assert out.shape[0] == 5
        assert np.isfinite(out).all() or not scale


def test_it_holds_nothing_of_surefit() -> None:
    """A model saved with it needs skrub and scikit-learn alone."""
    parts = str(surefit.preprocess(scale=True).get_params(deep=True).values())
    assert "surefit" not in parts
    modules = {type(v).__module__.split(".")[0] for v in
               surefit.preprocess().get_params(deep=True).values()}  # fmt: skip
    assert "surefit" not in modules
    assert "surefit.core.preprocess" in sys.modules
