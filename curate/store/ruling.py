"""The tenth migration: rules and verdict words are tables, a verdict may be on one rule, a finding has a subject.

The text is never edited once released. ``keep_rules`` brings the table `rules` in step with ``RULES`` when a database
is opened, so that a new rule needs no migration.
"""

import json
import sqlite3
from typing import TYPE_CHECKING

from curate.rules.rule import RULES
from curate.store.auditing import AUDITING
from curate.store.browsing import BROWSING
from curate.store.reviewing import REVIEWING, disagree, in_force

if TYPE_CHECKING:
    from sqlite_utils.db import Database

_TABLES = (
    """
    CREATE TABLE rules (
        name TEXT PRIMARY KEY CHECK (name <> ''),
        severity TEXT NOT NULL CHECK (severity IN ('error', 'warning', 'note')),
        subject TEXT NOT NULL CHECK (subject <> ''),
        title TEXT NOT NULL,
        means TEXT NOT NULL,
        "do" TEXT NOT NULL,
        confirmed_by TEXT NOT NULL CHECK (json_valid(confirmed_by)),
        since TEXT NOT NULL,
        preview INTEGER NOT NULL CHECK (preview IN (0, 1))
    ) STRICT
    """,
    """
    INSERT INTO rules (name, severity, subject, title, means, "do", confirmed_by, since, preview)
    SELECT value, 'error', 'row', value, '', '', '["relabel","drop","none"]', '0.1.0', 0
    FROM json_each('["mislabeled","harmful","conflict","leak","unreadable"]')
    """,
    "CREATE TABLE verdict_words (word TEXT PRIMARY KEY CHECK (word <> ''), means TEXT NOT NULL) STRICT",
    """
    INSERT INTO verdict_words (word, means) VALUES
        ('relabel', 'the label is wrong, and new_label is right'), ('keep', 'the row is as it should be'),
        ('drop', 'the row does not belong in the set'), ('none', 'no class fits: off-topic'),
        ('unsure', 'no word for or against')
    """,
)

_FINDINGS = """
    CREATE TABLE {name} (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        example_id INTEGER REFERENCES examples (id),
        rule TEXT NOT NULL REFERENCES rules (name),
        severity TEXT NOT NULL CHECK (severity IN ('error', 'warning', 'note')),
        score REAL,
        evidence TEXT NOT NULL CHECK (json_valid(evidence)),
        why TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        subject TEXT NOT NULL DEFAULT 'row' CHECK (subject <> ''),
        subject_name TEXT,
        subject_fingerprint TEXT,
        CHECK ((subject = 'row') = (subject_fingerprint IS NULL)),
        CHECK (subject <> 'row' OR example_id IS NOT NULL)
    ) STRICT
    """

_REVIEWS = """
    CREATE TABLE {name} (
        id INTEGER PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        key TEXT NOT NULL,
        verdict TEXT NOT NULL REFERENCES verdict_words (word),
        new_label TEXT,
        reviewer TEXT NOT NULL,
        note TEXT,
        time TEXT NOT NULL,
        source TEXT NOT NULL,
        undoes INTEGER REFERENCES reviews (id),
        rule TEXT REFERENCES rules (name),
        CHECK ((verdict = 'relabel') = (new_label IS NOT NULL))
    ) STRICT
    """

# Foreign keys are checked only by connections that ask for it: sqlite3's shell and Datasette do not.
_CHECKS = (
    """
    CREATE TRIGGER findings_rule_known BEFORE INSERT ON findings BEGIN
        SELECT RAISE(ABORT, 'no such rule: the table rules has them')
        WHERE NOT EXISTS (SELECT 1 FROM rules WHERE name = NEW.rule);
    END
    """,
    """
    CREATE TRIGGER reviews_words_known BEFORE INSERT ON reviews BEGIN
        SELECT RAISE(ABORT, 'no such verdict: the table verdict_words has them')
        WHERE NOT EXISTS (SELECT 1 FROM verdict_words WHERE word = NEW.verdict);
        SELECT RAISE(ABORT, 'no such rule: the table rules has them')
        WHERE NEW.rule IS NOT NULL AND NOT EXISTS (SELECT 1 FROM rules WHERE name = NEW.rule);
    END
    """,
)


