"""The recursion u ← u - η P⁻¹ ((C_B + λ) u - v) of `lissa`, one step at a time, and the average of its late iterates.

Three ways of holding u. *In parameters*, for any operator. *In rows*: if C = Fᵀ F / m is written down and P = I, every
iterate from 0 is u = α v + Fᵀ w, so that w, of the rows' number, and F u are enough: with F Fᵀ at hand a step costs a
product with m columns instead of two with p. The same steps on the same batches: numbers differ by rounding only, for
which w is held in float64, since α v and Fᵀ w nearly cancel in stiff directions. F u, and products with F and F Fᵀ, are
in F's own type, of which the cancelling loses as many digits as the step sees eigenvalues apart.
*In blocks*, if one gradient a row can be written down, or that of some rows: in rows of these, after a while of others.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import WRITTEN_FLOATS, Dense, Sampled
from curate.engine.curvature.over_rows import OverRows
from curate.engine.solvers.spectrum import FLOAT64_BELOW, draw

USED = 4
"""Epochs over a block of rows before others are drawn: enough for their gradients and inner products to be paid."""
BLOCK_FLOATS = WRITTEN_FLOATS // 4
"""Size of a block's gradients, 128 MiB: inner products grow with the square of its rows."""
FEWEST_BATCHES = 4
"""Of a block: fewer say too little of the curvature."""


class Epochs:
    """Batches without replacement: every row once an epoch, which halves the noise of drawing with replacement."""

    def __init__(self, operator: Sampled, batch: int, generator: torch.Generator) -> None:
        self.n, self.batch, self.generator, self.device = operator.n, batch, generator, operator.device
        self._left = torch.empty(0, dtype=torch.long)

    def next(self) -> Tensor:
        """Numbers of the next ``batch`` rows, on the operator's device; a batch may run into the next epoch."""
        if len(self._left) < self.batch:
            self._left = torch.cat([self._left, torch.randperm(self.n, generator=self.generator)])
        head, self._left = self._left[: self.batch], self._left[self.batch :]
        return head.to(self.device)


class Iterate(ABC):
    """u, from 0, and the sum of those that were kept."""

    @abstractmethod
    def step(self) -> None:
        """One step on the next batch of rows."""

    @abstractmethod
    def keep(self) -> None:
        """Adds u to the sum."""

    @abstractmethod
    def size(self) -> Float[Tensor, " k"]:
        """|u| of each row."""

    @abstractmethod
    def kept(self) -> Float[Tensor, "k p"]:
        """The sum."""


