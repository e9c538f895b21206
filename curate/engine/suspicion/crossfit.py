"""A linear probe's class probabilities that a row's own label did not touch, at the penalty that the labels prefer.

Small problems are left out one row at a time in closed form (`curvature.head`); large ones in `FOLDS` parts, each
predicted by a probe fitted to the others. Rows of equal
content are left out together, else copies vouch for one another. Knows matrices only.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.probe import SoftmaxHead, fit_softmax, penalties

LADDER = (0.05, 0.01, 0.002)
"""Penalties to choose from. Fixed at the first, image features with human noise lose 0.01 to 0.05 of average
precision; chosen by likelihood, features that a network fitted to these labels lose as much (docs/explanation)."""
MOST_PARAMETERS, MOST_WORK = 8_000, 2e10
"""Of a probe whose rows are left out one at a time: parameters p = C (d + 1), and rows times p². Beyond, folds cost
less and say the same."""
FEW_ROWS = 2_000
"""Up to so many, every rung of the ladder is left out row by row; beyond, one fold tells the rungs apart."""
FOLDS = 5
FLOAT64_NUMBERS = 2**24
CERTAIN_SHARE = 0.9
"""Held-out likelihoods are of this share of the probabilities and the rest spread evenly: one row that is certainly
wrong must not outvote the others."""


@dataclass(frozen=True)
class Copies:
    """Rows of equal content: the number of each row's group and how many rows it has, ``[n]`` each."""

    group: Int[Tensor, " n"]
    sizes: Int[Tensor, " n"]

    @property
    def summed(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1

    def total(self, values: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        """The sum over each row's group."""
        sums = values.new_zeros(self.summed, values.shape[1]).index_add_(0, self.group, values)
        return sums[self.group]


@dataclass(frozen=True)
class LeftOut:
    """Probabilities ``[n C]`` of the rows left out, and the probe that all rows gave."""

    probabilities: Float[Tensor, "n C"]
    head: SoftmaxHead


def left_out(
    x: Float[Tensor, "n D"], labels: Int[Tensor, " n"], classes: int, copies: Copies, *, choose: bool
) -> LeftOut:
    """The probe on ``x``, whose last column is ones.

    ``choose``: its penalty by held-out likelihood, else the first rung.
    """
    parameters = classes * x.shape[1]
    exact = parameters <= MOST_PARAMETERS and len(x) * parameters**2 <= MOST_WORK
    rungs = LADDER if choose else LADDER[:1]
    if exact and (len(rungs) == 1 or len(x) <= FEW_ROWS):
        x = x.double() if x.numel() <= FLOAT64_NUMBERS else x
        found = [_one_by_one(x, labels, classes, rung, copies) for rung in rungs]
        return max(found, key=lambda each: likelihood(each.probabilities, labels))
    x, folds = x.float(), _folds(labels, copies)
    rung = _rung(x, labels, classes, rungs, folds) if len(rungs) > 1 else rungs[0]
    return _one_by_one(x, labels, classes, rung, copies) if exact else _by_folds(x, labels, classes, rung, folds)


def likelihood(probabilities: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> float:
    """Mean log-likelihood of the labels, nats, bounded for rows that are certainly wrong."""
    of_label = probabilities.gather(1, labels[:, None])[:, 0].double()
    return float((CERTAIN_SHARE * of_label + (1 - CERTAIN_SHARE) / probabilities.shape[1]).log().mean())


def _one_by_one(
    x: Float[Tensor, "n D"], labels: Int[Tensor, " n"], classes: int, penalty: float, copies: Copies
) -> LeftOut:
    head = fit_softmax(x, labels, classes, penalties(penalty, x))
    curvature = head.curvature(x)
    residuals = curvature.residuals(labels)
    scores = curvature.factorise().scores(head.logits(x), labels, copies.sizes, copies.total(residuals))
    return LeftOut(scores.leave_one_out.softmax(1), head)


def _folds(labels: Int[Tensor, " n"], copies: Copies) -> Int[Tensor, " n"]:
    """The fold of each row: the groups of a class are dealt out in turn, all copies into one."""
    first = torch.full((copies.summed,), len(labels), dtype=torch.long)
    first.scatter_reduce_(0, copies.group, torch.arange(len(labels)), "amin")
    draw = torch.randperm(copies.summed, generator=torch.Generator().manual_seed(0))
    order = draw[torch.sort(labels[first[draw]], stable=True).indices]
    fold = torch.empty(copies.summed, dtype=torch.long)
    fold[order] = torch.arange(copies.summed) % FOLDS
    return fold[copies.group]


def _rung(
    x: Float[Tensor, "n D"], labels: Int[Tensor, " n"], classes: int, rungs: tuple[float, ...], folds: Int[Tensor, " n"]
) -> float:
    """The penalty under which one fold is likeliest, predicted from the others."""
    held = folds == 0
    best, start, found = -torch.inf, None, rungs[0]
    for rung in rungs:
        head = fit_softmax(x[~held], labels[~held], classes, penalties(rung, x), start, tolerance=1e-3)
        value = likelihood(head.logits(x[held]).softmax(1), labels[held])
        if value <= best:
            break
        best, start, found = value, head.weights, rung
    return found


def _by_folds(
    x: Float[Tensor, "n D"], labels: Int[Tensor, " n"], classes: int, penalty: float, folds: Int[Tensor, " n"]
) -> LeftOut:
    whole = fit_softmax(x, labels, classes, penalties(penalty, x), tolerance=1e-4)
    probabilities = x.new_zeros(len(x), classes)
    for fold in range(FOLDS):
        held = folds == fold
        if bool(held.any()):
            head = fit_softmax(x[~held], labels[~held], classes, whole.penalty, whole.weights, tolerance=1e-3)
            probabilities[held] = head.logits(x[held]).softmax(1)
    return LeftOut(probabilities, whole)
