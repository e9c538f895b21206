"""Audits in and out of the database: what was drawn, what was said of it, and the rows that it was drawn from.

Knows their SQL; leaves how rows are drawn and what the words mean to ``curate.audit``.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curate.store.auditing import ANSWERED
from curate.store.store import Store
from curate.store.values import json_text, text

SOURCE = "audit"
"""Source of words that were left where neither suspicion nor a suggestion was in sight."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Rows of one run, the frame, in strata by its ranks, and the seed that rows are drawn by."""

    id: int
    series: int
    run_id: int
    seed: int
    design: Mapping[str, Any]
    time: str


@dataclass(frozen=True, slots=True)
class AuditPlace:
    """One showing of a drawn row, with the word that was left there. ``again``: the row's second showing."""

    audit_id: int
    place: int
    fingerprint: str
    key: str
    stratum: int
    again: bool
    verdict: str | None = None
    new_label: str | None = None
    review_id: int | None = None
    blind: bool = True


@dataclass(frozen=True, slots=True)
class Member:
    """A training row of a run."""

    fingerprint: str
    key: str
    label: str | None
    rank: int
    suspicion: float


def newest_series(store: Store, dataset_id: int) -> list[Audit]:
    """The audits of the newest series, the oldest first; empty if the data set was never audited."""
    rows = store.query(
        "SELECT id, series, run_id, seed, design, time FROM audits WHERE dataset_id = ?1 "
        "AND series = (SELECT max(series) FROM audits WHERE dataset_id = ?1) ORDER BY id",
        [dataset_id],
    )
    return [Audit(**{**row, "design": json.loads(row["design"])}) for row in rows]


def members(store: Store, run_id: int) -> list[Member]:
    """The scored training rows of a run, the most suspect first."""
    rows = store.connection.execute(
        "SELECT e.fingerprint, e.key, e.label, s.rank, s.suspicion FROM scores AS s "
        "JOIN examples AS e ON e.id = s.example_id WHERE s.run_id = ? AND e.split = 'train' "
        "AND s.suspicion IS NOT NULL ORDER BY s.rank",
        [run_id],
    )
    return [Member(*row) for row in rows]


def flagged(store: Store, run_id: int) -> set[str]:
    """Fingerprints of the training rows that the run calls mislabeled."""
    rows = store.query(
        "SELECT e.fingerprint FROM findings AS f JOIN examples AS e ON e.id = f.example_id "
        "WHERE f.run_id = ? AND f.rule = 'mislabeled' AND e.split = 'train'",
        [run_id],
    )
    return {row["fingerprint"] for row in rows}


def begin(store: Store, dataset_id: int, *, series: int, run_id: int, seed: int, design: Mapping[str, Any]) -> Audit:
    """A new audit, with nothing drawn yet."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with store.transaction() as connection:
        (number,) = connection.execute(
            "INSERT INTO audits (dataset_id, series, run_id, seed, design, time) VALUES (?, ?, ?, ?, ?, ?) "
            "RETURNING id",
            [dataset_id, series, run_id, seed, json_text(design, "design"), now],
        ).fetchone()
    return Audit(number, series, run_id, seed, design, now)


def draw(store: Store, audit: Audit, drawn: Sequence[tuple[Member, int, bool]]) -> None:
    """Append rows in the order they will be shown, as (row, stratum, whether it is shown again).

    A word that stands on a row already answers its first place: nobody is asked twice for it.
    """
    with store.transaction() as connection:
        (last,) = connection.execute(
            "SELECT ifnull(max(place), 0) FROM audit_rows WHERE audit_id = ?", [audit.id]
        ).fetchone()
        for place, (row, stratum, again) in enumerate(drawn, last + 1):
            connection.execute(
                "INSERT INTO audit_rows (audit_id, place, fingerprint, key, stratum, again) VALUES (?, ?, ?, ?, ?, ?)",
                [audit.id, place, row.fingerprint, text(row.key), stratum, again],
            )
            if not again:
                connection.execute(
                    "INSERT INTO audit_words (audit_id, place, review_id) SELECT ?, ?, id FROM standing_reviews "
                    "WHERE fingerprint = ? AND ifnull(rule, 'mislabeled') = 'mislabeled' "
                    "ORDER BY time DESC, id DESC LIMIT 1",
                    [audit.id, place, row.fingerprint],
                )


def places(store: Store, audits: Iterable[Audit]) -> list[AuditPlace]:
    """What was drawn for these audits, in the order shown."""
    rows = store.query(
        "SELECT p.audit_id, p.place, p.fingerprint, p.key, p.stratum, p.again, w.verdict, w.new_label, "
        "w.id AS review_id, w.source "
        "FROM audit_rows AS p LEFT JOIN standing_reviews AS w ON w.id = ("
        "SELECT v.id FROM audit_words AS b JOIN standing_reviews AS v ON v.id = b.review_id "
        "WHERE b.audit_id = p.audit_id AND b.place = p.place ORDER BY v.time DESC, v.id DESC LIMIT 1) "
        "WHERE p.audit_id IN (SELECT value FROM json_each(?)) ORDER BY p.audit_id, p.place",
        [json.dumps([audit.id for audit in audits])],
    )
    return [
        AuditPlace(**{**row, "again": bool(row["again"])}, blind=source in (None, SOURCE))
        for row in rows
        for source in [row.pop("source")]
    ]


def in_force(store: Store, audits: Iterable[Audit]) -> dict[str, tuple[int, str]]:
    """The newest standing word, its id and verdict, by the fingerprint of a drawn row."""
    rows = store.query(
        "SELECT w.fingerprint, w.id, w.verdict FROM standing_reviews AS w WHERE w.fingerprint IN (SELECT fingerprint "
        "FROM audit_rows WHERE audit_id IN (SELECT value FROM json_each(?))) "
        "AND ifnull(w.rule, 'mislabeled') = 'mislabeled' ORDER BY w.time, w.id",
        [json.dumps([audit.id for audit in audits])],
    )
    return {row["fingerprint"]: (row["id"], row["verdict"]) for row in rows}


def shown(store: Store, run_id: int) -> list[tuple[AuditPlace, int]]:
    """Places of the newest series whose rows the run holds, with the rows' examples, in the order shown."""
    (run,) = store.query("SELECT dataset_id FROM runs WHERE id = ?", [run_id])
    examples = {
        row["fingerprint"]: row["id"]
        for row in store.query(
            "SELECT e.fingerprint, e.id FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
            "WHERE s.run_id = ? AND e.split = 'train' AND e.fingerprint IN (SELECT fingerprint FROM audit_rows)",
            [run_id],
        )
    }
    found = places(store, newest_series(store, run["dataset_id"]))
    return [(place, examples[place.fingerprint]) for place in found if place.fingerprint in examples]


def open_places(store: Store, audits: Iterable[Audit]) -> set[tuple[int, int]]:
    """(audit, place) of those that wait for a word."""
    rows = store.query(
        f"SELECT p.audit_id, p.place FROM audit_rows AS p "
        f"WHERE p.audit_id IN (SELECT value FROM json_each(?)) AND NOT {ANSWERED}",
        [json.dumps([audit.id for audit in audits])],
    )
    return {(row["audit_id"], row["place"]) for row in rows}
