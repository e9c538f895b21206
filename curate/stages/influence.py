"""The stage of a scan that answers evaluation influence: deep for some rows, at the head for the rest."""

import re
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from curate.engine.curvature.ekfac import Layers
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.causes import Cause, find_causes
from curate.engine.influence.deep import Candidates, DeepInfluence, Question, deep_influence
from curate.engine.influence.harmful import (
    FEW_GROUPS,
    FEWEST_ROWS,
    GROUPS,
    Harmful,
    at_chance,
    deal,
    harmful_rows,
    minimum_harm,
)
from curate.engine.influence.head import SameContent
from curate.engine.influence.layers import Beside, influence_by_layers
from curate.engine.influence.pairs import Pairs
from curate.engine.influence.problem import Problem
from curate.engine.influence.self_influence import SelfInfluence, self_influence
from curate.engine.neighbours import Neighbours
from curate.engine.solvers import make_solver
from curate.engine.solvers.automatic import Automatic
from curate.engine.solvers.base import Solver
from curate.errors import NumericalError
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.at_head import EvaluationAtHead, evaluation_at_head
from curate.stages.heads import Heads
from curate.stages.prepare import Data
from curate.stages.slices import SliceHarm, harm_by_slice
from curate.stages.targets import Targets, choose_targets

MOST_DEEP_PARAMETERS = 5_000_000
LEAST_KNOWN = 0.5
"""Share of the parameters in layers with a formula, from which EK-FAC stands for the network."""
WIDEST = 4_097
"""Inputs of a layer, with its bias, up to which eigenvectors of their covariance take half a minute at most."""
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
    everyone = evaluation_at_head(data, heads)
    if not bool(torch.isfinite(everyone.losses).all()):
        raise NumericalError("the evaluation loss is not finite", "Check the weights and the model's transform.")
    named = settings if settings.sliced_by is None else replace(settings, slice=None)
    targets = choose_targets(named, data.evaluation, everyone.logits, everyone.losses)
    asked = everyone.of(targets.rows)
    same = SameContent(data.train.sha256, [data.evaluation.sha256[row] for row in targets.rows.tolist()])
    objective, names = deep_objective(settings, data)
    least = minimum_harm(float(everyone.losses.sum()), len(data.train), len(targets.rows))
    many = objective is None and asked.head.head.exact
    groups = None
    if len(targets.rows) >= FEWEST_ROWS:
        groups = deal(len(targets.rows), GROUPS if many else FEW_GROUPS, settings.seed)

    deep, parts, residual, rest_at = None, [], 0.0, asked
    others = torch.ones(len(targets.rows), dtype=torch.bool)
    if objective is None:
        names = "head" if heads.own_influence is not None else "probe"
        harm, residual = asked.head.harm(asked.x, asked.residuals)
        by_group = None
        if groups is not None:
            by_group = asked.head.harm_by_group(asked.x, asked.residuals, groups, (harm >= least).nonzero()[:, 0])
        if not asked.head.head.exact:
            others[:] = False
            others[targets.chosen] = True
    else:
        beside = evaluation_at_head(data, heads, probe=True).of(targets.rows)
        deep = _through_network(
            settings, data, objective, targets, asked, beside, same, neighbours, groups, least, progress
        )
        rest_at = beside if deep.whole else asked
        harm, by_group = deep.harm, deep.by_group if groups is not None else None
        parts.append(deep.pairs)
        others[targets.chosen] = False
        others &= rest_at.head.head.exact
    rows = others.nonzero()[:, 0]
    if len(rows):
        rest = rest_at.of(rows)
        found, worst = rest.head.strongest(rest.x, rest.residuals, rows, same, progress)
        parts.append(found)
        residual = max(residual, worst)
    at_head = deep is None or len(rows) > 0
    stability = rest_at.head.stability(rest_at.x, rest_at.residuals) if at_head else None
    pairs = Pairs.concatenate(parts)
    guesses = at_chance(heads.probabilities(data.train), data.train.labels.numpy())
    harmful = None if by_group is None or guesses else harmful_rows(harm, by_group, least)
    flips, together = _flips(everyone, harmful)
    causes: list[Cause] = []
    if harmful is not None and len(harmful.rows):
        near, _ = neighbours.nearest(data.train.features[harmful.rows], _candidate_count(settings, data))
        causes = find_causes(harmful.rows, near, data.train.labels.numpy(), suggested)
    answered = len(rows) + (len(targets.chosen) if deep is not None else 0)
    return Influence(
        replace(pairs, evaluation=targets.rows[pairs.evaluation]),
        harm,
        deep,
        names,
        "probe" if rest_at.head is heads.probe_influence else "head",
        residual,
        stability,
        len(rows),
        len(targets.rows) - answered,
        float(asked.losses.mean()),
        time.monotonic() - started,
        targets,
        harmful,
        flips,
        together,
        causes,
        _cause_flips(everyone, causes),
        _slices(settings, data, everyone),
        guesses,
    )


