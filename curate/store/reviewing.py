"""The fourth migration: verdicts of several reviewers, taken back by a new row, and what is live, stale or accepted.

Knows which word on a row is in force; like the tables and views before it, this text is never edited once released.
``standing_reviews`` holds every word that was not taken back; of those on one fingerprint the newest is in force.
"""


def in_force(fingerprint: str) -> str:
    """The id of the word in force on a fingerprint, in SQL; a file read in later never overrules a newer word."""
    return (
        f"(SELECT w.id FROM standing_reviews AS w WHERE w.fingerprint = {fingerprint} "
        "ORDER BY w.time DESC, w.id DESC LIMIT 1)"
    )


def disagree(fingerprint: str) -> str:
    """1 if the last words of two reviewers differ, `unsure` being no word against another."""
    return (
        f"(SELECT count(DISTINCT json_array(w.verdict, w.new_label)) > 1 FROM last_words AS w "
        f"WHERE w.fingerprint = {fingerprint} AND w.verdict <> 'unsure')"
    )


def of_run(example: str, run: str) -> str:
    """1 if the run has scores or a finding of the example, else 0, in SQL."""
    return (
        f"(EXISTS (SELECT 1 FROM scores AS s WHERE s.run_id = {run} AND s.example_id = {example}) "
        f"OR EXISTS (SELECT 1 FROM findings AS f WHERE f.run_id = {run} AND f.example_id = {example}))"
    )


# The rows that an INSERT into review_queue can mean: by key, or by eval:KEY.
MEANT = """
    current_rows AS r
    WHERE r.plain_key IN (NEW.key, substr(NEW.key, 6))
        AND (r.key = NEW.key OR (r.plain_key = NEW.key AND r.split = NEW.split))
        AND r.dataset = ifnull(NEW.dataset, r.dataset) AND r.split = ifnull(NEW.split, r.split)
        AND r.fingerprint = ifnull(NEW.fingerprint, r.fingerprint)
"""

SEVERAL = f"(SELECT count(DISTINCT r.fingerprint) FROM {MEANT}) > 1"

# dataset, split or fingerprint may be given as well, where the key alone stands for several rows.
# The verdict 'undo' takes back the newest word on the row: of the reviewer, where one is given.
QUEUE_TRIGGER = f"""
    CREATE TRIGGER review_queue_verdict INSTEAD OF INSERT ON review_queue BEGIN
        SELECT RAISE(ABORT, 'no row of a newest finished run has this key')
        WHERE NOT EXISTS (SELECT 1 FROM {MEANT});
        SELECT RAISE(ABORT, 'this key stands for several rows: give dataset or split as well')
        WHERE {SEVERAL};
        SELECT RAISE(ABORT, 'new_label is the label that the row has: the verdict keep says so')
        WHERE NEW.verdict = 'relabel' AND EXISTS (
            SELECT 1 FROM {MEANT} AND r.label = ifnull(NEW.new_label, r.suggested_label)
        );
        SELECT RAISE(ABORT, 'new_label is no class of the data set: insert it into labels first')
        WHERE NEW.verdict = 'relabel' AND NEW.new_label IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM labels AS l JOIN datasets AS d ON d.id = l.dataset_id
            WHERE l.name = NEW.new_label AND d.name = (SELECT r.dataset FROM {MEANT} LIMIT 1)
        );
        SELECT RAISE(ABORT, 'there is no verdict on this row to take back')
        WHERE NEW.verdict = 'undo' AND NOT EXISTS (
            SELECT 1 FROM standing_reviews AS w
            WHERE w.fingerprint = (SELECT r.fingerprint FROM {MEANT} LIMIT 1)
                AND w.reviewer = ifnull(NEW.reviewer, w.reviewer)
        );
        INSERT INTO reviews (fingerprint, key, verdict, new_label, reviewer, note, time, source, undoes)
        SELECT
            r.fingerprint, r.key, CASE WHEN NEW.verdict = 'undo' THEN 'unsure' ELSE NEW.verdict END,
            CASE WHEN NEW.verdict = 'relabel' THEN ifnull(NEW.new_label, r.suggested_label) END,
            ifnull(NEW.reviewer, 'anonymous'), NEW.note,
            -- a clock that was put back must not make this word the older one
            max(
                strftime('%Y-%m-%dT%H:%M:%SZ', 'now'),
                ifnull((SELECT max(w.time) FROM reviews AS w WHERE w.fingerprint = r.fingerprint), '')
            ),
            'sql',
            CASE WHEN NEW.verdict = 'undo' THEN (
                SELECT w.id FROM standing_reviews AS w
                WHERE w.fingerprint = r.fingerprint AND w.reviewer = ifnull(NEW.reviewer, w.reviewer)
                ORDER BY w.time DESC, w.id DESC LIMIT 1
            ) END
        FROM {MEANT}
        LIMIT 1;
    END
    """

_DROPPED = ("run_findings", "current_findings", "review_queue", "rule_precision", "cleaned")

