"""Two runs side by side, for people.

Knows layout; ``diff.py`` knows what differs.
"""

from collections.abc import Sequence

from rich.text import Text

from curate.gate.judgement import OPINION
from curate.process.numbers import percent
from curate.reports.diff import Diff, FixedFinding, NewFinding
from curate.reports.layout import SEVERITY_STYLES, Column, Page, cell
from curate.reports.problems import place_of
from curate.reports.words import clean, moment, plural


def write_diff(page: Page, diff: Diff, top: int) -> None:
    """New and fixed findings and changed verdicts, at most ``top`` of each kind, and a line that counts them all."""
    dot = page.signs.dot
    page.line(Text.assemble(("curate", "bold cyan"), f" {dot} ", (clean(diff.a.dataset), "bold")))
    page.rule()
    page.facts(
        (name, f"run {side.run} of {clean(side.database)}, {moment(side.started)}, {plural(side.findings, 'finding')}")
        for name, side in (("from", diff.a), ("to", diff.b))
    )
    # What people did to rows stands apart from what a model thinks anew of rows that nobody touched.
    for title, found in (("New", diff.new), ("Fixed", diff.fixed)):
        _findings(page, title, [part for part in found if not part.opinion], top)
        _findings(page, f"{title}: {OPINION}", [part for part in found if part.opinion], top)
    if diff.verdicts:
        page.heading("Verdicts", plural(len(diff.verdicts), "row"))
        columns = [
            Column("key", shrinks=True),
            Column("label", shrinks=True),
            Column("before"),
            Column("after"),
        ]
        page.table(
            columns,
            [
                [
                    cell(change.key),
                    cell(change.label or "(none)"),
                    cell(change.before or "-"),
                    cell(change.after or "-"),
                ]
                for change in diff.verdicts[:top]
            ],
        )
    page.line()
    opinions = [sum(part.opinion for part in found) for found in (diff.new, diff.fixed)]
    told = [f" ({count:,} by a new opinion of an old row)" if count else "" for count in opinions]
    counts = [(len(diff.new), f"new{told[0]}"), (len(diff.fixed), f"fixed{told[1]}"), (len(diff.still), "still there")]
    counts += [(len(diff.unseen), "on rows that were not looked at")] if diff.unseen else []
    counts += [(len(diff.verdicts), "verdict changed" if len(diff.verdicts) == 1 else "verdicts changed")]
    page.line(", ".join(f"{count:,} {what}" for count, what in counts))


def _findings(page: Page, title: str, found: Sequence[NewFinding | FixedFinding], top: int) -> None:
    if not found:
        return
    page.heading(title, plural(len(found), "finding") + (f"; the first {top}" if len(found) > top else ""))
    columns = [
        Column("severity"),
        Column("rule"),
        Column("row", shrinks=True),
        Column("label", shrinks=True),
    ]
    columns += [
        Column(f"{page.signs.arrow} suggested", shrinks=True),
        Column("suspicion"),
        Column("", shrinks=True),
    ]
    page.table(columns, [_cells(page, part) for part in found[:top]])


def _cells(page: Page, part: NewFinding | FixedFinding) -> list[Text]:
    finding = part.finding
    sure = finding.rule == "mislabeled" and finding.suspicion is not None
    # Lines are those of the files as they are now: of a row that is gone they would be another's.
    where = place_of(finding) if finding.line is not None and isinstance(part, NewFinding) else finding.key
    return [
        Text(finding.severity, SEVERITY_STYLES.get(finding.severity, "")),
        Text(finding.rule),
        cell(where),
        cell("(none)" if finding.given_label is None else finding.given_label),
        Text.assemble((f"{page.signs.arrow} ", "dim"), clean(finding.suggested_label or "-")) if sure else Text(),
        Text(percent(finding.suspicion, 0) if sure else ""),
        cell(part.row, "dim"),
    ]
