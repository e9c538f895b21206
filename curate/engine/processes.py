"""Several processes as one, by torch.distributed: rows in contiguous runs that never pad, sums, and tables of all rows.

A table of all rows is held once a machine, in memory that its processes share, or in a file if it is too large for
memory: each writes its own rows, and all read it, so that it takes a share of its size of each. Who changes it gets
pages of its own. On GPUs each process holds one, and rows go from GPU to GPU. Knows tensors and the group of processes
that somebody joined (`stages.joining`); leaves to others who they are and what happens if one is lost.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor

from curate.engine.passes import Passes, by_part, run_of
from curate.engine.tables import nameless_file

T = TypeVar("T")
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8, torch.bool),
)
"""By number, as processes tell one another."""
MOST_DIMENSIONS = 6
LONGEST_NAME = 256


class Form(NamedTuple):
    """What a process has of a table."""

    rows: int
    of: tuple[torch.dtype, list[int], str] | None
    """Type, shape and kind of device of a row; None if it has none and cannot tell."""


@dataclass(frozen=True)
class Ranks(Passes):
    """One of several processes. All of them ask for the same sums and tables, in the same order."""

    here: tuple[int, ...] = (0,)
    """Numbers of the processes that share this machine's memory, this one among them."""
    waits: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered as long as this process waits for the others."""

    def own(self, n: int) -> slice:
        return run_of(n, self.number, self.count)

    def sum(self, part: Tensor) -> Tensor:
        whole = part.clone(memory_format=torch.contiguous_format)
        with self.waits():
            dist.all_reduce(whole)
        return whole

    def sums(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        waiting, numbers = list[Tensor](), 0
        for part in parts:
            waiting.append(part)
            numbers += part.numel()
            if numbers + part.numel() > self.budget.chunk // 2:  # they are in float64
                yield from self._summed(waiting)
                waiting, numbers = [], 0
        yield from self._summed(waiting)

    def _summed(self, parts: list[Tensor]) -> Iterator[Tensor]:
        """The sum of each, by one that goes over all numbers."""
        if not parts:
            return
        whole = self.sum(torch.cat([part.flatten() for part in parts]))
        for part, found in zip(parts, whole.split_with_sizes([part.numel() for part in parts]), strict=True):
            yield found.view(part.shape)

    def collect(self, parts: Sequence[Tensor]) -> Tensor:
        own = torch.cat(list(parts)) if parts else None
        forms = self._forms(own, 0 if own is None else len(own))
        start = sum(form.rows for form in forms[: self.number])
        places = torch.arange(start, start + forms[self.number].rows)
        found = self._together(sum(form.rows for form in forms), places, forms, _rows_to(places, own))
        assert found is not None, "no process has a row, or an empty table"
        return found

    def each(self, n: int, of: Callable[[slice], Tensor]) -> Tensor:
        own = self.own(n)
        parts = by_part(own, of) if own.stop > own.start or not n else iter(())
        first = next(parts, None)

        def write(whole: Tensor) -> None:
            for rows, part in chain([] if first is None else [first], parts):
                whole[rows] = part

        forms = self._forms(None if first is None else first[1], own.stop - own.start)
        found = self._together(n, torch.arange(n)[own], forms, write)
        assert found is not None
        return found

    def changed(self, values: Tensor, change: Callable[[Tensor], object]) -> Tensor:
        def of(rows: slice) -> Tensor:
            part = values[rows].clone()
            change(part)
            return part

        return self.each(len(values), of)

    def placed(self, n: int, places: Int[Tensor, " m"], values: Tensor | None) -> Tensor | None:
        return self._together(n, places, self._forms(values, len(places)), _rows_to(places, values))

    def told(self, make: Callable[[], T]) -> T:
        box = [make() if self.first else None]
        with self.waits():
            dist.broadcast_object_list(box)
        found: T = box[0]  # type: ignore[assignment]
        return found

    def gathered(self, value: T) -> list[T]:
        found: list[T] = [value] * self.count
        with self.waits():
            dist.all_gather_object(found, value)
        return found

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.sum(torch.zeros(1))

    def _forms(self, values: Tensor | None, rows: int) -> list[Form]:
        """What each process has: so many rows like these ``values``, or None."""
        told = torch.full((4 + MOST_DIMENSIONS,), -1)
        told[0] = 0
        if values is not None:
            told[:4] = torch.tensor([rows, DTYPES.index(values.dtype), values.device.type == "cuda", values.dim() - 1])
            told[4 : 3 + values.dim()] = torch.tensor(values.shape[1:])
        return [
            Form(rows, None if kind < 0 else (DTYPES[kind], shape[:dimensions], "cuda" if on_gpu else "cpu"))
            for rows, kind, on_gpu, dimensions, *shape in self._exchange(told).tolist()
        ]

    def _exchange(self, told: Int[Tensor, " k"]) -> Int[Tensor, "ranks k"]:
        """Some numbers of each process."""
        found = [torch.empty_like(told) for _ in range(self.count)]
        with self.waits():
            dist.all_gather(found, told)
        return torch.stack(found)

    def _together(
        self, n: int, places: Int[Tensor, " m"], forms: list[Form], write: Callable[[Tensor], object]
    ) -> Tensor | None:
        """A table of n rows that all processes ``write`` their own into, those at ``places``; None if none has any."""
        known = {repr(form.of): form.of for form in forms if form.of is not None}
        if len(known) > 1:
            raise ValueError(f"the processes have rows of different shapes: {', '.join(known)}")
        for dtype, rest, device in known.values():
            counts = [form.rows for form in forms]
            if device == "cpu":
                return self._filled([n, *rest], dtype, places, counts, write)
            where = torch.device(device, torch.cuda.current_device())
            return self._sent(torch.empty(n, *rest, dtype=dtype, device=where), places, counts, write)
        return None

    def _sent(
        self, whole: Tensor, places: Int[Tensor, " m"], counts: list[int], write: Callable[[Tensor], object]
    ) -> Tensor:
        """``whole`` once all have sent one another their rows: each keeps a table of its own, on its device."""
        write(whole)
        for other in range(self.count):
            self._carry(other, whole, places, counts)
        return whole

    def _filled(
        self,
        shape: list[int],
        dtype: torch.dtype,
        places: Int[Tensor, " m"],
        counts: list[int],
        write: Callable[[Tensor], object],
    ) -> Tensor:
        """A table that all processes have written their rows into, on the CPU."""
        size = torch.Size(shape).numel() * dtype.itemsize
        if not size:
            return torch.empty(shape, dtype=dtype)
        leads = self.here[0] == self.number
        memory = SharedMemory.of_size(size, self.budget.folder_of(size)) if leads else None
        names = self._exchange(torch.tensor(list((memory.name if memory else "").encode().ljust(LONGEST_NAME))))
        memory = memory or SharedMemory(bytes(names[self.here[0]].tolist()).decode().rstrip(), size)
        whole = memory.shared(dtype).view(shape)
        write(whole)
        for other in range(self.count) if len(self.here) < self.count else ():
            self._carry(other, whole, places, counts, kept=leads and other not in self.here)
        self.meet()  # all have written, and all have it open
        return memory.own(dtype).view(shape)

    def _carry(
        self, other: int, whole: Tensor, places: Int[Tensor, " m"], counts: list[int], *, kept: bool = True
    ) -> None:
        """Send this process's rows of ``whole`` to all, or take those of another one, maybe on another machine."""
        if not counts[other]:
            return
        mine = other == self.number
        rows = places.contiguous() if mine else torch.empty(counts[other], dtype=torch.long)
        part = whole[rows] if mine else whole.new_empty(counts[other], *whole.shape[1:])
        with self.waits():
            dist.broadcast(rows, other)
            dist.broadcast(part.flatten().view(torch.uint8), other)
        if kept and not mine:
            whole[rows] = part


