"""``unreadable``: rows that the source could not read, of either split."""

from collections.abc import Iterator

from curate.errors import UnreadableRow
from curate.rules.finders.found import Contents, Found
from curate.sources import Source


def find(scan: Contents) -> Iterator[Found]:
    """Findings on rows behind those that were read."""
    for split, rows in scan.splits.items():
        for place, (index, reason) in enumerate(rows.unreadable):
            evidence: dict[str, object] = {"reason": reason, "content_sha256": _bytes_of(rows.source, index)}
            why = f"it cannot be read: {reason}"
            yield Found(split, len(rows) + place, "unreadable", "error", None, why, evidence)


def _bytes_of(source: Source, index: int) -> str:
    """Content hash of a row that came no further: with it `curate check` sees whether the row was replaced."""
    try:
        return source.read(index).content_sha256
    except UnreadableRow:
        return ""
