"""Two runs side by side: findings that are new, fixed or still there, and verdicts that changed.

Knows how findings of two databases meet: by their fingerprints, which hang on content. Layout is in ``diff_terminal``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.errors import UsageError
from curate.gate.judgement import OPINION
from curate.process.numbers import percent
from curate.process.spoken import Spoken
from curate.reports.gather import read_run
from curate.reports.judged import findings_of
from curate.reports.report import Finding, RunFacts
from curate.store import Store

SHOWN = 20
"""Rows in each list of its page."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs."""

    database: str
    run: int
    dataset: str
    started: str
    status: str
    findings: int


@dataclass(frozen=True, slots=True)
class NewFinding:
    """A finding that only the second run has, and what its row was in the first."""

    finding: Finding
    row: str  # "new row", "other label (was X)", "other content", "old row, new opinion"
    opinion: bool  # nobody touched the row: another model, other rows beside it, or another version of curate


@dataclass(frozen=True, slots=True)
class FixedFinding:
    """A finding that only the first run has, and what has become of its row."""

    finding: Finding
    row: str  # "row gone", "label is now X", "other content", "suspicion is now 0.31"
    opinion: bool  # nobody touched the row


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """A row on which another word counts on the second side; None: no word."""

    key: str
    label: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Diff(Spoken):
    """What differs between two runs of one data set. ``unseen``: findings on rows that the second run left out
    (``--limit``), of which nothing is known."""

    a: Side
    b: Side
    new: tuple[NewFinding, ...]
    fixed: tuple[FixedFinding, ...]
    still: tuple[Finding, ...]
    unseen: tuple[Finding, ...]
    verdicts: tuple[VerdictChange, ...]

    def __str__(self) -> str:
        from curate.reports.diff_terminal import write_diff
        from curate.reports.layout import FANCY, Page

        page = Page.plain(FANCY)
        write_diff(page, self, SHOWN)
        return page.written


@dataclass(frozen=True, slots=True)
class _Row:
    key: str
    split: str
    label: str | None
    suspicion: float | None
    fingerprint: str


def diff_runs(first: Store, a: int, second: Store, b: int) -> Diff:
    """Run ``a`` of one database against run ``b`` of another or the same. Raises ``UsageError``, ``StoreError``."""
    left, right = read_run(first, a)[0], read_run(second, b)[0]
    if left.dataset != right.dataset:
        raise UsageError(
            f"Run {a} is of {left.dataset}, run {b} of {right.dataset}: their rows have nothing in common",
            "Compare runs of one data set; --name gives two places the same name.",
        )
    for run in (left, right):
        if run.status != "finished":
            raise UsageError(f"Run {run.id} is {run.status}: what stands in it is not complete", "Name a finished run.")
    before = {finding.fingerprint: finding for finding in findings_of(first, left)}
    after = {finding.fingerprint: finding for finding in findings_of(second, right)}
    rows_a, rows_b = _rows(first, a), _rows(second, b)
    gone = [finding for fingerprint, finding in before.items() if fingerprint not in after]
    sampled = right.settings.get("limit") is not None
    unseen = tuple(f for f in gone if sampled and (f.split, f.key) not in rows_b)
    return Diff(
        a=_side(first, left, len(before)),
        b=_side(second, right, len(after)),
        new=tuple(
            NewFinding(f, _was(f, rows_a), _untouched(f, rows_a))
            for fingerprint, f in after.items()
            if fingerprint not in before
        ),
        fixed=tuple(FixedFinding(f, _became(f, rows_b), _untouched(f, rows_b)) for f in gone if f not in unseen),
        still=tuple(finding for fingerprint, finding in after.items() if fingerprint in before),
        unseen=unseen,
        verdicts=_verdicts(first, left, second, right, {**rows_a, **rows_b}),
    )


def _side(store: Store, run: RunFacts, findings: int) -> Side:
    return Side(store.path.as_posix(), run.id, run.dataset, run.started, run.status, findings)


def _rows(store: Store, run_id: int) -> dict[tuple[str, str], _Row]:
    rows = store.connection.execute(
        "SELECT e.key, e.split, e.label, s.suspicion, e.fingerprint FROM named_examples AS e "
        "LEFT JOIN scores AS s ON s.run_id = ?1 AND s.example_id = e.id WHERE e.id IN "
        "(SELECT example_id FROM scores WHERE run_id = ?1 UNION SELECT example_id FROM findings WHERE run_id = ?1)",
        [run_id],
    )
    return {(row.split, row.key): row for row in (_Row(*values) for values in rows)}


def _was(finding: Finding, rows: Mapping[tuple[str, str], _Row]) -> str:
    row = rows.get((finding.split, finding.key))
    if row is None:
        return "new row"
    if row.label != finding.given_label:
        return f"other label (was {row.label})"
    return OPINION if row.fingerprint == finding.row_fingerprint else "other content"


def _untouched(finding: Finding, rows: Mapping[tuple[str, str], _Row]) -> bool:
    """Is the very row in the other run as well?"""
    row = rows.get((finding.split, finding.key))
    return row is not None and row.fingerprint == finding.row_fingerprint


def _became(finding: Finding, rows: Mapping[tuple[str, str], _Row]) -> str:
    row = rows.get((finding.split, finding.key))
    if row is None:
        return "row gone"
    if row.label != finding.given_label:
        return f"label is now {row.label}"
    if row.fingerprint != finding.row_fingerprint:
        return "other content"
    if finding.rule == "mislabeled" and row.suspicion is not None:
        return f"suspicion is now {percent(row.suspicion, 0)}"
    return "not found any more"


def _verdicts(
    first: Store, left: RunFacts, second: Store, right: RunFacts, rows: Mapping[Any, _Row]
) -> tuple[VerdictChange, ...]:
    """In one database: since the first run ended; of two: what counts in each now."""
    one = first.path.resolve() == second.path.resolve()
    before, after = _words(first, left.finished if one else None), _words(second, None)
    known = {row.fingerprint: row for row in rows.values()}
    changed = [
        VerdictChange(known[fingerprint].key, known[fingerprint].label, before.get(fingerprint), after.get(fingerprint))
        for fingerprint in before.keys() | after.keys()
        if fingerprint in known and before.get(fingerprint) != after.get(fingerprint)
    ]
    return tuple(sorted(changed, key=lambda change: change.key))


def _words(store: Store, until: str | None) -> dict[str, str]:
    """The word in force on each fingerprint, as it was at a moment (ISO 8601)."""
    rows = store.query(
        "SELECT v.fingerprint, v.verdict || ifnull(' to ' || v.new_label, '') AS word FROM reviews AS v "
        "WHERE v.undoes IS NULL AND v.time <= ifnull(?1, v.time) AND NOT EXISTS "
        "(SELECT 1 FROM reviews AS u WHERE u.undoes = v.id AND u.time <= ifnull(?1, u.time)) ORDER BY v.time, v.id",
        [until],
    )
    return {row["fingerprint"]: row["word"] for row in rows}
