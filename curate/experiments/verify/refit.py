"""Refits of a changed training set: a network by fine-tuning or by the user's own training. Heads: `convex`.

Each answers with the logits of the evaluation rows. Knows how to fit; leaves what is compared with what to `what_if`.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curate.engine.passes import pieces
from curate.errors import UsageError
from curate.experiments.training import Training, TrainingFunction, TrainingSet, logits_on
from curate.models.network import Network
from curate.stages.prepare import Data

STEPS = 30
TOLERANCE = 1e-6
"""Of `ToMinimum`: of the largest entry of the gradient. Thirty steps leave about a thirtieth of the gradient that a row
left out makes (the fixture's network)."""
ROWS = 1024
"""Whose gradient is taken at once."""


class Refit(ABC):
    """A way to train on a changed set."""

    recipe: str
    """In words, for the report."""
    converged: bool = False
    """Whether it ends at an optimum: then a refit without a change changes nothing, and there is no drift."""

    batch: int = 1
    """How many are fitted at once."""
    reach: float | None = None
    """Sum of its steps' lengths: along an eigenvalue c it goes a share 1 - e^(-reach c) of the way to its optimum,
    about as far as to the optimum with a damping of 1 / reach (Bae et al. 2022). None: unknown, or all the way."""
    decay: float = 0.0
    """L2 penalty of a network's refit."""

    @abstractmethod
    def __call__(self, training: TrainingSet, ordering: int = 0) -> Float[Tensor, "E C"]:
        """Logits of the evaluation rows after training on it; ``ordering`` numbers the order of the rows."""

    def many(self, trainings: list[TrainingSet], ordering: int = 0) -> Iterator[Float[Tensor, "E C"]]:
        """The same of several sets."""
        return (self(training, ordering) for training in trainings)


@dataclass(frozen=True)
class Recipe:
    """Fine-tuning from the checkpoint: SGD with momentum, the rate falling to zero by a cosine."""

    epochs: float = 3
    rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float | None = None
    """L2 penalty; None: the one that the gradient at the checkpoint tells of (`curate.engine.influence.minimum`), or an
    optimiser's state in the checkpoint."""
    batch: int = 64
    always: bool = False
    """Fine-tune a checkpoint at a minimum too, whose refit is the minimum of the changed set otherwise."""
    retrain: str | TrainingFunction | None = None
    """The user's own training, by its spec or itself, in place of fine-tuning."""


class FineTune(Refit):
    """The network from its checkpoint on, in eval mode (no dropout, running statistics as they are).

    The same rows come in the same order whatever was changed; a row left out has no weight. So a refit without any
    change has the drift of the recipe alone, and nothing of it is left in a difference.
    """

    def __init__(self, data: Data, network: Network, recipe: Recipe, decay: float, told: str, seed: int) -> None:
        """``told`` says where the L2 penalty ``decay`` is known from, empty where it was given."""
        self._data, self._network, self._settings, self._seed = data, network, recipe, seed
        self.decay = decay
        self._steps = max(1, round(recipe.epochs * -(-len(data.train) // recipe.batch)))
        self.reach = _reach(recipe, self._steps)
        self.recipe = (
            f"{recipe.epochs:g} epochs of SGD from the checkpoint (rate {recipe.rate:g} falling to 0, momentum "
            f"{recipe.momentum:g}, weight decay {decay:.2g}{told}, batches of {recipe.batch})"
        )

    def __call__(self, training: TrainingSet, ordering: int = 0) -> Float[Tensor, "E C"]:
        settings, inputs = self._settings, self._data.train.inputs
        module = copy.deepcopy(self._network.module)
        trained = _trained(module)
        optimiser = torch.optim.SGD(trained, lr=settings.rate, momentum=settings.momentum, weight_decay=self.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self._steps)
        weights = training.kept.float() / training.kept.float().mean()
        for rows in islice(self._batches(len(weights), self._seed + ordering), self._steps):
            optimiser.zero_grad(set_to_none=True)
            logits = self._network.logits_of(module(inputs.batch(rows)))
            losses = self._data.loss.losses(logits, training.labels[rows].to(logits.device))
            (losses * weights[rows].to(losses)).mean().backward()
            optimiser.step()
            schedule.step()
        return evaluated(self._network.logits_of, module, self._data)

    def _batches(self, n: int, seed: int) -> Iterator[Int[Tensor, " b"]]:
        order = torch.Generator().manual_seed(seed)
        while True:
            yield from pieces(torch.randperm(n, generator=order), self._settings.batch)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    found = [value for value in module.parameters() if value.requires_grad and value.is_floating_point()]
    if not found:
        raise UsageError("Every parameter of the model is frozen: there is nothing to fine-tune", "Try --at probe.")
    return found


class ToMinimum(Refit):
    """The network from its checkpoint, a minimum with an L2 penalty, on towards the minimum of the changed set.

    L-BFGS (Liu & Nocedal 1989) on all rows, in eval mode: no draw of batches, so no noise, and no drift. Its steps are
    taken as they are: so near to a minimum the loss tells two points apart no more in float32, and its gradient does.
    """

    converged = True

    def __init__(self, data: Data, network: Network, decay: float, told: str) -> None:
        self._data, self._network = data, network
        self.decay = decay
        self.recipe = (
            f"{STEPS} steps of L-BFGS on all rows towards the minimum without them, from the checkpoint, which is one "
            f"(L2 penalty {decay:.2g}{told})"
        )

    def __call__(self, training: TrainingSet, ordering: int = 0) -> Float[Tensor, "E C"]:
        """There is no order of the rows: ``ordering`` changes nothing."""
        inputs, module = self._data.train.inputs, copy.deepcopy(self._network.module)
        trained = _trained(module)
        weights = training.kept.float() / training.kept.sum()
        optimiser = torch.optim.LBFGS(
            trained, max_iter=STEPS, history_size=STEPS, tolerance_grad=TOLERANCE, tolerance_change=0.0
        )

        def loss() -> Tensor:
            optimiser.zero_grad(set_to_none=True)
            penalty = 0.5 * self.decay * torch.stack([value.square().sum() for value in trained]).sum()
            penalty.backward()
            total = penalty.detach()
            for rows in pieces(torch.arange(len(weights)), ROWS):
                logits = self._network.logits_of(module(inputs.batch(rows)))
                losses = self._data.loss.losses(logits, training.labels[rows].to(logits.device))
                part = (losses * weights[rows].to(losses)).sum()
                part.backward()
                total = total + part.detach()
            return total

        optimiser.step(loss)
        return evaluated(self._network.logits_of, module, self._data)


def _reach(recipe: Recipe, steps: int) -> float:
    """How far a constant gradient of 1 would move the parameters."""
    velocity = total = 0.0
    for step in range(steps):
        velocity = recipe.momentum * velocity + 1
        total += recipe.rate * 0.5 * (1 + math.cos(math.pi * step / steps)) * velocity
    return total


class Retrain(Refit):
    """The user's ``function(dataset, seed) -> nn.Module``."""

    def __init__(self, data: Data, network: Network, asked: str | TrainingFunction, seed: int) -> None:
        self._data, self._network, self._seed = data, network, seed
        self._training = Training.of(asked)
        self.recipe = f"retrained by {self._training.name}"

    def __call__(self, training: TrainingSet, ordering: int = 0) -> Float[Tensor, "E C"]:
        module = self._training(self._data.train, training, self._seed + ordering)
        if not isinstance(module, nn.Module):
            raise self._training.refuse(module)
        return evaluated(self._network.logits_of, module.eval(), self._data)


def evaluated(logits_of: Callable[[object], Tensor], module: nn.Module, data: Data) -> Float[Tensor, "E C"]:
    """Logits of the evaluation rows. Raises `NumericalError` where they are not finite."""
    return logits_on(logits_of, module, data.evaluation, torch.arange(len(data.evaluation)))