def _slices(settings: ScanSettings, data: Data, everyone: EvaluationAtHead) -> list[SliceHarm]:
    if settings.sliced_by is None:
        return []
    right = everyone.logits.argmax(1) == everyone.labels
    return harm_by_slice(
        settings.sliced_by, data.evaluation, everyone.head, everyone.x, everyone.residuals, everyone.losses, right
    )


def _candidate_count(settings: ScanSettings, data: Data) -> int:
    """K, the rows that count as near."""
    return min(settings.neighbours or max(50, len(data.train) // 20), len(data.train))


def _through_network(
    settings: ScanSettings,
    data: Data,
    objective: Objective,
    targets: Targets,
    asked: EvaluationAtHead,
    beside: EvaluationAtHead,
    same: SameContent,
    neighbours: Neighbours,
    groups: Tensor | None,
    least: float,
    progress: Progress,
) -> DeepInfluence:
    evaluation = data.evaluation if targets.whole else data.evaluation.taken(targets.rows.tolist())
    problem = Problem(objective, data.train, settings.curvature)
    question = Question(evaluation, targets.chosen, same, groups, least)
    if answered_by_layers(settings, problem):
        probe = Beside(beside.head, beside.x, beside.residuals) if settings.solver == "auto" else None
        return influence_by_layers(problem, question, probe, settings.seed, progress)
    k = _candidate_count(settings, data)
    nearest, _ = neighbours.nearest(evaluation.features[targets.chosen], k, progress, "Candidates")
    chosen = asked.of(targets.chosen)
    by_head = None
    if asked.head.head.exact:
        by_head = asked.head.most_influential(chosen.x, chosen.residuals, nearest.shape[1])
    candidates = Candidates(nearest, by_head)
    solver = solver_for(settings)
    return deep_influence(problem, question, candidates, solver, settings.damping, settings.seed, progress)


def answered_by_layers(settings: ScanSettings, problem: Problem) -> bool:
    """Whether EK-FAC answers layer by layer: nobody asked for a damping or another solver.

    At a minimum with a known penalty influence is the derivative of a refit, and is solved for; so it is where most
    parameters lie in layers that EK-FAC has no formula for, or a layer is too wide for its eigenvectors.
    """
    if settings.solver not in ("auto", "ekfac") or settings.damping is not None or settings.curvature != "ggn":
        return False
    if settings.solver == "ekfac":
        return True
    layers = Layers(problem.objective)
    named = layers.known_share() > LEAST_KNOWN and layers.widest() <= WIDEST
    return named and problem.gradient.known_penalty == 0


def _flips(everyone: EvaluationAtHead, harmful: Harmful | None) -> tuple[Int[np.ndarray, "h 2"], Int[np.ndarray, " 2"]]:
    """Of the harmful rows one by one, and of all at once, as the head answers it."""
    if harmful is None or not len(harmful.rows):
        return np.zeros((0, 2), dtype=int), np.zeros(2, dtype=int)
    head = everyone.head
    rows = torch.from_numpy(harmful.rows)
    if head.head.exact:
        shifts = head.shifts(rows)
        moved = torch.cat([shifts, shifts.sum(0, keepdim=True)])
    else:
        moved = torch.cat([head.shifts(rows[:MOST_SHIFTS]), head.shifts_together([rows])])
    flips = head.flips(moved, everyone.x, everyone.logits, everyone.labels).numpy()
    return flips[:-1], flips[-1]


def _cause_flips(everyone: EvaluationAtHead, causes: list[Cause]) -> Int[np.ndarray, "c 2"]:
    head = everyone.head
    if not causes:
        return np.zeros((0, 2), dtype=int)
    moved = head.shifts_together([torch.from_numpy(cause.rows) for cause in causes])
    return head.flips(moved, everyone.x, everyone.logits, everyone.labels).numpy()


def deep_objective(settings: ScanSettings, data: Data) -> tuple[Objective | None, str]:
    """The objective on the parameters asked for; None if influence is taken at the head in closed form."""
    network, asked = data.network, settings.params
    if network is None or not network.own_classes:
        return None, "probe"
    if (asked == "head" and settings.asks_network is None) or not network.differentiable:
        return None, "head"
    within = f"{re.escape(network.head_name)}[.]" if network.head_name else ""  # a module may be its own head
    pattern = {"auto": "all", "head": f"^{within}(weight|bias)$"}.get(asked, asked)
    names = choose_parameters(network.module, pattern)
    objective = Objective(network.module, names, network.logits_of, passes=data.passes)
    if settings.asks_network is None and objective.p > MOST_DEEP_PARAMETERS:
        return None, "head"
    described = f"{asked if asked != 'auto' else 'all'}: {objective.p:,} parameters"
    return objective, described


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
