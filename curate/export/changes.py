"""Which rows of a run change, and how: the words that count, and suggestions where they are asked for.

Knows the database; leaves files to others.
"""

import json
from dataclasses import dataclass

from curate.settings.merge import ScanSettings, stored_settings
from curate.store import Store
from curate.store.reviews import WRONG, sure


@dataclass(frozen=True, slots=True)
class Change:
    """A row, by what it was when it was judged, and its new label; None: it is dropped."""

    split: str
    key: str
    given: str | None
    content_sha256: str
    label: str | None


def read_changes(store: Store, run_id: int, *, apply_suggestions: bool) -> tuple[ScanSettings, str, list[Change]]:
    """The settings of the run, the kind of its data, and every row that a verdict (or a suggestion) changes."""
    (run,) = store.query(
        "SELECT r.settings, r.dataset_id, d.kind FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id "
        "WHERE r.id = ?",
        [run_id],
    )
    words = {
        word["fingerprint"]: (word["verdict"], word["new_label"])
        for word in store.query("SELECT fingerprint, verdict, new_label FROM verdicts")
    }
    rows = store.query(
        "SELECT e.split, e.plain_key AS key, e.label AS given, e.fingerprint, "
        # What could not be decoded has no content to be known by, and its file's stands in the finding.
        "coalesce((SELECT json_extract(f.evidence, '$.content_sha256') FROM findings AS f WHERE f.run_id = :run "
        "AND f.example_id = e.id AND f.rule = 'unreadable'), e.content_sha256) AS content_sha256, "
        "s.suggested_label, s.suggested_probability, "
        "EXISTS (SELECT 1 FROM findings AS f WHERE f.run_id = :run AND f.example_id = e.id AND f.rule = 'mislabeled') "
        "AS flagged FROM named_examples AS e LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = e.id "
        "WHERE e.dataset_id = :dataset AND (s.example_id IS NOT NULL OR EXISTS "
        "(SELECT 1 FROM findings AS f WHERE f.run_id = :run AND f.example_id = e.id)) ORDER BY e.split, e.plain_key",
        {"run": run_id, "dataset": run["dataset_id"]},
    )
    found = []
    for row in rows:
        verdict, label = words.get(row["fingerprint"], (None, None))
        suggested = sure(row["suggested_label"], row["suggested_probability"])
        if verdict is None and apply_suggestions and row["flagged"] and suggested is not None:
            verdict, label = "relabel", suggested
        if verdict in WRONG:
            new = label if verdict == "relabel" else None
            found.append(Change(row["split"], row["key"], row["given"], row["content_sha256"], new))
    return stored_settings(json.loads(run["settings"])), run["kind"], found
