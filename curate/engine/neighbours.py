"""The nearest training rows in feature space: candidates for influence (FastIF, Guo et al. 2020) and label agreement.

Knows distances only; scikit-learn does the search. By default cosine, that is Euclid on rows of length one, so that a
bright picture is not far from a dark one. Wide features are projected first: the search costs rows² × columns.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from curate.process.progress import Progress

ANCHORS = 50_000
"""Beyond this many training rows, neighbours are looked for among a random sample of that size."""
WIDTH = 128
"""Wider features are projected on as many principal directions. Trial: of features of 384 and 1,280 columns 0.94 and
0.86 of the 20 nearest rows stayed the same, and suspicion's average precision within 0.005, in a half to a seventh of
the time; 64 directions cost 0.04 of it on the look-alike ones of 77 classes."""
BASIS_ROWS = 20_000
BLOCK = 2_000
FEW_COLUMNS = 8
"""Up to this many, a tree finds neighbours faster than all distances would."""


Metric = Literal["cosine", "euclidean"]


def unit_rows(features: Float[Tensor, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows scaled to length one; a row of zeros stays zero."""
    rows: np.ndarray = (features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)).float().numpy()
    return rows


def plain_rows(features: Float[Tensor, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows as they are."""
    rows: np.ndarray = features.float().numpy()
    return rows


def principal_directions(
    features: Float[Tensor, "n d"], seed: int, metric: Metric = "cosine"
) -> Float[np.ndarray, "d k"]:
    """The `WIDTH` directions that hold most of the rows' squared length, from `BASIS_ROWS` of them.

    Not centred: the angles between rows, or their distances, are what is to be kept.
    """
    if len(features) > BASIS_ROWS:
        features = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:BASIS_ROWS]]
    rows = (unit_rows if metric == "cosine" else plain_rows)(features).astype(np.float64)
    directions: np.ndarray = np.linalg.eigh(rows.T @ rows)[1][:, : -WIDTH - 1 : -1].astype(np.float32)
    return directions


class Neighbours:
    """An index over the training rows ``[n d]``; ``anchors`` are the rows that are looked among."""

    def __init__(self, features: Float[Tensor, "n d"], seed: int, metric: Metric = "cosine") -> None:
        self.n, self.metric = len(features), metric
        rows = np.arange(self.n)
        if self.n > ANCHORS:
            rows = np.sort(np.random.default_rng(seed).permutation(self.n)[:ANCHORS])
        self.anchors = rows
        self._directions = principal_directions(features, seed, metric) if features.shape[1] > WIDTH else None
        search = "kd_tree" if features.shape[1] <= FEW_COLUMNS else "brute"
        self._index = NearestNeighbors(algorithm=search).fit(self._rows(features[torch.from_numpy(rows)]))

    def _rows(self, features: Float[Tensor, "m d"]) -> Float[np.ndarray, "m k"]:
        if self.metric == "euclidean":
            rows = plain_rows(features)
            return rows if self._directions is None else rows @ self._directions
        rows = unit_rows(features)
        return rows if self._directions is None else unit_rows(torch.from_numpy(rows @ self._directions))

    def nearest(
        self, queries: Float[Tensor, "m d"], k: int, progress: Progress | None = None, title: str = "Neighbours"
    ) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
        """Training rows nearest to each query and their similarity, nearest first; k is cut to what there is.

        The similarity is the cosine; by Euclidean distance it is 1 for every row, whose votes count alike.
        """
        k = min(k, len(self.anchors))
        found, similarity = [], []
        rows = self._rows(queries)
        with (progress or Progress.silent()).stage(title, len(rows)) as advance:
            for start in range(0, len(rows), BLOCK):
                distance, index = self._index.kneighbors(rows[start : start + BLOCK], k)
                # Ties in distance come in any order: the lower row first, so that threads do not change the answer.
                order = np.lexsort((index, np.round(distance, 6)), axis=1)
                found.append(self.anchors[np.take_along_axis(index, order, 1)])
                near = np.take_along_axis(distance, order, 1)
                similarity.append(1 - near**2 / 2 if self.metric == "cosine" else np.ones_like(near))
                advance(len(index))
        return np.concatenate(found), np.concatenate(similarity)


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
