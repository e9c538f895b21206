"""Experts: readers of features that give class probabilities which a row's own label did not touch.

`plugs.EXPERTS` is their table: a new one is one entry, and has a say in suspicion. Each reads one depth of the network
(its inputs, its early features, its last ones), for training rows left out and for rows that were never seen. Leaves
their fusion to `fusion`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.neighbours import Neighbours, largest_directions, neighbour_votes
from curate.engine.passes import ALONE, Passes
from curate.engine.probe import LENGTH, SoftmaxHead, probe_inputs
from curate.engine.suspicion.crossfit import Copies, left_out
from curate.engine.suspicion.fourier import fit_ridge
from curate.plugs import EXPERTS
from curate.process.progress import Progress

VOTERS = 20
"""Nearest rows that vote on a label."""
EUCLIDEAN_VOTERS = 10
EARLY_WIDTH, LAST_WIDTH = 128, 256
"""Principal components that experts read: of early features and inputs, and of last features wider than that."""
BASIS_ROWS = 20_000

Probabilities = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class Material:
    """What an expert is fitted to: ``features [n d]`` of the training rows and their labels."""

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    classes: int
    copies: Copies
    neighbours: Neighbours
    """By cosine, of these features."""
    fitted: bool
    """A network may have fitted these features to these labels: nothing is to be chosen by the labels' likelihood."""
    seed: int
    progress: Progress
    name: str
    """Of the depth."""
    alike: bool = False
    """Columns are on one scale, as principal components are: standardised one by one the least would weigh as much as
    the first."""

    @property
    def passes(self) -> Passes:
        """How rows go through: as those of the neighbours."""
        return self.neighbours.passes

    def each(self, of: Callable[[Float[Tensor, "m d"]], Float[Tensor, "m D"]]) -> Float[Tensor, "n D"]:
        """What ``of`` makes of the features of each row."""
        return self.passes.each(len(self.features), lambda rows: of(self.features[rows]))

    @property
    def shares(self) -> Float[np.ndarray, " C"]:
        """Shares of the given labels."""
        counts = np.bincount(self.labels.numpy(), minlength=self.classes).astype(float)
        result: np.ndarray = counts / counts.sum()
        return result

    @cached_property
    def votes(self) -> Float[np.ndarray, "n C"]:
        """Votes on the training rows of the nearest others by angle, weighted by cosine²."""
        return _votes(self, self.neighbours, VOTERS, None)

    def smoothed(self, votes: Probabilities) -> Probabilities:
        """Votes as probabilities, one vote being spread in the shares of the given labels."""
        result: np.ndarray = (votes + self.shares) / (votes.sum(1, keepdims=True) + 1)
        return result


@dataclass(frozen=True)
class Opinion:
    """What an expert says: of the training rows, each left out, ``[n C]``; ``unseen`` says it of other rows."""

    left_out: Probabilities
    unseen: Callable[[Float[Tensor, "m d"]], Probabilities]


@dataclass(frozen=True)
class Scaling:
    """All columns standardised once, and the table scaled so that the mean row has the probe's length."""

    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        # In float64: columns of numbers near the largest float32 have no variance in it.
        return ((features.double() - self.mean) * self.scale).float()


def scaling_of(material: Material) -> Scaling:
    """Columns that do not move have no weight."""
    mean, spread = material.passes.spread(material.features)
    if material.alike:
        spread = torch.full_like(spread, float(spread.square().mean().sqrt()))
    moving = spread > 1e-12
    length = LENGTH / max(1.0, float(moving.sum())) ** 0.5
    return Scaling(mean, torch.where(moving, length / spread.clamp_min(1e-12), torch.zeros_like(spread)))


def probe_left_out(material: Material, inputs: Callable[[Tensor], Tensor]) -> tuple[Opinion, SoftmaxHead]:
    """A softmax probe on what ``inputs`` makes of features."""
    x = material.each(inputs)
    found = left_out(
        x, material.labels, material.classes, material.copies, choose=not material.fitted, passes=material.passes
    )

    def unseen(features: Float[Tensor, "m d"]) -> Probabilities:
        rows = inputs(features).to(found.head.weights)
        result: np.ndarray = found.head.logits(rows).softmax(1).double().cpu().numpy()
        return result

    return Opinion(found.probabilities.double().cpu().numpy(), unseen), found.head


def probe(material: Material) -> Opinion:
    """A softmax probe on rows scaled to one length, as `probe_inputs` makes them."""
    return probe_left_out(material, probe_inputs)[0]


def scaled_probe(material: Material) -> Opinion:
    """A softmax probe on standardised columns; rows keep their own lengths."""
    scaling = scaling_of(material)

    def inputs(features: Float[Tensor, "n d"]) -> Float[Tensor, "n D"]:
        rows = scaling(features)
        return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)

    return probe_left_out(material, inputs)[0]


