"""Solvers that replace C by something easier to invert, and measure what that costs.

`EKFACSolver` (layer by layer), `Lanczos` and `Nystrom` (low rank; outside of the subspace C counts as 0, so the
answer there is v / λ and never cut off). Residual and error are those of the true C + λ I: the error comes from
conjugate gradients on the first few right-hand sides, with the approximation as their preconditioner.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.operator import Damped, Operator, refuse_not_finite, written_down
from curate.engine.curvature.over_rows import OverRows
from curate.engine.passes import pieces
from curate.engine.solvers.base import Prepared, Solution, Solver, unwatched
from curate.engine.solvers.cg import MEASURED, descend
from curate.engine.solvers.gap import gaps, residual_of
from curate.engine.solvers.preconditioner import Inverse
from curate.engine.solvers.spectrum import lanczos, refuse_negative
from curate.errors import NumericalError, UsageError

CHECKED = 4
"""Right-hand sides whose error is measured."""
CHECK_STEPS = 100


class Approximate(Solver):
    """One approximate inverse, applied once."""

    bound = None

    @abstractmethod
    def inverse(self, operator: Operator, damping: float) -> tuple[Inverse, dict[str, object]]:
        """v ↦ about (C + λ I)⁻¹ v, symmetric and positive definite, and what a receipt says of it."""

    def prepare(self, operator: Operator, damping: float) -> "PreparedApproximation":
        refuse_negative(operator, damping)
        inverse, detail = self.inverse(operator, damping)
        return PreparedApproximation(self.name, written_down(operator), damping, inverse, detail)


@dataclass(frozen=True)
class PreparedApproximation(Prepared):
    """The approximate inverse of one C + λ I; conjugate gradients measure how far off its answers are."""

    name: str
    operator: Operator
    damping: float
    inverse: Inverse
    detail: dict[str, object]

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        solved = self.inverse(rows)
        if not bool(torch.isfinite(solved).all()):
            raise NumericalError("The approximate inverse is not finite", "Try a larger --damping, or --solver cg.")
        advance(1)
        found = gaps(self.operator, self.damping, rows, solved)
        few = min(CHECKED, len(rows))
        both = torch.cat([gap[-few:] for gap in found]).double()
        damped = Damped(self.operator, self.damping)
        missing, _ = descend(damped, both, self.inverse, MEASURED, CHECK_STEPS)
        parts = pieces(missing.to(rows), few)
        return Solution(solved, residual_of(found, rows), 1, self.damping, parts, self.detail)


@dataclass(frozen=True)
class EKFACSolver(Approximate):
    """EK-FAC (George et al. 2018): fast, and the ranking of a network's rows rather than their numbers."""

    seed: int = 0

    entry = "ekfac"

    def inverse(self, operator: Operator, damping: float) -> tuple[Inverse, dict[str, object]]:
        if not isinstance(operator, OverRows):
            raise UsageError(
                f"--solver ekfac: there is no EK-FAC of the {operator.name} curvature", "Use --curvature ggn or fisher."
            )
        ekfac = EKFAC.fit(operator, seed=self.seed)
        return (lambda rows: ekfac.solve(rows, damping)), {"approximation": ekfac.layers.approximations()}


class LowRankInverse:
    """v ↦ V (Θ + λ)⁻¹ Vᵀ v + (v - V Vᵀ v) / λ for orthonormal rows V: Woodbury, nothing is cut off."""

    def __init__(self, vectors: Float[Tensor, "r p"], values: Float[Tensor, " r"], damping: float) -> None:
        self.vectors, self.damping = vectors, damping
        self._weights = 1 / (values + damping) - 1 / damping

    def __call__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        v = rows.to(self.vectors)
        return (((v @ self.vectors.T) * self._weights) @ self.vectors + v / self.damping).to(rows)


class LowRank(Approximate):
    """Eigenpairs of C, however they are found."""

    seed: int

    @abstractmethod
    def pairs(self, operator: Operator) -> tuple[Float[Tensor, "r p"], Float[Tensor, " r"]]:
        """Orthonormal rows and their eigenvalues, float64."""

    def inverse(self, operator: Operator, damping: float) -> tuple[Inverse, dict[str, object]]:
        vectors, values = self.pairs(operator)
        detail: dict[str, object] = {"rank": len(values)}
        if len(values):
            detail |= {"largest_eigenvalue": float(values.max()), "smallest_eigenvalue": float(values.min())}
        return LowRankInverse(vectors, values, damping), detail


@dataclass(frozen=True)
class Lanczos(LowRank):
    """``rank`` Lanczos steps: Arnoldi's method on a symmetric matrix (Schioppa et al. 2022 use it for influence)."""

    seed: int = 0
    rank: int = 128

    entry = "lanczos"

    def pairs(self, operator: Operator) -> tuple[Float[Tensor, "r p"], Float[Tensor, " r"]]:
        values, vectors, _ = lanczos(written_down(operator.precise()), self.rank, self.seed)
        return vectors, values


@dataclass(frozen=True)
class Nystrom(LowRank):
    """Randomised Nystrom approximation from ``rank`` products (Frangella, Tropp & Udell 2023, algorithm 2.1)."""

    seed: int = 0
    rank: int = 128

    entry = "nystrom"

    def pairs(self, operator: Operator) -> tuple[Float[Tensor, "r p"], Float[Tensor, " r"]]:
        if not operator.definite:
            raise UsageError(
                f"--solver nystrom: the {operator.name} curvature may have negative eigenvalues",
                "Use --solver lanczos.",
            )
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randn(operator.p, min(self.rank, operator.p), generator=generator, dtype=torch.float64)
        test = torch.linalg.qr(drawn.to(operator.device))[0]
        sketch = (written_down(operator.precise()) @ test.T).T
        refuse_not_finite(sketch)
        # Of the core, eigenvectors instead of Cholesky's factor: directions that C does not have are dropped.
        values, vectors = torch.linalg.eigh(test.T @ sketch)
        kept = values > 1e-12 * values[-1].clamp_min(torch.finfo(torch.float64).tiny)
        left, sizes, _ = torch.linalg.svd(sketch @ vectors[:, kept] / values[kept].sqrt(), full_matrices=False)
        return left.T, sizes.square()
