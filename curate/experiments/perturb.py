"""`curate perturb`: which parts of a training row's input make it help or harm an evaluation row.

Knows which row, which evaluation rows and which parameters; leaves the derivative to `influence.perturbation` and
pictures of it to `heat`. Nothing is stored.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from curate.engine.curvature.objective import Objective
from curate.engine.influence.perturbation import perturbation
from curate.engine.influence.predict import AtHead, ThroughNetwork
from curate.engine.influence.problem import Problem
from curate.engine.probe import probe_inputs
from curate.errors import ModelError, UsageError
from curate.models.outputs import matrix
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.settings.specs import did_you_mean
from curate.stages.at_head import evaluation_at_head
from curate.stages.deep import answered_by_layers, deep_objective
from curate.stages.heads import fit_heads
from curate.stages.influence import solver_for
from curate.stages.prepare import Data, load, read
from curate.stages.targets import Targets, choose_targets


@dataclass(frozen=True)
class Perturbed:
    """The map and what it is of."""

    dataset: str
    key: str
    label: str
    measured_on: str
    influence: float
    """Of the row as it is, nats: predicted rise of the mean loss of the target rows without it."""
    gradient: Float[np.ndarray, "..."]
    """∂ influence / ∂ input, of the input's shape; nats per unit of what the network reads."""
    input: Float[np.ndarray, "..."]
    names: tuple[str, ...]
    """Of the columns, where the input is one row of numbers."""
    image: bool
    how: str
    warnings: tuple[str, ...] = ()
    """What makes all of it doubtful."""


class Probe(nn.Module):
    """The probe as a module of its weights: logits from raw features."""

    def __init__(self, weights: Float[Tensor, "C D"]) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, features: Tensor) -> Tensor:
        """The probe's logits of these features."""
        return probe_inputs(features) @ self.weights.T


def perturb(settings: ScanSettings, key: str, progress: Progress) -> Perturbed:
    """Raises `UsageError` where no training row has the key, `ModelError` where the model's classes are others."""
    data = read(settings, load(settings, progress), progress)
    places = {name: place for place, name in enumerate(data.train.keys)}
    if key not in places:
        raise UsageError(f"No training row is called '{key}'.", did_you_mean(key, places) or "Give a key of TRAIN.")
    row, source = places[key], data.train.source
    label = int(data.train.labels[row])
    if data.network is not None and not data.network.own_classes:
        raise ModelError(
            "The model's outputs are not the classes: the probe reads its features, and no input lies behind them",
            "Perturbation needs a model of these classes, or features without a model.",
        )
    solved = _at_probe(settings, data) if data.network is None else _through_network(settings, data, progress)
    x = data.train.features[row] if data.network is None else data.train.inputs.batch(torch.tensor([row]))[0]
    gradient = perturbation(solved.objective, x.to(solved.direction), label, solved.direction, len(data.train))
    return Perturbed(
        source.name,
        key,
        source.classes[label],
        solved.measured_on,
        float(solved.influence[row]),
        gradient.cpu().numpy(),
        x.cpu().numpy(),
        _names(data) if x.ndim == 1 else (),
        x.ndim == 3 and x.shape[0] in (1, 3),
        solved.how,
        data.warnings,
    )


@dataclass(frozen=True)
class _Solved:
    objective: Objective
    direction: Float[Tensor, " p"]
    influence: Float[Tensor, " n"]
    """Of every training row on the target rows, nats."""
    measured_on: str
    how: str


def _at_probe(settings: ScanSettings, data: Data) -> _Solved:
    heads = fit_heads(data, settings.damping)
    read = evaluation_at_head(data, heads, probe=True)
    targets = _targets(settings, data, read.logits)
    read = read.of(targets.rows)
    predictor = AtHead(read.head, read.x, read.residuals, "the probe in closed form")
    direction = read.head.solve(read.head.mean_of(read.x, read.residuals))[0][0]
    objective = Objective(Probe(heads.probe.weights), ["weights"], lambda output: matrix(output))
    return _Solved(objective, direction, predictor.drop(), targets.name, predictor.how)


def _through_network(settings: ScanSettings, data: Data, progress: Progress) -> _Solved:
    assert data.evaluation.logits is not None
    targets = _targets(settings, data, data.evaluation.logits)
    # The head's closed form has no input to look behind: its parameters are taken as any others are.
    objective, _ = deep_objective(replace(settings, solver="lissa"), data)
    assert objective is not None
    wanted = data.evaluation.taken(targets.rows.tolist())
    problem = Problem(objective, data.train, settings.curvature)
    if answered_by_layers(settings, problem):
        predictor = ThroughNetwork.by_layers(problem, wanted, None, settings.seed, progress)
    else:
        predictor = ThroughNetwork.solved(
            problem, wanted, solver_for(settings), settings.damping, settings.seed, progress
        )
    return _Solved(objective, predictor.direction, predictor.drop(), targets.name, predictor.how)


def _targets(settings: ScanSettings, data: Data, logits: Float[Tensor, "E C"]) -> Targets:
    losses = F.cross_entropy(logits, data.evaluation.labels, reduction="none")
    return choose_targets(settings, data.evaluation, logits, losses)


def _names(data: Data) -> tuple[str, ...]:
    """Of the columns of a row of numbers."""
    given = data.train.source.feature_names
    width = data.train.features.shape[1]
    return given if len(given) == width else tuple(f"column {column}" for column in range(width))
