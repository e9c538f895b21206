"""Whether this checkpoint is one that influence can be trusted at: cheap signs, and what they advise.

Basu et al. (2021) name what goes with wrong estimates: no weight decay, depth, width, a sharp or a negative curvature,
a checkpoint that is no minimum. None of it proves anything: `curate verify` refits. Knows the signs; leaves their words
on the page to the reports.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from curate.engine.curvature.objective import Objective
from curate.engine.influence.damping import tenth_of_mean
from curate.engine.influence.minimum import SURE
from curate.engine.influence.problem import Problem
from curate.engine.ranks import spearman
from curate.engine.rows import Rows
from curate.engine.solvers.preconditioner import sample_inverse
from curate.engine.solvers.spectrum import lanczos, unit
from curate.process.allocator import give_back_freed_memory
from curate.process.numbers import percent
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.at_head import evaluation_at_head
from curate.stages.heads import Heads
from curate.stages.influence import Influence
from curate.stages.prepare import Data
from curate.stages.targets import Targets

HESSIAN_ROWS, FEWEST_OF_HESSIAN = 256, 64
"""Rows whose Hessian is looked at: fewer where a row's layers are large."""
LANCZOS_STEPS = 12
GRADIENTS = 512
"""Rows whose gradients stand for the curvature in a Newton step."""
VANISHED = 0.01
"""Length of pᵢ - yᵢ below which a row has no gradient to speak of: it is memorised."""

GAIN_ROWS = 1024
STEP_LENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)

MUCH_TO_GAIN = 0.05
MOST_MEMORISED = 0.5
NEGATIVE = 0.1
DEEP_LAYERS = 8
FAR_APART = 0.3


@dataclass(frozen=True)
class Diagnostics:
    """None where it was not measured: without a network there is nothing but a convex probe."""

    memorised: float
    """Share of the training rows whose gradient has vanished, 0 to 1."""
    ranks: dict[str, float]
    """Spearman's correlation of the harm of all rows by two ways: head, probe, network."""
    advice: tuple[str, ...]
    gradient: float | None = None
    """Length of the mean training loss's gradient, nats per unit of a parameter."""
    penalty: float | None = None
    """L2 penalty that fits the gradient best, and below how well: the cosine with -θ."""
    penalty_cosine: float | None = None
    to_gain: float | None = None
    """What one Newton step takes off the training loss (with that penalty), as a share of it: at a minimum nothing."""
    largest_eigenvalue: float | None = None
    """Of the Hessian of the mean loss on `hessian_rows` of the rows, as the smallest."""
    smallest_eigenvalue: float | None = None
    negative_share: float | None = None
    """Share of the Hessian's eigenvalues, by their size, that are negative: by one random vector of Lanczos."""
    hessian_rows: int | None = None
    """At most `HESSIAN_ROWS`; fewer of a network whose graphs of so many do not fit."""
    depth: int | None = None
    """Layers with weights."""
    width: int | None = None
    """Most outputs of any of them but the last."""

    def facts(self) -> dict[str, object]:
        """As a run keeps it."""
        return asdict(self)


def diagnose(settings: ScanSettings, data: Data, heads: Heads, influence: Influence, progress: Progress) -> Diagnostics:
    """A few Hessian products on some of the rows, and what the stages before have found."""
    logits = heads.probe.logits(heads.probe_influence.head.curvature.x) if data.network is None else data.train.logits
    assert logits is not None
    own = logits.shape[1] == data.classes
    memorised = (
        float((data.loss.residuals(logits, data.train.labels).norm(dim=1) < VANISHED).double().mean()) if own else 0.0
    )
    found = Diagnostics(memorised, _ranks(data, heads, influence), ())
    if influence.deep is not None:
        with progress.stage("Looking at the checkpoint", 1) as advance:
            problem = influence.deep.problem
            same = problem.curvature == "ggn"  # what the solve has made of it is then at hand
            found = _through_network(found, problem if same else replace(problem, curvature="ggn"), settings.seed)
            advance(1)
    return replace(found, advice=tuple(_advice(found)))


def _ranks(data: Data, heads: Heads, influence: Influence) -> dict[str, float]:
    """How far head, probe and network agree on which rows harm; nothing where there is the probe alone."""
    if heads.own_influence is None:
        return {}
    answered = influence.harm.numpy()  # by the network, or by the head where no other parameters were asked
    through = influence.deep is not None
    harms = {
        "probe": _harm_of(heads, data, influence.targets, probe=True),
        "head": _harm_of(heads, data, influence.targets, probe=False) if through else answered,
    } | ({"network": answered} if through else {})
    return {
        f"{one} and {other}": spearman(harms[one], harms[other])
        for one, other in combinations(harms, 2)
        if np.ptp(harms[one]) > 0 and np.ptp(harms[other]) > 0
    }


def _harm_of(heads: Heads, data: Data, targets: Targets, *, probe: bool) -> Float[np.ndarray, " n"]:
    read = evaluation_at_head(data, heads, probe=probe).of(targets.rows)
    harm: Float[np.ndarray, " n"] = read.head.harm(read.x, read.residuals)[0].numpy()
    return harm


