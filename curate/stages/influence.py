"""The stage of a scan that answers evaluation influence: deep for some rows, at the head for the rest."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from curate.engine.influence.causes import Cause, find_causes
from curate.engine.influence.deep import Candidates, DeepInfluence, Question, deep_influence
from curate.engine.influence.harmful import (
    FEW_GROUPS,
    FEWEST_ROWS,
    GROUPS,
    HarmByGroup,
    Harmful,
    at_chance,
    deal,
    harmful_rows,
    minimum_harm,
)
from curate.engine.influence.head import HeadPairs, SameContent
from curate.engine.influence.layers import Beside, influence_by_layers
from curate.engine.influence.pairs import Pairs
from curate.engine.influence.problem import Problem
from curate.engine.influence.self_influence import SelfInfluence, self_influence
from curate.engine.neighbours import Neighbours
from curate.engine.passes import pieces
from curate.engine.solvers import make_solver
from curate.engine.solvers.automatic import Automatic
from curate.engine.solvers.base import Solver
from curate.errors import NumericalError
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.at_head import EvaluationAtHead, evaluation_at_head
from curate.stages.deep import Price, answered_by_layers, deep_objective, deep_problem
from curate.stages.heads import Heads
from curate.stages.prepare import Data
from curate.stages.slices import SliceHarm, harm_by_slice
from curate.stages.targets import Targets, choose_targets

FEWEST_NEAR, MOST_NEAR = 50, 5_000
MOST_SHIFTS = 64
"""Rows whose predicted flips are solved for where the head is too large to be factorised."""


@dataclass(frozen=True)
class Influence:
    """Harm of every training row and the strongest pairs, with what they rest on."""

    pairs: Pairs
    harm: torch.Tensor
    deep: DeepInfluence | None
    parameters: str
    head: str
    """Which closed form answers what is not answered through the network: the model's own ``head`` or the ``probe``."""
    head_residual: float
    head_recall: float | None
    """Share of the strongest pairs that the head's screen let through; None if it was asked for all."""
    head_stability: dict[str, object] | None
    """Rank stability of harm over the head's damping; None where nothing is answered from the head."""
    head_rows: int
    """Evaluation rows answered from the head."""
    left: int
    """Evaluation rows not answered at all."""
    eval_loss: float
    """Mean loss of the target rows, nats."""
    seconds: float
    targets: Targets
    """The evaluation rows that harm is measured on."""
    harmful: Harmful | None
    """None where the target rows are too few to tell."""
    flips: Int[np.ndarray, "h 2"]
    """Predictions on the whole evaluation set that turn right, and wrong, without each of the first harmful rows."""
    together: Int[np.ndarray, " 2"]
    """The same without all harmful rows at once."""
    causes: list[Cause]
    """Harmful rows that belong together."""
    cause_flips: Int[np.ndarray, "c 2"]
    """Predictions that turn right, and wrong, without all rows of a cause."""
    slices: list[SliceHarm]
    """Where `--slice` names a column and no value: each value's own harm."""
    guesses: bool = False
    """The head is at chance on the training labels: no row is called harmful."""
    declined: Price | None = None
    """What influence through the network would cost, if it is too much to be done unasked."""


