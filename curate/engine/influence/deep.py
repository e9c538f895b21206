"""Influence through the whole network: kNN candidates, one solve for many evaluation rows, one pass along them.

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

from curate.engine.influence.damping import default_damping
from curate.engine.influence.harmful import HarmByGroup
from curate.engine.influence.head import SameContent
from curate.engine.influence.pairs import Pairs, StrongestPairs
from curate.engine.influence.problem import Problem, RightHandSides, right_hand_sides
from curate.engine.influence.stability import Stability, compare
from curate.engine.passes import pieces
from curate.engine.rows import Rows
from curate.engine.solvers import make_solver
from curate.engine.solvers.base import Solution, Solver, relative_size
from curate.process.progress import Progress

TOP = 20
"""Recall is the share of the TOP strongest rows, by size of influence, that are candidates."""
MOST_HARMFUL = 10
"""The same of the rows that harm an evaluation row most."""
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
    """Estimated relative error of the candidates' scores; None if the solve is exact, or was not compared with one."""
    ranks_kept: float | None
    """Spearman's correlation of these scores with those that lack nothing; None likewise."""
    recall: float
    recall_interval: tuple[float, float]
    recall_of_harmful: float
    """Share of the `MOST_HARMFUL` that are candidates."""
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
    problem: Problem
    """What was solved: the training rows, their ḡ and curvature."""
    recalls: dict[str, float]
    """Recall of each order of candidates that was offered; the best one's is ``recall``. Empty if there were none."""

    @property
    def whole(self) -> bool:
        """Whether every training row was scored: there were no candidates."""
        return not self.recalls


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Question:
    """What is asked of evaluation rows."""

    rows: Rows
    chosen: Int[Tensor, " T"]
    """Those asked for one by one."""
    same: SameContent
    groups: Int[Tensor, " E"] | None = None
    """The group of each evaluation row: harm is then also measured on each group."""
    minimum: float = math.inf
    """Harm of a training row, nats, from which it is measured on the groups."""


@dataclass(frozen=True)
class Candidates:
    """The training rows whose gradients are taken for each of the chosen rows."""

    nearest: Int[np.ndarray, "T K"]
    by_head: Int[np.ndarray, "T K"] | None = None
    """As many of most influence at the head, taken instead if they hold more of the strongest rows, as measured on the
    exact few."""


def deep_influence(
    problem: Problem,
    question: Question,
    candidates: Candidates,
    solver: str | Solver,
    damping: float | None,
    seed: int,
    progress: Progress,
) -> DeepInfluence:
    """Influence of the rows of ``problem`` on those of ``question``.

    A ``damping`` of None is the default one of a checkpoint like this; ``seed`` draws the exact few.
    """
    chosen, same, operator = question.chosen, question.same, problem.operator
    asked = default_damping(operator, problem.gradient, seed) if damping is None else damping
    rights = right_hand_sides(problem.over(question.rows), chosen, progress, question.groups)
    prepared = make_solver(solver, seed).prepare(operator, asked)
    with progress.stage(f"Solving with {prepared.name}", prepared.planned_steps) as advance:
        solution = prepared.solve(rights.together, advance)
    answers = RightHandSides(solution.rows, rights.groups_of)

    exact = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed + 2))[:EXACT_ROWS].sort().values
    stability = Stability.of(operator, solution.damping, rights.mean[0], seed)
    along = torch.cat([answers.mean, answers.chosen[exact], stability.directions])
    influence = problem.influence_along(along, progress)
    influence, scores_by_damping = influence[:, : 1 + len(exact)], influence[:, 1 + len(exact) :]
    offered = {DISTANCE: candidates.nearest} | ({} if candidates.by_head is None else {HEAD: candidates.by_head})
    few = same.hidden(influence[:, 1:].clone(), torch.arange(len(influence)), chosen[exact])
    recalls = {name: _held(-few.abs(), exact, found, TOP) for name, found in offered.items()}
    best = max(recalls, key=lambda name: recalls[name])
    scores = _scores(problem, offered[best], answers.chosen, solution, progress)

    strongest = StrongestPairs(chosen)
    strongest.add(same.hidden(torch.where(scores.picked, scores.values, torch.nan), scores.rows, chosen), scores.rows)
    harm = -influence[:, 0]
    harmful = (harm >= question.minimum).nonzero()[:, 0]
    on_groups = problem.influence_on(harmful, answers.groups, progress)
    trials = len(exact) * min(TOP, len(harm))
    return DeepInfluence(
        pairs=strongest.pairs(),
        harm=harm,
        solution=solution,
        score_error=scores.error(),
        ranks_kept=scores.ranks_kept(),
        recall=recalls[best],
        recall_interval=wilson_interval(round(recalls[best] * trials), trials),
        recall_of_harmful=_held(few, exact, offered[best], MOST_HARMFUL),
        candidates=offered[best].shape[1],
        gradients_taken=len(scores.rows),
        damping_asked=asked,
        solver=prepared.name,
        curvature=operator.name,
        stability=stability.summary(scores_by_damping),
        by_group=HarmByGroup(harmful, -on_groups),
        problem=problem,
        recalls=recalls,
    )


