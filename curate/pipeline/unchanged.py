"""Is the data still what a stored run read? Files that are as they were say so; else rows are read and hashed again.

Without a model, and without torch.

Knows how a run's rows are found again; leaves what follows from a change to the commands. Rows are compared by key,
content and label, so rows in another order, or a table that was only formatted anew, are the same data.
"""

from collections.abc import Callable
from dataclasses import dataclass

from curate.errors import CurateError, DataError, UnreadableRow
from curate.reports.report import RunFacts
from curate.reports.words import plural
from curate.settings.merge import ScanSettings, stored_settings
from curate.settings.specs import split_kind
from curate.sources import Source, open_sets
from curate.sources.limit import limited
from curate.sources.stamp import stamp
from curate.store import Store

Row = tuple[str, str]
"""Split and key."""
Stored = tuple[str | None, str | None, int]
"""Content hash ("" where nothing can be read, None where it was not kept), label and position."""
NOT_COMPARED = "--no-verify judges the run without looking at the data."


@dataclass(frozen=True, slots=True)
class Compared:
    """Rows that differ from those of a run, and where the others stand now that stand elsewhere."""

    new: list[Row]
    gone: list[Row]
    changed: list[Row]
    moved: dict[Row, int]

    @property
    def same(self) -> bool:
        """Is the data what the run read?"""
        return not (self.new or self.gone or self.changed)

    def __str__(self) -> str:
        """``20 rows new, 1 row gone; the first is KEY``"""
        parts = ((self.new, "new"), (self.gone, "gone"), (self.changed, "with other content or another label"))
        told = [f"{plural(len(rows), 'row')} {what}" for rows, what in parts if rows]
        first = (self.new or self.gone or self.changed)[0][1]
        return f"{', '.join(told)}; the first is {first}"


def compare(store: Store, run: RunFacts, advance: Callable[[int], None] = lambda rows: None) -> Compared:
    """The data of a finished run beside what it is now: read again, unless its files are those that the run read.

    Raises ``CurateError`` where it cannot be read, or is made by code.
    """
    if not run.settings.get("train"):
        raise DataError(f"Run {run.id} does not say where its data is", NOT_COMPARED)
    settings = stored_settings(run.settings)
    for spec in (settings.train, settings.eval):
        if spec is not None and split_kind(spec)[0] == "python":
            # code that a database names is not run unasked
            raise DataError(
                f"{spec} is made by code: whether it has changed cannot be seen without running it", NOT_COMPARED
            )
    if run.counts.get("files") is not None and run.counts["files"] == stamp(settings):
        return Compared([], [], [], {})
    before = _stored(store, run.id)  # what is found again leaves it: of a million rows nothing is held twice
    new, changed, moved = list[Row](), list[Row](), dict[Row, int]()
    try:
        train, evaluation = _opened(settings)
        for split, source in (("train", train), ("eval", evaluation)):
            for index in range(0 if source is None else len(source)):
                assert source is not None
                if source.labels[index] < 0 and index not in source.malformed:
                    continue
                row, position = (split, source.keys[index]), source.positions[index]
                known = before.pop(row, None)
                if known is None:
                    new.append(row)
                elif _differs(known, _content(source, index), source.label_texts[index]):
                    changed.append(row)
                elif known[2] != position:
                    moved[row] = position
                advance(1)
    except CurateError as error:
        raise DataError(f"The data of run {run.id} cannot be read again: {error.message}", NOT_COMPARED) from error
    return Compared(new=sorted(new), gone=sorted(before), changed=sorted(changed), moved=moved)


def _stored(store: Store, run_id: int) -> dict[Row, Stored]:
    """Content, label and position of every row of the run; content None where an older version did not keep it."""
    rows = store.connection.execute(
        "SELECT e.split, e.key, e.content_sha256, e.label, e.position FROM scores AS s "
        "JOIN examples AS e ON e.id = s.example_id "
        "WHERE s.run_id = ?1 UNION ALL "
        "SELECT e.split, e.key, json_extract(f.evidence, '$.content_sha256'), e.label, e.position FROM findings AS f "
        "JOIN examples AS e ON e.id = f.example_id WHERE f.run_id = ?1 AND f.rule = 'unreadable'",
        [run_id],
    )
    return {(split, key): (content, label, position) for split, key, content, label, position in rows}


def _opened(settings: ScanSettings) -> tuple[Source, Source | None]:
    """The data set as the scan opened it."""
    train, evaluation = open_sets(settings)
    if settings.limit is not None:
        train = limited(train, settings.limit)
        evaluation = evaluation and limited(evaluation, settings.limit)
    return train, evaluation


def _content(source: Source, index: int) -> str:
    try:
        return source.read(index).content_sha256
    except UnreadableRow:
        return ""


def _differs(before: Stored, content: str, label: str | None) -> bool:
    return before[1] != label or (before[0] is not None and before[0] != content)
