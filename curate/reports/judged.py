"""From the database to the findings of a run, each with the file and line to mend, judged by a gate.

Knows the SQL of findings and how a run is held against its reference; leaves what counts to ``curate.gate.judgement``.
"""

import contextlib
import gc
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import Any

from curate.gate.judgement import ACCEPTED, KEPT, ClassNoise, Gate, Outcome, Reference, Tally
from curate.gate.references import NoReference, reference_of
from curate.reports.places import places_of
from curate.reports.report import Finding, RunFacts, rank_of
from curate.rules.rule import RULES, is_doubted
from curate.store import Store, row_digest
from curate.store.opening import explain
from curate.store.reviews import sure
from curate.store.summaries import summary

Position = tuple[str, str]
"""Split and plain key of a row."""


@dataclass(slots=True)
class Weighed:
    """A finding as the gate and the counts need it; ``Finding`` is all that is told of it."""

    id: int  # of its row in the table
    example_id: int | None
    rule: str
    severity: str
    split: str
    suspicion: float | None
    fingerprint: str
    verdict: str | None  # the one in force on the row
    accepted: bool  # the baseline holds it
    before: bool  # an earlier finished run has it
    row: str = ""  # digest of content and label, if a gate compares rows
    spared: str = ""

    @property
    def state(self) -> str:
        """The column of this name in the view ``current_findings``."""
        if self.verdict is not None:
            return "reviewed"
        return "accepted" if self.accepted else "known" if self.before else "new"

    @property
    def doubted(self) -> bool:
        """As of ``Finding``."""
        return is_doubted(self.rule, self.suspicion)

    @property
    def rank(self) -> float:
        """As of ``Finding``."""
        return rank_of(self.rule, self.severity, self.suspicion)


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """All findings with ``spared`` set, those that are told, what they were compared with, and what the gate says."""

    weighed: tuple[Weighed, ...]
    findings: tuple[Finding, ...]
    reference: Reference | None
    outcome: Outcome


def judge(
    store: Store,
    run: RunFacts,
    gate: Gate,
    positions: Mapping[Position, int] | None = None,
    most: int | None = None,
) -> JudgedRun:
    """Findings of a run by urgency, and the gate's outcome; status 2 where a reference is missing.

    ``most``: only so many of each kind (counted, or spared for one reason) are told, the most urgent; None: all are.
    """
    with _uncollected():
        found = weigh(store, run.id)
        reference, outcome = _judge(store, run, gate, found)
        told = _findings(store, run, found if most is None else _first(found, most), positions)
    kinds = dict.fromkeys(finding.spared for finding in told)
    by_urgency = replace(outcome, spared={kind: outcome.spared[kind] for kind in kinds if kind in outcome.spared})
    return JudgedRun(tuple(found), tuple(told), reference, by_urgency)


def _judge(store: Store, run: RunFacts, gate: Gate, found: list[Weighed]) -> tuple[Reference | None, Outcome]:
    """The reference and the outcome; sets ``spared`` of the findings if the gate gets as far as asking."""
    if run.status != "finished":
        return None, Outcome(2, f"failed: run {run.id} is {run.status}: a run that did not finish never passes")
    try:
        reference = reference_of(gate, store, run.id, run.dataset)
    except NoReference as error:
        return None, Outcome(2, f"failed: {error.message} {error.hint}".rstrip())
    _spare(store, run, gate, found, reference)
    if run.counts.get("unjudged") and gate.is_set and gate.asks_labels:
        rules = ",".join(rule.name for rule in RULES.values() if rule.of_contents and not rule.preview)
        told = f"failed: no model judged the labels, and the gate asks for that; name a model, or --fail-on {rules}"
        return None, Outcome(2, told)
    if gate.is_set and run.counts.get("unsteady"):
        told = f"failed: the gate rests on numbers that cannot be trusted: {run.counts['unsteady']}"
        return None, Outcome(4, told)
    return reference, gate.judge(found, _tally(store, run, gate, reference, found), reference)


def _spare(store: Store, run: RunFacts, gate: Gate, found: list[Weighed], reference: Reference | None) -> None:
    """Set ``spared`` of each finding."""
    if reference is not None and reference.rows is not None:
        digests = {
            number: row_digest(content, label, key)
            for number, content, label, key in store.connection.execute(_CONTENTS, [run.id])
        }
        for finding in found:
            finding.row = digests[finding.id]
    for finding in found:
        finding.spared = gate.spares(finding, reference)