def _row_word(fingerprint: str) -> str:
    """The id of the word that counts on a row as a whole, in SQL."""
    return (
        f"(SELECT w.id FROM words_in_force AS w WHERE w.fingerprint = {fingerprint} "
        "ORDER BY w.of_row DESC, w.time DESC, w.id DESC LIMIT 1)"
    )


def _differ(fingerprint: str) -> str:
    """1 if the last words of two reviewers on the same question differ, `unsure` being no word against another."""
    return (
        "ifnull((SELECT max(x.words) > 1 FROM (SELECT count(DISTINCT json_array(w.verdict, w.new_label)) AS words "
        f"FROM last_words AS w WHERE w.fingerprint = {fingerprint} AND w.verdict <> 'unsure' GROUP BY w.rule) AS x), 0)"
    )


def _released(kind: str, name: str, *changes: tuple[str, str]) -> tuple[str, str]:
    """Drop a view or a trigger, and make it again from its released text with these changes."""
    texts = (*REVIEWING, *BROWSING, *AUDITING)
    text = next(text for text in reversed(texts) if f"CREATE {kind} {name} " in text)
    for old, new in changes:
        if old not in text:
            raise AssertionError(f"{name} does not hold {old}")
        text = text.replace(old, new)
    return f"DROP {kind} IF EXISTS {name}", text


_KEY = """
            CASE WHEN e.id IS NULL THEN f.subject || ':' || f.subject_name
            WHEN e.split = 'eval' AND EXISTS (
                SELECT 1 FROM examples AS t WHERE t.dataset_id = e.dataset_id AND t.split = 'train' AND t.key = e.key
            ) THEN 'eval:' || e.key ELSE e.key END
"""

# The newest word that speaks of a finding: on its row (or its subject) as a whole, or on its rule.
_SPEAKS = """
            SELECT w.verdict FROM standing_reviews AS w
            WHERE w.fingerprint IN (e.fingerprint, f.subject_fingerprint) AND (w.rule IS NULL OR w.rule = f.rule)
            ORDER BY w.time DESC, w.id DESC LIMIT 1
"""

# What somebody who spoke of a row had before him: the newest run that had ended and found something on it.
_SHOWN = """
    SELECT ifnull(max(CASE WHEN r.finished <= v.time THEN r.id END), min(r.id))
    FROM runs AS r JOIN findings AS g ON g.run_id = r.id JOIN examples AS x ON x.id = g.example_id
    WHERE x.fingerprint = v.fingerprint AND r.status = 'finished'
"""

