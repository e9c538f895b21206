"""Curvatures of a network by the name that ``--curvature`` takes."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.fisher import EmpiricalFisher
from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.hessian import Hessian
from curate.engine.curvature.objective import Objective
from curate.engine.curvature.operator import Sampled
from curate.engine.rows import Inputs

Rows = Float[Tensor, "n C"]

CURVATURES: dict[str, Callable[[Objective, Inputs, Rows, Rows], Sampled]] = {
    "ggn": lambda objective, inputs, p, r: GaussNewton(objective, inputs, p),
    "hessian": lambda objective, inputs, p, r: Hessian(GaussNewton(objective, inputs, p), r),
    "fisher": lambda objective, inputs, p, r: EmpiricalFisher(objective, inputs, r),
}
"""Name -> what makes it from the rows' probabilities and residuals."""
