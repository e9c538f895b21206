"""The words of the review screen: a row, why it was flagged, who said what on it, and how far the queue has come.

Knows what a reviewer needs to see; leaves keys and layout to ``app.py``. All foreign text is cleaned ``Text``: nothing
from the data is read as markup.
"""

import contextlib
import hashlib

from PIL.Image import Image
from rich.text import Text

from curate.files.reading import read_regular
from curate.process.numbers import percent
from curate.reports.halfblocks import opened
from curate.reports.html.sentences import facts, records
from curate.reports.layout import SEVERITY_STYLES
from curate.reports.words import brief, clean, plural, quoted, signed
from curate.review.queue import Queue, Said
from curate.settings.media import MediaRoots
from curate.store.rows import Row

LARGEST = 1024
BAR = 20


def picture_of(card: Row, sha256: str, roots: MediaRoots) -> Image | None:
    """The file where it may be shown and still holds what was scanned, else the thumbnail; None for neither."""
    sources = []
    if card.media_path and roots.holds(card.media_path):
        with contextlib.suppress(OSError, ValueError):
            content = read_regular(card.media_path)
            if hashlib.sha256(content).hexdigest() == sha256:
                sources.append(content)
    if card.thumbnail:
        sources.append(card.thumbnail)
    pictures = (opened(content, LARGEST) for content in sources)
    return next((picture for picture in pictures if picture is not None), None)


def head(queue: Queue, width: int) -> Text:
    """Whose queue it is, and a bar of how far it has come."""
    progress = queue.progress
    done = f"{progress.done:,} of {progress.rows:,}"
    filled = round(BAR * progress.done / progress.rows) if progress.rows else BAR
    end = Text.assemble(("━" * filled, "green"), ("━" * (BAR - filled), "dim"), f" {done}")
    start = Text(clean(f"{queue.dataset}, run {queue.run_id}, {queue.reviewer}"), "bold")
    start.truncate(max(width - end.cell_len - 4, 8), overflow="ellipsis")
    return Text.assemble(start, " " * max(width - 2 - start.cell_len - end.cell_len, 1), end)


def state(queue: Queue) -> Text:
    """What the verdicts say of the flags, whether reviewers agree, and the filters."""
    if queue.blind:
        return Text("audit: rows drawn at random, blind; some come twice")
    progress = queue.progress
    decided = progress.confirmed + progress.refuted
    parts = []
    if decided:
        right = percent(progress.confirmed / decided, 0)
        parts.append(f"flags right: {progress.confirmed:,} of {decided:,} ({right})")
    if progress.shared:
        parts.append(f"reviewers agree on {progress.agreed:,} of {plural(progress.shared, 'row')}")
    told = filtered(queue)
    parts += [f"filter: {told}"] if told else []
    return Text(clean("  ·  ".join(parts)))


def filtered(queue: Queue) -> str:
    """The filters in words; "" if there are none."""
    filters = queue.filters
    chosen = {
        "rule": filters.rule,
        "class": filters.label,
        "suggested": filters.suggested,
        "split": filters.split,
        "suspicion from": None if filters.least is None else percent(filters.least, 0),
        "cluster of": filters.cluster,
        "rows": None if filters.which == "open" else filters.which,
    }
    return ", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None)


def row_text(card: Row) -> Text:
    """The row itself: a text with its line breaks, a table's row with one line a cell."""
    if not card.text:
        return Text("no picture and no text is stored for this row", "dim")
    (cells,) = records([card.text])
    if len(cells) > 1:
        width = min(max(len(clean(name)) for name, _ in cells), 24)
        return Text("\n").join(
            Text.assemble((f"{clean(name):{width}}  ", "dim"), clean(value)) for name, value in cells
        )
    return Text("\n".join(clean(line) for line in card.text.splitlines()))


def about(card: Row, words: list[Said], note: str | None, *, blind: bool = False) -> Text:
    """The row's labels, findings, words and evidence; ``blind``: what an audit asks, and the given label alone."""
    told = Text()
    told.append(clean(card.key), "bold cyan")
    told.append(f"  {'evaluation' if card.split == 'eval' else 'training'} row\n\n", "dim")
    told.append("given      ", "dim").append(clean(card.label or "(none)"), "bold").append("\n")
    if blind:
        told.append("\nWould you change this label?\n", "bold")
        told.append("k keeps it, r or l gives another, d drops the row (no label fits, or none that you know), ", "dim")
        told.append("u cannot tell.\n", "dim")
    if card.suggested_label is not None:
        told.append("suggested  ", "dim").append(clean(card.suggested_label), "bold yellow")
        if card.suggested_probability is not None:
            told.append(f"  {percent(card.suggested_probability, 0)}", "dim")
        told.append("\n")
    if card.suspicion is not None:
        filled = round(BAR * card.suspicion)
        told.append("suspicion  ", "dim").append(f"{percent(card.suspicion, 0)} ")
        told.append("━" * filled, "red").append("━" * (BAR - filled), "dim").append("\n")
    for finding in card.findings:
        style = SEVERITY_STYLES.get(finding.severity, "")
        told.append(f"\n{finding.rule}: {finding.severity}", f"bold {style}").append(f"\n{clean(finding.why)}\n")
    for said in words:
        label = f" to {said.new_label}" if said.new_label else ""
        remark = f": {said.note}" if said.note else ""
        told.append(clean(f"\n{said.reviewer} says {said.verdict}{label}{remark}"), "bold green").append("\n")
    if note:
        told.append(f"\nyour note: {clean(note)}\n", "green")
    _listed(
        told, "nearest rows", [f"{near.label or '(none)'}  {quoted(near.text) or near.key}" for near in card.nearest]
    )
    trains = card.split == "train"
    for title, hits in (
        ("harms most" if trains else "harmed most by", card.bad),
        ("helps most" if trains else "helped most by", card.good),
    ):
        _listed(told, title, [f"{signed(hit.influence)} nats  {hit.label or '(none)'}  {hit.key}" for hit in hits])
    evidence = [f"{name}: {value}" for finding in card.findings for name, value in facts(finding)]
    evidence += [f"loss {brief(card.loss)} nats"] if card.loss is not None else []
    evidence += [f"harm {brief(card.harm)} nats"] if card.harm is not None else []
    _listed(told, "evidence", evidence)
    return told


def _listed(told: Text, title: str, lines: list[str]) -> None:
    if lines:
        told.append(f"\n{title}\n", "dim")
        for line in lines:
            told.append(f"  {clean(line)}\n")


def nothing(queue: Queue) -> Text:
    """Instead of a row, where none is left."""
    filters, some = queue.filters, bool(queue.places)
    words = Text()
    if queue.blind:
        words.append("Done: every row of the audit has a verdict.\n\n" if some else "No row was drawn.\n\n", "bold")
        words.append("b goes back to look again, z takes your newest verdict back, q ends.\n\n")
        words.append("`curate audit` says how many labels are wrong.")
        return words
    words.append(
        "Done: every row of this queue has a verdict.\n\n" if some else "No row fits these filters.\n\n", "bold"
    )
    words.append("b goes back to look again, z takes your newest verdict back, f changes the filters, q ends.")
    if filters.which == "open" and some:
        words.append("\n\nWith `curate review --rows second` you give a second opinion on rows of others.")
    return words
