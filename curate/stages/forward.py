"""One pass over a data set: content hashes, features, logits. Resumes where an earlier pass was interrupted.

Knows how rows become batches and what of them is kept: ``[n d]`` features and ``[n C]`` logits in memory, the inputs
only as far as `Inputs` can afford. Leaves reading to `sources` and what is made of the numbers to everyone above.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from curate.errors import DataError, NothingScanned, NumericalError, UnreadableRow
from curate.models.network import Network
from curate.process.progress import Progress
from curate.sources import Source
from curate.sources.images import LFS_REASON
from curate.stages.cache import Depths, ForwardCache

Transform = Callable[[object], Tensor]
T = TypeVar("T")
INPUT_BYTES = 2**30
"""Decoded inputs are kept for later passes up to this size; beyond it rows are read again."""
SHARD_ROWS = 2048
"""Rows a shard of the cache holds: what an interruption can cost."""
UNREADABLE_SHARE = 0.05


class Inputs:
    """The rows of a source as the network reads them, decoded once if they fit ``INPUT_BYTES``."""

    def __init__(self, source: Source, transform: Transform, indices: list[int], device: torch.device) -> None:
        self._source, self._transform, self._indices, self.device = source, transform, indices, device
        self._kept: Tensor | None = None
        self._have = torch.zeros(len(indices), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._indices)

    def keep(self, position: int, value: Tensor) -> None:
        """Remember a row that is decoded already."""
        if self._kept is None and value.numel() * value.element_size() * len(self) <= INPUT_BYTES:
            self._kept = torch.empty(len(self), *value.shape, dtype=value.dtype)
        if self._kept is not None and value.shape == self._kept.shape[1:]:
            self._kept[position], self._have[position] = value, True

    def batch(self, indices: Tensor) -> Tensor:
        """Inputs of the rows at these positions, ``[b ...]``, on the device."""
        positions = indices.cpu()
        if self._kept is not None and bool(self._have[positions].all()):
            return self._kept[positions].to(self.device)
        return torch.stack([self._one(int(position)) for position in positions]).to(self.device)

    def taken(self, positions: list[int]) -> "Inputs":
        """The rows at these positions, in this order."""
        part = Inputs(self._source, self._transform, [self._indices[position] for position in positions], self.device)
        if self._kept is not None:
            part._kept, part._have = self._kept[positions], self._have[positions]
        return part

    def _one(self, position: int) -> Tensor:
        if self._kept is not None and self._have[position]:
            return self._kept[position]
        try:
            value = self._transform(self._source.read(self._indices[position]).decode())
        except UnreadableRow as error:
            key = self._source.keys[self._indices[position]]
            raise DataError(f"{key} could be read once but not again: {error}") from error
        self.keep(position, value)
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

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Tensor:
        """Index of each row's given label, ``[n]`` int64."""
        return torch.tensor([self.source.labels[i] for i in self.indices], dtype=torch.long)

    @property
    def keys(self) -> list[str]:
        """Each row's key, in the order of ``indices``."""
        return [self.source.keys[i] for i in self.indices]

    @property
    def one_label_each(self) -> bool:
        """Whether equal content must have one label, as a picture or a text; a measurement may have two outcomes."""
        return self.source.media not in ("features", "record")

    def in_content_order(self) -> "Forward":
        """The same rows sorted by content, label and key: what is computed does not depend on the source's order."""
        texts = self.source.label_texts

        def place(row: int) -> tuple[str, str, str]:
            index = self.indices[row]
            return self.sha256[row], texts[index] or "", self.source.keys[index]

        return self.taken(sorted(range(len(self)), key=place))

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
            inputs=self.inputs.taken(rows),
        )


