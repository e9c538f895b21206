"""The last linear layer in closed form: every leave-one-out question answered from one factorisation.

With Xᵢ = I ⊗ [hᵢ; 1] and the loss's residual rᵢ and curvature Sᵢ (of softmax pᵢ - yᵢ and diag(pᵢ) - pᵢ pᵢᵀ) the
gradient of row i is gᵢ = Xᵢ rᵢ and the curvature H = (1/n) Σ Xᵢ Sᵢ Xᵢᵀ + Λ. Mᵢ = (1/n) Xᵢᵀ H⁻¹ Xᵢ (C x C) then gives
self-influence rᵢᵀ Mᵢ rᵢ and the leave-one-out logits zᵢ + Mᵢ (I - Sᵢ Mᵢ)⁻¹ rᵢ (Newton's step on the other rows; exact
for squared loss).
Knows matrices only: where features, weights and penalties come from is left to `probe` and `network`.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.curvature.class_blocks import ClassBlocks
from curate.engine.curvature.leverage import Leverage, bound_of, gram, grams, grams_of_few
from curate.engine.curvature.mean_row import Directions, MeanRow
from curate.engine.curvature.operator import Operator
from curate.engine.curvature.row_space import RowSpace
from curate.engine.loss import SOFTMAX, Loss
from curate.engine.passes import ALONE, Passes
from curate.errors import NumericalError

MOST_EXACT = 8_000
"""Parameters C (d + 1) up to which H is factorised whole (0.5 GB); beyond, class by class. Of n < d rows, C (n + 1)."""
MOST_CURVATURE_ROWS = 100_000
"""Rows that H is summed over; beyond, a random sample stands for all."""
FLOAT64_WORK = 1e10
"""Products of n p² numbers beyond which they are taken in float32, and summed over the rows in float64."""
FLOAT32_PENALTY = 1e-6
"""Λ over H's trace from which float32 is enough: what it loses is smaller than Λ in every direction."""
FLOAT32_SPREAD = 1e3
"""The curvature's trace over the smallest entry of H's diagonal up to which H, if it is that much work, is inverted in
float32: half of the time and of the room. Trial, 10,000 x 512 x 10: 3e-7 of a solve, 1e-6 of self-influence."""
EVERY_PAIR_WORK = 1e11
"""The same from which pairs of classes that weigh little in a row are not taken one by one."""
LEFT_ASIDE = 0.1
"""Share of the weight of all pairs that they hold together. Trial, 10,000 rows of 10 classes: with a twentieth
and a fifth of it a leave-one-out probability is off by 1.5e-5 and 6.5e-5 at most, self-influence by 0.1 and 0.9 %."""
MANY_ROWS = 50_000
"""Rows from which it is twice that share: what a row moves, and so what is lost of it, falls with their number."""
SOME_ROWS = 10_000
"""Rows, about, from which sizes and bounds are read."""
MEASURED_ROWS = 256
"""Rows whose scores are also computed from every pair."""


@dataclass(frozen=True)
class HeadScores:
    """What the head says of rows, ``[n]`` or ``[n C]``."""

    self_influence: Float[Tensor, " n"]
    """rᵢᵀ Mᵢ rᵢ, nats, >= 0."""
    leave_one_out: Float[Tensor, "n C"]
    """Logits of each row by the head refitted without it (and without rows of equal content)."""
    corrected: Float[Tensor, "n C"]
    """(I - Sᵢ Mᵢ)⁻¹ rᵢ: the residual whose gradient gives influence with slope one; on the device of the rows."""
    mean_leverage: float
    """Mean tr(Sᵢ Mᵢ): first order underrates a single row by about this share."""
    left_aside: float = 0.0
    """Share of the weight of pairs of classes that is taken at its mean."""
    error: float = 0.0
    """Largest error that this makes in the leave-one-out probabilities of some rows, as measured."""


