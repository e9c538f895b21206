"""Labelled rows as the engine reads them, wherever they came from: a scan's forward pass, or tensors in memory."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class RowInputs(Protocol):
    """What the network is given of n rows."""

    @property
    def device(self) -> torch.device:
        """The network's device."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Tensor:
        """The inputs of these rows, stacked, on that device."""


@runtime_checkable
class Rows(Protocol):
    """n rows with a label each, and what the network said of them."""

    def __len__(self) -> int: ...

    @property
    def inputs(self) -> RowInputs:
        """The inputs of the n rows, in their order."""
        ...

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The class of each row."""

    @property
    def logits(self) -> Float[Tensor, "n C"] | None:
        """The network's logits, on the CPU; None without a network."""
