"""The report for programs: one JSON object, its order and its names stable within a schema version.

Knows rounding (nine significant digits, so that equal runs give equal bytes) and that JSON has no infinities.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from curate.reports.base import Renderer
from curate.reports.report import Report
from curate.reports.summary import summary_sentence

SCHEMA_VERSION = 1
DIGITS = 9
NOT_TOLD = ("gallery", "sketch", "depth", "spared_counts")
"""What is drawn for people to look at, and counts that the gate's outcome has."""


class JsonReport(Renderer):
    """All that the report holds but what is drawn for people."""

    def render(self, report: Report) -> str:
        return dump(as_dict(report))


def as_dict(report: Report) -> dict[str, Any]:
    """The report as plain values, with its gate's outcome."""
    fields = {
        field.name: getattr(report, field.name) for field in dataclasses.fields(report) if field.name not in NOT_TOLD
    }
    run = {field.name: getattr(report.run, field.name) for field in dataclasses.fields(report.run)}
    run["gate"] = report.run.gate.settings()
    outcome, reference = report.outcome, report.reference
    gate = {
        **report.gate.settings(),
        "status": outcome.status,
        "found": outcome.found,
        "allowed": outcome.allowed,
        "spared": outcome.spared,
        "reference": None if reference is None else reference.name,
    }
    del fields["reference"]
    return {
        "schema_version": SCHEMA_VERSION,
        **{**fields, "run": run, "gate": gate},
        "summary": summary_sentence(report),
        "passed": outcome.passed,
        "outcome": outcome.sentence,
    }


def dump(value: Any) -> str:
    """JSON text of plain values, dataclasses among them, ended by a line break."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """The same in JSON's own types: numbers rounded, what is not finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
