"""Gradients of rows and their products, a part of the rows at a time: what influence through a network is made of."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.curvature.objective import Objective
from curate.engine.curvature.row_gradients import CHUNK_FLOATS
from curate.engine.rows import Rows
from curate.process.progress import Progress


def residuals(logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
    """rᵢ = pᵢ - yᵢ."""
    return logits.softmax(1) - F.one_hot(labels, logits.shape[1]).to(logits)


def right_hand_sides(
    objective: Objective,
    evaluation: Rows,
    chosen: Tensor,
    device: torch.device,
    progress: Progress,
    groups: Int[Tensor, " E"] | None = None,
) -> Float[Tensor, "k p"]:
    """The mean evaluation gradient first, then the mean of each group, then those of the chosen rows."""
    assert evaluation.logits is not None
    rests = residuals(evaluation.logits, evaluation.labels).to(device)
    numbers = torch.zeros(len(evaluation), dtype=torch.long) if groups is None else groups
    counts = torch.bincount(numbers)
    sums = torch.zeros(len(counts), objective.p, device=device)
    with progress.stage("Evaluation gradients", len(evaluation)) as advance:
        for group in range(len(counts)):
            for part in (numbers == group).nonzero()[:, 0].to(device).split(512):
                sums[group] += objective.cotangents(evaluation.inputs.batch(part), rests[part][None])[0]
                advance(len(part))
    size = max(1, CHUNK_FLOATS // objective.p)
    own = [
        objective.row_gradients(evaluation.inputs.batch(part), rests[part])
        for part in chosen.to(device).split(size)
        if len(part)
    ]
    of_groups = sums[:0] if groups is None else sums / counts[:, None].to(sums)
    return torch.cat([sums.sum(0, keepdim=True) / len(evaluation), of_groups, *own])


def influence_along(
    objective: Objective, train: Rows, rests: Tensor, directions: Float[Tensor, "k p"], progress: Progress
) -> Float[Tensor, "n k"]:
    """Influence of every training row along s: (1/n) s · (gᵢ - ḡ), by forward mode."""
    parts = []
    with progress.stage("Influence of every row", len(train)) as advance:
        for part in torch.arange(len(train), device=rests.device).split(512):
            moves = objective.tangents(train.inputs.batch(part), directions)
            parts.append(torch.einsum("kbc,bc->bk", moves, rests[part]).cpu())
            advance(len(part))
    products = torch.cat(parts)
    return (products - products.mean(0)) / len(train)


def mean_gradient(objective: Objective, train: Rows, rests: Tensor) -> Float[Tensor, " p"]:
    """ḡ of the training rows, by one backward pass over them."""
    total = torch.zeros(1, objective.p, device=rests.device)
    for part in torch.arange(len(train), device=rests.device).split(512):
        total += objective.cotangents(train.inputs.batch(part), rests[part][None])
    return total[0] / len(train)
