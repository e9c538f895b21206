"""The report's section on harmful rows, for people; findings of one cause stand as one entry.

Knows what is said of harm; leaves widths and colours to ``layout.py``.
"""

from rich.text import Text

from curate.process.numbers import percent
from curate.reports.layout import Column, Page, cell
from curate.reports.report import HarmfulGroup, HarmfulRow, Report
from curate.reports.words import brief, clean, first_shown, plural, quoted, signed

_FLAG = "*"
MOST_SHOWN = 5
"""Findings that the short report lists."""
BELIEVED = 0.5
"""Share of the loss from which a sum of single estimates is no estimate of all rows at once."""
TOO_MANY = (
    "too many for an estimate of all of them at once: `curate verify --what-if drop` refits without the ones you name"
)


def write_harmful(page: Page, report: Report) -> None:
    """The section on rows that raise the evaluation loss; nothing if there are none."""
    if not report.harmful:
        return
    flagged = report.count("harmful", "train")
    if not flagged:
        page.heading("Harmful rows", none_harmful(report))
        _slices(page, report)
        return
    if report.depth == "long":
        _in_full(page, report, flagged)
    else:
        _in_short(page, report, flagged)
    _slices(page, report)


def _in_short(page: Page, report: Report, flagged: int) -> None:
    """The first findings, a line each, by how much leaving them out would lower the loss."""
    shown = [row for row in report.harmful if row.flagged][:MOST_SHOWN]
    rows = f"{flagged:,} of {plural(report.rows.get('train', 0), 'training row')}"
    one = "it" if flagged == 1 else "one"
    page.heading("Harmful rows", f"{rows}: without {one}, the {_loss(report)} falls{first_shown(shown, flagged)}")
    facts = report.run.counts.get("harm") or {}
    if flagged > 1 and facts.get("sum") is not None and report.eval_loss:
        together = facts["sum"] / report.eval_loss
        told = f"without all of them by about {_share(together)}{turned(facts['turn_right'], facts['turn_wrong'])}"
        page.paragraph(told if together < BELIEVED else TOO_MANY, indent=2)
    grouped = any(row.group is not None for row in shown)
    columns = [
        Column("", right=True),
        Column("by about", right=True),
        Column("key", shrinks=True),
        Column("label", shrinks=True),
        *([Column("together with")] if grouped else []),
    ]
    cells = [
        [
            Text(str(number), "dim"),
            Text(_share(row.group.share if row.group else row.share), "yellow"),
            cell(row.key),
            cell("(none)" if row.label is None else row.label),
            *([cell(_company(row.group))] if grouped else []),
        ]
        for number, row in enumerate(shown, 1)
    ]
    page.table(columns, cells)


def _company(group: HarmfulGroup | None) -> str:
    """The rows of the same cause, in short."""
    if group is None:
        return ""
    return f"{plural(group.size - 1, 'row')} near it, taken for {group.suggested_label}"


def _in_full(page: Page, report: Report, flagged: int) -> None:
    """Ranked rows with their intervals, and the evaluation rows that each hits hardest; findings are marked."""
    judged = "judged" in (facts := report.run.counts.get("harm") or {}) and facts["judged"]
    of_loss = f" ({brief(report.eval_loss)} nats)" if report.eval_loss else ""
    counted = f"{flagged:,} of {plural(report.rows.get('train', 0), 'training row')}; " if judged else ""
    page.heading(
        "Harmful rows",
        f"{counted}left out, the mean {_loss(report)}{of_loss} is predicted to fall; {report.harmful_count:,} training "
        f"rows have harm above 0{first_shown(report.harmful, report.harmful_count)}",
    )
    if flagged and facts.get("sum") is not None:
        share = f" ({_share(facts['sum'] / report.eval_loss)} of the loss)" if report.eval_loss else ""
        page.paragraph(
            f"without the {plural(flagged, 'row')} marked {_FLAG}: {brief(facts['sum'])} nats less"
            f"{share}, predictions that turn right {facts['turn_right']:,}, wrong {facts['turn_wrong']:,}",
            indent=2,
        )
    columns = [
        Column("", right=True),
        Column(""),
        Column("of the loss", right=True),
        Column("harm, nats", right=True),
        Column("key", shrinks=True),
        Column("label", shrinks=True),
    ]
    cells = [
        [
            Text(str(number), "dim"),
            Text(_FLAG if row.flagged else "", "yellow"),
            Text(_share(row.group.share if row.group else row.share), "yellow" if row.flagged else ""),
            Text(brief(row.group.harm if row.group else row.harm)),
            cell(row.key),
            cell("(none)" if row.label is None else row.label),
        ]
        for number, row in enumerate(report.harmful, 1)
    ]
    page.table(columns, cells, [[quoted(row.text), *_beyond(row), _hits(row)] for row in report.harmful])


