"""What the curvatures of a network share: a mean over rows of data, of which the outputs' derivatives are taken.

Each is C = (1/n) Σ Jᵢᵀ Aᵢ Jᵢ with a small matrix Aᵢ on the logits (`gauss_newton`, `fisher`), or built on it
(`hessian`). Nothing of size n x p is held: rows go through in chunks.
"""

from abc import abstractmethod
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.objective import Objective
from curate.engine.curvature.operator import Operator, Sampled, gram
from curate.engine.passes import pieces, slices
from curate.engine.rows import RowInputs


class OverRows(Sampled):
    """C over ``inputs``; ``targets [n K]`` is what the curvature needs to know of each row's outputs."""

    by_residuals: ClassVar[bool] = False
    """The targets are the rows' residuals, else the means of their logits."""

    @classmethod
    def of(
        cls, objective: Objective, inputs: RowInputs, means: Float[Tensor, "n K"], residuals: Float[Tensor, "n C"]
    ) -> "OverRows":
        """C of rows of which both are known."""
        return cls(objective, inputs, residuals if cls.by_residuals else means)

    def __init__(self, objective: Objective, inputs: RowInputs, targets: Float[Tensor, "n K"]) -> None:
        self.objective, self.inputs, self.targets = objective, inputs, targets.to(objective.dtype)
        self.p, self.n, self.device = objective.p, len(targets), targets.device
        self.dtype, self.passes = objective.dtype, objective.passes
        self.rows = torch.arange(self.n, device=self.device)

    def on(self, indices: Tensor) -> "OverRows":
        part = type(self)(self.objective, self.inputs, self.targets[indices])
        part.rows = self.rows[indices]
        return part

    def precise(self) -> "OverRows":
        twin = type(self)(self.objective.precise(), self.inputs, self.targets)
        twin.rows = self.rows
        return twin

    def chunks(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """(positions within this operator, rows of the inputs), ``size`` rows at a time."""
        return [(part, self.rows[part]) for part in self.passes.parts(self.n, size, self.device)]

    @abstractmethod
    def columns(self, targets: Float[Tensor, "b K"]) -> Float[Tensor, "m b C"]:
        """w_ci of each row, of which Aᵢ is the sum Σ_c w_ci w_ciᵀ."""

    def middle(self, targets: Float[Tensor, "b K"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
        """Aᵢ zᵢ of each row."""
        columns = self.columns(targets)
        return torch.einsum("mbc,mkb->kbc", columns, torch.einsum("mbc,kbc->mkb", columns, moves))

    @abstractmethod
    def pulls(self, targets: Float[Tensor, "b K"], generator: torch.Generator) -> Float[Tensor, "b C"]:
        """wᵢ, drawn so that E[wᵢ wᵢᵀ] = Aᵢ: Jᵢᵀ wᵢ is one unbiased gradient a row."""

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        directions = rows.to(self.dtype)
        total = torch.zeros_like(directions)
        written = self._by_row_gradients(len(rows))
        for positions, indices in self.chunks(self.objective.rows_at_once(self.inputs)):
            x, targets = self.inputs.batch(indices), self.targets[positions]
            found = self.objective.product_of_columns(x, self.columns(targets), directions, written)
            if found is None:
                found = self.objective.cotangents(x, self.middle(targets, self.objective.tangents(x, directions)))
            total += found
        return (self.passes.sum(total) / self.n).to(rows)

    def _by_row_gradients(self, directions: int) -> bool:
        """Whether one backward pass for each column of Aᵢ is less work than two passes for each direction.

        So it is with a Fisher matrix, and with many directions through convolutions, which no map over them helps.
        """
        columns = len(self.columns(self.targets[:1]))
        slow = self.objective.by_direction
        return self.objective.layers is not None and (columns == 1 or (slow and 2 * directions > 3 * columns))

    @property
    def by_factors(self) -> bool:
        """Whether a product is made of layers' inputs and output gradients: columns of Aᵢ then cost little."""
        return self.objective.factored

    @property
    def _gradient_rows(self) -> int:
        return max(1, min(1024, self.passes.budget.chunk // self.p))

    def whole_factor(self) -> Float[Tensor, "m p"]:
        """F with C = FᵀF / m: the gradients of every column of every row, larger by the root of their number."""
        whole = torch.empty(0, self.n, self.p)
        for rows in slices(self.n, self._gradient_rows):
            columns = self.columns(self.targets[rows])
            gradients = self.objective.several_row_gradients(self.inputs.batch(self.rows[rows]), columns)
            for column, found in enumerate(gradients):
                if not len(whole):
                    whole = found.new_empty(len(columns), self.n, self.p)
                torch.mul(found, len(columns) ** 0.5, out=whole[column, rows])
        return whole.flatten(0, 1)

    def summed(self) -> Float[Tensor, "p p"]:
        """C itself, in float64: its factor is written down for some rows at a time."""
        total = torch.zeros(self.p, self.p, dtype=torch.float64, device=self.device)
        for rows in self.passes.parts(self.n, self._gradient_rows, self.device):
            columns = self.columns(self.targets[rows])
            for found in self.objective.several_row_gradients(self.inputs.batch(self.rows[rows]), columns):
                total += (found.T @ found).double()
        return self.passes.sum(total) / self.n

    def factor(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b p"]:
        """One gradient a row for each row, by `pulls`."""
        return self._gradients(indices, self.pulls(self.targets[indices], generator))

    def _gradients(self, indices: Tensor, pulls: Float[Tensor, "b C"]) -> Float[Tensor, "b p"]:
        parts = slices(
            len(indices), self.passes.budget.chunk // (2 * self.p)
        )  # beside them stand those of each parameter
        if len(parts) == 1:
            return self.objective.row_gradients(self.inputs.batch(self.rows[indices]), pulls)
        whole = torch.empty(len(indices), self.p, dtype=self.dtype, device=self.device)
        for part in parts:
            whole[part] = self.objective.row_gradients(self.inputs.batch(self.rows[indices[part]]), pulls[part])
        return whole

    def inner_products(
        self, indices: Tensor, columns: Float[Tensor, "m b C"], factor: Float[Tensor, "mb p"]
    ) -> Float[Tensor, "mb mb"]:
        """F Fᵀ of these rows' gradients for the ``columns``, larger by the root of their number.

        Of a layer whose gradients are x gᵀ it is made of inner products of the x, and of the g, in its place.
        """
        layers, b, m = self.objective.layers, len(indices), len(columns)
        assert layers is not None
        parts = slices(b, self.objective.rows_at_once(self.inputs))
        batches = [self.inputs.batch(self.rows[indices[part]]) for part in parts]
        outer, rest = layers.outer(
            [(partial(self.objective.forward, x), columns[:, part]) for x, part in zip(batches, parts, strict=True)]
        )
        total = gram(torch.cat([factor[:, part] for part in rest], dim=1)) if rest else None
        for x, g in outer:
            pairs = (g @ g.T).view(m, b, m, b).mul_((x @ x.T).mul_(m)[:, None]).view(len(g), len(g))
            total = pairs.double() if total is None else total.add_(pairs)
        assert total is not None
        return total

    def gram_of(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b b"]:
        if self._light(indices) or self.objective.layers is None:
            return super().gram_of(indices, generator)
        pulls = self.pulls(self.targets[indices], generator)
        return self.objective.gram(self.inputs.batch(self.rows[indices]), pulls)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Operator:
        if self._light(indices):
            return super().batch(indices, generator)
        return Pulled(self, self.rows[indices], self.pulls(self.targets[indices], generator))

    def _light(self, indices: Tensor) -> bool:
        return len(indices) * self.p <= self.passes.budget.batch


class Pulled(Operator):
    """(1/b) Σ gᵢ gᵢᵀ of a batch too large to write its gradients down: by the layers' factors, else some at a time."""

    def __init__(self, whole: OverRows, rows: Tensor, pulls: Float[Tensor, "b C"]) -> None:
        self.objective, self.inputs, self.indices, self.pulls = whole.objective, whole.inputs, rows, pulls
        self.p, self.name, self.dtype, self.device = whole.p, whole.name, whole.dtype, whole.device
        self.passes = whole.passes

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        directions = rows.to(self.dtype)
        x = self.inputs.batch(self.indices)
        total = self.objective.product_of_columns(x, self.pulls[None], directions, written=False)
        if total is None:
            total, size = torch.zeros_like(directions), self.passes.budget.batch // self.p
            for some, pulls in zip(pieces(x, size), pieces(self.pulls, size), strict=True):
                gradients = self.objective.row_gradients(some, pulls)
                total += (directions @ gradients.T) @ gradients
        return (total / len(self.indices)).to(rows)
