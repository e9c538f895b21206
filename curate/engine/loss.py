"""What a training loss is of a row's logits z and its label y: residual, curvature, value.

Each is a likelihood whose natural parameter is z: its means μ(z) are what it expects of the one-hot label, the residual
is r = μ - y, and its curvature S = ∂μ/∂z needs no label. Everything else in the engine asks here, so that another loss
is a class of this shape; `plugs.LOSSES` names those that networks are trained with. ``means [n C]`` are those of rows.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

NEAREST_TO_ZERO = 1e-6


class Loss(ABC):
    """Shapes: n or b rows, C classes, k directions, m columns."""

    shift_free: bool
    """One number added to all logits of a row changes nothing: biases without a penalty have a free direction."""
    label_free: bool = True
    """The curvature needs no label."""

    @property
    def measured(self) -> "Loss":
        """What the evaluation rows of a training with this loss are measured in."""
        return self

    def state(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n K"]:
        """What the curvature needs to know of training rows, for all that asks for means: these, and more of a loss
        whose curvature needs the label."""
        return self.means(logits)

    def classes(self, means: Float[Tensor, "n K"]) -> int:
        """C."""
        return means.shape[1]

    def given(self, means: Float[Tensor, "n K"], residuals: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        """The given labels as shares of the classes."""
        return means - residuals

    @abstractmethod
    def means(self, logits: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        """μ(z), in the logits' own type."""

    def residuals(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
        """rᵢ = μᵢ - yᵢ: the loss's derivative in the logits."""
        return self.residuals_of(self.means(logits), labels)

    def residuals_of(self, means: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
        """The same where the means are known."""
        return means - F.one_hot(labels, means.shape[1]).to(means)

    @abstractmethod
    def total(self, logits: Float[Tensor, "n C"], shares: Float[Tensor, "n C"]) -> Float[Tensor, ""]:
        """The summed loss of labels given as ``shares`` of the classes, up to what does not depend on the logits."""

    @abstractmethod
    def losses(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Of each row, nats."""

    def right(self, logits: Float[Tensor, "*k C"], labels: Int[Tensor, " n"]) -> Bool[Tensor, "*k"]:
        """Whether the predicted class of each row is its label."""
        return logits.argmax(-1) == labels

    @abstractmethod
    def apply(self, means: Float[Tensor, "b C"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
        """Sᵢ zᵢ of each row."""

    @abstractmethod
    def half(self, means: Float[Tensor, "b C"], signs: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
        """Lᵢ sᵢ of each row, with Lᵢ Lᵢᵀ = Sᵢ."""

    @abstractmethod
    def entry(self, means: Float[Tensor, "b C"], c: int, e: int) -> Float[Tensor, " b"]:
        """The entry (c, e) of each row's Sᵢ."""

    @abstractmethod
    def matrices(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "b C C"]:
        """Sᵢ, written down."""

    @abstractmethod
    def diagonal(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
        """Of each row's Sᵢ."""

    @abstractmethod
    def turned_diagonal(self, means: Float[Tensor, "b C"], basis: Float[Tensor, "C C"]) -> Float[Tensor, "b C"]:
        """Of each row's Qᵀ Sᵢ Q, ``basis`` being Q."""

    @abstractmethod
    def mean_matrix(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "C C"]:
        """The mean of all Sᵢ."""

    @abstractmethod
    def corrected(
        self,
        means: Float[Tensor, "b C"],
        m: Float[Tensor, "b C"],
        residuals: Float[Tensor, "b C"],
        sizes: Int[Tensor, " b"],
    ) -> Float[Tensor, "b C"]:
        """(I - k Sᵢ Mᵢ)⁻¹ rᵢ of each row where Mᵢ is the diagonal ``m``; k are ``sizes``."""

    def trace(self, means: Float[Tensor, "b C"]) -> Float[Tensor, " b"]:
        """Of each row's Sᵢ."""
        return self.diagonal(means).sum(1)

    def columns(self, means: Float[Tensor, "b K"]) -> Float[Tensor, "m b C"]:
        """Columns wᵢ of each row with Σ w wᵀ = Sᵢ, `column_count` of them: those of its Lᵢ, here."""
        count = self.classes(means)
        units = torch.eye(count, device=means.device, dtype=means.dtype)
        return torch.stack([self.half(means, unit.expand(len(means), count)) for unit in units])

    def column_count(self, means: Float[Tensor, "b K"]) -> int:
        """How many `columns` give."""
        return self.classes(means)

    def pull(self, means: Float[Tensor, "b C"], generator: torch.Generator) -> Float[Tensor, "b C"]:
        """Random signs sᵢ mix the columns of Lᵢ into one: unbiased, since E[s sᵀ] = I."""
        signs = torch.randint(0, 2, means.shape, generator=generator).to(means) * 2 - 1
        return self.half(means, signs)


def without_last(columns: Float[Tensor, "m b C"], p: Float[Tensor, "b C"]) -> Float[Tensor, "l b C"]:
    """One column less with the same Σ w wᵀ, for a half Lᵢ that takes √pᵢ to zero: Sᵢ has a rank less than classes.

    Householder's reflection of √pᵢ to the last axis turns the columns so that the last one is zero.
    """
    root = p.sqrt()
    shares: Tensor = (root[:, :-1] / (1 + root[:, -1:])).T[:, :, None]
    return columns[:-1] - shares * columns[-1]


class Softmax(Loss):
    """Cross-entropy of one class a row: μ = p = softmax(z), S = diag(p) - p pᵀ."""

    shift_free = True

    def means(self, logits: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        return logits.softmax(1)

    def total(self, logits: Float[Tensor, "n C"], shares: Float[Tensor, "n C"]) -> Float[Tensor, ""]:
        return (logits.logsumexp(1) - (shares * logits).sum(1)).sum()

    def losses(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        return F.cross_entropy(logits, labels, reduction="none")

    def apply(self, means: Float[Tensor, "b C"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
        weighted = means * moves
        return weighted - means * weighted.sum(-1, keepdim=True)

    def half(self, means: Float[Tensor, "b C"], signs: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
        """With Lᵢ = diag(√pᵢ) - pᵢ √pᵢᵀ."""
        root = means.sqrt()
        return root * signs - means * (root * signs).sum(1, keepdim=True)

    def columns(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "m b C"]:
        return without_last(super().columns(means), means)

    def column_count(self, means: Float[Tensor, "b C"]) -> int:
        return self.classes(means) - 1

    def entry(self, means: Float[Tensor, "b C"], c: int, e: int) -> Float[Tensor, " b"]:
        return means[:, c] * ((1.0 if c == e else 0.0) - means[:, e])

    def matrices(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "b C C"]:
        return torch.diag_embed(means) - means[:, :, None] * means[:, None, :]

    def diagonal(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
        return means * (1 - means)

    def turned_diagonal(self, means: Float[Tensor, "b C"], basis: Float[Tensor, "C C"]) -> Float[Tensor, "b C"]:
        return (means @ basis.square() - (means @ basis).square()).clamp_min(0)

    def mean_matrix(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "C C"]:
        return torch.diag(means.mean(0)) - means.T @ means / len(means)

    def corrected(
        self,
        means: Float[Tensor, "b C"],
        m: Float[Tensor, "b C"],
        residuals: Float[Tensor, "b C"],
        sizes: Int[Tensor, " b"],
    ) -> Float[Tensor, "b C"]:
        """I - k S M is a diagonal and a matrix of rank one (Sherman & Morrison 1950)."""
        k = sizes[:, None].to(means)
        diagonal = 1 - k * means * m
        small = diagonal.abs() < NEAREST_TO_ZERO  # p m = 1/k exactly: the two parts cancel, and a nudge is enough
        diagonal = torch.where(small, torch.full_like(means, NEAREST_TO_ZERO), diagonal)
        straight, along = residuals / diagonal, means / diagonal
        share = (means * m * straight).sum(1, keepdim=True) / (1 + (k * means * m * along).sum(1, keepdim=True))
        return straight - k * along * share


SOFTMAX = Softmax()
"""What evaluation rows are measured in, and most networks are trained with."""
