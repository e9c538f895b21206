"""The screen of ``curate review``: one row at a time, one key a verdict.

Knows keys and layout; leaves the rows and their order to ``queue.py``, what is said of them to ``telling.py``. Needs
the extra ``review``.
"""

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Footer, Static

from curate.errors import CurateError
from curate.reports.words import clean, plural, shorten
from curate.review.dialogs import Ask, ChooseFilters, ChooseLabel, ChooseVerdict, Keys
from curate.review.pictures import Picture
from curate.review.queue import Filters, Queue
from curate.review.telling import about, filtered, head, nothing, picture_of, row_text, state
from curate.store import Review


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
        ("o", "say('none')", "none"),
        Binding("u", "say('unsure')", "unsure", show=False),
        ("s", "skip", "skip"),
        ("z", "undo", "undo"),
        ("f", "filter", "filter"),
        ("a", "all", "all"),
        ("question_mark", "keys", "help"),
        Binding("q", "quit", "quit", show=False),
        Binding("b", "previous", "back", show=False),
        Binding("n", "note", "note", show=False),
    ]
    """The footer holds 80 columns of them; the help has all."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self.queue = queue
        self.left = 0
        self.note: str | None = None

    def compose(self) -> ComposeResult:
        """The screen: where one is, the row, and what is told of it."""
        yield Static(id="head", markup=False)
        with Container(id="row"):
            with VerticalScroll(id="shown", can_focus=True):
                yield Picture(id="picture")
                yield Static(id="text", markup=False)
            with VerticalScroll(id="told", can_focus=True):
                yield Static(id="about", markup=False)
        yield Static(id="state", markup=False)
        footer = Footer(show_command_palette=False)
        footer.compact = True
        yield footer

    def on_mount(self) -> None:
        """Show the first row."""
        self.show()

    def show(self) -> None:
        """The row that the queue is at, and how far it has come."""
        card, place = self.queue.card, self.queue.place
        words = self.queue.words(place.fingerprint) if place else []
        picture = picture_of(card, self.sha256, self.queue.roots) if card else None
        shown = self.query_one("#picture")
        shown.set_class(picture is None, "hidden")
        shown.image = picture  # type: ignore[attr-defined]
        self.query_one("#shown").set_class(picture is not None, "pictured")
        self.query_one("#text", Static).update(row_text(card) if card and picture is None else Text())
        told = about(card, words, self.note, blind=self.queue.blind) if card else nothing(self.queue)
        self.query_one("#about", Static).update(told)
        self.query_one("#head", Static).update(head(self.queue, self.size.width))
        self.query_one("#state", Static).update(state(self.queue))
        for part in ("#shown", "#told"):
            self.query_one(part, VerticalScroll).scroll_home(animate=False)

    @property
    def sha256(self) -> str:
        """The content of the row that is shown."""
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
        """Leave a verdict on the row that is shown."""
        with self.told():
            self._said(self.queue.say(verdict, note=self.note))

    def action_relabel(self) -> None:
        """Take the suggested label; ask for one if none is suggested."""
        if self.queue.blind:  # there is no suggestion to relabel to
            self.action_label()
        else:
            self.action_say("relabel")

    def action_label(self) -> None:
        """Ask for the right label."""
        card = self.queue.card
        if card is None:
            return

        def answer(chosen: tuple[str, bool] | None) -> None:
            if chosen is not None:
                with self.told():
                    self._said(self.queue.say("relabel", chosen[0], self.note, new_class=chosen[1]))

        # Blind, the classes stand in their own order.
        labels = [label for label in self.queue.labels if label not in (card.label, card.suggested_label)]
        first = [card.suggested_label] if card.suggested_label is not None else []
        self.push_screen(ChooseLabel([*first, *labels]), answer)

    def action_skip(self) -> None:
        """Go to the next row and say nothing."""
        self.note = None
        self.queue.skip()
        self.show()

    def action_previous(self) -> None:
        """Go back to the row before."""
        self.note = None
        self.queue.back()
        self.show()

    def action_undo(self) -> None:
        """Take back the newest verdict."""
        with self.told():
            words = self.queue.undo()
            self.left = max(0, self.left - len(words))
            what = shorten(words[0].key, 60) if len(words) == 1 else plural(len(words), "verdict")
            self.notify(clean(f"{what}: taken back"), timeout=2, markup=False)

    def action_note(self) -> None:
        """Ask for a note on the row that is shown."""

        def answer(text: str | None) -> None:
            if text is not None:
                self.note = text.strip() or None
                self.show()

        if self.queue.place is not None:
            self.push_screen(Ask("A note that goes with your next verdict on this row", self.note or ""), answer)

    def action_keys(self) -> None:
        """What each key does to the row that is shown."""
        card = self.queue.card
        self.push_screen(Keys(None if card is None or self.queue.blind else card.suggested_label))

    def action_all(self) -> None:
        """Ask for one verdict on all rows of the filter that wait."""
        if self.queue.blind:
            self.notify("an audit is answered row by row", severity="warning", markup=False)
            return
        waiting = len(self.queue.waiting)

        def answer(verdict: str | None) -> None:
            if verdict is not None:
                with self.told():
                    done = self.queue.say_all(verdict)
                    self.left += len(done.words)
                    left = f"; {done.unsure:,} without a sure suggestion wait on" if done.unsure else ""
                    self.notify(f"{plural(len(done.words), 'row')}: {verdict}{left}; z takes it back", markup=False)

        if waiting:
            self.push_screen(ChooseVerdict(waiting, filtered(self.queue)), answer)

    def action_filter(self) -> None:
        """Ask which rows to show."""
        if self.queue.blind:
            self.notify("an audit is answered in the order drawn", severity="warning", markup=False)
            return

        def answer(filters: Filters | None) -> None:
            if filters is not None:
                self.queue.choose(filters)
                self.show()

        self.push_screen(ChooseFilters(self.queue.filters, self.queue.labels), answer)

    async def action_quit(self) -> None:
        """End, and say how many verdicts were left."""
        self.exit(self.left)
