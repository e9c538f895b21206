"""The flagged rows of a run in full, and its distributions: what a page of pictures shows beyond a ``Report``.

Knows the SQL; leaves how a card looks to ``curate.reports.html`` and what is on a terminal to ``gather.py``.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curate.reports.report import HitRow
from curate.store import Store

CARDS = 1000
"""Flagged rows in a gallery, the gravest and most suspect first; ``--top`` raises it."""
BINS = 20
MATRIX = 12
"""Classes in the table of confused classes: those of the strongest pairs."""
HITS = 5
CUT = 0.5  # of runs that did not store theirs


@dataclass(frozen=True, slots=True)
class CardFinding:
    rule: str
    severity: str
    state: str
    why: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Near:
    """A near row and its label; ``similarity`` is the cosine of the features, None where it was not stored."""

    key: str
    label: str | None
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """The verdict that counts on a row."""

    verdict: str
    new_label: str | None
    reviewer: str


@dataclass(frozen=True, slots=True)
class Card:
    """One flagged row. ``helps`` and ``harms`` are evaluation rows; for an evaluation row, training rows."""

    key: str
    split: str
    given_label: str | None
    suggested_label: str | None
    suggested_probability: float | None
    suspicion: float | None
    harm: float | None  # nats
    loss: float | None  # nats
    text: str | None
    media_path: str | None
    thumbnail: bytes | None
    findings: tuple[CardFinding, ...]
    nearest: tuple[Near, ...]
    helps: tuple[HitRow, ...]
    harms: tuple[HitRow, ...]
    word: Word | None
    members: tuple[str, ...] = ()  # keys of other harmful rows of the same cause, for which this card stands as well


@dataclass(frozen=True, slots=True)
class Distribution:
    """Training rows by suspicion, in ``BINS`` equal bins from 0 to 1; over ``cut`` a row is flagged."""

    counts: tuple[int, ...]
    cut: float
    over: int  # rows


@dataclass(frozen=True, slots=True)
class Confusion:
    """``expected[given][suggested]``: estimated number of rows of the one label that are the other's."""

    labels: tuple[str, ...]
    expected: tuple[tuple[float, ...], ...]
    left_out: int  # classes that are not in the table


@dataclass(frozen=True, slots=True)
class Gallery:
    cards: tuple[Card, ...]
    shown: int  # rows that have a card, or are members of one
    flagged: int  # rows with a finding, also those without a card
    distribution: Distribution | None
    confusion: Confusion | None

    @classmethod
    def of_run(cls, store: Store, run_id: int, most: int = CARDS) -> "Gallery":
        rows = flagged(store, run_id)
        whole = cards(store, run_id, rows[:most])
        return cls(
            cards=tuple(_folded(whole)),
            shown=len(whole),
            flagged=len(rows),
            distribution=distribution_of(store, run_id),
            confusion=confusion_of(store, run_id),
        )


def _folded(whole: Sequence[Card]) -> list[Card]:
    """Rows that are nothing but harmful, all of one cause, as one card."""
    found: list[Card] = []
    first: dict[Any, int] = {}
    for card in whole:
        group = next((finding.evidence["group"] for finding in card.findings if finding.evidence.get("group")), None)
        cause = group.get("of") if isinstance(group, dict) else None
        if cause is None or {finding.rule for finding in card.findings} != {"harmful"}:
            found.append(card)
        elif cause in first:
            found[first[cause]] = replace(found[first[cause]], members=(*found[first[cause]].members, card.key))
        else:
            first[cause] = len(found)
            found.append(card)
    return found


def flagged(store: Store, run_id: int) -> list[int]:
    """Examples with a finding in the run, the gravest and most suspect first."""
    rows = store.query(
        "SELECT q.example_id FROM (SELECT example_id, min(instr('error warning note', severity)) AS gravity "
        "FROM findings WHERE run_id = :run GROUP BY example_id) AS q JOIN named_examples AS e ON e.id = q.example_id "
        "LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = e.id "
        "ORDER BY q.gravity, s.suspicion DESC, e.key",
        {"run": run_id},
    )
    return [row["example_id"] for row in rows]


def cards(store: Store, run_id: int, examples: Sequence[int]) -> tuple[Card, ...]:
    """These flagged rows of the run in full, in this order."""
    rows = store.query(
        "SELECT e.id, e.key, e.split, e.label AS given_label, s.suggested_label, s.suggested_probability, s.suspicion, "
        "s.harm, s.loss, e.text, e.media_path, e.thumbnail, e.fingerprint FROM json_each(:examples) AS j "
        "JOIN named_examples AS e ON e.id = j.value LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = e.id "
        "ORDER BY j.key",
        {"run": run_id, "examples": json.dumps(list(examples))},
    )
    findings = _findings(store, run_id, [row["id"] for row in rows])
    words = _words(store, [row["fingerprint"] for row in rows])
    found = []
    for row in rows:
        example, fingerprint = row.pop("id"), row.pop("fingerprint")
        found.append(
            Card(
                **row,
                findings=tuple(findings[example]),
                nearest=_nearest(findings[example]),
                helps=_hits(store, run_id, example, row["split"], harmful=False),
                harms=_hits(store, run_id, example, row["split"], harmful=True),
                word=words.get(fingerprint),
            )
        )
    return tuple(found)


