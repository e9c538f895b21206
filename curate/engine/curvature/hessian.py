"""The Hessian of the mean loss: Gauss-Newton plus the curvature of the network itself.

Away from an optimum it has negative eigenvalues, and C + λ I may be no bowl: `solvers.spectrum` looks before a solver
leaps. Products are derivatives of the gradient (Pearlmutter 1994).
"""

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.objective import Objective
from curate.engine.curvature.operator import Operator, Sampled
from curate.engine.curvature.over_rows import OverRows
from curate.engine.rows import RowInputs


class Hessian(Sampled):
    """C over the rows of ``gauss_newton``, with their ``residuals`` pᵢ - yᵢ.

    `factor` is that of the Gauss-Newton part: a preconditioner and the size of the damping are taken from it.
    """

    name = "hessian"
    definite = False

    @classmethod
    def of(
        cls,
        objective: Objective,
        inputs: RowInputs,
        means: Float[Tensor, "n K"],
        residuals: Float[Tensor, "n C"],
    ) -> "Hessian":
        """The Gauss-Newton part is made of the means, the network's own part of the residuals."""
        return cls(GaussNewton(objective, inputs, means), residuals)

    def __init__(self, gauss_newton: OverRows, residuals: Float[Tensor, "n C"]) -> None:
        self.gauss_newton, self.residuals = gauss_newton, residuals.to(gauss_newton.dtype)
        self.n, self.p = gauss_newton.n, gauss_newton.p
        self.dtype, self.device = gauss_newton.dtype, gauss_newton.device
        self.passes = gauss_newton.passes

    def on(self, indices: Tensor) -> "Hessian":
        return Hessian(self.gauss_newton.on(indices), self.residuals[indices])

    def precise(self) -> "Hessian":
        return Hessian(self.gauss_newton.precise(), self.residuals)

    def factor(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b p"]:
        return self.gauss_newton.factor(indices, generator)

    def gram_of(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b b"]:
        return self.gauss_newton.gram_of(indices, generator)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Operator:
        """No factor gives negative curvature: a batch stands for itself."""
        return self.on(indices)

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        directions = rows.to(self.dtype)
        total = torch.zeros_like(directions)
        for product in self._kept if self.n <= self.passes.budget.network_rows else self._products():
            total += product(directions)
        return (self.passes.sum(total) / self.n).to(rows)

    @cached_property
    def _kept(self) -> list[Callable[[Tensor], Tensor]]:
        """Of few rows the graph is made once, for all products."""
        return list(self._products())

    def _products(self) -> Iterator[Callable[[Tensor], Tensor]]:
        outer = self.gauss_newton
        for positions, indices in outer.chunks(outer.objective.rows_at_once(outer.inputs)):
            labels = outer.objective.loss.given(outer.targets[positions], self.residuals[positions])
            yield outer.objective.second_derivatives(outer.inputs.batch(indices), labels)
