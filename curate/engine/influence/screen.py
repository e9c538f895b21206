"""A screen for the strongest pairs at a head: H⁻¹ g_t of an evaluation row as a sum of a few outer products.

g_t = r_t x_tᵀ is one outer product, and H⁻¹ makes of it a matrix ``[C D]`` that is close to few of them: a pair then
costs q products with D columns in place of C. It names candidates; their influence is taken in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

PRODUCTS = (2, 4, 8)
"""Outer products that are tried."""
LEFT = 0.05
"""Share of a row's |H⁻¹ g_t| that they may leave."""
CANDIDATES = 30
"""Training rows of either sign that are looked at again: three times as many as are kept."""
MEASURED = 16
"""Evaluation rows, about, of which all training rows are scanned, to tell how many of the strongest are candidates."""
LEAST_RECALL = 0.98
"""Below it all pairs are scanned after all."""
LEAST_WORK = 2**36
"""Products and sums of a scan of all pairs from which a screen is worth its trouble."""


@dataclass(frozen=True)
class Screen:
    """Σ_k a_k b_kᵀ of each evaluation row."""

    left: Float[Tensor, "q T C"]
    right: Float[Tensor, "q T D"]

    def on(self, x: Float[Tensor, "b D"], residuals: Float[Tensor, "b C"]) -> Float[Tensor, "b T"]:
        """Σ_k (r_i · a_k) (x_i · b_k): about g_i · H⁻¹ g_t."""
        total = x.new_zeros(len(x), self.left.shape[1])
        for left, right in zip(self.left, self.right, strict=True):
            total.addcmul_(residuals @ left.T, x @ right.T)
        return total


def screen_of(solved: Float[Tensor, "T C D"], products: Sequence[int] = PRODUCTS) -> Screen | None:
    """By a round of subspace iteration (Halko, Martinsson & Tropp 2011); None if no number of products is enough."""
    sizes = solved.square().sum((1, 2))
    for count in products:
        if 2 * count > solved.shape[1]:
            break
        start = torch.randn(solved.shape[2], count, generator=torch.Generator().manual_seed(0)).to(solved)
        basis = torch.linalg.qr(solved @ start).Q
        basis = torch.linalg.qr(solved @ (solved.mT @ basis)).Q
        right = basis.mT @ solved
        missed = (sizes - right.square().sum((1, 2))).clamp_min(0)
        if bool((missed <= LEFT**2 * sizes).all()):
            return Screen(basis.permute(2, 0, 1).contiguous(), right.transpose(0, 1).contiguous())
    return None