class InParameters(Iterate):
    """u itself, ``[k p]``, for any operator; ``inverse`` is P⁻¹, None for P = I."""

    def __init__(
        self,
        operator: Sampled,
        rows: Float[Tensor, "k p"],
        damping: float,
        eta: float,
        batch: int,
        generator: torch.Generator,
        inverse: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.operator, self.rows, self.damping, self.eta = operator, rows, damping, eta
        self.inverse, self.generator, self.epochs = inverse, generator, Epochs(operator, batch, generator)
        self.u, self.sum = torch.zeros_like(rows), torch.zeros_like(rows)

    def step(self) -> None:
        batch = self.operator.batch(self.epochs.next(), self.generator)
        change = (batch @ self.u).add_(self.u, alpha=self.damping).sub_(self.rows)
        self.u = self.u - self.eta * (change if self.inverse is None else self.inverse(change))

    def keep(self) -> None:
        self.sum += self.u

    def size(self) -> Float[Tensor, " k"]:
        found: Tensor = self.u.norm(dim=1)
        return found

    def kept(self) -> Float[Tensor, "k p"]:
        return self.sum


class InRows(Iterate):
    """β, α and w of u = β u₀ + α v + Fᵀ w, for a factor F that is written down, and P = I; u₀ is where it began."""

    def __init__(
        self,
        operator: Dense,
        rows: Float[Tensor, "k p"],
        damping: float,
        eta: float,
        batch: int,
        generator: torch.Generator,
        begun: Float[Tensor, "k p"] | None = None,
    ) -> None:
        """``begun`` is u₀; None: 0."""
        self.factor, self.gram = operator.whole_factor(), operator.gram
        self.epochs = Epochs(operator, batch, generator)
        self.rows, self.begun, self.damping, self.eta = rows, begun, damping, eta
        if eta * damping < FLOAT64_BELOW:
            self.factor, self.gram = self.factor.double(), self.gram.double()
        self.start = rows.to(self.factor) @ self.factor.T
        self.seen = torch.zeros_like(self.start)  # F u
        self.beta, self.betas, self.alpha, self.alphas = 1.0, 0.0, 0.0, 0.0
        self.w, self.sum = (torch.zeros_like(self.start, dtype=torch.float64) for _ in range(2))
        self._vv = rows.double().square().sum(1)
        self._uv = self._uu = torch.zeros_like(self._vv)
        if begun is not None:
            self.seen = begun.to(self.factor) @ self.factor.T
            self._uv, self._uu = (begun.double() * rows).sum(1), begun.double().square().sum(1)
        self._first = self.seen.clone()
        self._columns = self.gram.new_empty(0)  # room that every step uses again, as is `_moved`
        self._moved = self.gram.new_empty(self.start.shape)

    @staticmethod
    def pays(operator: Sampled, directions: int, depth: int, batch: int) -> bool:
        """Whether F Fᵀ, if it is not known, and the shorter steps take less work than the longer steps alone."""
        if not isinstance(operator, Dense):
            return False
        longer = 2 * depth * directions * batch * operator.p
        first = 0.0 if operator.gram_known else operator.n * operator.p / 2
        return operator.n * (first + depth * directions * batch) < longer

    def step(self) -> None:
        batch = self.epochs.next()
        shrink, seen = 1 - self.eta * self.damping, self.seen[:, batch]
        scale = self.eta / len(batch)
        self.alpha, self.beta = shrink * self.alpha + self.eta, shrink * self.beta
        # A row may stand in a batch twice, at the turn of two epochs.
        self.w.mul_(shrink).index_add_(1, batch, seen.double(), alpha=-scale)
        if len(self._columns) != len(batch):
            self._columns = self.gram.new_empty(len(batch), len(self.gram))
        torch.index_select(self.gram, 0, batch, out=self._columns)
        torch.mm(seen, self._columns, out=self._moved)
        self.seen.mul_(shrink).add_(self.start, alpha=self.eta).sub_(self._moved, alpha=scale)

    def keep(self) -> None:
        self.alphas, self.betas = self.alphas + self.alpha, self.betas + self.beta
        self.sum += self.w

    def size(self) -> Float[Tensor, " k"]:
        within = (self.w * (self.beta * self._first + self.alpha * self.start + self.seen)).sum(1)
        plain = self.beta**2 * self._uu + 2 * self.beta * self.alpha * self._uv + self.alpha**2 * self._vv
        found: Tensor = (plain + within).clamp_min(0).sqrt()
        return found

    def now(self) -> Float[Tensor, "k p"]:
        """u."""
        return self._written(self.beta, self.alpha, self.w)

    def kept(self) -> Float[Tensor, "k p"]:
        return self._written(self.betas, self.alphas, self.sum)

    def _written(self, beta: float, alpha: float, w: Float[Tensor, "k m"]) -> Float[Tensor, "k p"]:
        found = alpha * self.rows.to(self.factor) + w.to(self.factor) @ self.factor
        return (found if self.begun is None else found.add_(self.begun, alpha=beta)).to(self.rows)


class InBlocks(Iterate):
    """u by `InRows` of some rows at a time, each with one gradient that `USED` epochs share before others follow.

    A step then costs a product with m columns in place of a batch's gradients and two products with p.
    """

    def __init__(
        self,
        operator: OverRows,
        rows: Float[Tensor, "k p"],
        damping: float,
        eta: float,
        batch: int,
        generator: torch.Generator,
    ) -> None:
        self.operator, self.rows, self.damping, self.eta = operator, rows, damping, eta
        self.batch, self.generator = batch, generator
        self.steps, self.together = 0, max(1, USED * self.rows_of(operator) // batch)
        self.total = torch.zeros_like(rows)
        self._blocks = [self._block(None)]

    @staticmethod
    def rows_of(operator: OverRows) -> int:
        """Rows of a block."""
        return min(operator.n, BLOCK_FLOATS // operator.p)

    @staticmethod
    def pays(operator: Sampled, directions: int, batch: int) -> bool:
        """Whether inner products of gradients, and what begins and ends a block, take less work than longer steps."""
        if not isinstance(operator, OverRows) or operator.objective.layers is None:
            return False
        m, k = InBlocks.rows_of(operator), directions
        if m < FEWEST_BATCHES * batch:
            return False
        shared = 2 * USED * k
        return m * (operator.spread + shared) + 8 * k * operator.p < 2 * shared * operator.p

    def _block(self, begun: Tensor | None) -> InRows:
        chosen = draw(self.operator.n, self.rows_of(self.operator), self.generator).to(self.operator.device)
        drawn = self.operator.drawn(chosen, self.generator)
        return InRows(drawn, self.rows, self.damping, self.eta, self.batch, self.generator, begun)

    def step(self) -> None:
        if self.steps and self.steps % self.together == 0:
            last = self._blocks.pop()
            self.total += last.kept()
            begun = last.now()
            del last  # its gradients make room for the next ones
            self._blocks.append(self._block(begun))
        self._blocks[0].step()
        self.steps += 1

    def keep(self) -> None:
        self._blocks[0].keep()

    def size(self) -> Float[Tensor, " k"]:
        return self._blocks[0].size()

    def kept(self) -> Float[Tensor, "k p"]:
        return self.total + self._blocks[0].kept()
