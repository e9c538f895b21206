"""Findings for programs that read line by line: one JSON object a line, all findings of the run.

Knows that a line must stand for itself, so each names its run; the fields are those of ``findings`` in the JSON report.
"""

import json

from curate.reports.base import Renderer
from curate.reports.json import SCHEMA_VERSION, plain
from curate.reports.report import Report


class JsonLinesReport(Renderer):
    """The schema's version, the data set and the run beside each finding's own fields."""

    def render(self, report: Report) -> str:
        head = {"schema_version": SCHEMA_VERSION, "dataset": report.run.dataset, "run": report.run.id}
        lines = ({**head, **plain(finding)} for finding in report.findings)
        return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