_VIEWS = (
    *("DROP VIEW last_words", "DROP VIEW run_findings", "DROP VIEW rule_precision"),
    """
    CREATE VIEW last_words AS
    SELECT v.* FROM standing_reviews AS v
    WHERE NOT EXISTS (
        SELECT 1 FROM standing_reviews AS n
        WHERE n.fingerprint = v.fingerprint AND n.reviewer = v.reviewer AND n.rule IS v.rule
            AND (n.time, n.id) > (v.time, v.id)
    )
    """,
    # A keep or unsure on one rule says nothing of the row: it counts for the row only if nothing else does.
    """
    CREATE VIEW words_in_force AS
    SELECT v.*, v.rule IS NULL OR v.verdict NOT IN ('keep', 'unsure') AS of_row FROM standing_reviews AS v
    WHERE NOT EXISTS (
        SELECT 1 FROM standing_reviews AS n
        WHERE n.fingerprint = v.fingerprint AND n.rule IS v.rule AND (n.time, n.id) > (v.time, v.id)
    )
    """,
    f"""
    CREATE VIEW finding_words AS
    SELECT fingerprint, rule, verdict, reviewer, time, review_id FROM (
        SELECT *, row_number() OVER (PARTITION BY fingerprint, rule ORDER BY time DESC, review_id DESC) AS turn FROM (
            SELECT
                v.fingerprint, v.verdict, v.reviewer, v.time, v.id AS review_id,
                ifnull(v.rule, (
                    SELECT CASE WHEN count(DISTINCT f.rule) = 1 THEN max(f.rule) END
                    FROM examples AS e JOIN findings AS f ON f.example_id = e.id AND f.run_id = ({_SHOWN})
                    WHERE e.fingerprint = v.fingerprint
                )) AS rule
            FROM standing_reviews AS v
        )
    )
    WHERE turn = 1 AND rule IS NOT NULL
    """,
    f"""
    CREATE VIEW run_findings AS
    SELECT
        f.run_id, d.name AS dataset, f.example_id, ifnull(e.split, 'train') AS split, {_KEY} AS key, e.label, f.rule,
        f.severity, f.score, f.evidence, f.why,
        CASE
            WHEN ({_SPEAKS}) IS NOT NULL THEN 'reviewed'
            WHEN EXISTS (
                SELECT 1 FROM accepted AS a WHERE a.dataset_id = r.dataset_id AND a.fingerprint = f.fingerprint
            ) THEN 'accepted'
            WHEN EXISTS (
                SELECT 1 FROM findings AS p JOIN runs AS q ON q.id = p.run_id
                WHERE p.fingerprint = f.fingerprint AND p.run_id < f.run_id AND q.status = 'finished'
            ) THEN 'known'
            ELSE 'new'
        END AS state,
        f.fingerprint, ifnull(f.subject_fingerprint, e.fingerprint) AS row_fingerprint, ({_SPEAKS}) AS verdict,
        f.subject, f.subject_name
    FROM findings AS f JOIN runs AS r ON r.id = f.run_id JOIN datasets AS d ON d.id = r.dataset_id
    LEFT JOIN examples AS e ON e.id = f.example_id
    """,
    # Over all finished runs, each row counted once a rule; only words that speak of the rule count.
    """
    CREATE VIEW rule_precision AS
    SELECT
        dataset, rule, count(*) AS flagged, sum(confirmed) AS confirmed, sum(refuted) AS refuted, sum(unsure) AS unsure,
        1.0 * sum(confirmed) / nullif(sum(confirmed) + sum(refuted), 0) AS precision
    FROM (
        SELECT
            o.dataset, o.rule, ifnull(w.verdict = 'keep', 0) AS refuted, ifnull(w.verdict = 'unsure', 0) AS unsure,
            EXISTS (SELECT 1 FROM json_each(u.confirmed_by) AS j WHERE j.value = w.verdict) AS confirmed
        FROM (
            SELECT DISTINCT d.name AS dataset, f.rule, ifnull(f.subject_fingerprint, e.fingerprint) AS fingerprint
            FROM findings AS f
            JOIN runs AS r ON r.id = f.run_id AND r.status = 'finished'
            JOIN datasets AS d ON d.id = r.dataset_id
            LEFT JOIN examples AS e ON e.id = f.example_id
        ) AS o
        JOIN rules AS u ON u.name = o.rule
        LEFT JOIN finding_words AS w ON w.fingerprint = o.fingerprint AND w.rule = o.rule
    )
    GROUP BY dataset, rule
    """,
    *_released(
        "VIEW",
        "review_queue",
        (in_force("e.fingerprint"), _row_word("e.fingerprint")),
        (disagree("e.fingerprint"), _differ("e.fingerprint")),
        ("AS disagreement, q.example_id", "AS disagreement, q.example_id, v.rule"),
    ),
    *_released(
        "TRIGGER",
        "review_queue_verdict",
        ("source, undoes)", "source, rule, undoes)"),
        ("'sql',", "'sql', CASE WHEN NEW.verdict <> 'undo' THEN NEW.rule END,"),
    ),
    *_released(
        "VIEW",
        "verdicts",
        (in_force("v.fingerprint"), _row_word("v.fingerprint")),
        (disagree("v.fingerprint"), _differ("v.fingerprint")),
        ("(SELECT count(*) FROM last_words", "(SELECT count(DISTINCT w.reviewer) FROM last_words"),
        ("ifnull(' to ' || w.new_label, '')", "ifnull(' to ' || w.new_label, '') || ifnull(' (' || w.rule || ')', '')"),
        ("v.fingerprint ORDER BY reviewer)", "v.fingerprint ORDER BY reviewer, rule)"),
        ("v.id AS review_id", "v.id AS review_id, v.rule"),
    ),
    *_released(
        "VIEW",
        "cleaned",
        (in_force("r.fingerprint"), _row_word("r.fingerprint")),
        ("v.verdict IS NOT 'drop'", "v.verdict IS NULL OR v.verdict NOT IN ('drop', 'none')"),
    ),
    # An audit asks whether labels are right: a word on another rule is no answer.
    *_released(
        "TRIGGER",
        "reviews_audited",
        ("WHEN NEW.undoes IS NULL", "WHEN NEW.undoes IS NULL AND ifnull(NEW.rule, 'mislabeled') = 'mislabeled'"),
    ),
)


