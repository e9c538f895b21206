"""One pass over a data set: content hashes, features, logits. Resumes where an earlier pass was interrupted.

Knows how rows become batches and what of them is kept: ``[n d]`` features and ``[n C]`` logits in memory, the inputs
only as far as `Inputs` can afford. Leaves reading to `sources` and what is made of the numbers to everyone above.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curate.engine.passes import ALONE, Budget, Passes, pieces, slices
from curate.errors import DataError, NumericalError, UnreadableRow, out_of_memory
from curate.models.network import Network
from curate.process.progress import Progress
from curate.sources import Source
from curate.stages.ahead import MOST_THREADS, read_ahead
from curate.stages.broken import Broken, refuse_broken
from curate.stages.cache import Depths, ForwardCache
from curate.stages.carrying import coming, moved
from curate.stages.looks import PictureLooks, look_of

Transform = Callable[[object], Tensor]
INPUT_BYTES = 2**30
"""Decoded inputs are kept for later passes up to this size; beyond it rows are read again."""
ORDERED_AT_ONCE = 64
"""Columns that are put in another order at a time."""
SHARD_ROWS = 2048
"""Rows a shard of the cache holds: what an interruption can cost."""


class RowValues:
    """Numbers of each row, ``[n ...]``, in one tensor that is made when the first row is known.

    It is not made if it would take more than ``most`` bytes; a row of another shape or type than the first is not kept.
    """

    def __init__(self, rows: int, budget: Budget, most: int | None = None) -> None:
        self._count, self._budget, self._most = rows, budget, most
        self._there = torch.zeros(rows, dtype=torch.bool)
        self.values: Tensor | None = None
        """Those of all rows; of a row that was not kept they mean nothing. None if none was."""

    def put(self, places: Sequence[int], values: Tensor) -> bool:
        """Keep the numbers of the rows at these places, ``[b ...]``; whether that could be."""
        if self.values is None:
            if self._most is not None and values[0].numel() * values.element_size() * self._count > self._most:
                return False
            self.values = self._budget.table(self._count, values)
        if values.shape[1:] != self.values.shape[1:] or values.dtype != self.values.dtype:
            return False
        rows = torch.tensor(places)
        self.values[rows], self._there[rows] = values, True
        return True

    def at(self, rows: Tensor) -> Tensor | None:
        """The numbers of these rows; None unless all of them were kept."""
        if self.values is None or not bool(self._there[rows].all()):
            return None
        return self.values[rows]

    def taken(self, rows: list[int]) -> "RowValues":
        """Those of the rows at these places, in this order."""
        part = RowValues(len(rows), self._budget, self._most)
        if self.values is not None:
            part.values, part._there = self.values[rows], self._there[rows]
        return part

    def dealt(self, order: Tensor, own: slice, passes: Passes, *, kept: bool) -> None:
        """Put the rows that all processes have read, a run each, in this order; these are the run ``own`` of them.

        None is there if they are not to be ``kept``.
        """
        places = order.argsort()[own]
        values = None if self.values is None or not kept else self.values[: len(places)]
        there = passes.placed(len(order), places, self._there[: len(places)] & kept)
        assert there is not None
        self.values, self._there, self._count = passes.placed(len(order), places, values), there, len(order)

    def order(self, rows: Tensor) -> None:
        """Put the rows at these places, all that there are to be, in this order.

        Done in place and some columns at a time: no second copy of all numbers stands beside the first.
        """
        self._count, self._there = len(rows), self._there[rows]
        if self.values is None:
            return
        self.values = self.values[: len(rows)]
        if self.values.numel():
            for some in pieces(self.values.view(len(rows), -1), ORDERED_AT_ONCE, dim=1):
                some.copy_(some.index_select(0, rows))


class Inputs:
    """The rows of a source as the network reads them; those that were kept need not be decoded again."""

    def __init__(
        self, source: Source, transform: Transform, indices: list[int], device: torch.device, kept: RowValues
    ) -> None:
        """``kept`` are decoded rows, with room for all of them."""
        self._source, self.transform, self._indices, self.device = source, transform, indices, device
        self._kept = kept

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, indices: Tensor) -> Tensor:
        """Inputs of the rows at these positions, ``[b ...]``, on the device."""
        positions = indices.cpu()
        found = self._kept.at(positions)
        if found is None:
            found = torch.stack([self._one(position) for position in positions])
        return moved(found, self.device)

    def taken(self, positions: list[int]) -> "Inputs":
        """The rows at these positions, in this order."""
        indices = [self._indices[position] for position in positions]
        return Inputs(self._source, self.transform, indices, self.device, self._kept.taken(positions))

    def _one(self, place: Tensor) -> Tensor:
        found = self._kept.at(place[None])
        if found is not None:
            return found[0]
        position = int(place)
        try:
            value = self.transform(self._source.read(self._indices[position]).decode())
        except UnreadableRow as error:
            key = self._source.keys[self._indices[position]]
            raise DataError(f"{key} could be read once but not again: {error}") from error
        self._kept.put([position], value[None])
        return value


@dataclass(frozen=True)
class Forward:
    """What a pass leaves of the rows that have a label and could be read, in the source's order."""

    source: Source
    indices: list[int]
    """Row of the source each of the n rows below is."""
    sha256: list[str]
    features: Tensor
    """``[n d]`` float32, on the CPU."""
    logits: Tensor | None
    """``[n C]`` float32; None without a network."""
    early: Tensor | None
    """``[n e]`` float32, from halfway up the network; None where there is nothing between inputs and head."""
    inputs: Inputs
    unreadable: list[tuple[int, str]]
    """(row of the source, reason)."""
    blank: int
    reused: int
    """Rows taken from the cache."""
    looks: PictureLooks | None = None
    """Of the rows, where they are pictures."""

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def labels(self) -> Tensor:
        """Index of each row's given label, ``[n]`` int64."""
        return torch.tensor([self.source.labels[i] for i in self.indices], dtype=torch.long)

    @cached_property
    def contents(self) -> Tensor:
        """A number of each row's content, ``[n]`` int64, from 0 in the order of the rows."""
        numbers = {sha256: number for number, sha256 in enumerate(dict.fromkeys(self.sha256))}
        return torch.tensor([numbers[sha256] for sha256 in self.sha256], dtype=torch.long)

    @cached_property
    def keys(self) -> list[str]:
        """Each row's key, in the order of ``indices``."""
        return [self.source.keys[i] for i in self.indices]

    @property
    def one_label_each(self) -> bool:
        """Whether equal content must have one label, as a picture or a text; a measurement may have two outcomes."""
        return self.source.media not in ("features", "record")

    def first(self, count: int) -> "Forward":
        """The first rows only."""
        return self.taken(list(range(count)))

    def taken(self, rows: list[int]) -> "Forward":
        """The rows at these places, in this order."""
        return replace(
            self,
            indices=[self.indices[row] for row in rows],
            sha256=[self.sha256[row] for row in rows],
            features=self.features[rows],
            logits=None if self.logits is None else self.logits[rows],
            early=None if self.early is None else self.early[rows],
            looks=None if self.looks is None else self.looks.taken(rows),
            inputs=self.inputs.taken(rows),
        )


