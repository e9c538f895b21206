"""One row, for people: the plain version of ``curate show``."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from curate.process.numbers import percent
from curate.reports.halfblocks import half_blocks, opened
from curate.reports.harmful_terminal import group_sentence
from curate.reports.json import plain
from curate.reports.layout import SEVERITY_STYLES, Column, Page, cell
from curate.reports.row import RowReport
from curate.reports.words import brief, clean, quoted, signed
from curate.store.rows import HitRow, Near, Row, Word

LONGEST_TEXT = 500
PICTURE_CELLS = 40  # columns; half as many lines
LARGEST_SIDE = 1024  # pixels of a decoded picture
NAMES = {
    "suspicion": ("suspicion", "probability that the given label is wrong"),
    "loss": ("loss", "nats"),
    "self_influence": ("self-influence", "nats; how much the model needs this row"),
    "harm": ("harm", "nats; above 0: the evaluation loss falls without it"),
    "margin": ("margin", "probability of the given label less the next best one's"),
    "neighbour_agreement": ("neighbour agreement", "share of the nearest rows' votes for the given label"),
    "given_probability": ("given label", "its probability by probe and neighbours that did not see it"),
    "suggested_probability": ("suggested label", "its probability, given the noise in the labels"),
}
SHARES = ("suspicion", "neighbour_agreement", "given_probability", "suggested_probability")
"""Scores from 0 to 1."""
WORDS = {
    "wrong": "wrong, by all that is known of the row",
    "ambiguous": "ambiguous: most experts favour another one, not surely enough to call it wrong",
    "fine": "fine",
}
"""What a row's word says of its given label."""


def verdict_sentence(word: Word) -> str:
    """The verdict, its new label, reviewer and note, and whether other reviewers disagree; safe to print."""
    label = f" to {word.new_label}" if word.new_label else ""
    note = f": {word.note}" if word.note else ""
    others = f"; the reviewers disagree ({word.words})" if word.disagreement else ""
    return clean(f"{word.verdict}{label}, by {word.reviewer}{note}{others}")


def write_row(page: Page, told: RowReport, verbose: bool = False) -> None:
    """The page of one row: its facts, scores and findings, and the rows near it or tied to it by influence.

    ``verbose``: with the evidence behind each reason, number by number.
    """
    dot, row = page.signs.dot, told.row
    title = Text.assemble(
        (clean(row.key), "bold cyan"),
        f" {dot} {row.split} {dot} {clean(told.run.dataset)} {dot} ",
        f"run {told.run.id}{f', by {told.run.processes} processes' if told.run.processes > 1 else ''}",
    )
    page.line(title)
    page.rule()
    _picture(page, told)
    page.facts(_facts(row, page.signs.dots))
    _scores(page, told)
    _findings(page, row, verbose)
    if told.group is not None:
        share = "" if told.group.share is None else f", {percent(told.group.share, 2)} of the loss"
        page.heading("Harmful together", f"left out at once: {brief(told.group.harm)} nats less by estimate{share}")
        page.paragraph(group_sentence(told.group, shown=8), indent=2)
    if row.nearest:
        _nearest(page, row)
    for heading, hits in parts_of(row):
        _hits(page, heading, hits)


def _facts(row: Row, dots: str) -> list[tuple[str, str]]:
    """What the data and people say of the row; ``dots`` stand where its text is cut."""
    facts = [("given label", "(none)" if row.label is None else clean(row.label))]
    if row.suggested_label is not None:
        sure = "" if row.suggested_probability is None else f" ({percent(row.suggested_probability)})"
        facts.append(("suggested", clean(row.suggested_label) + sure))
    if row.word is not None:
        facts.append(("label is", WORDS[row.word]))
    facts.append(("verdict", "none yet" if row.verdict is None else verdict_sentence(row.verdict)))
    if row.media_path:
        facts.append(("file", clean(row.media_path)))
    if row.text:
        more = dots if len(row.text) > LONGEST_TEXT else ""
        facts.append(("text", clean(row.text[:LONGEST_TEXT]) + more))
    facts.append(("position", f"{row.position:,} in the source, from 0"))
    if row.seen is not None:
        facts.append(("in training", "yes" if row.seen else "no"))
    return [*facts, ("fingerprint", row.fingerprint)]


