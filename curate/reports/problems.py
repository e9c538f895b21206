"""Findings as compilers write them: ``FILE:LINE: severity: rule: what is wrong``, and the gate's sentence.

Knows one line a finding; for people in a build's log.
"""

from collections.abc import Iterator

from curate.gate.judgement import COUNTED, OPINION
from curate.process.numbers import percent
from curate.reports.report import SHOWN, Finding, Report
from curate.reports.words import clean


def problem_lines(report: Report) -> Iterator[str]:
    """The findings that count, the most urgent first, new opinions of old rows, then the gate's sentence."""
    counted, opinions = report.spared_counts.get(COUNTED, 0), report.spared_counts.get(OPINION, 0)
    for finding in report.counted[:SHOWN]:
        yield f"{place_of(finding)}: {finding.severity}: {clean(sentence_of(finding))}"
    if counted > SHOWN:
        yield f"and {counted - SHOWN:,} more (all of them: -f csv)"
    for finding in report.opinions[:SHOWN]:
        yield f"{place_of(finding)}: note: {OPINION}, not counted: {clean(sentence_of(finding))}"
    if opinions > SHOWN:
        yield f"and {opinions - SHOWN:,} more new opinions of old rows (all of them: -f json)"
    yield clean(report.outcome.sentence)


def first_counted(report: Report, most: int = 3) -> str:
    """The gravest of the findings that fail the gate, in one line; "" if it does not fail on findings."""
    counted = report.spared_counts.get(COUNTED, 0)
    if report.outcome.status != 1 or not counted:
        return ""
    told = "; ".join(clean(f"{place_of(finding)} {sentence_of(finding)}") for finding in report.counted[:most])
    return told + (f"; and {counted - most:,} more" if counted > most else "")


def place_of(finding: Finding) -> str:
    """``FILE:LINE``, the file, or the key where the data has no file."""
    if finding.path is None:
        return clean(finding.key)
    # A line of a build's log that begins with :: is a command to GitHub, not the name of a file.
    path = f"./{finding.path}" if finding.path.startswith("::") else finding.path
    return clean(path) + (f":{finding.line}" if finding.line is not None else "")


def sentence_of(finding: Finding) -> str:
    """What is wrong with the row, in one line."""
    if finding.rule == "mislabeled":
        given = "(none)" if finding.given_label is None else finding.given_label
        better = "" if finding.suggested_label is None else f", probably {finding.suggested_label}"
        sure = "" if finding.suspicion is None else f" (suspicion {percent(finding.suspicion, 0)})"
        # A picture's path, which stands before the sentence, says its key already.
        who = "" if finding.path is not None and finding.path.endswith(finding.key) else f"{finding.key} is "
        return f"mislabeled: {who}labelled {given}{better}{sure}"
    return f"{finding.rule}: {finding.key}: {finding.why}"
