"""The nearest of given rows by blocked products, all of them or those in the nearest of many cells.

Rows are dealt into cells by k-means (Sivic & Zisserman 2003), and the queries of a cell are compared with the rows of
the cells nearest to it: one matrix product a cell. Knows points and Euclidean distances only.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.passes import Budget, Passes, pieces, slices
from curate.process.progress import Advance

TOGETHER = 16
"""Products of which the largest is looked at first. Trial, 8,192 to 131,072 products a query: two thirds of the time
that groups of 32 neighbouring ones take."""
SPARE = 8
"""Rows beyond k whose distance is taken once more, without the rounding of products."""
LEARNT_ROWS, ROUNDS = 20, 5
"""Rows a cell that k-means looks at, and how often."""

Near = tuple[Int[Tensor, "m k"], Float[Tensor, "m k"]]
"""Numbers of rows, and their distances."""


def parts_against(queries: Float[Tensor, "m d"], n: int, budget: Budget) -> tuple[Float[Tensor, "_ d"], ...]:
    """The queries, as many at a time as their products with n rows may fill a block."""
    return pieces(queries, budget.rows(n))


def halves_of(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """-|a|² / 2 of each row a: |q - a|² falls as q · a - |a|² / 2 rises."""
    return -0.5 * rows.square().sum(1)


def nearest_of(
    queries: Float[Tensor, "m d"],
    rows: Float[Tensor, "n d"],
    halves: Float[Tensor, " n"],
    k: int,
    numbers: Int[Tensor, " n"] | None = None,
    block: int | None = None,
) -> Near:
    """The k nearest rows to each query, nearest first; ``halves`` are `halves_of` the rows, ``numbers`` what they are
    called. They are gone through ``block`` at a time: few queries and many rows make a slow product."""
    most = min(k + SPARE, len(rows))
    picked = []
    for some in slices(len(rows), block or len(rows)):
        products = torch.addmm(halves[some], queries, rows[some].T)
        places = largest(products, min(most, products.shape[1]))
        picked.append((products.gather(1, places), places + some.start))
    values, index = (torch.cat(part, dim=1) for part in zip(*picked, strict=True))
    if len(picked) > 1:
        index = index.gather(1, largest(values, most))
    distance = (rows[index] - queries[:, None]).norm(dim=2)
    index, distance = in_order(index if numbers is None else numbers.to(rows.device)[index], distance)
    return index[:, :k], distance[:, :k]


def largest(values: Float[Tensor, "m n"], k: int) -> Int[Tensor, "m k"]:
    """Places of the k largest values of each row, in any order.

    They are in the k groups whose largest value is largest. The values of a group stand as far apart as there are
    groups, so that the largest of many groups are found side by side.
    """
    groups = values.shape[1] // TOGETHER
    if groups <= 2 * k:
        return values.topk(k, sorted=False).indices
    inside = groups * TOGETHER
    tops = values[:, :inside].view(len(values), TOGETHER, groups).amax(1).topk(k, sorted=False).indices
    places = (tops[:, None] + groups * torch.arange(TOGETHER, device=values.device)[:, None]).flatten(1)
    rest = torch.arange(inside, values.shape[1], device=values.device).expand(len(values), -1)
    places = torch.cat([places, rest], dim=1)
    return places.gather(1, values.gather(1, places).topk(k, sorted=False).indices)


def in_order(index: Int[Tensor, "m k"], distance: Float[Tensor, "m k"]) -> Near:
    """Nearest first; the lower row first among equals, so that threads and blocks do not change the answer."""
    index, order = index.sort(dim=1)
    distance = distance.gather(1, order)
    order = (distance * 1e6).round().sort(dim=1, stable=True).indices
    return index.gather(1, order), distance.gather(1, order)


class CellIndex:
    """``rows [n d]`` by cell; ``seed`` draws the rows that k-means looks at."""

    def __init__(self, rows: Float[Tensor, "n d"], seed: int, passes: Passes) -> None:
        self._budget = passes.budget
        count = max(1, round(2 * math.sqrt(len(rows))))
        self.centres = _means(rows, count, seed, passes)
        cell = dealt(rows, self.centres, passes)
        self.order = cell.argsort(stable=True)
        """Numbers of the rows, cell by cell."""
        self.rows = passes.each(len(rows), lambda some: rows[self.order[some]])
        self._halves = passes.each(len(rows), lambda some: halves_of(self.rows[some]))
        self.sizes = torch.bincount(cell, minlength=count)
        starts = self.sizes.cumsum(0) - self.sizes
        self.spans = list(zip(starts.tolist(), (starts + self.sizes).tolist(), strict=True))
        """Of each cell, the first of its rows and the one behind its last."""

    def nearest(self, queries: Float[Tensor, "m d"], k: int, probed: int, advance: Advance) -> Near:
        """Of the rows in the cells nearest to each query's own, enough cells to hold ``probed`` rows, at least k."""
        found = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
        distance = torch.empty(len(queries), k, device=queries.device)
        for of_cell, near in self._by_cell(queries, probed):
            rows, halves, numbers = self.rows[near], self._halves[near], self.order[near]
            for part in pieces(of_cell, self._budget.rows(len(near))):
                found[part], distance[part] = nearest_of(queries[part], rows, halves, k, numbers)
                advance(len(part))
        return found, distance

    def _by_cell(self, queries: Float[Tensor, "m d"], enough: int) -> Iterator[tuple[Tensor, Tensor]]:
        """For each cell with queries: their numbers, and the places of the rows they are compared with."""
        cell = assigned(queries, self.centres, self._budget)
        order = cell.argsort(stable=True)
        for own in order.split_with_sizes(torch.bincount(cell, minlength=len(self.centres)).tolist()):
            if len(own):
                centre = self.centres[cell[own[0]]]
                cells = (self.centres - centre).norm(dim=1).argsort()
                count = int((self.sizes[cells].cumsum(0) < enough).sum()) + 1
                spans = [self.spans[each] for each in cells[:count].tolist()]
                yield own, torch.cat([torch.arange(*span, device=order.device) for span in spans])


def assigned(rows: Float[Tensor, "n d"], centres: Float[Tensor, "c d"], budget: Budget) -> Int[Tensor, " n"]:
    """The nearest centre of each row."""
    half, found = halves_of(centres), torch.empty(len(rows), dtype=torch.long, device=rows.device)
    parts = parts_against(rows, len(centres), budget)
    # A small tensor that stays would be put behind each large one, in whose place the next does not fit: gigabytes.
    for part, numbers in zip(parts, found.split_with_sizes([len(part) for part in parts]), strict=True):
        torch.argmax(torch.addmm(half, part, centres.T), 1, out=numbers)
    return found


def dealt(rows: Float[Tensor, "n d"], centres: Float[Tensor, "c d"], passes: Passes) -> Int[Tensor, " n"]:
    """The same, each process some of the rows."""
    return passes.collect([assigned(rows[passes.own(len(rows))], centres, passes.budget)])


def _means(rows: Float[Tensor, "n d"], count: int, seed: int, passes: Passes) -> Float[Tensor, "c d"]:
    """k-means on some of the rows; a centre that nobody is nearest to stays where it is."""
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[: LEARNT_ROWS * count]]
    centres = some[:count].clone()
    for _ in range(ROUNDS):
        cell = dealt(some, centres, passes)
        sizes = torch.bincount(cell, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, cell, some)
        there = sizes > 0
        centres[there] = sums[there] / sizes[there, None]
    return centres