@dataclass(frozen=True)
class Pass:
    """How rows are read: by which network, through which transform, where, and what of it is kept for the next time."""

    network: Network | None
    transform: Transform
    device: torch.device
    progress: Progress
    batch_size: int = 1
    cache: ForwardCache | None = None
    strict: bool = False
    """No row may be unreadable."""
    passes: Passes = ALONE
    """Which of the rows this process reads, and how those of others reach it."""
    notes: list[str] = field(default_factory=list)
    """What turned out on the way."""

    def through(self, source: Source, title: str) -> Forward:
        """All rows of ``source`` that have a label, sorted by content, label and key: nothing rests on their order.

        Raises `NothingScanned` if no row is left, `DataError` if too many cannot be read (`refuse_broken`).
        """
        wanted, read = self._own(source, title)
        broken = [row for part in self.passes.gathered(read.broken) for row in part]
        refuse_broken(source, wanted, broken, self.strict)
        return read.forward(broken, blank=len(source) - wanted)

    def kept(self, source: Source, title: str) -> tuple[int, int, int]:
        """Read this process's rows into the cache alone: how many, how many were there before, and are unreadable."""
        _, read = self._own(source, title)
        return len(read.indices), read.reused, len(read.broken)

    def _own(self, source: Source, title: str) -> "tuple[int, _Read]":
        """How many rows all processes are to read, and those of this one."""
        wanted = [i for i in range(len(source)) if source.labels[i] >= 0 or i in source.malformed]
        own = wanted[self.passes.own(len(wanted))]
        read = _Read(self, source, len(own), len(wanted))
        with self.progress.stage(title, len(own)) as advance:
            for shard in slices(len(own), SHARD_ROWS):
                read.shard(own[shard])
                advance(shard.stop - shard.start)
        return len(wanted), read


