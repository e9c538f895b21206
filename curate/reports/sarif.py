"""SARIF 2.1.0 for code scanning: every finding, with a fingerprint of its content.

Knows the format (OASIS, Static Analysis Results Interchange Format 2.1.0 plus errata 01) and what GitHub keeps of it:
https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning.
Alerts follow ``primaryLocationLineHash``, which is the finding's fingerprint here: rows may change their line.
"""

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from curate import __version__
from curate.gate.judgement import ACCEPTED, DOUBTFUL, KEPT
from curate.reports.base import Renderer
from curate.reports.json import dump
from curate.reports.problems import sentence_of
from curate.reports.report import Finding, Report
from curate.reports.words import clean, shorten
from curate.rules.rule import Rule, rules_with

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST = 5_000
"""Results that GitHub keeps of one upload."""
LONGEST = 1_000
ROOT = "%SRCROOT%"


class SarifReport(Renderer):
    """One SARIF log with one run."""

    def render(self, report: Report) -> str:
        return dump({"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report)]})


def _run(report: Report) -> dict[str, Any]:
    # What counts comes first, so that a cut never hides it behind what was accepted.
    findings = sorted(report.findings, key=lambda finding: (bool(finding.spared), -finding.rank))[:MOST]
    rules = rules_with(finding.rule for finding in findings)
    places = {rule.name: place for place, rule in enumerate(rules)}
    return {
        "tool": {"driver": {"name": "curate", "version": __version__, "rules": [_rule(rule) for rule in rules]}},
        "automationDetails": {"id": f"curate/{clean(report.run.dataset)}/"},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report, len(findings))],
        "results": [_result(report, finding, places[finding.rule]) for finding in findings],
        "properties": {"dataset": clean(report.run.dataset), "rows": dict(report.rows), "run": report.run.id},
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.name,
        "name": rule.name.capitalize(),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.means},
        "help": {"text": rule.do, "markdown": rule.do},
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"tags": ["data-quality", *(["preview"] if rule.preview else [])]},
    }


def _invocation(report: Report, shown: int) -> dict[str, Any]:
    level = "note" if report.outcome.passed else "error"
    notes = [{"level": level, "message": {"text": clean(report.outcome.sentence)}}]
    if shown < len(report.findings):
        told = f"{len(report.findings):,} findings; the {shown:,} of the highest rank are here"
        notes.append({"level": "warning", "message": {"text": told}})
    notes += [{"level": "warning", "message": {"text": clean(warning)}} for warning in report.warnings]
    times = {"startTimeUtc": report.run.started, "endTimeUtc": report.run.finished}
    return {
        "executionSuccessful": report.run.status == "finished" and report.outcome.status in (0, 1),
        "exitCode": report.outcome.status,
        **{name: time for name, time in times.items() if time is not None},
        "toolExecutionNotifications": notes,
    }


def _result(report: Report, finding: Finding, place: int) -> dict[str, Any]:
    """``place`` is that of its rule in the list of rules."""
    told = sentence_of(finding).removeprefix(f"{finding.rule}: ")
    why = f". Why: {finding.why}" if finding.rule == "mislabeled" and finding.why else ""
    facts = {
        "key": clean(finding.key),
        "split": finding.split,
        "given_label": finding.given_label,
        "suggested_label": finding.suggested_label,
        "suspicion": finding.suspicion,
        "state": finding.state,
    }
    return {
        "ruleId": finding.rule,
        "ruleIndex": place,
        "level": finding.severity,
        "message": {"text": shorten(clean(told + why), LONGEST)},
        "locations": [_location(report, finding)],
        "partialFingerprints": {
            "primaryLocationLineHash": f"{finding.fingerprint}:1",
            "curateFinding/v1": finding.fingerprint,
        },
        "baselineState": _baseline_state(report, finding),
        "suppressions": _suppressions(report, finding),
        "rank": round(finding.rank, 2),
        "properties": {name: value for name, value in facts.items() if value is not None},
    }


def _location(report: Report, finding: Finding) -> dict[str, Any]:
    named = clean(finding.key)
    location: dict[str, Any] = {
        "logicalLocations": [
            {"name": named, "fullyQualifiedName": f"{clean(report.run.dataset)}/{finding.split}/{named}"}
        ]
    }
    if finding.path is not None:
        path = PurePosixPath(finding.path)
        artifact = {"uri": path.as_uri()} if path.is_absolute() else {"uri": quote(finding.path), "uriBaseId": ROOT}
        # GitHub shows no result without a line: for a picture the first stands for the file.
        location["physicalLocation"] = {"artifactLocation": artifact, "region": {"startLine": finding.line or 1}}
    return location


def _baseline_state(report: Report, finding: Finding) -> str:
    if report.reference is not None:
        return "unchanged" if finding.fingerprint in report.reference.findings else "new"
    return "unchanged" if finding.accepted or finding.before else "new"


def _suppressions(report: Report, finding: Finding) -> list[dict[str, str]]:
    reasons = {
        ACCEPTED: f"accepted in {report.gate.baseline or 'the baseline'}",
        KEPT: "a reviewer's verdict: keep",
        DOUBTFUL: "only worth a look: its own label is still the likelier one",
    }
    if finding.spared not in reasons:
        return []
    return [{"kind": "external", "status": "accepted", "justification": reasons[finding.spared]}]
