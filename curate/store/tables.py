"""The tables of a curate database, as the first migration makes them.

Knows columns, checks and the triggers that keep facts from being rewritten; views stand in ``views.py``.
Once released this text is never edited: a change is a new migration in ``schema.py``.
"""

TABLES = (
    """
    CREATE TABLE datasets (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE CHECK (name <> ''),
        location TEXT NOT NULL,
        kind TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        dataset_id INTEGER NOT NULL REFERENCES datasets (id),
        status TEXT NOT NULL CHECK (status IN ('running', 'finished', 'failed', 'interrupted')),
        settings TEXT NOT NULL CHECK (json_valid(settings)),
        seed INTEGER NOT NULL,
        versions TEXT NOT NULL CHECK (json_valid(versions)),
        model TEXT,
        weights_sha256 TEXT,
        device TEXT,
        git_commit TEXT,
        counts TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(counts)),
        accuracy_head REAL CHECK (accuracy_head BETWEEN 0 AND 1),
        accuracy_probe REAL CHECK (accuracy_probe BETWEEN 0 AND 1),
        seconds REAL CHECK (seconds >= 0),
        peak_memory INTEGER CHECK (peak_memory >= 0),
        gate TEXT CHECK (gate IS NULL OR json_valid(gate)),
        started TEXT NOT NULL,
        finished TEXT,
        notes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(notes))
    ) STRICT
    """,
    "CREATE INDEX runs_newest ON runs (dataset_id, status, id)",
    """
    CREATE TABLE labels (
        id INTEGER PRIMARY KEY,
        dataset_id INTEGER NOT NULL REFERENCES datasets (id),
        name TEXT NOT NULL,
        "index" INTEGER CHECK ("index" >= 0),
        UNIQUE (dataset_id, name)
    ) STRICT
    """,
    """
    CREATE TABLE examples (
        id INTEGER PRIMARY KEY,
        dataset_id INTEGER NOT NULL REFERENCES datasets (id),
        split TEXT NOT NULL CHECK (split IN ('train', 'eval')),
        key TEXT NOT NULL CHECK (key <> ''),
        position INTEGER NOT NULL CHECK (position >= 0),
        content_sha256 TEXT NOT NULL,
        label_id INTEGER REFERENCES labels (id),
        label TEXT,
        media_path TEXT,
        text TEXT,
        thumbnail BLOB,
        seen INTEGER CHECK (seen IN (0, 1)),
        fingerprint TEXT NOT NULL
    ) STRICT
    """,
    # A missing label is a value of its own here (0 is no text), where SQL's NULLs would never be equal.
    """
    CREATE UNIQUE INDEX examples_version
        ON examples (dataset_id, split, key, content_sha256, ifnull(label, 0))
    """,
    "CREATE INDEX examples_key ON examples (key)",
    "CREATE INDEX examples_fingerprint ON examples (fingerprint)",
    """
    CREATE TABLE scores (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        example_id INTEGER NOT NULL REFERENCES examples (id),
        suspicion REAL CHECK (suspicion BETWEEN 0 AND 1),
        rank INTEGER CHECK (rank >= 1),
        loss REAL,
        margin REAL,
        self_influence REAL,
        harm REAL,
        neighbour_agreement REAL CHECK (neighbour_agreement BETWEEN 0 AND 1),
        given_probability REAL CHECK (given_probability BETWEEN 0 AND 1),
        suggested_label TEXT,
        suggested_probability REAL CHECK (suggested_probability BETWEEN 0 AND 1),
        PRIMARY KEY (run_id, example_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX scores_example ON scores (example_id)",
    """
    CREATE TABLE influences (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        eval_example_id INTEGER NOT NULL REFERENCES examples (id),
        train_example_id INTEGER NOT NULL REFERENCES examples (id),
        influence REAL NOT NULL,
        rank INTEGER NOT NULL CHECK (rank <> 0),
        PRIMARY KEY (run_id, eval_example_id, train_example_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX influences_train ON influences (run_id, train_example_id, influence)",
    """
    CREATE TABLE findings (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        example_id INTEGER NOT NULL REFERENCES examples (id),
        rule TEXT NOT NULL CHECK (rule IN ('mislabeled', 'harmful', 'conflict', 'leak', 'unreadable')),
        severity TEXT NOT NULL CHECK (severity IN ('error', 'warning', 'note')),
        score REAL,
        evidence TEXT NOT NULL CHECK (json_valid(evidence)),
        why TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        PRIMARY KEY (run_id, example_id, rule)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX findings_fingerprint ON findings (fingerprint, run_id)",
    "CREATE INDEX findings_example ON findings (example_id)",
    """
    CREATE TABLE receipts (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        quantity TEXT NOT NULL,
        solver TEXT NOT NULL,
        curvature TEXT,
        parameters TEXT,
        damping_asked REAL,
        damping REAL,
        residual REAL,
        score_error REAL,
        steps INTEGER,
        seconds REAL,
        recall REAL CHECK (recall BETWEEN 0 AND 1),
        recall_low REAL CHECK (recall_low BETWEEN 0 AND 1),
        recall_high REAL CHECK (recall_high BETWEEN 0 AND 1),
        rank_stability TEXT CHECK (rank_stability IS NULL OR json_valid(rank_stability)),
        detail TEXT NOT NULL CHECK (json_valid(detail))
    ) STRICT
    """,
    "CREATE INDEX receipts_run ON receipts (run_id)",
    """
    CREATE TABLE reviews (
        id INTEGER PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        key TEXT NOT NULL,
        verdict TEXT NOT NULL CHECK (verdict IN ('relabel', 'keep', 'drop', 'unsure')),
        new_label TEXT,
        reviewer TEXT NOT NULL,
        note TEXT,
        time TEXT NOT NULL,
        source TEXT NOT NULL,
        CHECK ((verdict = 'relabel') = (new_label IS NOT NULL))
    ) STRICT
    """,
    "CREATE INDEX reviews_fingerprint ON reviews (fingerprint, id)",
)

SEARCH = (
    "CREATE VIRTUAL TABLE examples_fts USING fts5 (key, text, content='examples', content_rowid='id')",
    """
    CREATE TRIGGER examples_fts_insert AFTER INSERT ON examples BEGIN
        INSERT INTO examples_fts (rowid, key, text) VALUES (NEW.id, NEW.key, NEW.text);
    END
    """,
    """
    CREATE TRIGGER examples_fts_delete AFTER DELETE ON examples BEGIN
        INSERT INTO examples_fts (examples_fts, rowid, key, text) VALUES ('delete', OLD.id, OLD.key, OLD.text);
    END
    """,
    """
    CREATE TRIGGER examples_fts_update AFTER UPDATE OF text ON examples BEGIN
        INSERT INTO examples_fts (examples_fts, rowid, key, text) VALUES ('delete', OLD.id, OLD.key, OLD.text);
        INSERT INTO examples_fts (rowid, key, text) VALUES (NEW.id, NEW.key, NEW.text);
    END
    """,
)

_RESULTS = ("scores", "influences", "findings", "receipts")


def _of_finished_run(row: str) -> str:
    return f"(SELECT status FROM runs WHERE id = {row}.run_id) = 'finished'"


GUARDS = (
    """
    CREATE TRIGGER examples_immutable
    BEFORE UPDATE OF id, dataset_id, split, key, content_sha256, label, fingerprint ON examples BEGIN
        SELECT RAISE(ABORT, 'a version of a row is never changed: new content or a new label is a new row');
    END
    """,
    """
    CREATE TRIGGER runs_immutable BEFORE UPDATE ON runs WHEN OLD.status = 'finished' BEGIN
        SELECT RAISE(ABORT, 'a finished run is never changed');
    END
    """,
    *(
        f"""
        CREATE TRIGGER {table}_{verb.lower()}_immutable BEFORE {verb} ON {table} WHEN {_of_finished_run(row)} BEGIN
            SELECT RAISE(ABORT, 'a finished run is never changed');
        END
        """
        for table in _RESULTS
        for verb, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD"))
    ),
    """
    CREATE TRIGGER reviews_no_update BEFORE UPDATE ON reviews BEGIN
        SELECT RAISE(ABORT, 'reviews are append-only: add a new verdict instead');
    END
    """,
    """
    CREATE TRIGGER reviews_no_delete BEFORE DELETE ON reviews BEGIN
        SELECT RAISE(ABORT, 'reviews are append-only: add a new verdict instead');
    END
    """,
    # INSERT OR REPLACE would delete the old row without firing the trigger above.
    """
    CREATE TRIGGER reviews_no_replace BEFORE INSERT ON reviews
    WHEN EXISTS (SELECT 1 FROM reviews WHERE id = NEW.id) BEGIN
        SELECT RAISE(ABORT, 'reviews are append-only: add a new verdict instead');
    END
    """,
)
