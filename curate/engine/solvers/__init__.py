"""Ways of solving (C + λ I) u = v, by the name that ``--solver`` takes; each measures what its answer lacks."""

from collections.abc import Callable

from curate.engine.solvers.approximate import EKFACSolver, Lanczos, Nystrom
from curate.engine.solvers.automatic import Automatic
from curate.engine.solvers.base import Solver
from curate.engine.solvers.cg import ConjugateGradients
from curate.engine.solvers.dual import Exact
from curate.engine.solvers.lissa import preconditioned, ranking, tight

SOLVERS: dict[str, Callable[[int], Solver]] = {
    "auto": Automatic,
    "exact": lambda seed: Exact(),
    "cg": lambda seed: ConjugateGradients(seed=seed),
    "lissa": ranking,
    "lissa-tight": tight,
    "preconditioned-lissa": preconditioned,
    "ekfac": EKFACSolver,
    "lanczos": Lanczos,
    "nystrom": Nystrom,
}
"""Name -> a solver with default settings, given a seed."""
