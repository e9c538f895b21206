"""How much a ranking moves with the damping, which nobody knows: the same scores at a tenth and at ten times of it.

Through a network by the Woodbury inverse of a sample of the rows, the same for all three: it is the question's
stability that is measured here, not a solver's. At a head all rows count, and `head` has the scores.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from curate.engine.curvature.operator import Sampled
from curate.engine.solvers.preconditioner import sample_inverse

FACTORS = (0.1, 1.0, 10.0)
"""Times the damping that was used."""
TOP = 50
SAMPLE_ROWS = 1024


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
        rows = [inverse.damped(factor * damping)(right[None].double()) for factor in FACTORS]
        return cls(torch.cat(rows).to(right), len(inverse.factor))

    def summary(self, scores: Float[Tensor, "n f"]) -> dict[str, object]:
        """What a receipt has of `rank_stability`, and the gradients it rests on."""
        return {"gradients": self.sampled, **rank_stability(scores)}


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
    rho = 1.0 if constant else float(spearmanr(one.numpy(), other.numpy())[0])
    return {"spearman": round(rho, 4), "top": round(len(tops[0] & tops[1]) / count, 4)}
