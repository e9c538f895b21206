"""The findings in the report for people: the certain ones, then labels that are probably wrong, then the others.

Knows one line a finding, and how a list is cut; leaves widths and colours to ``layout.py`` and harm to
``harmful_terminal.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from curate.process.numbers import percent
from curate.reports.layout import SEVERITY_STYLES, Column, Page, cell
from curate.reports.report import OWN_SECTION, MislabeledRow, OtherFinding, Report
from curate.reports.words import clean, first_shown, plural, quoted
from curate.rules.rule import SEVERITIES, is_doubted, rule_of, rules_with

NARROW = 80
"""Below, a row's number and its neighbours are left out."""
FEW = 5
"""Rows up to which each stands with its whole reason; more of them stand with it in the long report."""
MOST_NEXT = 5
"""Rows next in line that the short report shows."""
LEAST_NEXT = 0.01
"""Suspicion of theirs at the least."""


def write_findings(page: Page, report: Report) -> None:
    """By severity, whatever their rule: what is certain stands before the first label that is only probably wrong.

    Rules in preview are not certain of anything yet: theirs stand last, and the short report counts them.
    """
    certain: list[OtherFinding] = []
    rest: list[OtherFinding] = []
    for row in report.others:
        (certain if row.severity == "error" and not rule_of(row.rule).preview else rest).append(row)
    _others(page, report, "Certainly wrong", certain, False)
    if not report.unjudged:
        _mislabeled(page, report)
    _others(page, report, "Other findings", rest, True)


def _others(page: Page, report: Report, title: str, rows: Sequence[OtherFinding], rest: bool) -> None:
    rules = [rule for rule in rules_with(total.rule for total in report.totals) if rule.name not in OWN_SECTION]
    counts = {
        f"{rule.name}{' (preview)' if rule.preview else ''}": sum(
            report.count(rule.name, severity=severity)
            for severity in SEVERITIES
            if rest == (rule.preview or severity != "error")
        )
        for rule in rules
    }
    if not any(counts.values()):
        return
    told = ", ".join(f"{count:,} {rule}" for rule, count in counts.items() if count)
    rows = [row for row in rows if report.depth != "short" or not rule_of(row.rule).preview]
    page.heading(title, told + (first_shown(rows, sum(counts.values())) if rows else "; -v lists them"))
    if not rows:
        return
    columns = [Column("severity"), Column("rule"), Column("key", shrinks=True), Column("label", shrinks=True)]
    cells = [
        [
            Text(row.severity, SEVERITY_STYLES.get(row.severity, "")),
            Text(row.rule),
            cell(row.key),
            cell("" if row.label is None else row.label),
        ]
        for row in rows
    ]
    page.table(columns, cells, [[quoted(row.text), row.why] for row in rows])


def _mislabeled(page: Page, report: Report) -> None:
    """Training and evaluation rows in one list, the gravest first."""
    rows = sorted(
        (*report.mislabeled, *report.eval_mislabeled),
        key=lambda row: (SEVERITIES.index(row.severity), -(row.suspicion or 0.0)),
    )
    errors = sum(row.severity == "error" for row in rows)
    rows = rows[: max(report.top, errors)]
    likely = [row for row in rows if not is_doubted("mislabeled", row.suspicion)]
    total = report.count("mislabeled")
    page.heading("Probably mislabeled", _counted(report) + first_shown(likely, total - sum(report.doubted.values())))
    if report.sketch is not None:  # pillow is imported only then
        _drawn(page, report, rows)
    reasons, lines = report.depth == "long" or len(rows) <= FEW, _lines(report)
    if likely:
        _table(page, likely, lines, 1, reasons)
    else:
        page.paragraph("none" if not rows else "none of 50 % or more", indent=2, style="dim")
    doubted = rows[len(likely) :]
    count = max(sum(report.doubted.values()), len(doubted))
    remark = f"{plural(count, 'row')} more: flagged, but their own label is still the likelier one"
    if count and not doubted:
        page.paragraph(f"worth a look: {remark}", style="dim")
    elif doubted:
        page.heading("Worth a look", remark + first_shown(doubted, count))
        _table(page, doubted, lines, len(likely) + 1, reasons)
    _suspects(page, report)


