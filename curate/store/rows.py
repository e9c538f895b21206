"""Rows of a run in full: what is known of a row, read once, for all who show it.

Knows the SQL of one row: its scores, findings, near rows, the pairs that were kept, and the verdict that counts.
Leaves layout, ranks and words to those who show it: terminal, page, card and review screen.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from curate.store.reviews import sure
from curate.store.store import Store

SCORES = (
    "suspicion",
    "loss",
    "self_influence",
    "harm",
    "margin",
    "neighbour_agreement",
    "given_probability",
    "suggested_probability",
)
STRONGEST = 5
"""Pairs told on each side of a row."""


@dataclass(frozen=True, slots=True)
class RowFinding:
    """A rule that the row broke."""

    rule: str
    severity: str
    state: str
    why: str
    evidence: Mapping[str, Any]

    @property
    def shown(self) -> Mapping[str, Any]:
        """The evidence without neighbours and group, which have places of their own."""
        return {name: value for name, value in self.evidence.items() if name not in ("nearest", "group")}


@dataclass(frozen=True, slots=True)
class Near:
    """A near training row and its label; ``similarity`` is the cosine of the features, None if it was not stored."""

    key: str
    label: str | None
    similarity: float | None = None
    text: str | None = None
    thumbnail: bytes | None = None  # JPEG; of the rows nearest to the gravest findings only


@dataclass(frozen=True, slots=True)
class HitRow:
    """The other row of a pair, and the influence (nats) of the training row on the evaluation row."""

    key: str
    label: str | None
    influence: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """The verdict that counts on a row; ``words`` are those of all reviewers."""

    verdict: str
    new_label: str | None
    reviewer: str
    note: str | None
    time: str
    words: str
    disagreement: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a run. It helps and harms evaluation rows, and is helped and harmed by training rows."""

    key: str
    split: str
    position: int
    label: str | None
    suggested_label: str | None
    suggested_probability: float | None
    word: str | None  # of the label: wrong, ambiguous, fine
    seen: bool | None
    media_path: str | None
    text: str | None
    content_sha256: str
    fingerprint: str
    thumbnail: bytes | None  # JPEG, of flagged pictures
    scores: Mapping[str, float]  # those that it has, in the order of ``SCORES``
    findings: tuple[RowFinding, ...]  # the gravest first
    verdict: Word | None
    helps: tuple[HitRow, ...]
    harms: tuple[HitRow, ...]
    helped_by: tuple[HitRow, ...]
    harmed_by: tuple[HitRow, ...]
    nearest: tuple[Near, ...]  # of flagged training rows only
    members: tuple[str, ...] = ()  # keys of other harmful rows of the same cause, if this row stands for them as well

    @property
    def suspicion(self) -> float | None:
        """0 to 1; None if the run has none of it."""
        return self.scores.get("suspicion")

    @property
    def harm(self) -> float | None:
        """Nats, above 0 if the evaluation loss is predicted to fall without the row; None if the run has none of it."""
        return self.scores.get("harm")

    @property
    def loss(self) -> float | None:
        """Nats; None if the run has none of it."""
        return self.scores.get("loss")

    @property
    def rules(self) -> list[str]:
        """Names of the rules that it broke."""
        return [finding.rule for finding in self.findings]

    @property
    def group(self) -> dict[str, Any] | None:
        """The harmful rows of one cause that it belongs to, as the evidence of its finding names them."""
        return next((finding.evidence["group"] for finding in self.findings if finding.evidence.get("group")), None)

    @property
    def good(self) -> tuple[HitRow, ...]:
        """Evaluation rows that it helps most; of an evaluation row, training rows that help it."""
        return self.helps if self.split == "train" else self.helped_by

    @property
    def bad(self) -> tuple[HitRow, ...]:
        """Evaluation rows that it harms most; of an evaluation row, training rows that harm it."""
        return self.harms if self.split == "train" else self.harmed_by


