"""The last linear layer in closed form: every leave-one-out question answered from one factorisation.

With Xᵢ = I ⊗ [hᵢ; 1], residual rᵢ = pᵢ - yᵢ and Sᵢ = diag(pᵢ) - pᵢ pᵢᵀ the gradient of row i is gᵢ = Xᵢ rᵢ and the
curvature H = (1/n) Σ Xᵢ Sᵢ Xᵢᵀ + Λ. Mᵢ = (1/n) Xᵢᵀ H⁻¹ Xᵢ (C x C) then gives self-influence rᵢᵀ Mᵢ rᵢ and the
leave-one-out logits zᵢ + Mᵢ (I - Sᵢ Mᵢ)⁻¹ rᵢ (Newton's step on the other rows; exact for squared loss).
Knows matrices only: where features, weights and penalties come from is left to `probe` and `network`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.curvature.gauss_newton import softmax_curvature
from curate.curvature.operator import Operator
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
    """H of a linear softmax head on features ``x [n D]`` (a column of ones included where it has a bias).

    ``penalty [D]`` is Λ's diagonal for each class: damping or a known L2 penalty, >= 0.
    """

    name = "ggn"

    def __init__(
        self, x: Float[Tensor, "n D"], probabilities: Float[Tensor, "n C"], penalty: Float[Tensor, " D"], seed: int = 0
    ) -> None:
        self.x, self.probabilities, self.penalty = x, probabilities, penalty
        self.n, self.width = x.shape
        self.classes = probabilities.shape[1]
        self.p = self.classes * self.width
        self.dtype, self.device = x.dtype, x.device
        self.exact = self.p <= MOST_EXACT
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        self._sample = order[:MOST_CURVATURE_ROWS].sort().values.to(x.device) if self.n > MOST_CURVATURE_ROWS else None

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H applied to rows, each a ``[C D]`` matrix laid flat; all rows of data, no factorisation."""
        total = torch.zeros(len(rows), self.classes, self.width, dtype=rows.dtype, device=rows.device)
        directions = rows.view(len(rows), self.classes, self.width)
        size = max(1, 2**22 // (len(rows) * self.classes))
        for x, p in zip(self.x.split(size), self.probabilities.split(size), strict=True):
            moves = torch.einsum("bd,kcd->kbc", x, directions)
            total += torch.einsum("kbc,bd->kcd", softmax_curvature(p, moves), x)
        return (total / self.n + directions * self.penalty).flatten(1)

    def _blocks(self) -> Float[Tensor, "C C D D"]:
        x = self.x if self._sample is None else self.x[self._sample]
        p = self.probabilities if self._sample is None else self.probabilities[self._sample]
        blocks = x.new_zeros(self.classes, self.classes, self.width, self.width, dtype=torch.float64)
        for c in range(self.classes):
            for e in range(c, self.classes):
                weight = p[:, c] * ((1.0 if c == e else 0.0) - p[:, e]) / len(x)
                block = self._gram(x, weight)
                blocks[c, e], blocks[e, c] = block, block.T
        return blocks

    @staticmethod
    def _gram(x: Tensor, weight: Tensor) -> Tensor:
        """Σ wᵢ xᵢ xᵢᵀ in float64, chunk by chunk so that a float32 x is never copied whole."""
        parts = zip(x.split(8192), weight.split(8192), strict=True)
        return sum(
            (((part * w[:, None]).double()).T @ part.double() for part, w in parts),
            x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64),
        )

    def factorise(self) -> "FactorisedHead":
        """Cholesky of H, or of its class blocks where H is too large. Raises `NumericalError` where H is singular."""
        penalty = torch.diag(self.penalty.double())
        try:
            if not self.exact:
                p = self.probabilities if self._sample is None else self.probabilities[self._sample]
                x = self.x if self._sample is None else self.x[self._sample]
                inverses = torch.stack(
                    [
                        torch.cholesky_inverse(
                            torch.linalg.cholesky(self._gram(x, p[:, c] * (1 - p[:, c]) / len(x)) + penalty)
                        ).to(self.x)
                        for c in range(self.classes)
                    ]
                )
                return FactorisedHead(self, None, inverses)
            blocks = self._blocks()
            for c in range(self.classes):
                blocks[c, c] += penalty
            # All classes' biases moved together change no probability: any weight on that direction makes H regular.
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
        self, curvature: HeadCurvature, cholesky: Float[Tensor, "p p"] | None, blocks: Float[Tensor, "C D D"] | None
    ) -> None:
        self.curvature, self.cholesky, self._blocks = curvature, cholesky, blocks

    @property
    def exact(self) -> bool:
        return self.cholesky is not None

    def solve(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H⁻¹ of each row; with class blocks it is a preconditioner, not an answer."""
        if self.cholesky is not None:
            return torch.cholesky_solve(rows.double().T, self.cholesky).T.to(rows)
        assert self._blocks is not None
        width = self.curvature.width
        return torch.einsum("kcd,cde->kce", rows.view(len(rows), -1, width), self._blocks).flatten(1)

    def _leverage_maker(self) -> "Leverage":
        head = self.curvature
        if self.cholesky is None:
            assert self._blocks is not None
            return Leverage(head.n, head.classes, {(c, c): block for c, block in enumerate(self._blocks)})
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
        leverage = self._leverage_maker()
        residuals = head.probabilities - torch.nn.functional.one_hot(labels, head.classes).to(head.x)
        sizes = torch.ones_like(labels) if group_size is None else group_size
        sums = residuals if group_residual is None else group_residual
        own, left_out, corrected = [], [], []
        trace = 0.0
        identity = torch.eye(head.classes, dtype=torch.float64, device=head.device)
        step = max(1, min(4096, 2**24 // head.classes**2))
        for start in range(0, head.n, step):
            part = slice(start, start + step)
            m = leverage(head.x[part]).double()
            p, r = head.probabilities[part].double(), residuals[part].double()
            s = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
            sm = s @ m
            trace += float(sm.diagonal(dim1=1, dim2=2).sum())
            own.append(torch.einsum("nc,nce,ne->n", r, m, r).clamp_min(0))
            corrected.append(torch.linalg.solve(identity - sm, r))
            grouped = torch.linalg.solve(identity - sizes[part, None, None] * sm, sums[part].double())
            left_out.append(logits[part].double() + torch.einsum("nce,ne->nc", m, grouped))
        return HeadScores(
            self_influence=torch.cat(own).to(head.x),
            leave_one_out=torch.cat(left_out).to(head.x),
            corrected=torch.cat(corrected).to(head.x),
            mean_leverage=trace / head.n,
        )


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
