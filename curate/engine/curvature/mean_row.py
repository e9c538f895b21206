"""The curvature of a softmax head with every row taken for the mean one: its inverse, for steps to go by.

Rows that are sure of nothing have p near the classes' shares: S is then diag(a) - a aᵀ / Σ a for all of them, and H is
S ⊗ M + Λ with the features' second moments M, which one basis makes diagonal for all classes, small ones and large
ones. Knows matrices only.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NO_PENALTY = 1e-6
"""Stands for a column's missing penalty."""
LEAST = 1e-12
"""Stands for the weight of a class that is moved by nothing."""


@dataclass(frozen=True)
class Directions:
    """``basis [D D]``, in which Λ is one and M the diagonal ``sizes [D]``; float64. ``free`` has no penalty."""

    basis: Float[Tensor, "D D"]
    sizes: Float[Tensor, " D"]
    free: Bool[Tensor, " D"]

    @classmethod
    def of(cls, moments: Float[Tensor, "D D"], penalty: Float[Tensor, " D"]) -> "Directions":
        """Raises `torch.linalg.LinAlgError` if the moments are not finite."""
        root = penalty.double().clamp_min(NO_PENALTY).rsqrt()
        sizes, vectors = torch.linalg.eigh(root[:, None] * moments * root)
        return cls(root[:, None] * vectors, sizes.clamp_min(0), penalty == 0)


class MeanRow:
    """(S ⊗ M + Λ)⁻¹ on ``[C D]`` matrices; ``weights [C]`` is S's diagonal, the mean p (1 - p), float64.

    Of matrices that do not move all classes alike along a free column, which changes nothing: so is what is found.
    """

    def __init__(
        self, directions: Directions, weights: Float[Tensor, " C"], like: Tensor, shift_free: bool = True
    ) -> None:
        """In the precision of ``like``; not ``shift_free``: of a loss whose S is diagonal."""
        # a - a² / Σ a is the weight, to second order in the classes' shares.
        weights = weights.clamp_min(LEAST)
        a = (weights / (1 - shift_free * weights / weights.sum()).clamp_min(0.5))[:, None]
        alone = 1 / (a * directions.sizes + 1)
        along = a * alone
        self._free = directions.free & shift_free
        # What is taken off is of rank one in each direction (Sherman & Morrison 1950).
        back = shift_free * directions.sizes / along.sum(0)
        self._basis, self._alone, self._along, self._back = (
            part.to(like) for part in (directions.basis, alone, along, back)
        )

    def __call__(self, rows: Float[Tensor, "*k C D"]) -> Float[Tensor, "*k C D"]:
        turned = rows @ self._basis
        shared = (self._along * turned).sum(-2, keepdim=True) * self._back
        found: Tensor = (turned * self._alone + self._along * shared) @ self._basis.T
        found[..., self._free] -= found[..., self._free].mean(-2, keepdim=True)
        return found
