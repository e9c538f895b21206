"""What Datasette is told about a curate database: titles, descriptions, canned queries, limits.

Knows limits and queries; the words on tables and columns are those of ``store/glossary.py``, the pages stand in
``pages.py``.
"""

from typing import Any

from curate.store.glossary import COLUMNS, TABLES, VIEW_COLUMNS, VIEWS
from curate.store.reviews import WRONG

LIMITS = {
    "default_page_size": 50,
    "sql_time_limit_ms": 3000,
    "facet_time_limit_ms": 500,
    "suggest_facets": False,  # each suggestion is a query over the whole view
    "allow_download": False,
    "truncate_cells_html": 300,
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
        "Rows with a new label",
        "SELECT dataset, key, given_label, label FROM cleaned WHERE verdict = 'relabel'",
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
        "SELECT reviewer, count(*) AS words, "
        f"count(*) FILTER (WHERE verdict IN {WRONG}) AS confirmed, "
        "count(*) FILTER (WHERE verdict = 'keep') AS refuted, max(time) AS last "
        "FROM standing_reviews GROUP BY reviewer",
    ),
}


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
                "tables": _tables(),
                "queries": {name: {"title": title, "sql": sql} for name, (title, sql) in QUERIES.items()},
            }
        },
    }


def _tables() -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {
        name: {
            "description": _plain(words),
            "columns": {column: _plain(text) for column, text in columns.items() if text},
        }
        for every, of in ((TABLES, COLUMNS), (VIEWS, VIEW_COLUMNS))
        for name, words in every.items()
        for columns in [of.get(name, {})]
    }
    told["review_queue"] |= {"fts_table": "examples_fts", "fts_pk": "example_id"}
    for name in ("labels", "datasets"):
        # Else their names stand beside numbers that point at them, past what makes foreign text harmless.
        told[name]["label_column"] = "id"
    return told | {name: {**told.get(name, {}), "hidden": True} for name in HIDDEN}


def _plain(words: str) -> str:
    """The glossary is written for Markdown."""
    return words.replace("`", "")
