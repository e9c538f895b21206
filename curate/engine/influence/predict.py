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
from curate.engine.influence.layers import PROBE_SHARE, ByLayers, blended, spread_ratio
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
        return self.head.on_everyone(solved)

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


@dataclass(frozen=True)
class ThroughNetwork(Predictor):
    """By one solve for the gradients of the target rows; `solved` and `by_layers` make one."""

    problem: Problem
    right: Float[Tensor, "1 p"]
    """The mean gradient of the target rows."""
    direction: Float[Tensor, " p"]
    """(C + λI)⁻¹ times it."""
    drops: Float[Tensor, "n m"]
    how: str
    seed: int
    progress: Progress
    probe: "tuple[AtHead, float] | None" = None
    """The probe that is blended in, and the factor that brings it to the spread of the network's answer."""

    @classmethod
    def solved(
        cls,
        problem: Problem,
        targets: Rows,
        solver: str | Solver,
        damping: float | None,
        seed: int,
        progress: Progress,
        alone: Int[Tensor, " k"] | None = None,
    ) -> "ThroughNetwork":
        """Of the rows of ``problem`` on ``targets``, of which those ``alone`` are also asked for one by one.

        One forward-mode pass over the training rows. A ``damping`` of None is the default one; ``seed`` draws its
        estimates.
        """
        rights = right_hand_sides(problem.over(targets), nobody() if alone is None else alone, progress)
        if damping is None:
            damping = default_damping(problem.operator, problem.gradient, seed)
        prepared = make_solver(solver, seed).prepare(problem.operator, damping)
        with progress.stage(f"Solving with {prepared.name}", prepared.planned_steps) as advance:
            solution = prepared.solve(rights.together, advance)
        drops = problem.influence_along(solution.rows, progress)
        how = (
            f"{prepared.name} on {problem.operator.name}, {problem.objective.p:,} parameters, "
            f"damping {solution.damping:.2g}"
        )
        return cls(problem, rights.mean, solution.rows[0], drops, how, seed, progress)

    @classmethod
    def by_layers(
        cls, problem: Problem, targets: Rows, probe: AtHead | None, seed: int, progress: Progress
    ) -> "ThroughNetwork":
        """The same as a scan answers it by default; ``probe`` names the rows that are also asked for one by one."""
        layers = ByLayers(problem, seed, progress)
        rights = right_hand_sides(problem.over(targets), nobody() if probe is None else probe.alone, progress)
        solved = layers.solve(rights.together)
        drops, factor, _ = layers.answer(rights.mean, solved)
        direction = factor * solved[0]
        how = f"ekfac, {problem.objective.p:,} parameters, damped by layer"
        if probe is None:
            return cls(problem, rights.mean, direction, drops, how, seed, progress)
        beside = probe.drop_on_each().float().cpu()
        ratio = float(spread_ratio(drops, beside)[0])
        drops, how = blended(drops, beside), f"{how}, with a third of the probe's answer"
        return cls(problem, rights.mean, direction, drops, how, seed, progress, (probe, ratio))

    def drop_on_each(self) -> Float[Tensor, "n m"]:
        return self.drops

    def drop_at(self, damping: float) -> Float[Tensor, " n"]:
        """`drop` with another damping, by the Woodbury inverse of a sample of the rows."""
        inverse = sample_inverse(self.problem.operator, damping, self.seed)
        direction = inverse(self.right.double()).to(self.right)
        return self.problem.influence_along(direction, self.progress)[:, 0]

    def relabel(self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        train, objective = self.problem.rows, self.problem.objective
        moved = moved_labels(train.labels[rows], labels, self.problem.residuals.shape[1])
        parts = [
            objective.tangents(train.inputs.batch(part), self.direction[None])[0].cpu()
            for part in objective.passes.of(rows, objective.rows_at_once(train.inputs))
        ]
        network = (objective.passes.collect(parts) * moved).sum(1) / len(train)
        if self.probe is None:
            return network
        probe, ratio = self.probe
        return (1 - PROBE_SHARE) * network + PROBE_SHARE * ratio * probe.relabel(rows, labels).to(network)


def nobody() -> Int[Tensor, " 0"]:
    """No rows."""
    return torch.empty(0, dtype=torch.long)


def moved_labels(old: Int[Tensor, " m"], new: Int[Tensor, " m"], classes: int) -> Float[Tensor, "m C"]:
    """y'ᵢ - yᵢ."""
    return (F.one_hot(new, classes) - F.one_hot(old, classes)).float()
