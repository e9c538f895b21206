"""What `verify` compares: the model or the probe, the target rows, what influence predicts and how to refit.

Knows how these are put together from settings; leaves the questions to `what_if`, `mistakes` and `protocol`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.damping import default_damping
from curate.engine.influence.minimum import Gradient
from curate.engine.influence.predict import AtHead, Predictor, ThroughNetwork
from curate.engine.influence.problem import Problem
from curate.engine.probe import SoftmaxHead
from curate.engine.rows import Rows
from curate.errors import UsageError
from curate.experiments.training import TrainingSet
from curate.experiments.verify.convex import HeadRefit
from curate.experiments.verify.refit import FineTune, Recipe, Refit, Retrain, ToMinimum
from curate.experiments.verify.rows import Selection
from curate.models.network import Network
from curate.models.optimisers import kept_penalty
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.at_head import EvaluationAtHead, evaluation_at_head
from curate.stages.deep import answered_by_layers, deep_problem
from curate.stages.heads import Heads, fit_heads, own_weights
from curate.stages.influence import solver_for
from curate.stages.prepare import Data
from curate.stages.targets import Targets, choose_targets

Choose = Callable[[Float[Tensor, " T"]], Int[Tensor, " k"]]
"""From the losses of the target rows to places among them."""


@dataclass(frozen=True)
class Effect:
    """What changes: the mean loss of the target rows (nats), and which of their predictions turn right or wrong."""

    loss: float
    turn_right: int
    turn_wrong: int


@dataclass(frozen=True)
class Setting:
    """Data, heads and target rows of a what-if, and how it predicts and refits."""

    data: Data
    targets: Targets
    before: Float[Tensor, "E C"]
    """Logits of the evaluation rows as the model is."""
    at_head: AtHead
    predictor: Predictor
    refit: Refit
    at: str
    """`model`, `head` or `probe`: what is refitted."""

    @property
    def labels(self) -> Int[Tensor, " T"]:
        """Labels of the rows that harm is measured on."""
        return self.data.evaluation.labels[self.targets.rows]

    def loss(self, logits: Float[Tensor, "E C"]) -> float:
        """Their mean loss."""
        return float(F.cross_entropy(logits[self.targets.rows].double(), self.labels))

    def right(self, logits: Float[Tensor, "E C"]) -> Bool[Tensor, " T"]:
        """Which of them the model gets right."""
        return logits[self.targets.rows].argmax(1) == self.labels

    def change(self, before: Float[Tensor, "E C"], after: Float[Tensor, "E C"]) -> Effect:
        """What became of loss and predictions."""
        was, now = self.right(before), self.right(after)
        return Effect(self.loss(after) - self.loss(before), int((now & ~was).sum()), int((was & ~now).sum()))

    def predicted(self, selection: Selection) -> Effect:
        """The sum over the rows; flips as the head answers them, for all rows together."""
        rows, labels = selection.rows, selection.labels
        moves = self.predictor.drop()[rows] if labels is None else self.predictor.relabel(rows, labels)
        head, where = self.at_head.head, self.targets.rows
        flips = head.flips(self.at_head.shift(rows, labels), self.at_head.x, self.before[where], self.labels)
        right, wrong = flips[0].tolist()
        return Effect(float(moves.sum()), right, wrong)

    def changed(self, selection: Selection) -> TrainingSet:
        """The training set with the selection changed. Raises `UsageError` if one class would be left."""
        training = TrainingSet.of(self.data.train)
        if selection.labels is None:
            training = training.without(selection.rows)
        else:
            training = training.relabelled(selection.rows, selection.labels)
        if len(set(training.labels[training.kept].tolist())) < 2:
            raise UsageError("One class would be left", "Name fewer rows with --rows.")
        return training


def prepare(
    settings: ScanSettings,
    data: Data,
    heads: Heads,
    *,
    at: str,
    recipe: Recipe,
    progress: Progress,
    choose: Choose | None = None,
) -> Setting:
    """``at``: `model`, `head` or `probe`; ``choose`` names target rows to ask for alone, by their losses.

    A network without classes of its own is asked at its probe, one without anything but a head at that head.
    """
    network = data.network if data.network is not None and data.network.own_classes else None
    if at == "probe" or network is None:
        if at == "head":
            why = next((said for said in data.warnings if "--classes" in said), "Leave out --at head.")
            raise UsageError("--at head needs a model whose outputs are the classes", why)
        if recipe.retrain is not None:
            raise UsageError(
                "--retrain trains a network, and the probe was asked", "Leave out --at probe, or --retrain."
            )
        return _at_probe(settings, data, heads, choose)
    if recipe.retrain is None and (at == "head" or _only_a_head(network)):
        return _at_own_head(settings, data, heads, network, recipe, choose)
    return _at_network(settings, data, heads, network, recipe, progress, choose)


def _only_a_head(network: Network) -> bool:
    """Whether nothing else can be trained: then the loss is convex."""
    of_head = {id(value) for value in network.own_head.parameters()}
    return all(id(value) in of_head for value in network.module.parameters() if value.requires_grad)


def _at_probe(settings: ScanSettings, data: Data, heads: Heads, choose: Choose | None) -> Setting:
    read = evaluation_at_head(data, heads, probe=True)
    targets = choose_targets(settings, data.evaluation, read.logits, read.losses)
    at_head = _predictor(read, targets, "the probe in closed form", choose)
    x = heads.probe_influence.head.curvature.x
    refit = HeadRefit("the probe refitted to its optimum", heads.probe, x, data.train.labels, read.x)
    return Setting(data, targets, read.logits, at_head, at_head, refit, "probe")


def _at_own_head(
    settings: ScanSettings, data: Data, heads: Heads, network: Network, recipe: Recipe, choose: Choose | None
) -> Setting:
    assert heads.own_influence is not None
    start = own_weights(network)
    decay, told = recipe.weight_decay, ""
    if decay is None and heads.known_penalty:
        decay, told = heads.damping, ", as its gradient there tells"
    if not decay:
        decay, told = heads.damping or 0.0, ", the damping"
    elif settings.damping is None and decay != heads.damping:  # a known penalty is the curvature's own
        heads = fit_heads(data, decay)
    read = evaluation_at_head(data, heads)
    targets = choose_targets(settings, data.evaluation, read.logits, read.losses)
    at_head = _predictor(read, targets, "the model's head in closed form", choose)
    penalty = torch.full((read.x.shape[1],), decay * (2 if network.one_output else 1), dtype=torch.float64)
    refit = HeadRefit(
        f"the model's head refitted to its optimum (L2 penalty {decay:.2g}{told}), the rest of it fixed",
        SoftmaxHead(start, penalty),
        read.head.head.curvature.x,
        data.train.labels,
        read.x,
    )
    return Setting(data, targets, read.logits, at_head, at_head, refit, "head")


def _at_network(
    settings: ScanSettings,
    data: Data,
    heads: Heads,
    network: Network,
    recipe: Recipe,
    progress: Progress,
    choose: Choose | None,
) -> Setting:
    assert heads.own_influence is not None
    penalty, told = (recipe.weight_decay or 0.0), ""
    at_minimum = False
    if recipe.retrain is None and recipe.weight_decay is None:
        found = _gradient(data, network)
        penalty, at_minimum = found.known_penalty, found.at_minimum
        told = ", as its gradient at the checkpoint tells" if penalty else ""
    read = evaluation_at_head(data, heads)
    targets = choose_targets(settings, data.evaluation, read.logits, read.losses)
    at_head = _predictor(read, targets, "the model's head in closed form", choose)
    problem, _ = deep_problem(settings, data)
    predictor: Predictor = at_head
    if problem is not None:
        beside = evaluation_at_head(data, heads, probe=True).of(targets.rows)
        probe = AtHead(beside.head, beside.x, beside.residuals, "the probe in closed form", at_head.alone)
        wanted = data.evaluation.taken(targets.rows.tolist())
        predictor = _through_network(settings, problem, wanted, probe, penalty, progress)
    if recipe.retrain is None and recipe.weight_decay is None and not penalty:
        # A scan knows nothing of it, so that only the refit takes it.
        penalty, told = _kept_penalty(settings)
    refit: Refit
    if recipe.retrain is not None:
        refit = Retrain(data, network, recipe.retrain, settings.seed)
    elif at_minimum and recipe == Recipe():
        refit = ToMinimum(data, network, penalty, told)
    else:
        refit = FineTune(data, network, recipe, penalty, told, settings.seed)
    return Setting(data, targets, read.logits, at_head, predictor, refit, "model")


def _gradient(data: Data, network: Network) -> Gradient:
    """Of the training loss at the checkpoint, through all parameters."""
    names = choose_parameters(network.module, "all")
    everything = Objective(network.module, names, network.logits_of, loss=data.loss, passes=data.passes)
    return Problem(everything, data.train).gradient


def _kept_penalty(settings: ScanSettings) -> tuple[float, str]:
    """The one that the optimiser's state in the last checkpoint tells."""
    found = kept_penalty(settings.weights[-1]) if settings.weights else None
    return found or 0.0, ", as the optimiser's state tells" if found else ""


def _through_network(
    settings: ScanSettings, problem: Problem, wanted: Rows, probe: AtHead, decay: float, progress: Progress
) -> ThroughNetwork:
    """As a scan with these settings answers it."""
    if answered_by_layers(settings, problem):
        return ThroughNetwork.by_layers(problem, wanted, probe, settings.seed, progress)
    damping = settings.damping
    if damping is None:
        damping = default_damping(problem.operator, problem.gradient, settings.seed, decay)
    return ThroughNetwork.solved(problem, wanted, solver_for(settings), damping, settings.seed, progress, probe.alone)


def _predictor(read: EvaluationAtHead, targets: Targets, how: str, choose: Choose | None) -> AtHead:
    read = read.of(targets.rows)
    alone = torch.empty(0, dtype=torch.long) if choose is None else choose(read.losses.double())
    return AtHead(read.head, read.x, read.residuals, how, alone)