def rows_of(store: Store, run_id: int, examples: Sequence[int]) -> tuple[Row, ...]:
    """These rows of the run, in this order."""
    rows = store.query(
        "SELECT e.id, e.key, e.split, e.position, e.label, s.suggested_label, s.word, e.seen, e.media_path, e.text, "
        f"e.content_sha256, e.fingerprint, e.thumbnail, {', '.join(f's.{name}' for name in SCORES)} "
        "FROM json_each(:examples) AS j JOIN named_examples AS e ON e.id = j.value "
        "LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = e.id ORDER BY j.key",
        {"run": run_id, "examples": json.dumps(list(examples))},
    )
    findings = _findings(store, run_id, [row["id"] for row in rows])
    words = _words(store, [row["fingerprint"] for row in rows])
    nearest = _nearest(store, run_id, findings)
    found = []
    for row in rows:
        example = row.pop("id")
        suggested = row["suggested_probability"]
        row["suggested_label"] = sure(row["suggested_label"], suggested)
        scores = {name: value for name in SCORES if (value := row.pop(name)) is not None}
        strongest = partial(hits, store, run_id, example, limit=STRONGEST)
        found.append(
            Row(
                **{**row, "seen": None if row["seen"] is None else bool(row["seen"])},
                suggested_probability=suggested,
                scores=scores,
                findings=tuple(findings[example]),
                verdict=words.get(row["fingerprint"]),
                nearest=nearest.get(example, ()),
                helps=strongest(harmful=False),
                harms=strongest(harmful=True),
                helped_by=strongest(harmful=False, of="eval"),
                harmed_by=strongest(harmful=True, of="eval"),
            )
        )
    return tuple(found)


def hits(
    store: Store, run_id: int, example: int, *, harmful: bool, limit: int, of: str = "train"
) -> tuple[HitRow, ...]:
    """The strongest pairs of a row that were kept: the rows on the other side, the strongest first.

    ``of`` is the side that the row itself stands on, train or eval.
    """
    other = "eval" if of == "train" else "train"
    sign, order = ("<", "ASC") if harmful else (">", "DESC")
    rows = store.query(
        "SELECT e.key, e.label, i.influence, e.text FROM influences AS i "
        f"JOIN named_examples AS e ON e.id = i.{other}_example_id "
        f"WHERE i.run_id = ? AND i.{of}_example_id = ? AND i.influence {sign} 0 "
        f"ORDER BY i.influence {order} LIMIT ?",
        [run_id, example, limit],
    )
    return tuple(HitRow(**row) for row in rows)


def _findings(store: Store, run_id: int, examples: list[int]) -> dict[int, list[RowFinding]]:
    found: dict[int, list[RowFinding]] = defaultdict(list)
    rows = store.query(
        "SELECT example_id, rule, severity, state, why, evidence FROM run_findings "
        "WHERE run_id = ? AND example_id IN (SELECT value FROM json_each(?)) "
        "ORDER BY instr('error warning note', severity), rule",
        [run_id, json.dumps(examples)],
    )
    for row in rows:
        example = row.pop("example_id")
        found[example].append(RowFinding(**{**row, "evidence": json.loads(row["evidence"])}))
    return found


def _words(store: Store, fingerprints: list[str]) -> dict[str, Word]:
    rows = store.query(
        "SELECT fingerprint, verdict, new_label, reviewer, note, time, words, disagreement FROM verdicts "
        "WHERE fingerprint IN (SELECT value FROM json_each(?))",
        [json.dumps(fingerprints)],
    )
    return {row.pop("fingerprint"): Word(**row) for row in rows}


def _nearest(store: Store, run_id: int, findings: Mapping[int, Sequence[RowFinding]]) -> dict[int, tuple[Near, ...]]:
    """By row the nearest ones that a scan stored as evidence of a finding, if it did, with text and picture."""
    named: dict[int, list[dict[str, Any]]] = {}
    for example, theirs in findings.items():
        stored = next((finding.evidence["nearest"] for finding in theirs if finding.evidence.get("nearest")), ())
        if isinstance(stored, list):
            named[example] = [near for near in stored if isinstance(near, dict) and "key" in near]
    keys = sorted({str(near["key"]) for nearest in named.values() for near in nearest})
    rows = store.query(
        "SELECT e.key, e.text, e.thumbnail FROM json_each(:keys) AS j CROSS JOIN examples AS e ON e.key = j.value "
        "AND e.split = 'train' AND e.dataset_id = (SELECT dataset_id FROM runs WHERE id = :run) "
        "WHERE EXISTS (SELECT 1 FROM scores AS s WHERE s.run_id = :run AND s.example_id = e.id)",
        {"run": run_id, "keys": json.dumps(keys)},
    )
    shown = {row["key"]: (row["text"], row["thumbnail"]) for row in rows} if keys else {}
    return {
        example: tuple(
            Near(key, near.get("label"), near.get("similarity"), *shown.get(key, (None, None)))
            for near in nearest
            for key in [str(near["key"])]
        )
        for example, nearest in named.items()
    }
