"""What influence says of a change before it is made: the change of the mean evaluation loss, and the flips.

Leaving rows out moves the parameters by (1/n) (C + λI)⁻¹ Σ (gᵢ - ḡ), with the leverage-corrected gradient at a head;
relabelling them by (1/n) (C + λI)⁻¹ Σ Jᵢᵀ (y'ᵢ - yᵢ), which needs no correction: the row stays, and so does its
curvature. Times the mean evaluation gradient that is the predicted change of the loss, nats.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.influence.damping import default_damping
from curate.engine.influence.head import HeadInfluence
from curate.engine.influence.problem import Problem, right_hand_sides
from curate.engine.rows import Rows
from curate.engine.solvers import make_solver
from curate.engine.solvers.base import Solver
from curate.engine.solvers.preconditioner import sample_inverse
from curate.process.progress import Progress


class Predictor(ABC):
    """Predicted changes of the mean loss of the target rows, one entry a training row, nats."""

    how: str
    """In words, for the report."""

    def drop(self) -> Float[Tensor, " n"]:
        """When each training row is left out."""
        return self.drop_on_each()[:, 0]

    @abstractmethod
    def drop_on_each(self) -> Float[Tensor, "n m"]:
        """The same, and beside it the change of the loss of each of the k target rows that were named."""

    @abstractmethod
    def relabel(self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        """When each of these rows gets this label."""


@dataclass(frozen=True)
class AtHead(Predictor):
    """By the closed form at a head; ``x [T D]`` and ``rests [T C]`` are those of the target rows."""

    head: HeadInfluence
    x: Float[Tensor, "T D"]
    rests: Float[Tensor, "T C"]
    how: str
    alone: Int[Tensor, " k"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Target rows that are also asked for one by one."""

    def drop_on_each(self) -> Float[Tensor, "n m"]:
        mean = self.head.mean_of(self.x, self.rests)
        solved, _, _ = self.head.solve(
            torch.cat([mean, self.head.gradients(self.x[self.alone], self.rests[self.alone])])
        )
        return torch.cat([self.head.on(solved, rows) for rows in self.head.blocks(len(solved))])

    def relabel(self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        curvature = self.head.head.curvature
        solved, _, _ = self.head.solve(self.head.mean_of(self.x, self.rests))
        moves = curvature.x[rows] @ solved.view(curvature.classes, curvature.width).T
        return (moves * moved_labels(self.head.labels[rows], labels, curvature.classes)).sum(1) / curvature.n

    def shift(self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"] | None) -> Float[Tensor, "1 p"]:
        """How the head's weights move for all of the rows together."""
        if labels is None:
            return self.head.shifts_together([rows])
        curvature = self.head.head.curvature
        moved = moved_labels(self.head.labels[rows], labels, curvature.classes).to(curvature.x)
        gradient = self.head.gradients(curvature.x[rows], moved).sum(0, keepdim=True)
        return self.head.solve(gradient)[0] / curvature.n


class ThroughNetwork(Predictor):
    """By one solve for the gradients of the target rows, and one forward-mode pass over the training rows."""

    def __init__(
        self,
        problem: Problem,
        targets: Rows,
        solver: str | Solver,
        damping: float | None,
        seed: int,
        progress: Progress,
        alone: Int[Tensor, " k"] | None = None,
        penalty: float = 0.0,
    ) -> None:
        """Of the rows of ``problem`` on ``targets``, of which those ``alone`` are also asked for one by one.

        A ``damping`` of None is the default one, at least a known L2 ``penalty``; ``seed`` draws its estimates.
        """
        nobody = torch.empty(0, dtype=torch.long)
        rights = right_hand_sides(problem.over(targets), nobody if alone is None else alone, progress)
        if damping is None:
            damping = default_damping(problem.operator, problem.gradient, seed, penalty)
        prepared = make_solver(solver, seed).prepare(problem.operator, damping)
        with progress.stage(f"Solving with {prepared.name}", prepared.planned_steps) as advance:
            solution = prepared.solve(rights.together(), advance)
        self._problem, self._progress, self._seed = problem, progress, seed
        self._right = rights.mean
        self.direction: Float[Tensor, " p"] = solution.rows[0]
        """(C + λI)⁻¹ times the mean gradient of the target rows."""
        self._drops = problem.influence_along(solution.rows, progress)
        self.how = (
            f"{prepared.name} on {problem.operator.name}, {problem.objective.p:,} parameters, "
            f"damping {solution.damping:.2g}"
        )

    def drop_on_each(self) -> Float[Tensor, "n m"]:
        return self._drops

    def drop_at(self, damping: float) -> Float[Tensor, " n"]:
        """`drop` with another damping, by the Woodbury inverse of a sample of the rows."""
        inverse = sample_inverse(self._problem.operator, damping, self._seed)
        direction = inverse(self._right.double()).to(self._right)
        return self._problem.influence_along(direction, self._progress)[:, 0]

    def relabel(self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        train, objective = self._problem.rows, self._problem.objective
        moved = moved_labels(train.labels[rows], labels, self._problem.residuals.shape[1])
        parts = [
            objective.tangents(train.inputs.batch(part), self.direction[None])[0].cpu()
            for part in rows.split(objective.passes.budget.network_rows)
        ]
        return (torch.cat(parts) * moved).sum(1) / len(train)


def moved_labels(old: Int[Tensor, " m"], new: Int[Tensor, " m"], classes: int) -> Float[Tensor, "m C"]:
    """y'ᵢ - yᵢ."""
    return (F.one_hot(new, classes) - F.one_hot(old, classes)).float()
