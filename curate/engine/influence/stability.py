"""How much a ranking moves with the damping, which nobody knows: the same scores at a tenth and at ten times of it.

Through a network by the Woodbury inverse of a sample of the rows, the same for all three: it is the question's
stability that is measured here, not a solver's. At a head all rows count, and `head` has the scores.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.head import FactorisedHead
from curate.engine.curvature.operator import Operator, Sampled
from curate.engine.ranks import spearman
from curate.engine.solvers.cg import descend
from curate.engine.solvers.preconditioner import sample_inverse

FACTORS = (0.1, 1.0, 10.0)
"""Times the damping that was used."""
TOP = 50
SAMPLE_ROWS = 1024
GAIN, STEPS = 1e-6, 60
"""Of the conjugate gradients at another penalty: what they leave of an error, and their steps at most."""


@dataclass(frozen=True)
class Stability:
    """Directions to score along, one for each of `FACTORS`, and what of their scores is kept."""

    directions: Float[Tensor, "f p"]
    sampled: int
    """Gradients that the curvature was taken from."""

    @classmethod
    def of(cls, operator: Sampled, damping: float, right: Float[Tensor, " p"], seed: int) -> "Stability":
        """(C + λ I)⁻¹ ``right`` at each factor of the damping, C being that of a sample of the rows."""
        inverse = sample_inverse(operator, damping, seed, SAMPLE_ROWS)
        rows = inverse.at([factor * damping for factor in FACTORS], right.double())
        return cls(rows.to(right), len(inverse.factor))

    def summary(self, scores: Float[Tensor, "n f"]) -> dict[str, object]:
        """What a receipt has of `rank_stability`, and the gradients it rests on."""
        return {"gradients": self.sampled, **rank_stability(scores)}


class Shifted(Operator):
    """I + (f - 1) K with K = √Λ H⁻¹ √Λ, whose eigenvalues lie between 0 and 1: well conditioned if f is."""

    name = "shifted"

    def __init__(self, inverse: Float[Tensor, "p p"], root: Float[Tensor, " p"], factor: float) -> None:
        self.p, self.dtype, self.device = len(inverse), inverse.dtype, inverse.device
        self._inverse, self._root, self._factor = inverse, root, factor

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        return rows + (self._factor - 1) * ((rows * self._root) @ self._inverse) * self._root


def solved_at(head: FactorisedHead, rows: Float[Tensor, "k p"], factor: float) -> Float[Tensor, "k p"]:
    """(H + (f - 1) Λ)⁻¹ of each row by H⁻¹ alone, which must be exact: no pass over the data.

    By Woodbury it is H⁻¹ - (f - 1) H⁻¹ √Λ (I + (f - 1) K)⁻¹ √Λ H⁻¹, as in `Shifted`.
    """
    inverse = head.inverse
    assert inverse is not None
    root = head.curvature.inner.penalty.to(inverse).sqrt().repeat(head.curvature.classes)

    def inner(within: Float[Tensor, "k q"]) -> Float[Tensor, "k q"]:
        solved = within.to(inverse) @ inverse
        gain = max(GAIN, 64 * torch.finfo(solved.dtype).eps)
        moved, _ = descend(Shifted(inverse, root, factor), solved * root, None, gain, STEPS)
        return (solved - (factor - 1) * (moved * root) @ inverse).to(rows)

    return head.within(inner, rows, factor)


def rank_stability(scores: Float[Tensor, "n f"]) -> dict[str, object]:
    """Spearman's correlation and the share of the strongest rows kept, by factor of the damping."""
    middle = FACTORS.index(1.0)
    return {
        f"{factor:g}": compare(scores[:, middle], scores[:, column])
        for column, factor in enumerate(FACTORS)
        if column != middle
    }


def compare(one: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> dict[str, float]:
    """``spearman``, and ``top``: the share of the `TOP` rows of largest size that both have."""
    count = min(TOP, len(one))
    tops = [set(values.abs().argsort(descending=True, stable=True)[:count].tolist()) for values in (one, other)]
    constant = float(one.max() - one.min()) == 0 or float(other.max() - other.min()) == 0
    rho = 1.0 if constant else spearman(one.numpy(), other.numpy())
    return {"spearman": round(rho, 4), "top": round(len(tops[0] & tops[1]) / count, 4)}
