"""A short look at the spectrum: the largest eigenvalue and the trace from a few batches, the smallest by Lanczos.

What a step size, a choice of solver and a warning of negative curvature rest on. Nothing here is exact: the largest
eigenvalue is that of batches, and comes with the solvers' own margins.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Operator, Sampled, refuse_not_finite
from curate.errors import NumericalError

FLOAT64_BELOW = 1e-4
"""λ / largest eigenvalue below which products are taken in float64."""
PROBES = 8
"""Batches that are looked at."""
LANCZOS_STEPS = 30


@dataclass(frozen=True)
class Spectrum:
    """Largest eigenvalue and trace of C, in its own unit; the mean over batches of ``batch`` rows."""

    top: float
    trace: float
    batch: int


def draw(n: int, batch: int, generator: torch.Generator) -> Tensor:
    """Some of n rows, without replacement."""
    return torch.randperm(n, generator=generator)[:batch]


def probe(operator: Sampled, batch: int, generator: torch.Generator, probes: int = PROBES) -> Spectrum:
    """From the Gram matrices of random batches: C_B's largest eigenvalue is above C's, the more so the smaller B.

    Raises `NumericalError` if a gradient is not finite.
    """
    tops, traces = [], []
    for _ in range(probes):
        rows = draw(operator.n, batch, generator).to(operator.device)
        gram = operator.gram_of(rows, generator) / len(rows)
        refuse_not_finite(gram)
        tops.append(float(torch.linalg.eigvalsh(gram)[-1]))
        traces.append(float(gram.trace()))
    return Spectrum(sum(tops) / probes, sum(traces) / probes, min(batch, operator.n))


def lanczos(
    operator: Operator, steps: int, seed: int = 0
) -> tuple[Float[Tensor, " r"], Float[Tensor, "r p"], Float[Tensor, " r"]]:
    """Ritz values ascending, their vectors as rows, their residuals |C x - θ x|; reorthogonalised in float64."""
    generator = torch.Generator().manual_seed(seed)
    basis = [unit(torch.randn(operator.p, generator=generator, dtype=torch.float64).to(operator.device))]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, operator.p)):
        w = (operator @ basis[-1][None])[0]
        diagonal.append(float(w @ basis[-1]))
        stacked = torch.stack(basis)
        for _ in range(2):  # once leaves the rounding of the first pass (Parlett: twice is enough)
            w = w - stacked.T @ (stacked @ w)
        beside.append(float(w.norm()))
        if beside[-1] <= 1e-12 * max(map(abs, diagonal), default=0.0) or len(basis) == operator.p:
            break
        basis.append(w / beside[-1])
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    if not bool(torch.isfinite(small).all()):
        raise NumericalError("The curvature is not finite", "Are the inputs on the scale of training?")
    values, vectors = torch.linalg.eigh(small)
    residuals = beside[len(diagonal) - 1] * vectors[-1].abs()
    rows = vectors.T.to(basis[0]) @ torch.stack(basis[: len(diagonal)])
    return values, rows, residuals


def preconditioned_range(
    operator: Operator, inverse: Callable[[Tensor], Tensor], steps: int, seed: int = 0
) -> tuple[float, float]:
    """Smallest and largest Ritz value of P⁻¹ A, ``inverse`` being P⁻¹: of Lanczos as steps of conjugate gradients take
    it (Saad 2003, 6.7.3), on one random vector."""
    r = torch.randn(1, operator.p, generator=torch.Generator().manual_seed(seed)).to(operator.device)
    d = z = inverse(r)
    size, length, share = float((r * z).sum()), 1.0, 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(steps):
        product = operator @ d
        before, length = length, size / float((d * product).sum())
        diagonal.append(1 / length + share / before)
        r = r - length * product
        z = inverse(r)
        size, last = float((r * z).sum()), size
        if not size > 1e-10 * last:
            break
        share = size / last
        beside.append(share**0.5 / length)
        d = z + share * d
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    refuse_not_finite(small)
    values = torch.linalg.eigvalsh(small)
    return float(values[0]), float(values[-1])


def unit(vector: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """The vector over its Euclidean length, which must not be 0."""
    found: Tensor = vector / vector.norm()
    return found


def refuse_negative(operator: Operator, damping: float) -> None:
    """Raises `NumericalError` if a Hessian has an eigenvalue below -λ, with the damping to try."""
    if operator.definite:
        return
    values, _, _ = lanczos(operator, LANCZOS_STEPS)
    lowest = float(values[0])
    if lowest + damping <= 0:
        raise NumericalError(
            f"Negative curvature: the smallest eigenvalue of the Hessian is {lowest:.2g}, "
            f"and the damping {damping:.2g} does not reach it",
            f"Try --damping {-2 * lowest:.2g}, or --curvature ggn, which has no negative eigenvalue.",
        )
