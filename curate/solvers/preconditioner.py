"""Approximate inverses that shorten CG and LiSSA: from a sample of rows, or EK-FAC where rows are too long for one.

A sample of m rows has the inverse (Fᵀ F / m + λ I)⁻¹ by Woodbury. It costs one pass over these rows and agrees with
C wherever m rows say enough; where they do not, λ alone remains, and the iteration has to do the work.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from curate.curvature.ekfac import EKFAC
from curate.curvature.operator import Explicit, Operator, Sampled
from curate.curvature.over_rows import OverRows
from curate.solvers.dual import WoodburyInverse
from curate.solvers.spectrum import draw

SAMPLE_ROWS = 2048
"""Rows of a sample: a Gram matrix of 32 MB."""
SAMPLE_FLOATS = 2**27
"""Size of a sample's gradients, 512 MiB."""
FEWEST_ROWS = 256
"""A sample below this says too little of the curvature: EK-FAC says more."""

Inverse = Callable[[Tensor], Tensor]


def sample_inverse(operator: Sampled, damping: float, seed: int = 0, most: int = SAMPLE_ROWS) -> WoodburyInverse:
    """From up to ``most`` rows, or from the whole factor where it has no more rows than that."""
    most = max(1, min(most, SAMPLE_FLOATS // operator.p))
    if isinstance(operator, Explicit) and operator.factor_rows <= most:
        return WoodburyInverse(operator.whole_factor(), damping)
    generator = torch.Generator().manual_seed(seed)
    # Few rows of many classes are drawn more than once: each time with other signs, that is another gradient.
    times = -(-most // operator.n) if isinstance(operator, Explicit) and operator.factor_rows > operator.n else 1
    rows = torch.cat([draw(operator.n, most, generator) for _ in range(times)])[:most].to(operator.device)
    return WoodburyInverse(operator.factor(rows, generator), damping)


def precondition(operator: Operator, damping: float, seed: int = 0) -> tuple[Inverse | None, str]:
    """An approximate (C + λ I)⁻¹ and its name; None where the operator cannot be sampled."""
    if not isinstance(operator, Sampled):
        return None, "none"
    if SAMPLE_FLOATS // operator.p < min(FEWEST_ROWS, operator.n) and isinstance(operator, OverRows):
        ekfac = EKFAC.fit(operator, seed=seed)
        return (lambda rows: ekfac.solve(rows, damping)), "ekfac"
    inverse = sample_inverse(operator, damping, seed)
    return inverse, f"Woodbury inverse of {len(inverse.factor):,} gradients"
