"""The eighth migration: runs may be pruned, and a backup of changed files is known by its digest.

Like the texts before it, this one is never edited once released.
"""

_OF_FINISHED = "(SELECT status FROM runs WHERE id = {row}.run_id) = 'finished'"
_KEPT = "(SELECT status FROM runs WHERE id = OLD.run_id AND pruned IS NULL) = 'finished'"
_REFUSED = "SELECT RAISE(ABORT, 'a finished run is never changed');"

KEEPING = (
    # When the rows of a run were taken away; its line, counts and the fingerprints of its findings stay.
    "ALTER TABLE runs ADD COLUMN pruned TEXT",
    "DROP TRIGGER runs_immutable",
    f"""
    CREATE TRIGGER runs_immutable BEFORE UPDATE OF id, dataset_id, status, settings, seed, versions, model,
        weights_sha256, device, git_commit, counts, accuracy_head, accuracy_probe, seconds, peak_memory, gate, started,
        finished, notes ON runs WHEN OLD.status = 'finished' BEGIN
        {_REFUSED}
    END
    """,
    """
    CREATE TRIGGER runs_pruned_once BEFORE UPDATE OF pruned ON runs
    WHEN OLD.status <> 'finished' OR OLD.pruned IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'only a finished run is pruned, and once');
    END
    """,
    *(
        statement
        for table in ("scores", "influences", "receipts")
        for statement in (
            f"DROP TRIGGER {table}_delete_immutable",
            f"""
            CREATE TRIGGER {table}_delete_immutable BEFORE DELETE ON {table} WHEN {_KEPT} BEGIN
                {_REFUSED}
            END
            """,
        )
    ),
    "DROP TRIGGER findings_update_immutable",
    f"""
    CREATE TRIGGER findings_update_immutable BEFORE UPDATE OF run_id, example_id, rule, severity, score, fingerprint
    ON findings WHEN {_OF_FINISHED.format(row="OLD")} BEGIN
        {_REFUSED}
    END
    """,
    f"""
    CREATE TRIGGER findings_words_immutable BEFORE UPDATE OF evidence, why ON findings WHEN {_KEPT} BEGIN
        {_REFUSED}
    END
    """,
    # What reports say of all rows at once: counted once, when the run ends.
    """
    CREATE TABLE summaries (
        run_id INTEGER PRIMARY KEY REFERENCES runs (id),
        told TEXT NOT NULL CHECK (json_valid(told))
    ) STRICT
    """,
    "CREATE INDEX findings_rule ON findings (run_id, rule, fingerprint)",
    # What `curate export --revert` puts back: a record that no line here knows is somebody else's.
    """
    CREATE TABLE backups (
        id INTEGER PRIMARY KEY,
        dataset_id INTEGER NOT NULL REFERENCES datasets (id),
        run_id INTEGER NOT NULL,
        folder TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE,
        roots TEXT NOT NULL CHECK (json_valid(roots)),
        made TEXT NOT NULL,
        reverted TEXT
    ) STRICT
    """,
)
