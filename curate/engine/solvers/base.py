"""Operator, solver, solution: what every way of computing (C + λ I)⁻¹ v takes and returns.

A solver is prepared once for an operator and a damping, then solves any number of blocks of rows.
Every solution carries the residual that was measured, never one that was assumed, and what it still lacks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Operator
from curate.plugs import SOLVERS, solver_spelled

RESIDUAL_BOUND = 0.1
"""A measured residual beyond it becomes a warning in the report."""
RANKS_BOUND = 0.5
"""So does, of a solver that replaces the curvature, a rank correlation with solved scores below it."""


def unwatched(steps: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Solution:
    """What a solver found for a block of right-hand sides."""

    rows: Float[Tensor, "k p"]
    residual: Float[Tensor, " r"]
    """|v - (C + λ I) u| / |v| with the damping that was used, of the rows it was measured on: all, or the last ones."""
    steps: int
    damping: float
    """The λ that was used; a solver may raise the one asked for, and says so."""
    missing: tuple[Float[Tensor, "j p"], ...] = ()
    """Estimates of (C + λ I)⁻¹ v - u for the last j rows: one, or two whose noise is independent; none if exact."""
    detail: dict[str, object] = field(default_factory=dict)

    def error(self) -> float:
        """Estimated |u - w| / |w| with w = (C + λ I)⁻¹ v, the mean of the rows it was measured on; 0 if it is exact."""
        return relative_size(self.missing, self.rows)


def relative_size(parts: tuple[Tensor, ...], whole: Float[Tensor, "k p"]) -> float:
    """Mean of √(a · b) / √((u + a) · (u + b)) over the last rows u of ``whole``; a and b: first and last of ``parts``.

    u + a is what u would be without its gap: an answer that is many times too large is off by many times the right
    one, not by nearly itself. Noise that is independent in the two parts cancels.
    """
    if not parts or not len(parts[0]):
        return 0.0
    one, other, last = parts[0].double(), parts[-1].double(), whole[-len(parts[0]) :].double()
    # Noise may leave next to nothing of an answer that is all gap.
    size = ((last + one) * (last + other)).sum(1).maximum(1e-12 * last.square().sum(1))
    squared = (one * other).sum(1).clamp_min(0)
    nonzero = size > 0
    return float((squared[nonzero] / size[nonzero]).sqrt().mean()) if bool(nonzero.any()) else 0.0


class Prepared(ABC):
    """A solver that knows its operator and damping."""

    name: str
    """Of the solver; with ``auto``, of the one that was chosen."""

    @property
    def planned_steps(self) -> int:
        """How often ``solve`` will call ``advance`` if all goes well."""
        return 1

    @abstractmethod
    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        """(C + λ I)⁻¹ of each row. Raises `NumericalError` rather than return a number that is not finite."""


class Solver(ABC):
    """A way of solving: a frozen dataclass of settings, ``seed`` among them."""

    entry: str
    """Of the class in `plugs.SOLVERS`; those that are its presets have the class in common."""

    @property
    def name(self) -> str:
        """As ``--solver`` takes it."""
        changed = {key: getattr(self, key) for key in SOLVERS[self.entry].settings}
        changed = {key: value for key, value in changed.items() if value != getattr(type(self), key)}
        return solver_spelled(self.entry, changed)

    @property
    @abstractmethod
    def bound(self) -> float | None:
        """Largest |u - (C + λ I)⁻¹ v| / |u| that the laws allow it, at the λ it used.

        None if it solves an easier curvature: its error is then the one that it measures.
        """

    @abstractmethod
    def prepare(self, operator: Operator, damping: float) -> Prepared:
        """Whatever can be computed before the right-hand sides are known."""


def norms(rows: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
    """|v| of each row, never 0: what relative quantities are divided by."""
    found: Tensor = rows.norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
    return found


def relative_residual(
    operator: Operator, damping: float, rows: Float[Tensor, "k p"], solved: Float[Tensor, "k p"]
) -> Float[Tensor, " k"]:
    """|v - (C + λ I) u| / |v|, 0 for a right-hand side of zeros."""
    gap = rows - (operator @ solved) - damping * solved
    relative: Tensor = gap.norm(dim=1) / norms(rows)
    return relative
