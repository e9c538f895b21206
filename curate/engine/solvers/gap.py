"""What an answer lacks: the gap v - (C + λ I) u, on all rows of the data, and the correction that it asks for.

Exact where that is cheap. Else two estimates from all rows with independent random signs: their noise does not
correlate, so products of the two tell the size of the gap, and of all that is linear in it, without bias.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Operator, Sampled
from curate.engine.solvers.base import norms

EXACT_WORK = 2**18
"""Rows times directions up to which a gap is exact: a few seconds through a small network."""


def gaps(
    operator: Operator,
    damping: float,
    rows: Float[Tensor, "k p"],
    solved: Float[Tensor, "k p"],
    seed: int = 0,
    *,
    quick: bool = False,
) -> tuple[Float[Tensor, "k p"], ...]:
    """v - (C + λ I) u: one exact block, or two estimates with independent noise.

    ``quick``: C in its own type. With λ far below its largest eigenvalue the gap is a small difference of large
    numbers, which only float64 tells.
    """
    if not isinstance(operator, Sampled) or operator.n * min(len(rows), 10) <= EXACT_WORK:
        u = solved.double()
        product = (operator @ solved).double() if quick else operator.precise() @ u
        return ((rows.double() - product - damping * u).to(rows),)
    generator = torch.Generator().manual_seed(seed + 1)
    return tuple(rows - operator.estimate(solved, generator) - damping * solved for _ in range(2))


def residual_of(found: tuple[Float[Tensor, "k p"], ...], rows: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
    """|v - (C + λ I) u| / |v| of each row, from `gaps`."""
    squared = (found[0] * found[-1]).sum(1).clamp_min(0)
    relative: Tensor = squared.sqrt() / norms(rows)
    return relative
