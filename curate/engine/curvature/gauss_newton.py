"""The Gauss-Newton curvature of the mean loss: C = (1/n) Σ Jᵢᵀ Sᵢ Jᵢ, Sᵢ being the loss's own in the logits.

Positive semi-definite whatever the weights are, so that CG and Neumann series are safe away from an optimum
(Schraudolph 2002; Martens 2020).
"""

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Dense, Explicit
from curate.engine.curvature.over_rows import OverRows


class GaussNewton(OverRows, Explicit):
    """C over ``inputs``, given the means of the network's logits on them as ``targets``."""

    name = "ggn"

    def columns(self, targets: Float[Tensor, "b K"]) -> Float[Tensor, "m b C"]:
        return self.objective.loss.columns(targets)

    def middle(self, targets: Float[Tensor, "b K"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
        return self.objective.loss.apply(targets, moves)

    def pulls(self, targets: Float[Tensor, "b K"], generator: torch.Generator) -> Float[Tensor, "b C"]:
        return self.objective.loss.pull(targets, generator)

    @property
    def factor_rows(self) -> int:
        return self.n * self.objective.loss.column_count(self.targets)

    @cached_property
    def written(self) -> Dense:
        return Dense(self.whole_factor(), self.name, None if self.objective.layers is None else self._gram)

    def _gram(self, factor: Float[Tensor, "m p"]) -> Float[Tensor, "m m"]:
        return self.inner_products(torch.arange(self.n, device=self.device), self.columns(self.targets), factor)
