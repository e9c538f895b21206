"""Influence through the whole network: kNN candidates, one solve for many evaluation rows, one forward-mode pass.

FastIF (Guo et al. 2020): only K training rows are the candidates of an evaluation row, and only their gradients are
taken: its nearest ones, or those of most influence at the head. What that misses is measured against an exact scan of a
random few evaluation rows.
The mean evaluation gradient needs no candidates: s · gᵢ for all rows is the derivative of their losses along s.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curate.engine.curvature.choice import CURVATURES
from curate.engine.curvature.objective import Objective
from curate.engine.curvature.row_gradients import CHUNK_FLOATS
from curate.engine.influence.damping import default_damping
from curate.engine.influence.gradients import influence_along, residuals, right_hand_sides
from curate.engine.influence.harmful import HarmByGroup
from curate.engine.influence.head import SameContent
from curate.engine.influence.minimum import Gradient, gradient_at
from curate.engine.influence.pairs import Pairs, StrongestPairs
from curate.engine.influence.stability import Stability, compare
from curate.engine.rows import Rows
from curate.engine.solvers.base import Solution, Solver, relative_size
from curate.process.progress import Progress

TOP = 20
"""Recall is the share of the TOP strongest rows, by size of influence, that are candidates."""
EXACT_ROWS = 4
"""Evaluation rows whose influence is scanned exactly to measure the recall."""

DISTANCE, HEAD = "distance", "head influence"
"""What candidates are ordered by."""


@dataclass(frozen=True)
class DeepInfluence:
    """What the solve gave: pairs for the chosen evaluation rows, harm of every training row, and the evidence."""

    pairs: Pairs
    harm: Float[Tensor, " n"]
    """Predicted fall of the mean evaluation loss when the row is left out, nats."""
    solution: Solution
    score_error: float | None
    """Estimated relative error of the candidates' scores; None where the solve is exact."""
    ranks_kept: float | None
    """Spearman's correlation of these scores with those that lack nothing; None where the solve is exact."""
    recall: float
    recall_interval: tuple[float, float]
    candidates: int
    """K: candidates of each evaluation row."""
    gradients_taken: int
    damping_asked: float
    solver: str
    curvature: str
    stability: dict[str, object]
    """Rank stability of harm over the damping, as a receipt has it."""
    by_group: HarmByGroup
    """Harm on each group of evaluation rows, of the training rows whose harm reaches ``minimum``."""
    gradient: Gradient
    """ḡ of the training rows."""
    recalls: dict[str, float]
    """Recall of each order of candidates that was offered; the best one's is ``recall``."""


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def deep_influence(
    objective: Objective,
    train: Rows,
    evaluation: Rows,
    chosen: Int[Tensor, " T"],
    candidates: Int[np.ndarray, "T K"],
    solver: Solver,
    damping: float | None,
    seed: int,
    same: SameContent,
    progress: Progress,
    by_head: Int[np.ndarray, "T K"] | None = None,
    groups: Int[Tensor, " E"] | None = None,
    minimum: float = math.inf,
    curvature: str = "ggn",
) -> DeepInfluence:
    """``chosen`` are rows of ``evaluation``; ``candidates`` their K nearest training rows.

    ``by_head`` are as many of most influence at the head, taken instead where they hold more of the strongest rows, as
    measured on the exact few. ``groups`` deals all rows of ``evaluation``: harm is then also measured on each group,
    for training rows of at least ``minimum`` harm (nats).
    """
    assert train.logits is not None
    assert evaluation.logits is not None
    device = train.inputs.device
    train_residuals = residuals(train.logits, train.labels).to(device)
    probabilities = train.logits.softmax(1).to(device)
    operator = CURVATURES[curvature](objective, train.inputs, probabilities, train_residuals)
    gradient = gradient_at(objective, train)
    asked = default_damping(operator, gradient, seed) if damping is None else damping
    rights = right_hand_sides(objective, evaluation, chosen, device, progress, groups)
    prepared = solver.prepare(operator, asked)
    with progress.stage(f"Solving with {prepared.name}", prepared.planned_steps) as advance:
        solution = prepared.solve(rights, advance)

    first = len(rights) - len(chosen)  # the mean and the groups stand before the chosen rows
    own = solution.rows[first:]
    exact = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed + 2))[:EXACT_ROWS].sort().values
    stability = Stability.of(operator, solution.damping, rights[0], seed)
    along = torch.cat([solution.rows[:1], own[exact], stability.directions])
    influence = influence_along(objective, train, train_residuals, along, progress)
    influence, scores_by_damping = influence[:, : 1 + len(exact)], influence[:, 1 + len(exact) :]
    offered = {DISTANCE: candidates} | ({} if by_head is None else {HEAD: by_head})
    recalls = _recalls(influence[:, 1:], exact, chosen, offered, same)
    best = max(recalls, key=lambda name: recalls[name])
    taken = offered[best]

    union, inverse = np.unique(taken, return_inverse=True)
    inverse = inverse.reshape(taken.shape)
    lacking = [part[-len(chosen) :] for part in solution.missing]  # of the last rows, all of them or a few
    measured = len(lacking[0]) if lacking else 0
    solved = torch.cat([own, *lacking])
    # ḡ · s is the mean over all rows; beyond the mean and the exact few it comes from one gradient of the mean loss.
    mean = gradient.flat.to(solved)
    products = _products(objective, train, train_residuals, torch.from_numpy(union), solved, progress)
    centred = (products - (solved @ mean).cpu()) / len(train)
    scores = centred[:, : len(chosen)]
    picked = torch.zeros(scores.shape, dtype=torch.bool)
    picked[torch.from_numpy(inverse), torch.arange(len(chosen))[:, None]] = True
    error = ranks = None
    if measured:
        gaps = centred[:, len(chosen) :].split(measured, dim=1)
        seen = picked[:, -measured:]
        error = relative_size(tuple((gap * seen).T for gap in gaps), (scores * picked).T)
        ranks = _ranks_kept(scores[:, -measured:], torch.stack(gaps).mean(0), seen)

    rows = torch.from_numpy(union)
    strongest = StrongestPairs(chosen)
    strongest.add(same.hidden(torch.where(picked, scores, torch.nan), rows, chosen), rows)
    harm = -influence[:, 0]
    harmful = (harm >= minimum).nonzero()[:, 0]
    on_groups = _products(objective, train, train_residuals, harmful, solution.rows[1:first], progress)
    trials = len(exact) * min(TOP, len(train))
    return DeepInfluence(
        pairs=strongest.pairs(),
        harm=harm,
        solution=solution,
        score_error=error,
        ranks_kept=ranks,
        recall=recalls[best],
        recall_interval=wilson_interval(round(recalls[best] * trials), trials),
        candidates=taken.shape[1],
        gradients_taken=len(union),
        damping_asked=asked,
        solver=prepared.name,
        curvature=operator.name,
        stability=stability.summary(scores_by_damping),
        by_group=HarmByGroup(harmful, ((solution.rows[1:first] @ mean).cpu() - on_groups) / len(train)),
        gradient=gradient,
        recalls=recalls,
    )