def _votes(
    material: Material, near: Neighbours, voters: int, rows: Float[Tensor, "m d"] | None
) -> Float[np.ndarray, "rows C"]:
    labels, groups = material.labels.numpy(), material.copies.group.numpy()
    if rows is None:
        # A row and its copies do not vote on it: ask for a few more, so that voters are left.
        title = f"Neighbours of every row ({material.name})"
        most = voters + min(voters, int(material.copies.sizes.max()))
        found, closeness = near.among(most, material.progress, title)
        excluded = groups
    else:
        found, closeness = near.nearest(rows, voters, material.progress, f"Their neighbours ({material.name})")
        excluded = np.full(len(found), -1)

    def votes(some: slice) -> Tensor:
        who = found[some], closeness[some], labels, excluded[some], groups
        return torch.from_numpy(neighbour_votes(*who, material.classes, voters))

    return material.passes.each(len(found), votes).numpy()


def neighbours(material: Material) -> Opinion:
    """The votes of the nearest training rows by angle, as probabilities."""
    return Opinion(material.smoothed(material.votes), lambda rows: material.smoothed(unseen_votes(material, rows)))


def unseen_votes(material: Material, rows: Float[Tensor, "m d"]) -> Probabilities:
    """Votes of the nearest training rows by angle on rows that nothing was fitted to, ``[m C]``."""
    return _votes(material, material.neighbours, VOTERS, rows)


def euclidean_neighbours(material: Material) -> Opinion:
    """The votes of the nearest training rows by Euclidean distance between standardised columns."""
    scaling = scaling_of(material)
    near = Neighbours(material.each(scaling), material.seed, metric="euclidean", passes=material.passes)

    def votes(rows: Float[Tensor, "m d"] | None) -> Float[np.ndarray, "rows C"]:
        found = _votes(material, near, EUCLIDEAN_VOTERS, None if rows is None else scaling(rows))
        return material.smoothed(found)

    return Opinion(votes(None), votes)


def random_features(material: Material) -> Opinion:
    """Ridge regression on random Fourier features of standardised columns."""
    scaling = scaling_of(material)
    rows = material.each(scaling)
    ridge, held = fit_ridge(rows, material.labels, material.classes, material.copies, material.seed, material.passes)
    return Opinion(held.cpu().numpy(), lambda rows: ridge.probabilities(scaling(rows)).cpu().numpy())


@dataclass(frozen=True)
class Depth:
    """The experts' opinions of one depth of the network."""

    material: Material
    basis: "Basis | None"
    opinions: dict[str, Opinion]

    @property
    def votes(self) -> Probabilities:
        """Votes of the nearest rows by angle, ``[n C]``."""
        return self.material.votes

    @property
    def probe(self) -> Probabilities:
        """The probe on rows of one length, left out, ``[n C]``."""
        return self.opinions["probe"].left_out

    @property
    def experts(self) -> dict[str, Probabilities]:
        """What each says of the training rows."""
        return {name: opinion.left_out for name, opinion in self.opinions.items()}

    def unseen(self, features: Float[Tensor, "m d"]) -> "Reading":
        """What each says of rows that nothing was fitted to."""
        features = features.to(self.material.features.device)
        inputs = features if self.basis is None else self.basis(features)
        said = {name: opinion.unseen(inputs) for name, opinion in self.opinions.items()}
        return Reading(said["probe"], unseen_votes(self.material, inputs), said)


@dataclass(frozen=True)
class Reading:
    """Probe and votes of unseen rows ``[m C]``, and all that the experts say of them."""

    probe: Probabilities
    votes: Probabilities
    experts: dict[str, Probabilities] = field(default_factory=dict)


@dataclass(frozen=True)
class Basis:
    """Principal components of features; rotations do not matter to probe and neighbours."""

    mean: Float[Tensor, " e"]
    directions: Float[Tensor, "e k"]

    def __call__(self, features: Float[Tensor, "n e"]) -> Float[Tensor, "n k"]:
        return (features - self.mean) @ self.directions


def find_basis(features: Float[Tensor, "n e"], seed: int, width: int = EARLY_WIDTH, passes: Passes = ALONE) -> Basis:
    """The ``width`` directions in which rows differ most."""
    rows = features
    if len(rows) > BASIS_ROWS:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:BASIS_ROWS].sort().values]
    mean = rows.mean(0)
    return Basis(mean, largest_directions(rows - mean, width, passes).float())


def ask_experts(material: Material) -> dict[str, Opinion]:
    """What each expert says that can be asked about these features."""
    asked = {name: expert for name, expert in EXPERTS.items() if expert.of_fitted or not material.fitted}
    return {name: expert.load()(material) for name, expert in asked.items()}
