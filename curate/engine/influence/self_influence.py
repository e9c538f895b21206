"""Self-influence through any parameters of the network: (1/n) gᵢ · (C + λ I)⁻¹ gᵢ, by a solve through the rows.

C comes from all rows and classes where that is cheap, and then the answer is exact; else from a random sample of the
rows. Knows nothing of suspicion, which takes it as one more detector: a weak one in published trials.
"""

import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.ekfac import EKFAC, LEAST_DAMPING
from curate.engine.curvature.operator import Explicit
from curate.engine.curvature.over_rows import OverRows
from curate.engine.influence.damping import tenth_of_mean
from curate.engine.influence.problem import Problem
from curate.engine.solvers.dual import MOST_FACTOR_FLOATS, Exact, WoodburyInverse
from curate.process.progress import Progress

MOST_SAMPLED = 1024
"""Rows that C is estimated from where all of them would not fit."""


@dataclass(frozen=True)
class SelfInfluence:
    """What was found, and what it rests on."""

    values: Float[Tensor, " n"]
    """Predicted rise of each training row's own loss when it is left out, nats, ≥ 0, to first order."""
    parameters: str
    damping: float
    sampled: int | None
    """Rows that C was estimated from; None where it was exact."""
    seconds: float
    curvature: str = "ggn"
    layers: str | None = None
    """Which layers EK-FAC knows, and what stands for the others; None where it was not asked for."""


def self_influence(
    problem: Problem, parameters: str, damping: float | None, seed: int, progress: Progress, ekfac: bool = False
) -> SelfInfluence:
    """Of every row of ``problem``; ``parameters`` is what a receipt calls those of its objective.

    No gradient is kept longer than its chunk. A ``damping`` of None is a tenth of the mean eigenvalue; ``seed`` draws
    what is estimated; ``ekfac``: layer by layer, in a few passes whatever the network's size. A Hessian may be negative
    along a row's gradient: in its place stands its Gauss-Newton part.
    """
    started = time.monotonic()
    if problem.curvature == "hessian":
        problem = replace(problem, curvature="ggn")
    operator, n = problem.operator, len(problem.rows)
    assert isinstance(operator, OverRows)
    sampled = layers = None
    if ekfac:
        with progress.stage("EK-FAC", n) as advance:
            by_layers = EKFAC.fit(operator, seed, advance)
        damping = max(0.1 * by_layers.mean_eigenvalue(), LEAST_DAMPING) if damping is None else damping
        with progress.stage("Self-influence", n) as advance:
            own = by_layers.own(operator.inputs, problem.residuals, advance)
            values = by_layers.self_products(damping, own).cpu() / n
        layers = by_layers.layers.approximations()
    else:
        damping = tenth_of_mean(operator, seed) if damping is None else damping
        factor, sampled = _factor(operator, seed)
        inverse = WoodburyInverse(factor, damping)
        parts = []
        with progress.stage("Self-influence", n) as advance:
            for part in problem.gradient_parts(torch.arange(n)):
                parts.append(inverse.quadratic(problem.row_gradients(part)).cpu())
                advance(len(part))
        values = problem.objective.passes.collect(parts) / n
    seconds = time.monotonic() - started
    return SelfInfluence(values, parameters, damping, sampled, seconds, operator.name, layers)


def _factor(operator: OverRows, seed: int) -> tuple[Float[Tensor, "m p"], int | None]:
    """The whole factor of C, or that of a random sample and how many rows it has."""
    assert isinstance(operator, Explicit)
    if Exact.fits(operator.factor_rows, operator.p):
        return operator.whole_factor(), None
    sampled = max(1, min(MOST_SAMPLED, operator.n, MOST_FACTOR_FLOATS // operator.p))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(operator.n, generator=generator)[:sampled].to(operator.device)
    return operator.factor(rows, generator), sampled
