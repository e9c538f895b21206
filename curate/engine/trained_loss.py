"""The loss that a network was trained with, if it is not plain cross-entropy: class weights, label smoothing, focal.

Of a row with the label y, w being the classes' weights (their mean over the training rows is 1): smoothed it is
Σ_c q_c (-log p_c) with q = (1 - ε) w_y e_y + (ε / C) w (torch's `CrossEntropyLoss`); focal it is
w_y (1 - p_y)^γ (-log p_y) (Lin et al. 2017, arXiv 1708.02002). Both have the curvature Sᵢ = a (diag(p) - p pᵀ) + c d dᵀ
with d = p - e_y, which needs the label: a row's ``means`` are its p, y, a and c, ``[n C+3]``. c is 0 but for a focal
loss; there it may be below 0, and is kept above what would make Sᵢ curve downwards. Evaluation rows are measured in
plain cross-entropy.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.loss import SOFTMAX, Loss, without_last

BESIDE = 3
"""Columns of the means behind the probabilities: y, a, c."""
SMALL = 1e-12


def cross_entropy(weights: Float[Tensor, " C"], smoothing: float = 0.0) -> Loss:
    """Softmax if there is nothing else to it."""
    plain = not smoothing and bool((weights == 1).all())
    return SOFTMAX if plain else Trained(weights, smoothing)


def focal(weights: Float[Tensor, " C"], gamma: float = 2.0) -> Loss:
    """Focal loss."""
    return Trained(weights, gamma=gamma)


@dataclass(frozen=True, eq=False)
class Trained(Loss):
    """``weights [C]`` of the classes, ``smoothing`` ε and ``gamma`` γ: not both above 0."""

    weights: Float[Tensor, " C"]
    smoothing: float = 0.0
    gamma: float = 0.0
    shift_free = True
    label_free = False

    @property
    def measured(self) -> Loss:
        return SOFTMAX

    def means(self, logits: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        return logits.softmax(1)

    def state(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n K"]:
        p, labels = logits.softmax(1), labels.to(logits.device)
        w = self.weights.to(p)
        if not self.gamma:
            a = (1 - self.smoothing) * w[labels] + self.smoothing * w.mean()
            return torch.cat([p, labels[:, None].to(p), a[:, None], torch.zeros_like(a)[:, None]], dim=1)
        own = p.gather(1, labels[:, None])[:, 0].clamp(SMALL, 1 - SMALL if p.dtype == torch.float64 else 1 - 1e-7)
        rest, log, g = 1 - own, own.log(), self.gamma
        a = rest**g - g * own * rest ** (g - 1) * log
        slope = g * rest ** (g - 2) * (g * own * log - log - 2 * rest)  # a'(p_y)
        c = torch.maximum(-slope * own, -a * own / rest)
        return torch.cat([p, labels[:, None].to(p), (w[labels] * a)[:, None], (w[labels] * c)[:, None]], dim=1)

    def classes(self, means: Float[Tensor, "n K"]) -> int:
        return means.shape[1] - BESIDE

    def given(self, means: Float[Tensor, "n K"], residuals: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        return self._one_hot(means)

    def residuals(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
        return self.residuals_of(self.state(logits, labels), labels)

    def residuals_of(self, means: Float[Tensor, "n K"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
        p, a, _, d = self._parts(means)
        if not self.smoothing:
            return a * d
        w = self.weights.to(means)
        return a * p - (1 - self.smoothing) * w * self._one_hot(means) - self.smoothing * w / len(w)

    def total(self, logits: Float[Tensor, "n C"], shares: Float[Tensor, "n C"]) -> Float[Tensor, ""]:
        return (shares * self._each(logits)).sum()

    def losses(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self._each(logits).gather(1, labels[:, None].to(logits.device))[:, 0]

    def _each(self, logits: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        """The loss of each row if its label were each of the classes."""
        log, w = logits.log_softmax(1), self.weights.to(logits)
        if self.gamma:
            return -w * (1 - log.exp()).clamp_min(SMALL) ** self.gamma * log
        return -(1 - self.smoothing) * w * log - self.smoothing * (w * log).mean(1, keepdim=True)

    def _one_hot(self, means: Float[Tensor, "n K"]) -> Float[Tensor, "n C"]:
        return F.one_hot(means[:, -3].long(), self.classes(means)).to(means)

    def _parts(self, means: Float[Tensor, "n K"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """p, a, c and d; the two in the middle as columns."""
        p = means[:, :-BESIDE]
        return p, means[:, -2:-1], means[:, -1:], p - self._one_hot(means)

    def apply(self, means: Float[Tensor, "b K"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
        p, a, c, d = self._parts(means)
        return a * SOFTMAX.apply(p, moves) + c * d * (d * moves).sum(-1, keepdim=True)

    def half(self, means: Float[Tensor, "b K"], signs: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
        """L = L₀ (√a I + β u uᵀ) where L₀ is softmax's and u = √p - e_y / √p_y, for which L₀ u = d."""
        p, a, c, d = self._parts(means)
        own = (p * self._one_hot(means)).sum(1, keepdim=True).clamp_min(SMALL)
        u = p.sqrt() - self._one_hot(means) / own.sqrt()
        size = u.square().sum(1, keepdim=True).clamp_min(SMALL)
        beta = ((a + c * size).clamp_min(0).sqrt() - a.sqrt()) / size
        return a.sqrt() * SOFTMAX.half(p, signs) + beta * d * (u * signs).sum(1, keepdim=True)

    def columns(self, means: Float[Tensor, "b K"]) -> Float[Tensor, "m b C"]:
        return without_last(super().columns(means), means[:, :-BESIDE])  # u is at right angles to √p

    def column_count(self, means: Float[Tensor, "b K"]) -> int:
        return self.classes(means) - 1

    def pull(self, means: Float[Tensor, "b K"], generator: torch.Generator) -> Float[Tensor, "b C"]:
        shape = (len(means), self.classes(means))
        return self.half(means, torch.randint(0, 2, shape, generator=generator).to(means) * 2 - 1)

    def entry(self, means: Float[Tensor, "b K"], c: int, e: int) -> Float[Tensor, " b"]:
        p, a, more, d = self._parts(means)
        return a[:, 0] * SOFTMAX.entry(p, c, e) + more[:, 0] * d[:, c] * d[:, e]

    def matrices(self, means: Float[Tensor, "b K"]) -> Float[Tensor, "b C C"]:
        p, a, c, d = self._parts(means)
        return a[:, :, None] * SOFTMAX.matrices(p) + c[:, :, None] * d[:, :, None] * d[:, None, :]

    def diagonal(self, means: Float[Tensor, "b K"]) -> Float[Tensor, "b C"]:
        p, a, c, d = self._parts(means)
        return a * SOFTMAX.diagonal(p) + c * d.square()

    def turned_diagonal(self, means: Float[Tensor, "b K"], basis: Float[Tensor, "C C"]) -> Float[Tensor, "b C"]:
        p, a, c, d = self._parts(means)
        return (a * SOFTMAX.turned_diagonal(p, basis) + c * (d @ basis).square()).clamp_min(0)

    def mean_matrix(self, means: Float[Tensor, "b K"]) -> Float[Tensor, "C C"]:
        p, a, c, d = self._parts(means)
        return (torch.diag((a * p).sum(0)) - (a * p).T @ p + (c * d).T @ d) / len(means)

    def corrected(
        self,
        means: Float[Tensor, "b K"],
        m: Float[Tensor, "b C"],
        residuals: Float[Tensor, "b C"],
        sizes: Int[Tensor, " b"],
    ) -> Float[Tensor, "b C"]:
        """Solved row by row: C x C numbers each."""
        moved = sizes[:, None, None].to(means) * self.matrices(means) * m[:, None, :]
        identity = torch.eye(m.shape[1], device=m.device, dtype=m.dtype)
        solved: Tensor = torch.linalg.solve(identity - moved, residuals)
        return solved
