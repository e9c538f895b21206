"""Every word on the rows of a data set that was not taken back, with what another database needs to take it in.

Knows which facts travel with a verdict; leaves files to ``files``.
"""

from typing import Any

from curate.store import Store


def all_words(store: Store, dataset: str) -> list[dict[str, Any]]:
    """Oldest first; ``state`` is that of the row now (live, stale, gone, unseen)."""
    return store.query(
        "SELECT v.key, v.verdict, v.new_label, v.note, v.reviewer, v.time, b.dataset, b.split, b.label AS given_label, "
        "b.content_sha256, v.fingerprint, v.source, w.state, v.rule "
        "FROM standing_reviews AS v JOIN reviewed_rows AS b ON b.fingerprint = v.fingerprint "
        "LEFT JOIN verdicts AS w ON w.fingerprint = v.fingerprint WHERE b.dataset = ? ORDER BY v.time, v.id",
        [dataset],
    )
