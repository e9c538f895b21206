"""Is the checkpoint a minimum, and of what? Influence assumes that the gradient of the training loss is zero there.

At a minimum with an L2 penalty ½ λ |θ|² the gradient of the bare loss is -λ θ: from its component along the parameters
the penalty can be read, and what is left of it says how far away the minimum is.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

SURE = 0.9
"""Cosine between the gradient and -θ from which the penalty is believed: a random direction has about 1/√p."""


AT_MINIMUM = 0.9999
"""The same from which the checkpoint is the minimum itself: what is left of the gradient is 1.4 % of it."""


@dataclass(frozen=True)
class Gradient:
    """Of the mean training loss at the checkpoint, without any penalty."""

    flat: Float[Tensor, " p"]
    size: float
    parameters: float
    """Length of θ."""
    cosine: float
    """With -θ: near 1 where training ended at a minimum with an L2 penalty."""
    penalty: float
    """λ that leaves least of the gradient, at least 0: of ½ λ |θ|² on the mean loss."""

    @classmethod
    def of(cls, flat: Float[Tensor, " p"], parameters: Float[Tensor, " p"]) -> "Gradient":
        """Measured, in float64, on the gradient ``flat`` and the parameters θ that it was taken at."""
        flat, parameters = flat.double(), parameters.to(flat).double()
        size, length = float(flat.norm()), float(parameters.norm())
        along = -float(flat @ parameters)
        cosine = along / (size * length) if size > 0 and length > 0 else 0.0
        return cls(flat, size, length, cosine, max(0.0, along / length**2) if length > 0 else 0.0)

    @property
    def known_penalty(self) -> float:
        """The penalty if it can be read off the gradient, else 0."""
        return self.penalty if self.cosine >= SURE else 0.0

    @property
    def at_minimum(self) -> bool:
        """Whether the checkpoint is a minimum with a penalty, and not only on its way to one."""
        return self.cosine >= AT_MINIMUM
