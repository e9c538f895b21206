"""A training loss at a checkpoint: its rows, their gradients and products of them, and the curvature to solve with."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.curvature.choice import Curvature, curvature_named
from curate.engine.curvature.ekfac import Layers
from curate.engine.curvature.objective import Objective
from curate.engine.curvature.operator import Sampled
from curate.engine.influence.minimum import Gradient
from curate.engine.rows import Rows
from curate.process.progress import Progress


@dataclass(frozen=True)
class Problem:
    """The mean loss of ``rows`` as a function of the objective's parameters; ``curvature`` by name, or its maker."""

    objective: Objective
    rows: Rows
    curvature: str | Curvature = "ggn"

    measured: bool = False
    """The rows are measured, and not trained on: in the loss that training's is measured in."""

    def over(self, rows: Rows) -> "Problem":
        """The same parameters seen from rows to be measured."""
        return replace(self, rows=rows, measured=True)

    @cached_property
    def residuals(self) -> Float[Tensor, "n C"]:
        """rᵢ of each row, on the network's device."""
        assert self.rows.logits is not None
        loss = self.objective.loss.measured if self.measured else self.objective.loss
        return loss.residuals(self.rows.logits, self.rows.labels).to(self.rows.inputs.device)

    @cached_property
    def operator(self) -> Sampled:
        """C."""
        assert self.rows.logits is not None
        means = self.objective.loss.state(self.rows.logits, self.rows.labels).to(self.rows.inputs.device)
        return curvature_named(self.curvature)(self.objective, self.rows.inputs, means, self.residuals)

    @cached_property
    def layers(self) -> Layers:
        """The network's layers as EK-FAC takes them."""
        return Layers(self.objective)

    @cached_property
    def gradient(self) -> Gradient:
        """ḡ, by one backward pass over the rows."""
        total = torch.zeros(1, self.objective.p, device=self.residuals.device)
        objective, inputs = self.objective, self.rows.inputs
        for part in objective.passes.of(objective.in_order(inputs), objective.rows_at_once(inputs)):
            total += self.objective.cotangents(self.rows.inputs.batch(part), self.residuals[part][None])
        return Gradient.of(self.objective.passes.sum(total)[0] / len(self.rows), self.objective.flat)

    def parts(self) -> tuple[Int[Tensor, " _"], ...]:
        """All rows, as many at a time as go through the network; on its device."""
        passes = self.objective.passes
        return passes.parts(len(self.rows), self.objective.rows_at_once(self.rows.inputs), self.residuals.device)

    def row_gradients(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b p"]:
        """gᵢ of these rows."""
        return self.objective.row_gradients(self.rows.inputs.batch(rows), self.residuals[rows])

    def gradient_parts(self, rows: Int[Tensor, " b"]) -> tuple[Int[Tensor, " _"], ...]:
        """These rows, as many at a time as their gradients may fill memory; on the network's device."""
        passes = self.objective.passes
        return passes.of(rows.to(self.residuals.device), passes.budget.chunk // self.objective.p)

    def influence_along(self, directions: Float[Tensor, "k p"], progress: Progress) -> Float[Tensor, "n k"]:
        """Influence of every row along s: (1/n) s · (gᵢ - ḡ)."""
        parts = []
        with progress.stage("Influence of every row", len(self.rows)) as advance:
            for part in self.parts():
                x = self.rows.inputs.batch(part)
                parts.append(self.objective.products_along(x, self.residuals[part], directions).cpu())
                advance(len(part))
        products = self.objective.passes.collect(parts)
        return (products - products.mean(0)) / len(self.rows)

    def influence_on(
        self, rows: Int[Tensor, " b"], solved: Float[Tensor, "k p"], progress: Progress
    ) -> Float[Tensor, "b k"]:
        """The same of these rows only, by a gradient for each."""
        if not len(solved) or not len(rows):
            return torch.zeros(len(rows), len(solved))
        parts = []
        with progress.stage("Candidates' gradients", len(rows)) as advance:
            for part in self.gradient_parts(rows):
                parts.append((self.row_gradients(part) @ solved.T).cpu())
                advance(len(part))
        # ḡ · s is the mean over all rows, which comes from one gradient of the mean loss.
        return (self.objective.passes.collect(parts) - (solved @ self.gradient.flat.to(solved)).cpu()) / len(self.rows)


@dataclass(frozen=True)
class RightHandSides:
    """Gradients of evaluation rows, or what was solved for each of them."""

    together: Float[Tensor, "k p"]
    """One block for a solver; the chosen rows are the last, as `Solution.missing` takes them."""
    groups_of: int
    """How many groups it holds."""

    @property
    def mean(self) -> Float[Tensor, "1 p"]:
        """Of all rows' mean loss."""
        return self.together[:1]

    @property
    def groups(self) -> Float[Tensor, "g p"]:
        """Of each group's mean loss."""
        return self.together[1 : 1 + self.groups_of]

    @property
    def chosen(self) -> Float[Tensor, "c p"]:
        """Of single rows."""
        return self.together[1 + self.groups_of :]


def right_hand_sides(
    evaluation: Problem,
    chosen: Int[Tensor, " c"],
    progress: Progress,
    groups: Int[Tensor, " E"] | None = None,
) -> RightHandSides:
    """Of the rows of ``evaluation``; ``groups`` deals them, ``chosen`` are those asked for one by one."""
    objective, rows, residuals = evaluation.objective, evaluation.rows, evaluation.residuals
    passes = objective.passes
    numbers = torch.zeros(len(rows), dtype=torch.long) if groups is None else groups
    counts = torch.bincount(numbers)
    sums = torch.zeros(len(counts), objective.p, device=residuals.device)
    with progress.stage("Evaluation gradients", len(rows)) as advance:
        for group in range(len(counts)):
            members = (numbers == group).nonzero()[:, 0].to(residuals.device)
            for part in passes.of(members, objective.rows_at_once(rows.inputs)):
                sums[group] += objective.cotangents(rows.inputs.batch(part), residuals[part][None])[0]
                advance(len(part))
    sums = passes.sum(sums)
    own = [evaluation.row_gradients(part) for part in evaluation.gradient_parts(chosen) if len(part)]
    means = [sums.sum(0, keepdim=True) / len(rows), sums[:0] if groups is None else sums / counts[:, None].to(sums)]
    return RightHandSides(torch.cat([*means, passes.collect(own or [sums[:0]])]), len(means[1]))
