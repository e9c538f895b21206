"""The report for people: in colour on a terminal, and as plain text of one width. Both share one layout.

Knows the order in which a person needs the facts; leaves widths and colours to ``layout.py``.
"""

from rich.console import Console
from rich.text import Text

from curate.gate.judgement import OPINION
from curate.process.numbers import percent
from curate.reports.base import Renderer
from curate.reports.findings_terminal import NARROW, write_findings
from curate.reports.harmful_terminal import write_harmful
from curate.reports.layout import FANCY, Column, Page, cell
from curate.reports.problems import first_counted, place_of, sentence_of
from curate.reports.report import ClassRow, Report
from curate.reports.summary import summary_sentence
from curate.reports.trust_terminal import write_appendix, write_trust
from curate.reports.words import clean, first_shown, moment, plural

MOST_CLASSES = {"short": 10, "long": 30}
"""Classes that are listed, those of most flagged rows first where there are more."""
MOST_CONFUSIONS = 4
"""Pairs of classes that the short report lists."""
LONG_COMMAND = 60
"""From so many signs on a command does not move the remarks of the others."""


class TextReport(Renderer):
    """The report without colours; its own signs are ASCII."""

    listed = False

    def render(self, report: Report) -> str:
        page = Page.plain()
        write_report(page, report)
        return page.written


class RichReport(Renderer):
    """The report as a terminal shows it."""

    listed, coloured = False, True

    def render(self, report: Report) -> str:
        """For a file: the terminal's signs, without its colours."""
        page = Page.plain(FANCY)
        write_report(page, report)
        return page.written

    def write(self, report: Report, console: Console) -> None:
        """Print it as the console allows: its width, colours and signs."""
        write_report(Page(console), report)


def write_report(page: Page, report: Report) -> None:
    """One sentence, the findings, their classes, how far to trust them, what to do next, and the sentence again."""
    if report.depth == "quiet":
        _doubts(page, report)
        _last(page, report)
        return
    _head(page, report)
    write_findings(page, report)
    write_harmful(page, report)
    _opinions(page, report)
    if not report.unjudged:
        _by_class(page, report)
    _confusions(page, report)
    _reviewed(page, report)
    write_trust(page, report)
    if report.depth == "long":
        write_appendix(page, report)
    _next(page, report)
    page.line()
    _last(page, report)


def _head(page: Page, report: Report) -> None:
    """What was looked at, the findings in one sentence, and warnings: they change how the rest is to be read."""
    run, dot = report.run, page.signs.dot
    page.line(
        Text.assemble(
            ("curate", "bold cyan"),
            f" {dot} ",
            (clean(run.dataset), "bold"),
            f" {dot} run {run.id}",
            (f" {dot} {moment(run.started)}", "dim"),
        )
    )
    page.rule()
    rows = f"{plural(report.rows.get('train', 0), 'training row')} in {plural(report.classes, 'class', 'classes')}"
    if report.rows.get("eval"):
        rows += f" and {plural(report.rows['eval'], 'evaluation row')}"
    blank = run.counts.get("blank")
    skipped = f"; {plural(blank, 'row')} without a label skipped" if isinstance(blank, int) and blank else ""
    model = f"; model {clean(run.model.removeprefix(f'{run.location}/'))}" if run.model else ""  # beside the data
    if run.status != "finished":
        page.paragraph(Text.assemble(("! ", "yellow"), f"This run is {run.status}: what stands here is not complete."))
    page.paragraph(f"{summary_sentence(report)}.", style="bold")
    page.paragraph(f"{rows}, from {clean(run.location)}{skipped}{model}", style="dim")
    _doubts(page, report)


def _doubts(page: Page, report: Report) -> None:
    for warning in report.warnings:
        page.paragraph(Text.assemble(("! warning: ", "bold yellow"), clean(warning)), follow=2)


def _next(page: Page, report: Report) -> None:
    page.heading("Next")
    start = max((len(step.command) for step in report.next if len(step.command) < LONG_COMMAND), default=0) + 2
    for step in report.next:
        gap = " " * max(start - len(step.command), 2)
        together = len(step.command) + len(gap) + len(step.remark) + 2 <= page.width
        page.line(Text.assemble("  ", (clean(step.command), "cyan"), (gap + step.remark if together else "", "dim")))


