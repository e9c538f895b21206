"""The report for people: in colour on a terminal, and as plain text of one width. Both share one layout.

Knows the order in which a person needs the facts; leaves widths and colours to ``layout.py``.
"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from curate.gate.judgement import OPINION
from curate.reports.base import Renderer
from curate.reports.harmful_terminal import target, write_harmful
from curate.reports.layout import FANCY, SEVERITY_STYLES, Column, Page, cell
from curate.reports.problems import place_of, sentence_of
from curate.reports.report import OWN_SECTION, ClassRow, MislabeledRow, Receipt, Report
from curate.reports.summary import summary_sentence
from curate.reports.trusted import trust_advice, trust_facts
from curate.reports.words import brief, clean, duration, first_shown, memory, moment, percent, plural, quoted
from curate.rules.rule import rules_with

MOST_CLASSES = 30
NARROW = 80  # below, bars and the suggested label's probability are left out


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
    """Findings first, the certain ones before the likely ones; then classes; then how the numbers came about."""
    _scanned(page, report)
    _others(page, report)
    _mislabeled(page, report)
    write_harmful(page, report)
    _opinions(page, report)
    _by_class(page, report)
    _confusions(page, report)
    _reviewed(page, report)
    _notes(page, report)
    _solved(page, report)
    page.heading("Next")
    start = max((len(step.command) for step in report.next), default=0) + 2
    for step in report.next:
        together = len(step.remark) + start + 2 <= page.width
        gap = " " * (start - len(step.command))
        page.line(Text.assemble("  ", (clean(step.command), "cyan"), (gap + step.remark if together else "", "dim")))
    page.line()
    page.paragraph(summary_sentence(report), style="bold")
    outcome = report.outcome
    style = "bold red" if not outcome.passed else "bold green" if report.gate.is_set else "dim"
    if page.console.is_terminal:
        page.paragraph(Text(clean(outcome.sentence), style))
    else:
        page.line(Text(clean(outcome.sentence), style))  # one line, however long: logs are searched for it


def _notes(page: Page, report: Report) -> None:
    notes = report.notes[report.run.status != "finished" :]  # the first says so, and stands at the top
    if not notes:
        return
    page.heading("Notes")
    for note in notes:
        page.paragraph(Text.assemble(("- ", "dim"), clean(note)), follow=2)


def _scanned(page: Page, report: Report) -> None:
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
    accuracies = [
        f"{name} {percent(accuracy)}"
        for name, accuracy in (("model's head", report.accuracy_head), ("probe", report.accuracy_probe))
        if accuracy is not None
    ]
    model = [clean(run.model) if run.model else "none: the inputs are features, the probe alone is used"]
    if run.weights_sha256:
        model.append(f"weights {run.weights_sha256[:12]}")
    work = [run.device or "", f"seed {run.seed}"]
    if run.seconds is not None:
        work.append(duration(run.seconds))
    if run.peak_memory is not None:
        work.append(memory(run.peak_memory))
    facts = [("scanned", f"{rows}, from {clean(run.location)}{skipped}")]
    facts += [("accuracy", f"{', '.join(accuracies)}, on the given labels")] if accuracies else []
    facts += [("loss", f"{brief(report.eval_loss)} nats, the mean of {target(report)}")] if report.eval_loss else []
    facts += [("model", ", ".join(model)), ("run on", ", ".join(part for part in work if part))]
    if report.run.status != "finished":
        page.paragraph(
            Text.assemble(("! ", "yellow"), f"This run is {report.run.status}: what stands here is not complete.")
        )
    page.paragraph(summary_sentence(report), style="bold")
    page.facts(facts)
    for warning in report.warnings:
        page.paragraph(Text.assemble(("! warning: ", "bold yellow"), clean(warning)), follow=2)


def _solved(page: Page, report: Report) -> None:
    if report.receipts:
        page.heading("How it was solved")
        page.facts((clean(receipt.quantity), receipt_sentence(receipt)) for receipt in report.receipts)
    facts = list(trust_facts(report.run.counts, report.checked))
    if facts:
        page.heading("Can influence be trusted here?")
        page.facts((name, clean(told)) for name, told in facts)
        for advice in trust_advice(report.run.counts):
            page.paragraph(Text.assemble(("! ", "yellow"), clean(advice)), follow=2)


def receipt_sentence(receipt: Receipt) -> str:
    """One receipt in words; what was not measured is left out."""
    how = clean(receipt.solver) + (f" on {clean(receipt.curvature)}" if receipt.curvature else "")
    parts = [how + (f", parameters: {clean(receipt.parameters)}" if receipt.parameters else "")]
    if receipt.damping is not None:
        asked = receipt.damping_asked
        raised = asked is not None and brief(asked) != brief(receipt.damping)
        parts.append(f"damping {brief(receipt.damping)}" + (f" (asked {brief(asked)})" if raised else ""))
    if receipt.residual is not None:
        parts.append(f"residual {receipt.residual:.2g}")
    if receipt.score_error is not None:
        parts.append(f"score error {receipt.score_error:.2g}")
    if receipt.recall is not None:
        interval = ""
        if receipt.recall_low is not None and receipt.recall_high is not None:
            interval = f" (95 %: {receipt.recall_low:.2f} to {receipt.recall_high:.2f})"
        parts.append(f"recall of the prefilter {receipt.recall:.2f}{interval}")
    if receipt.rank_stability:
        parts.append(_stability(receipt.rank_stability))
    if receipt.steps is not None:
        parts.append(plural(receipt.steps, "step"))
    if receipt.seconds is not None:
        parts.append(duration(receipt.seconds))
    return "; ".join(parts)


def _stability(found: Mapping[str, Any]) -> str:
    """How the ranking moves with the damping: Spearman's correlation and the share of the strongest 50 kept."""
    moved = [
        f"x {factor}: {found[factor]['spearman']:.2f}, top 50 {percent(found[factor]['top'])}"
        for factor in ("0.1", "10")
        if isinstance(found.get(factor), dict)
    ]
    return f"rank stability over damping {'; '.join(moved)}"


