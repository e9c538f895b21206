"""Influence through the whole network: kNN candidates, one solve for many evaluation rows, one forward-mode pass.

FastIF (Guo et al. 2020): only the K nearest training rows of an evaluation row are its candidates, and only their
gradients are taken. What that misses is measured against an exact scan of a random few evaluation rows.
The mean evaluation gradient needs no candidates: s · gᵢ for all rows is the derivative of their losses along s.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.curvature.gauss_newton import CHUNK_FLOATS, GaussNewton
from curate.curvature.objective import Objective
from curate.forward import Forward
from curate.influence.head import SameContent
from curate.influence.pairs import Pairs, StrongestPairs
from curate.progress import Progress
from curate.solvers.base import Solution, Solver

TOP = 20
"""Recall is the share of the TOP strongest rows, by size of influence, that are candidates."""
EXACT_ROWS = 4
"""Evaluation rows whose influence is scanned exactly to measure the recall."""


@dataclass(frozen=True)
class DeepInfluence:
    """What the solve gave: pairs for the chosen evaluation rows, harm of every training row, and the evidence."""

    pairs: Pairs
    harm: Float[Tensor, " n"]
    """Predicted fall of the mean evaluation loss when the row is left out, nats."""
    solution: Solution
    score_error: float | None
    """Estimated relative error of the candidates' scores; None where the solve is exact."""
    recall: float
    recall_interval: tuple[float, float]
    candidates: int
    """K: candidates of each evaluation row."""
    gradients_taken: int
    damping_asked: float


def residuals(logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
    """rᵢ = pᵢ - yᵢ."""
    return logits.softmax(1) - F.one_hot(labels, logits.shape[1]).to(logits)


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def default_damping(operator: GaussNewton, seed: int) -> float:
    """A tenth of the mean eigenvalue, its trace estimated on 512 rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(operator.n, generator=generator)[:512]
    return 0.1 * float(operator.factor(rows, generator).square().sum(1).mean()) / operator.p


def deep_influence(
    objective: Objective,
    train: Forward,
    evaluation: Forward,
    chosen: Int[Tensor, " T"],
    candidates: Int[np.ndarray, "T K"],
    solver: Solver,
    damping: float | None,
    seed: int,
    same: SameContent,
    progress: Progress,
) -> DeepInfluence:
    """``chosen`` are rows of ``evaluation``; ``candidates`` their K nearest training rows."""
    assert train.logits is not None
    assert evaluation.logits is not None
    device = train.inputs.device
    train_residuals = residuals(train.logits, train.labels).to(device)
    operator = GaussNewton(objective, train.inputs, train.logits.softmax(1).to(device))
    asked = default_damping(operator, seed) if damping is None else damping
    rights = right_hand_sides(objective, evaluation, chosen, device, progress)
    prepared = solver.prepare(operator, asked)
    with progress.stage(f"Solving with {solver.name}", prepared.planned_steps) as advance:
        solution = prepared.solve(rights, advance)

    exact = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed + 2))[:EXACT_ROWS].sort().values
    along = torch.cat([solution.rows[:1], solution.rows[1:][exact]])
    influence = _along(objective, train, train_residuals, along, progress)

    union, inverse = np.unique(candidates, return_inverse=True)
    inverse = inverse.reshape(candidates.shape)
    solved = solution.rows[1:] if solution.earlier is None else torch.cat([solution.rows[1:], solution.earlier[1:]])
    parts = []
    with progress.stage("Candidates' gradients", len(union)) as advance:
        for part in torch.from_numpy(union).to(device).split(max(1, CHUNK_FLOATS // objective.p)):
            parts.append(objective.row_gradients(train.inputs.batch(part), train_residuals[part]) @ solved.T)
            advance(len(part))
    products = torch.cat(parts).cpu()
    # ḡ · s is the mean over all rows; beyond the mean and the exact few it comes from one gradient of the mean loss.
    mean = _mean_gradient(objective, train, train_residuals)
    centred = (products - (solved @ mean).cpu()) / len(train)
    scores = centred[:, : len(chosen)]
    picked = torch.zeros(scores.shape, dtype=torch.bool)
    picked[torch.from_numpy(inverse), torch.arange(len(chosen))[:, None]] = True
    error = None
    if solution.earlier is not None:
        gap = torch.where(picked, scores - centred[:, len(chosen) :], 0.0).norm(dim=0)
        size = torch.where(picked, scores, 0.0).norm(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
        error = float((gap / size).mean()) * solution.error_scale

    rows = torch.from_numpy(union)
    strongest = StrongestPairs(chosen)
    strongest.add(same.hidden(torch.where(picked, scores, torch.nan), rows, chosen), rows)
    hits, trials = 0, 0
    for column, position in enumerate(exact.tolist(), start=1):
        values = same.hidden(
            influence[:, column : column + 1], torch.arange(len(train)), chosen[position : position + 1]
        )
        top = values[:, 0].abs().nan_to_num(-1).argsort(descending=True, stable=True)[:TOP]
        hits += int(np.isin(top.numpy(), candidates[position]).sum())
        trials += len(top)
    return DeepInfluence(
        pairs=strongest.pairs(),
        harm=-influence[:, 0],
        solution=solution,
        score_error=error,
        recall=hits / trials,
        recall_interval=wilson_interval(hits, trials),
        candidates=candidates.shape[1],
        gradients_taken=len(union),
        damping_asked=asked,
    )


def right_hand_sides(
    objective: Objective, evaluation: Forward, chosen: Tensor, device: torch.device, progress: Progress
) -> Float[Tensor, "k p"]:
    """The mean evaluation gradient first, then those of the chosen rows."""
    assert evaluation.logits is not None
    rests = residuals(evaluation.logits, evaluation.labels).to(device)
    mean = torch.zeros(1, objective.p, device=device)
    with progress.stage("Evaluation gradients", len(evaluation)) as advance:
        for part in torch.arange(len(evaluation), device=device).split(512):
            mean += objective.cotangents(evaluation.inputs.batch(part), rests[part][None])
            advance(len(part))
    size = max(1, CHUNK_FLOATS // objective.p)
    own = [
        objective.row_gradients(evaluation.inputs.batch(part), rests[part]) for part in chosen.to(device).split(size)
    ]
    return torch.cat([mean / len(evaluation), *own])


def _along(
    objective: Objective, train: Forward, rests: Tensor, directions: Float[Tensor, "k p"], progress: Progress
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


def _mean_gradient(objective: Objective, train: Forward, rests: Tensor) -> Float[Tensor, " p"]:
    total = torch.zeros(1, objective.p, device=rests.device)
    for part in torch.arange(len(train), device=rests.device).split(512):
        total += objective.cotangents(train.inputs.batch(part), rests[part][None])
    return total[0] / len(train)