def _last(page: Page, report: Report) -> None:
    """First rows over the gate, the summary, the gate's sentence: on one line in a log, which is searched for it."""
    first = first_counted(report)
    if first:
        page.paragraph(Text.assemble(("over the gate: ", "dim"), first), follow=2)
    page.paragraph(f"{summary_sentence(report)}.", style="bold")
    outcome = report.outcome
    style = "bold red" if not outcome.passed else "bold green" if report.gate.is_set else "dim"
    if page.console.is_terminal:
        page.paragraph(Text(clean(outcome.sentence), style))
    else:
        page.line(Text(clean(outcome.sentence), style))


def _by_class(page: Page, report: Report) -> None:
    shown: list[ClassRow] = list(report.by_class)
    if not shown:
        return
    expected = sum(row.expected or 0.0 for row in report.by_class)
    known = any(row.expected is not None for row in report.by_class)
    rows = sum(row.rows for row in report.by_class)
    noise = f"; about {expected:,.0f} of {rows:,} labels are wrong ({percent(expected / rows)})" if known else ""
    page.heading("Class by class", f"training rows by their given label{noise}")
    most = MOST_CLASSES["long" if report.depth == "long" else "short"]
    if len(shown) > most:
        shown = sorted(shown, key=lambda row: (-row.mislabeled, row.label))[:most]
    narrow = page.width < NARROW
    largest = max(row.share for row in shown) or 1.0
    columns = [
        Column("label", shrinks=True),
        Column("rows", right=True),
        Column("mislabeled", right=True),
        Column("share", right=True),
        *([] if narrow else [Column("")]),
        Column("estimate", right=True),
        Column("most often suggested", shrinks=True),
    ]
    cells = [
        [
            cell(row.label),
            Text(f"{row.rows:,}"),
            Text(f"{row.mislabeled:,}"),
            Text(percent(row.share)),
            *([] if narrow else [page.bar(row.share / largest, "yellow")]),
            Text("" if row.expected is None else percent(row.expected / row.rows)),
            cell(row.suggested_label or ""),
        ]
        for row in shown
    ]
    page.table(columns, cells)
    left = len(report.by_class) - len(shown)
    if left:
        page.paragraph(f"and {plural(left, 'class', 'classes')} more with fewer (all of them: -f json)", style="dim")


def _confusions(page: Page, report: Report) -> None:
    if not report.confusions:
        return
    page.heading("Confused classes", "labels that are probably another class's, by estimate")
    if report.depth != "long":
        pairs = [
            f"{clean(row.given_label)} {page.signs.arrow} {clean(row.suggested_label)} {row.expected:,.0f}"
            for row in report.confusions[:MOST_CONFUSIONS]
        ]
        page.items(pairs, indent=2)
        return
    if report.sketch is not None and report.sketch.confusion is not None:
        from curate.reports.sketch import can_draw, matrix

        if can_draw(page) and matrix(page, report.sketch.confusion):
            return
    columns = [
        Column("given", shrinks=True),
        Column(f"{page.signs.arrow} probably", shrinks=True),
        Column("rows, about", right=True),
        Column("flagged", right=True),
    ]
    cells = [
        [
            cell(row.given_label),
            Text.assemble((f"{page.signs.arrow} ", "dim"), clean(row.suggested_label)),
            Text(f"{row.expected:,.0f}"),
            Text(f"{row.mislabeled:,}"),
        ]
        for row in report.confusions
    ]
    page.table(columns, cells)


def _opinions(page: Page, report: Report) -> None:
    """What a retrained model or a new version says of rows that nobody touched: listed, and counted by no gate."""
    opinions = report.spared_counts.get(OPINION, 0)
    if not opinions:
        return
    shown = report.opinions[: report.top]
    remark = f"{plural(opinions, 'finding')} of rows that stood there before{first_shown(shown, opinions)}; not counted"
    page.heading("Old rows, new opinion", remark)
    for finding in shown:
        page.paragraph(clean(f"{place_of(finding)}: {sentence_of(finding)}"), indent=2)


def _reviewed(page: Page, report: Report) -> None:
    if not report.reviewed:
        return
    page.heading("Reviewed", "what people said of flagged rows, over all runs of this data set")
    columns = [
        Column("rule"),
        *(Column(name, right=True) for name in ("flagged", "confirmed", "refuted", "unsure")),
        Column("precision", right=True),
    ]
    cells = [
        [
            Text(row.rule),
            *(Text(f"{count:,}") for count in (row.flagged, row.confirmed, row.refuted, row.unsure)),
            Text("-" if row.precision is None else percent(row.precision)),
        ]
        for row in report.reviewed
    ]
    page.table(columns, cells)