def _mislabeled(page: Page, report: Report) -> None:
    total = report.count("mislabeled", "train")
    rows = report.rows.get("train", 0)
    over = "" if report.cut is None else f" over a suspicion of {report.cut:.2g}"
    remark = f"{total:,} of {plural(rows, 'training row')}{over}{_grades(report, 'train')}"
    remark += first_shown(report.mislabeled, total)
    page.heading("Likely mislabeled", remark)
    _drawn(page, report)
    _mislabeled_table(page, report.mislabeled)
    _suspects(page, report)
    total = report.count("mislabeled", "eval")
    if total:
        remark = f"{total:,} of {plural(report.rows.get('eval', 0), 'evaluation row')}"
        page.heading(
            "Likely mislabeled in the evaluation set",
            f"{remark}{_grades(report, 'eval')}{first_shown(report.eval_mislabeled, total)}",
        )
        _mislabeled_table(page, report.eval_mislabeled)


def _drawn(page: Page, report: Report) -> None:
    """Pictures, if the terminal has colours for them; pillow is imported only then."""
    if report.sketch is None:
        return
    from curate.reports.sketch import can_draw, curve, strips

    if can_draw(page):
        if report.sketch.distribution is not None:
            curve(page, report.sketch.distribution)
        if report.sketch.pictures:
            page.line()
            strips(page, report.sketch, report.mislabeled)


