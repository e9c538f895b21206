"""The probe: a convex softmax head refitted on the features, to its optimum.

A network that has memorised its labels has no gradient left on the wrong ones; a head with a known L2 penalty on its
length-normalised features brings them back. Newton's method with conjugate gradients on the head's own curvature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.curvature.head import HeadCurvature
from curate.engine.curvature.mean_row import Directions, MeanRow
from curate.engine.curvature.row_space import RowSpace
from curate.engine.loss import SOFTMAX
from curate.engine.passes import ALONE, EACH_ROWS, Passes, pieces, slices, summed
from curate.errors import NumericalError

LENGTH = 8.0
"""Rows of features are scaled to this length before the column of ones is put beside them."""
PENALTY = 0.05
"""L2 penalty λ of ½ λ |W|² on the mean loss; the bias has none. On features that a network may have fitted to these
very labels it is not to be chosen by the labels' likelihood, which falls to the weakest penalty."""
PRECONDITIONER_ROWS = 20_000
ALIKE = 2**20
"""Products and sums of a pass over all rows up to which each process makes them all: to meet would take longer."""
NEARER, LARGE = 0.03, 2**24
"""Share of the gradient at a start that is given, that may be left by a problem of so many products a pass; where each
costs nothing, next to nothing is left."""
MOST_STEPS, PRODUCTS = 50, 250
"""Newton steps, and curvature products of one of them, at most."""


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
        """x Wᵀ, in the precision of ``x``."""
        return x @ self.weights.to(x).T

    def curvature(self, x: Float[Tensor, "n D"], passes: Passes = ALONE) -> HeadCurvature:
        """That of the mean cross-entropy on ``x`` at these weights, with the head's own penalty."""
        return HeadCurvature(x, self.logits(x).softmax(1), self.penalty.to(x), passes=passes)


def fit_softmax(
    x: Float[Tensor, "n D"],
    labels: Tensor,
    classes: int,
    penalty: Float[Tensor, " D"],
    start: Float[Tensor, "C D"] | None = None,
    tolerance: float = 1e-6,
    passes: Passes = ALONE,
) -> SoftmaxHead:
    """Minimum of the mean cross-entropy + ½ Σ penalty w², by damped Newton steps.

    ``tolerance`` bounds the gradient's largest entry relative to its size at zero weights (in float32 not below its
    digits). Raises `NumericalError` if it is not reached.
    """
    if not RowSpace.pays(len(x), penalty):
        return minimum(SoftmaxProblem(x, labels, classes, penalty, passes), start, tolerance)
    space = RowSpace.of(x, penalty)  # of the minimum nothing is outside of it
    problem = SoftmaxProblem(space.narrow(x), labels, classes, space.penalty, passes)
    found = minimum(problem, None if start is None else space.narrow(start), tolerance)
    return SoftmaxHead(space.widen(found.weights), penalty)


def minimum(problem: "SoftmaxProblem", start: Float[Tensor, "C D"] | None, tolerance: float) -> SoftmaxHead:
    """The head at the minimum of the problem; as `fit_softmax` else."""
    penalty, x = problem.penalty, problem.x
    epsilon = torch.finfo(x.dtype).eps
    here = problem.at(x.new_zeros(problem.classes, x.shape[1]) if start is None else start.to(x))
    scale = float((here.gradient if start is None else problem.gradient_at_zero()).abs().max())
    # Near as the start may be, most of the way from there is to be gone: it is what rows that are left out had added.
    nearer, rough = (NEARER, 1e-2) if problem.large else (1e-3, 1e-3)
    goal = max(min(tolerance * scale, nearer * float(here.gradient.abs().max())), 64 * epsilon * scale)
    for _ in range(MOST_STEPS):
        largest = float(here.gradient.abs().max())
        if largest <= goal:
            return SoftmaxHead(here.weights, penalty)
        # Far from the optimum, and near to what is asked, a rough direction is as good (Dembo et al. 1982).
        enough = 1e-1 if largest > 1e-2 * scale else min(rough, goal / largest / 4)
        direction = problem.newton(here, tolerance=max(1e-3, enough))
        step, slope = 1.0, float((here.gradient * direction).sum())
        rounding = 8 * epsilon * abs(here.loss)  # close to the optimum the loss tells two steps apart no more
        if slope <= rounding and largest <= 1e-3 * scale:
            # Newton's decrement (Boyd & Vandenberghe 2004, 9.5): what is left to gain is below the loss's digits.
            return SoftmaxHead(here.weights - direction, penalty)
        there = problem.at(here.weights - direction)
        while step > 1e-6 and there.loss > here.loss - 1e-4 * step * slope + rounding:
            step /= 2
            there = problem.at(here.weights - step * direction)
        if step <= 1e-6:
            # No descent left in this precision: the optimum, as far as its digits go.
            if largest <= 1e-3 * scale:
                return SoftmaxHead(here.weights, penalty)
            break
        here = there
    raise NumericalError("The probe did not reach its optimum", "Are the features on a sensible scale, and finite?")


