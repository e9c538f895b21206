"""`--what-if finetune` (FastIF, Guo et al. 2020, 5.3): a few gradient steps on the rows that help the mistakes most.

Reports after each step what is fixed and what breaks. Knows the steps; leaves influence to `predict`.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.passes import pieces
from curate.engine.probe import probe_inputs
from curate.experiments.verify.refit import Recipe, evaluated
from curate.experiments.verify.setting import prepare
from curate.models.network import Network
from curate.settings.merge import ScanSettings
from curate.stages.agreement import read_by_all
from curate.stages.heads import Heads, fit_heads
from curate.stages.joining import Together
from curate.stages.prepare import Data


@dataclass(frozen=True)
class FinetuneStep:
    """After so many gradient steps; predictions of the whole evaluation set against those before."""

    steps: int
    target_loss: float
    """Mean loss of the rows that were to be mended, nats."""
    loss: float
    """Mean loss of the whole evaluation set, nats."""
    fixed: int
    broken: int


@dataclass(frozen=True)
class Mended:
    """The rows that were stepped on, most helpful first, and what came of it."""

    measured_on: str
    targets: int
    keys: list[str]
    rate: float
    prediction: str
    steps: list[FinetuneStep]
    warnings: tuple[str, ...] = ()
    """What makes all of it doubtful."""


def finetune(settings: ScanSettings, process: Together, *, rows: int, steps: int, at: str, recipe: Recipe) -> Mended:
    """Steps on the ``rows`` training rows that help the target rows most; those are the mistakes by default.

    Each of several processes makes all steps.
    """
    if isinstance(settings.eval_rows, int):
        settings = replace(settings, eval_rows="mistakes")
    progress = process.progress
    _, data = read_by_all(settings, progress, process.passes)
    heads = fit_heads(data, settings.damping)
    setting = prepare(
        settings,
        data,
        heads,
        at=at,
        recipe=recipe,
        progress=progress,
    )
    helpful = setting.predictor.drop().argsort(descending=True, stable=True)[:rows]
    network = None if at == "probe" or data.network is None or not data.network.own_classes else data.network
    walk = (
        _probe_steps(heads, data, helpful, recipe.rate)
        if network is None
        else _network_steps(network, data, helpful, recipe.rate)
    )
    labels = data.evaluation.labels
    right = setting.before.argmax(1) == labels
    told = []
    with progress.stage("Gradient steps", steps) as advance:
        for number, logits in zip(range(1, steps + 1), walk, strict=False):
            now = logits.argmax(1) == labels
            told.append(
                FinetuneStep(
                    number,
                    setting.loss(logits),
                    float(F.cross_entropy(logits.double(), labels)),
                    int((now & ~right).sum()),
                    int((right & ~now).sum()),
                )
            )
            advance(1)
    keys = [data.train.keys[row] for row in helpful.tolist()]
    return Mended(
        setting.targets.name, len(setting.targets.rows), keys, recipe.rate, setting.predictor.how, told, data.warnings
    )


def _network_steps(
    network: Network, data: Data, rows: Int[Tensor, " m"], rate: float
) -> Iterator[Float[Tensor, "E C"]]:
    """Logits of the evaluation rows after each step, all rows at once, in eval mode."""
    module = copy.deepcopy(network.module)
    optimiser = torch.optim.SGD([value for value in module.parameters() if value.requires_grad], lr=rate)
    logits_of: Callable[[object], Tensor] = network.logits_of
    while True:
        optimiser.zero_grad(set_to_none=True)
        for part in pieces(rows, data.passes.budget.share(64)):
            logits = logits_of(module(data.train.inputs.batch(part)))
            labels = data.train.labels[part].to(logits.device)
            (F.cross_entropy(logits, labels, reduction="sum") / len(rows)).backward()
        optimiser.step()
        yield evaluated(logits_of, module, data)


def _probe_steps(heads: Heads, data: Data, rows: Int[Tensor, " m"], rate: float) -> Iterator[Float[Tensor, "E C"]]:
    """The same at the probe: its weights are what moves."""
    weights, x = heads.probe.weights.clone(), heads.probe_influence.head.curvature.x[rows]
    theirs = probe_inputs(data.evaluation.features).to(x)
    targets = F.one_hot(data.train.labels[rows], data.classes).to(x)
    while True:
        weights -= rate * ((x @ weights.T).softmax(1) - targets).T @ x / len(rows)
        yield (theirs @ weights.T).cpu()