def _rows_to(places: Int[Tensor, " m"], values: Tensor | None) -> Callable[[Tensor], object]:
    """What writes these rows ``[m ...]`` into a table, at their places."""

    def write(whole: Tensor) -> None:
        if values is not None:
            whole[places] = values.to(whole.device)

    return write


class SharedMemory:
    """Memory under a name by which other processes of this machine find it; gone with the last who has it open."""

    def __init__(self, name: str, size: int, file: int | None = None) -> None:
        self.name, self._size = name, size
        self._file = os.open(name, os.O_RDWR) if file is None else file
        self._made = file is not None

    @classmethod
    def of_size(cls, size: int, folder: Path | None = None) -> "SharedMemory":
        """New memory, or a file of the ``folder``. On Linux it has no name, so that nothing stays behind if a process
        is killed."""
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("curate") if folder is None else nameless_file(size, folder)
            name = f"/proc/{os.getpid()}/fd/{file}"
        else:
            file, name = tempfile.mkstemp(prefix="curate-", dir=folder)
        os.ftruncate(file, size)
        return cls(name, size, file)

    def shared(self, dtype: torch.dtype) -> Tensor:
        """All of it, to be written."""
        return torch.frombuffer(mmap.mmap(self._file, self._size), dtype=dtype)

    def own(self, dtype: torch.dtype) -> Tensor:
        """All of it, to be read: pages that are changed from now on are this process's own. The name is let go of."""
        private = mmap.mmap(self._file, self._size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        os.close(self._file)
        if self._made and not self.name.startswith("/proc/"):
            os.unlink(self.name)
        return torch.frombuffer(private, dtype=dtype)
