"""What reports say of all rows of a run at once: counted when the run ends, since it never changes after that.

A million rows take seconds to count; a report must not. Knows SQL alone. Runs of older versions have no summary: theirs
is counted when it is asked for.
"""

import json
from typing import TYPE_CHECKING, Any

from curate.store.values import json_text

if TYPE_CHECKING:
    from curate.store.store import Store

CONFUSIONS = 10
"""Pairs of classes told of."""


def summary(store: "Store", run_id: int) -> dict[str, Any]:
    """``rows`` by split, ``harmful`` (training rows with harm above 0), ``classes``, ``confusions``."""
    found = store.query("SELECT told FROM summaries WHERE run_id = ?", [run_id])
    told: dict[str, Any] = json.loads(found[0]["told"]) if found else count(store, run_id)
    return told


def keep(store: "Store", run_id: int) -> None:
    """Count the rows of a run that has just been written, for the reports to come."""
    told = json_text(count(store, run_id), "summary")
    with store.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO summaries (run_id, told) VALUES (?, ?)", [run_id, told])


def count(store: "Store", run_id: int) -> dict[str, Any]:
    rows = store.query(
        "SELECT e.split, count(*) AS n, count(*) FILTER (WHERE s.harm > 0 AND e.split = 'train') AS harmful "
        "FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        "WHERE s.run_id = ? GROUP BY e.split ORDER BY e.split DESC",
        [run_id],
    )
    suggested: dict[str, str] = {}
    for row in store.query(
        "SELECT e.label, s.suggested_label, count(*) AS n FROM findings AS f "
        "JOIN examples AS e ON e.id = f.example_id "
        "JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id "
        "WHERE f.run_id = ? AND f.rule = 'mislabeled' AND e.split = 'train' AND s.suggested_label IS NOT NULL "
        "GROUP BY e.label, s.suggested_label ORDER BY n DESC, s.suggested_label",
        [run_id],
    ):
        suggested.setdefault(row["label"], row["suggested_label"])
    classes = store.query(
        "SELECT e.label, count(*) AS n, count(f.rule) AS mislabeled, sum(s.suspicion) AS expected FROM scores AS s "
        "JOIN examples AS e ON e.id = s.example_id "
        "LEFT JOIN findings AS f ON f.run_id = s.run_id AND f.example_id = s.example_id AND f.rule = 'mislabeled' "
        "WHERE s.run_id = ? AND e.split = 'train' AND e.label IS NOT NULL GROUP BY e.label ORDER BY e.label",
        [run_id],
    )
    return {
        "rows": {row["split"]: row["n"] for row in rows},
        "harmful": sum(row["harmful"] for row in rows),
        "classes": [{**row, "suggested": suggested.get(row["label"])} for row in classes],
        "confusions": store.query(
            "SELECT e.label AS given_label, s.suggested_label, sum(s.suggested_probability) AS expected, "
            "count(f.rule) AS mislabeled FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
            "LEFT JOIN findings AS f ON f.run_id = s.run_id AND f.example_id = s.example_id AND f.rule = 'mislabeled' "
            "WHERE s.run_id = ? AND e.split = 'train' AND e.label IS NOT NULL AND s.suggested_label IS NOT NULL "
            "GROUP BY e.label, s.suggested_label HAVING sum(s.suggested_probability) >= 1 "
            "ORDER BY expected DESC, e.label, s.suggested_label LIMIT ?",
            [run_id, CONFUSIONS],
        ),
    }
