"""Approximate inverses that shorten CG and LiSSA: from a sample of rows, or EK-FAC where that says more.

A sample of m rows has the inverse (Fᵀ F / m + λ I)⁻¹ by Woodbury. It costs one pass over these rows and agrees with
C wherever m rows say enough; where they do not, λ alone remains, and the iteration has to do the work. How many rows
say enough follows from the effective dimension tr C (C + λ I)⁻¹, which the sample itself tells.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from curate.curvature.ekfac import EKFAC
from curate.curvature.operator import Explicit, Operator, Sampled
from curate.curvature.over_rows import OverRows
from curate.solvers.dual import MOST_FACTOR_ROWS, WoodburyInverse
from curate.solvers.spectrum import draw

SAMPLE_ROWS = 2048
"""Rows of a first sample: a Gram matrix of 32 MB."""
SAMPLE_FLOATS = 2**27
"""Size of a sample's gradients, 512 MiB."""
FEWEST_ROWS = 256
"""A sample below this says too little of the curvature: EK-FAC says more."""
ENOUGH = 3.0
"""Rows of a sample for each effective dimension: the size that bounds the condition number of a Nystrom
preconditioner (Frangella, Tropp & Udell 2023, theorem 1.1)."""
COMPARED_ROWS = 256
"""Fresh gradients by which a sample and EK-FAC are compared."""

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
        return _by_layers(operator, damping, seed), "ekfac"
    size, most = SAMPLE_ROWS, min(MOST_FACTOR_ROWS, SAMPLE_FLOATS // operator.p)
    inverse = sample_inverse(operator, damping, seed)
    if _says_too_little(inverse, most) and isinstance(operator, OverRows):
        ekfac = _by_layers(operator, damping, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        fresh = operator.factor(draw(operator.n, COMPARED_ROWS, generator).to(operator.device), generator)
        if _left(ekfac, fresh) < _left(inverse, fresh):
            return ekfac, "ekfac"
    while len(inverse.factor) >= min(size, most) and _says_too_little(inverse, most):
        size = min(2 * size, most)
        inverse = sample_inverse(operator, damping, seed, size)
    return inverse, f"Woodbury inverse of {len(inverse.factor):,} gradients"


def _says_too_little(inverse: WoodburyInverse, most: int) -> bool:
    """Whether a sample has fewer rows than its effective dimension asks for, and may have more of them."""
    rows = len(inverse.factor)
    return rows < most and rows < ENOUGH * inverse.effective_dimension()


def _by_layers(operator: OverRows, damping: float, seed: int) -> Inverse:
    ekfac = EKFAC.fit(operator, seed=seed)
    return lambda rows: ekfac.solve(rows, damping)


def _left(inverse: Inverse, fresh: Tensor) -> float:
    """tr P⁻¹ C, estimated on gradients that P was not made from: a P that misses directions leaves much of it."""
    return float((inverse(fresh) * fresh).sum())