class AtHand(NamedTuple):
    """A row that was read: what the cache has ``stored`` of it, else what it is ``decoded`` and its look."""

    sha256: str
    stored: Depths | None
    decoded: Any
    look: Tensor


class Fresh(NamedTuple):
    """A decoded row: its place among those read, what the network takes of it, and its look."""

    place: int
    value: Tensor
    look: Tensor


class _Read:
    """What a pass has found so far, of the rows of this process that could be read."""

    def __init__(self, how: Pass, source: Source, rows: int, everyone: int) -> None:
        """``rows`` of ``everyone`` are this process's."""
        self._how, self._source, self._batch_size = how, source, how.batch_size
        self.indices: list[int] = []
        self.broken: list[Broken] = []
        self._sha256: list[str] = []
        self.reused = 0
        budget = how.passes.budget
        self._features, self._logits, self._early, self._looks = (RowValues(rows, budget) for _ in range(4))
        self._inputs = RowValues(rows, budget, INPUT_BYTES * rows // max(1, everyone))
        self._under_way: deque[tuple[list[Fresh], Callable[[], list[Tensor]]]] = deque()
        self._made: list[Depths] = []
        self._hashes: list[str] = []

    def shard(self, rows: list[int]) -> None:
        """Read these rows of the source; those that the cache does not know go through the network."""
        known: list[tuple[int, Depths]] = []
        fresh: list[Fresh] = []
        threads = min(MOST_THREADS, torch.get_num_threads()) if self._source.by_threads else 1
        for index, row in zip(rows, read_ahead(self._at_hand, rows, threads), strict=True):
            try:
                if isinstance(row, UnreadableRow):
                    raise row
                value = None if row.stored is not None else self._how.transform(row.decoded)
            except UnreadableRow as error:
                self.broken.append(Broken.of(index, error))
                continue
            place = len(self.indices)
            self.indices.append(index)
            self._sha256.append(row.sha256)
            if value is not None:
                fresh.append(Fresh(place, value, row.look))
                if len(fresh) >= self._batch_size:
                    self._begin(fresh)
                    fresh = []
            elif row.stored is not None:
                known.append((place, row.stored))
        if known:
            self.reused += len(known)
            columns = zip(*(depths for _, depths in known), strict=True)
            self._put([place for place, _ in known], *(torch.stack(column) for column in columns))
        self._begin(fresh)
        self._end()

    def _at_hand(self, index: int) -> "AtHand | UnreadableRow":
        """The row before anything of the user's sees it, which threads may do; the error if it cannot be read."""
        try:
            item = self._source.read(index)
            stored = self._how.cache.get(item.content_sha256) if self._how.cache is not None else None
            decoded = item.decode() if stored is None else None
        except UnreadableRow as error:
            return error
        picture = stored is None and self._source.media == "image"
        look = look_of(decoded) if picture else torch.empty(0, dtype=torch.uint8)
        return AtHand(item.content_sha256, stored, decoded, look)

    def _put(self, places: list[int], *depths: Tensor) -> None:
        for column, values in zip((self._features, self._logits, self._early, self._looks), depths, strict=True):
            if not column.put(places, values):
                raise self._other_shape(self.indices[places[0]])

    def _other_shape(self, index: int) -> DataError:
        return DataError(
            f"{self._source.keys[index]} comes out in another shape than the rows before it",
            "All rows have as many numbers, and a model as many outputs for each.",
        )

    def _begin(self, rows: "list[Fresh]") -> None:
        """Send decoded rows through the network; without one a row is its own feature. The last batch stays under way.

        So the next rows are decoded while a GPU computes.
        """
        done = 0
        while done < len(rows):
            part = rows[done : done + self._batch_size]
            values = [(row.place, row.value) for row in part]
            try:
                found = self._depths(values, self._how.network) if self._how.network is not None else self._flat(values)
            except (RuntimeError, MemoryError) as error:
                self._halve(error, len(part))
                continue
            self._under_way.append((part, found))
            done += len(part)
            if len(self._under_way) > 1:
                self._take()

    def _halve(self, error: RuntimeError | MemoryError, rows: int) -> None:
        """Go on with half as many rows at a time if there was no memory for so many; else raises the error."""
        if not out_of_memory(error) or rows == 1:
            raise error
        self._batch_size = rows // 2
        if self._how.device.type == "cuda":
            torch.cuda.empty_cache()
        self._how.notes[:] = [f"there was memory for batches of {self._batch_size} rows only (--batch-size)"]

    def _flat(self, rows: list[tuple[int, Tensor]]) -> Callable[[], list[Tensor]]:
        values = [value.float().flatten() for _, value in rows]
        for (place, _), value in zip(rows, values, strict=True):
            if value.shape != values[0].shape:
                raise self._other_shape(self.indices[place])
        return coming((torch.stack(values), torch.empty(len(rows), 0), torch.empty(len(rows), 0)))

    def _depths(self, rows: list[tuple[int, Tensor]], network: Network) -> Callable[[], list[Tensor]]:
        shapes = {tuple(value.shape) for _, value in rows}
        if len(shapes) > 1:
            raise DataError(
                f"Rows of different shapes reach the model: {', '.join(map(str, sorted(shapes)[:3]))}",
                "Let the model file's `transform` resize or crop them.",
            )
        batch = torch.stack([value for _, value in rows])
        self._inputs.put([place for place, _ in rows], batch)
        feature, logit, early = network.at_depths(moved(batch, self._how.device))
        return coming((feature.float(), logit.float(), early))

    def _take(self) -> None:
        """Keep what the batch that has been under way longest brings. Raises `NumericalError` if it is no number."""
        rows, arrived = self._under_way.popleft()
        feature, logit, early = arrived()
        broken = ~(torch.isfinite(feature).all(1) & torch.isfinite(logit).all(1))
        if bool(broken.any()):
            first = self.indices[rows[int(broken.nonzero()[0])].place]
            raise NumericalError(
                f"The model's output is not finite on {int(broken.sum())} rows, first on {self._source.keys[first]}",
                "Its loss cannot be trusted: check the weights, and the transform against the one used in training.",
            )
        self._made.append((feature, logit, early, torch.stack([row.look for row in rows])))
        self._hashes += [self._sha256[row.place] for row in rows]
        self._put([row.place for row in rows], *self._made[-1])

    def _end(self) -> None:
        """Take all that is under way, and keep a shard of it for the next scan."""
        while self._under_way:
            self._take()
        if self._how.cache is not None and self._made:
            self._how.cache.put(self._hashes, *(torch.cat(depth) for depth in zip(*self._made, strict=True)))
        self._made, self._hashes = [], []

    def forward(self, broken: list[Broken], blank: int) -> Forward:
        """All that was found by all processes, in the order of content, label and key."""
        source, texts, passes = self._source, self._source.label_texts, self._how.passes
        found = passes.gathered((self.indices, self._sha256, self.reused))
        indices = [index for part in found for index in part[0]]
        sha256 = [sha for part in found for sha in part[1]]

        def content(place: int) -> tuple[str, str, str]:
            return sha256[place], texts[indices[place]] or "", source.keys[indices[place]]

        order = sorted(range(len(indices)), key=content)
        self._order(torch.tensor(order), [part[0] for part in found])
        indices = [indices[place] for place in order]
        features, early, looks = self._features.values, self._early.values, self._looks.values
        assert features is not None
        return Forward(
            source,
            indices,
            [sha256[place] for place in order],
            features,
            self._logits.values if self._how.network is not None else None,
            None if early is None or early.numel() == 0 else early,
            Inputs(source, self._how.transform, indices, self._how.device, self._inputs),
            [(row.index, row.reason) for row in broken],
            blank,
            sum(part[2] for part in found),
            None if looks is None or looks.numel() == 0 else PictureLooks(looks),
        )

    def _order(self, order: Tensor, indices: list[list[int]]) -> None:
        """Put the numbers of all rows in this order; process after process read those of ``indices``."""
        columns = (self._features, self._logits, self._early, self._looks, self._inputs)
        if len(indices) == 1:
            for column in columns:
                column.order(order)
            return
        passes = self._how.passes
        start = sum(map(len, indices[: passes.number]))
        shapes = passes.gathered([None if one.values is None else one.values.shape[1:] for one in columns])
        for column, of_ranks in zip(columns, zip(*shapes, strict=True), strict=True):
            there = [(rank, shape) for rank, shape in enumerate(of_ranks) if shape is not None]
            odd = next((rank for rank, shape in there if shape != there[0][1]), None)
            if odd is not None and column is not self._inputs:
                raise self._other_shape(indices[odd][0])
            column.dealt(order, slice(start, start + len(self.indices)), passes, kept=odd is None)
