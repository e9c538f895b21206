"""Sums over rows and quadratic forms of each row, for every pair of classes that weighs enough in the row.

Most pairs of classes weigh next to nothing in most rows. With a bound they are taken at their mean: what is left aside
is a stated share of all weight. Knows matrices only; `head` says what they are of.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curate.engine.passes import ALONE, SUM_ROWS, Passes, slices

STRIPS = 4
"""A symmetric matrix is made, and a quadratic form taken, in as many strips, of each only what is not below it: five
eighths of the work."""


Weighted = tuple[Float[Tensor, "m D"], Float[Tensor, " m"]]
"""Rows, and a weight of each."""


def gram(x: Float[Tensor, "n D"], weight: Float[Tensor, " n"], passes: Passes = ALONE) -> Float[Tensor, "D D"]:
    """Σ wᵢ xᵢ xᵢᵀ: each chunk's sum in x's own precision, the sum of chunks in float64."""
    return next(grams([(x, weight)], passes))


def grams(terms: Iterable[Weighted], passes: Passes = ALONE) -> Iterator[Float[Tensor, "D D"]]:
    """`gram` of each of the terms, in their order; processes add up as many at once as a chunk holds."""

    def own() -> Iterator[Weighted]:
        for x, weight in terms:
            rows = passes.own(len(x))
            yield x[rows], weight[rows]

    return _grams_of_own(own(), passes)


def _grams_of_own(terms: Iterable[Weighted], passes: Passes) -> Iterator[Float[Tensor, "D D"]]:
    """The same where the terms have this process's rows alone."""
    return passes.sums(_gram_of_own(x, weight, passes.budget.sum_rows) for x, weight in terms)


def _gram_of_own(x: Float[Tensor, "m D"], weight: Float[Tensor, " m"], size: int) -> Float[Tensor, "D D"]:
    width = x.shape[1]
    total = x.new_zeros(width, width, dtype=torch.float64)
    weight = weight.to(x)
    for rows in slices(len(x), size):
        part = x[rows]
        weighted = (part * weight[rows, None]).T
        for strip in slices(width, math.ceil(width / STRIPS)):
            total[strip, strip.start :] += (weighted[strip] @ part[:, strip.start :]).double()
    upper = total.triu_()
    return upper + upper.triu(1).T


def grams_of_few(
    x: Float[Tensor, "n D"],
    weights: Iterable[tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]],
    moments: Float[Tensor, "D D"],
    passes: Passes = ALONE,
) -> Iterator[Float[Tensor, "D D"]]:
    """For each of the weights the mean of wᵢ xᵢ xᵢᵀ, where it is not much by their mean weight.

    With each weight stands where it is much; ``moments`` is the mean of xᵢ xᵢᵀ.
    """
    rests: deque[float] = deque()

    def terms() -> Iterator[Weighted]:
        for weight, much in weights:
            rests.append(float(weight[~much].double().mean()) if not bool(much.all()) else 0.0)
            rows = much.nonzero()[:, 0]
            rows = rows[passes.own(len(rows))]
            yield x[rows], (weight[rows] - rests[-1]) / len(x)

    for found in _grams_of_own(terms(), passes):
        yield rests.popleft() * moments + found


def bound_of(weights: Float[Tensor, "..."], share: float) -> float:
    """The size below which weights hold ``share`` of them all together."""
    ordered = weights.flatten().double().sort().values
    total = ordered.cumsum(0)
    return float(ordered[int((total < share * total[-1]).sum())])


class Leverage:
    """Rows to Mᵢ = (1/n) Xᵢᵀ H⁻¹ Xᵢ of each, ``[b C C]``.

    With ``left_aside`` a pair of classes that weighs little in a row is taken as large as it is on the mean of all
    rows, times how large the row is by the mean of the diagonal blocks.
    """

    def __init__(
        self,
        inverse: Float[Tensor, "p p"],
        x: Float[Tensor, "n D"],
        weights: Float[Tensor, "n C"],
        left_aside: float,
        dtype: torch.dtype,
    ) -> None:
        """``inverse`` is H⁻¹, ``weights`` how much each class counts in a row; ``dtype`` that of the products."""
        self.n, width, self.classes = len(x), x.shape[1], weights.shape[1]
        self._x, self._weights, self._dtype = x, weights, dtype
        blocks = inverse.view(self.classes, width, self.classes, width)
        self._pairs = [(c, e) for c in range(self.classes) for e in range(c, self.classes)]
        self._blocks = {(c, e): _upper(blocks[c, :, e].to(dtype)) for c, e in self._pairs}
        self._least = 0.0
        if left_aside:
            some = slice(None, None, max(1, self.n // (2 * SUM_ROWS)))
            self._least = bound_of(weights[some, :, None] * weights[some, None, :], left_aside)
            rows = x[some].double()
            moments = (rows.T @ rows / len(rows)).to(blocks)
            mean = torch.stack([blocks[c, :, c] for c in range(self.classes)]).mean(0)
            sizes = torch.einsum("cdef,df->ce", blocks, moments)
            self._shape = (sizes / (mean * moments).sum()).to(dtype)
            self._mean = _upper(mean.to(dtype))

    def __call__(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b C C"]:
        """Of these rows, in the precision of the products."""
        x, weights = self._x[rows].to(self._dtype), self._weights[rows]
        m = x.new_zeros(len(x), self.classes, self.classes)
        if self._least:
            m += self._form(x, self._mean)[:, None, None] * self._shape
        for (c, e), block in self._blocks.items():
            which = (weights[:, c] * weights[:, e] > self._least).nonzero()[:, 0] if self._least else slice(None)
            value = self._form(x[which], block)
            m[which, c, e] = value
            m[which, e, c] = value
        return m

    def _form(self, x: Float[Tensor, "b D"], upper: Float[Tensor, "D D"]) -> Float[Tensor, " b"]:
        width, total = x.shape[1], x.new_zeros(len(x))
        for strip in slices(width, math.ceil(width / STRIPS)):
            total += ((x[:, : strip.stop] @ upper[: strip.stop, strip]) * x[:, strip]).sum(1)
        return total / self.n


def _upper(block: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """The upper triangle whose quadratic form is that of the block."""
    return block.triu() + block.tril(-1).T