def _counted(report: Report) -> str:
    """How many of which rows, and how grave."""
    train = report.rows.get("train", 0)
    ours, theirs = (report.count("mislabeled", split) - report.doubted.get(split, 0) for split in ("train", "eval"))
    told = f"{ours:,} of "
    told += (
        f"{train:,} training, {theirs:,} of {report.rows.get('eval', 0):,} evaluation"
        if theirs
        else (plural(train, "training row"))
    )
    counts = {severity: report.count("mislabeled", severity=severity) for severity in SEVERITY_STYLES}
    counts["warning"] -= sum(report.doubted.values())
    grades = ", ".join(plural(count, severity) for severity, count in counts.items() if count)
    return told + (f": {grades}" if grades else "")


def _drawn(page: Page, report: Report, rows: Sequence[MislabeledRow]) -> None:
    """Pictures, if the terminal has colours for them."""
    from curate.reports.sketch import can_draw, curve, strips

    assert report.sketch is not None
    if can_draw(page):
        if report.sketch.distribution is not None and report.depth == "long":
            curve(page, report.sketch.distribution)
        if report.sketch.pictures:
            page.line()
            strips(page, report.sketch, rows)


def _lines(report: Report) -> dict[tuple[str, str], str]:
    """Where rows of a text file stand in it, by split and key: a key made of the content finds nothing there."""
    found = report.findings
    return {(one.split, one.key): f"line {one.line:,}: " for one in found if one.line is not None}


def _table(
    page: Page, rows: Sequence[MislabeledRow], lines: Mapping[tuple[str, str], str], first: int, reasons: bool
) -> None:
    """``lines`` are what is said before a row's text, ``first`` is the number of the first row."""
    narrow = page.width < NARROW
    agreeing = ["" if row.suggested_label is None else _agreeing(row.evidence) for row in rows]
    better = any(row.suggested_label is not None for row in rows)
    near = not narrow and not reasons and any(agreeing)
    columns = [
        *([] if narrow else [Column("", right=True)]),
        Column("severity"),
        Column("key", shrinks=True),
        Column("given", shrinks=True),
        *([Column(f"{page.signs.arrow} suggested", shrinks=True)] if better else []),
        Column("suspicion", right=True),
        *([Column("nearest rows")] if near else []),
    ]
    cells = []
    for number, (row, agree) in enumerate(zip(rows, agreeing, strict=True), first):
        style = SEVERITY_STYLES.get(row.severity, "")
        suggested = "-" if row.suggested_label is None else row.suggested_label
        cells.append(
            [
                *([] if narrow else [Text(str(number), "dim")]),
                Text(row.severity, style),
                cell(row.key),
                cell("(none)" if row.given_label is None else row.given_label),
                *([Text.assemble((f"{page.signs.arrow} ", "dim"), (clean(suggested), "bold"))] if better else []),
                Text(percent(row.suspicion, 0), style),
                *([Text(agree, "dim")] if near else []),
            ]
        )
    details = [[lines.get((row.split, row.key), "") + quoted(row.text), row.why if reasons else ""] for row in rows]
    page.table(columns, cells, details)


def _agreeing(evidence: Mapping[str, Any]) -> str:
    """ "19 of 20 agree" with the suggested label; nothing for runs that did not store it."""
    votes = evidence.get("votes")
    if not isinstance(votes, Mapping):
        return ""
    return f"{round(float(votes['suggested']) * int(votes['of']))} of {votes['of']} agree"


def _suspects(page: Page, report: Report) -> None:
    """Below the cut the order still says where to look next."""
    doubtful = [row for row in report.suspects if row.suspicion >= LEAST_NEXT]
    shown = report.suspects if report.depth == "long" else doubtful[:MOST_NEXT]
    if not shown:
        return
    told = f"; {report.ambiguous:,} are ambiguous: most experts favour another label" if report.ambiguous else ""
    page.heading("Next in line", f"the most suspect rows that are not flagged{told}")
    columns = [
        Column("", right=True),
        Column("suspicion", right=True),
        Column("key", shrinks=True),
        Column("given", shrinks=True),
        Column(f"{page.signs.arrow} suggested", shrinks=True),
    ]
    cells = [
        [
            Text(str(row.rank), "dim"),
            Text(percent(row.suspicion, 0)),
            cell(row.key),
            cell("(none)" if row.given_label is None else row.given_label),
            Text.assemble((f"{page.signs.arrow} ", "dim"), clean(row.suggested_label or "-")),
        ]
        for row in shown
    ]
    page.table(columns, cells, [[quoted(row.text)] for row in shown])
