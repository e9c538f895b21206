"""Rows that cannot be read: what is known of each, and how many are an error."""

from dataclasses import dataclass

from curate.errors import DataError, NothingScanned, UnreadableRow
from curate.sources import Source
from curate.sources.images import LFS_REASON

UNREADABLE_SHARE = 0.05


@dataclass(frozen=True)
class Broken:
    """A row of the source that cannot be read: why, the part of it that other rows may share, and what to do."""

    index: int
    reason: str
    shared: str
    hint: str

    @classmethod
    def of(cls, index: int, error: UnreadableRow) -> "Broken":
        """As reading it said."""
        return cls(index, str(error), error.shared, error.hint)


def refuse_broken(source: Source, wanted: int, broken: list[Broken], strict: bool = False) -> None:
    """More than 5 % of the ``wanted`` rows are an error, with ``strict`` one is; so is a Git LFS pointer, which one
    command mends. If no row is left, nothing was scanned."""
    pointers = [row for row in broken if row.reason == LFS_REASON]
    if not wanted:
        raise NothingScanned(f"{source.location}: no row could be read", "Nothing was scanned.")
    if not (pointers or len(broken) > UNREADABLE_SHARE * wanted or (strict and broken)):
        return
    first = (pointers or broken)[0]
    alike = sum(row.shared == first.shared for row in broken)
    others = "all" if alike == len(broken) else f"{alike:,} of them"
    also = f" ({others} for this reason)" if alike > 1 else ""
    reason = f"the first is {source.keys[first.index]}: {first.reason}{also}"
    if len(broken) == wanted and not pointers:
        raise NothingScanned(
            f"{source.location}: no row could be read, of {wanted:,}; {reason}", first.hint or "Nothing was scanned."
        )
    told = f"{len(broken):,} of {wanted:,} rows of {source.location} cannot be read; {reason}"
    limit = "--strict allows none" if strict else "At most 5 % may be broken"
    raise DataError(told, "" if pointers else first.hint or f"{limit}: mend them or take them out.")
