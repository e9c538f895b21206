"""Refits of a linear softmax head to its optimum, many changed training sets at a time.

The chord method: Newton's steps with the one factor of the full set's curvature, which a few rows hardly change. Knows
fitting; leaves what is compared with what to `what_if` and `protocol`.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.curvature.head import FactorisedHead, HeadCurvature
from curate.engine.passes import slices
from curate.engine.probe import SoftmaxHead, fit_softmax
from curate.experiments.training import TrainingSet
from curate.experiments.verify.refit import Refit

FLOATS = 2**24
"""Size of the logits of the training rows that are held at once: 128 MiB."""
TOLERANCE = 1e-9
STEPS = 60


class HeadRefit(Refit):
    """Minimum of the mean cross-entropy + ½ Σ penalty w² on fixed features, in float64."""

    converged = True

    def __init__(
        self,
        recipe: str,
        start: SoftmaxHead,
        x: Float[Tensor, "n D"],
        labels: Int[Tensor, " n"],
        evaluation: Float[Tensor, "E D"],
    ) -> None:
        self.recipe = recipe
        self._x, self._labels, self._evaluation = x.double(), labels, evaluation.double()
        self._start, self._penalty = start.weights.to(self._x), start.penalty.to(self._x)
        self._classes = len(start.weights)
        self.batch = max(1, FLOATS // (len(x) * self._classes))

    def __call__(self, training: TrainingSet, ordering: int = 0) -> Float[Tensor, "E C"]:
        return next(self.many([training], ordering))

    def many(self, trainings: list[TrainingSet], ordering: int = 0) -> Iterator[Float[Tensor, "E C"]]:
        """There is one optimum whatever the order: ``ordering`` changes nothing."""
        for some in slices(len(trainings), self.batch):
            part = trainings[some]
            found = self._chord(part) if self._curvature.exact else [None] * len(part)
            for training, weights in zip(part, found, strict=True):
                yield (self._evaluation @ (self._fit(training) if weights is None else weights).T).cpu()

    @cached_property
    def _optimum(self) -> Float[Tensor, "C D"]:
        return self._fit(TrainingSet(torch.ones(len(self._x), dtype=torch.bool), self._labels), self._start)

    @cached_property
    def _curvature(self) -> HeadCurvature:
        return HeadCurvature(self._x, (self._x @ self._optimum.T).softmax(1), self._penalty)

    @cached_property
    def _factor(self) -> FactorisedHead:
        return self._curvature.factorise()

    def _fit(self, training: TrainingSet, start: Tensor | None = None) -> Float[Tensor, "C D"]:
        start = self._optimum if start is None else start
        kept = training.kept
        return fit_softmax(
            self._x[kept], training.labels[kept], self._classes, self._penalty, start, tolerance=TOLERANCE
        ).weights

    def _chord(self, trainings: list[TrainingSet]) -> list[Float[Tensor, "C D"] | None]:
        """The weights of each; None where the steps do not settle, as where a set has changed a lot."""
        x, count = self._x, len(trainings)
        kept = torch.stack([training.kept for training in trainings], dim=1).to(x)
        share = (kept / kept.sum(0))[:, :, None]
        labels = torch.stack([training.labels for training in trainings], dim=1).to(x.device)[:, :, None]
        minus = -torch.ones_like(labels, dtype=x.dtype)
        weights = self._optimum.expand(count, -1, -1).clone()
        scale = float((torch.bincount(self._labels, minlength=self._classes).to(x) / len(x)).max() * x.abs().max())
        for _ in range(STEPS):
            rests = (x @ weights.flatten(0, 1).T).view(len(x), count, self._classes).softmax(2)
            rests.scatter_add_(2, labels, minus).mul_(share)
            gradients = torch.einsum("nbc,nd->bcd", rests, x) + self._penalty * weights
            # All classes moved together change nothing where there is no penalty: rounding must not build up there.
            gradients = torch.where(self._penalty == 0, gradients - gradients.mean(1, keepdim=True), gradients)
            sizes = gradients.abs().amax((1, 2))
            if bool((sizes <= TOLERANCE * scale).all()):
                break
            weights = weights - self._factor.solve(gradients.flatten(1)).view_as(weights)
        return [one if size <= TOLERANCE * scale else None for one, size in zip(weights, sizes.tolist(), strict=True)]
