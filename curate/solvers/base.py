"""Operator, solver, solution: what every way of computing (C + λ I)⁻¹ v takes and returns.

A solver is prepared once for an operator and a damping, then solves any number of blocks of rows.
Every solution carries the residual that was measured, never one that was assumed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from curate.curvature.operator import Operator


def unwatched(steps: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Solution:
    """What a solver found for a block of right-hand sides."""

    rows: Float[Tensor, "k p"]
    residual: Float[Tensor, " k"]
    """|v - (C + λ I) u| / |v| of each row, with the damping that was used."""
    steps: int
    damping: float
    """The λ that was used; a solver may raise the one asked for, and says so."""
    earlier: Float[Tensor, "k p"] | None = None
    """A less converged answer of the same run, from which a score error is estimated; None where the solve is exact."""
    error_scale: float = 0.0
    """Error of ``rows`` as a share of its distance to ``earlier``."""
    detail: dict[str, object] = field(default_factory=dict)


class Prepared(ABC):
    """A solver that knows its operator and damping."""

    @property
    def planned_steps(self) -> int:
        """How often ``solve`` will call ``advance`` if all goes well."""
        return 1

    @abstractmethod
    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        """(C + λ I)⁻¹ of each row. Raises `NumericalError` rather than return a number that is not finite."""


class Solver(ABC):
    """A way of solving; frozen settings, no state."""

    name: str

    @abstractmethod
    def prepare(self, operator: Operator, damping: float) -> Prepared:
        """Whatever can be computed before the right-hand sides are known."""


def relative_residual(
    operator: Operator, damping: float, rows: Float[Tensor, "k p"], solved: Float[Tensor, "k p"]
) -> Float[Tensor, " k"]:
    """|v - (C + λ I) u| / |v|, 0 for a right-hand side of zeros."""
    gap = rows - (operator @ solved) - damping * solved
    relative: Tensor = gap.norm(dim=1) / rows.norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
    return relative