def run_forward(
    source: Source,
    network: Network | None,
    transform: Transform,
    *,
    device: torch.device,
    batch_size: int,
    cache: ForwardCache | None,
    progress: Progress,
    title: str,
    strict: bool = False,
) -> Forward:
    """Raises `NothingScanned` if no row is left, `DataError` if too many cannot be read (`_refuse_broken`)."""
    wanted = [i for i in range(len(source)) if source.labels[i] >= 0 or i in source.malformed]
    # Decoded rows are remembered by their place among the rows that have a label; the unreadable leave gaps.
    inputs = Inputs(source, transform, wanted, device)
    kept: list[int] = []
    hashes: list[str] = []
    features: list[Tensor] = []
    logits: list[Tensor] = []
    early: list[Tensor] = []
    unreadable: list[tuple[int, str]] = []
    reused = 0
    with progress.stage(title, len(wanted)) as advance:
        for shard in _split(list(enumerate(wanted)), SHARD_ROWS):
            fresh: list[tuple[int, Tensor]] = []
            known: dict[int, Depths] = {}
            found: list[tuple[int, str]] = []
            for position, index in shard:
                try:
                    item = source.read(index)
                    stored = cache.get(item.content_sha256) if cache is not None else None
                    if stored is None:
                        value = transform(item.decode())
                        inputs.keep(position, value)
                        fresh.append((position, value))
                    else:
                        known[position] = stored
                        reused += 1
                    found.append((position, item.content_sha256))
                except UnreadableRow as error:
                    unreadable.append((index, str(error)))
            computed = _batches(fresh, network, device, batch_size, source, wanted)
            if cache is not None and network is not None and computed:
                by_position = dict(found)
                new = [position for position, _ in fresh]
                cache.put(
                    [by_position[position] for position in new],
                    *(torch.stack([computed[position][depth] for position in new]) for depth in range(3)),
                )
            for position, sha in found:
                feature, logit, soon = known[position] if position in known else computed[position]
                kept.append(position)
                hashes.append(sha)
                features.append(feature)
                logits.append(logit)
                early.append(soon)
            advance(len(shard))
    _refuse_broken(source, wanted, unreadable, kept, strict)
    return Forward(
        source=source,
        indices=[wanted[position] for position in kept],
        sha256=hashes,
        features=torch.stack(features),
        logits=torch.stack(logits) if network is not None else None,
        early=torch.stack(early) if early[0].numel() else None,
        inputs=inputs.taken(kept),
        unreadable=unreadable,
        blank=len(source) - len(wanted),
        reused=reused,
    )


def _batches(
    rows: list[tuple[int, Tensor]],
    network: Network | None,
    device: torch.device,
    batch_size: int,
    source: Source,
    wanted: list[int],
) -> dict[int, Depths]:
    """What the network makes of decoded rows, by position; without one the row is its own feature."""
    if network is None:
        return {position: (value.float().flatten(), torch.empty(0), torch.empty(0)) for position, value in rows}
    out: dict[int, Depths] = {}
    for part in _split(rows, batch_size):
        shapes = {tuple(value.shape) for _, value in part}
        if len(shapes) > 1:
            raise DataError(
                f"rows of different shapes reach the model: {', '.join(map(str, sorted(shapes)[:3]))}",
                "Let the model file's `transform` resize or crop them.",
            )
        feature, logit, early = network.at_depths(torch.stack([value for _, value in part]).to(device))
        feature, logit = feature.float().cpu(), logit.float().cpu()
        broken = ~(torch.isfinite(feature).all(1) & torch.isfinite(logit).all(1))
        if bool(broken.any()):
            position = part[int(broken.nonzero()[0])][0]
            raise NumericalError(
                f"the model's output is not finite on {int(broken.sum())} rows, "
                f"first on {source.keys[wanted[position]]}",
                "Its loss cannot be trusted: check the weights, and the transform against the one used in training.",
            )
        for k, (position, _) in enumerate(part):
            out[position] = (feature[k].clone(), logit[k].clone(), early[k].clone())
    return out


def _refuse_broken(
    source: Source, wanted: list[int], unreadable: list[tuple[int, str]], kept: list[int], strict: bool
) -> None:
    """More than 5 % are an error, with ``strict`` one is; so is a Git LFS pointer, which one command mends."""
    pointers = [broken for broken in unreadable if broken[1] == LFS_REASON]
    many = len(unreadable) > UNREADABLE_SHARE * len(wanted) and (kept or len(unreadable) > 1)
    if pointers or many or (strict and unreadable):
        index, reason = (pointers or unreadable)[0]
        told = f"{len(unreadable):,} of {len(wanted):,} rows of {source.location} cannot be read"
        limit = "--strict allows none" if strict else "At most 5 % may be broken"
        raise DataError(
            f"{told}; the first is {source.keys[index]}: {reason}",
            "" if pointers else f"{limit}: mend them or take them out.",
        )
    if not kept:
        raise NothingScanned(f"{source.location}: no row could be read", "Nothing was scanned.")


def _split(rows: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
