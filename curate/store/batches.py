"""Verdicts on many rows at once, which are taken back at once.

Knows the table `batches`: the words of one batch, by the first of them. Leaves the rules of a verdict to ``reviews``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.errors import UsageError
from curate.store import reviews

if TYPE_CHECKING:
    from curate.store.store import Store


@dataclass(frozen=True, slots=True)
class MarkedMany:
    """The words that were stored, and how many rows had no suggested label to relabel to."""

    words: list[reviews.Review]
    unsure: int


def mark_many(
    store: "Store",
    rows: Sequence[reviews.ReviewedRow],
    verdict: str,
    label: str | None = None,
    note: str | None = None,
    *,
    reviewer: str,
    source: str,
) -> MarkedMany:
    """One verdict on all these rows. ``relabel`` without a label leaves out rows without a sure suggestion.

    Rows that have the label already are left out of a ``relabel`` too. Raises ``UsageError`` if no row is left.
    """
    left = [row for row in rows if verdict != "relabel" or _moves(row, label)]
    if not left:
        raise UsageError(
            "No row was marked: " + ("no flagged row fits" if not rows else "none of them has a sure suggested label"),
            "Choose others, or give the right label.",
        )
    with store.transaction() as connection:
        words = [reviews.mark(store, row, verdict, label, note, reviewer=reviewer, source=source) for row in left]
        connection.executemany(
            "INSERT INTO batches (review_id, batch) VALUES (?, ?)", [(word.id, words[0].id) for word in words]
        )
    return MarkedMany(words, len(rows) - len(left))


def _moves(row: reviews.ReviewedRow, label: str | None) -> bool:
    wanted = row.sure_label if label is None else label
    return wanted is not None and wanted != row.label


def undo_batch(store: "Store", run_id: int, *, reviewer: str, source: str) -> list[reviews.Review]:
    """Take back all that still stands of the newest batch of the reviewer. Raises ``UsageError`` if there is none."""
    newest = store.query(
        "SELECT max(b.batch) AS batch FROM batches AS b JOIN standing_reviews AS v ON v.id = b.review_id "
        "WHERE v.reviewer = ?",
        [reviewer],
    )[0]["batch"]
    if newest is None:
        raise UsageError(f"{reviewer} gave no verdict on many rows at once", "`curate mark KEY --undo` takes one back.")
    return undo_words(store, run_id, batch_of(store, newest), source=source)


def batch_of(store: "Store", word: int) -> list[int]:
    """Ids of the words that were given at once with this one and still stand; itself if it was given alone."""
    rows = store.query(
        "SELECT b.review_id AS id FROM batches AS b JOIN standing_reviews AS v ON v.id = b.review_id "
        "WHERE b.batch = (SELECT batch FROM batches WHERE review_id = ?) ORDER BY b.review_id",
        [word],
    )
    return [row["id"] for row in rows] or [word]


def undo_words(store: "Store", run_id: int, words: Sequence[int], *, source: str) -> list[reviews.Review]:
    """Take back these words; on each row the one before counts again."""
    with store.transaction():
        return [reviews.undo_word(store, run_id, word, source=source) for word in words]
