"""The recursion u ← u - η P⁻¹ ((C_B + λ) u - v) of `lissa`, one step at a time, and the average of its late iterates.

*On all rows* nothing is drawn: steps are Chebyshev's, and the last one is the answer. Else two ways of holding u. *In
parameters*, for any operator. *In rows*: if C = Fᵀ F / m is written down and P = I, every iterate from 0 is
u = α v + Fᵀ w, so that w, of the rows' number, and F u are enough: with F Fᵀ at hand a step costs a product with m
columns instead of two with p. The same steps on the same batches: numbers differ by rounding only, for which w is held
in float64, since α v and Fᵀ w nearly cancel in stiff directions. F u, and products with F and F Fᵀ, are in F's own
type, of which the cancelling loses as many digits as the step sees eigenvalues apart.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Damped, Dense, Sampled
from curate.engine.solvers.spectrum import FLOAT64_BELOW


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


class OnAllRows(Iterate):
    """Chebyshev's semi-iteration (Golub & Varga 1961) on the eigenvalues of P⁻¹ (C + λ) from ``least`` to ``most``."""

    def __init__(
        self, damped: Damped, rows: Float[Tensor, "k p"], inverse: Callable[[Tensor], Tensor], least: float, most: float
    ) -> None:
        self.damped, self.rows, self.inverse = damped, rows, inverse
        self.middle, self.half = (most + least) / 2, (most - least) / 2
        self.u, self.times, self.begun = torch.zeros_like(rows), 0, False
        self.change, self.ratio = inverse(rows) / self.middle, self.half / self.middle

    def step(self) -> None:
        if self.begun:
            ratio = 1 / (2 * self.middle / self.half - self.ratio)
            gap = self.inverse(self.rows - self.damped @ self.u)
            self.change, self.ratio = ratio * self.ratio * self.change + 2 * ratio / self.half * gap, ratio
        self.u, self.begun = self.u + self.change, True

    def keep(self) -> None:
        self.times += 1

    def size(self) -> Float[Tensor, " k"]:
        found: Tensor = self.u.norm(dim=1)
        return found

    def kept(self) -> Float[Tensor, "k p"]:
        return self.u * self.times


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
    """α and w of u = α v + Fᵀ w, for a factor F that is written down, and P = I."""

    def __init__(
        self,
        operator: Dense,
        rows: Float[Tensor, "k p"],
        damping: float,
        eta: float,
        batch: int,
        generator: torch.Generator,
    ) -> None:
        self.factor, self.gram = operator.whole_factor(), operator.gram
        self.epochs = Epochs(operator, batch, generator)
        self.rows, self.damping, self.eta = rows, damping, eta
        if eta * damping < FLOAT64_BELOW:
            self.factor, self.gram = self.factor.double(), self.gram.double()
        self.start = rows.to(self.factor) @ self.factor.T
        self.seen = torch.zeros_like(self.start)  # F u
        self.alpha = self.alphas = 0.0
        self.w, self.sum = (torch.zeros_like(self.start, dtype=torch.float64) for _ in range(2))
        self.squares = rows.double().square().sum(1)
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
        self.alpha = shrink * self.alpha + self.eta
        # A row may stand in a batch twice, at the turn of two epochs.
        self.w.mul_(shrink).index_add_(1, batch, seen.double(), alpha=-scale)
        if len(self._columns) != len(batch):
            self._columns = self.gram.new_empty(len(batch), len(self.gram))
        torch.index_select(self.gram, 0, batch, out=self._columns)
        torch.mm(seen, self._columns, out=self._moved)
        self.seen.mul_(shrink).add_(self.start, alpha=self.eta).sub_(self._moved, alpha=scale)

    def keep(self) -> None:
        self.alphas += self.alpha
        self.sum += self.w

    def size(self) -> Float[Tensor, " k"]:
        within = (self.w * (self.alpha * self.start + self.seen)).sum(1)
        found: Tensor = (self.alpha**2 * self.squares + within).clamp_min(0).sqrt()
        return found

    def kept(self) -> Float[Tensor, "k p"]:
        return (self.alphas * self.rows.to(self.factor) + self.sum.to(self.factor) @ self.factor).to(self.rows)
