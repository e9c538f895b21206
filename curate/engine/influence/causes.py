"""Harmful rows with one cause: near one another, the same given label, and taken for the same other class.

Such rows mostly came in together: a folder with the wrong name, a slip in a script. Knows how rows are joined; leaves
what `harmful` means to `harmful` and distances to `neighbours`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

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
    edges = coo_matrix((np.ones(joined.sum()), (one[joined], other[joined])), shape=(len(rows), len(rows)))
    _, number = connected_components(edges, directed=False)
    groups = [rows[number == group] for group in range(number.max() + 1)]
    groups = sorted((group for group in groups if len(group) >= FEWEST), key=lambda group: (-len(group), int(group[0])))
    return [Cause(group, int(given[group[0]]), int(suggested[group[0]])) for group in groups]
