"""Several processes as one, by torch.distributed: rows in contiguous runs that never pad, sums, and tables of all rows.

A table of all rows is held once a machine, in memory that its processes share: each writes its own rows, and all read
it, so that it takes a share of its size of each. Who changes it gets pages of its own. On GPUs each process holds one,
and rows go from GPU to GPU. Knows tensors and the group of
processes that somebody joined (`stages.joining`); leaves to others who they are and what happens if one is lost.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor

from curate.engine.passes import Passes, filled, run_of

T = TypeVar("T")
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8, torch.bool),
)
"""By number, as processes tell one another."""
MOST_DIMENSIONS = 6
LONGEST_NAME = 256


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
        counts = [0 if form is None else form[1][0] for form in self._forms(own)]
        start = sum(counts[: self.number])
        found = self.placed(sum(counts), torch.arange(start, start + counts[self.number]), own)
        assert found is not None, "no process has a row, or an empty table"
        return found

    def each(self, n: int, of: Callable[[slice], Tensor]) -> Tensor:
        own = self.own(n)
        found = self.placed(
            n, torch.arange(n)[own], filled(own, of, self.budget) if own.stop > own.start or not n else None
        )
        assert found is not None
        return found

    def changed(self, values: Tensor, change: Callable[[Tensor], object]) -> Tensor:
        def of(rows: slice) -> Tensor:
            part = values[rows].clone()
            change(part)
            return part

        return self.each(len(values), of)

    def placed(self, n: int, places: Int[Tensor, " m"], values: Tensor | None) -> Tensor | None:
        forms = self._forms(values)
        known = [form for form in forms if form is not None]
        if not known:
            return None
        dtype, (_, *rest), device = known[0]
        if any((form[0], form[1][1:]) != (dtype, rest) for form in known):
            raise ValueError("the processes have rows of different shapes")
        counts = [0 if form is None else form[1][0] for form in forms]
        if device == "cpu":
            return self._filled([n, *rest], dtype, places, values, counts)
        where = torch.device(device, torch.cuda.current_device())
        return self._sent(torch.empty(n, *rest, dtype=dtype, device=where), places, values, counts)

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

    def _forms(self, values: Tensor | None) -> list[tuple[torch.dtype, list[int], str] | None]:
        """Type, shape and kind of device of what each process has; None of one that has nothing."""
        told = torch.full((3 + MOST_DIMENSIONS,), -1)
        if values is not None:
            told[:3] = torch.tensor([DTYPES.index(values.dtype), values.device.type == "cuda", values.dim()])
            told[3 : 3 + values.dim()] = torch.tensor(values.shape)
        return [
            None if kind < 0 else (DTYPES[kind], shape[:dimensions], "cuda" if on_gpu else "cpu")
            for kind, on_gpu, dimensions, *shape in self._exchange(told).tolist()
        ]

    def _exchange(self, told: Int[Tensor, " k"]) -> Int[Tensor, "ranks k"]:
        """Some numbers of each process."""
        found = [torch.empty_like(told) for _ in range(self.count)]
        with self.waits():
            dist.all_gather(found, told)
        return torch.stack(found)

    def _sent(self, whole: Tensor, places: Int[Tensor, " m"], values: Tensor | None, counts: list[int]) -> Tensor:
        """``whole`` once all have sent one another their rows: each keeps a table of its own, on its device."""
        for other, count in enumerate(counts):
            if count:
                form = ([count, *whole.shape[1:]], whole.dtype, whole.device)
                rows, part = self._from_afar(other, places, values, form)
                whole[rows] = part
        return whole

    def _filled(
        self, shape: list[int], dtype: torch.dtype, places: Int[Tensor, " m"], values: Tensor | None, counts: list[int]
    ) -> Tensor:
        """A table that all processes have written their rows into, on the CPU."""
        size = torch.Size(shape).numel() * dtype.itemsize
        if not size:
            return torch.empty(shape, dtype=dtype)
        leads = self.here[0] == self.number
        memory = SharedMemory.of_size(size) if leads else None
        names = self._exchange(torch.tensor(list((memory.name if memory else "").encode().ljust(LONGEST_NAME))))
        memory = memory or SharedMemory(bytes(names[self.here[0]].tolist()).decode().rstrip(), size)
        whole = memory.shared(dtype).view(shape)
        if values is not None:
            whole[places] = values.cpu()
        for other in range(self.count) if len(self.here) < self.count else ():
            if counts[other]:
                form = ([counts[other], *shape[1:]], dtype, whole.device)
                rows, part = self._from_afar(other, places, values, form)
                if leads and other not in self.here:
                    whole[rows] = part
        self.meet()  # all have written, and all have it open
        return memory.own(dtype).view(shape)

    def _from_afar(
        self,
        other: int,
        places: Int[Tensor, " m"],
        values: Tensor | None,
        form: tuple[list[int], torch.dtype, torch.device],
    ) -> tuple[Int[Tensor, " o"], Tensor]:
        """Places, and rows of this form, of a process that may be on another machine."""
        shape, dtype, device = form
        mine = other == self.number and values is not None
        rows = places.contiguous() if mine else torch.empty(shape[0], dtype=torch.long)
        there = values.to(device).contiguous() if mine and values is not None else None
        part = torch.empty(shape, dtype=dtype, device=device) if there is None else there
        with self.waits():
            dist.broadcast(rows, other)
            dist.broadcast(part.flatten().view(torch.uint8), other)
        return rows, part


class SharedMemory:
    """Memory under a name by which other processes of this machine find it; gone with the last who has it open."""

    def __init__(self, name: str, size: int, file: int | None = None) -> None:
        self.name, self._size = name, size
        self._file = os.open(name, os.O_RDWR) if file is None else file
        self._made = file is not None

    @classmethod
    def of_size(cls, size: int) -> "SharedMemory":
        """New memory. On Linux no file system holds it, so that nothing stays behind if a process is killed."""
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("curate")
            name = f"/proc/{os.getpid()}/fd/{file}"
        else:
            file, name = tempfile.mkstemp(prefix="curate-")
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