@dataclass(frozen=True)
class _Targeted:
    """What is asked of all target rows at once, and what answers it."""

    settings: ScanSettings
    data: Data
    heads: Heads
    neighbours: Neighbours
    progress: Progress
    everyone: EvaluationAtHead
    """The whole evaluation set at the head."""
    targets: Targets
    rows: EvaluationAtHead
    """The target rows at the head."""
    same: SameContent
    least: float
    """Harm from which a row is called harmful."""

    @classmethod
    def of(
        cls, settings: ScanSettings, data: Data, heads: Heads, neighbours: Neighbours, progress: Progress
    ) -> "_Targeted":
        everyone = evaluation_at_head(data, heads)
        if not bool(torch.isfinite(everyone.losses).all()):
            raise NumericalError("The evaluation loss is not finite", "Check the weights and the model's transform.")
        named = settings if settings.sliced_by is None else replace(settings, slice=None)
        targets = choose_targets(named, data.evaluation, everyone.logits, everyone.losses)
        same = SameContent(data.train.sha256, [data.evaluation.sha256[row] for row in targets.rows.tolist()])
        least = minimum_harm(float(everyone.losses.sum()), len(data.train), len(targets.rows))
        rows = everyone.of(targets.rows)
        return cls(settings, data, heads, neighbours, progress, everyone, targets, rows, same, least)

    def groups(self, many: int) -> Tensor | None:
        """Target rows dealt into so many groups, ``[m]``; None where they are too few."""
        count = len(self.targets.rows)
        return deal(count, many, self.settings.seed) if count >= FEWEST_ROWS else None

    def at_head(self) -> "_Answer":
        """In closed form at the head, or at the probe where the model has none."""
        head = self.rows.head
        groups = self.groups(GROUPS if head.head.exact else FEW_GROUPS)
        harm, residual = head.harm(self.rows.x, self.rows.residuals)
        by_group = None
        if groups is not None:
            candidates = (harm >= self.least).nonzero()[:, 0]
            by_group = head.harm_by_group(self.rows.x, self.rows.residuals, groups, candidates)
        left = torch.arange(len(self.targets.rows)) if head.head.exact else self.targets.chosen
        return _Answer(harm, by_group, left, self.rows, residual)

    def through_network(self, problem: Problem) -> "_Answer":
        """Through the parameters of ``problem``; the chosen rows one by one, the others at a head beside it."""
        beside = evaluation_at_head(self.data, self.heads, probe=True).of(self.targets.rows)
        groups = self.groups(FEW_GROUPS)
        deep = self._deep(problem, beside, groups)
        rest = beside if deep.whole else self.rows
        others = torch.full((len(self.targets.rows),), rest.head.head.exact)
        others[self.targets.chosen] = False
        by_group = deep.by_group if groups is not None else None
        return _Answer(deep.harm, by_group, others.nonzero()[:, 0], rest, 0.0, deep)

    def _deep(self, problem: Problem, beside: EvaluationAtHead, groups: Tensor | None) -> DeepInfluence:
        settings, data, targets, progress = self.settings, self.data, self.targets, self.progress
        evaluation = data.evaluation if targets.whole else data.evaluation.taken(targets.rows.tolist())
        question = Question(evaluation, targets.chosen, self.same, groups, self.least)
        if answered_by_layers(settings, problem):
            probe = Beside(beside.head, beside.x, beside.residuals) if settings.solver == "auto" else None
            return influence_by_layers(problem, question, probe, settings.seed, progress)
        k = _candidate_count(settings, data)
        nearest, _ = self.neighbours.nearest(evaluation.features[targets.chosen], k, progress, "Candidates")
        chosen = self.rows.of(targets.chosen)
        by_head = None
        if chosen.head.head.exact:
            by_head = chosen.head.most_influential(chosen.x, chosen.residuals, nearest.shape[1])
        solver = solver_for(settings)
        candidates = Candidates(nearest, by_head)
        return deep_influence(problem, question, candidates, solver, settings.damping, settings.seed, progress)


@dataclass(frozen=True)
class _Answer:
    """Harm of all training rows, and what is left to answer."""

    harm: Tensor
    by_group: HarmByGroup | None
    """Harm on each group of target rows; None where they are too few."""
    left: Int[Tensor, " r"]
    """Target rows whose strongest pairs the head answers."""
    rest: EvaluationAtHead
    """All target rows at the head that answers those."""
    residual: float
    deep: DeepInfluence | None = None

    def strongest(self, asked: _Targeted) -> HeadPairs:
        """The strongest pairs of all rows answered, and what is known of the head's."""
        parts = [self.deep.pairs] if self.deep is not None else []
        if not len(self.left):
            return HeadPairs(Pairs.concatenate(parts), self.residual, None)
        rest = self.rest.of(self.left)
        found = rest.head.strongest(rest.x, rest.residuals, self.left, asked.same, asked.progress)
        pairs = Pairs.concatenate([*parts, found.pairs])
        return replace(found, pairs=pairs, residual=max(self.residual, found.residual))


