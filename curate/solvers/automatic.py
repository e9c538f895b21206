"""``--solver auto``: which solver a problem gets, by its size and a short look at its spectrum, and why.

A default damping is not worth the many times as long that a small one takes: where training has not come to rest, more
of it predicts refits better (Bae et al. 2022), and planted harm is found as well with as much as plain LiSSA needs
(`tests/bench/harm.py planted`). One that a person asked for is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from curate.curvature.operator import Explicit, Operator, Sampled
from curate.solvers.base import Prepared, Solution, Solver, unwatched
from curate.solvers.cg import ConjugateGradients
from curate.solvers.dual import Exact
from curate.solvers.lissa import LiSSA, preconditioned, ranking
from curate.solvers.preconditioner import FEWEST_ROWS, SAMPLE_FLOATS
from curate.solvers.spectrum import probe

FEW_ROWS = 8192
"""Rows up to which some fifty products with all of them are cheaper than the 450 batches of preconditioned LiSSA."""


@dataclass(frozen=True)
class Automatic(Solver):
    """Chooses when it sees the operator; the solution's ``detail`` says what was chosen, and ``why``.

    ``firm``: the damping was asked for by a person, and is kept where any solver reaches it.
    """

    seed: int = 0
    firm: bool = True

    name = "auto"

    def prepare(self, operator: Operator, damping: float) -> "PreparedAutomatic":
        solver, why = choose(operator, damping, self.seed, self.firm)
        return PreparedAutomatic(solver.prepare(operator, damping), why)


@dataclass(frozen=True)
class PreparedAutomatic(Prepared):
    chosen: Prepared
    why: str

    @property
    def name(self) -> str:  # type: ignore[override]
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
        return Exact(), f"{operator.factor_rows:,} rows x classes are few enough for an exact solve"
    if not isinstance(operator, Sampled):
        return ConjugateGradients(seed=seed), "the curvature cannot be sampled"
    if not operator.definite:
        return ConjugateGradients(seed=seed), "a Hessian may have negative eigenvalues, which it notices"
    generator = torch.Generator().manual_seed(seed)
    top = probe(operator, min(256, operator.n), generator, probes=2).top
    plain: LiSSA = ranking(seed)
    share = (
        f"a damping of {damping:.2g} is 1/{float(f'{top / damping:.2g}'):,.0f} of the largest eigenvalue"
        if top > damping
        else "the damping is large"
    )
    if damping >= plain.smallest(top):
        return plain, f"{share}, which {plain.steps} steps solve"
    beyond = f"{share}, beyond {plain.steps} plain steps"
    few = operator.n <= FEW_ROWS
    if not few and SAMPLE_FLOATS // operator.p < FEWEST_ROWS:
        return plain, f"{beyond}, so it is raised: {operator.p:,} parameters are too many to precondition by rows"
    if not firm:
        return plain, f"{beyond}, so it is raised; --damping {damping:.2g} would keep it"
    if few:
        why = f"{operator.n:,} rows are few enough for products with all of them"
        return ConjugateGradients(seed=seed), f"{beyond}; {why}"
    return preconditioned(seed), f"{beyond}; a sample of the rows preconditions it"
