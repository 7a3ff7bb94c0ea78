"""One set of resamples for a whole comparison, and how it stands beside other methods."""

import numpy as np
import pytest

from simulate import equals
from surefit.core import contest, metrics, ranking, stats
from surefit.core.winner import corrected_best


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "log_loss"])
def test_sharing_resamples_changes_no_answer(name):
    """Ranking, intervals and correction are what each function gives on its own."""
    y, found = equals(150, 5, np.random.default_rng(4))
    further = {k: found.pop(k) for k in ("c3", "c4")}
    metric, folds = metrics.find(name, "binary"), np.zeros(150, dtype=int)
    whole = contest.judge(metric, y, found, further, folds=folds, n_resamples=1000)
    alone = ranking.rank(metric, y, found, folds=folds, n_resamples=1000)
    assert whole.ranking.to_dict() == alone.to_dict()
    for candidate, pred in found.items():
        score = stats.score(metric, y, pred, folds=folds, n_resamples=1000)
        assert whole.scores[candidate].to_dict() == pytest.approx(score.to_dict())
    corrected = corrected_best(metric, y, found | further, folds=folds, n_resamples=1000)
    assert whole.corrected.to_dict() == corrected.to_dict()


def test_a_single_candidate_was_picked_from_nothing():
    """Alone, a candidate has a score and needs no correction."""
    y, found = equals(100, 1, np.random.default_rng(4))
    metric = metrics.find("roc_auc", "binary")
    whole = contest.judge(metric, y, found, {}, n_resamples=50)
    assert whole.corrected is None
    assert whole.ranking.best == "c0"