@dataclass(frozen=True)
class ProbeAt:
    """What a `SoftmaxProblem` is at some weights."""

    weights: Float[Tensor, "C D"]
    loss: float
    """With its penalty, nats."""
    gradient: Float[Tensor, "C D"]
    p: Float[Tensor, "m C"]
    """Probabilities of the rows that are held here."""
    spreads: Float[Tensor, " C"]
    """The mean p (1 - p) of all rows, float64."""


class SoftmaxProblem:
    """The loss of a softmax head on ``x [n D]``, its gradient and Newton's direction, chunk by chunk.

    What is held is of this process's rows, and what is returned of all.
    """

    def __init__(
        self,
        x: Float[Tensor, "n D"],
        labels: Tensor,
        classes: int,
        penalty: Float[Tensor, " D"],
        passes: Passes,
        kept: Int[Tensor, " k"] | None = None,
        moments: Float[Tensor, "D D"] | None = None,
    ) -> None:
        """Of the rows ``kept``; None: of all. ``moments`` are `second_moments` of about these rows."""
        self.n = len(x if kept is None else kept)
        self.classes, self.penalty = classes, penalty
        self.large = self.n * classes * x.shape[1] > LARGE
        self.passes = passes = passes.alone if self.n * classes * x.shape[1] <= ALIKE else passes
        own = passes.own(self.n)
        rows = own if kept is None else kept[own]
        self.x, self.labels = x[rows], labels[rows].to(x.device)
        self._moments = second_moments(x, passes, kept) if moments is None else moments

    def _summed(self, term: Callable[[slice], Tensor]) -> Tensor:
        """What ``term`` sums over some rows, over all that are held here, in float64."""
        return summed(slices(len(self.x), self.passes.budget.sum_rows) or [slice(0, 0)], term)

    def gradient_at_zero(self) -> Float[Tensor, "C D"]:
        """Of the loss, without weights."""
        empty = self.x.new_zeros(self.classes, self.x.shape[1])
        total = self.passes.sum(self._summed(lambda rows: empty.index_add(0, self.labels[rows], self.x[rows])))
        return ((total.mean(0) - total) / self.n).to(self.x)

    def at(self, weights: Float[Tensor, "C D"]) -> ProbeAt:
        """The loss and its derivatives at these weights: all processes meet once."""
        p = self.x.new_empty(len(self.x), self.classes)

        def gaps(rows: slice) -> Tensor:
            """p - y of some rows; what they add to the loss and to the mean row is kept on the way."""
            logits, labels = self.x[rows] @ weights.T, self.labels[rows, None]
            torch.softmax(logits, 1, out=p[rows])
            losses.append((logits.logsumexp(1) - logits.gather(1, labels)[:, 0]).sum(dtype=torch.float64))
            spread.append((p[rows] * (1 - p[rows])).sum(0, dtype=torch.float64))
            return logits.copy_(p[rows]).scatter_add_(1, labels, logits.new_full((len(logits), 1), -1.0))

        losses: list[Tensor] = []
        spread: list[Tensor] = []
        total = self._summed(lambda rows: gaps(rows).T @ self.x[rows])
        own = [torch.stack(losses).sum(), torch.stack(spread).sum(0), total]
        loss, spreads, gradient = (of_all / self.n for of_all in self.passes.sums(own))
        loss = loss + 0.5 * (self.penalty * weights * weights).sum(dtype=torch.float64)
        gradient = gradient.to(self.x) + self.penalty * weights
        # All classes moved together change nothing if there is no penalty: rounding must not build up there.
        gradient = torch.where(self.penalty == 0, gradient - gradient.mean(0), gradient)
        return ProbeAt(weights, float(loss), gradient, p, spreads)

    @cached_property
    def _directions(self) -> Directions:
        try:
            return Directions.of(self._moments, self.penalty)
        except RuntimeError as error:  # torch.linalg.LinAlgError is one
            raise NumericalError(
                "The probe's features have no finite second moments", "Are the inputs on the scale of training?"
            ) from error

    def newton(self, at: ProbeAt, tolerance: float) -> Float[Tensor, "C D"]:
        """H⁻¹ of the gradient there to ``tolerance`` of its size: conjugate gradients that `MeanRow` preconditions."""
        gradient, p = at.gradient, at.p
        near = MeanRow(self._directions, at.spreads, gradient)

        def product(direction: Tensor) -> Tensor:
            def moved(rows: slice) -> Tensor:
                return SOFTMAX.apply(p[rows], (self.x[rows] @ direction.T)[None])[0].T @ self.x[rows]

            return self.passes.sum(self._summed(moved)).to(self.x) / self.n + direction * self.penalty

        solved, left = torch.zeros_like(gradient), gradient
        towards = precise = near(left)
        bound, size = tolerance * float(left.norm()), (left * precise).sum()
        for _ in range(PRODUCTS):
            image = product(towards)
            curved = (towards * image).sum()
            if float(curved) <= 0:  # only rounding is left of the direction
                break
            solved = solved + size / curved * towards
            left = left - size / curved * image
            if float(left.norm()) <= bound:
                break
            precise = near(left)
            before, size = size, (left * precise).sum()
            towards = precise + size / before * towards
        return solved


