"""Self-influence through any parameters of the network: (1/n) gᵢ · (C + λ I)⁻¹ gᵢ, by a solve through the rows.

C comes from all rows and classes where that is cheap, and then the answer is exact; else from a random sample of the
rows. Knows nothing of suspicion, which takes it as one more detector: a weak one in published trials.
"""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.choice import CURVATURES
from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.objective import Objective
from curate.engine.curvature.operator import Explicit
from curate.engine.curvature.over_rows import OverRows
from curate.engine.curvature.row_gradients import CHUNK_FLOATS
from curate.engine.influence.damping import tenth_of_mean
from curate.engine.influence.gradients import residuals
from curate.engine.rows import Rows
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
    objective: Objective,
    parameters: str,
    train: Rows,
    damping: float | None,
    seed: int,
    progress: Progress,
    curvature: str = "ggn",
    ekfac: bool = False,
) -> SelfInfluence:
    """Of every training row; ``parameters`` is what a receipt calls them. No gradient is kept longer than its chunk.

    A Hessian may be negative along a row's gradient: in its place stands its Gauss-Newton part.
    """
    assert train.logits is not None
    started = time.monotonic()
    device = train.inputs.device
    rests = residuals(train.logits, train.labels).to(device)
    curvature = "ggn" if curvature == "hessian" else curvature
    operator = CURVATURES[curvature](objective, train.inputs, train.logits.softmax(1).to(device), rests)
    assert isinstance(operator, OverRows)
    if ekfac:
        return _by_layers(operator, parameters, rests, damping, seed, progress, started)
    damping = tenth_of_mean(operator, seed) if damping is None else damping
    sampled = None
    assert isinstance(operator, Explicit)
    if Exact.fits(operator.factor_rows, operator.p):
        factor = operator.whole_factor()
    else:
        sampled = max(1, min(MOST_SAMPLED, len(train), MOST_FACTOR_FLOATS // operator.p))
        generator = torch.Generator().manual_seed(seed)
        factor = operator.factor(torch.randperm(len(train), generator=generator)[:sampled].to(device), generator)
    inverse = WoodburyInverse(factor, damping)
    parts = []
    with progress.stage("Self-influence", len(train)) as advance:
        for part in torch.arange(len(train), device=device).split(max(1, CHUNK_FLOATS // objective.p)):
            parts.append(inverse.quadratic(objective.row_gradients(train.inputs.batch(part), rests[part])).cpu())
            advance(len(part))
    values = torch.cat(parts) / len(train)
    return SelfInfluence(values, parameters, damping, sampled, time.monotonic() - started, curvature)


def _by_layers(
    operator: OverRows,
    parameters: str,
    rests: Tensor,
    damping: float | None,
    seed: int,
    progress: Progress,
    started: float,
) -> SelfInfluence:
    """By EK-FAC, in a few passes whatever the network's size."""
    with progress.stage("EK-FAC", operator.n) as advance:
        ekfac = EKFAC.fit(operator, seed, advance)
    damping = max(0.1 * ekfac.mean_eigenvalue(), 1e-12) if damping is None else damping
    with progress.stage("Self-influence", operator.n) as advance:
        values = ekfac.self_products(damping, ekfac.own(operator.inputs, rests, advance)).cpu() / operator.n
    seconds, layers = time.monotonic() - started, ekfac.layers.approximations()
    return SelfInfluence(values, parameters, damping, None, seconds, operator.name, layers)
