"""``--solver auto``: which solver a problem gets, by its size and a short look at its spectrum, and why."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Explicit, Operator, Sampled
from curate.engine.solvers.base import Prepared, Solution, Solver, unwatched
from curate.engine.solvers.cg import ConjugateGradients
from curate.engine.solvers.dual import Exact
from curate.engine.solvers.lissa import LiSSA
from curate.engine.solvers.preconditioner import FEWEST_ROWS, SAMPLE_FLOATS

TIGHT = 5e-3
"""Measured error that `auto` asks of preconditioned LiSSA."""
FEW_ROWS = 8192
"""Rows up to which some fifty products with all of them are cheaper than the 450 batches of preconditioned LiSSA."""


@dataclass(frozen=True)
class Automatic(Solver):
    """Chooses when it sees the operator; the solution's ``detail`` says what was chosen, and ``why``.

    ``firm``: a person asked for the damping, and it is kept if any solver reaches it. A default is not worth the
    many times as long that a small one takes.
    """

    seed: int = 0
    firm: bool = True

    entry = "auto"
    bound = 0.1

    def prepare(self, operator: Operator, damping: float) -> "PreparedAutomatic":
        solver, why = choose(operator, damping, self.seed, self.firm)
        return PreparedAutomatic(solver.prepare(operator, damping), why)


@dataclass(frozen=True)
class PreparedAutomatic(Prepared):
    """The chosen solver, made ready; its solutions say ``why`` it was chosen."""

    chosen: Prepared
    why: str

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the chosen solver."""
        return self.chosen.name

    @property
    def planned_steps(self) -> int:
        return self.chosen.planned_steps

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        solution = self.chosen.solve(rows, advance)
        return replace(solution, detail={**solution.detail, "why": self.why})


def choose(operator: Operator, damping: float, seed: int = 0, firm: bool = True) -> tuple[Solver, str]:
    """The solver, and one sentence that says why."""
    if isinstance(operator, Explicit) and Exact.fits(operator.factor_rows, operator.p):
        return Exact(), f"{operator.factor_rows:,} gradients are few enough for an exact solve"
    if not isinstance(operator, Sampled):
        return ConjugateGradients(seed=seed), "the curvature cannot be sampled"
    if not operator.definite:
        return ConjugateGradients(seed=seed), "a Hessian may have negative eigenvalues, which it notices"
    plain = LiSSA(seed=seed)
    reach = plain.reach(operator)
    if damping >= reach:
        return plain, f"{plain.steps} plain steps solve a damping of {damping:.2g}"
    beyond = f"{plain.steps} plain steps solve dampings down to {reach:.2g}, not {damping:.2g}"
    few = operator.n <= FEW_ROWS
    if not few and SAMPLE_FLOATS // operator.p < FEWEST_ROWS:
        return plain, f"{beyond}, so it is raised: {operator.p:,} parameters are too many to precondition by rows"
    if not firm:
        return plain, f"{beyond}, so it is raised; --damping {damping:.2g} would keep it"
    if few:
        why = f"{operator.n:,} rows are few enough for products with all of them"
        return ConjugateGradients(seed=seed), f"{beyond}; {why}"
    tight = LiSSA(tolerance=TIGHT, preconditioned=True, seed=seed)
    return tight, f"{beyond}; a sample of the rows preconditions it"