def none_harmful(report: Report) -> str:
    """Why there is no harmful row; rows that are no findings are ranked on the page and in the database."""
    facts = report.run.counts.get("harm") or {}
    rows = plural(report.rows.get("train", 0), "training row")
    if facts.get("guesses"):
        return "not told: the head that they are judged by is no better than a guess"
    if facts.get("judged") is None:
        return f"0 of {rows}"
    if facts["judged"]:
        return f"0 of {rows}: none beyond what the choice of the evaluation rows explains"
    return f"not told: {plural(report.rows.get('eval') or 0, 'evaluation row')} are too few"


def _slices(page: Page, report: Report) -> None:
    """Of `--slice COLUMN`: where the loss is high, and who is to blame for it."""
    found = report.run.counts.get("slices") or []
    if not found:
        return
    column = clean(str(report.run.settings.get("slice")))
    page.heading(f"By {column}", f"the {len(found)} values of most evaluation rows, highest loss first; by the head")
    columns = [
        Column(column, shrinks=True),
        Column("rows", right=True),
        Column("loss", right=True),
        Column("accuracy", right=True),
        Column("of its loss", right=True),
        Column("the row that harms it most", shrinks=True),
    ]
    cells = []
    for one in found:
        most = one["harmful"][0] if one["harmful"] else None
        share = _share(most["harm"] / one["loss"]) if most and one["loss"] else "-"
        cells.append(
            [
                cell(str(one["value"])),
                Text(f"{one['rows']:,}"),
                Text(brief(one["loss"])),
                Text(percent(one["accuracy"])),
                Text(share),
                cell(most["key"] if most else "-"),
            ]
        )
    page.table(columns, cells)


def target(report: Report) -> str:
    """What harm is measured on, in words: all evaluation rows, or those that were asked for."""
    told = (report.run.counts.get("harm") or {}).get("measured_on")
    whole = f"the {report.run.counts.get('evaluation_rows', 0):,} evaluation rows"
    return "the evaluation rows" if told in (None, whole) else clean(told)


def _loss(report: Report) -> str:
    rows = target(report)
    return "evaluation loss" if rows == "the evaluation rows" else f"loss of {rows}"


def _beyond(row: HarmfulRow) -> list[str]:
    """What a finding rests on, and the rows of the same cause."""
    if row.low is None or row.high is None:
        return []
    told = f"95 %: {brief(row.low)} to {brief(row.high)} nats over the choice of evaluation rows"
    if row.group is None:
        return [told + turned(row.turn_right, row.turn_wrong)]
    return [
        group_sentence(row.group),
        f"this one: {brief(row.harm)} nats, {told}{turned(row.turn_right, row.turn_wrong)}",
    ]


def group_sentence(group: HarmfulGroup, shown: int = 4) -> str:
    """Size, given and suggested label and predicted flips of the group, and the keys of its first ``shown`` rows."""
    keys = ", ".join(clean(key) for key in group.members[:shown]) + (" ..." if group.size > shown else "")
    return (
        f"{group.size:,} rows close together, called {clean(group.given_label)} and taken for "
        f"{clean(group.suggested_label)}{turned(group.turn_right, group.turn_wrong)}: {keys}"
    )


def turned(right: int | None, wrong: int | None) -> str:
    """Predicted flips of evaluation predictions, if there are any."""
    return f"; predictions that turn right {right or 0:,}, wrong {wrong or 0:,}" if right or wrong else ""


def _hits(row: HarmfulRow) -> str:
    told = ", ".join(f"{clean(hit.key)} ({signed(hit.influence)} nats)" for hit in row.hits)
    return f"hits hardest: {told}" if told else ""


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    return percent(share, 2) if share < 0.1 else percent(share)
