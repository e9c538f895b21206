"""``--limit N``: a sample of a data set, stratified by class, chosen by content hash: always the same rows.

Knows which rows to take; everything else is the source's own.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from curate.errors import UnreadableRow
from curate.sources.base import Item, Source
from curate.sources.columns import InputColumn

if TYPE_CHECKING:
    import pyarrow

Progress = Callable[[int], None]


class Sample(Source):
    """The rows of ``source`` at ``rows``, in this order."""

    def __init__(self, source: Source, rows: list[int]) -> None:
        self._source, self._rows = source, rows
        self.kind, self.media, self.name, self.location = source.kind, source.media, source.name, source.location  # type: ignore[misc]
        self.classes, self.notes, self.inputs, self.ready = source.classes, source.notes, source.inputs, source.ready
        self.keys = [source.keys[row] for row in rows]
        self.labels = [source.labels[row] for row in rows]
        self.label_texts = [source.label_texts[row] for row in rows]
        self.positions = [source.positions[row] for row in rows]

    def read(self, index: int) -> Item:
        return self._source.read(self._rows[index])

    def media_path(self, index: int) -> str | None:
        return self._source.media_path(self._rows[index])

    def cells(self, column: InputColumn) -> "pyarrow.ChunkedArray":
        return self._source.cells(column).take(self._rows)

    def values(self, column: str, option: str = "--slice") -> list[str | None]:
        values = self._source.values(column, option)
        return [values[row] for row in self._rows]

    def text(self, index: int) -> str | None:
        return self._source.text(self._rows[index])


def limited(source: Source, limit: int, advance: Progress = lambda rows: None) -> Source:
    """At most ``limit`` labelled rows, each class by its share and at least one row; the source where it has no more.

    Reads every row once for its hash (files are not decoded).
    """
    labelled = [row for row, label in enumerate(source.labels) if label >= 0]
    if len(labelled) <= limit:
        return source
    by_class: dict[int, list[tuple[str, str, int]]] = defaultdict(list)
    for row in labelled:
        try:
            sha = source.read(row).content_sha256
        except UnreadableRow:
            sha = ""
        by_class[source.labels[row]].append((sha, source.keys[row], row))
        advance(1)
    shares = shared_out(limit, {label: len(rows) for label, rows in by_class.items()})
    chosen = [row for label, rows in by_class.items() for _, _, row in sorted(rows)[: shares[label]]]
    return Sample(source, sorted(chosen))


def shared_out(total: int, sizes: dict[int, int]) -> dict[int, int]:
    """``total`` in whole parts in the ratio of ``sizes`` (largest remainders), at least one each where that fits."""
    whole = sum(sizes.values())
    least = {key: min(1, size) if total >= len(sizes) else 0 for key, size in sizes.items()}
    exact = {key: total * size / whole for key, size in sizes.items()}
    parts = {key: max(least[key], int(exact[key])) for key in sizes}
    order = sorted(sizes, key=lambda key: (parts[key] - exact[key], key))
    while sum(parts.values()) < total:
        room = [key for key in order if parts[key] < sizes[key]]
        for key in room[: total - sum(parts.values())]:
            parts[key] += 1
    while sum(parts.values()) > total:
        largest = max(parts, key=lambda key: (parts[key] - least[key], key))
        parts[largest] -= 1
    return parts