def _findings(store: Store, run_id: int, examples: list[int]) -> dict[int, list[CardFinding]]:
    found: dict[int, list[CardFinding]] = defaultdict(list)
    rows = store.query(
        "SELECT example_id, rule, severity, state, why, evidence FROM run_findings "
        "WHERE run_id = ? AND example_id IN (SELECT value FROM json_each(?)) "
        "ORDER BY instr('error warning note', severity), rule",
        [run_id, json.dumps(examples)],
    )
    for row in rows:
        example = row.pop("example_id")
        found[example].append(CardFinding(**{**row, "evidence": json.loads(row["evidence"])}))
    return found


def _words(store: Store, fingerprints: list[str]) -> dict[str, Word]:
    rows = store.query(
        "SELECT fingerprint, verdict, new_label, reviewer FROM words_in_force "
        "WHERE fingerprint IN (SELECT value FROM json_each(?)) ORDER BY of_row, time, id",
        [json.dumps(fingerprints)],
    )
    return {row.pop("fingerprint"): Word(**row) for row in rows}  # the one that counts for the row stays


def _nearest(findings: Iterable[CardFinding]) -> tuple[Near, ...]:
    """Where the scan stored a row's nearest rows, they are evidence of its finding."""
    for finding in findings:
        stored = finding.evidence.get("nearest")
        if isinstance(stored, list):
            return tuple(
                Near(str(near["key"]), near.get("label"), near.get("similarity"))
                for near in stored
                if isinstance(near, dict) and "key" in near
            )
    return ()


def _hits(store: Store, run_id: int, example: int, split: str, *, harmful: bool) -> tuple[HitRow, ...]:
    """The strongest stored influences of the row, on the other side of the pair."""
    mine, other = ("train", "eval") if split == "train" else ("eval", "train")
    sign, order = ("<", "ASC") if harmful else (">", "DESC")
    rows = store.query(
        "SELECT e.key, e.label, i.influence, e.text FROM influences AS i "
        f"JOIN named_examples AS e ON e.id = i.{other}_example_id "
        f"WHERE i.run_id = ? AND i.{mine}_example_id = ? AND i.influence {sign} 0 "
        f"ORDER BY i.influence {order} LIMIT ?",
        [run_id, example, HITS],
    )
    return tuple(HitRow(**row) for row in rows)


_OF_TRAIN = (
    "FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
    "WHERE s.run_id = ? AND e.split = 'train' AND s.suspicion IS NOT NULL "
)


def distribution_of(store: Store, run_id: int) -> Distribution | None:
    """None where no training row has a suspicion."""
    rows = store.query(
        f"SELECT min(cast(s.suspicion * {BINS} AS INTEGER), {BINS - 1}) AS bin, count(*) AS n {_OF_TRAIN} GROUP BY bin",
        [run_id],
    )
    if not rows:
        return None
    counts = {row["bin"]: row["n"] for row in rows}
    receipts = store.query(
        "SELECT json_extract(detail, '$.cut') AS cut FROM receipts WHERE run_id = ? AND quantity = 'suspicion'",
        [run_id],
    )
    stored = receipts[0]["cut"] if receipts else None
    cut = CUT if stored is None else float(stored)
    (over,) = store.query(f"SELECT count(*) AS n {_OF_TRAIN} AND s.suspicion > ?", [run_id, cut])
    return Distribution(tuple(counts.get(place, 0) for place in range(BINS)), cut, over["n"])


def confusion_of(store: Store, run_id: int) -> Confusion | None:
    """None where nothing is suggested."""
    rows = store.query(
        f"SELECT e.label, s.suggested_label, sum(s.suggested_probability) AS expected {_OF_TRAIN}"
        "AND e.label IS NOT NULL AND s.suggested_label IS NOT NULL GROUP BY 1, 2",
        [run_id],
    )
    cells = {(row["label"], row["suggested_label"]): row["expected"] or 0.0 for row in rows}
    if not cells:
        return None
    # The strongest pairs, as long as their classes fit.
    shown: set[str] = set()
    for pair in sorted(cells, key=lambda pair: (-cells[pair], pair)):
        if len(shown.union(pair)) <= MATRIX:
            shown.update(pair)
    labels = sorted(shown)
    return Confusion(
        labels=tuple(labels),
        expected=tuple(tuple(cells.get((given, other), 0.0) for other in labels) for given in labels),
        left_out=len({label for pair in cells for label in pair}) - len(labels),
    )
