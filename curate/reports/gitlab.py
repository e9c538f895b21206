"""The Code Quality report of GitLab: findings that nobody has accepted or kept, and that are not only worth a look.

Knows the fields that GitLab reads. What is new in a merge request GitLab finds by itself, from the fingerprints in the
report of the target branch.
"""

from typing import Any

from curate.gate.judgement import SETTLED
from curate.reports.base import Renderer
from curate.reports.json import dump
from curate.reports.problems import sentence_of
from curate.reports.report import Finding, Report
from curate.reports.words import clean

SEVERITIES = {"error": "major", "warning": "minor", "note": "info"}


class GitlabReport(Renderer):
    """A JSON list of the findings that are not settled."""

    def render(self, report: Report) -> str:
        return dump([_entry(report, finding) for finding in report.findings if finding.spared not in SETTLED])


def _entry(report: Report, finding: Finding) -> dict[str, Any]:
    return {
        "description": clean(sentence_of(finding)),
        "check_name": f"curate-{finding.rule}",
        "fingerprint": finding.fingerprint,
        "severity": SEVERITIES[finding.severity],
        # GitLab has no finding without a file
        "location": {"path": finding.path or clean(report.run.location), "lines": {"begin": finding.line or 1}},
    }
