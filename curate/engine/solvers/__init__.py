"""Ways of solving (C + λ I) u = v, by the name that ``--solver`` takes; each measures what its answer lacks."""

from curate.engine.solvers.base import Solver
from curate.plugs import solver_asked


def make_solver(solver: str | Solver, seed: int = 0) -> Solver:
    """By a name of `plugs.SOLVERS`, with settings or without, which ``seed`` is for; an instance is what it is."""
    if isinstance(solver, Solver):
        return solver
    plug, settings = solver_asked(solver)
    made: Solver = plug.load()(seed=seed, **settings)
    return made
