"""The nearest training rows in feature space: candidates for influence (FastIF, Guo et al. 2020) and label agreement.

Knows distances only. By default cosine, that is Euclid on rows of length one, so that a bright picture is not far from
a dark one. Wide features are projected first: the search costs rows² × columns. Few pairs of rows are all compared, by
blocked matrix products. Of many, rows are dealt into cells by k-means (an inverted file, Sivic & Zisserman 2003), and
those of the nearest cells are compared; what that misses is measured.
"""

from collections.abc import MutableMapping
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from curate.engine.cells import CellIndex, Near, halves_of, in_order, nearest_of, parts_against
from curate.engine.passes import ALONE, Passes
from curate.process.progress import Advance, Progress

WIDTH = 128
"""Wider features are projected on as many principal directions. Trial: of features of 384 and 1,280 columns 0.94 and
0.86 of the 20 nearest rows stayed the same, and suspicion's average precision within 0.005, in a half to a seventh of
the time; 64 directions cost 0.04 of it on the look-alike ones of 77 classes."""
BASIS_ROWS = 20_000
MOST_PAIRS = 2**30
"""Queries times rows up to which all are compared: 32,768 rows with one another."""
MANY_PAIRS = 2**27
"""And from which other queries are dealt into cells that there are already: those of 2,000 rows in 60,000."""
PROBED_ROWS = 8_192
"""Rows that a query is compared with where they are dealt into cells, about."""
AGAINST = 2**17
"""Rows that queries are compared with at a time where all are."""
FEW_COLUMNS = 8
"""Up to this many, a tree finds neighbours faster than all distances would."""
CHEAP = 1_024
"""Columns whose product has its eigenvectors in a fraction of a second."""
LEAST_SIZE = 1e-12
"""Share of the largest squared length below which a direction is rounding."""
MEASURED_QUERIES = 256
"""Queries that are also compared with all rows, where cells answer."""


Metric = Literal["cosine", "euclidean"]


