"""JUnit XML: the gate as a test case, and each finding as one that failed or was skipped.

Knows the dialect that Jenkins and GitLab read. What does not fail the build is no failure here: findings that are
accepted, or as many as the gate allows, are skipped with the reason.
"""

from xml.etree import ElementTree

from curate.reports.base import Renderer
from curate.reports.problems import sentence_of
from curate.reports.report import Finding, Report
from curate.reports.words import clean


class JunitReport(Renderer):
    """One test suite: the gate, then a case for each finding."""

    def render(self, report: Report) -> str:
        outcome = report.outcome
        failing = outcome.status == 1
        skipped = sum(not failing or bool(finding.spared) for finding in report.findings)
        gate_fails = outcome.status == 1
        failures = len(report.findings) - skipped + gate_fails
        counts = {
            "tests": str(len(report.findings) + 1),
            "failures": str(failures),
            "skipped": str(skipped),
            "errors": str(int(outcome.status > 1)),
        }
        suites = ElementTree.Element("testsuites", {"name": "curate", **counts})
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            {
                "name": clean(report.run.dataset),
                **counts,
                "time": f"{report.run.seconds or 0:.3f}",
                "timestamp": report.run.started.removesuffix("Z"),
            },
        )
        gate = ElementTree.SubElement(suite, "testcase", {"classname": "curate", "name": "gate", "time": "0"})
        if not outcome.passed:
            _told(gate, "failure" if gate_fails else "error", "gate", outcome.sentence)
        for finding in report.findings:
            _case(suite, finding, failing)
        ElementTree.indent(suites)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, finding: Finding, failing: bool) -> None:
    facts = {"classname": f"curate.{finding.rule}", "name": clean(finding.key), "time": "0"}
    facts |= {"file": clean(finding.path)} if finding.path is not None else {}
    facts |= {"line": str(finding.line)} if finding.line is not None else {}
    case = ElementTree.SubElement(suite, "testcase", facts)
    if failing and not finding.spared:
        _told(case, "failure", finding.rule, sentence_of(finding), finding.why)
    else:
        ElementTree.SubElement(case, "skipped", {"message": finding.spared or "the gate passes"})


def _told(case: ElementTree.Element, kind: str, name: str, message: str, text: str = "") -> None:
    told = ElementTree.SubElement(case, kind, {"type": name, "message": clean(message)})
    told.text = clean(text or message)
