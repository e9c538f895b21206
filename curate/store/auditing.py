"""The seventh migration: rows drawn at random for an audit, and the words that people left on them.

Like the texts before it, this one is never edited once released. A word finds its place by a trigger, so that it
counts wherever it was left: on the screen, on the page, by ``curate mark`` or in SQL.
"""

# A place is answered by a word on its row that was not taken back.
ANSWERED = """
    EXISTS (
        SELECT 1 FROM audit_words AS b JOIN standing_reviews AS w ON w.id = b.review_id
        WHERE b.audit_id = p.audit_id AND b.place = p.place
    )
"""

# The places of the newest series of audits of each data set, on rows that its newest finished run holds.
_OPEN = """
    audit_rows AS p
    JOIN audits AS a ON a.id = p.audit_id
    JOIN current_rows AS r ON r.fingerprint = p.fingerprint AND r.split = 'train'
    JOIN examples AS e ON e.id = r.example_id
    WHERE a.series = (SELECT max(n.series) FROM audits AS n WHERE n.dataset_id = a.dataset_id)
"""

AUDITING = (
    """
    CREATE TABLE audits (
        id INTEGER PRIMARY KEY,
        dataset_id INTEGER NOT NULL REFERENCES datasets (id),
        series INTEGER NOT NULL CHECK (series >= 1),
        run_id INTEGER NOT NULL REFERENCES runs (id),
        seed INTEGER NOT NULL,
        design TEXT NOT NULL CHECK (json_valid(design)),
        time TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX audits_newest ON audits (dataset_id, series, id)",
    """
    CREATE TABLE audit_rows (
        audit_id INTEGER NOT NULL REFERENCES audits (id),
        place INTEGER NOT NULL CHECK (place >= 1),
        fingerprint TEXT NOT NULL,
        key TEXT NOT NULL,
        stratum INTEGER NOT NULL CHECK (stratum >= 1),
        again INTEGER NOT NULL CHECK (again IN (0, 1)),
        PRIMARY KEY (audit_id, place)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX audit_rows_fingerprint ON audit_rows (fingerprint)",
    """
    CREATE TABLE audit_words (
        audit_id INTEGER NOT NULL,
        place INTEGER NOT NULL,
        review_id INTEGER NOT NULL REFERENCES reviews (id),
        PRIMARY KEY (audit_id, place, review_id),
        FOREIGN KEY (audit_id, place) REFERENCES audit_rows (audit_id, place)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX audit_words_review ON audit_words (review_id)",
    *(
        f"""
        CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN
            SELECT RAISE(ABORT, 'what was drawn for an audit is never changed: begin a new one');
        END
        """
        for table in ("audits", "audit_rows", "audit_words")
        for verb in ("UPDATE", "DELETE")
    ),
    f"""
    CREATE TRIGGER reviews_audited AFTER INSERT ON reviews WHEN NEW.undoes IS NULL BEGIN
        INSERT INTO audit_words (audit_id, place, review_id)
        SELECT p.audit_id, p.place, NEW.id FROM audit_rows AS p
        WHERE p.fingerprint = NEW.fingerprint AND NOT {ANSWERED}
        ORDER BY p.audit_id DESC, p.place LIMIT 1;
    END
    """,
    # Blind: nothing that curate thinks of the row, in the order drawn. The thumbnail is the row itself.
    f"""
    CREATE VIEW audit_queue AS
    SELECT
        p.place, r.key, r.label AS given_label, r.media_path AS path, r.text, e.thumbnail,
        (
            SELECT w.verdict FROM audit_words AS b JOIN standing_reviews AS w ON w.id = b.review_id
            WHERE b.audit_id = p.audit_id AND b.place = p.place ORDER BY w.time DESC, w.id DESC LIMIT 1
        ) AS verdict,
        NULL AS new_label, NULL AS reviewer, NULL AS note,
        r.dataset, p.fingerprint, r.example_id, p.audit_id, p.again
    FROM {_OPEN}
    ORDER BY r.dataset, p.audit_id, p.place
    """,
    """
    CREATE TRIGGER audit_queue_verdict INSTEAD OF INSERT ON audit_queue BEGIN
        SELECT RAISE(ABORT, 'no row of the audit has this key')
        WHERE NOT EXISTS (
            SELECT 1 FROM audit_queue AS q WHERE q.key = NEW.key AND q.dataset = ifnull(NEW.dataset, q.dataset)
        );
        SELECT RAISE(ABORT, 'rows of several data sets have this key: give dataset as well')
        WHERE (
            SELECT count(DISTINCT q.fingerprint) FROM audit_queue AS q
            WHERE q.key = NEW.key AND q.dataset = ifnull(NEW.dataset, q.dataset)
        ) > 1;
        SELECT RAISE(ABORT, 'an audit suggests no label: give new_label, or the verdict drop')
        WHERE NEW.verdict = 'relabel' AND NEW.new_label IS NULL;
        SELECT RAISE(ABORT, 'new_label is the label that the row has: the verdict keep says so')
        WHERE NEW.verdict = 'relabel' AND NEW.new_label = (
            SELECT q.given_label FROM audit_queue AS q
            WHERE q.key = NEW.key AND q.dataset = ifnull(NEW.dataset, q.dataset) LIMIT 1
        );
        SELECT RAISE(ABORT, 'new_label is no class of the data set: insert it into labels first')
        WHERE NEW.verdict = 'relabel' AND NOT EXISTS (
            SELECT 1 FROM labels AS l JOIN datasets AS d ON d.id = l.dataset_id
            WHERE l.name = NEW.new_label AND d.name = (
                SELECT q.dataset FROM audit_queue AS q
                WHERE q.key = NEW.key AND q.dataset = ifnull(NEW.dataset, q.dataset) LIMIT 1
            )
        );
        INSERT INTO reviews (fingerprint, key, verdict, new_label, reviewer, note, time, source)
        SELECT
            q.fingerprint, q.key, NEW.verdict, CASE WHEN NEW.verdict = 'relabel' THEN NEW.new_label END,
            ifnull(NEW.reviewer, 'anonymous'), NEW.note,
            -- a clock that was put back must not make this word the older one
            max(
                strftime('%Y-%m-%dT%H:%M:%SZ', 'now'),
                ifnull((SELECT max(w.time) FROM reviews AS w WHERE w.fingerprint = q.fingerprint), '')
            ),
            'audit'
        FROM audit_queue AS q
        WHERE q.key = NEW.key AND q.dataset = ifnull(NEW.dataset, q.dataset)
        LIMIT 1;
    END
    """,
)
