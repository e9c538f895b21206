"""The last linear layer in closed form: every leave-one-out question answered from one factorisation.

With Xᵢ = I ⊗ [hᵢ; 1] and the loss's residual rᵢ and curvature Sᵢ (of softmax pᵢ - yᵢ and diag(pᵢ) - pᵢ pᵢᵀ) the
gradient of row i is gᵢ = Xᵢ rᵢ and the curvature H = (1/n) Σ Xᵢ Sᵢ Xᵢᵀ + Λ. Mᵢ = (1/n) Xᵢᵀ H⁻¹ Xᵢ (C x C) then gives
self-influence rᵢᵀ Mᵢ rᵢ and the leave-one-out logits zᵢ + Mᵢ (I - Sᵢ Mᵢ)⁻¹ rᵢ (Newton's step on the other rows; exact
for squared loss).
Knows matrices only: where features, weights and penalties come from is left to `probe` and `network`.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.curvature.class_blocks import ClassBlocks, gram
from curate.engine.curvature.operator import Operator
from curate.engine.loss import SOFTMAX, Loss
from curate.errors import NumericalError

MOST_EXACT = 8_000
"""Parameters C (d + 1) up to which H is factorised whole (0.5 GB); beyond, class by class."""
MOST_CURVATURE_ROWS = 100_000
"""Rows that H is summed over; beyond, a random sample stands for all."""


@dataclass(frozen=True)
class HeadScores:
    """What the head says of rows, ``[n]`` or ``[n C]``."""

    self_influence: Float[Tensor, " n"]
    """rᵢᵀ Mᵢ rᵢ, nats, >= 0."""
    leave_one_out: Float[Tensor, "n C"]
    """Logits of each row by the head refitted without it (and without rows of equal content)."""
    corrected: Float[Tensor, "n C"]
    """(I - Sᵢ Mᵢ)⁻¹ rᵢ: the residual whose gradient gives influence with slope one."""
    mean_leverage: float
    """Mean tr(Sᵢ Mᵢ): first order underrates a single row by about this share."""


class HeadCurvature(Operator):
    """H of a linear head on features ``x [n D]`` (a column of ones included if it has a bias).

    ``probabilities`` are the loss's means of its logits. ``penalty [D]`` is Λ's diagonal for each class: damping or a
    known L2 penalty, >= 0.
    """

    name = "ggn"

    def __init__(
        self,
        x: Float[Tensor, "n D"],
        probabilities: Float[Tensor, "n C"],
        penalty: Float[Tensor, " D"],
        seed: int = 0,
        loss: Loss = SOFTMAX,
    ) -> None:
        self.x, self.probabilities, self.penalty, self.loss = x, probabilities, penalty, loss
        self.n, self.width = x.shape
        self.classes = probabilities.shape[1]
        self.p = self.classes * self.width
        self.dtype, self.device = x.dtype, x.device
        self.exact = self.p <= MOST_EXACT
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        self._sample = order[:MOST_CURVATURE_ROWS].sort().values.to(x.device) if self.n > MOST_CURVATURE_ROWS else None

    def times_penalty(self, factor: float) -> "HeadCurvature":
        """The same with another penalty."""
        return HeadCurvature(self.x, self.probabilities, self.penalty * factor, loss=self.loss)

    def residuals(self, labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
        """rᵢ of the rows with these labels."""
        return self.loss.residuals_of(self.probabilities, labels)

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H applied to rows, each a ``[C D]`` matrix laid flat; all rows of data, no factorisation."""
        directions = rows.to(self.dtype).view(len(rows), self.classes, self.width)
        total = torch.zeros_like(directions)
        size = max(1, 2**22 // (len(rows) * self.classes))
        for x, p in zip(self.x.split(size), self.probabilities.split(size), strict=True):
            x, p = x.to(self.dtype), p.to(self.dtype)
            moves = torch.einsum("bd,kcd->kbc", x, directions)
            total += torch.einsum("kbc,bd->kcd", self.loss.apply(p, moves), x)
        return (total / self.n + directions * self.penalty.to(self.dtype)).flatten(1).to(rows)

    def precise(self) -> "HeadCurvature":
        """The same products in float64, chunk by chunk: the features themselves are not copied."""
        twin = copy(self)
        twin.dtype = torch.float64
        return twin

    def _blocks(self) -> Float[Tensor, "C C D D"]:
        x = self.x if self._sample is None else self.x[self._sample]
        p = self.probabilities if self._sample is None else self.probabilities[self._sample]
        blocks = x.new_zeros(self.classes, self.classes, self.width, self.width, dtype=torch.float64)
        for c in range(self.classes):
            for e in range(c, self.classes):
                block = gram(x, self.loss.entry(p, c, e) / len(x))
                blocks[c, e], blocks[e, c] = block, block.T
        return blocks

    def factorise(self) -> "FactorisedHead":
        """Cholesky of H, or of its class blocks if H is too large. Raises `NumericalError` if H is singular."""
        try:
            if not self.exact:
                p = self.probabilities if self._sample is None else self.probabilities[self._sample]
                x = self.x if self._sample is None else self.x[self._sample]
                return FactorisedHead(self, None, ClassBlocks(x, p, self.penalty, self.loss))
            blocks = self._blocks()
            penalty = torch.diag(self.penalty.double())
            for c in range(self.classes):
                blocks[c, c] += penalty
            if self.loss.shift_free:
                # All classes' biases moved together change nothing: any weight on that direction makes H regular.
                unpenalised = (self.penalty == 0).double()
                blocks += torch.diag(unpenalised)[None, None] / self.classes
            whole = blocks.permute(0, 2, 1, 3).reshape(self.p, self.p)
            return FactorisedHead(self, torch.linalg.cholesky(whole), None)
        except RuntimeError as error:  # torch.linalg.LinAlgError is one
            raise NumericalError(
                "the head's curvature cannot be factorised: features are degenerate", "Try a larger --damping."
            ) from error


class FactorisedHead:
    """H⁻¹ ready for use: exact from one Cholesky factor, or class by class (ranks only, and said so)."""

    def __init__(
        self, curvature: HeadCurvature, cholesky: Float[Tensor, "p p"] | None, blocks: ClassBlocks | None
    ) -> None:
        self.curvature, self.cholesky, self._blocks = curvature, cholesky, blocks

    @property
    def exact(self) -> bool:
        """H is factorised whole; else class by class, which is good for ranks only."""
        return self.cholesky is not None

    def solve(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H⁻¹ of each row; with class blocks it is a preconditioner, not an answer."""
        if self.cholesky is not None:
            return torch.cholesky_solve(rows.double().T, self.cholesky).T.to(rows)
        assert self._blocks is not None
        return self._blocks.solve(rows)

    def _leverage_maker(self) -> "Leverage":
        head = self.curvature
        assert self.cholesky is not None
        inverse = torch.cholesky_inverse(self.cholesky).view(head.classes, head.width, head.classes, head.width)
        pairs = [(c, e) for c in range(head.classes) for e in range(c, head.classes)]
        return Leverage(head.n, head.classes, {(c, e): inverse[c, :, e, :].to(head.x) for c, e in pairs})

    def scores(
        self,
        logits: Float[Tensor, "n C"],
        labels: Tensor,
        group_size: Tensor | None = None,
        group_residual: Float[Tensor, "n C"] | None = None,
    ) -> HeadScores:
        """Scores of the rows that H was made of.

        ``group_size [n]`` and ``group_residual`` (the summed residuals of rows of equal content) leave whole groups
        out at once, else copies hide one another.
        """
        head = self.curvature
        residuals = head.residuals(labels)
        sizes = torch.ones_like(labels) if group_size is None else group_size
        sums = residuals if group_residual is None else group_residual
        leave = self._whole() if self._blocks is None else self._by_class(torch.maximum(residuals.abs(), sums.abs()))
        step = max(1, min(4096, 2**24 // head.classes**2))
        parts = []
        for rows in torch.arange(head.n, device=head.device).split(step):
            p, r, z = (values[rows].double() for values in (head.probabilities, residuals, logits))
            own, rest, moved, trace = leave(rows, p, r, sums[rows].double(), sizes[rows])
            parts.append((own.to(head.x), (z + moved).to(head.x), rest.to(head.x), trace))
        owns, left_out, rests, traces = zip(*parts, strict=True)
        return HeadScores(torch.cat(owns), torch.cat(left_out), torch.cat(rests), float(sum(traces)) / head.n)

    def _whole(self) -> "Leave":
        leverage, loss = self._leverage_maker(), self.curvature.loss
        identity = torch.eye(self.curvature.classes, dtype=torch.float64, device=self.curvature.device)

        def leave(rows: Tensor, p: Tensor, r: Tensor, sums: Tensor, sizes: Tensor) -> Left:
            m = leverage(self.curvature.x[rows]).double()
            sm = loss.matrices(p) @ m
            own = torch.einsum("nc,nce,ne->n", r, m, r).clamp_min(0)
            grouped = torch.linalg.solve(identity - sizes[:, None, None] * sm, sums)
            trace = float(sm.diagonal(dim1=1, dim2=2).sum())
            return own, torch.linalg.solve(identity - sm, r), torch.einsum("nce,ne->nc", m, grouped), trace

        return leave

    def _by_class(self, moved: Float[Tensor, "n C"]) -> "Leave":
        assert self._blocks is not None
        diagonals, loss = self._blocks.leverage(self.curvature.x, moved), self.curvature.loss

        def leave(rows: Tensor, p: Tensor, r: Tensor, sums: Tensor, sizes: Tensor) -> Left:
            m = diagonals[rows].double()
            own, trace = (r.square() * m).sum(1), float((loss.diagonal(p) * m).sum())
            alone = loss.corrected(p, m, r, torch.ones_like(sizes))
            return own, alone, m * loss.corrected(p, m, sums, sizes), trace

        return leave


Left = tuple[Tensor, Tensor, Tensor, float]
"""Of some rows: self-influence, corrected residuals, what leaving them out adds to their logits, Σ tr(Sᵢ Mᵢ)."""
Leave = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Left]


class Leverage:
    """x [b D] to Mᵢ = (1/n) Xᵢᵀ H⁻¹ Xᵢ of each row, ``[b C C]``."""

    def __init__(self, n: int, classes: int, inverse: dict[tuple[int, int], Float[Tensor, "D D"]]) -> None:
        self.n, self.classes, self.inverse = n, classes, inverse

    def __call__(self, x: Float[Tensor, "b D"]) -> Float[Tensor, "b C C"]:
        m = x.new_zeros(len(x), self.classes, self.classes)
        for (c, e), block in self.inverse.items():
            value = ((x @ block) * x).sum(1) / self.n
            m[:, c, e] = value
            m[:, e, c] = value
        return m
