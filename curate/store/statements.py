"""Scores, findings and receipts as rows of their tables: columns, statements, and a value for each column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import repeat
from typing import Any

from curate.settings.specs import listed_names
from curate.store.fingerprint import finding_fingerprint, rule_fingerprint, subject_fingerprint
from curate.store.records import FindingRecord, ReceiptRecord
from curate.store.values import integer, json_text, number, text

SCORE_NUMBERS = (
    "suspicion",
    "loss",
    "margin",
    "self_influence",
    "harm",
    "neighbour_agreement",
    "given_probability",
    "suggested_probability",
)
SCORE_COLUMNS = (*SCORE_NUMBERS, "rank", "suggested_label", "detectors", "word")
RECEIPT_COLUMNS = tuple(field.name for field in fields(ReceiptRecord))
RECEIPT_INTEGERS = ("steps",)
RECEIPT_TEXTS = ("quantity", "solver", "curvature", "parameters")
RECEIPT_JSON = ("rank_stability", "detail")

ADD_SCORES = (
    f"INSERT INTO scores (run_id, example_id, {', '.join(SCORE_COLUMNS)}) VALUES (?, ?{', ?' * len(SCORE_COLUMNS)})"
)

ADD_FINDING = (
    "INSERT INTO findings (run_id, example_id, rule, severity, score, evidence, why, fingerprint, subject, "
    "subject_name, subject_fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

ADD_RECEIPT = f"INSERT INTO receipts (run_id, {', '.join(RECEIPT_COLUMNS)}) VALUES (?{', ?' * len(RECEIPT_COLUMNS)})"


def score_rows(run_id: int, ids: Sequence[Any], columns: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """Arguments of `ADD_SCORES`. Raises ``ValueError`` for a score that is no column or not finite."""
    unknown = set(columns) - set(SCORE_COLUMNS)
    if unknown:
        raise ValueError(f"no such score column: {listed_names(sorted(unknown))}")
    missing = [None] * len(ids)
    numbers = [_numbers(columns.get(name, missing), name) for name in SCORE_NUMBERS]
    ranks = [integer(rank, "rank") for rank in columns.get("rank", missing)]
    texts = [[text(value) for value in columns.get(name, missing)] for name in ("suggested_label", "detectors", "word")]
    rows = (integer(row, "example_id") for row in ids)
    return zip(repeat(run_id, len(ids)), rows, *numbers, ranks, *texts, strict=True)


def _numbers(values: Sequence[Any], column: str) -> list[float | None]:
    return [number(value, column) for value in values]


def finding_row(
    run_id: int, dataset: str, finding: FindingRecord, rows: Mapping[int, Sequence[Any]]
) -> tuple[Any, ...]:
    """Arguments of `ADD_FINDING`; ``rows`` are key, content and label of the rows that findings are on, by id."""
    subject = None
    if finding.subject != "row":
        subject = subject_fingerprint(dataset, finding.subject, finding.name, finding.members)
    example = integer(finding.example_id, "example_id")
    if example is None:
        fingerprint = rule_fingerprint(str(subject), finding.rule)
    elif example in rows:
        key, content, label = rows[example]
        fingerprint = finding_fingerprint(dataset, key, content, label, finding.rule)
    else:
        raise ValueError(f"finding on an example that is not stored: {example}")
    return (
        run_id,
        example,
        finding.rule,
        finding.severity,
        number(finding.score, "score"),
        text(json_text(finding.evidence, "evidence")),
        text(finding.why),
        fingerprint,
        finding.subject,
        text(finding.name),
        subject,
    )


def receipt_row(run_id: int, receipt: ReceiptRecord) -> tuple[Any, ...]:
    """Arguments of `ADD_RECEIPT`."""
    row: list[Any] = [run_id]
    for column in RECEIPT_COLUMNS:
        value = getattr(receipt, column)
        if column in RECEIPT_TEXTS:
            row.append(text(value))
        elif column in RECEIPT_JSON:
            row.append(None if value is None else text(json_text(value, column)))
        elif column in RECEIPT_INTEGERS:
            row.append(integer(value, column))
        else:
            row.append(number(value, column))
    return tuple(row)
