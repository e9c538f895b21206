"""A linear probe's class probabilities that a row's own label did not touch, at the penalty that the labels prefer.

Small problems are left out one row at a time in closed form (`curvature.head`); large ones, and groups of rows that
differ, in `FOLDS` parts, each predicted by a probe fitted to the others. Rows of equal content, or of one group, are
left out together, else they vouch for one another. Of very many rows the probe is fitted to a sample: what it says of
the others they had no part in. Knows matrices only.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curate.engine.curvature.row_space import RowSpace
from curate.engine.passes import ALONE, Passes
from curate.engine.probe import SoftmaxHead, SoftmaxProblem, minimum, penalties, second_moments

LADDER = (0.05, 0.01, 0.002)
"""Penalties to choose from. Fixed at the first, image features with human noise lose 0.01 to 0.05 of average
precision; chosen by likelihood, features that a network fitted to these labels lose as much (docs/explanation)."""
MOST_PARAMETERS, MOST_WORK = 8_000, 2e10
"""Of a probe whose rows are left out one at a time: parameters p = C (d + 1), and rows times p². Beyond, folds cost
less and say the same."""
FEW_ROWS, FEW_PARAMETERS = 2_000, 1_500
"""Up to so many, every rung of the ladder is left out row by row; beyond, one fold tells the rungs apart. Trial, 800
and 1,800 rows, 2,570 parameters, pictures of clothes and of CIFAR-10N: the same rung eight times of eight, in a tenth
of the time."""
FOLDS, FOLDS_OF_FEW = 5, 20
"""Parts, and those of few rows whose groups have no closed form: 120 rows of 40 groups without a fifth of them are
another set (trial: of three groups of wrong labels one is told with 5 folds, all with 20 or 40)."""
MOST_ROWS, OF_CLASS = 200_000, 0.01
"""Contents that a probe is fitted to, about, and what share of them a class has at least, if it is as large. Trial,
100,000 rows of 10 classes: with half of them average precision falls by 0.002, and of the most suspect hundredth 0.92
stays."""
FLOAT64_NUMBERS = 2**24
CERTAIN_SHARE = 0.9
"""Held-out likelihoods are of this share of the probabilities and the rest spread evenly: one row that is certainly
wrong must not outvote the others."""


@dataclass(frozen=True)
class Copies:
    """Rows of equal content: the number of each row's group and how many rows it has, ``[n]`` each."""

    group: Int[Tensor, " n"]
    sizes: Int[Tensor, " n"]
    equal: bool = True
    """Rows of a group are one row several times. Others have no closed form here: m times the leverage of one is not
    that of the group, and beyond 1 turns a row's own label into evidence for it."""

    @property
    def summed(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1

    def total(self, values: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        """The sum over each row's group."""
        group = self.group.to(values.device)
        sums = values.new_zeros(self.summed, values.shape[1]).index_add_(0, group, values)
        return sums[group]

    def labels(self, labels: Int[Tensor, " n"]) -> Int[Tensor, " groups"]:
        """Of each group, the label of its first row."""
        first = torch.full((self.summed,), len(labels), dtype=torch.long)
        first.scatter_reduce_(0, self.group, torch.arange(len(labels)), "amin")
        return labels[first]

    def dealt(self, labels: Int[Tensor, " groups"]) -> Int[Tensor, " groups"]:
        """The groups class by class, those of a class in an order drawn at random."""
        draw = torch.randperm(self.summed, generator=torch.Generator().manual_seed(0))
        return draw[torch.sort(labels[draw], stable=True).indices]

    def among(self, rows: Int[Tensor, " m"]) -> "Copies":
        """The same groups among some of the rows."""
        group = torch.unique(self.group[rows], return_inverse=True)[1]
        return Copies(group, torch.bincount(group)[group], self.equal)

    def folds(self, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The fold of each row: the groups of a class are dealt out in turn, all rows of one into one."""
        count = FOLDS if self.equal or len(labels) > FEW_ROWS else FOLDS_OF_FEW
        fold = torch.empty(self.summed, dtype=torch.long)
        fold[self.dealt(self.labels(labels))] = torch.arange(self.summed) % count
        return fold[self.group]


@dataclass(frozen=True)
class LeftOut:
    """Probabilities ``[n C]`` of the rows left out, and the probe that all rows gave."""

    probabilities: Float[Tensor, "n C"]
    head: SoftmaxHead


def left_out(
    x: Float[Tensor, "n D"],
    labels: Int[Tensor, " n"],
    classes: int,
    copies: Copies,
    *,
    choose: bool,
    passes: Passes = ALONE,
    most: int = MOST_ROWS,
) -> LeftOut:
    """The probe on ``x``, whose last column is ones.

    ``choose``: its penalty by held-out likelihood, else the first rung. Of more than ``most`` contents it is fitted to
    a sample.
    """
    if copies.summed > most:
        some = sample(labels, classes, copies, most).nonzero()[:, 0]
        found = left_out(
            x[some], labels[some], classes, copies.among(some), choose=choose, passes=passes, most=len(some)
        )
        return _beyond(found, x, labels, some, passes)
    asked = penalties(LADDER[0], x)
    if RowSpace.pays(len(x), asked):
        space = RowSpace.of(x, asked)
        found = left_out(space.narrow(x), labels, classes, copies, choose=choose, passes=passes, most=most)
        penalty = penalties(float(found.head.penalty[0]), x)
        return LeftOut(found.probabilities, SoftmaxHead(space.widen(found.head.weights), penalty))
    parameters = classes * x.shape[1]
    exact = copies.equal and small(len(x), parameters)
    rungs = LADDER if choose else LADDER[:1]
    few = len(x) <= FEW_ROWS and parameters <= FEW_PARAMETERS
    if exact and (len(rungs) == 1 or few):
        x = x.double() if x.numel() <= FLOAT64_NUMBERS else x
        probes = _Probes(x, labels, classes, copies, passes)
        return max((probes.one_by_one(rung) for rung in rungs), key=lambda each: likelihood(each.probabilities, labels))
    probes = _Probes(x.float(), labels, classes, copies, passes)
    rung, near = probes.rung(rungs)
    return probes.one_by_one(rung) if exact else probes.by_folds(rung, near)


def small(n: int, parameters: int) -> bool:
    """Whether rows are left out one at a time, in closed form."""
    return parameters <= MOST_PARAMETERS and n * parameters**2 <= MOST_WORK


def sample(labels: Int[Tensor, " n"], classes: int, copies: Copies, most: int) -> Bool[Tensor, " n"]:
    """Which of the rows are fitted to, all of a content or none: of each class a share, more of one that is rare."""
    of_group = copies.labels(labels)
    counts = torch.bincount(of_group, minlength=classes)
    wanted = torch.maximum((counts * most / copies.summed).round(), counts.clamp_max(int(OF_CLASS * most)))
    order = copies.dealt(of_group)
    place = torch.arange(copies.summed) - (counts.cumsum(0) - counts)[of_group[order]]
    kept = torch.zeros(copies.summed, dtype=torch.bool)
    kept[order] = place < wanted[of_group[order]]
    return kept[copies.group]


def _beyond(
    found: LeftOut, x: Float[Tensor, "n D"], labels: Int[Tensor, " n"], some: Int[Tensor, " m"], passes: Passes
) -> LeftOut:
    """What was ``found`` of some rows, and what their probe says of the others.

    A class of which more is among them would be called too often: its bias falls by the logarithm of its share
    (Prentice & Pyke 1979).
    """
    classes = len(found.head.weights)
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    shares = torch.bincount(labels[some], minlength=classes) / counts
    shift = shares.clamp_min(1 / len(x)).log().to(found.head.weights)
    weights = found.head.weights.clone()
    weights[:, -1] -= shift
    head = SoftmaxHead(weights, found.head.penalty)
    probabilities = passes.each(len(x), lambda rows: head.logits(x[rows].to(weights)).softmax(1))
    probabilities[some] = (found.probabilities.log() - shift).softmax(1)
    return LeftOut(probabilities, head)


def likelihood(probabilities: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> float:
    """Mean log-likelihood of the labels, nats, bounded for rows that are certainly wrong."""
    of_label = probabilities.gather(1, labels[:, None].to(probabilities.device))[:, 0].double()
    return float((CERTAIN_SHARE * of_label + (1 - CERTAIN_SHARE) / probabilities.shape[1]).log().mean())


@dataclass(frozen=True)
class _Probes:
    """Probes fitted to rows, or to those outside of a fold."""

    x: Float[Tensor, "n D"]
    labels: Int[Tensor, " n"]
    classes: int
    copies: Copies
    passes: Passes

    def fit(
        self,
        penalty: float,
        kept: Bool[Tensor, " n"] | None = None,
        start: Float[Tensor, "C D"] | None = None,
        tolerance: float = 1e-6,
    ) -> SoftmaxHead:
        """The probe of the rows that are kept, by default all."""
        rows = None if kept is None else kept.nonzero()[:, 0]
        weights = penalties(penalty, self.x)
        problem = SoftmaxProblem(self.x, self.labels, self.classes, weights, self.passes, rows, self.moments)
        return minimum(problem, start, tolerance)

    def one_by_one(self, penalty: float) -> LeftOut:
        """Each row left out in closed form."""
        head = self.fit(penalty)
        curvature = head.curvature(self.x, self.passes)
        sums = self.copies.total(curvature.residuals(self.labels))
        scores = curvature.factorise().scores(head.logits(self.x), self.labels, self.copies.sizes, sums)
        return LeftOut(scores.leave_one_out.softmax(1), head)

    @cached_property
    def moments(self) -> Float[Tensor, "D D"]:
        """By which the steps of all these probes go."""
        return second_moments(self.x, self.passes)

    @cached_property
    def folds(self) -> Int[Tensor, " n"]:
        return self.copies.folds(self.labels)

    def rung(self, rungs: tuple[float, ...]) -> tuple[float, SoftmaxHead | None]:
        """The penalty under which the first fold is likeliest, predicted from the others, and their probe."""
        if len(rungs) == 1:
            return rungs[0], None
        held = self.folds % FOLDS == 0
        best, found, of_best = -torch.inf, rungs[0], None
        for rung in rungs:
            head = self.fit(rung, ~held, None if of_best is None else of_best.weights, 1e-3)
            value = likelihood(head.logits(self.x[held]).softmax(1), self.labels[held])
            if value <= best:
                break
            best, found, of_best = value, rung, head
        return found, of_best

    def by_folds(self, penalty: float, near: SoftmaxHead | None = None) -> LeftOut:
        """Each fold predicted from the others; ``near`` is the probe of `rung`, left out of which is the first fold."""
        whole = self.fit(penalty, start=None if near is None else near.weights, tolerance=1e-4)
        folds = self.folds
        heads = {} if near is None or int(folds.max()) >= FOLDS else {0: near}
        for fold in folds.unique().tolist():
            if fold not in heads:
                heads[fold] = self.fit(penalty, folds != fold, whole.weights, 1e-3)

        def said(rows: slice) -> Tensor:
            x, fold = self.x[rows], folds[rows].to(self.x.device)
            found = x.new_empty(len(x), self.classes)
            for number, head in heads.items():
                found[fold == number] = head.logits(x[fold == number]).softmax(1)
            return found

        return LeftOut(self.passes.each(len(self.x), said), whole)