def _findings(page: Page, row: Row, verbose: bool) -> None:
    dot = page.signs.dot
    page.heading("Findings", "" if row.findings else "none")
    for finding in row.findings:
        style = SEVERITY_STYLES.get(finding.severity, "")
        page.paragraph(
            Text.assemble((finding.rule, f"bold {style}"), f" {dot} {finding.severity} {dot} {finding.state}")
        )
        page.paragraph(Text(clean(finding.why)), indent=2)
        for name, value in flat(finding.shown) if verbose else ():
            page.paragraph(Text.assemble((f"{clean(name)}: ", "dim"), clean(value)), indent=2, follow=4)


def _nearest(page: Page, row: Row) -> None:
    page.heading("Nearest training rows", "cosine in feature space; copies left out")
    columns = [Column("similarity", right=True), Column("key", shrinks=True), Column("label", shrinks=True)]
    page.table(columns, [[Text(similar(near)), cell(near.key), cell(near.label or "(none)")] for near in row.nearest])


def _picture(page: Page, told: RowReport) -> None:
    if page.console.color_system is None or page.console.no_color:  # half-blocks are made of colours
        return
    content = told.picture()
    picture = opened(content, LARGEST_SIDE) if content else None
    for line in half_blocks(picture, min(page.width, PICTURE_CELLS), PICTURE_CELLS // 2) if picture else ():
        page.line(line)


def parts_of(row: Row) -> list[tuple[str, tuple[HitRow, ...]]]:
    """Headings and pairs. A row of a set without an evaluation set of its own plays both parts."""
    if row.split == "eval":
        return [
            ("Proponents: training rows that help it most", row.helped_by),
            ("Opponents: training rows that harm it most", row.harmed_by),
        ]
    parts = [("Evaluation rows it helps most", row.helps), ("Evaluation rows it harms most", row.harms)]
    if row.helped_by or row.harmed_by:
        parts += [
            ("As an evaluation row, its proponents: helped most by", row.helped_by),
            ("As an evaluation row, its opponents: harmed most by", row.harmed_by),
        ]
    return parts


def _scores(page: Page, told: RowReport) -> None:
    page.heading("Scores", "" if told.scores else "none")
    if not told.scores:
        return
    columns = [
        Column("score"),
        Column("value", right=True),
        Column("rank", right=True),
        Column("", shrinks=True),
    ]
    cells = []
    for score in told.scores:
        name, meaning = NAMES[score.name]
        rank = "" if score.rank is None else f"{score.rank:,} of {score.of:,}"
        value = percent(score.value, 0) if score.name in SHARES else brief(score.value)
        cells.append([Text(name), Text(value, "bold"), Text(rank), Text(meaning, "dim")])
    page.table(columns, cells)


def _hits(page: Page, title: str, hits: tuple[HitRow, ...]) -> None:
    page.heading(title, "influence, in nats" if hits else "no such pair was kept in this run")
    if hits:
        columns = [
            Column("influence", right=True),
            Column("key", shrinks=True),
            Column("label", shrinks=True),
        ]
        page.table(
            columns,
            [
                [Text(signed(hit.influence)), cell(hit.key), cell("(none)" if hit.label is None else hit.label)]
                for hit in hits
            ],
            [[quoted(hit.text)] for hit in hits],
        )


def similar(near: Near) -> str:
    """Its cosine, or nothing if a run stored none."""
    return "" if near.similarity is None else f"{near.similarity:.3f}"


def flat(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Evidence as names and values, one line a name."""
    found: list[tuple[str, str]] = []
    for name, value in evidence.items():
        whole = str(name).replace("_", " ")
        if isinstance(value, Mapping):
            found.append((whole, ", ".join(f"{part} {text}" for part, text in flat(value))))
        elif isinstance(value, (list, tuple)):
            found.append((whole, ", ".join(_value(item) for item in value)))
        else:
            found.append((whole, _value(value)))
    return found


def _value(value: Any) -> str:
    value = plain(value)
    return brief(value) if isinstance(value, float) else str(value)