def _first(found: list[Weighed], most: int) -> list[Weighed]:
    """The most urgent of each kind, with all that are as urgent as the last of them: their keys settle the order."""
    kinds: dict[str, list[Weighed]] = defaultdict(list)
    for finding in found:
        kinds[finding.spared].append(finding)
    chosen = []
    for kind in kinds.values():
        ranks = [finding.rank for finding in kind]
        least = min(nlargest(most, ranks))
        chosen += [finding for finding, rank in zip(kind, ranks, strict=True) if rank >= least]
    return chosen


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector, which looks through all that was made so far again and again: none of it is garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def findings_of(store: Store, run: RunFacts, positions: Mapping[Position, int] | None = None) -> list[Finding]:
    """All findings of a run, the most urgent first, judged by no gate yet."""
    with _uncollected():
        return _findings(store, run, weigh(store, run.id), positions)


def weigh(store: Store, run_id: int) -> list[Weighed]:
    """All findings of a run, judged by no gate yet; verdict, accepted and before as the view ``run_findings`` has."""
    # Sets of all that is accepted and known, instead of a look at each for each finding: 30,000 take half a second.
    accepted = {row["fingerprint"] for row in store.query(_ACCEPTED, [run_id])}
    known = {row["fingerprint"] for row in store.query(_KNOWN, [run_id])}
    # The newest word on the row or subject as a whole, or on the rule: older ones are overwritten.
    words: dict[tuple[int | str | None, str | None], tuple[int, str]] = {}
    with explain(store.path):
        for turn, (example, fingerprint, rule, verdict) in enumerate(store.connection.execute(_WORDS)):
            words[fingerprint if example is None else example, rule] = turn, verdict
        found = []
        for *facts, fingerprint, subject in store.connection.execute(_WEIGHED, [run_id]):
            number, example, rule, severity, split, suspicion = facts
            on = example if subject is None else subject
            spoken = [words[key] for key in ((on, None), (on, rule)) if key in words]
            verdict = max(spoken)[1] if spoken else None
            held, before = fingerprint in accepted, fingerprint in known
            found.append(Weighed(number, example, rule, severity, split, suspicion, fingerprint, verdict, held, before))
    return found


def _findings(
    store: Store, run: RunFacts, weighed: Sequence[Weighed], positions: Mapping[Position, int] | None
) -> list[Finding]:
    """All that is told of these findings, the most urgent first."""
    rows = store.query(_FINDINGS, [json.dumps([finding.id for finding in weighed])])
    found = []
    for finding, row, place in zip(weighed, rows, places_of(run, rows, positions), strict=True):
        facts = {name: row[name] for name in _AS_STORED}
        facts["suggested_label"] = sure(row["suggested_label"], row["suggested_probability"])
        found.append(
            Finding(
                **facts,
                rule=finding.rule,
                severity=finding.severity,
                split=finding.split,
                suspicion=finding.suspicion,
                fingerprint=finding.fingerprint,
                state=finding.state,
                path=place.path,
                line=place.line,
                row=finding.row or row_digest(row["content_sha256"], row["given_label"], row["plain_key"]),
                verdict=finding.verdict,
                accepted=finding.accepted,
                before=finding.before,
                spared=finding.spared,
            )
        )
    return sorted(found, key=lambda f: (-f.rank, f.key, f.split, f.rule))


# By the row's id, which the index of fingerprints has: the fingerprint of a row stands behind its text and picture.
_WORDS = """
    SELECT e.id, v.fingerprint, v.rule, v.verdict FROM standing_reviews AS v
    LEFT JOIN examples AS e ON e.fingerprint = v.fingerprint ORDER BY v.time, v.id
"""
_WEIGHED = """
    SELECT
        f.rowid, f.example_id, f.rule, f.severity, ifnull(e.split, 'train'), ifnull(s.suspicion, f.score),
        f.fingerprint, f.subject_fingerprint
    FROM findings AS f LEFT JOIN examples AS e ON e.id = f.example_id
    LEFT JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id
    WHERE f.run_id = ?
"""
_CONTENTS = """
    SELECT f.rowid, ifnull(e.content_sha256, ''), e.label, ifnull(e.key, f.subject || ':' || f.subject_name)
    FROM findings AS f LEFT JOIN examples AS e ON e.id = f.example_id WHERE f.run_id = ?
"""
# Not from the view of named examples: an outer join with it makes SQLite name all rows of the data set first.
_FINDINGS = """
    SELECT
        CASE WHEN e.id IS NULL THEN f.subject || ':' || f.subject_name
        WHEN e.split = 'eval' AND EXISTS (
            SELECT 1 FROM examples AS t WHERE t.dataset_id = e.dataset_id AND t.split = 'train' AND t.key = e.key
        ) THEN 'eval:' || e.key ELSE e.key END AS key,
        e.label AS given_label, s.suggested_label, s.suggested_probability, f.why, e.text,
        ifnull(e.key, f.subject || ':' || f.subject_name) AS plain_key, e.position, e.media_path,
        ifnull(e.split, 'train') AS split, ifnull(e.content_sha256, '') AS content_sha256,
        ifnull(f.subject_fingerprint, e.fingerprint) AS row_fingerprint
    FROM json_each(?) AS j CROSS JOIN findings AS f ON f.rowid = j.value LEFT JOIN examples AS e ON e.id = f.example_id
    LEFT JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id
    ORDER BY j.key
"""
_FINGERPRINTS = "SELECT e.fingerprint FROM json_each(?) AS j CROSS JOIN examples AS e ON e.id = j.value"
_AS_STORED = ("key", "given_label", "suggested_label", "suggested_probability", "why", "text", "row_fingerprint")
_ACCEPTED = "SELECT fingerprint FROM accepted WHERE dataset_id = (SELECT dataset_id FROM runs WHERE id = ?)"
_KNOWN = """
    SELECT f.fingerprint FROM findings AS f WHERE f.run_id = ?1 AND EXISTS (
        SELECT 1 FROM findings AS p CROSS JOIN runs AS q ON q.id = p.run_id
        WHERE p.fingerprint = f.fingerprint AND p.run_id < ?1 AND q.status = 'finished'
    )
"""


