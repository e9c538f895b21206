"""The fifth migration: what makes the database readable in Datasette as it is, and a verdict quick to find.

Datasette shows a row that another table points to by its column ``title``; the review queue can be searched by the
full-text index once it names the example. Like the texts before it, this one is never edited once released.
"""

from curate.store.reviewing import MEANT, QUEUE_TRIGGER, SEVERAL, disagree, in_force, of_run

# `key` as people read it, of the tables behind the aliases.
_KEY = """
        CASE WHEN b.split = 'eval' AND EXISTS (
            SELECT 1 FROM examples AS t WHERE t.dataset_id = b.dataset_id AND t.split = 'train' AND t.key = b.key
        ) THEN 'eval:' || b.key ELSE b.key END
"""
_NOW_KEY = _KEY.replace("b.", "n.")
_LIVE = of_run("b.id", "c.run_id")
# A count of distinct fingerprints reads the whole index of them: 35 ms at 100,000 rows, for each verdict.
_SEVERAL = f"EXISTS (SELECT 1 FROM {MEANT} AND r.fingerprint <> (SELECT r.fingerprint FROM {MEANT} LIMIT 1))"

BROWSING = (
    # Generated, so that it takes no room: a text's beginning says more than its key, which is a hash.
    """
    ALTER TABLE examples ADD COLUMN title TEXT GENERATED ALWAYS AS (
        CASE WHEN text IS NULL OR text = '' THEN key
            WHEN length(text) > 80 THEN substr(text, 1, 79) || '…' ELSE text END
    ) VIRTUAL
    """,
    "DROP VIEW review_queue",
    f"""
    CREATE VIEW review_queue AS
    SELECT
        e.key, e.split, q.rules, e.label AS given_label, s.suggested_label, s.suspicion, s.harm, q.why,
        e.media_path AS path, e.text, e.thumbnail, v.verdict, v.new_label, v.reviewer, v.note,
        e.dataset, e.fingerprint,
        CASE WHEN v.id IS NULL THEN 0 ELSE {disagree("e.fingerprint")} END AS disagreement, q.example_id
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
    QUEUE_TRIGGER.replace(SEVERAL, _SEVERAL),
    # As before, but every row is looked up by an index: a condition on the fingerprint costs what one row costs.
    "DROP VIEW verdicts",
    f"""
    CREATE VIEW verdicts AS
    SELECT
        d.name AS dataset, CASE WHEN b.id IS NULL THEN v.key ELSE {_KEY} END AS key, b.split, b.label AS given_label,
        v.verdict, v.new_label, v.reviewer, v.note, v.time, v.source,
        CASE
            WHEN b.id IS NULL THEN 'unseen'
            WHEN {_LIVE} THEN 'live'
            WHEN n.id IS NOT NULL THEN 'stale'
            WHEN json_extract(r.settings, '$.limit') IS NOT NULL THEN 'unseen'
            ELSE 'gone'
        END AS state,
        CASE WHEN n.id IS NOT NULL THEN {_NOW_KEY} END AS now_key, n.label AS now_label,
        (SELECT count(*) FROM last_words AS w WHERE w.fingerprint = v.fingerprint) AS reviewers,
        {disagree("v.fingerprint")} AS disagreement,
        (
            SELECT group_concat(w.reviewer || ': ' || w.verdict || ifnull(' to ' || w.new_label, ''), '; ')
            FROM (SELECT * FROM last_words WHERE fingerprint = v.fingerprint ORDER BY reviewer) AS w
        ) AS words,
        v.fingerprint, v.id AS review_id
    FROM reviews AS v
    LEFT JOIN examples AS b ON b.id = (
        SELECT o.id FROM examples AS o LEFT JOIN current_runs AS k ON k.dataset_id = o.dataset_id
        WHERE o.fingerprint = v.fingerprint
        ORDER BY {of_run("o.id", "k.run_id")} DESC, o.id DESC LIMIT 1
    )
    LEFT JOIN datasets AS d ON d.id = b.dataset_id
    LEFT JOIN current_runs AS c ON c.dataset_id = b.dataset_id
    LEFT JOIN runs AS r ON r.id = c.run_id
    -- the same key with another content or label, else the same content under another label
    LEFT JOIN examples AS n ON n.id = CASE WHEN NOT {_LIVE} THEN ifnull(
        (
            SELECT o.id FROM examples AS o
            WHERE o.key = b.key AND o.dataset_id = b.dataset_id AND o.split = b.split AND o.id <> b.id
                AND {of_run("o.id", "c.run_id")}
            LIMIT 1
        ),
        (
            SELECT o.id FROM examples AS o
            WHERE o.content_sha256 = b.content_sha256 AND b.content_sha256 <> '' AND o.split = b.split
                AND o.dataset_id = b.dataset_id AND o.label IS NOT b.label AND {of_run("o.id", "c.run_id")}
                -- a copy that stood beside the row before is not what has become of it
                AND NOT EXISTS (
                    SELECT 1 FROM scores AS mine JOIN scores AS its ON its.run_id = mine.run_id
                    WHERE mine.example_id = b.id AND its.example_id = o.id
                )
            LIMIT 1
        )
    ) END
    WHERE v.id = {in_force("v.fingerprint")}
    ORDER BY v.time DESC, v.id DESC
    """,
)