def second_moments(
    x: Float[Tensor, "n D"], passes: Passes, kept: Int[Tensor, " k"] | None = None
) -> Float[Tensor, "D D"]:
    """Mean xᵀx of the rows, float64, from `PRECONDITIONER_ROWS` of them: what steps go by, not what they lead to."""
    n, some = (len(x), x) if kept is None else (len(kept), kept)
    if n > PRECONDITIONER_ROWS:
        some = some[torch.randperm(n, generator=torch.Generator().manual_seed(0))[:PRECONDITIONER_ROWS]]
    some = some if kept is None else x[some]
    return passes.total(len(some), passes.budget.sum_rows, lambda rows: some[rows].T @ some[rows]) / len(some)


def fit_probe(
    features: Float[Tensor, "n d"], labels: Tensor, classes: int, passes: Passes = ALONE
) -> tuple[SoftmaxHead, Float[Tensor, "n D"]]:
    """The probe and its inputs, in float64 if that is cheap."""
    features = passes.near(features)
    x = passes.each(len(features), lambda rows: probe_inputs(features[rows]))
    if not all(bool(torch.isfinite(part).all()) for part in pieces(x, EACH_ROWS)):
        raise NumericalError(
            "The features are not finite once they are scaled to one length",
            "Are the inputs on the scale of training, and the weights those of the model?",
        )
    if x.numel() * classes <= 2**26:
        x = x.double()
    return fit_softmax(x, labels, classes, penalties(PENALTY, x), passes=passes), x


def penalties(penalty: float, x: Float[Tensor, "n D"]) -> Float[Tensor, " D"]:
    """The penalty of every column, none for the last one, of ones."""
    found = torch.full((x.shape[1],), penalty, dtype=x.dtype, device=x.device)
    found[-1] = 0.0
    return found
