"""The views of a curate database: what reviewers, Datasette and scripts read, and where a verdict can be written.

"Current" means the newest finished run of each data set. Like the tables, this text is never edited once released.
``named_examples``, ``run_findings``, ``current_runs`` and ``current_rows`` are the steps the public views stand on.
"""

VIEWS = (
    """
    CREATE VIEW current_runs AS
    SELECT max(id) AS run_id, dataset_id FROM runs WHERE status = 'finished' GROUP BY dataset_id
    """,
    # `key` as people read it: eval:KEY where an evaluation row has the key of a training row.
    """
    CREATE VIEW named_examples AS
    SELECT
        e.id, e.dataset_id, d.name AS dataset, e.split,
        CASE WHEN e.split = 'eval' AND EXISTS (
            SELECT 1 FROM examples AS t WHERE t.dataset_id = e.dataset_id AND t.split = 'train' AND t.key = e.key
        ) THEN 'eval:' || e.key ELSE e.key END AS key,
        e.key AS plain_key, e.position, e.content_sha256, e.label, e.media_path, e.text, e.thumbnail, e.seen,
        e.fingerprint
    FROM examples AS e JOIN datasets AS d ON d.id = e.dataset_id
    """,
    """
    CREATE VIEW run_findings AS
    SELECT
        f.run_id, e.dataset, f.example_id, e.split, e.key, e.label, f.rule, f.severity, f.score, f.evidence, f.why,
        CASE
            WHEN EXISTS (SELECT 1 FROM reviews AS v WHERE v.fingerprint = e.fingerprint) THEN 'reviewed'
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
    """
    CREATE VIEW latest_scores AS
    SELECT
        s.run_id, e.dataset, s.example_id, e.split, e.key, e.label, s.suspicion, s.rank, s.loss, s.margin,
        s.self_influence, s.harm, s.neighbour_agreement, s.given_probability, s.suggested_label,
        s.suggested_probability, e.media_path, e.fingerprint
    FROM scores AS s JOIN named_examples AS e ON e.id = s.example_id
    WHERE s.run_id IN (SELECT run_id FROM current_runs)
    """,
    """
    CREATE VIEW current_rows AS
    SELECT
        c.run_id, e.id AS example_id, e.dataset, e.split, e.key, e.plain_key, e.position, e.label,
        s.suggested_label, e.media_path, e.text, e.fingerprint
    FROM current_runs AS c
    JOIN named_examples AS e ON e.dataset_id = c.dataset_id
    LEFT JOIN scores AS s ON s.run_id = c.run_id AND s.example_id = e.id
    WHERE s.example_id IS NOT NULL
        OR EXISTS (SELECT 1 FROM findings AS f WHERE f.run_id = c.run_id AND f.example_id = e.id)
    """,
    """
    CREATE VIEW review_queue AS
    SELECT
        e.key, e.split, q.rules, e.label AS given_label, s.suggested_label, s.suspicion, s.harm, q.why,
        e.media_path AS path, e.text, e.thumbnail, v.verdict, v.new_label, v.reviewer, v.note,
        e.dataset, e.fingerprint
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
    LEFT JOIN reviews AS v ON v.id = (SELECT max(id) FROM reviews WHERE fingerprint = e.fingerprint)
    ORDER BY v.verdict IS NOT NULL, s.suspicion DESC, e.key
    """,
    # dataset, split or fingerprint may be given as well, where the key alone stands for several rows.
    """
    CREATE TRIGGER review_queue_verdict INSTEAD OF INSERT ON review_queue BEGIN
        SELECT RAISE(ABORT, 'no row of a newest finished run has this key')
        WHERE NOT EXISTS (
            SELECT 1 FROM current_rows AS r
            WHERE r.plain_key IN (NEW.key, substr(NEW.key, 6))
                AND (r.key = NEW.key OR (r.plain_key = NEW.key AND r.split = NEW.split))
                AND r.dataset = ifnull(NEW.dataset, r.dataset) AND r.split = ifnull(NEW.split, r.split)
                AND r.fingerprint = ifnull(NEW.fingerprint, r.fingerprint)
        );
        SELECT RAISE(ABORT, 'this key stands for several rows: give dataset or split as well')
        WHERE (
            SELECT count(DISTINCT r.fingerprint) FROM current_rows AS r
            WHERE r.plain_key IN (NEW.key, substr(NEW.key, 6))
                AND (r.key = NEW.key OR (r.plain_key = NEW.key AND r.split = NEW.split))
                AND r.dataset = ifnull(NEW.dataset, r.dataset) AND r.split = ifnull(NEW.split, r.split)
                AND r.fingerprint = ifnull(NEW.fingerprint, r.fingerprint)
        ) > 1;
        INSERT INTO reviews (fingerprint, key, verdict, new_label, reviewer, note, time, source)
        SELECT
            r.fingerprint, r.key, NEW.verdict,
            CASE WHEN NEW.verdict = 'relabel' THEN ifnull(NEW.new_label, r.suggested_label) END,
            ifnull(NEW.reviewer, 'anonymous'), NEW.note, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), 'sql'
        FROM current_rows AS r
        WHERE r.plain_key IN (NEW.key, substr(NEW.key, 6))
            AND (r.key = NEW.key OR (r.plain_key = NEW.key AND r.split = NEW.split))
            AND r.dataset = ifnull(NEW.dataset, r.dataset) AND r.split = ifnull(NEW.split, r.split)
            AND r.fingerprint = ifnull(NEW.fingerprint, r.fingerprint)
        LIMIT 1;
    END
    """,
    """
    CREATE VIEW label_confusions AS
    SELECT
        e.dataset, e.split, e.label AS given_label, s.suggested_label, count(*) AS rows,
        avg(s.suspicion) AS mean_suspicion
    FROM findings AS f
    JOIN named_examples AS e ON e.id = f.example_id
    LEFT JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id
    WHERE f.rule = 'mislabeled' AND f.run_id IN (SELECT run_id FROM current_runs)
    GROUP BY e.dataset, e.split, e.label, s.suggested_label
    ORDER BY rows DESC
    """,
    # Over all finished runs, each row counted once a rule: relabel and drop confirm, keep refutes, unsure is neither.
    """
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
        LEFT JOIN reviews AS v ON v.id = (SELECT max(id) FROM reviews WHERE fingerprint = e.fingerprint)
    )
    GROUP BY dataset, rule
    """,
    """
    CREATE VIEW cleaned AS
    SELECT
        r.dataset, r.split, r.key, r.position,
        CASE WHEN v.verdict = 'relabel' THEN v.new_label ELSE r.label END AS label,
        r.label AS given_label, v.verdict, r.media_path, r.text, r.fingerprint
    FROM current_rows AS r
    LEFT JOIN reviews AS v ON v.id = (SELECT max(id) FROM reviews WHERE fingerprint = r.fingerprint)
    WHERE v.verdict IS NOT 'drop'
    """,
)

LATEST_SCORES = """
    CREATE VIEW latest_scores AS
    SELECT
        s.run_id, e.dataset, s.example_id, e.split, e.key, e.label, s.suspicion, s.rank, s.loss, s.margin,
        s.self_influence, s.harm, s.neighbour_agreement, s.given_probability, s.suggested_label,
        s.suggested_probability, s.detectors, e.media_path, e.fingerprint
    FROM scores AS s JOIN named_examples AS e ON e.id = s.example_id
    WHERE s.run_id IN (SELECT run_id FROM current_runs)
    """