REVIEWING = (
    # Datasette and sqlite-utils find a full-text table by content="examples", in these quotes.
    "DROP TABLE examples_fts",
    'CREATE VIRTUAL TABLE examples_fts USING fts5 (key, text, content="examples", content_rowid="id")',
    "INSERT INTO examples_fts (examples_fts) VALUES ('rebuild')",
    "CREATE INDEX examples_content ON examples (content_sha256)",
    "ALTER TABLE reviews ADD COLUMN undoes INTEGER REFERENCES reviews (id)",
    "DROP INDEX reviews_fingerprint",
    "CREATE INDEX reviews_newest ON reviews (fingerprint, time, id)",
    "CREATE UNIQUE INDEX reviews_undone ON reviews (undoes) WHERE undoes IS NOT NULL",
    """
    CREATE TRIGGER reviews_undo BEFORE INSERT ON reviews WHEN NEW.undoes IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'only a verdict on the same row, not taken back before, can be taken back')
        WHERE NOT EXISTS (SELECT 1 FROM standing_reviews WHERE id = NEW.undoes AND fingerprint = NEW.fingerprint);
        SELECT RAISE(ABORT, 'a row that takes a verdict back has the verdict unsure')
        WHERE NEW.verdict <> 'unsure';
    END
    """,
    """
    CREATE TABLE accepted (
        dataset_id INTEGER NOT NULL REFERENCES datasets (id),
        fingerprint TEXT NOT NULL,
        rule TEXT NOT NULL,
        key TEXT NOT NULL,
        time TEXT NOT NULL,
        PRIMARY KEY (dataset_id, fingerprint)
    ) STRICT, WITHOUT ROWID
    """,
    *(f"DROP VIEW {view}" for view in _DROPPED),
    """
    CREATE VIEW standing_reviews AS
    SELECT v.* FROM reviews AS v
    WHERE v.undoes IS NULL AND NOT EXISTS (SELECT 1 FROM reviews AS u WHERE u.undoes = v.id)
    """,
    """
    CREATE VIEW last_words AS
    SELECT v.* FROM standing_reviews AS v
    WHERE NOT EXISTS (
        SELECT 1 FROM standing_reviews AS n
        WHERE n.fingerprint = v.fingerprint AND n.reviewer = v.reviewer AND (n.time, n.id) > (v.time, v.id)
    )
    """,
    f"""
    CREATE VIEW run_findings AS
    SELECT
        f.run_id, e.dataset, f.example_id, e.split, e.key, e.label, f.rule, f.severity, f.score, f.evidence, f.why,
        CASE
            WHEN {in_force("e.fingerprint")} IS NOT NULL THEN 'reviewed'
            WHEN EXISTS (
                SELECT 1 FROM accepted AS a WHERE a.dataset_id = e.dataset_id AND a.fingerprint = f.fingerprint
            ) THEN 'accepted'
            WHEN EXISTS (
                SELECT 1 FROM findings AS p JOIN runs AS q ON q.id = p.run_id
                WHERE p.fingerprint = f.fingerprint AND p.run_id < f.run_id AND q.status = 'finished'
            ) THEN 'known'
            ELSE 'new'
        END AS state,
        f.fingerprint, e.fingerprint AS row_fingerprint
    FROM findings AS f JOIN named_examples AS e ON e.id = f.example_id
    """,
    """
    CREATE VIEW current_findings AS
    SELECT f.* FROM run_findings AS f WHERE f.run_id IN (SELECT run_id FROM current_runs)
    """,
    f"""
    CREATE VIEW review_queue AS
    SELECT
        e.key, e.split, q.rules, e.label AS given_label, s.suggested_label, s.suspicion, s.harm, q.why,
        e.media_path AS path, e.text, e.thumbnail, v.verdict, v.new_label, v.reviewer, v.note,
        e.dataset, e.fingerprint,
        CASE WHEN v.id IS NULL THEN 0 ELSE {disagree("e.fingerprint")} END AS disagreement
    FROM (
        SELECT run_id, example_id, group_concat(rule, ', ') AS rules, group_concat(why, ' ') AS why
        FROM (
            SELECT run_id, example_id, rule, why FROM findings
            WHERE run_id IN (SELECT run_id FROM current_runs)
            ORDER BY run_id, example_id, instr('error warning note', severity), rule
        )
        GROUP BY run_id, example_id
    ) AS q
    JOIN named_examples AS e ON e.id = q.example_id
    LEFT JOIN scores AS s ON s.run_id = q.run_id AND s.example_id = q.example_id
    LEFT JOIN reviews AS v ON v.id = {in_force("e.fingerprint")}
    ORDER BY v.verdict IS NOT NULL, s.suspicion DESC, e.key
    """,
    QUEUE_TRIGGER,
    # One line a row that somebody has spoken on. live: the newest finished run holds the row as it was then;
    # stale: it holds it with another content or label; gone: it does not hold it; unseen: it took a sample (--limit)
    # without it, or the word was read from a file and its row was never scanned here.
    f"""
    CREATE VIEW verdicts AS
    SELECT
        b.dataset, b.key, b.split, b.label AS given_label, v.verdict, v.new_label, v.reviewer, v.note, v.time, v.source,
        CASE
            WHEN b.id IS NULL THEN 'unseen'
            WHEN b.live THEN 'live'
            WHEN b.now_fingerprint IS NOT NULL THEN 'stale'
            WHEN b.sampled THEN 'unseen'
            ELSE 'gone'
        END AS state,
        CASE WHEN NOT b.live THEN b.now_key END AS now_key, CASE WHEN NOT b.live THEN b.now_label END AS now_label,
        (SELECT count(*) FROM last_words AS w WHERE w.fingerprint = v.fingerprint) AS reviewers,
        {disagree("v.fingerprint")} AS disagreement,
        (
            SELECT group_concat(w.reviewer || ': ' || w.verdict || ifnull(' to ' || w.new_label, ''), '; ')
            FROM (SELECT * FROM last_words WHERE fingerprint = v.fingerprint ORDER BY reviewer) AS w
        ) AS words,
        v.fingerprint, v.id AS review_id
    FROM reviews AS v
    LEFT JOIN reviewed_rows AS b ON b.fingerprint = v.fingerprint
    WHERE v.id = {in_force("v.fingerprint")}
    ORDER BY v.time DESC, v.id DESC
    """,
    # The row that a fingerprint was given on, and what has become of it in the newest finished run.
    f"""
    CREATE VIEW reviewed_rows AS
    SELECT
        x.*, n.fingerprint AS now_fingerprint, n.key AS now_key, n.label AS now_label
    FROM (
        SELECT
            e.*, c.run_id, json_extract(r.settings, '$.limit') IS NOT NULL AS sampled,
            {of_run("e.id", "c.run_id")} AS live,
            row_number() OVER (
                PARTITION BY e.fingerprint ORDER BY {of_run("e.id", "c.run_id")} DESC, e.id DESC
            ) AS turn,
            -- the same key with another content or label, else the same content under another label
            ifnull(
                (
                    SELECT o.id FROM examples AS o
                    WHERE o.key = e.plain_key AND o.dataset_id = e.dataset_id AND o.split = e.split AND o.id <> e.id
                        AND {of_run("o.id", "c.run_id")}
                    LIMIT 1
                ),
                (
                    SELECT o.id FROM examples AS o
                    WHERE o.content_sha256 = e.content_sha256 AND e.content_sha256 <> '' AND o.split = e.split
                        AND o.dataset_id = e.dataset_id AND o.label IS NOT e.label AND {of_run("o.id", "c.run_id")}
                        -- a copy that stood beside the row before is not what has become of it
                        AND NOT EXISTS (
                            SELECT 1 FROM scores AS mine JOIN scores AS its ON its.run_id = mine.run_id
                            WHERE mine.example_id = e.id AND its.example_id = o.id
                        )
                    LIMIT 1
                )
            ) AS now_id
        FROM named_examples AS e
        LEFT JOIN current_runs AS c ON c.dataset_id = e.dataset_id
        LEFT JOIN runs AS r ON r.id = c.run_id
        WHERE e.fingerprint IN (SELECT fingerprint FROM reviews)
    ) AS x
    LEFT JOIN named_examples AS n ON n.id = x.now_id AND NOT x.live
    WHERE x.turn = 1
    """,
    # Over all finished runs, each row counted once a rule: relabel and drop confirm, keep refutes, unsure is neither.
    f"""
    CREATE VIEW rule_precision AS
    SELECT
        dataset, rule, count(*) AS flagged,
        count(*) FILTER (WHERE verdict IN ('relabel', 'drop')) AS confirmed,
        count(*) FILTER (WHERE verdict = 'keep') AS refuted,
        count(*) FILTER (WHERE verdict = 'unsure') AS unsure,
        1.0 * count(*) FILTER (WHERE verdict IN ('relabel', 'drop'))
            / nullif(count(*) FILTER (WHERE verdict IN ('relabel', 'drop', 'keep')), 0) AS precision
    FROM (
        SELECT DISTINCT d.name AS dataset, f.rule, e.fingerprint, v.verdict
        FROM findings AS f
        JOIN runs AS r ON r.id = f.run_id AND r.status = 'finished'
        JOIN examples AS e ON e.id = f.example_id
        JOIN datasets AS d ON d.id = e.dataset_id
        LEFT JOIN reviews AS v ON v.id = {in_force("e.fingerprint")}
    )
    GROUP BY dataset, rule
    """,
    f"""
    CREATE VIEW cleaned AS
    SELECT
        r.dataset, r.split, r.key, r.position,
        CASE WHEN v.verdict = 'relabel' THEN v.new_label ELSE r.label END AS label,
        r.label AS given_label, v.verdict, r.media_path, r.text, r.fingerprint
    FROM current_rows AS r
    LEFT JOIN reviews AS v ON v.id = {in_force("r.fingerprint")}
    WHERE v.verdict IS NOT 'drop'
    """,
)