def apply(db: "Database") -> None:
    """Make the tables and views anew; what they hold stays, and so do fingerprints."""
    for statement in _TABLES:
        db.execute(statement)
    _rebuild(db, "findings", _FINDINGS)
    db.execute("CREATE UNIQUE INDEX findings_of_row ON findings (run_id, example_id, rule)")
    db.execute("CREATE UNIQUE INDEX findings_of_subject ON findings (run_id, fingerprint) WHERE example_id IS NULL")
    db.execute("CREATE INDEX findings_subject ON findings (subject_fingerprint) WHERE subject_fingerprint IS NOT NULL")
    _rebuild(db, "reviews", _REVIEWS)
    for statement in (*_CHECKS, *_VIEWS):
        db.execute(statement)


def _rebuild(db: "Database", table: str, made: str) -> None:
    """Another table in the place of this one, with its rows, indexes and triggers: SQLite takes no CHECK away."""
    parts = db.execute(
        "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL "
        "ORDER BY rowid",
        [table],
    ).fetchall()
    columns = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
    db.execute(made.format(name=f"{table}_made"))
    db.execute(f"INSERT INTO {table}_made ({columns}) SELECT {columns} FROM {table}")
    db.execute(f"DROP TABLE {table}")
    db.execute("PRAGMA legacy_alter_table = ON")  # views and triggers go on naming the table by its old name
    db.execute(f"ALTER TABLE {table}_made RENAME TO {table}")
    db.execute("PRAGMA legacy_alter_table = OFF")
    for (statement,) in parts:
        db.execute(statement)


_COLUMNS = ("name", "severity", "subject", "title", "means", "do", "confirmed_by", "since", "preview")


def keep_rules(connection: sqlite3.Connection) -> None:
    """Bring the table `rules` in step with ``RULES``; rules of a newer version stay. Writes only if something differs.

    A database that cannot be written to is left as it is: it can be read all the same.
    """
    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    stored = {row[0]: row for row in connection.execute(f"SELECT {names} FROM rules")}
    wanted = [tuple(_as_stored(getattr(rule, name)) for name in _COLUMNS) for rule in RULES.values()]
    differing = [row for row in wanted if stored.get(row[0]) != row]
    if not differing:
        return
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in _COLUMNS[1:])
    connection.execute("SAVEPOINT rules")
    try:
        connection.executemany(
            f"INSERT INTO rules ({names}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
            f"ON CONFLICT (name) DO UPDATE SET {changes}",
            differing,
        )
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
    finally:
        connection.execute("RELEASE rules")


def _as_stored(value: str | bool | tuple[str, ...]) -> str | int:
    return json.dumps(value) if isinstance(value, tuple) else value
