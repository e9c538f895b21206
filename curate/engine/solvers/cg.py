"""Preconditioned conjugate gradients for a block of right-hand sides, each with its own step lengths.

Hestenes & Stiefel 1952. The outer rounds are iterative refinement: what is still lacking is measured in float64 and
solved for again, so that products in float32 are enough until λ is a ten-thousandth of the largest eigenvalue. The
last round is not added: it is the measured error of the answer that is given.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Damped, Dense, Operator, written_down
from curate.engine.solvers.base import Prepared, Solution, Solver, norms, unwatched
from curate.engine.solvers.preconditioner import Inverse, Preconditioner, precondition
from curate.engine.solvers.spectrum import FLOAT64_BELOW, refuse_negative
from curate.errors import NumericalError

ROUND_GAIN = 2e-3
"""What one round in float32 leaves of an error."""
MEASURED = 0.2
"""What the last round leaves of it: enough to tell its size."""
MEASURED_ROWS = 16
"""Right-hand sides, the last ones, that the last round is about."""
FEW_MEASURED = 4
"""The same of what a near inverse has found by itself."""
ROUNDS = 8
FEWEST_STEPS = 10
"""Steps of a round, whatever the budget is."""
LOOK_BACK, LOOK_BACK_NEAR = 4, 2
"""Steps over which the fall of the error is watched, and with a near inverse, whose steps take away much of it."""
SURE = 0.05
"""Share of the error asked for, below which a near inverse says that what is lacking is no more than that."""
GOING = 0.9
"""Share of the rows still under way at which the others are set aside: each time copies the block."""


@dataclass(frozen=True)
class ConjugateGradients(Solver):
    """Stops when the error of every row is measured to be under ``tolerance`` of it, or after ``steps``."""

    tolerance: float = 1e-4
    steps: int = 1000
    preconditioner: Inverse | None = None
    """An approximate (C + λ I)⁻¹ on rows, symmetric and positive definite; None: made from a sample of the rows."""
    quick: bool = False
    """Steps in C's own type though its spectrum is not known: no direction of it is lost in that type's rounding."""
    seed: int = 0
    near_inverse: bool = False
    """The preconditioner is nearly (C + λ I)⁻¹: a few steps show that they are enough. They are measured all the same.
    """

    entry = "cg"

    @property
    def bound(self) -> float:
        return self.tolerance

    def prepare(self, operator: Operator, damping: float) -> "PreparedCG":
        refuse_negative(operator, damping)
        # What is measured to a few thousandths needs no more digits than steps that lose none.
        rough = self.quick and self.tolerance >= ROUND_GAIN
        exact = operator if rough else written_down(operator.precise())
        small = exact if isinstance(exact, Dense) else operator
        inverse: Inverse | None = self.preconditioner
        name = "given"
        if inverse is None:
            inverse, name = precondition(small, damping, self.seed)
        top = inverse.largest_eigenvalue() if isinstance(inverse, Preconditioner) else math.inf
        precise = isinstance(exact, Dense) or (not self.quick and damping < FLOAT64_BELOW * top)
        return PreparedCG(self, exact, exact if precise else operator, damping, inverse, name, precise)


@dataclass(frozen=True)
class PreparedCG(Prepared):
    """One C + λ I and the preconditioner that its steps are taken with."""

    solver: ConjugateGradients
    exact: Operator
    """In float64, for the gaps."""
    inner: Operator
    """For the steps."""
    damping: float
    precondition: Inverse | None
    preconditioner: str
    precise: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the solver it was made by."""
        return self.solver.name

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        exact, inner = Damped(self.exact, self.damping), Damped(self.inner, self.damping)
        v = rows.to(exact.dtype)
        solved = torch.zeros_like(v)
        gap, missing, done = v, v, 0
        if self.solver.near_inverse and self.precondition is not None:
            found = self._inverted(v, exact)
            if found is not None:
                return replace(found, rows=found.rows.to(rows))
        gain = self.solver.tolerance / 2 if self.precise else max(ROUND_GAIN, self.solver.tolerance / 2)
        expected = 1.0
        for number in range(ROUNDS):
            near = expected <= self.solver.tolerance / 2
            aim = MEASURED if near else max(gain, self.solver.tolerance / (2 * expected))
            asked = gap[-MEASURED_ROWS:] if near else gap
            left = max(self.solver.steps - done, FEWEST_STEPS)  # a budget that is used up still leaves a measurement
            missing, steps = descend(inner, asked, self.precondition, aim, left, advance, self.solver.near_inverse)
            done += steps
            error = float((missing.norm(dim=1) / norms(solved[-len(missing) :])).max()) if number else 1.0
            if number and (error <= self.solver.tolerance or done >= self.solver.steps or number == ROUNDS - 1):
                break
            if near and len(missing) < len(rows):  # more is missing than was expected: of all rows, then
                missing, steps = descend(
                    inner, gap, self.precondition, MEASURED, left, advance, self.solver.near_inverse
                )
                done += steps
            solved, expected = solved + missing, error * aim
            gap = v - exact @ solved
        if not bool(torch.isfinite(solved).all()):
            raise NumericalError(
                f"Conjugate gradients left the finite numbers at damping {self.damping:.2g}", "Try a larger --damping."
            )
        answer = solved.to(rows)
        missing = missing + (solved - answer)[-len(missing) :]  # what is lost by storing it counts as well
        residual = gap.norm(dim=1) / norms(v)
        detail: dict[str, object] = {"preconditioner": self.preconditioner, "float64": self.precise}
        return Solution(answer, residual.to(rows), done, self.damping, (missing.to(rows),), detail)

    def _inverted(self, v: Float[Tensor, "k p"], exact: Operator) -> Solution | None:
        """What the preconditioner makes of the rows; None if that leaves too much of the last ones."""
        assert self.precondition is not None
        solved = self.precondition(v)
        few = slice(-FEW_MEASURED, None)
        gap = v[few] - exact @ solved[few]
        missing = self.precondition(gap)
        if bool((missing.norm(dim=1) > self.solver.tolerance / 2 * norms(solved[few])).any()):
            return None
        return Solution(solved, gap.norm(dim=1) / norms(v[few]), 1, self.damping, (missing,))