def unit_rows(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows scaled to length one; a row of zeros stays zero."""
    rows: Tensor = (features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)).float()
    return rows


def principal_directions(
    features: Float[Tensor, "n d"], seed: int, metric: Metric = "cosine", passes: Passes = ALONE
) -> Float[Tensor, "d k"]:
    """The `WIDTH` directions that hold most of the rows' squared length, from `BASIS_ROWS` of them.

    Not centred: the angles between rows, or their distances, are what is to be kept.
    """
    if len(features) > BASIS_ROWS:
        features = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:BASIS_ROWS]]
    rows = unit_rows(features) if metric == "cosine" else features.float()
    return largest_directions(rows, WIDTH, passes).float()


def largest_directions(rows: Float[Tensor, "n d"], width: int, passes: Passes = ALONE) -> Float[Tensor, "d k"]:
    """The ``width`` orthonormal directions of most squared length, float64, the longest first; of fewer rows as many as
    theirs.

    By the smaller of the two products of the rows with themselves; up to `CHEAP` columns by theirs.
    """
    found: Tensor
    if rows.shape[1] <= max(len(rows), CHEAP):

        def moments(some: slice) -> Tensor:
            part = rows[some].double()
            return part.T @ part

        found = torch.linalg.eigh(passes.total(len(rows), passes.budget.sum_rows, moments))[1].flip(1)[:, :width]
        return found
    rows = rows.double()
    sizes, combined = torch.linalg.eigh(rows @ rows.T)
    some = sizes.flip(0)[:width] > LEAST_SIZE * sizes[-1]
    found = torch.linalg.qr(rows.T @ combined.flip(1)[:, :width][:, some]).Q
    return found


class Neighbours:
    """An index over the training rows ``[n d]``."""

    def __init__(
        self,
        features: Float[Tensor, "n d"],
        seed: int,
        metric: Metric = "cosine",
        most_pairs: int = MOST_PAIRS,
        probed: int = PROBED_ROWS,
        passes: Passes = ALONE,
    ) -> None:
        """Queries times rows beyond ``most_pairs`` are compared with about ``probed`` rows each, in cells."""
        self.n, self.metric, self._seed = len(features), metric, seed
        self._most_pairs, self._probed = most_pairs, probed
        self.passes = passes
        if features.shape[1] > FEW_COLUMNS:
            features = passes.near(features)
        self._directions = principal_directions(features, seed, metric, passes) if features.shape[1] > WIDTH else None
        self._index = passes.each(len(features), lambda rows: self._rows(features[rows]))
        self._numbers = torch.arange(self.n)
        """Of the rows of the index."""
        self._among: tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]] | None = None
        self._asked: MutableMapping[Tensor, tuple[int, tuple[np.ndarray, np.ndarray]]] = WeakIdKeyDictionary()
        """Of queries, as long as they are there, the last k and what was found."""
        self.recall: float | None = None
        """Share of the true neighbours that the cells found, on some queries; None where all rows were compared."""

    def _rows(self, features: Float[Tensor, "m d"]) -> Float[Tensor, "m k"]:
        if self.metric == "euclidean":
            return features.float() if self._directions is None else features.float() @ self._directions
        rows = unit_rows(features)
        return rows if self._directions is None else unit_rows(rows @ self._directions)

    def among(
        self, k: int, progress: Progress | None = None, title: str = "Neighbours"
    ) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
        """The same for each of the rows themselves, one of which is the row. Found once for the largest k asked."""
        k = min(k, self.n)
        if self._among is None or self._among[0].shape[1] < k:
            if self._dealt_into_cells(self.n, k):
                _ = self._cells  # rows of a cell stand together then: one process compares them with the same ones
            own = self.passes.own(self.n)
            self._among = self._nearest(self._index[own], self._numbers.cpu()[own], self.n, k, progress, title)
        return self._among[0][:, :k], self._among[1][:, :k]

    def nearest(
        self, queries: Float[Tensor, "m d"], k: int, progress: Progress | None = None, title: str = "Neighbours"
    ) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
        """Training rows nearest to each query and their similarity, nearest first; k is cut to what there is.

        The similarity is the cosine; by Euclidean distance it is 1 for every row, whose votes count alike. The same
        queries are looked up once.
        """
        asked, known = self._asked.get(queries, (None, None))
        if known is not None and asked == k:
            return known
        own = self.passes.own(len(queries))
        rows = self._rows(queries[own].to(self._index.device))
        places = torch.arange(len(queries))[own]
        found, similarity = self._nearest(rows, places, len(queries), min(k, self.n), progress, title)
        known = found.astype(np.int64), similarity
        self._asked[queries] = k, known
        return known

    def _nearest(
        self,
        own: Float[Tensor, "o d"],
        places: Int[Tensor, " o"],
        m: int,
        k: int,
        progress: Progress | None,
        title: str,
    ) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
        """``own`` are this process's part of ``m`` queries, those at these places."""
        with (progress or Progress.silent()).stage(title, m) as advance:
            if own.shape[1] <= FEW_COLUMNS:
                nearest = self._by_tree(own, k)
                advance(len(own))
            elif self._dealt_into_cells(m, k):
                nearest = self._by_cells(own, k, advance)
            else:
                nearest = self._by_all(own, k, advance)
        found, distance = (part.cpu() for part in nearest)
        similarity = 1 - distance.double() ** 2 / 2 if self.metric == "cosine" else torch.ones(distance.shape).double()
        numbers, alike = (self.passes.placed(m, places, part) for part in (found.int(), similarity))
        assert numbers is not None
        assert alike is not None
        return numbers.numpy(), alike.numpy()

    def _dealt_into_cells(self, m: int, k: int) -> bool:
        """Whether so many queries are compared with some cells only."""
        most = min(self._most_pairs, MANY_PAIRS) if "_cells" in vars(self) else self._most_pairs
        return self._index.shape[1] > FEW_COLUMNS and m * self.n > most and k <= self._probed // 4

    @cached_property
    def _cells(self) -> CellIndex:
        """The rows in cells; the index stands in their order from then on, and not twice."""
        cells = CellIndex(self._index, self._seed, self.passes)
        self._index, self._numbers = cells.rows, cells.order
        return cells

    def _by_tree(self, rows: Float[Tensor, "m d"], k: int) -> Near:
        from scipy.spatial import cKDTree

        distance, index = cKDTree(self._index.cpu().numpy()).query(rows.cpu().numpy(), range(1, k + 1))
        return in_order(torch.from_numpy(index), torch.from_numpy(distance))

    def _by_all(self, rows: Float[Tensor, "m d"], k: int, advance: Advance) -> Near:
        parts, halves = [], halves_of(self._index)
        for part in parts_against(rows, min(self.n, AGAINST), self.passes.budget):
            parts.append(nearest_of(part, self._index, halves, k, self._numbers, AGAINST))
            advance(len(part))
        found, distance = zip(*parts, strict=True)
        return torch.cat(found), torch.cat(distance)

    def _by_cells(self, rows: Float[Tensor, "m d"], k: int, advance: Advance) -> Near:
        found, distance = self._cells.nearest(rows, k, self._probed, advance)
        some = torch.arange(0, len(rows), max(1, len(rows) * self.passes.count // MEASURED_QUERIES))
        true, _ = self._by_all(rows[some], k, lambda _: None)
        both = zip(true.cpu().numpy(), found[some].cpu().numpy(), strict=True)
        hits = sum(len(np.intersect1d(*pair)) for pair in both)
        hits, asked = self.passes.sum(torch.tensor([hits, k * len(some)])).tolist()
        self.recall = hits / asked
        return found, distance


def neighbour_votes(
    found: Int[np.ndarray, "m k"],
    similarity: Float[np.ndarray, "m k"],
    labels: Int[np.ndarray, " n"],
    excluded: Int[np.ndarray, " m"],
    groups: Int[np.ndarray, " n"],
    classes: int,
    k: int,
) -> Float[np.ndarray, "m C"]:
    """Votes of the k nearest rows per class, each with weight cosine², a row's own group left out.

    ``groups`` number the training rows by content; ``excluded`` is the group of each query (-1: none), so that
    copies do not vouch for one another.
    """
    allowed = groups[found] != excluded[:, None]
    allowed &= np.cumsum(allowed, axis=1) <= k
    weight = np.where(allowed, np.clip(similarity, 0, None) ** 2, 0.0)
    votes = np.zeros((len(found), classes))
    rows = np.repeat(np.arange(len(found)), found.shape[1])
    np.add.at(votes, (rows, labels[found].ravel()), weight.ravel())
    return votes
