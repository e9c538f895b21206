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
FIRST = 1000
"""Rows of most suspicion or harm that are kept by their ids: longer lists are sorted when they are asked for."""


def summary(store: "Store", run_id: int) -> dict[str, Any]:
    """``rows`` by split, ``harmful`` (training rows with harm above 0), ``classes``, ``confusions``.

    And, of runs that ended since they are counted: ``suspects`` and ``harming`` (ids of the first training rows that
    are no finding, by suspicion and by harm) and ``fresh`` (findings by rule that no other finished run had then).
    """
    found = store.query("SELECT told FROM summaries WHERE run_id = ?", [run_id])
    told: dict[str, Any] = json.loads(found[0]["told"]) if found else count(store, run_id)
    return told


def keep(store: "Store", run_id: int) -> None:
    """Count the rows of a run that has just been written, for the reports to come."""
    told = json_text({**count(store, run_id), **_first(store, run_id)}, "summary")
    with store.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO summaries (run_id, told) VALUES (?, ?)", [run_id, told])


def flagged(store: "Store", dataset: str) -> dict[str, int]:
    """How many different findings all finished runs of the data set have, by rule."""
    runs = store.query(
        "SELECT r.id, json_extract(s.told, '$.fresh') AS fresh FROM runs AS r "
        "JOIN datasets AS d ON d.id = r.dataset_id LEFT JOIN summaries AS s ON s.run_id = r.id "
        "WHERE d.name = ? AND r.status = 'finished'",
        [dataset],
    )
    counts: dict[str, int] = {}
    if all(run["fresh"] is not None for run in runs):
        for run in runs:
            for rule, n in json.loads(run["fresh"]).items():
                counts[rule] = counts.get(rule, 0) + n
        return counts
    rows = store.query(  # a run of an older version is among them
        "SELECT rule, count(DISTINCT fingerprint) AS n FROM findings WHERE run_id IN (SELECT value FROM json_each(?)) "
        "GROUP BY rule",
        [json.dumps([run["id"] for run in runs])],
    )
    return {row["rule"]: row["n"] for row in rows}


def _first(store: "Store", run_id: int) -> dict[str, Any]:
    suspects = store.query(SUSPECTS, {"run": run_id, "most": FIRST})
    harming = store.query(HARMING, {"run": run_id, "most": FIRST})
    fresh = store.query(
        "SELECT f.rule, count(*) AS n FROM findings AS f WHERE f.run_id = ?1 AND NOT EXISTS ("
        "SELECT 1 FROM findings AS p CROSS JOIN runs AS q ON q.id = p.run_id "
        "WHERE p.fingerprint = f.fingerprint AND p.run_id <> ?1 AND q.status = 'finished') GROUP BY f.rule",
        [run_id],
    )
    return {
        "suspects": [row["id"] for row in suspects],
        "harming": [row["id"] for row in harming],
        "fresh": {row["rule"]: row["n"] for row in fresh},
    }


def _unflagged(rule: str) -> str:
    return (
        "FROM scores AS s JOIN named_examples AS e ON e.id = s.example_id WHERE s.run_id = :run AND e.split = 'train' "
        "AND NOT EXISTS (SELECT 1 FROM findings AS f WHERE f.run_id = :run AND f.example_id = s.example_id "
        f"AND f.rule = '{rule}') "
    )


SUSPECTS = f"SELECT e.id {_unflagged('mislabeled')} AND s.suspicion IS NOT NULL ORDER BY s.rank LIMIT :most"
"""Ids of the most suspect training rows that are no finding."""
HARMING = f"SELECT e.id {_unflagged('harmful')} AND s.harm > 0 ORDER BY s.harm DESC, e.key LIMIT :most"
"""Ids of the training rows of most harm that are no finding."""


def count(store: "Store", run_id: int) -> dict[str, Any]:
    """Scored rows by split, training rows of harm above 0, classes with their findings, the strongest confusions."""
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
