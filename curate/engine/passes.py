"""The one door of all loops over rows: which rows are this process's, how its parts become a whole, and how many rows
go through at a time, which a budget of memory says.

`Alone` is one process with all rows. Several would deal the rows out and add up what each has found.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

USUAL = 2**32
"""4 GiB: beyond it chunks grow no larger where that saves nothing."""
LARGEST_BLOCK = 2**22
"""Floats of a temporary that is made again and again: 16 MiB stay in the allocator's hands."""
NETWORK_ROWS = 512
SUM_ROWS = 2_048
"""Rows of one product in float32: few enough for it to keep its digits."""


@dataclass(frozen=True)
class Budget:
    """Memory, bytes, that temporaries may take. Sizes are in floats of four bytes, shares of it."""

    memory: int = USUAL

    @property
    def block(self) -> int:
        """Of a temporary of an inner loop."""
        return max(1, min(LARGEST_BLOCK, self.memory // 2**10))

    @property
    def chunk(self) -> int:
        """Of the gradients of a chunk of rows, or a layer's outputs along directions: a thirty-second."""
        return max(1, self.memory // 2**7)

    @property
    def batch(self) -> int:
        """Of the gradients of one batch of a stochastic solver: a quarter."""
        return max(1, self.memory // 2**4)

    @property
    def network_rows(self) -> int:
        """Rows that go through a network at a time, with what it keeps of them for its derivatives."""
        return max(1, min(NETWORK_ROWS, NETWORK_ROWS * self.memory // USUAL))

    def rows(self, floats: int, most: int | None = None) -> int:
        """Rows of a block whose temporaries take ``floats`` each."""
        size = max(1, self.block // max(1, floats))
        return size if most is None else min(size, most)


@dataclass(frozen=True)
class Passes(ABC):
    """What a loop over n rows asks."""

    budget: Budget = field(default_factory=Budget)

    @abstractmethod
    def mine(self, n: int) -> Int[Tensor, " m"]:
        """Numbers of the rows that this process goes through."""

    @abstractmethod
    def sum(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts."""

    @abstractmethod
    def collect(self, parts: list[Tensor]) -> Tensor:
        """What was found of each row, by all processes, in the order of the rows."""

    def parts(self, n: int, size: int, device: torch.device | None = None) -> tuple[Int[Tensor, " b"], ...]:
        """This process's rows, ``size`` at a time."""
        found: tuple[Tensor, ...] = self.mine(n).to(device or torch.device("cpu")).split(max(1, size))
        return found


@dataclass(frozen=True)
class Alone(Passes):
    """One process: all rows are its own."""

    def mine(self, n: int) -> Int[Tensor, " n"]:
        return torch.arange(n)

    def sum(self, part: Tensor) -> Tensor:
        return part

    def collect(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts)


ALONE = Alone()
