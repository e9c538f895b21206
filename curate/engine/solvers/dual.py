"""The exact solve: through the rows, for a curvature C = (1/n) Fᵀ F with few rows of F, else through the parameters.

Woodbury: (C + λ I)⁻¹ v = (v - Fᵀ (n λ I + F Fᵀ)⁻¹ F v) / λ, in float64, since λ may be a millionth of F Fᵀ.
With all rows and classes of a network it is the truth for every other solver; with a sample of them it is a
preconditioner for conjugate gradients.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import WRITTEN_FLOATS, Explicit, Operator, gram
from curate.engine.passes import pieces
from curate.engine.solvers.base import Prepared, Solution, Solver, relative_residual, unwatched
from curate.engine.solvers.spectrum import FLOAT64_BELOW
from curate.errors import NumericalError, UsageError

MOST_FACTOR_ROWS = 10_000
"""Gradients up to which the Gram matrix (800 MB) and its factorisation (a minute) are cheap."""
MOST_FACTOR_FLOATS = 2**28
"""Size of F, 1 GiB in float32."""
MOST_PARAMETERS, MOST_WORK = 8_000, 2e12
"""p up to which C itself (512 MB) is factorised, and rows of F times p² up to which it is summed: a minute or two."""


class WoodburyInverse:
    """v ↦ (Fᵀ F / m + λ I)⁻¹ v for an explicit F ``[m p]``.

    Products with F are taken in the type of v, what lies between in float64: for an exact answer v is float64, for
    a preconditioner float32 is enough. Raises `NumericalError` if λ is lost beside F Fᵀ / m in float64.
    """

    def __init__(self, factor: Float[Tensor, "m p"], damping: float, known: Float[Tensor, "m m"] | None = None) -> None:
        """``known`` is F Fᵀ, if somebody has it."""
        self.factor = factor
        self._gram = gram(factor) if known is None else known.double()
        self._precise = factor.dtype == torch.float64
        self._factorise(damping)

    def _factorise(self, damping: float) -> None:
        self.damping = damping
        if not self._precise and damping < FLOAT64_BELOW * self.largest_eigenvalue():
            self._gram, self._precise = gram(self.factor, torch.float64), True
        inner = self._gram.clone()
        inner.diagonal().add_(len(inner) * damping)
        cholesky, broken = torch.linalg.cholesky_ex(inner)
        if int(broken) or not bool(torch.isfinite(cholesky).all()):
            mean = float(self._gram.trace()) / len(inner) ** 2
            raise NumericalError(
                f"The damping {damping:.1e} is lost beside a curvature of mean size {mean:.1e} a row",
                f"Try --damping {1e-9 * mean * len(inner):.1e}." if mean < float("inf") else "Are the inputs finite?",
            )
        self.cholesky = cholesky

    def damped(self, damping: float) -> "WoodburyInverse":
        """The same with another λ, without a new Gram matrix."""
        twin = copy(self)
        twin._factorise(damping)
        return twin

    def largest_eigenvalue(self) -> float:
        """Of Fᵀ F / m, by power iteration: within a few per cent, from below."""
        v = self._gram.sum(1, keepdim=True) + 1e-30
        for _ in range(30):
            v = self._gram @ (v / v.norm())
        return float(v.norm()) / len(self._gram)

    def effective_dimension(self) -> float:
        """tr C (C + λ I)⁻¹: how many directions of C = Fᵀ F / m rise above λ."""
        m = len(self._gram)
        unseen = torch.linalg.solve_triangular(
            self.cholesky, torch.eye(m, dtype=torch.float64, device=self.cholesky.device), upper=False
        )
        return m - m * self.damping * float(unseen.square().sum())

    def at(self, dampings: Sequence[float], row: Float[Tensor, " p"]) -> Float[Tensor, "f p"]:
        """(Fᵀ F / m + λ I)⁻¹ of one row at each of the ``dampings``."""
        twins = [self.damped(damping) for damping in dampings]
        kind = torch.float64 if any(twin._precise for twin in twins) else self.factor.dtype
        seen = self._times(row[None].to(kind)).double().T
        inner = torch.cat([torch.cholesky_solve(seen, twin.cholesky).T for twin in twins])
        found: Tensor = (row - self._back(inner.to(kind))) / torch.tensor(dampings).to(row)[:, None]
        return found

    def __call__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        inner = torch.cholesky_solve(self._times(rows).double().T, self.cholesky).T
        return (rows - self._back(inner.to(rows))) / self.damping

    def quadratic(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
        """v · (Fᵀ F / m + λ I)⁻¹ v of each row, ≥ 0, in float64."""
        inner = self._times(rows.double())
        explained = torch.linalg.solve_triangular(self.cholesky, inner.T, upper=False).square().sum(0)
        found: Tensor = ((rows.double().square().sum(1) - explained) / self.damping).clamp_min(0)
        return found

    def _parts(self) -> tuple[Tensor, ...]:
        return pieces(self.factor, 2**24 // self.factor.shape[1])

    def _times(self, rows: Tensor) -> Tensor:
        return torch.cat([rows @ part.to(rows).T for part in self._parts()], dim=1)

    def _back(self, inner: Tensor) -> Tensor:
        total = inner.new_zeros(len(inner), self.factor.shape[1])
        start = 0
        for part in self._parts():
            total += inner[:, start : start + len(part)] @ part.to(inner)
            start += len(part)
        return total


class PrimalInverse:
    """v ↦ (C + λ I)⁻¹ v for an explicit C ``[p p]``, in float64. Raises `NumericalError` if λ is lost beside C."""

    def __init__(self, curvature: Float[Tensor, "p p"], damping: float) -> None:
        p = len(curvature)
        size = float(curvature.trace()) / p
        damped = curvature.clone()
        damped.diagonal().add_(damping)
        self._cholesky, broken = torch.linalg.cholesky_ex(damped)
        if int(broken) or not bool(torch.isfinite(self._cholesky).all()):
            raise NumericalError(
                f"The damping {damping:.1e} is lost beside a curvature of mean eigenvalue {size:.1e}",
                f"Try --damping {1e-9 * size * p:.1e}." if size < float("inf") else "Are the inputs finite?",
            )

    def __call__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        return torch.cholesky_solve(rows.double().T, self._cholesky).T


@dataclass(frozen=True)
class Exact(Solver):
    """Refuses a curvature of which neither factor nor C itself would fit. Nothing is drawn: the seed says nothing."""

    seed: int = 0

    entry = "exact"
    bound = 1e-6

    @staticmethod
    def fits(factor_rows: int, p: int) -> bool:
        """Whether the solve through the rows is cheap for ``factor_rows`` gradients of ``p`` parameters."""
        return factor_rows <= MOST_FACTOR_ROWS and factor_rows * p <= MOST_FACTOR_FLOATS

    @staticmethod
    def by_parameters(factor_rows: int, p: int) -> bool:
        """Whether the one through the parameters is affordable."""
        return p <= MOST_PARAMETERS and factor_rows * p**2 <= MOST_WORK

    def prepare(self, operator: Operator, damping: float) -> "PreparedExact":
        rows = operator.factor_rows if isinstance(operator, Explicit) else 0
        few = self.fits(rows, operator.p)
        if not isinstance(operator, Explicit) or not (few or self.by_parameters(rows, operator.p)):
            raise UsageError(
                f"--solver exact: {rows:,} gradients by {operator.p:,} parameters do not fit an exact solve",
                f"It needs at most {MOST_FACTOR_ROWS:,} gradients, one less than classes of each row, that fit "
                f"{MOST_FACTOR_FLOATS * 4 // 2**30} GiB, or at most {MOST_PARAMETERS:,} parameters: use --solver "
                "lissa, or --params head.",
            )
        if not few:
            whole = operator.precise()
            assert isinstance(whole, Explicit)
            return PreparedExact(operator, damping, PrimalInverse(whole.summed(), damping))
        # At a small λ the rounding of gradients in float32 would be another curvature.
        precise = operator.precise() if operator.factor_rows * operator.p <= WRITTEN_FLOATS else operator
        assert isinstance(precise, Explicit)
        return PreparedExact(operator, damping, WoodburyInverse(precise.whole_factor(), damping))


@dataclass(frozen=True)
class PreparedExact(Prepared):
    """The inverse of one C + λ I, from all of its factor's rows."""

    operator: Operator
    damping: float
    inverse: WoodburyInverse | PrimalInverse

    name = "exact"

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        solved = self.inverse(rows.double())
        residual = relative_residual(self.operator.precise(), self.damping, rows.double(), solved)
        return Solution(solved.to(rows), residual.to(rows), 1, self.damping)
