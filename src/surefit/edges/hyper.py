"""Hyperopt's TPE (an extra) as a source of proposals, rebuilt for each from the results told."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from surefit.edges.draws import Axis, Params, Space, decode, hash_of, sobol
from surefit.errors import MissingExtraError

STARTUP = 10  # results before it models them; until then Sobol points


def check_hyperopt() -> None:
    """Refuse where Hyperopt is not installed.

    Raises:
        MissingExtraError: with the line that installs it.
    """
    if importlib.util.find_spec("hyperopt") is None:
        raise MissingExtraError("hyperopt", "hyperopt", 'tune.method = "hyperopt"')


class Hyper:
    """Hyperopt's TPE: its trials are made anew from the results told, its seed from (seed, k).

    It does not know of trials that run: two asked at once are apart by their seeds alone.
    """

    remembers = False

    def __init__(self, space: Space, seed: int, greater_is_better: bool) -> None:
        check_hyperopt()
        from hyperopt.base import Domain

        self._space, self._seed = space, seed
        self._sign = -1.0 if greater_is_better else 1.0  # Hyperopt minimises
        varied = {k: space[k].axis for k in sorted(space) if space[k].axis.high > space[k].axis.low}
        expressions = {k: _expression(k, axis) for k, axis in varied.items()}
        self._domain = Domain(None, expressions) if varied else None
        self._varied = tuple(varied)
        self._asked: dict[int, Params] = {}
        self._docs: list[dict[str, Any]] = []

    def propose(self, k: int) -> Params | None:
        if len(self._docs) < STARTUP or self._domain is None:
            params = sobol(self._space, self._seed, k)
        else:
            params = decode(self._space, self._suggested(k))
        self.adopt(k, params)
        return params

    def adopt(self, k: int, params: Params) -> None:
        self._asked[k] = params

    def told(self, k: int, value: float, state: str, steps: list[float]) -> None:
        params = self._asked.pop(k)
        score = value if state == "COMPLETE" else (steps[-1] if steps else math.nan)
        if state != "FAILED" and math.isfinite(score):
            self._docs.append(self._doc(k, params, self._sign * score))

    def _suggested(self, k: int) -> dict[str, float]:
        from hyperopt import Trials, tpe

        trials = Trials()
        trials.insert_trial_docs(self._docs)
        trials.refresh()
        seed = hash_of(self._seed, k) % 2**31
        (doc,) = tpe.suggest([k], self._domain, trials, seed, n_startup_jobs=STARTUP, verbose=False)
        return {key: _whole(self._space[key].axis, doc["misc"]["vals"][key][0])
                for key in self._varied}  # fmt: skip

    def _doc(self, k: int, params: Params, loss: float) -> dict[str, Any]:
        places = {key: self._space[key].encode(params[key]) for key in self._varied}
        return {
            "tid": k, "exp_key": None, "state": 2, "spec": None, "owner": None, "version": 0,
            "book_time": None, "refresh_time": None,
            "result": {"status": "ok", "loss": loss},
            "misc": {"tid": k, "cmd": None, "workdir": None,
                     "idxs": {key: [k] for key in places},
                     "vals": {key: [place] for key, place in places.items()}},
        }  # fmt: skip


def _expression(key: str, axis: Axis) -> Any:
    from hyperopt import hp

    if axis.kind == "choice":
        return hp.randint(key, int(axis.high) + 1)
    half = 0.5 if axis.kind == "int" else 0.0
    if axis.log:
        ends = (
            math.log(axis.low - half if axis.low > half else axis.low),
            math.log(axis.high + half),
        )
        return hp.qloguniform(key, *ends, 1) if half else hp.loguniform(key, *ends)
    ends = axis.low - half, axis.high + half
    return hp.quniform(key, *ends, 1) if half else hp.uniform(key, *ends)


def _whole(axis: Axis, place: Any) -> float:
    """A place inside the axis: rounding may have led outside."""
    number = float(place) if axis.kind == "float" else int(place)
    return min(max(number, axis.low), axis.high)
