"""How often test rows have been looked at; fresh rows bring the count down again."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


def number(row_key: np.ndarray, earlier: Iterable[np.ndarray]) -> int:
    """Which look the coming one is: 1 + the mean number of earlier looks a row, rounded up.

    Args:
        row_key: (n,) digests of the contents of the rows to look at.
        earlier: the digests of the rows of each earlier look, whatever split they belonged to.
    """
    if len(row_key) == 0:
        return 1
    counts = np.zeros(len(row_key))
    for keys in earlier:
        counts += np.isin(row_key, keys)
    return 1 + math.ceil(round(float(counts.mean()), 9))
