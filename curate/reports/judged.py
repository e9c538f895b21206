"""From the database to the findings of a run, each with the file and line to mend, judged by a gate.

Knows the SQL of findings and how a run is held against its reference; leaves what counts to ``curate.gate.judgement``.
"""

import contextlib
import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curate.gate.judgement import ACCEPTED, KEPT, ClassNoise, Gate, Outcome, Reference, Tally
from curate.gate.references import NoReference, reference_of
from curate.reports.places import places_of
from curate.reports.report import Finding, RunFacts
from curate.rules.rule import RULES
from curate.store import Store, row_digest
from curate.store.reviews import sure
from curate.store.summaries import summary

Position = tuple[str, str]
"""Split and plain key of a row."""


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """Findings with ``spared`` set, what they were compared with, and what the gate says."""

    findings: tuple[Finding, ...]
    reference: Reference | None
    outcome: Outcome


def judge(store: Store, run: RunFacts, gate: Gate, positions: Mapping[Position, int] | None = None) -> JudgedRun:
    """Findings of a run by urgency, and the gate's outcome; status 2 where a reference is missing."""
    with _uncollected():
        found = findings_of(store, run, positions)
    if run.status != "finished":
        told = f"failed: run {run.id} is {run.status}: a run that did not finish never passes"
        return JudgedRun(tuple(found), None, Outcome(2, told))
    try:
        reference = reference_of(gate, store, run.id, run.dataset)
    except NoReference as error:
        return JudgedRun(tuple(found), None, Outcome(2, f"failed: {error.message}; {error.hint}".rstrip("; ")))
    if run.counts.get("unjudged") and gate.is_set and gate.asks_labels:
        rules = ",".join(rule.name for rule in RULES.values() if rule.of_contents and not rule.preview)
        told = f"failed: no model judged the labels, and the gate asks for that; name a model, or --fail-on {rules}"
        return JudgedRun(tuple(found), None, Outcome(2, told))
    if gate.is_set and run.counts.get("unsteady"):
        told = f"failed: the gate rests on numbers that cannot be trusted: {run.counts['unsteady']}"
        return JudgedRun(tuple(found), None, Outcome(4, told))
    for finding in found:  # nobody else has them yet: to copy 30,000 takes half a second
        object.__setattr__(finding, "spared", gate.spares(finding, reference))
    findings = tuple(found)
    tally = _tally(store, run, gate, reference, findings)
    return JudgedRun(findings, reference, gate.judge(findings, tally, reference))


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
    rows = store.query(_FINDINGS, [run.id])
    # Sets of all that is accepted and known, instead of a look at each for each finding: 30,000 take half a second.
    accepted = {row["fingerprint"] for row in store.query(_ACCEPTED, [run.id])}
    known = {row["fingerprint"] for row in store.query(_KNOWN, [run.id])}
    # The newest word on the row or subject as a whole, or on the rule: older ones are overwritten.
    words: dict[tuple[str, str | None], tuple[int, str]] = {}
    for turn, word in enumerate(store.query(_WORDS)):
        words[word["fingerprint"], word["rule"]] = turn, word["verdict"]
    places = places_of(run, rows, positions)
    found = []
    for row, place in zip(rows, places, strict=True):
        fingerprint, subject = row["fingerprint"], row["row_fingerprint"]
        spoken = [words[key] for key in ((subject, None), (subject, row["rule"])) if key in words]
        verdict = max(spoken)[1] if spoken else None
        held, before = fingerprint in accepted, fingerprint in known
        state = "reviewed" if verdict is not None else "accepted" if held else "known" if before else "new"
        facts = {name: row[name] for name in _AS_STORED}
        facts["suggested_label"] = sure(row["suggested_label"], row["suggested_probability"])
        digest = row_digest(row["content_sha256"], row["given_label"], row["plain_key"])
        found.append(
            Finding(
                **facts,
                state=state,
                path=place.path,
                line=place.line,
                row=digest,
                verdict=verdict,
                accepted=held,
                before=before,
            )
        )
    return sorted(found, key=lambda f: (-f.rank, f.key, f.split, f.rule))


_WORDS = "SELECT fingerprint, rule, verdict FROM standing_reviews ORDER BY time, id"
# State, verdict, accepted and before are what the view run_findings says, of all findings at once.
_FINDINGS = """
    SELECT
        f.rule, f.severity, ifnull(e.key, f.subject || ':' || f.subject_name) AS key, ifnull(e.split, 'train') AS split,
        e.label AS given_label, s.suggested_label, s.suggested_probability, ifnull(s.suspicion, f.score) AS suspicion,
        f.why, e.text, ifnull(e.plain_key, f.subject || ':' || f.subject_name) AS plain_key, e.position, e.media_path,
        ifnull(e.content_sha256, '') AS content_sha256, f.fingerprint,
        ifnull(f.subject_fingerprint, e.fingerprint) AS row_fingerprint
    FROM findings AS f LEFT JOIN named_examples AS e ON e.id = f.example_id
    LEFT JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id
    WHERE f.run_id = ?
"""
_AS_STORED = (
    "rule",
    "severity",
    "key",
    "split",
    "given_label",
    "suggested_label",
    "suggested_probability",
    "suspicion",
    "why",
    "text",
    "fingerprint",
    "row_fingerprint",
)
_ACCEPTED = "SELECT fingerprint FROM accepted WHERE dataset_id = (SELECT dataset_id FROM runs WHERE id = ?)"
_KNOWN = """
    SELECT f.fingerprint FROM findings AS f WHERE f.run_id = ?1 AND EXISTS (
        SELECT 1 FROM findings AS p CROSS JOIN runs AS q ON q.id = p.run_id
        WHERE p.fingerprint = f.fingerprint AND p.run_id < ?1 AND q.status = 'finished'
    )
"""


def _tally(
    store: Store, run: RunFacts, gate: Gate, reference: Reference | None, findings: tuple[Finding, ...]
) -> Tally:
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
    kept |= {f.row_fingerprint for f in findings if f.spared == ACCEPTED or (f.spared == KEPT and words)}
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
