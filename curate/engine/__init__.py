"""The numerics: curvature, solvers, influence and suspicion, on tensors.

Its nouns for those who write their own are names of this package, imported when they are asked for:
``curate.engine.problem_of(module, x, y)``. `docs/how-to/engine.md` shows each.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.engine.arrays import ArrayRows, influence_of, problem_of
    from curate.engine.curvature.objective import Objective
    from curate.engine.curvature.operator import Dense, Operator, Sampled
    from curate.engine.influence.problem import Problem
    from curate.engine.loss import Loss
    from curate.engine.rows import Rows
    from curate.engine.solvers import make_solver
    from curate.engine.solvers.base import Prepared, Solution, Solver, relative_residual

__all__ = [
    "ArrayRows",
    "Dense",
    "Loss",
    "Objective",
    "Operator",
    "Prepared",
    "Problem",
    "Rows",
    "Sampled",
    "Solution",
    "Solver",
    "influence_of",
    "make_solver",
    "problem_of",
    "relative_residual",
]
_WHERE = {
    "arrays": ("ArrayRows", "influence_of", "problem_of"),
    "curvature.objective": ("Objective",),
    "curvature.operator": ("Dense", "Operator", "Sampled"),
    "influence.problem": ("Problem",),
    "loss": ("Loss",),
    "rows": ("Rows",),
    "solvers": ("make_solver",),
    "solvers.base": ("Prepared", "Solution", "Solver", "relative_residual"),
}


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"curate.engine.{module}"), name)
    raise AttributeError(f"module 'curate.engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
