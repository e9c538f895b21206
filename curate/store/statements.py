"""Scores and receipts as rows of their tables: the columns, the statements, and a value for each column."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from curate.settings.specs import listed_names
from curate.store.records import ReceiptRecord
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

ADD_RECEIPT = f"INSERT INTO receipts (run_id, {', '.join(RECEIPT_COLUMNS)}) VALUES (?{', ?' * len(RECEIPT_COLUMNS)})"


def score_row(run_id: int, score: Mapping[str, Any]) -> tuple[Any, ...]:
    """Arguments of `ADD_SCORES`. Raises ``ValueError`` for a score that is no column."""
    unknown = set(score) - {"example_id", *SCORE_COLUMNS}
    if unknown:
        raise ValueError(f"no such score column: {listed_names(sorted(unknown))}")
    return (
        run_id,
        integer(score["example_id"], "example_id"),
        *(number(score.get(column), column) for column in SCORE_NUMBERS),
        integer(score.get("rank"), "rank"),
        text(score.get("suggested_label")),
        text(score.get("detectors")),
        text(score.get("word")),
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
