"""The empirical Fisher matrix (1/n) Σ gᵢ gᵢᵀ: the rows' own gradients, with the labels that they were given.

Positive semi-definite, and the Gauss-Newton curvature only if the labels are draws from the network's own
probabilities: near the end of training its gradients vanish and wrong labels dominate it (Kunstner et al. 2019).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Explicit
from curate.engine.curvature.over_rows import OverRows


class EmpiricalFisher(OverRows, Explicit):
    """C over ``inputs``, given the residuals pᵢ - yᵢ of the given labels as ``targets``."""

    name = "fisher"
    by_residuals = True

    def columns(self, targets: Float[Tensor, "b C"]) -> Float[Tensor, "m b C"]:
        return targets[None]

    def pulls(self, targets: Float[Tensor, "b C"], generator: torch.Generator) -> Float[Tensor, "b C"]:
        return targets

    @property
    def factor_rows(self) -> int:
        return self.n
