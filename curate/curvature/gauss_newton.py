"""The Gauss-Newton curvature of the mean cross-entropy: C = (1/n) Σ Jᵢᵀ Sᵢ Jᵢ with Sᵢ = diag(pᵢ) - pᵢ pᵢᵀ.

Positive semi-definite whatever the weights are, so that CG and Neumann series are safe away from an optimum
(Schraudolph 2002; Martens 2020). Nothing of size n x p is held: rows go through in chunks.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from curate.curvature.objective import Objective
from curate.curvature.operator import Explicit, Sampled

CHUNK_FLOATS = 2**25
"""How many floats a chunk of row gradients may take: 128 MiB."""


@runtime_checkable
class Inputs(Protocol):
    """The training rows as the network reads them."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Tensor:
        """The inputs of these rows, stacked, on the network's device."""


def half_curvature(probabilities: Float[Tensor, "b C"], signs: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
    """Lᵢ sᵢ with Lᵢ = diag(√pᵢ) - pᵢ √pᵢᵀ and Lᵢ Lᵢᵀ = Sᵢ."""
    root = probabilities.sqrt()
    return root * signs - probabilities * (root * signs).sum(1, keepdim=True)


def softmax_curvature(probabilities: Float[Tensor, "b C"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
    """Sᵢ zᵢ of each row."""
    weighted = probabilities * moves
    return weighted - probabilities * weighted.sum(-1, keepdim=True)


class GaussNewton(Sampled, Explicit):
    """C over ``inputs``, given the network's probabilities on them."""

    name = "ggn"

    def __init__(self, objective: Objective, inputs: Inputs, probabilities: Float[Tensor, "n C"]) -> None:
        self.objective, self.inputs, self.probabilities = objective, inputs, probabilities
        self.p, self.n, self.device = objective.p, len(probabilities), probabilities.device
        self._rows = torch.arange(self.n, device=self.device)

    def on(self, indices: Tensor) -> "GaussNewton":
        part = GaussNewton(self.objective, self.inputs, self.probabilities[indices])
        part._rows = self._rows[indices]
        return part

    def _chunks(self, width: int) -> list[tuple[Tensor, Tensor]]:
        """(positions within this operator, rows of the inputs), so that ``width`` floats a row fit a chunk."""
        size = max(1, min(1024, CHUNK_FLOATS // max(width, 1)))
        positions = torch.arange(self.n, device=self.device)
        return list(zip(positions.split(size), self._rows.split(size), strict=True))

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        total = torch.zeros_like(rows)
        for positions, indices in self._chunks(CHUNK_FLOATS // 512):
            x, p = self.inputs.batch(indices), self.probabilities[positions]
            total += self.objective.cotangents(x, softmax_curvature(p, self.objective.tangents(x, rows)))
        return total / self.n

    def _factors(self) -> Iterator[Float[Tensor, "b p"]]:
        """The columns Jᵢᵀ Lᵢ of every row and class, in pieces."""
        for positions, indices in self._chunks(self.p):
            x, p = self.inputs.batch(indices), self.probabilities[positions]
            for one_class in torch.eye(p.shape[1], device=p.device, dtype=p.dtype):
                yield self.objective.row_gradients(x, half_curvature(p, one_class.expand_as(p)))

    @property
    def factor_rows(self) -> int:
        return self.probabilities.numel()

    def whole_factor(self) -> Float[Tensor, "m p"]:
        scale = self.probabilities.shape[1] ** 0.5  # C = FᵀF / (n C) needs each of the n·C rows √C larger
        return torch.cat([factor * scale for factor in self._factors()])

    def factor(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b p"]:
        """Random signs sᵢ mix the C columns of Jᵢᵀ Lᵢ into one gradient a row: unbiased, since E[s sᵀ] = I."""
        p = self.probabilities[indices]
        signs = torch.randint(0, 2, p.shape, generator=generator).to(p) * 2 - 1
        parts, size = [], max(1, CHUNK_FLOATS // self.p)
        for rows, weights in zip(self._rows[indices].split(size), half_curvature(p, signs).split(size), strict=True):
            parts.append(self.objective.row_gradients(self.inputs.batch(rows), weights))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
