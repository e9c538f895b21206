"""Ranks of numbers and Spearman's correlation: what little is needed of a library of statistics that takes a second."""

import numpy as np
from jaxtyping import Float


def ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1, 2, ... from the smallest; equal numbers share the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    result: np.ndarray = (last - (counts - 1) / 2)[place]
    return result


def spearman(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """The correlation of the ranks, -1 to 1; NaN if either is constant."""
    left, right = (ranks(values) - (len(values) + 1) / 2 for values in (one, other))
    size = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / size if size else float("nan")
