"""The space that a head's rows span: with fewer rows than columns, all that they can move lies in it.

The gradient of a row at a linear head is its residual times the row, and the curvature is a sum of such products
beside Λ. So H maps the span of the rows into itself, and is Λ alone outside of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class RowSpace:
    """An orthonormal ``basis [d r]`` of rows ``[n D]`` in the ``columns [D]`` that share the penalty ``shared`` > 0."""

    basis: Float[Tensor, "d r"]
    columns: Bool[Tensor, " D"]
    shared: float
    penalty: Float[Tensor, " q"]
    """Λ's diagonal of the narrowed rows: the basis first, then the other columns."""

    @staticmethod
    def pays(n: int, penalty: Float[Tensor, " D"]) -> bool:
        """Whether n rows are fewer than the columns that share the first column's penalty, and there is one."""
        return n < int((penalty == penalty[0]).sum()) and float(penalty[0]) > 0

    @classmethod
    def of(cls, x: Float[Tensor, "n D"], penalty: Float[Tensor, " D"]) -> "RowSpace":
        """That of these rows, of which `pays` holds."""
        columns = penalty == penalty[0]
        basis = torch.linalg.qr(x[:, columns].double().T).Q.to(x)
        narrow = torch.cat([penalty[columns][: basis.shape[1]], penalty[~columns]])
        return cls(basis, columns, float(penalty[0]), narrow)

    def narrow(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... q"]:
        """Rows in the basis, the other columns behind it."""
        return torch.cat([x[..., self.columns] @ self.basis.to(x), x[..., ~self.columns]], dim=-1)

    def widen(self, x: Float[Tensor, "... q"]) -> Float[Tensor, "... D"]:
        """Back: `narrow` of it is what was given, and nothing of it is outside of the span."""
        found = x.new_empty(*x.shape[:-1], len(self.columns))
        found[..., self.columns] = x[..., : self.basis.shape[1]] @ self.basis.to(x).T
        found[..., ~self.columns] = x[..., self.basis.shape[1] :]
        return found

    def solve(
        self, inner: Callable[[Float[Tensor, "k s"]], Float[Tensor, "k s"]], rows: Float[Tensor, "k p"], factor: float
    ) -> Float[Tensor, "k p"]:
        """H⁻¹ of rows, each a ``[C D]`` matrix laid flat, Λ taken ``factor`` times; ``inner`` is it in the span."""
        wide = rows.view(len(rows), -1, len(self.columns))
        narrow = self.narrow(wide)
        solved = inner(narrow.flatten(1)).view_as(narrow)
        outside = wide - self.widen(narrow)  # none of it in the columns that are kept
        return (self.widen(solved) + outside / (factor * self.shared)).flatten(1)
