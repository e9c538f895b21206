"""The eleventh migration: verdicts given at once, no suggested label that is not sure enough, and a map of the rows.

Like the texts before it, this one is never edited once released.
"""

from curate.store.reviewing import MEANT

LEAST_SUGGESTION = 0.5
"""Probability from which a suggested label is shown, and taken by `relabel` without a label."""

BATCHING = (
    """
    CREATE TABLE batches (
        review_id INTEGER PRIMARY KEY REFERENCES reviews (id),
        batch INTEGER NOT NULL REFERENCES reviews (id)
    ) STRICT
    """,
    "CREATE INDEX batches_batch ON batches (batch)",
    """
    CREATE TABLE map_points (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        example_id INTEGER NOT NULL REFERENCES examples (id),
        x REAL NOT NULL CHECK (x BETWEEN -1 AND 1),
        y REAL NOT NULL CHECK (y BETWEEN -1 AND 1),
        PRIMARY KEY (run_id, example_id)
    ) STRICT, WITHOUT ROWID
    """,
    f"""
    CREATE TRIGGER review_queue_sure INSTEAD OF INSERT ON review_queue
    WHEN NEW.verdict = 'relabel' AND NEW.new_label IS NULL BEGIN
        SELECT RAISE(ABORT, 'the suggested label is not probable enough: give new_label')
        WHERE EXISTS (
            SELECT 1 FROM latest_scores AS s
            WHERE s.fingerprint = (SELECT r.fingerprint FROM {MEANT} LIMIT 1) AND s.suggested_probability < 0.5
        );
    END
    """,
)
