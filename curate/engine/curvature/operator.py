"""What a curvature is to a solver: a symmetric map on rows of parameters, positive semi-definite but for a Hessian.

Rows everywhere: ``operator @ rows`` maps ``[k p]`` to ``[k p]``. Knows no network and no solver.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.passes import ALONE, Passes, pieces, slices
from curate.errors import NumericalError

WRITTEN_FLOATS = 2**27
"""Size of a factor that is written down for its products, 512 MiB in float32. Not of the budget of memory: a stochastic
solver draws from what is written, and would give other numbers."""
ESTIMATED_ROWS = 1_024
"""Rows that are drawn for at a time: another number would draw others."""
GRAM_COLUMNS = 4096
"""Columns of one product of a Gram matrix: few enough for float32 to keep its digits."""
GRAM_STRIP = 512
"""Its rows that are made at a time."""


class Operator(ABC):
    """A symmetric map C on vectors of length ``p``."""

    p: int
    name: str
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    passes: Passes = ALONE
    """How its rows of data go through, and the memory that they may take."""
    definite = True
    """Whether no eigenvalue can be negative."""

    @abstractmethod
    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """C applied to each row."""

    def precise(self) -> "Operator":
        """The same map computed in float64."""
        return self


class Sampled(Operator):
    """An operator that is a mean over n rows of data, and can be estimated from some of them."""

    n: int

    @cached_property
    def looked(self) -> dict[tuple[int, int], tuple[int, float]]:
        """What solvers saw of its spectrum, by batch and seed: the batch that it takes, the largest eigenvalue."""
        return {}

    @abstractmethod
    def factor(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b p"]:
        """G with E[Gᵀ G / b] = C over the draw of the rows and of the generator; ``b`` rows for ``b`` indices."""

    @abstractmethod
    def on(self, indices: Tensor) -> Operator:
        """The mean over these rows only, without sampling noise."""

    def gram_of(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b b"]:
        """G Gᵀ in float64, of the G that `factor` draws."""
        return gram(self.factor(indices, generator))

    def batch(self, indices: Tensor, generator: torch.Generator) -> Operator:
        """A cheap unbiased estimate of C from these rows, for a stochastic solver."""
        return Dense(self.factor(indices, generator), self.name)

    def estimate(self, rows: Float[Tensor, "k p"], generator: torch.Generator) -> Float[Tensor, "k p"]:
        """An unbiased estimate of C applied to rows, from one pass over all the data."""
        total = torch.zeros_like(rows)
        for part in pieces(torch.arange(self.n, device=self.device), ESTIMATED_ROWS):
            total += (self.batch(part, generator) @ rows) * (len(part) / self.n)
        return total


class Explicit(ABC):
    """An operator whose whole factor F, C = Fᵀ F / m, can be written down where it is small."""

    @property
    @abstractmethod
    def factor_rows(self) -> int:
        """m, the rows of F."""

    @abstractmethod
    def whole_factor(self) -> Float[Tensor, "m p"]:
        """F, scaled so that C = Fᵀ F / m."""

    def summed(self) -> Float[Tensor, "p p"]:
        """C itself, in float64."""
        factor = self.whole_factor().double()
        return factor.T @ factor / len(factor)

    @cached_property
    def written(self) -> "Dense":
        """The same map by its whole factor, made once."""
        assert isinstance(self, Operator)
        return Dense(self.whole_factor(), self.name)


def gram(factor: Float[Tensor, "m p"], dtype: torch.dtype | None = None) -> Float[Tensor, "m m"]:
    """F Fᵀ in float64: products of some columns at a time in ``dtype``, by default F's own, their sum in float64.

    Strip by strip, of each only what is not left of the diagonal: half of the work.
    """
    total = torch.zeros(len(factor), len(factor), dtype=torch.float64, device=factor.device)
    for part in pieces(factor, GRAM_COLUMNS, dim=1):
        part = part.to(dtype or part.dtype).contiguous()
        for strip in slices(len(part), GRAM_STRIP):
            total[strip, strip.start :] += part[strip] @ part[strip.start :].T
    for strip in slices(len(total), GRAM_STRIP):
        total[strip.stop :, strip] = total[strip, strip.stop :].T
    return total


def refuse_not_finite(values: Tensor) -> None:
    """Raises `NumericalError` where ``values``, made of gradients, are no numbers."""
    if not bool(torch.isfinite(values).all()):
        raise NumericalError(
            "The curvature is not finite on some rows",
            "Are the inputs on the scale of training? Try --params head, or a larger --damping.",
        )


class Damped(Operator):
    """C + damping · I, which is what every solver solves with."""

    def __init__(self, inner: Operator, damping: float) -> None:
        self.inner, self.damping = inner, damping
        self.p, self.name, self.dtype, self.device = inner.p, inner.name, inner.dtype, inner.device
        self.definite = inner.definite

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        return (self.inner @ rows).add_(rows, alpha=self.damping)


class Dense(Sampled, Explicit):
    """An explicit matrix ``(1/n) Fᵀ F`` from its factor ``[n p]``: the exact twin in the law tests."""

    def __init__(
        self, factor: Float[Tensor, "n p"], name: str = "dense", gram: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """``gram`` makes F Fᵀ of F if there is a shorter way than to multiply."""
        self._factor, self.name, self._of_factor = factor, name, gram
        self.n, self.p = factor.shape
        self.dtype, self.device = factor.dtype, factor.device

    def __matmul__(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        directions = rows.to(self.dtype)
        return ((directions @ self._factor.T) @ self._factor / self.n).to(rows)

    def precise(self) -> "Dense":
        return Dense(self._factor.double(), self.name)

    def factor(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b p"]:
        return self._factor[indices]

    @cached_property
    def gram(self) -> Float[Tensor, "n n"]:
        """F Fᵀ, in the factor's own type."""
        return (self._of_factor or gram)(self._factor).to(self.dtype)

    @property
    def gram_known(self) -> bool:
        """Whether `gram` was asked for before."""
        return "gram" in self.__dict__

    def gram_of(self, indices: Tensor, generator: torch.Generator) -> Float[Tensor, "b b"]:
        return self.gram[indices][:, indices].double() if self.gram_known else super().gram_of(indices, generator)

    @property
    def factor_rows(self) -> int:
        return self.n

    def whole_factor(self) -> Float[Tensor, "m p"]:
        return self._factor

    def on(self, indices: Tensor) -> "Dense":
        return Dense(self._factor[indices], self.name)


def with_gram(operator: Operator) -> Dense | None:
    """The same map by its whole factor if that is written down, and its F Fᵀ known: of these a sample costs nothing."""
    written = operator if isinstance(operator, Dense) else operator.__dict__.get("written")
    return written if isinstance(written, Dense) and written.gram_known else None


def written_down(operator: Operator) -> Operator:
    """The same map by its whole factor where that is small: a product is then two of matrices, with no network in it.

    A network whose layers are mapped one direction at a time gains a hundredfold.
    """
    if isinstance(operator, Dense) or not isinstance(operator, Explicit):
        return operator
    return operator.written if operator.factor_rows * operator.p <= WRITTEN_FLOATS else operator
