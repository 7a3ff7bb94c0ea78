"""Optuna's TPE as a search asks it: told the axes, and with SciPy's normal distribution.

Two fifths of a proposal's time went into the logarithm of the normal distribution, which Optuna
computes value by value in Python so as not to need SciPy. SciPy is here anyway. The proposals are
the same but for the last bit of a number (`tests/test_search.py` compares), and only while we ask:
a study of the user's own, before, after or in another thread, keeps Optuna's function.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

# Results before TPE models them. Regret as a share of random search's after 20, 30 and 50 trials at
# window 8 (48 noisy functions of five parameters; one step of the table is within the noise):
# Sobol, then TPE from 2: .78 .55 .33; 4: .76 .46 .29; 6: .80 .50 .27; 10: .79 .49 .27;
# random, then TPE from 10, Optuna's default: .85 .63 .40.
STARTUP = 4

_we_ask = contextvars.ContextVar("surefit asks TPE", default=False)


def sampler(
    seed: int, axes: Mapping[str, optuna.distributions.BaseDistribution] | None
) -> optuna.samplers.TPESampler:
    """A sampler for one proposal; `axes` are known where every trial has the same."""
    made: optuna.samplers.TPESampler = _kind()(seed=seed, n_startup_trials=STARTUP)
    made.axes = axes
    return made


@functools.cache
def _kind() -> Any:
    from optuna.samplers import TPESampler

    class TPEOfAxes(TPESampler):
        """TPE that is told the axes, where Optuna's own goes through all trials to find them."""

        axes: Mapping[str, Any] | None = None

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            if self.axes is None:
                space: dict[str, Any] = super().infer_relative_search_space(study, trial)
                return space
            return dict(self.axes)

    return TPEOfAxes


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Within this block, and in this thread alone, TPE's normal distribution is SciPy's."""
    _teach()
    before = _we_ask.set(True)
    try:
        yield
    finally:
        _we_ask.reset(before)


@functools.cache
def _teach() -> None:
    """Have Optuna ask who is asking. A version that has no such function is left alone."""
    from scipy.special import log_ndtr

    try:
        from optuna.samplers._tpe import _truncnorm
    except ImportError:
        return
    own = getattr(_truncnorm, "_log_ndtr", None)
    if own is not None:
        _truncnorm._log_ndtr = lambda x: log_ndtr(x) if _we_ask.get() else own(x)
