"""What a worker runs for a model: one fold of a training run, or of a search's trial.

A worker imports this file and what it imports at its start: nothing of a store or an optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from surefit.core import fit
from surefit.core.fit import FoldResult, Problem
from surefit.edges import shelf

FAMILY = "model.family"  # in a trial's parameters, beside those of its family


def of_run(problem: Problem, params: dict[str, Any], fold: int) -> FoldResult:
    """One fold of a training run, with its curve."""
    return fit.fit_fold(problem, params, fold, curve=True)


def of_trial(
    problem: Problem, params: dict[str, Any], fold: int, limits: tuple[float, ...] = ()
) -> FoldResult:
    """One fold of one trial."""
    return fit.fit_fold(*of_family(problem, params), fold, limits=limits, share=shelf.once)


def of_family(problem: Problem, params: Mapping[str, Any]) -> tuple[Problem, dict[str, Any]]:
    """The problem for the family that parameters name, and its own parameters."""
    mine = dict(params)
    name = mine.pop(FAMILY, problem.family)
    return (problem if name == problem.family else replace(problem, family=name)), mine
