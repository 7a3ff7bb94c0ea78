"""Racing: what is dropped after a fold, and what never is."""

import numpy as np

from surefit.core import metrics, race

AUC = metrics.find("roc_auc", "binary")
RMSE = metrics.find("rmse", "regression")
TOLD = [(k, [0.80 + k / 1000, 0.81 + k / 1000, 0.82 + k / 1000]) for k in range(12)]


def limits(greater=True):
    """Of twelve complete trials; number 9 is the third best, or, of losses, number 2."""
    return race.limits(TOLD, 3, greater_is_better=greater)


def test_nothing_is_dropped_before_five_are_complete_or_with_one_fold():
    """There is nothing to hold a trial against."""
    assert race.limits(TOLD[:4], 3, greater_is_better=True) is None
    assert race.limits([(k, s[:1]) for k, s in TOLD], 1, greater_is_better=True) is None
    assert not race.is_behind([0.1], None, greater_is_better=True)


def test_two_percent_behind_the_third_best_is_dropped_unless_the_rows_say_chance():
    """In both directions of the metric; the last fold drops nothing."""
    for greater, far, near in ((True, 0.78, 0.80), (False, 0.83, 0.81)):
        against = limits(greater)
        assert against.rival == (9 if greater else 2)
        assert race.is_behind([far], against, greater_is_better=greater)
        assert not race.is_behind([near], against, greater_is_better=greater)
        assert not race.is_behind([far], against, greater_is_better=greater, spread=0.5)
        assert not race.is_behind([far] * 3, against, greater_is_better=greater)
    kept = race.Limits(**limits().to_json())
    assert kept == limits()


def test_a_small_shortfall_that_the_rows_are_sure_of_is_dropped():
    """Four standard errors, paired by row."""
    assert race.is_behind([0.80], limits(), greater_is_better=True, spread=0.002)
    assert not race.is_behind([0.80], limits(), greater_is_better=True, spread=0.003)
    assert not race.is_behind([0.82], limits(), greater_is_better=True, spread=1e-9)


def test_the_spread_of_a_difference_is_that_of_many_samples():
    """Paired by row it is far below that of either score, and right within a fifth."""
    rng = np.random.default_rng(1)
    gaps, spreads, alone = [], [], []
    for _ in range(200):
        y = rng.integers(0, 2, 300)
        signal = y + rng.normal(size=300)
        a, b = (signal + 0.2 * rng.normal(size=300) for _ in range(2))
        pa, pb = (np.column_stack([1 - p, p]) for p in (a, b))
        gaps.append(metrics.value(AUC, y, pa) - metrics.value(AUC, y, pb))
        shares = [race.fold_shares(AUC, y, p) for p in (pa, pb)]
        spreads.append(race.paired_spread(shares[:1], shares[1:]))
        alone.append(np.sqrt((shares[0] ** 2).sum()))
    assert abs(np.mean(spreads) / np.std(gaps) - 1) < 0.2
    assert np.mean(spreads) < 0.5 * np.mean(alone)


def test_the_winner_is_hardly_ever_dropped_where_trials_are_close():
    """60 regressions of known worth, in 40 orders: the best is kept in at least 39."""
    rng = np.random.default_rng(2)
    n, lost = 400, 0
    for seed in range(40):
        world = np.random.default_rng([3, seed])
        y = world.normal(size=(3, n))
        worth = 1 + np.sort(rng.exponential(0.05, 30))
        common = world.normal(size=(3, n))
        noise = 0.2 * world.normal(size=(30, 3, n))
        preds = y + worth[:, None, None] * (common + noise)
        scores = np.array([[metrics.value(RMSE, y[f], p[f]) for f in range(3)] for p in preds])
        shares = [[race.fold_shares(RMSE, y[f], p[f]) for f in range(3)] for p in preds]
        best, told, dropped = int(scores.mean(axis=1).argmin()), [], False
        for trial in world.permutation(30):
            against = race.limits(told, 3, greater_is_better=False)
            ended = False
            for f in range(2):
                if against is None:
                    break
                spread = race.paired_spread(shares[trial][: f + 1], shares[against.rival][: f + 1])
                ended = ended or race.is_behind(
                    scores[trial, : f + 1].tolist(), against, greater_is_better=False, spread=spread
                )
            if ended:
                dropped = dropped or trial == best
            else:
                told.append((int(trial), scores[trial].tolist()))
        lost += dropped
    assert lost <= 1
