"""The head's curvature class by class, for heads too large to factorise whole: ranks, not exact answers.

Of C classes a row moves few: its residual and its weight (for softmax p (1 - p)) are small in all others, where the row
is taken at the class's mean. Rows of more than `CHANCES` times the chance probability 1/C are taken as they are; with
150 classes that is one pair of row and class in fifty. Knows matrices only, like `head`, whose
`FactorisedHead` it serves.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.leverage import gram, grams_of_few
from curate.engine.loss import Loss
from curate.engine.passes import ALONE, Passes

CHANCES = 2.0


class ClassBlocks:
    """H's diagonal blocks Σ w_ic xᵢ xᵢᵀ / n + Λ, w_ic being the diagonal of Sᵢ, inverted: ``inverses [C D D]``.
    ``moments`` is the mean of xᵢ xᵢᵀ, float64.

    Raises `torch.linalg.LinAlgError` if a block is singular.
    """

    def __init__(
        self,
        x: Float[Tensor, "n D"],
        means: Float[Tensor, "n K"],
        penalty: Float[Tensor, " D"],
        loss: Loss,
        passes: Passes = ALONE,
    ) -> None:
        self.classes = loss.classes(means)
        self.few = CHANCES / self.classes
        self.moments = gram(x, x.new_full((len(x),), 1 / len(x)), passes)
        self.inverses = x.new_empty(self.classes, x.shape[1], x.shape[1])
        ridge = torch.diag(penalty.double())
        diagonal = (loss.entry(means, c, c) for c in range(self.classes))
        blocks = grams_of_few(x, ((weight, weight > self.few) for weight in diagonal), self.moments, passes)
        for c, block in enumerate(blocks):
            self.inverses[c] = torch.cholesky_inverse(torch.linalg.cholesky(block + ridge)).to(x)

    def solve(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H_c⁻¹ of each row's part for class c; a row is a ``[C D]`` matrix laid flat."""
        width = self.inverses.shape[1]
        directions = rows.to(self.inverses).view(len(rows), -1, width)
        return torch.einsum("kcd,cde->kce", directions, self.inverses).flatten(1).to(rows)

    def leverage(self, x: Float[Tensor, "n D"], residuals: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        """The diagonals of Mᵢ: (1/n) xᵢᵀ H_c⁻¹ xᵢ, the mean over all rows where the residual is small."""
        m = torch.empty_like(residuals)
        for c, inverse in enumerate(self.inverses):
            m[:, c] = (inverse.double() * self.moments).sum() / len(x)
            rows = (residuals[:, c].abs() > self.few).nonzero()[:, 0]
            m[rows, c] = ((x[rows] @ inverse) * x[rows]).sum(1) / len(x)
        return m