class HeadCurvature(Operator):
    """H of a linear head on features ``x [n D]`` (a column of ones included if it has a bias).

    ``probabilities`` are the loss's means of its logits, or more of them (`Loss.state`). ``penalty [D]`` is Λ's
    diagonal for each class: damping or a known L2 penalty, >= 0.
    """

    name = "ggn"

    def __init__(
        self,
        x: Float[Tensor, "n D"],
        probabilities: Float[Tensor, "n K"],
        penalty: Float[Tensor, " D"],
        seed: int = 0,
        loss: Loss = SOFTMAX,
        left_aside: float | None = None,
        passes: Passes = ALONE,
    ) -> None:
        """``left_aside``: share of all weight whose pairs of classes scores take at their mean; None: by the work."""
        self.x, self.probabilities, self.penalty, self.loss = x, probabilities, penalty, loss
        self.passes = passes
        self.n, self.width = x.shape
        self.classes = loss.classes(probabilities)
        self.p = self.classes * self.width
        self.dtype, self.device = x.dtype, x.device
        self._narrow = RowSpace.pays(self.n, penalty)
        work = float(self.n) * self.p**2
        aside = LEFT_ASIDE * (1 + (self.n >= MANY_ROWS)) if work > EVERY_PAIR_WORK else 0.0
        self.left_aside, self._asked_aside = aside if left_aside is None else left_aside, left_aside
        self._quick = work > FLOAT64_WORK
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        self._sample = order[:MOST_CURVATURE_ROWS].sort().values.to(x.device) if self.n > MOST_CURVATURE_ROWS else None

    @property
    def exact(self) -> bool:
        """H is small enough to be inverted whole."""
        outside = int((self.penalty != self.penalty[0]).sum())
        return self.classes * (self.n + outside if self._narrow else self.width) <= MOST_EXACT

    @cached_property
    def space(self) -> RowSpace | None:
        """The span of the rows, if it is narrower than they are."""
        return RowSpace.of(self.x, self.penalty) if self._narrow else None

    @cached_property
    def inner(self) -> "HeadCurvature":
        """The same on the rows in the coordinates of their own span: itself, unless that is narrower."""
        if self.space is None:
            return self
        x, penalty = self.space.narrow(self.x), self.space.penalty
        return HeadCurvature(x, self.probabilities, penalty, 0, self.loss, self._asked_aside, self.passes)

    def times_penalty(self, factor: float) -> "HeadCurvature":
        """The same with another penalty."""
        return HeadCurvature(
            self.x, self.probabilities, self.penalty * factor, 0, self.loss, self.left_aside, self.passes
        )

    def residuals(self, labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
        """rᵢ of the rows with these labels."""
        return self.loss.residuals_of(self.probabilities, labels)

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H applied to rows, each a ``[C D]`` matrix laid flat; all rows of data, no factorisation."""
        directions = rows.to(self.dtype).view(len(rows), self.classes, self.width)
        total = torch.zeros_like(directions)
        size = self.passes.budget.rows(len(rows) * self.classes)
        for own in self.passes.slices(self.n, size):
            x, p = self.x[own].to(self.dtype), self.probabilities[own].to(self.dtype)
            moves = torch.einsum("bd,kcd->kbc", x, directions)
            total += torch.einsum("kbc,bd->kcd", self.loss.apply(p, moves), x)
        return (self.passes.sum(total) / self.n + directions * self.penalty.to(self.dtype)).flatten(1).to(rows)

    def settled(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Rows without what changes nothing: a column without a penalty, moved alike in all classes."""
        free = (self.penalty == 0).nonzero()[:, 0]
        if not self.loss.shift_free or not len(free):
            return rows
        found = rows.clone().view(len(rows), self.classes, self.width)
        found[:, :, free] -= found[:, :, free].mean(1, keepdim=True)
        return found.flatten(1)

    def precise(self) -> "HeadCurvature":
        """The same products in float64, chunk by chunk: the features themselves are not copied."""
        twin = copy(self)
        twin.dtype = torch.float64
        return twin

    def of_sums(self) -> "HeadCurvature":
        """The same products in `dtype_of_sums`."""
        twin = copy(self)
        twin.dtype = self.dtype_of_sums
        return twin

    def _sampled(self) -> tuple[Float[Tensor, "m D"], Float[Tensor, "m K"]]:
        """Features and means of the rows that H is summed over."""
        if self._sample is None:
            return self.x, self.probabilities
        return self.x[self._sample], self.probabilities[self._sample]

    @property
    def dtype_of_sums(self) -> torch.dtype:
        """That of products over rows: float32 if the work is worth it, and Λ large enough for its digits."""
        quick = self._quick and float(self.penalty.max()) >= FLOAT32_PENALTY * self._trace()
        return torch.float32 if quick else self.dtype

    def _trace(self) -> float:
        """Of the mean curvature without Λ: no eigenvalue is larger."""
        some = slice(None, None, max(1, self.n // SOME_ROWS))
        sizes = self.x[some].double().square().sum(1)
        return float((self.loss.trace(self.probabilities[some]).double() * sizes).mean())

    def _least(self, p: Float[Tensor, "m K"]) -> float:
        """The weight below which a pair of classes is taken at its mean in a row: half of `left_aside` is below."""
        if not self.left_aside:
            return 0.0
        some = p[:: max(1, len(p) // SOME_ROWS)]
        pairs = [self.loss.entry(some, c, e).abs() for c in range(self.classes) for e in range(c, self.classes)]
        return bound_of(torch.stack(pairs), self.left_aside / 2)

    def _whole(self) -> Float[Tensor, "p p"]:
        x, p = self._sampled()
        x = x.to(self.dtype_of_sums)
        whole = torch.zeros(self.p, self.p, dtype=torch.float64, device=self.device)
        blocks = whole.view(self.classes, self.width, self.classes, self.width)
        least = self._least(p)
        # Where all classes moved alike change nothing, each row of blocks adds up to nothing: its diagonal is the rest,
        # turned. Of pairs at their mean it is not: self-influence would be off by twice as much.
        apart = int(self.loss.shift_free and not least)
        pairs = [(c, e) for c in range(self.classes) for e in range(c + apart, self.classes)]
        weights = (self.loss.entry(p, c, e) for c, e in pairs)
        if least:
            moments = gram(x, x.new_full((len(x),), 1 / len(x)), self.passes)
            found = grams_of_few(x, ((weight, weight.abs() > least) for weight in weights), moments, self.passes)
        else:
            found = grams(((x, weight / len(x)) for weight in weights), self.passes)
        for (c, e), block in zip(pairs, found, strict=True):
            blocks[c, :, e], blocks[e, :, c] = block, block.T
            if apart:
                blocks[c, :, c] -= block
                blocks[e, :, e] -= block
        whole.diagonal().add_(self.penalty.double().repeat(self.classes))
        if self.loss.shift_free:
            # All classes' biases moved together change nothing: any weight on that direction makes H regular.
            for column in (self.penalty == 0).nonzero()[:, 0].tolist():
                blocks[:, column, :, column] += 1 / self.classes
        return whole

    def factorise(self) -> "FactorisedHead":
        """The inverse of H, or of its class blocks if H is too large. Raises `NumericalError` if H is singular."""
        try:
            return FactorisedHead(self, *self.inner._inverses())
        except RuntimeError as error:  # torch.linalg.LinAlgError is one
            raise NumericalError(
                "The head's curvature cannot be factorised: features are degenerate", "Try a larger --damping."
            ) from error

    def _inverses(self) -> tuple[Float[Tensor, "p p"] | None, ClassBlocks | None]:
        """H⁻¹, or those of its class blocks."""
        if not self.exact:
            x, p = self._sampled()
            return None, ClassBlocks(x, p, self.penalty, self.loss, self.passes)
        whole = self._whole()
        if self._quick and self._trace() <= FLOAT32_SPREAD * float(whole.diagonal().min()):
            whole = whole.float()
        # Both in place: each matrix of this size counts.
        torch.linalg.cholesky(whole, out=whole)
        return torch.cholesky_inverse(whole, out=whole), None


class FactorisedHead:
    """H⁻¹ ready for use: exact as one matrix, or class by class (ranks only, and said so)."""

    def __init__(
        self, curvature: HeadCurvature, inverse: Float[Tensor, "q q"] | None, blocks: ClassBlocks | None
    ) -> None:
        """``inverse`` and ``blocks`` are of ``curvature.inner``."""
        self.curvature, self.inverse, self._blocks = curvature, inverse, blocks

    @property
    def exact(self) -> bool:
        """H is inverted whole; else class by class, which is good for ranks only."""
        return self.inverse is not None

    @property
    def close(self) -> bool:
        """The inverse is of an H that is summed over some rows, or has pairs of classes at their mean."""
        return self.curvature.inner.left_aside > 0 or self.curvature.n > MOST_CURVATURE_ROWS

    def solve(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H⁻¹ of each row; with class blocks it is a preconditioner, not an answer."""
        return self.within(self._solved, rows)

    def within(
        self,
        inner: Callable[[Float[Tensor, "k q"]], Float[Tensor, "k q"]],
        rows: Float[Tensor, "k p"],
        factor: float = 1.0,
    ) -> Float[Tensor, "k p"]:
        """What ``inner`` does in the span of the rows, done to rows; outside of it Λ counts ``factor`` times."""
        space = self.curvature.space
        return inner(rows) if space is None else space.solve(inner, rows, factor)

    def _solved(self, rows: Float[Tensor, "k q"]) -> Float[Tensor, "k q"]:
        if self.inverse is not None:
            return (rows.to(self.inverse) @ self.inverse).to(rows)
        assert self._blocks is not None
        return self._blocks.solve(rows)

    def near(self, factor: float) -> Callable[[Float[Tensor, "k p"]], Float[Tensor, "k p"]]:
        """About (H + (f - 1) Λ)⁻¹ of each row if H is not inverted whole: that of the mean row of data."""
        assert self._blocks is not None
        head = self.curvature.inner
        weights = head.loss.diagonal(head.probabilities).mean(0, dtype=torch.float64)
        directions = Directions.of(self._blocks.moments, head.penalty * factor)
        mean = MeanRow(directions, weights, head.x, head.loss.shift_free)

        def inner(rows: Float[Tensor, "k q"]) -> Float[Tensor, "k q"]:
            return mean(rows.to(head.x).view(len(rows), head.classes, head.width)).flatten(1).to(rows)

        return lambda rows: self.within(inner, rows, factor)

    def scores(
        self,
        logits: Float[Tensor, "n C"],
        labels: Tensor,
        group_size: Tensor | None = None,
        group_residual: Float[Tensor, "n C"] | None = None,
    ) -> HeadScores:
        """Scores of the rows that H was made of.

        ``group_size [n]`` and ``group_residual`` (the summed residuals of rows of equal content) leave whole groups
        out at once, else copies hide one another.
        """
        head = self.curvature.inner
        residuals, logits = head.residuals(labels), logits.to(head.device)
        sizes = (torch.ones_like(labels) if group_size is None else group_size).to(head.device)
        sums = residuals if group_residual is None else group_residual.to(head.device)
        aside = head.left_aside if self.exact else 0.0
        moved = torch.maximum(residuals.abs(), sums.abs())
        counts = torch.maximum(moved, head.loss.diagonal(head.probabilities))
        leave = self._whole(counts, aside) if self.exact else self._by_class(moved)

        def left(leave: Leave, rows: Tensor) -> Left:
            p, r = (values[rows].double() for values in (head.probabilities, residuals))
            return leave(rows, p, r, sums[rows].double(), sizes[rows])

        step = head.passes.budget.rows(max(head.classes**2, head.width) // 4, most=4096)
        numbers = head.passes.parts(head.n, step, head.device)
        parts = [torch.column_stack(left(leave, rows)).to(head.x) for rows in numbers]
        columns = head.passes.collect(parts).split_with_sizes([1, head.classes, head.classes, 1], dim=1)
        owns, rests, moves, traces = (column.contiguous() for column in columns)
        left_out, error = (logits.double() + moves).to(head.x), 0.0
        if aside:
            some = torch.arange(0, head.n, max(1, head.n // MEASURED_ROWS), device=head.device)
            exact = logits[some].double() + left(self._whole(counts, 0.0), some)[2]
            error = float((head.loss.means(exact) - head.loss.means(left_out[some].double())).abs().max())
        return HeadScores(owns[:, 0].cpu(), left_out.cpu(), rests, float(traces.double().mean()), aside, error)

    def _whole(self, counts: Float[Tensor, "n C"], left_aside: float) -> "Leave":
        head, loss = self.curvature.inner, self.curvature.loss
        assert self.inverse is not None
        leverage = Leverage(self.inverse, head.x, counts, left_aside, head.dtype_of_sums)
        identity = torch.eye(head.classes, dtype=torch.float64, device=head.device)

        def leave(rows: Tensor, p: Tensor, r: Tensor, sums: Tensor, sizes: Tensor) -> Left:
            m = leverage(rows).double()
            sm = loss.matrices(p) @ m
            own = torch.einsum("nc,nce,ne->n", r, m, r).clamp_min(0)
            grouped = torch.linalg.solve(identity - sizes[:, None, None] * sm, sums)
            trace = sm.diagonal(dim1=1, dim2=2).sum(1)
            return own, torch.linalg.solve(identity - sm, r), torch.einsum("nce,ne->nc", m, grouped), trace

        return leave

    def _by_class(self, moved: Float[Tensor, "n C"]) -> "Leave":
        assert self._blocks is not None
        diagonals, loss = self._blocks.leverage(self.curvature.inner.x, moved), self.curvature.loss

        def leave(rows: Tensor, p: Tensor, r: Tensor, sums: Tensor, sizes: Tensor) -> Left:
            m = diagonals[rows].double()
            own, trace = (r.square() * m).sum(1), (loss.diagonal(p) * m).sum(1)
            alone = loss.corrected(p, m, r, torch.ones_like(sizes))
            return own, alone, m * loss.corrected(p, m, sums, sizes), trace

        return leave


Left = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of some rows: self-influence, corrected residuals, what leaving them out adds to their logits, tr(Sᵢ Mᵢ)."""
Leave = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Left]
