"""The screen of ``curate review``: one row at a time, one key a verdict.

Knows keys and layout; leaves the rows and their order to ``queue.py``. All foreign text goes in as ``Text`` that is
cleaned: nothing from the data is read as markup. Needs the extra ``review``.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from PIL.Image import Image
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Footer, Static

from curate.errors import CurateError
from curate.reports.gallery import Card
from curate.reports.halfblocks import opened
from curate.reports.html.sentences import facts, records, spoke
from curate.reports.layout import SEVERITY_STYLES
from curate.reports.words import brief, clean, percent, plural, shorten, signed
from curate.review.dialogs import Ask, ChooseFilters, ChooseLabel
from curate.review.pictures import Picture
from curate.review.queue import Filters, Queue, Said
from curate.store import Review

LARGEST = 1024
BAR = 20


class ReviewApp(App[int]):
    """Returns the number of verdicts that were left."""

    TITLE = "curate review"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012 (textual declares it so)
    CSS = """
    #head { height: 1; background: $panel; padding: 0 1; }
    #state { height: 1; padding: 0 1; color: $text-muted; }
    #row { height: 1fr; layout: horizontal; }
    .-narrow #row { layout: vertical; }
    #shown { width: 2fr; padding: 1 2; }
    .-narrow #shown { width: 1fr; height: auto; max-height: 45%; padding: 0 1; }
    .-narrow #shown.pictured { height: 45%; }
    #told { width: 3fr; padding: 1 2; }
    .-narrow #told { width: 1fr; height: 1fr; padding: 1 1 0 1; }
    #picture { width: 1fr; height: 1fr; max-height: 40; }
    .hidden { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("r", "relabel", "relabel"),
        ("l", "label", "label"),
        ("k", "say('keep')", "keep"),
        ("d", "say('drop')", "drop"),
        ("u", "say('unsure')", "unsure"),
        ("s", "skip", "skip"),
        ("z", "undo", "undo"),
        ("q", "quit", "quit"),
        ("b", "previous", "back"),
        ("n", "note", "note"),
        ("f", "filter", "filter"),
        ("question_mark", "show_help_panel", "keys"),
    ]

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self.queue = queue
        self.left = 0
        self.note: str | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        with Container(id="row"):
            with VerticalScroll(id="shown", can_focus=True):
                yield Picture(id="picture")
                yield Static(id="text", markup=False)
            with VerticalScroll(id="told", can_focus=True):
                yield Static(id="about", markup=False)
        yield Static(id="state", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.show()

    def show(self) -> None:
        """The row that the queue is at, and how far it has come."""
        card, place = self.queue.card, self.queue.place
        words = self.queue.words(place.fingerprint) if place else []
        picture = picture_of(card, self.sha256) if card else None
        shown = self.query_one("#picture")
        shown.set_class(picture is None, "hidden")
        shown.image = picture  # type: ignore[attr-defined]
        self.query_one("#shown").set_class(picture is not None, "pictured")
        self.query_one("#text", Static).update(_text(card) if card and picture is None else Text())
        about = _about(card, words, self.note) if card else _nothing(self.queue.filters, bool(self.queue.places))
        self.query_one("#about", Static).update(about)
        self.query_one("#head", Static).update(_head(self.queue, self.size.width))
        self.query_one("#state", Static).update(_state(self.queue))
        for part in ("#shown", "#told"):
            self.query_one(part, VerticalScroll).scroll_home(animate=False)

    @property
    def sha256(self) -> str:
        place = self.queue.place
        if place is None:
            return ""
        query = "SELECT content_sha256 FROM examples WHERE id = ?"
        return str(self.queue.store.query(query, [place.example_id])[0]["content_sha256"])

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """What cannot be done is said on the screen; the row stays."""
        try:
            yield
        except CurateError as error:
            self.notify(clean(str(error)), severity="error", markup=False)
        self.show()

    def _said(self, word: Review) -> None:
        self.left += 1
        self.note = None
        label = f" to {word.new_label}" if word.new_label else ""
        self.notify(clean(f"{shorten(word.key, 60)}: {word.verdict}{label}"), timeout=2, markup=False)

    def action_say(self, verdict: str) -> None:
        with self.told():
            self._said(self.queue.say(verdict, note=self.note))

    def action_relabel(self) -> None:
        self.action_say("relabel")

    def action_label(self) -> None:
        card = self.queue.card
        if card is None:
            return

        def answer(chosen: tuple[str, bool] | None) -> None:
            if chosen is not None:
                with self.told():
                    self._said(self.queue.say("relabel", chosen[0], self.note, new_class=chosen[1]))

        labels = [label for label in self.queue.labels if label not in (card.given_label, card.suggested_label)]
        first = [card.suggested_label] if card.suggested_label is not None else []
        self.push_screen(ChooseLabel([*first, *labels]), answer)

    def action_skip(self) -> None:
        self.note = None
        self.queue.skip()
        self.show()

    def action_previous(self) -> None:
        self.note = None
        self.queue.back()
        self.show()

    def action_undo(self) -> None:
        with self.told():
            word = self.queue.undo()
            self.left = max(0, self.left - 1)
            self.notify(clean(f"{shorten(word.key, 60)}: taken back"), timeout=2, markup=False)

    def action_note(self) -> None:
        def answer(text: str | None) -> None:
            if text is not None:
                self.note = text.strip() or None
                self.show()

        if self.queue.place is not None:
            self.push_screen(Ask("A note that goes with your next verdict on this row", self.note or ""), answer)

    def action_filter(self) -> None:
        def answer(filters: Filters | None) -> None:
            if filters is not None:
                self.queue.choose(filters)
                self.show()

        self.push_screen(ChooseFilters(self.queue.filters, self.queue.labels), answer)

    async def action_quit(self) -> None:
        self.exit(self.left)


def picture_of(card: Card, sha256: str) -> Image | None:
    """The file where it still holds what was scanned, else the thumbnail; None where there is neither."""
    sources = []
    if card.media_path and Path(card.media_path).is_file():
        with contextlib.suppress(OSError):
            content = Path(card.media_path).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                sources.append(content)
    if card.thumbnail:
        sources.append(card.thumbnail)
    pictures = (opened(content, LARGEST) for content in sources)
    return next((picture for picture in pictures if picture is not None), None)


def _head(queue: Queue, width: int) -> Text:
    progress = queue.progress
    done = f"{progress.done:,} of {progress.rows:,}"
    filled = round(BAR * progress.done / progress.rows) if progress.rows else BAR
    end = Text.assemble(("━" * filled, "green"), ("━" * (BAR - filled), "dim"), f" {done}")
    start = Text(clean(f"{queue.dataset}, run {queue.run_id}, {queue.reviewer}"), "bold")
    start.truncate(max(width - end.cell_len - 4, 8), overflow="ellipsis")
    return Text.assemble(start, " " * max(width - 2 - start.cell_len - end.cell_len, 1), end)


def _state(queue: Queue) -> Text:
    progress, filters = queue.progress, queue.filters
    decided = progress.confirmed + progress.refuted
    parts = []
    if decided:
        right = percent(progress.confirmed / decided, 0)
        parts.append(f"flags right: {progress.confirmed:,} of {decided:,} ({right})")
    if progress.shared:
        parts.append(f"reviewers agree on {progress.agreed:,} of {plural(progress.shared, 'row')}")
    chosen = {"rule": filters.rule, "class": filters.label, "split": filters.split,
              "suspicion from": filters.least, "rows": None if filters.which == "open" else filters.which}  # fmt: skip
    told = [f"{name} {value}" for name, value in chosen.items() if value is not None]
    parts += [f"filter: {', '.join(told)}"] if told else []
    return Text(clean("  ·  ".join(parts)))


def _text(card: Card) -> Text:
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


def _about(card: Card, words: list[Said], note: str | None) -> Text:
    told = Text()
    told.append(clean(card.key), "bold cyan")
    told.append(f"  {'evaluation' if card.split == 'eval' else 'training'} row\n\n", "dim")
    told.append("given      ", "dim").append(clean(card.given_label or "(none)"), "bold").append("\n")
    if card.suggested_label is not None:
        told.append("suggested  ", "dim").append(clean(card.suggested_label), "bold yellow")
        if card.suggested_probability is not None:
            told.append(f"  {percent(card.suggested_probability, 0)}", "dim")
        told.append("\n")
    if card.suspicion is not None:
        filled = round(BAR * card.suspicion)
        told.append("suspicion  ", "dim").append(f"{card.suspicion:.3f} ")
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
    _listed(told, "nearest rows", [f"{near.label or '(none)'}  {near.key}" for near in card.nearest])
    trains = card.split == "train"
    for title, hits in (("harms most" if trains else "harmed most by", card.harms),
                        ("helps most" if trains else "helped most by", card.helps)):  # fmt: skip
        _listed(told, title, [f"{signed(hit.influence)} nats  {hit.label or '(none)'}  {hit.key}" for hit in hits])
    evidence = [f"{name}: {more}" for finding in card.findings for name, more in spoke(finding)]
    evidence += [f"{name}: {value}" for finding in card.findings for name, value in facts(finding)]
    evidence += [f"loss {brief(card.loss)} nats"] if card.loss is not None else []
    evidence += [f"harm {brief(card.harm)} nats"] if card.harm is not None else []
    _listed(told, "evidence", evidence)
    return told


def _listed(told: Text, title: str, lines: list[str]) -> None:
    if lines:
        told.append(f"\n{title}\n", "dim")
        for line in lines:
            told.append(f"  {clean(line)}\n")


def _nothing(filters: Filters, some: bool) -> Text:
    words = Text()
    words.append(
        "Done: every row of this queue has a verdict.\n\n" if some else "No row fits these filters.\n\n", "bold"
    )
    words.append("b goes back to look again, z takes your newest verdict back, f changes the filters, q ends.")
    if filters.which == "open" and some:
        words.append("\n\nWith `curate review --rows second` you give a second opinion on rows of others.")
    return words
