"""Small implementations of published tests, to hold ours against."""

import numpy as np
from scipy.stats import binomtest


def delong(y, a, b):
    """DeLong, DeLong and Clarke-Pearson (1988): difference of two areas and its standard error."""
    parts = []
    for score in (a, b):
        pos, neg = score[y == 1], score[y == 0]
        psi = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
        parts.append((psi.mean(axis=1), psi.mean(axis=0)))
    (v10a, v01a), (v10b, v01b) = parts
    d10, d01 = v10a - v10b, v01a - v01b
    variance = d10.var(ddof=1) / len(d10) + d01.var(ddof=1) / len(d01)
    return d10.mean(), np.sqrt(variance)


def mcnemar(right_a, right_b):
    """McNemar's exact test: the p value of as many rows being right by one alone."""
    a, b = (right_a & ~right_b).sum(), (~right_a & right_b).sum()
    return binomtest(int(a), int(a + b)).pvalue if a + b else 1.0
