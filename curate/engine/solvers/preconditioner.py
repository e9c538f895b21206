"""Approximate inverses that shorten CG and LiSSA: from a sample of rows, or EK-FAC if that says more.

A sample of m rows has the inverse (Fᵀ F / m + λ I)⁻¹ by Woodbury. It costs one pass over these rows and agrees with
C wherever m rows say enough; where they do not, λ alone remains, and the iteration has to do the work. How many rows
say enough follows from the effective dimension tr C (C + λ I)⁻¹, which the sample itself tells.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.operator import Explicit, Operator, Sampled, with_gram
from curate.engine.curvature.over_rows import OverRows
from curate.engine.solvers.dual import MOST_FACTOR_ROWS, WoodburyInverse
from curate.engine.solvers.spectrum import draw

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


@dataclass(frozen=True)
class LayerInverse:
    """(C + λ I)⁻¹ with C as EK-FAC has it."""

    ekfac: EKFAC
    damping: float

    def __call__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        return self.ekfac.solve(rows, self.damping)

    def largest_eigenvalue(self) -> float:
        """Of C, without λ."""
        return self.ekfac.largest_eigenvalue()

    def damped(self, damping: float) -> "LayerInverse":
        """The same with another λ."""
        return replace(self, damping=damping)


Preconditioner = WoodburyInverse | LayerInverse


def sample_inverse(operator: Sampled, damping: float, seed: int = 0, most: int = SAMPLE_ROWS) -> WoodburyInverse:
    """From up to ``most`` rows, or from the whole factor if it has no more rows than that."""
    most = max(1, min(most, SAMPLE_FLOATS // operator.p))
    generator = torch.Generator().manual_seed(seed)
    known = with_gram(operator)
    if known is not None:
        rows = draw(known.n, most, generator).sort().values.to(operator.device)
        return WoodburyInverse(known.whole_factor()[rows], damping, known.gram[rows][:, rows])
    if isinstance(operator, Explicit) and operator.factor_rows <= most:
        return WoodburyInverse(operator.whole_factor(), damping)
    # Few rows of many classes are drawn more than once: each time with other signs, that is another gradient.
    times = -(-most // operator.n) if isinstance(operator, Explicit) and operator.factor_rows > operator.n else 1
    rows = torch.cat([draw(operator.n, most, generator) for _ in range(times)])[:most].to(operator.device)
    return WoodburyInverse(operator.factor(rows, generator), damping)


def precondition(operator: Operator, damping: float, seed: int = 0) -> tuple[Preconditioner | None, str]:
    """An approximate (C + λ I)⁻¹ and its name; None if the operator cannot be sampled.

    A sample, or EK-FAC if a row's gradient is too long for one, or if a sample has fewer rows than its effective
    dimension asks for and EK-FAC leaves less of gradients that neither has seen.
    """
    if not isinstance(operator, Sampled):
        return None, "none"
    if SAMPLE_FLOATS // operator.p < min(FEWEST_ROWS, operator.n) and isinstance(operator, OverRows):
        return LayerInverse(EKFAC.fit(operator, seed=seed), damping), "ekfac"
    inverse = sample_inverse(operator, damping, seed, SAMPLE_ROWS)
    if isinstance(operator, OverRows) and len(inverse.factor) < ENOUGH * inverse.effective_dimension():
        layers = LayerInverse(EKFAC.fit(operator, seed=seed), damping)
        generator = torch.Generator().manual_seed(seed + 1)
        fresh = operator.factor(draw(operator.n, COMPARED_ROWS, generator).to(operator.device), generator)
        if _left(layers, fresh) < _left(inverse, fresh):
            return layers, "ekfac"
    return inverse, named(inverse)


def named(inverse: WoodburyInverse) -> str:
    """What a receipt calls it."""
    return f"Woodbury inverse of {len(inverse.factor):,} gradients"


def larger_sample(operator: Sampled, inverse: Preconditioner, seed: int = 0) -> WoodburyInverse | None:
    """From twice the rows of a sample's ``inverse``; None if there are no more, or they would not fit."""
    if not isinstance(inverse, WoodburyInverse):
        return None
    rows = len(inverse.factor)
    twice = sample_inverse(operator, inverse.damping, seed, min(2 * rows, MOST_FACTOR_ROWS))
    return twice if len(twice.factor) > rows else None


def _left(inverse: Preconditioner, fresh: Tensor) -> float:
    """tr P⁻¹ C, estimated on gradients that P was not made from: a P that misses directions leaves much of it."""
    return float((inverse(fresh) * fresh).sum())