def _ranks_kept(scores: Float[Tensor, "b j"], gaps: Float[Tensor, "b j"], seen: Bool[Tensor, "b j"]) -> float:
    """Spearman's correlation of each evaluation row's scores with and without what they lack, the mean of them."""
    whole = scores + gaps
    pairs = ((scores[kept, row], whole[kept, row]) for row, kept in enumerate(seen.T))
    return float(np.mean([compare(one, other)["spearman"] for one, other in pairs]))


def _recalls(
    influence: Float[Tensor, "n x"],
    exact: Int[Tensor, " x"],
    chosen: Int[Tensor, " T"],
    offered: dict[str, Int[np.ndarray, "T K"]],
    same: SameContent,
) -> dict[str, float]:
    """Share of the `TOP` strongest rows of the exact few that each set of candidates holds."""
    values = same.hidden(influence.clone(), torch.arange(len(influence)), chosen[exact])
    top = values.abs().nan_to_num(-1).argsort(dim=0, descending=True, stable=True)[:TOP].numpy()
    return {
        name: float(np.mean([np.isin(top[:, place], found[row]) for place, row in enumerate(exact.tolist())]))
        for name, found in offered.items()
    }


def _products(
    objective: Objective,
    train: Rows,
    rests: Tensor,
    rows: Int[Tensor, " b"],
    solved: Float[Tensor, "k p"],
    progress: Progress,
) -> Float[Tensor, "b k"]:
    """gᵢ · s of some training rows, from their gradients."""
    if not len(solved) or not len(rows):
        return torch.zeros(len(rows), len(solved))
    parts = []
    with progress.stage("Candidates' gradients", len(rows)) as advance:
        for part in rows.to(rests.device).split(max(1, CHUNK_FLOATS // objective.p)):
            parts.append((objective.row_gradients(train.inputs.batch(part), rests[part]) @ solved.T).cpu())
            advance(len(part))
    return torch.cat(parts)
