"""The probe: a convex softmax head refitted on the features, to its optimum.

A network that has memorised its labels has no gradient left on the wrong ones; a head with a known L2 penalty on its
length-normalised features brings them back. Newton's method with conjugate gradients on the head's own curvature.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from curate.curvature.head import HeadCurvature
from curate.errors import NumericalError
from curate.solvers.cg import ConjugateGradients

LENGTH = 8.0
"""Rows of features are scaled to this length before the column of ones is put beside them."""
PENALTY = 0.05
"""L2 penalty λ of ½ λ |W|² on the mean loss; the bias has none. Not to be chosen by the likelihood of noisy labels."""


def probe_inputs(features: Float[Tensor, "n d"]) -> Float[Tensor, "n D"]:
    """Length-normalised rows and a column of ones, ``D = d + 1``."""
    rows = features * (LENGTH / features.norm(dim=1, keepdim=True).clamp_min(1e-12))
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


@dataclass(frozen=True)
class SoftmaxHead:
    """Weights ``[C D]`` of a linear softmax classifier and the penalty ``[D]`` they were fitted with."""

    weights: Float[Tensor, "C D"]
    penalty: Float[Tensor, " D"]

    def logits(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n C"]:
        return x @ self.weights.to(x).T

    def curvature(self, x: Float[Tensor, "n D"]) -> HeadCurvature:
        return HeadCurvature(x, self.logits(x).softmax(1), self.penalty.to(x))


def fit_softmax(
    x: Float[Tensor, "n D"],
    labels: Tensor,
    classes: int,
    penalty: Float[Tensor, " D"],
    start: Float[Tensor, "C D"] | None = None,
    tolerance: float = 1e-6,
    steps: int = 50,
) -> SoftmaxHead:
    """Minimum of the mean cross-entropy + ½ Σ penalty w², by damped Newton steps.

    ``tolerance`` bounds the gradient's largest entry relative to its size at zero weights (in float32 not below its
    digits). Raises `NumericalError`
    where it is not reached.
    """
    weights = x.new_zeros(classes, x.shape[1]) if start is None else start.to(x).clone()
    targets = F.one_hot(labels, classes).to(x)

    def value(w: Tensor) -> float:
        loss = F.cross_entropy(x @ w.T, labels, reduction="sum") / len(x)
        return float(loss + 0.5 * (penalty * w * w).sum())

    epsilon = torch.finfo(x.dtype).eps
    tolerance = max(tolerance, 64 * epsilon)
    scale = float(((1 / classes - targets).T @ x / len(x)).abs().max())
    now = value(weights)
    for _ in range(steps):
        p = (x @ weights.T).softmax(1)
        gradient = (p - targets).T @ x / len(x) + penalty * weights
        # All classes moved together change nothing where there is no penalty: rounding must not build up there.
        gradient = torch.where(penalty == 0, gradient - gradient.mean(0), gradient)
        if float(gradient.abs().max()) <= tolerance * scale:
            return SoftmaxHead(weights, penalty)
        solver = ConjugateGradients(tolerance=1e-2 if float(gradient.abs().max()) > 1e-2 * scale else 1e-4, steps=250)
        direction = solver.prepare(HeadCurvature(x, p, penalty), 0.0).solve(gradient.flatten()[None]).rows
        direction = direction.view_as(weights)
        step, slope = 1.0, float((gradient * direction).sum())
        rounding = 8 * epsilon * abs(now)  # close to the optimum the loss tells two steps apart no more
        if slope <= rounding and float(gradient.abs().max()) <= 1e-3 * scale:
            # Newton's decrement (Boyd & Vandenberghe 2004, 9.5): what is left to gain is below the loss's digits.
            return SoftmaxHead(weights - direction, penalty)
        while step > 1e-6 and value(weights - step * direction) > now - 1e-4 * step * slope + rounding:
            step /= 2
        if step <= 1e-6:
            # No descent left in this precision: the optimum, as far as its digits go.
            if float(gradient.abs().max()) <= 1e-3 * scale:
                return SoftmaxHead(weights, penalty)
            break
        weights = weights - step * direction
        now = value(weights)
    raise NumericalError("the probe did not reach its optimum", "Are the features on a sensible scale, and finite?")


def fit_probe(features: Float[Tensor, "n d"], labels: Tensor, classes: int) -> tuple[SoftmaxHead, Float[Tensor, "n D"]]:
    """The probe and its inputs, in float64 where that is cheap."""
    x = probe_inputs(features)
    if not bool(torch.isfinite(x).all()):
        raise NumericalError(
            "the features are not finite once they are scaled to one length",
            "Are the inputs on the scale of training, and the weights those of the model?",
        )
    if x.numel() * classes <= 2**26:
        x = x.double()
    penalty = torch.full((x.shape[1],), PENALTY, dtype=x.dtype, device=x.device)
    penalty[-1] = 0.0
    return fit_softmax(x, labels, classes, penalty), x