def _suspects(page: Page, report: Report) -> None:
    """Below the cut the order still says where to look next."""
    if not report.suspects:
        return
    told = f"; {report.ambiguous:,} are ambiguous: most experts favour another label" if report.ambiguous else ""
    page.heading("Next in line", f"the most suspect rows that are not flagged{told}")
    columns = [
        Column("", right=True),
        Column("suspicion"),
        Column("key", shrinks=True),
        Column("given", shrinks=True),
        Column(f"{page.signs.arrow} suggested", shrinks=True),
    ]
    cells = [
        [
            Text(str(row.rank), "dim"),
            Text(f"{row.suspicion:5.3f}"),
            cell(row.key),
            cell("(none)" if row.given_label is None else row.given_label),
            Text.assemble((f"{page.signs.arrow} ", "dim"), clean(row.suggested_label or "-")),
        ]
        for row in report.suspects
    ]
    page.table(columns, cells, [[quoted(row.text)] for row in report.suspects])


def _grades(report: Report, split: str) -> str:
    counts = {severity: report.count("mislabeled", split, severity) for severity in SEVERITY_STYLES}
    told = ", ".join(plural(count, severity) for severity, count in counts.items() if count)
    return f": {told}" if told else ""


def _mislabeled_table(page: Page, rows: tuple[MislabeledRow, ...]) -> None:
    if not rows:
        page.paragraph("none", indent=2, style="dim")
        return
    narrow = page.width < NARROW
    columns = [
        Column("", right=True),
        Column("suspicion"),
        Column("key", shrinks=True),
        Column("given", shrinks=True),
        Column(f"{page.signs.arrow} suggested", shrinks=True),
        Column("probability", right=True),
    ]
    cells = []
    for number, row in enumerate(rows, 1):
        style = SEVERITY_STYLES.get(row.severity, "")
        suspicion = "    -" if row.suspicion is None else f"{row.suspicion:5.3f}"
        suggested = "-" if row.suggested_label is None else row.suggested_label
        bar = Text() if narrow else Text(" ") + page.bar(row.suspicion, style)
        cells.append(
            [
                Text(str(number), "dim"),
                Text(suspicion, style) + bar,
                cell(row.key),
                cell("(none)" if row.given_label is None else row.given_label),
                Text.assemble((f"{page.signs.arrow} ", "dim"), (clean(suggested), "bold")),
                Text("" if row.suggested_probability is None else percent(row.suggested_probability, 0)),
            ]
        )
    if narrow:
        columns, cells = columns[:-1], [row[:-1] for row in cells]
    page.table(columns, cells, [[quoted(row.text), row.why] for row in rows])


def _others(page: Page, report: Report) -> None:
    rules = [rule for rule in rules_with(total.rule for total in report.totals) if rule.name not in OWN_SECTION]
    counts = {f"{rule.name}{' (preview)' if rule.preview else ''}": report.count(rule.name) for rule in rules}
    if not any(counts.values()):
        return
    told = ", ".join(f"{count:,} {rule}" for rule, count in counts.items() if count)
    page.heading("Other findings", told + first_shown(report.others, sum(counts.values())))
    columns = [
        Column("severity"),
        Column("rule"),
        Column("key", shrinks=True),
        Column("label", shrinks=True),
    ]
    cells = [
        [
            Text(row.severity, SEVERITY_STYLES.get(row.severity, "")),
            Text(row.rule),
            cell(row.key),
            cell("" if row.label is None else row.label),
        ]
        for row in report.others
    ]
    page.table(columns, cells, [[quoted(row.text), row.why] for row in report.others])


def _by_class(page: Page, report: Report) -> None:
    shown: list[ClassRow] = list(report.by_class)
    if not shown:
        return
    expected = sum(row.expected or 0.0 for row in report.by_class)
    known = any(row.expected is not None for row in report.by_class)
    rows = sum(row.rows for row in report.by_class)
    noise = f"; about {expected:,.0f} of {rows:,} labels are wrong ({percent(expected / rows)})" if known else ""
    page.heading("Class by class", f"training rows by their given label{noise}")
    if len(shown) > MOST_CLASSES:
        shown = sorted(shown, key=lambda row: (-row.mislabeled, row.label))[:MOST_CLASSES]
    narrow = page.width < NARROW
    most = max(row.share for row in shown) or 1.0
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
            *([] if narrow else [page.bar(row.share / most, "yellow")]),
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