@dataclass(frozen=True)
class Scores:
    """Influence of the union of all candidates on each chosen evaluation row, and what its solve lacks of it."""

    rows: Int[Tensor, " b"]
    """The training rows."""
    values: Float[Tensor, "b T"]
    picked: Bool[Tensor, "b T"]
    """Whether the row is a candidate of this evaluation row."""
    gaps: tuple[Float[Tensor, "b j"], ...]
    """What the solve still lacks of the last columns, as `Solution.missing` has it."""

    def error(self) -> float | None:
        """Estimated relative error; None if nothing is lacking."""
        if not self.gaps:
            return None
        seen = self.picked[:, -self.gaps[0].shape[1] :]
        return relative_size(tuple((gap * seen).T for gap in self.gaps), (self.values * self.picked).T)

    def ranks_kept(self) -> float | None:
        """Spearman's correlation of each column with what it is without its gap, the mean of them; None as above."""
        if not self.gaps:
            return None
        last = slice(-self.gaps[0].shape[1], None)
        few, seen = self.values[:, last], self.picked[:, last]
        whole = few + torch.stack(self.gaps).mean(0)
        pairs = ((few[kept, row], whole[kept, row]) for row, kept in enumerate(seen.T))
        return float(np.mean([compare(one, other)["spearman"] for one, other in pairs]))


def _scores(
    problem: Problem,
    taken: Int[np.ndarray, "T K"],
    answers: Float[Tensor, "T p"],
    solution: Solution,
    progress: Progress,
) -> Scores:
    """Of the candidates ``taken`` of each chosen row; ``answers`` are the solutions for them, the last of all."""
    union, inverse = np.unique(taken, return_inverse=True)
    count = len(answers)
    lacking = [part[-count:] for part in solution.missing]  # of the last rows, all of them or a few
    rows = torch.from_numpy(union)
    influence = problem.influence_on(rows, torch.cat([answers, *lacking]), progress)
    picked = torch.zeros(len(union), count, dtype=torch.bool)
    picked[torch.from_numpy(inverse.reshape(taken.shape)), torch.arange(count)[:, None]] = True
    gaps = pieces(influence[:, count:], len(lacking[0]), dim=1) if lacking else ()
    return Scores(rows, influence[:, :count], picked, tuple(gaps))


def _held(order: Float[Tensor, "n x"], exact: Int[Tensor, " x"], found: Int[np.ndarray, "T K"], count: int) -> float:
    """Share of the first ``count`` rows by ``order``, smallest first, that are candidates, over the exact few."""
    first = order.nan_to_num(torch.inf).argsort(dim=0, stable=True)[:count].numpy()
    return float(np.mean([np.isin(first[:, place], found[row]) for place, row in enumerate(exact.tolist())]))
