"""The Gauss-Newton curvature of the mean cross-entropy: C = (1/n) Σ Jᵢᵀ Sᵢ Jᵢ with Sᵢ = diag(pᵢ) - pᵢ pᵢᵀ.

Positive semi-definite whatever the weights are, so that CG and Neumann series are safe away from an optimum
(Schraudolph 2002; Martens 2020).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.objective import Objective
from curate.engine.curvature.operator import Explicit
from curate.engine.curvature.over_rows import OverRows
from curate.engine.rows import Inputs


def half_curvature(probabilities: Float[Tensor, "b C"], signs: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
    """Lᵢ sᵢ with Lᵢ = diag(√pᵢ) - pᵢ √pᵢᵀ and Lᵢ Lᵢᵀ = Sᵢ."""
    root = probabilities.sqrt()
    return root * signs - probabilities * (root * signs).sum(1, keepdim=True)


def softmax_curvature(probabilities: Float[Tensor, "b C"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
    """Sᵢ zᵢ of each row."""
    weighted = probabilities * moves
    return weighted - probabilities * weighted.sum(-1, keepdim=True)


class GaussNewton(OverRows, Explicit):
    """C over ``inputs``, given the network's probabilities on them as ``targets``."""

    name = "ggn"

    @classmethod
    def of(
        cls,
        objective: Objective,
        inputs: Inputs,
        means: Float[Tensor, "n C"],
        residuals: Float[Tensor, "n C"],
    ) -> "GaussNewton":
        return cls(objective, inputs, means)

    def columns(self, targets: Float[Tensor, "b C"]) -> Float[Tensor, "m b C"]:
        units = torch.eye(targets.shape[1], device=targets.device, dtype=targets.dtype)
        return torch.stack([half_curvature(targets, unit.expand_as(targets)) for unit in units])

    def middle(self, targets: Float[Tensor, "b C"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
        return softmax_curvature(targets, moves)

    def pulls(self, targets: Float[Tensor, "b C"], generator: torch.Generator) -> Float[Tensor, "b C"]:
        """Random signs sᵢ mix the C columns of Lᵢ into one: unbiased, since E[s sᵀ] = I."""
        signs = torch.randint(0, 2, targets.shape, generator=generator).to(targets) * 2 - 1
        return half_curvature(targets, signs)

    @property
    def factor_rows(self) -> int:
        return self.targets.numel()
