"""The stage of a scan that answers evaluation influence: deep for some rows, at the head for the rest."""

import re
import time
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from curate.config import ScanSettings
from curate.curvature.objective import Objective, choose_parameters
from curate.errors import NumericalError
from curate.heads import Heads, with_ones
from curate.influence.deep import DeepInfluence, deep_influence, residuals
from curate.influence.head import SameContent
from curate.influence.pairs import Pairs
from curate.influence.self_influence import SelfInfluence, self_influence
from curate.neighbours import Neighbours
from curate.prepare import Data
from curate.probe import probe_inputs
from curate.progress import Progress
from curate.solvers.base import Solver
from curate.solvers.dual import Exact
from curate.solvers.lissa import LiSSA

MOST_DEEP_PARAMETERS = 5_000_000


@dataclass(frozen=True)
class Influence:
    """Harm of every training row and the strongest pairs, with what they rest on."""

    pairs: Pairs
    harm: torch.Tensor
    deep: DeepInfluence | None
    solver: Solver | None
    parameters: str
    head_residual: float
    head_rows: int
    """Evaluation rows answered from the head."""
    left: int
    """Evaluation rows not answered at all."""
    eval_loss: float
    seconds: float


def evaluation_influence(
    settings: ScanSettings, data: Data, heads: Heads, neighbours: Neighbours, progress: Progress
) -> Influence:
    started = time.monotonic()
    head = heads.influence
    if heads.own_influence is not None:
        assert data.network is not None
        assert data.evaluation.logits is not None
        x = with_ones(data.evaluation.features, data.network.own_head).to(head.head.curvature.x)
        logits = data.evaluation.logits.to(x)
    else:
        x = probe_inputs(data.evaluation.features).to(head.head.curvature.x)
        logits = heads.probe.logits(x)
    labels = data.evaluation.labels
    losses = F.cross_entropy(logits, labels, reduction="none")
    if not bool(torch.isfinite(losses).all()):
        raise NumericalError("the evaluation loss is not finite", "Check the weights and the model's transform.")
    order = torch.argsort(losses, descending=True, stable=True)
    chosen = order[: settings.eval_rows].sort().values
    same = SameContent(data.train.sha256, data.evaluation.sha256)
    rests = residuals(logits, labels)

    objective, names = _deep_objective(settings, data)
    if objective is None:
        rows = torch.arange(len(labels)) if head.head.exact else chosen
        pairs, residual = head.strongest(x[rows], rests[rows], rows, same, progress)
        harm, harm_residual = head.harm(x, rests)
        which = "head" if heads.own_influence is not None else "probe"
        return Influence(
            pairs, harm, None, None, which, max(residual, harm_residual), len(rows), len(labels) - len(rows),
            float(losses.mean()), time.monotonic() - started,
        )  # fmt: skip
    solver = _solver(settings, objective, data)
    k = settings.neighbours or max(50, len(data.train) // 20)
    candidates, _ = neighbours.nearest(data.evaluation.features[chosen], k, progress, "Candidates")
    deep = deep_influence(
        objective,
        data.train,
        data.evaluation,
        chosen,
        candidates,
        solver,
        settings.damping,
        settings.seed,
        same,
        progress,
    )
    others = torch.ones(len(labels), dtype=torch.bool)
    others[chosen] = False
    rows = others.nonzero()[:, 0] if head.head.exact else torch.empty(0, dtype=torch.long)
    parts, residual = [deep.pairs], 0.0
    if len(rows):
        rest, residual = head.strongest(x[rows], rests[rows], rows, same, progress)
        parts.append(rest)
    return Influence(
        Pairs.concatenate(parts), deep.harm, deep, solver, names, residual, len(rows),
        len(labels) - len(rows) - len(chosen), float(losses.mean()), time.monotonic() - started,
    )  # fmt: skip


def _deep_objective(settings: ScanSettings, data: Data) -> tuple[Objective | None, str]:
    """The objective on the parameters asked for; None where influence is taken at the head in closed form."""
    network, asked = data.network, settings.params
    if network is None or not network.own_classes:
        return None, "probe"
    if asked == "head" and settings.solver != "lissa":
        return None, "head"
    within = f"{re.escape(network.head_name)}[.]" if network.head_name else ""  # a module may be its own head
    pattern = {"auto": "all", "head": f"^{within}(weight|bias)$"}.get(asked, asked)
    names = choose_parameters(network.module, pattern)
    objective = Objective(network.module, names, network.logits_of)
    if asked == "auto" and objective.p > MOST_DEEP_PARAMETERS:
        return None, "head"
    described = f"{asked if asked != 'auto' else 'all'}: {objective.p:,} parameters"
    return objective, described


def network_self_influence(settings: ScanSettings, data: Data, progress: Progress) -> SelfInfluence | None:
    """Self-influence through the parameters that --params names beyond the head; None where it names none."""
    if settings.params in ("auto", "head"):
        return None
    objective, names = _deep_objective(settings, data)
    if objective is None:
        return None
    return self_influence(objective, names, data.train, settings.damping, settings.seed, progress)


def _solver(settings: ScanSettings, objective: Objective, data: Data) -> Solver:
    rows = len(data.train) * data.classes
    if settings.solver == "exact" or (settings.solver == "auto" and Exact.fits(rows, objective.p)):
        return Exact()
    return LiSSA(seed=settings.seed)
