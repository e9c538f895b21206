"""Verdicts of a file, brought into the database: all of them, or none.

Knows which row an entry means (its fingerprint, else its key in a run) and which words are there already; leaves the
rules of a verdict to ``curate.store.reviews``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from curate.errors import CurateError, DataError, UsageError
from curate.review.files import Entry
from curate.store import Review, Store, reviews, row_fingerprint


@dataclass(frozen=True, slots=True)
class Marked:
    """What became of the verdicts of a file."""

    added: list[Review]
    repeated: int
    """Words that the database held already."""
    unseen: int
    """Words on rows that were never scanned here: they count as soon as such a row is."""


def mark_entries(
    store: Store, run_id: int, dataset: str, entries: Sequence[Entry], *, reviewer: str, new_class: bool = False
) -> Marked:
    """Store the verdicts; ``run_id`` is the run whose keys are meant. ``CurateError`` with file and line."""
    added: list[Review] = []
    repeated = unseen = 0
    with store.transaction():
        for entry in entries:
            who = entry.reviewer or reviewer
            try:
                row = _row(store, run_id, dataset, entry)
                if row is None:
                    unseen += 1
                fingerprint = entry.fingerprint if row is None else row.fingerprint
                assert fingerprint is not None
                if _is_there(store, fingerprint, entry, who, row):
                    repeated += 1
                elif entry.verdict == "undo":
                    if row is None:
                        raise UsageError("A verdict on a row that was never scanned here cannot be taken back")
                    added.append(reviews.undo(store, row, entry.note, reviewer=entry.reviewer, source="file"))
                elif row is not None:
                    added.append(
                        reviews.mark(
                            store,
                            row,
                            entry.verdict,
                            entry.new_label,
                            entry.note,
                            reviewer=who,
                            source="file",
                            new_class=new_class,
                            time=entry.time,
                            rule=entry.rule,
                        )
                    )
                else:
                    added.append(_foreign(store, entry, fingerprint, who))
            except CurateError as error:
                raise DataError(f"{entry.where}: {error.message}", error.hint or "nothing was stored") from error
    return Marked(added, repeated, unseen)


def _row(store: Store, run_id: int, dataset: str, entry: Entry) -> reviews.ReviewedRow | None:
    """The row that is meant; None where its fingerprint belongs to no row that was ever scanned here."""
    if entry.dataset is not None and entry.dataset != dataset:
        raise UsageError(f"The row is of {entry.dataset}, not of {dataset}", f"Give --dataset {entry.dataset}")
    if entry.fingerprint is None:
        return reviews.row_by_key(store, run_id, entry.key, entry.split)
    if entry.content_sha256 is not None:
        facts = (dataset, entry.key.removeprefix("eval:"), entry.content_sha256, entry.given_label)
        if entry.fingerprint not in (row_fingerprint(*facts), row_fingerprint(dataset, entry.key, *facts[2:])):
            raise UsageError(f"{entry.key}: the fingerprint is not that of this key, content and label")
    found = store.query(
        "SELECT e.id FROM examples AS e JOIN datasets AS d ON d.id = e.dataset_id "
        "WHERE e.fingerprint = ? AND d.name = ? ORDER BY e.split DESC LIMIT 1",
        [entry.fingerprint, dataset],
    )
    return reviews.row_by_id(store, run_id, found[0]["id"]) if found else None


def _is_there(store: Store, fingerprint: str, entry: Entry, reviewer: str, row: reviews.ReviewedRow | None) -> bool:
    """With a time: the same word. Without one: what the reviewer's last word says already."""
    if entry.verdict == "undo":
        return False
    label = entry.new_label or (row.suggested_label if row is not None and entry.verdict == "relabel" else None)
    facts = [fingerprint, reviewer, entry.verdict, label if entry.verdict == "relabel" else None, entry.rule]
    same = "fingerprint = ? AND reviewer = ? AND verdict = ? AND new_label IS ? AND rule IS ?"
    if entry.time is not None:
        return bool(
            store.query(f"SELECT 1 FROM reviews WHERE {same} AND time = ? AND undoes IS NULL", [*facts, entry.time])
        )
    return bool(store.query(f"SELECT 1 FROM last_words WHERE {same}", facts))


def _foreign(store: Store, entry: Entry, fingerprint: str, reviewer: str) -> Review:
    if entry.verdict not in reviews.VERDICTS:
        raise UsageError(f"'{entry.verdict}' is no verdict", f"Verdicts: {', '.join(reviews.VERDICTS)}")
    if (entry.verdict == "relabel") != (entry.new_label is not None):
        raise UsageError("A relabel needs a new_label, and no other verdict takes one")
    return reviews.add(
        store,
        fingerprint,
        entry.key or fingerprint,
        entry.verdict,
        entry.new_label,
        entry.note,
        reviewer=reviewer,
        source="file",
        time=entry.time,
        rule=entry.rule,
    )