def evaluation_influence(
    settings: ScanSettings,
    data: Data,
    heads: Heads,
    neighbours: Neighbours,
    suggested: Int[np.ndarray, " n"],
    progress: Progress,
) -> Influence:
    """``suggested`` is the best other class of each training row: it tells which harmful rows have one cause."""
    started = time.monotonic()
    asked = _Targeted.of(settings, data, heads, neighbours, progress)
    problem, price = deep_problem(settings, data)
    names = "head" if heads.own_influence is not None else "probe"
    if problem is not None and price is not None:
        names = price.named
    answer = asked.at_head() if problem is None else asked.through_network(problem)
    strongest, rest, deep, targets = answer.strongest(asked), answer.rest, answer.deep, asked.targets
    pairs = strongest.pairs
    at_head = deep is None or len(answer.left) > 0
    guesses = at_chance(heads.probabilities(data.train), data.train.labels.numpy())
    harmful = None
    if answer.by_group is not None and not guesses:
        harmful = harmful_rows(answer.harm, answer.by_group, asked.least)
    flips, together = _flips(asked.everyone, harmful)
    causes = _causes(asked, harmful, suggested)
    answered = len(answer.left) + (len(targets.chosen) if deep is not None else 0)
    return Influence(
        replace(pairs, evaluation=targets.rows[pairs.evaluation]),
        answer.harm,
        deep,
        names,
        "probe" if rest.head is heads.probe_influence else "head",
        strongest.residual,
        strongest.recall,
        rest.head.stability(rest.x, rest.residuals) if at_head else None,
        len(answer.left),
        len(targets.rows) - answered,
        float(asked.rows.losses.mean()),
        time.monotonic() - started,
        targets,
        harmful,
        flips,
        together,
        causes,
        _cause_flips(asked.everyone, causes),
        _slices(settings, data, asked.everyone),
        guesses,
        price if problem is None else None,
    )


def _causes(asked: _Targeted, harmful: Harmful | None, suggested: Int[np.ndarray, " n"]) -> list[Cause]:
    """Harmful rows that lie near each other and would take the same label."""
    if harmful is None or not len(harmful.rows):
        return []
    train = asked.data.train
    near, _ = asked.neighbours.nearest(train.features[harmful.rows], _candidate_count(asked.settings, asked.data))
    return find_causes(harmful.rows, near, train.labels.numpy(), suggested)


def _slices(settings: ScanSettings, data: Data, everyone: EvaluationAtHead) -> list[SliceHarm]:
    if settings.sliced_by is None:
        return []
    right = everyone.logits.argmax(1) == everyone.labels
    return harm_by_slice(
        settings.sliced_by, data.evaluation, everyone.head, everyone.x, everyone.residuals, everyone.losses, right
    )


def _candidate_count(settings: ScanSettings, data: Data) -> int:
    """K, the rows that count as near: a twentieth, as far as a list of them for each row asked about is no burden."""
    count = len(data.train)
    return min(settings.neighbours or max(FEWEST_NEAR, min(MOST_NEAR, count // 20)), count)


def _flips(everyone: EvaluationAtHead, harmful: Harmful | None) -> tuple[Int[np.ndarray, "h 2"], Int[np.ndarray, " 2"]]:
    """Of the harmful rows one by one, and of all at once, as the head answers it."""
    if harmful is None or not len(harmful.rows):
        return np.zeros((0, 2), dtype=int), np.zeros(2, dtype=int)
    head = everyone.head
    rows = torch.from_numpy(harmful.rows)
    one_by_one = rows if head.head.exact else rows[:MOST_SHIFTS]
    flips, together = [], torch.zeros(1, head.head.curvature.p)
    for part in pieces(one_by_one, head.head.curvature.passes.budget.chunk // head.head.curvature.p):
        shifts = head.shifts(part)
        flips.append(head.flips(shifts, everyone.x, everyone.logits, everyone.labels))
        together = together + shifts.sum(0, keepdim=True).cpu()
    if len(one_by_one) < len(rows):
        together = head.shifts_together([rows])
    at_once = head.flips(together.to(everyone.x), everyone.x, everyone.logits, everyone.labels)
    return torch.cat(flips).numpy(), at_once[0].numpy()


def _cause_flips(everyone: EvaluationAtHead, causes: list[Cause]) -> Int[np.ndarray, "c 2"]:
    head = everyone.head
    if not causes:
        return np.zeros((0, 2), dtype=int)
    moved = head.shifts_together([torch.from_numpy(cause.rows) for cause in causes])
    return head.flips(moved, everyone.x, everyone.logits, everyone.labels).numpy()


def network_self_influence(settings: ScanSettings, data: Data, progress: Progress) -> SelfInfluence | None:
    """Self-influence through the parameters that --params names beyond the head; None if it names none."""
    if settings.params in ("auto", "head"):
        return None
    objective, names = deep_objective(settings, data)
    if objective is None:
        return None
    problem = Problem(objective, data.train, settings.curvature)
    by_layers = settings.solver == "ekfac"
    return self_influence(problem, names, settings.damping, settings.seed, progress, by_layers)


def solver_for(settings: ScanSettings) -> Solver:
    """The solver that the settings name, with their seed; for `auto` one that keeps a damping that was asked for."""
    if settings.solver == "auto":
        return Automatic(settings.seed, firm=settings.damping is not None)
    return make_solver(settings.solver, settings.seed)
