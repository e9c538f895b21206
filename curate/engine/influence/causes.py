"""Harmful rows with one cause: near one another, the same given label, and taken for the same other class.

Such rows mostly came in together: a folder with the wrong name, a slip in a script. Knows how rows are joined; leaves
what `harmful` means to `harmful` and distances to `neighbours`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

FEWEST = 2
"""Rows that make a group."""


@dataclass(frozen=True)
class Cause:
    """Harmful rows that belong together, most harm first."""

    rows: Int[np.ndarray, " m"]
    given: int
    suggested: int


def find_causes(
    rows: Int[np.ndarray, " h"],
    near: Int[np.ndarray, "h K"],
    given: Int[np.ndarray, " n"],
    suggested: Int[np.ndarray, " n"],
) -> list[Cause]:
    """Groups of two and more, largest first. ``near`` are the K training rows nearest to each of ``rows``.

    Two rows are joined where one of them is among the K nearest of the other and their pair of labels is the same.
    """
    if not len(rows):
        return []
    place = np.full(len(given), -1)
    place[rows] = np.arange(len(rows))
    one, other = np.repeat(np.arange(len(rows)), near.shape[1]), place[near].ravel()
    pair = given[rows] * (int(suggested.max()) + 1) + suggested[rows]
    joined = (other >= 0) & (pair[one] == pair[other])
    number = connected(np.stack([one[joined], other[joined]], 1), len(rows))
    first, sizes = np.unique(number, return_counts=True)
    groups = [rows[number == group] for group in first[sizes >= FEWEST]]
    groups = sorted(groups, key=lambda group: (-len(group), int(group[0])))
    return [Cause(group, int(given[group[0]]), int(suggested[group[0]])) for group in groups]


def connected(pairs: Int[np.ndarray, "m 2"], n: int) -> Int[np.ndarray, " n"]:
    """The least of the numbers below ``n`` that each is connected to by pairs, itself if by none.

    Each takes the lower number of a pair's, and then the number of that: a chain is gone through in leaps.
    """
    number = np.arange(n)
    while True:
        before = number.copy()
        lower = number[pairs].min(1)
        np.minimum.at(number, number[pairs].ravel(), np.repeat(lower, 2))
        np.minimum.at(number, pairs.ravel(), np.repeat(lower, 2))
        number = number[number]
        if np.array_equal(number, before):
            return number
