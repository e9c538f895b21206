"""The linear heads of a run: the probe, and the model's own head if its outputs are the classes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from curate.engine.curvature.head import FactorisedHead, HeadCurvature
from curate.engine.influence.head import HeadInfluence
from curate.engine.influence.minimum import Gradient
from curate.engine.loss import Loss
from curate.engine.passes import EACH_ROWS, pieces
from curate.engine.probe import SoftmaxHead, fit_probe, probe_inputs
from curate.engine.suspicion.crossfit import Copies, left_out
from curate.models.network import Network
from curate.stages.diagnosis import doubtful_inputs
from curate.stages.forward import Forward
from curate.stages.groups import together
from curate.stages.prepare import Data


@dataclass(frozen=True)
class Heads:
    """The probe, and the model's own head if its outputs are the classes; each with its leave-one-out scores."""

    probe: SoftmaxHead
    probe_influence: HeadInfluence
    own_influence: HeadInfluence | None
    damping: float | None = None
    """λ at the model's own head, for the parameters as the model has them; None without one."""
    known_penalty: bool = False
    """That λ is the L2 penalty of its training, which the gradient at the checkpoint tells of."""

    @property
    def influence(self) -> HeadInfluence:
        """The head that evaluation influence at the head is answered from."""
        return self.own_influence or self.probe_influence

    @property
    def name(self) -> str:
        """What a receipt calls the head that influence is taken at."""
        return "probe" if self.own_influence is None else "head"

    def probabilities(self, rows: Forward) -> Float[np.ndarray, "n C"]:
        """The model's own probabilities of any rows; the probe's if the model has none of these classes."""
        if self.own_influence is not None and rows.logits is not None:
            logits = rows.logits
        else:
            # Some at a time: what the probe makes of all features is as large as they are.
            parts = pieces(rows.features, EACH_ROWS)
            logits = torch.cat([self.probe.logits(probe_inputs(part).to(self.probe.weights)) for part in parts])
        result: np.ndarray = logits.double().softmax(1).cpu().numpy()
        return result

    def accuracies(self, train: Forward) -> tuple[float | None, float]:
        """Share of the given labels that the model's head (None if there is none) and the probe predict."""
        right = self.probe.logits(self.probe_influence.head.curvature.x).argmax(1).cpu() == train.labels
        own = None
        if train.logits is not None and train.logits.shape[1] == len(train.source.classes):
            own = float((train.logits.argmax(1) == train.labels).double().mean())
        return own, float(right.double().mean())


def fit_heads(data: Data, damping: float | None = None) -> Heads:
    """``damping`` is for the model's own head; the probe has its penalty.

    None: at a minimum with an L2 penalty that penalty, so that influence is the derivative of a refit; elsewhere a
    tenth of the mean eigenvalue.
    """
    train = data.train
    labels = train.labels
    head, probe = probe_of(data, train.features)
    if data.network is None or not data.network.own_classes:
        return Heads(head, probe, None)
    assert train.logits is not None
    layer = data.network.own_head
    features = data.passes.near(train.features)
    own_x = data.passes.each(len(train), lambda rows: with_ones(features[rows], layer, len(train)))
    state = data.loss.state(train.logits.to(own_x), labels)  # in float32, 1 - p of a row known by heart is lost
    # One output w is read as the two rows (-w/2, w/2): ½ λ |w|² is ½ 2λ of their squares.
    doubled = 2 if data.network.one_output else 1
    known = 0.0
    if damping is None:
        residuals = data.loss.residuals_of(state, labels)
        known = _known_penalty(own_x, residuals, data.network) / doubled
        damping = known or _head_damping(own_x, state, data.loss)
    penalties = own_x.new_full((own_x.shape[1],), doubled * damping)
    own = HeadCurvature(own_x, state, penalties, loss=data.loss, passes=data.passes)
    influence = _head_influence(own.factorise(), train.logits.to(own_x), data)
    return Heads(head, probe, influence, damping, known > 0)


def probe_of(data: Data, features: Float[torch.Tensor, "n d"]) -> tuple[SoftmaxHead, HeadInfluence]:
    """The probe on these features of the training rows, with its leave-one-out scores."""
    labels = data.train.labels
    head, x = fit_probe(features, labels, data.classes, data.passes)
    found = _head_influence(head.curvature(x, data.passes).factorise(), head.logits(x), data)
    if data.groups is not None:
        sizes, group = together(data.train.contents, data.groups)
        held = left_out(x, labels, data.classes, Copies(group, sizes, equal=False), choose=False, passes=data.passes)
        logits = held.probabilities.clamp_min(torch.finfo(held.probabilities.dtype).tiny).log()
        found = replace(found, scores=replace(found.scores, leave_one_out=logits.cpu()))
    return head, found


def doubts(data: Data, heads: Heads) -> str | None:
    """A warning if the model's head is far below the probe on its own features."""
    if data.network is None or heads.own_influence is None:
        return None
    return doubtful_inputs(data.network, data.train, heads.probe_influence.scores.leave_one_out)


def with_ones(features: torch.Tensor, layer: nn.Linear, everyone: int | None = None) -> torch.Tensor:
    """``[n d]`` beside a column of ones if the layer has a bias; in float64 up to 2²⁴ numbers.

    ``everyone``: how many rows there are, of which these are some.
    """
    numbers = (len(features) if everyone is None else everyone) * features.shape[1]
    features = features.double() if numbers <= 2**24 else features
    return features if layer.bias is None else torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def own_weights(network: Network) -> Float[torch.Tensor, "C D"]:
    """The head as it acts on features and a column of ones; one output as its two logits (-z/2, z/2)."""
    layer = network.own_head
    weights = layer.weight.detach().double().cpu()
    if layer.bias is not None:
        weights = torch.cat([weights, layer.bias.detach().double().cpu()[:, None]], dim=1)
    return torch.cat([-weights / 2, weights / 2]) if network.one_output else weights


def _known_penalty(x: torch.Tensor, residuals: torch.Tensor, network: Network) -> float:
    """λ of ½ λ |θ|² of the head's weights, if the gradient there tells of it; else 0."""
    return Gradient.of((residuals.T @ x / len(x)).flatten().cpu(), own_weights(network).flatten()).known_penalty


def _head_damping(x: torch.Tensor, state: torch.Tensor, loss: Loss) -> float:
    """A tenth of the mean eigenvalue of the head's curvature."""
    trace = float((loss.trace(state) * x.square().sum(1)).mean())
    return max(0.1 * trace / (x.shape[1] * loss.classes(state)), 1e-12)


def _head_influence(head: FactorisedHead, logits: torch.Tensor, data: Data) -> HeadInfluence:
    labels, (sizes, group) = data.train.labels, together(data.train.contents, None)
    rests = head.curvature.residuals(labels)
    sums = Copies(group, sizes).total(rests.to(logits))
    scores = head.scores(logits, labels, sizes, sums)
    return HeadInfluence(head, labels, scores)