def _tally(store: Store, run: RunFacts, gate: Gate, reference: Reference | None, findings: Sequence[Weighed]) -> Tally:
    unreadable = run.counts.get("unreadable")
    broken = unreadable if isinstance(unreadable, int) else 0
    scored = sum(summary(store, run.id)["rows"].values())
    if scored == 0:
        return Tally(0)
    known = reference.rows if reference is not None else None
    if known is None and not gate.max_noise_rate:
        return Tally(scored + broken)
    (dataset,) = store.query("SELECT dataset_id AS id FROM runs WHERE id = ?", [run.id])
    level = run.counts.get("level")
    level = level if isinstance(level, Mapping) else {}
    # A known number of wrong labels counts rows that were kept as the right ones that they are: were their suspicion
    # left out, the number would be too small.
    words = {} if level.get("source") in ("audit", "noise rate") else store.words(dataset["id"])
    kept = {fingerprint for fingerprint, verdict in words.items() if verdict == "keep"}
    spared = [f.example_id for f in findings if f.spared == ACCEPTED or (f.spared == KEPT and words)]
    kept |= {row["fingerprint"] for row in store.query(_FINGERPRINTS, [json.dumps(spared)])}
    fresh, noise = sum(f.rule == "unreadable" and f.row not in (known or ()) for f in findings), defaultdict(list)
    rows = store.connection.execute(
        "SELECT e.content_sha256, e.label, e.key, e.fingerprint, e.split, s.suspicion FROM scores AS s "
        "JOIN examples AS e ON e.id = s.example_id WHERE s.run_id = ?",
        [run.id],
    )
    for content, label, key, fingerprint, split, suspicion in rows:
        new = known is None or row_digest(content, label, key) not in known
        fresh += new
        if split == "train" and (new or not gate.changed_rows) and suspicion is not None:
            noise[label].append(0.0 if fingerprint in kept else suspicion)
    classes = [_class_noise(label, values, level) for label, values in sorted(noise.items())]
    expected, count = sum(row.expected for row in classes), sum(row.rows for row in classes)
    # An audit says nothing of a part of the rows that it was not drawn from.
    known_of = bool(level) and not (gate.changed_rows and level.get("source") == "audit")
    return Tally(
        scored + broken,
        None if known is None else fresh,
        tuple(classes),
        whole=_scaled(expected, level, count) if known_of else None,
        source=str(level.get("source", "")),
    )


def _class_noise(label: str, values: list[float], level: Mapping[str, Any]) -> ClassNoise:
    """An audit is asked for what it says of the class; without enough verdicts there it says nothing."""
    rows, expected = len(values), sum(values)
    if level.get("source") == "audit":
        own = level.get("classes", {}).get(label)
        if own is None:
            return ClassNoise(label, rows, expected)
        return ClassNoise(label, rows, *_within(rows, own))
    low, high = _scaled(expected, level, rows) if level else (0.0, float(rows))
    return ClassNoise(label, rows, expected, low, high)


def _within(rows: int, counts: list[float]) -> tuple[float, ...]:
    """Counts of a class as it was audited, of which some rows may be left out here."""
    return tuple(min(float(count), float(rows)) for count in counts)


def _scaled(expected: float, level: Mapping[str, Any], rows: int) -> tuple[float, float]:
    """The range of a part of the rows: that of all of them, by how much of the estimate lies in the part."""
    whole = float(level["expected"])
    if whole <= 0:
        return 0.0, min(float(level["high"]), float(rows))
    share = expected / whole if expected < whole * (1 - 1e-6) else 1.0  # all of them, but for rounding
    return min(float(level["low"]) * share, rows), min(float(level["high"]) * share, rows)
