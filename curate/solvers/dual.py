"""The exact solve through the rows instead of the parameters, for a curvature C = (1/n) Fᵀ F with few rows of F.

Woodbury: (C + λ I)⁻¹ v = (v - Fᵀ (n λ I + F Fᵀ)⁻¹ F v) / λ, in float64, since λ may be a millionth of F Fᵀ.
With all rows and classes of a network it is the truth for every other solver; with a sample of them it is a
preconditioner for conjugate gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.curvature.operator import Explicit, Operator
from curate.errors import UsageError
from curate.solvers.base import Prepared, Solution, Solver, relative_residual, unwatched

MOST_FACTOR_ROWS = 10_000
"""Rows times classes up to which the Gram matrix (800 MB) and its factorisation (a minute) are cheap."""
MOST_FACTOR_FLOATS = 2**28
"""Size of F, 1 GiB in float32."""


class WoodburyInverse:
    """v ↦ (Fᵀ F / m + λ I)⁻¹ v for an explicit F ``[m p]``."""

    def __init__(self, factor: Float[Tensor, "m p"], damping: float) -> None:
        self.factor, self.damping = factor, damping
        gram = torch.zeros(len(factor), len(factor), dtype=torch.float64, device=factor.device)
        for part in factor.split(max(1, 2**24 // len(factor)), dim=1):
            gram += part.double() @ part.double().T
        gram.diagonal().add_(len(factor) * damping)
        self.cholesky = torch.linalg.cholesky(gram)

    def __call__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        inner = torch.cholesky_solve(self._times(rows).T, self.cholesky).T
        return ((rows.double() - self._back(inner)) / self.damping).to(rows)

    def quadratic(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
        """v · (Fᵀ F / m + λ I)⁻¹ v of each row, ≥ 0, in float64."""
        inner = self._times(rows)
        explained = torch.linalg.solve_triangular(self.cholesky, inner.T, upper=False).square().sum(0)
        found: Tensor = ((rows.double().square().sum(1) - explained) / self.damping).clamp_min(0)
        return found

    def _times(self, rows: Tensor) -> Tensor:
        size = max(1, 2**24 // self.factor.shape[1])
        return torch.cat([rows.double() @ part.double().T for part in self.factor.split(size)], dim=1)

    def _back(self, inner: Tensor) -> Tensor:
        size = max(1, 2**24 // self.factor.shape[1])
        parts = zip(inner.split(size, dim=1), self.factor.split(size), strict=True)
        return sum((weights @ part.double() for weights, part in parts), torch.zeros((), dtype=torch.float64))


@dataclass(frozen=True)
class Exact(Solver):
    """The dual solve; refuses a curvature whose factor would not fit."""

    name = "exact"

    @staticmethod
    def fits(factor_rows: int, p: int) -> bool:
        """Whether the exact solve is cheap for rows x classes ``factor_rows`` and ``p`` parameters."""
        return factor_rows <= MOST_FACTOR_ROWS and factor_rows * p <= MOST_FACTOR_FLOATS

    def prepare(self, operator: Operator, damping: float) -> "PreparedExact":
        if not isinstance(operator, Explicit) or not self.fits(operator.factor_rows, operator.p):
            rows = operator.factor_rows if isinstance(operator, Explicit) else 0
            raise UsageError(
                f"--solver exact: {rows:,} rows x classes by {operator.p:,} parameters do not fit an exact solve",
                f"It needs at most {MOST_FACTOR_ROWS:,} rows x classes: use --solver lissa, or --params head.",
            )
        return PreparedExact(operator, damping, WoodburyInverse(operator.whole_factor(), damping))


@dataclass(frozen=True)
class PreparedExact(Prepared):
    operator: Operator
    damping: float
    inverse: WoodburyInverse

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        solved = self.inverse(rows)
        return Solution(solved, relative_residual(self.operator, self.damping, rows, solved), 1, self.damping)
