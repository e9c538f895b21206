"""The one door of all loops: which rows are this process's, how its parts become a whole, and how many go through at a
time, which a budget of memory says.

`Alone` is one process with all rows. Several (`processes.Ranks`) deal the rows out in runs, one behind the other: each
goes through its `own`, `sum` adds up what all have found, and `collect` puts what was found of each row in the order of
the rows. What is drawn is drawn alike by all, and what is not dealt out all do alike: they meet at the same sums.
`.ci/house.py` counts loops of engine, stages and experiments beside this door.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.tables import on_disk

T = TypeVar("T")

USUAL = 2**32
"""4 GiB: beyond it chunks grow no larger where that saves nothing."""
LARGEST_BLOCK = 2**22
"""Floats of a temporary that is made again and again: 16 MiB stay in the allocator's hands."""
NETWORK_ROWS = 512
SUM_ROWS = 2_048
"""Rows of one product in float32: few enough for it to keep its digits."""
EACH_ROWS = 2**13
"""Rows of a table that is made of another: what is made on the way is of no more."""


@dataclass(frozen=True)
class Budget:
    """Memory, bytes, that temporaries may take, and a table. Sizes are in floats of four bytes, shares of it."""

    memory: int = USUAL
    largest_table: int | None = None
    """Bytes up to which a table of rows is kept in memory; a larger one lies in a file of the ``folder``."""
    folder: Path | None = None

    def table(self, rows: int, like: Tensor) -> Tensor:
        """An empty table of so many rows like these, ``[rows ...]``."""
        shape = (rows, *like.shape[1:])
        folder = self.folder_of(like[:1].numel() * like.element_size() * rows)
        if folder is None or like.device.type != "cpu":
            return like.new_empty(shape)
        return on_disk(shape, like.dtype, folder)

    def folder_of(self, size: int) -> Path | None:
        """Where a table of so many bytes lies; None: in memory."""
        return None if self.largest_table is None or size <= self.largest_table else self.folder

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
        return self.share(NETWORK_ROWS)

    @property
    def sum_rows(self) -> int:
        """Rows of one product whose sums are added up in float64."""
        return self.share(SUM_ROWS)

    def share(self, usual: int) -> int:
        """``usual`` things at a time, less in proportion if there is less memory than usual."""
        return max(1, min(usual, usual * self.memory // USUAL))

    def rows(self, floats: int, most: int | None = None) -> int:
        """Rows of a block whose temporaries take ``floats`` each."""
        size = max(1, self.block // max(1, floats))
        return size if most is None else min(size, most)


def slices(n: int, size: int, first: int = 0) -> list[slice]:
    """Of n things, ``size`` at a time, from ``first`` on."""
    size = max(1, size)
    return [slice(start, min(start + size, first + n)) for start in range(first, first + n, size)]


def run_of(n: int, number: int, count: int) -> slice:
    """Of n rows dealt out in ``count`` contiguous runs that never pad, the one with this number."""
    return slice(number * n // count, (number + 1) * n // count)


def pieces(values: Tensor, size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """``values``, ``size`` at a time: of what a process has for itself, as columns, directions, or rows dealt already.

    Views, no copies; an empty one if there are none.
    """
    found: tuple[Tensor, ...] = values.split(max(1, size), dim)
    return found


def by_part(run: slice, of: Callable[[slice], Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Some rows of a run at a time, and what ``of`` makes of them ``[b ...]``; one part if there is no row."""
    for rows in slices(run.stop - run.start, EACH_ROWS, run.start) or [run]:
        yield rows, of(rows)


def summed(parts: Iterable[slice], term: Callable[[slice], Tensor]) -> Tensor:
    """The sum of ``term`` over the parts, in float64."""
    return reduce(torch.add, (term(part).double() for part in parts))


@dataclass(frozen=True)
class Passes(ABC):
    """What a loop over n rows asks."""

    budget: Budget = field(default_factory=Budget)
    device: torch.device = field(default_factory=partial(torch.device, "cpu"), kw_only=True)
    """Where products of tables are made."""
    room: int = field(default=0, kw_only=True)
    """Bytes up to which a table is kept there; a larger one stays on the CPU, with all that is made of it."""

    def near(self, table: Tensor) -> Tensor:
        """The table where its products are made."""
        return table.to(self.device) if table.numel() * table.element_size() <= self.room else table

    @abstractmethod
    def own(self, n: int) -> slice:
        """The run of rows that this process goes through, with both ends."""

    @abstractmethod
    def sum(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts."""

    def sums(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """`sum` of each of the parts, all of one type, as they come; several processes add up some at once."""
        return map(self.sum, parts)

    @abstractmethod
    def collect(self, parts: Sequence[Tensor]) -> Tensor:
        """What was found of each row, by all processes, in the order of the rows."""

    number: int = 0
    """Of this process, from 0: the first one writes and reports."""
    count: int = 1
    """How many share the rows."""

    @abstractmethod
    def placed(self, n: int, places: Int[Tensor, " m"], values: Tensor | None) -> Tensor | None:
        """Numbers of n rows, ``[n ...]``, of which this process has those ``values [m ...]`` at these places.

        ``values`` of None: this process has none. None if none has. Of a row that nobody has they mean nothing.
        """

    @abstractmethod
    def each(self, n: int, of: Callable[[slice], Tensor]) -> Tensor:
        """What ``of`` makes of each row, ``[n ...]``: a table of rows that all processes need."""

    @abstractmethod
    def changed(self, values: Tensor, change: Callable[[Tensor], object]) -> Tensor:
        """``values [n ...]`` after ``change`` was made, in place, on each of the rows."""

    @property
    def alone(self) -> "Passes":
        """For what is so little work that all processes do it alike."""
        return self if self.count == 1 else Alone(self.budget, device=self.device, room=self.room)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.number == 0

    def told(self, make: Callable[[], T]) -> T:
        """What the first process makes, and all are told."""
        return make()

    def gathered(self, value: T) -> list[T]:
        """What each process has, in their order."""
        return [value]

    def slices(self, n: int, size: int) -> list[slice]:
        """This process's rows, ``size`` at a time; if there are none an empty part, so that each has one to add."""
        own = self.own(n)
        return slices(own.stop - own.start, size, own.start) or [own]

    def parts(self, n: int, size: int, device: torch.device | None = None) -> tuple[Int[Tensor, " b"], ...]:
        """Numbers of this process's rows, ``size`` at a time."""
        return self.of(torch.arange(n, device=device), size)

    def of(self, rows: Int[Tensor, " m"], size: int) -> tuple[Int[Tensor, " b"], ...]:
        """This process's share of ``rows``, numbers of rows that all processes know, ``size`` at a time.

        No part if it has none of them: a network is never asked about no row.
        """
        own = rows[self.own(len(rows))]
        return pieces(own, size) if len(own) or not len(rows) else ()

    def total(self, n: int, size: int, term: Callable[[slice], Tensor]) -> Tensor:
        """The sum of ``term`` over all rows in float64, each term being that of ``size`` rows."""
        return self.sum(summed(self.slices(n, size), term))

    def spread(self, table: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Mean and standard deviation of each column, float64: squares of large numbers are beyond float32.

        A column that does not move has exactly none.
        """
        n, size, first = len(table), self.budget.sum_rows, table[0].double()
        mean = first + self.total(n, size, lambda rows: (table[rows].double() - first).sum(0)) / n
        squares = self.total(n, size, lambda rows: (table[rows].double() - mean).square().sum(0))
        return mean, (squares / n).sqrt()


@dataclass(frozen=True)
class Alone(Passes):
    """One process: all rows are its own."""

    def own(self, n: int) -> slice:
        return slice(0, n)

    def sum(self, part: Tensor) -> Tensor:
        return part

    def collect(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def placed(self, n: int, places: Int[Tensor, " m"], values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        whole = self.budget.table(n, values)
        whole[places] = values
        return whole

    def each(self, n: int, of: Callable[[slice], Tensor]) -> Tensor:
        parts = by_part(self.own(n), of)
        first = next(parts)
        if n <= EACH_ROWS:
            return first[1]
        whole = self.budget.table(n, first[1])
        for rows, part in chain([first], parts):
            whole[rows] = part
        return whole

    def changed(self, values: Tensor, change: Callable[[Tensor], object]) -> Tensor:
        change(values)
        return values


ALONE = Alone()