def descend(
    operator: Operator,
    rows: Float[Tensor, "k p"],
    precondition: Inverse | None,
    gain: float,
    most: int,
    advance: Callable[[int], None] = unwatched,
    near_inverse: bool = False,
) -> tuple[Float[Tensor, "k p"], int]:
    """CG from 0 until the error of every row has fallen to about ``gain`` of the answer; the answer and the steps.

    Over a few steps the answer moves by nearly all of the error that it had (Strakoš & Tichý 2002), which is what is
    looked at; a residual says little if the spectrum is wide. Rows that have got there take no further steps.
    """
    types = operator.dtype if operator.dtype != torch.float64 else rows.dtype
    tiny = torch.finfo(torch.float64).tiny
    answer, going = torch.zeros_like(rows), torch.arange(len(rows), device=rows.device)
    u, r = torch.zeros_like(rows), rows.clone()

    def approximate(r: Tensor) -> Tensor:
        return r if precondition is None else precondition(r.to(types)).to(rows)

    z = approximate(r)
    d, rz = z, (r * z).sum(1)
    seen: list[Tensor] = []
    done = 0
    while done < most and bool((rz > tiny).any()):
        done += 1
        advance(1)
        product = operator @ d
        curvature = (d * product).sum(1)
        if not operator.definite and bool((curvature < 0).any()):
            raise NumericalError(
                "Negative curvature: the Hessian and this damping are no bowl",
                "Try a larger --damping, or --curvature ggn.",
            )
        # A row that has converged has r = 0 up to rounding: its step is set to 0 instead of 0/0.
        step = torch.where(curvature > tiny, rz / curvature.clamp_min(tiny), 0.0)[:, None]
        u = u + step * d
        new = r - step * product
        z = approximate(new)
        # Polak & Ribière's form of the next direction forgives the rounding of a preconditioner.
        turned = (z * (new - r)).sum(1).clamp_min(0)
        r, before, rz = new, rz, (new * z).sum(1).clamp_min(0)
        d = z + torch.where(before > tiny, turned / before.clamp_min(tiny), 0.0)[:, None] * d
        seen.append(u)
        size = norms(rows[going]) if precondition is None else norms(u) / 2
        lacking = (r if precondition is None else z).norm(dim=1) / size
        there = lacking <= (SURE * gain if near_inverse else 0.0)
        if len(seen) > (LOOK_BACK_NEAR if near_inverse else LOOK_BACK):
            there |= ((u - seen.pop(0)).norm(dim=1) <= gain * norms(u)) & (lacking <= gain)
        if bool(there.any()):
            left = ~there
            if int(left.sum()) <= GOING * len(left):
                answer[going], going = u, going[left]
                u, r, z, d, rz, *seen = (part[left] for part in (u, r, z, d, rz, *seen))
            if not len(going):
                break
    answer[going] = u
    return answer, done
