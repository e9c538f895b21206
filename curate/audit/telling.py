"""An audit for people and for programs: how far it has come, what it found, and what it does to the next scan.

Knows layout and words; leaves the numbers to ``result``.
"""

from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from curate.audit.estimate import Estimate
from curate.audit.result import CLASS_VERDICTS, Result
from curate.process.numbers import percent
from curate.process.spoken import Spoken
from curate.reports.layout import FANCY, Column, Page, cell
from curate.reports.words import clean, plural

WAYS = (
    ("curate review --audit", "by keyboard, one row at a time"),
    ("curate serve --write", "in a browser, at /-/audit"),
    ("curate mark KEY --verdict keep", "from a script; the keys are those of the view audit_queue"),
    ("curate audit", "how far it has come, and what it says"),
)


@dataclass(frozen=True, slots=True)
class AuditTold(Spoken):
    """An audit of a run's data set: its result, the run that it is held against, and what was asked beside."""

    dataset: str
    run: int
    seed: int
    drawn_now: int
    result: Result
    suspected: float  # what suspicion sums to in the run
    flagged: int
    width: float | None = None
    more: int | None = None  # verdicts that this width costs beyond those there are

    def __str__(self) -> str:
        page = Page.plain(FANCY)
        write_audit(page, self)
        return page.written


def as_dict(told: AuditTold) -> dict[str, Any]:
    """Plain values, for `-f json`."""
    result = told.result
    plain = {name: getattr(result, name) for name in result.__dataclass_fields__ if name != "cells"}
    counts = {name: getattr(result, name) for name in ("drawn", "verdicts", "wrong", "right", "unsure")}
    plain |= {
        name: None if (found := getattr(result, name)) is None else asdict(found)
        for name in ("audited", "rate", "precision", "recall")
    }
    facts = {name: getattr(told, name) for name in told.__dataclass_fields__ if name != "result"}
    return {**facts, **counts, **plain}


def write_audit(page: Page, told: AuditTold) -> None:
    """Write the audit as the terminal shows it."""
    result = told.result
    dot = page.signs.dot
    page.line(
        Text.assemble(
            ("curate", "bold cyan"), f" {dot} audit of ", (clean(told.dataset), "bold"), f" {dot} run {told.run}"
        )
    )
    page.rule()
    page.facts(_facts(told))
    if result.verdicts:
        _found(page, told)
    if result.answered < result.showings:
        page.heading("Next", "Would a reviewer change this label? Leave a verdict on each drawn row")
        for command, what in WAYS:
            page.line(Text.assemble("  ", (f"{command:32}", "cyan"), (what, "dim")))
    _strata(page, result)


def _facts(told: AuditTold) -> list[tuple[str, str]]:
    result = told.result
    drawn = f"{plural(result.drawn, 'row')} of {result.rows:,} drawn at random within {len(result.strata)} strata"
    drawn += f" of suspicion, seed {told.seed}" + (f"; {told.drawn_now:,} of them now" if told.drawn_now else "")
    again = result.showings - result.drawn
    facts = [("drawn", drawn)]
    waiting = result.showings - result.answered
    showings = f"{result.answered:,} of {plural(result.showings, 'showing')} answered, {waiting:,} open"
    facts.append(("progress", showings + (f"; {plural(again, 'row')} shown twice" if again else "")))
    if result.verdicts:
        said = f"{result.wrong:,} wrong, {result.right:,} right, {result.unsure:,} unsure"
        facts.append(("verdicts", f"{result.verdicts:,} rows: {said}"))
    if result.twice:
        facts.append(
            (
                "reviewer",
                f"{result.differing:,} of {plural(result.twice, 'row')} that came twice got another "
                "verdict the second time, and count as unsure",
            )
        )
    if result.seen:
        facts.append(
            (
                "not blind",
                f"{plural(result.seen, 'word')} left elsewhere than in the audit: a suggestion may have been in sight",
            )
        )
    if result.new_rows:
        facts.append(
            (
                "new rows",
                f"{result.new_rows:,} that this audit was not drawn from: all of them may be wrong, "
                "and the range says so; `curate audit -n N` draws among them too",
            )
        )
    return facts


# Long, not deep: one line of the page after the other.
def _found(page: Page, told: AuditTold) -> None:
    result = told.result
    rate = result.rate
    assert rate is not None
    page.heading("What it found", "intervals of 95 %")
    facts = [("noise rate", f"{_told(rate)} of {result.rows:,} labels are wrong")]
    facts.append(
        (
            "bounds",
            f"at most {percent(rate.at_most)}, at least {percent(rate.at_least)} (one-sided, 95 % each:"
            " what --max-noise-rate compares)",
        )
    )
    for name, share, of in (
        ("precision", result.precision, f"of the {told.flagged:,} flagged rows are wrong"),
        ("recall", result.recall, "of the wrong labels are flagged"),
    ):
        if share is not None:
            facts.append((name, f"{_told(share)} {of}"))
    expected = rate.value * result.rows
    facts.append(
        (
            "next scan",
            f"suspicion will sum to {expected:,.0f} wrong labels, and as many rows will be flagged "
            f"(in run {told.run}: {told.suspected:,.0f} and {told.flagged:,})",
        )
    )
    if told.width is not None:
        facts.append((f"width {100 * told.width:g} %", width_sentence(told)))
    page.facts(facts)
    if result.classes:
        columns = [
            Column("label", shrinks=True),
            Column("rows", right=True),
            Column("verdicts", right=True),
            Column("noise rate", right=True),
            Column("95 %"),
        ]
        page.heading("Class by class", f"classes with {CLASS_VERDICTS} verdicts or more")
        page.table(
            columns,
            [
                [
                    cell(row.label),
                    Text(f"{row.rows:,}"),
                    Text(f"{row.verdicts:,}"),
                    Text(percent(row.rate.value)),
                    Text(f"{percent(row.rate.low)} to {percent(row.rate.high)}"),
                ]
                for row in result.classes
            ],
        )


def width_sentence(told: AuditTold) -> str:
    """What a wanted width of the interval costs, as far as the verdicts so far tell."""
    result = told.result
    assert result.rate is not None
    now = f"now {percent(result.rate.width)} wide"
    if told.more is None:
        why = "the rows that nobody was drawn from are too many" if result.new_rows else "too many rows are unsure"
        return f"{now}; it cannot be had: {why}"
    if told.more == 0:
        return f"{now}: it is there"
    return f"{now}; about {told.more:,} more verdicts: curate audit -n {result.drawn + told.more}"


def _told(share: Estimate) -> str:
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _strata(page: Page, result: Result) -> None:
    """How the rows were drawn; what was said of each stratum only once the audit is through: it tells of suspicion."""
    done = result.answered == result.showings
    page.heading("Strata", "training rows by suspicion, the most suspect first")
    columns = [Column(""), *(Column(name, right=True) for name in ("rows", "drawn"))]
    columns += [Column(name, right=True) for name in ("wrong", "right", "unsure")] if done else []
    cells = []
    several = len({stratum.audit for stratum in result.strata}) > 1
    for stratum in result.strata:
        name = f"{stratum.audit}.{stratum.number}" if several else f"{stratum.number}"
        counts = [stratum.rows, stratum.drawn, *([stratum.wrong, stratum.right, stratum.unsure] if done else [])]
        cells.append([Text(name, "dim"), *(Text(f"{count:,}") for count in counts)])
    page.table(columns, cells)
