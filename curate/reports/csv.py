"""Findings as a table for spreadsheets: one a line, all findings of the run.

Knows that a spreadsheet runs cells that begin like a formula: such get a ' before them.
"""

import csv
import io

from curate.reports.base import Renderer
from curate.reports.report import Finding, Report
from curate.reports.words import clean

COLUMNS = (
    "path",
    "line",
    "key",
    "split",
    "rule",
    "severity",
    "given_label",
    "suggested_label",
    "suspicion",
    "state",
    "verdict",
    "counted",
    "spared",
    "why",
    "text",
    "fingerprint",
)


class CsvReport(Renderer):
    """A heading line, then one line a finding; cells that a spreadsheet would run are quoted."""

    def render(self, report: Report) -> str:
        from curate.files.cells import quoted  # every command that reads imports this module

        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([quoted(_cell(finding, column)) for column in COLUMNS] for finding in report.findings)
        return out.getvalue()


def _cell(finding: Finding, column: str) -> str:
    if column == "counted":
        return "no" if finding.spared else "yes"
    value = getattr(finding, column)
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else _harmless(str(value))


def _harmless(text: str) -> str:
    """What could steer a terminal or a program is shown as an escape; line breaks and tabs of a text stay."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(clean(part) for part in line.split("\t")) for line in text.split("\n"))
