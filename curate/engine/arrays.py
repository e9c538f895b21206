"""The engine on arrays in memory: their rows, the training loss over them, and influence of some rows on others.

Knows how a module and arrays become a `Problem`; leaves every number to the rooms below.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curate.engine.curvature.choice import Curvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.damping import default_damping
from curate.engine.influence.layers import ByLayers
from curate.engine.influence.problem import Problem, right_hand_sides
from curate.engine.passes import pieces
from curate.engine.solvers import make_solver
from curate.engine.solvers.base import Solver
from curate.process.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt


class ArrayInputs:
    """Inputs ``[n ...]`` in memory."""

    def __init__(self, x: Tensor, device: torch.device) -> None:
        self.x, self.device = x, device

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor) -> Tensor:
        """Those of these rows, on the device."""
        return self.x[indices.to(self.x.device)].to(self.device)


@dataclass(frozen=True)
class ArrayRows:
    """Rows of arrays, as the engine reads rows (`engine.rows.Rows`)."""

    inputs: ArrayInputs
    labels: Int[Tensor, " n"]
    logits: Float[Tensor, "n C"] | None

    @classmethod
    def of(cls, objective: Objective, x: "npt.NDArray[Any] | Tensor", y: "npt.NDArray[Any] | Tensor") -> "ArrayRows":
        """Inputs ``x [n ...]`` with labels ``y [n]``, numbers of the classes, and what the objective's network says."""
        given = torch.as_tensor(x)
        inputs = ArrayInputs(given.float() if given.is_floating_point() else given, objective.flat.device)
        parts = pieces(torch.arange(len(given)), objective.rows_at_once(inputs))
        with torch.no_grad():
            logits = torch.cat([objective.forward(inputs.batch(part)).float().cpu() for part in parts])
        return cls(inputs, torch.as_tensor(y).long().cpu(), logits)

    def __len__(self) -> int:
        return len(self.labels)


def problem_of(
    module: nn.Module,
    x: "npt.NDArray[Any] | Tensor",
    y: "npt.NDArray[Any] | Tensor",
    *,
    params: str = "all",
    curvature: str | Curvature = "ggn",
    logits_of: Callable[[Any], Tensor] = lambda output: output,
) -> Problem:
    """The mean cross-entropy of a module on arrays, as a function of the parameters that ``params`` names.

    ``params``: `all`, or a regular expression of names. ``logits_of`` takes the logits out of what the module returns.
    A copy of the module is asked, in evaluation mode; it stays as it is. Raises `UsageError` if nothing is chosen.
    """
    asked = copy.deepcopy(module).eval()
    objective = Objective(asked, choose_parameters(asked, params), logits_of)
    return Problem(objective, ArrayRows.of(objective, x, y), curvature)


def influence_of(
    problem: Problem,
    x: "npt.NDArray[Any] | Tensor",
    y: "npt.NDArray[Any] | Tensor",
    *,
    solver: str | Solver = "ekfac",
    damping: float | None = None,
    seed: int = 0,
) -> Float[Tensor, "n T"]:
    """Influence of every row of ``problem`` on each row of ``x [T ...]``, ``y [T]``, nats: the predicted rise of its
    loss when the former is left out and the model refitted. Below 0 the row harms.

    Without a ``damping`` `ekfac` damps each layer by a share of its mean eigenvalue, as a scan does by default (which
    also asks its probe). Any other solver, and a damping, solve (C + λ I) u = g once for all T.
    """
    silent, rows = Progress.silent(), ArrayRows.of(problem.objective, x, y)
    rights = right_hand_sides(problem.over(rows), torch.arange(len(rows)), silent).chosen
    if solver == "ekfac" and damping is None:
        layers = ByLayers(problem, seed, silent)
        return layers.answer(rights[:1], layers.solve(rights))[0]
    if damping is None:
        damping = default_damping(problem.operator, problem.gradient, seed)
    solution = make_solver(solver, seed).prepare(problem.operator, damping).solve(rights)
    return problem.influence_along(solution.rows, silent)
