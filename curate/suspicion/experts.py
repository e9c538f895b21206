"""Two readers of a set of features, the probe and the nearest rows, as experts on classes.

Knows how features become class probabilities that a row's own label did not touch, for training rows and for rows
that were never seen. Leaves their fusion to `fusion`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from curate.heads import content_groups, probe_of
from curate.influence.head import HeadInfluence
from curate.neighbours import Neighbours, neighbour_votes
from curate.prepare import Data
from curate.probe import SoftmaxHead, probe_inputs
from curate.progress import Progress

VOTERS = 20
"""Nearest rows that vote on a label."""
EARLY_WIDTH = 128
"""Principal components of the early features that probe and neighbours read."""
BASIS_ROWS = 20_000


@dataclass(frozen=True)
class Depth:
    """What is read at one depth of the network; probabilities and votes are ``[n C]``."""

    name: str
    left_out: Float[np.ndarray, "n C"]
    """The probe refitted without the row and its copies."""
    votes: Float[np.ndarray, "n C"]
    """Votes of the nearest rows, the row's copies left out."""
    probe: SoftmaxHead
    neighbours: Neighbours
    basis: "Basis | None"
    labels: np.ndarray
    groups: np.ndarray
    shares: Float[np.ndarray, " C"]
    """Shares of the given labels."""

    @property
    def experts(self) -> list[np.ndarray]:
        """Leave-one-out probe and smoothed votes of the training rows."""
        return [self.left_out, self._smoothed(self.votes)]

    def unseen(self, features: Float[Tensor, "m d"], progress: Progress) -> "Reading":
        """The same two readers on rows that nothing was fitted to."""
        inputs = features if self.basis is None else self.basis(features)
        probe = self.probe.logits(probe_inputs(inputs).to(self.probe.weights)).softmax(1).double().numpy()
        near, closeness = self.neighbours.nearest(inputs, VOTERS, progress, f"Their neighbours ({self.name})")
        nobody = np.full(len(near), -1)
        votes = neighbour_votes(near, closeness, self.labels, nobody, self.groups, len(self.shares), VOTERS)
        return Reading(probe, votes, [probe, self._smoothed(votes)])

    def _smoothed(self, votes: Float[np.ndarray, "m C"]) -> Float[np.ndarray, "m C"]:
        """Votes as probabilities, one vote being spread in the shares of the given labels."""
        result: np.ndarray = (votes + self.shares) / (votes.sum(1, keepdims=True) + 1)
        return result


@dataclass(frozen=True)
class Reading:
    """Probe and votes of unseen rows ``[m C]``, and both as experts."""

    probe: Float[np.ndarray, "m C"]
    votes: Float[np.ndarray, "m C"]
    experts: list[np.ndarray]


@dataclass(frozen=True)
class Basis:
    """Principal components of the early features; rotations do not matter to probe and neighbours."""

    mean: Float[Tensor, " e"]
    directions: Float[Tensor, "e k"]

    def __call__(self, features: Float[Tensor, "n e"]) -> Float[Tensor, "n k"]:
        return (features - self.mean) @ self.directions


def find_basis(features: Float[Tensor, "n e"], seed: int) -> Basis:
    rows = features
    if len(rows) > BASIS_ROWS:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:BASIS_ROWS].sort().values]
    mean = rows.mean(0)
    centred = (rows - mean).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    return Basis(mean, vectors.flip(1)[:, :EARLY_WIDTH].float())


def last_depth(data: Data, probe: SoftmaxHead, influence: HeadInfluence, near: Neighbours, progress: Progress) -> Depth:
    """The features that the head reads."""
    left_out = influence.scores.leave_one_out.softmax(1).double().numpy()
    return _depth("last features", data, data.train.features, left_out, probe, near, None, progress)


def early_depth(data: Data, seed: int, progress: Progress) -> Depth | None:
    """The features from halfway up; None where there are none, or where they do not differ between rows."""
    early = data.train.early
    if early is None or float(early.std(0).max()) == 0:
        return None
    basis = find_basis(early, seed)
    rows = basis(early)
    probe, influence = probe_of(data, rows)
    left_out = influence.scores.leave_one_out.softmax(1).double().numpy()
    return _depth("early features", data, rows, left_out, probe, Neighbours(rows, seed), basis, progress)


def _depth(
    name: str,
    data: Data,
    features: Float[Tensor, "n d"],
    left_out: Float[np.ndarray, "n C"],
    probe: SoftmaxHead,
    neighbours: Neighbours,
    basis: Basis | None,
    progress: Progress,
) -> Depth:
    given = data.train.labels.numpy()
    groups = content_groups(data.train)[1].numpy()
    # Copies of a row do not vote on it: ask for a few more, so that voters are left.
    found, closeness = neighbours.nearest(features, 2 * VOTERS, progress, f"Neighbours of every row ({name})")
    votes = neighbour_votes(found, closeness, given, groups, groups, data.classes, VOTERS)
    counts = np.bincount(given, minlength=data.classes).astype(float)
    return Depth(name, left_out, votes, probe, neighbours, basis, given, groups, counts / counts.sum())
