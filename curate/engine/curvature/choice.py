"""Curvatures of a network by the name that ``--curvature`` takes."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.objective import Objective
from curate.engine.curvature.operator import Sampled
from curate.engine.rows import RowInputs
from curate.plugs import CURVATURES

OfRows = Float[Tensor, "n C"]
Curvature = Callable[[Objective, RowInputs, OfRows, OfRows], Sampled]
"""What makes the operator from the rows' means (the probabilities) and residuals."""


def curvature_named(curvature: str | Curvature) -> Curvature:
    """By a name of `plugs.CURVATURES`; what makes one is what it is."""
    if not isinstance(curvature, str):
        return curvature
    made: Curvature = CURVATURES[curvature].load().of
    return made
