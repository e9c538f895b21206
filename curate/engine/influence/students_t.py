"""Student's t distribution by Gauss's rule: to import scipy's takes a tenth of a small scan."""

from math import exp, lgamma, pi, sqrt

import numpy as np
from jaxtyping import Float

NODES = 64
"""Of the rule: all digits up to some 100 degrees of freedom, whose integrand is a power of a sine that is no higher."""


def upper_tail(t: Float[np.ndarray, " m"], freedom: int) -> Float[np.ndarray, " m"]:
    """The chance of a value above each ``t``, with all digits however small it is.

    With t = √ν cot φ the density is that of sin^(ν-1) φ, which is positive: nothing is lost where it is added up.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = np.arctan2(sqrt(freedom), t) / 2
    sines = np.sin(half[:, None] * (nodes + 1))
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(pi)
    return np.asarray(scale * half * (sines ** (freedom - 1) @ weights))


def upper_quantile(chance: float, freedom: int) -> float:
    """The value that is exceeded with this chance, at most a half; by halving the angle that holds it."""
    low, high = 0.0, pi / 2
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        value = sqrt(freedom) / np.tan(middle)
        low, high = (middle, high) if upper_tail(np.array([value]), freedom)[0] < chance else (low, middle)
    return float(value)
