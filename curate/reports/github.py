"""Annotations of GitHub Actions: findings that count, on the line to fix in a pull request.

Knows the workflow commands, their escapes and how many of them a step may show; the rest is told in one line.
"""

from curate.reports.base import Renderer
from curate.reports.problems import sentence_of
from curate.reports.report import Finding, Report
from curate.reports.words import clean

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
MOST = 10
"""Annotations of each kind that GitHub shows for one step."""


class GithubReport(Renderer):
    """Workflow commands: at most `MOST` of each severity, then the rest as a number and the gate's sentence."""

    def render(self, report: Report) -> str:
        lines, left = [], 0
        shown = dict.fromkeys(COMMANDS, 0)
        for finding in report.counted:
            shown[finding.severity] += 1
            if shown[finding.severity] <= MOST:
                lines.append(_annotation(finding))
            else:
                left += 1
        if not report.outcome.passed and not lines:
            lines.append(f"::error title=curate::{_message(report.outcome.sentence)}")
        if left:
            lines.append(f"{left:,} more findings have no annotation: GitHub shows {MOST} of each kind for a step")
        return "\n".join([*lines, clean(report.outcome.sentence)]) + "\n"


def _annotation(finding: Finding) -> str:
    where = [] if finding.path is None else [f"file={_property(finding.path)}"]
    where += [] if finding.line is None else [f"line={finding.line}"]
    facts = ",".join([*where, f"title={_property(f'curate: {finding.rule}')}"])
    told = sentence_of(finding).removeprefix(f"{finding.rule}: ")
    why = f"; {finding.why}" if finding.rule == "mislabeled" and finding.why else ""
    return f"::{COMMANDS[finding.severity]} {facts}::{_message(told + why)}"


def _message(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
