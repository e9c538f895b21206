"""Conjugate gradients for a block of right-hand sides, each with its own step lengths (Hestenes & Stiefel 1952)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.curvature.operator import Damped, Operator
from curate.errors import NumericalError
from curate.solvers.base import Prepared, Solution, Solver, relative_residual, unwatched


@dataclass(frozen=True)
class ConjugateGradients(Solver):
    """Stops when every row's residual is under ``tolerance``, or after ``steps``; the residual tells which."""

    tolerance: float = 1e-5
    steps: int = 1000
    preconditioner: Callable[[Tensor], Tensor] | None = None
    """An approximate (C + λ I)⁻¹ on rows, symmetric and positive definite."""

    name = "cg"

    def prepare(self, operator: Operator, damping: float) -> "PreparedCG":
        return PreparedCG(self, operator, damping)


@dataclass(frozen=True)
class PreparedCG(Prepared):
    solver: ConjugateGradients
    operator: Operator
    damping: float

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        operator = Damped(self.operator, self.damping)
        precondition = self.solver.preconditioner or torch.clone
        tiny = torch.finfo(rows.dtype).tiny
        target = self.solver.tolerance * rows.norm(dim=1)
        u, r = torch.zeros_like(rows), rows.clone()
        d = z = precondition(r)
        rz = (r * z).sum(1)
        done = 0
        while done < self.solver.steps and bool((r.norm(dim=1) > target).any()):
            done += 1
            advance(1)
            product = operator @ d
            # A row that has converged has r = 0 up to rounding: its step is set to 0 instead of 0/0.
            curvature = (d * product).sum(1)
            step = torch.where(curvature > tiny, rz / curvature.clamp_min(tiny), 0.0)[:, None]
            u = u + step * d
            r = r - step * product
            z = precondition(r)
            new = (r * z).sum(1)
            d = z + torch.where(rz > tiny, new / rz.clamp_min(tiny), 0.0)[:, None] * d
            rz = new
        if not bool(torch.isfinite(u).all()):
            raise NumericalError("conjugate gradients left the finite numbers", "Try a larger --damping.")
        return Solution(u, relative_residual(self.operator, self.damping, rows, u), done, self.damping)