def _through_network(found: Diagnostics, problem: Problem, seed: int) -> Diagnostics:
    objective, train = problem.objective, problem.rows
    gradient, operator = problem.gradient, problem.operator
    penalty = gradient.known_penalty
    damping = max(penalty, tenth_of_mean(operator, seed))
    give_back_freed_memory()  # what rows' gradients have left behind is in the way of larger ones
    rest = (gradient.flat + penalty * objective.flat.to(gradient.flat))[None]
    step = sample_inverse(operator, damping, seed, GRADIENTS)(rest)[0]
    most = min(HESSIAN_ROWS, max(FEWEST_OF_HESSIAN, objective.rows_at_once(train.inputs)))  # their graphs are all kept
    some = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:most].to(operator.device)
    give_back_freed_memory()
    hessian = Problem(objective, train, "hessian").operator.on(some)
    values, rows, _ = lanczos(hessian, LANCZOS_STEPS, seed)
    # What the first vector has of each Ritz vector, squared, weighs its value in the spectrum (Golub & Welsch 1969).
    first = unit(torch.randn(objective.p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    sizes = (values.abs() * (rows.cpu() @ first) ** 2).cpu()
    outputs = [_outputs(layer) for layer in objective.module.modules()]
    outputs = [count for count in outputs if count]
    return replace(
        found,
        gradient=gradient.size,
        penalty=gradient.penalty,
        penalty_cosine=gradient.cosine,
        to_gain=_gained(objective, train, step.to(objective.dtype), penalty, seed),
        largest_eigenvalue=float(values[-1]),
        smallest_eigenvalue=float(values[0]),
        negative_share=float(sizes[values.cpu() < 0].sum() / sizes.sum()),
        hessian_rows=len(some),
        depth=len(outputs),
        width=max(outputs[:-1], default=0),
    )


@torch.no_grad()
def _gained(objective: Objective, train: Rows, step: Float[Tensor, " p"], penalty: float, seed: int) -> float:
    """The best of a few lengths, on some of the rows: far from a minimum the whole step may lead anywhere."""
    some = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:GAIN_ROWS]
    passes, order = objective.passes, objective.in_order(train.inputs).cpu()
    some = order[torch.isin(order, some)]

    def loss(theta: Float[Tensor, " p"]) -> float:
        values = objective.unflatten(theta)

        total = torch.zeros((), dtype=torch.float64)
        for part in passes.of(some, objective.rows_at_once(train.inputs)):
            logits = objective.logits(values, train.inputs.batch(part.to(step.device)))
            total += objective.loss.losses(logits, train.labels[part].to(logits.device)).sum().double().cpu()
        return float(passes.sum(total)) / len(some) + 0.5 * penalty * float(theta @ theta)

    before = loss(objective.flat)
    after = min(loss(objective.flat - length * step) for length in STEP_LENGTHS)
    return max(0.0, 1 - after / before) if before > 0 and math.isfinite(after) else 0.0


def _outputs(module: nn.Module) -> int:
    """Of a layer that multiplies by a matrix of its own; 0 for any other, and for an embedding, which looks one up."""
    weight = getattr(module, "weight", None)
    known = isinstance(weight, Tensor) and weight.ndim > 1 and not isinstance(module, nn.Embedding | nn.EmbeddingBag)
    return len(weight) if known and isinstance(weight, Tensor) else 0


def _advice(found: Diagnostics) -> Iterator[str]:
    gain, cosine = found.to_gain, found.penalty_cosine
    if gain is not None and gain > MUCH_TO_GAIN:
        yield (
            f"the checkpoint is no minimum: one step down still takes {percent(gain, 0)} off the training loss; "
            "influence through the network assumes a minimum, so take its ranks, not its sizes"
        )
    if cosine is not None and cosine < SURE and found.memorised > MOST_MEMORISED:
        yield (
            f"no weight decay shows in the gradient, and {percent(found.memorised, 0)} of the rows have no gradient "
            "left: influence at the head is recommended (--params head)"
        )
    elif found.memorised > MOST_MEMORISED:
        yield f"{percent(found.memorised, 0)} of the rows have no gradient left: the network has memorised them"
    lowest, highest = found.smallest_eigenvalue, found.largest_eigenvalue
    if lowest is not None and highest is not None and -lowest > NEGATIVE * highest:
        yield (
            f"negative curvature: the Hessian's smallest eigenvalue is {lowest:.2g}, its largest {highest:.2g}; "
            "--curvature hessian would need a damping beyond it"
        )
    if found.depth is not None and found.depth > DEEP_LAYERS:
        yield (
            f"{found.depth} layers: beyond about {DEEP_LAYERS} estimates through a network were found to get worse "
            "(Basu et al. 2021)"
        )
    apart = found.ranks.get("head and network", 1.0)
    if apart < FAR_APART:
        yield (
            f"head and network order the harmful rows differently (rank correlation {apart:.2f}): `curate verify` "
            "tells which to believe"
        )
