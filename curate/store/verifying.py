"""The sixth migration: what `curate verify` found, and each refit that it made.

Like the texts before it, this one is never edited once released.
"""

VERIFYING = (
    """
    CREATE TABLE verifications (
        id INTEGER PRIMARY KEY,
        dataset_id INTEGER NOT NULL REFERENCES datasets (id),
        model TEXT,
        weights_sha256 TEXT,
        settings TEXT NOT NULL CHECK (json_valid(settings)),
        trust TEXT NOT NULL CHECK (trust IN ('trust', 'ranking only', 'do not trust')),
        because TEXT NOT NULL,
        found TEXT NOT NULL CHECK (json_valid(found)),
        time TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX verifications_newest ON verifications (dataset_id, id)",
    """
    CREATE TABLE refits (
        identity TEXT NOT NULL,
        left_out TEXT NOT NULL,
        ordering INTEGER NOT NULL CHECK (ordering >= 0),
        losses TEXT NOT NULL CHECK (json_valid(losses)),
        seconds REAL NOT NULL CHECK (seconds >= 0),
        PRIMARY KEY (identity, left_out, ordering)
    ) STRICT, WITHOUT ROWID
    """,
)
