"""What Datasette is told about a curate database: titles, descriptions, canned queries, limits.

Knows tables and views by name (``docs/reference/database.md``); leaves pages to ``plugin.py``.
"""

from typing import Any

LIMITS = {
    "default_page_size": 50,
    "sql_time_limit_ms": 3000,
    "facet_time_limit_ms": 500,
    "suggest_facets": False,  # each suggestion is a query over the whole view
    "allow_download": False,
    "truncate_cells_html": 300,
}

TABLES = {
    "review_queue": "One line a flagged row of the newest finished runs, with the verdict that counts.",
    "verdicts": "One line a row that somebody spoke on: the word that counts, all words, and what became of it.",
    "current_findings": "Findings of the newest finished runs; state is new, known, accepted or reviewed.",
    "latest_scores": "Scores of the newest finished runs. Suspicion: 0 to 1; loss, harm and self-influence in nats.",
    "label_confusions": "Flagged rows by given and suggested label.",
    "rule_precision": "Share of a rule's findings that verdicts confirmed.",
    "cleaned": "The data set after verdicts: dropped rows gone, relabelled ones with their new label.",
    "examples": "Versions of rows. The search reads key and text.",
    "influences": "The strongest pairs, nats: above 0 the training row helps the evaluation row, below it harms it.",
    "receipts": "How each number was solved.",
    "reviews": "Every word ever said on a row; nothing in it is changed.",
    "runs": "One line a scan.",
}

HIDDEN = ("_sqlite_migrations", "accepted")

QUERIES: dict[str, tuple[str, str]] = {
    "search": (
        "Flagged rows whose key or text has these words",
        "SELECT q.key, q.rules, q.given_label, q.suggested_label, q.suspicion, q.text, q.verdict "
        "FROM examples_fts AS f JOIN examples AS e ON e.id = f.rowid "
        "JOIN review_queue AS q ON q.fingerprint = e.fingerprint WHERE examples_fts MATCH :words LIMIT 200",
    ),
    "waiting": (
        "Flagged rows without a verdict, the most suspect first",
        "SELECT key, split, rules, given_label, suggested_label, suspicion, why FROM review_queue "
        "WHERE verdict IS NULL ORDER BY suspicion DESC LIMIT 500",
    ),
    "disagreements": ("Rows on which two reviewers differ", "SELECT key, words FROM verdicts WHERE disagreement"),
    "stale_verdicts": (
        "Verdicts whose row has another content or label by now",
        "SELECT key, verdict, given_label, now_key, now_label, reviewer, time FROM verdicts WHERE state = 'stale'",
    ),
    "relabelled": (
        "Rows with a new label", "SELECT dataset, key, given_label, label FROM cleaned WHERE verdict = 'relabel'",
    ),
    "most_harmful": (
        "Training rows without which the evaluation loss is predicted to fall most",
        "SELECT dataset, key, label, harm, suspicion FROM latest_scores WHERE harm > 0 ORDER BY harm DESC LIMIT 200",
    ),
    "hurt_by": (
        "Training rows that hurt one evaluation row most (nats)",
        "SELECT t.key AS train_row, t.label, i.influence FROM influences AS i "
        "JOIN named_examples AS t ON t.id = i.train_example_id JOIN named_examples AS e ON e.id = i.eval_example_id "
        "WHERE e.key = :key AND i.run_id IN (SELECT run_id FROM current_runs) ORDER BY i.influence LIMIT 20",
    ),
    "reviewers": (
        "How many words each person has left",
        "SELECT reviewer, count(*) AS words, count(*) FILTER (WHERE verdict IN ('relabel', 'drop')) AS confirmed, "
        "count(*) FILTER (WHERE verdict = 'keep') AS refuted, max(time) AS last "
        "FROM standing_reviews GROUP BY reviewer",
    ),
}  # fmt: skip


def metadata(database: str, writing: bool) -> dict[str, Any]:
    """For the database under this name in addresses."""
    how = (
        "Verdicts can be left on the page Review." if writing else "Served to be read only: nothing here can change it."
    )
    return {
        "title": "curate",
        "description": f"Findings, scores and verdicts of a training set. {how}",
        "databases": {
            database: {
                "description": "Plain SQLite; what each column means stands in curate's documentation of the database.",
                "tables": {name: {"description": told} for name, told in TABLES.items()}
                | {name: {"hidden": True} for name in HIDDEN}
                # Else their names stand beside numbers that point at them, past what makes foreign text harmless.
                | {name: {"label_column": "id"} for name in ("labels", "datasets")},
                "queries": {name: {"title": title, "sql": sql} for name, (title, sql) in QUERIES.items()},
            }
        },
    }
