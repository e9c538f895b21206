"""The report as Markdown: a comment on a pull request, or the summary of a step.

Knows GitHub's limits and how to keep a file's name from becoming a link, a mention or markup: the user's words stand
in ``<code>``, with character references for every sign that means something.
"""

import re

from curate.gate.judgement import COUNTED
from curate.process.numbers import percent
from curate.reports.base import Renderer
from curate.reports.problems import place_of
from curate.reports.report import SHOWN, Finding, Report
from curate.reports.summary import summary_sentence
from curate.reports.words import brief, clean, plural, shorten

LONGEST = 120
_SIGNS = re.compile(r"[^A-Za-z0-9\s.,:;/()%'+=?!-]")


class MarkdownReport(Renderer):
    """The summary and the gate's sentence, tables of findings and classes, the warnings, and facts of the run.

    Tables have ``SHOWN`` rows at the most: a comment holds 65,536 signs.
    """

    listed = False

    def render(self, report: Report) -> str:
        outcome = report.outcome
        ungated = outcome.passed and not report.gate.is_set
        state = "" if ungated else ": passed" if outcome.passed else ": failed"
        lines = [f"## curate{state}", "", f"{_plain(summary_sentence(report))}.", ""]
        lines += [_plain(outcome.sentence), ""] if state else []
        lines += _table(report)
        lines += _classes(report)
        rows = plural(sum(report.rows.values()), "row")
        facts = [f"{rows} of {_code(report.run.dataset)}", f"run {report.run.id}"]
        facts += [f"model {_code(report.run.model)}"] if report.run.model else []
        lines += [*(f"> {_plain(warning)}" for warning in report.warnings), f"<sub>{', '.join(facts)}</sub>"]
        return "\n".join(lines) + "\n"


def _table(report: Report) -> list[str]:
    counted = report.spared_counts.get(COUNTED, 0)
    if not counted:
        return []
    rows = [_row(finding) for finding in report.counted[:SHOWN]]
    more = [f"{counted - SHOWN:,} more are not shown.", ""] if counted > SHOWN else []
    heading = ["| where | finding | label | probably | suspicion | row, or why |", "|---|---|---|---|---:|---|"]
    return [*heading, *rows, "", *more]


def _row(finding: Finding) -> str:
    told = finding.path is None or finding.path.endswith(finding.key)  # the first column says it
    what = _code(finding.text) if finding.text else _code(finding.why) if told else _code(finding.key)
    if finding.rule != "mislabeled":
        what = _code(finding.why)
    given = "" if finding.given_label is None else _code(finding.given_label)
    sure = finding.rule == "mislabeled"
    suggested = _code(finding.suggested_label) if sure and finding.suggested_label is not None else ""
    suspicion = percent(finding.suspicion, 0) if sure and finding.suspicion is not None else ""
    cells = [_code(place_of(finding)), f"{finding.rule} ({finding.severity})", given, suggested, suspicion, what]
    return f"| {' | '.join(cells)} |"


def _classes(report: Report) -> list[str]:
    rows = [row for row in report.by_class if row.expected is not None]
    if not rows:
        return []
    rows = sorted(rows, key=lambda row: (-(row.expected or 0.0), row.label))[:SHOWN]
    lines = [
        "<details><summary>Estimated label noise by class</summary>",
        "",
        "| label | rows | flagged | wrong by estimate | share |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {_code(row.label)} | {row.rows:,} | {row.mislabeled:,} | {brief(row.expected)} | "
        f"{percent((row.expected or 0.0) / row.rows)} |"
        for row in rows
    ]
    return [*lines, "", "</details>", ""]


def _code(text: str | None) -> str:
    return f"<code>{_plain(shorten(' '.join((text or '').split()), LONGEST))}</code>"


def _plain(text: str) -> str:
    """Signs that Markdown, HTML or a table cell would take as theirs, as character references."""
    return _SIGNS.sub(_reference, clean(text))


def _reference(found: re.Match[str]) -> str:
    sign = found[0]
    # An invisible space behind it: GitHub looks for @names after it has resolved references.
    return sign if not sign.isascii() else f"&#{ord(sign)};" + ("&#8203;" if sign == "@" else "")
