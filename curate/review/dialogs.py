"""What ``curate review`` asks for: another label, a note, filters.

Knows widgets; leaves what an answer does to ``app.py``. Options carry ``Text``, never markup.
"""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Select
from textual.widgets.option_list import Option

from curate.reports.words import clean
from curate.review.queue import WHICH, Filters
from curate.rules.rule import RULES

STYLE = """
{name} {{ align: center middle; }}
{name} > Vertical {{ width: 70; max-width: 95%; height: auto; max-height: 90%; padding: 1 2; background: $panel; }}
{name} OptionList {{ max-height: 16; }}
"""


class ChooseLabel(ModalScreen[tuple[str, bool] | None]):
    """(label, whether it is a new class); None if the question was left."""

    CSS = STYLE.format(name="ChooseLabel")
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "leave"), ("down", "list", "list")]

    def __init__(self, labels: list[str]) -> None:
        super().__init__()
        self.labels = labels
        self.found: list[tuple[str, bool]] = []

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label("The right label: type a part, Enter takes the first", markup=False)
            yield Input(id="typed", placeholder="label")
            yield OptionList(id="labels", markup=False)

    def on_mount(self) -> None:
        """List all labels."""
        self._list("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """List the labels that hold what is typed, and that itself as a new class if it is none of them."""
        self._list(event.value)

    def _list(self, typed: str) -> None:
        typed = typed.strip()
        self.found = [(label, False) for label in self.labels if typed.lower() in label.lower()]
        self.found.sort(key=lambda pair: pair[0] != typed)
        if typed and all(label != typed for label, _ in self.found):
            self.found.append((typed, True))
        options = [Option(Text(clean(f"new class: {label}" if new else label))) for label, new in self.found]
        self.query_one(OptionList).clear_options().add_options(options)

    def action_list(self) -> None:
        """Go to the list."""
        self.query_one(OptionList).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer with the first label of the list; with an empty list, wait."""
        if self.found:
            self.dismiss(self.found[0])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer with the chosen label."""
        self.dismiss(self.found[event.option_index])


class Ask(ModalScreen[str | None]):
    """One line of text; None if the question was left."""

    CSS = STYLE.format(name="Ask")
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "leave")]

    def __init__(self, question: str, text: str = "") -> None:
        super().__init__()
        self.question, self.text = question, text

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label(self.question, markup=False)
            yield Input(self.text)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer with the line."""
        self.dismiss(event.value)


class ChooseFilters(ModalScreen[Filters | None]):
    """Other filters; None if the question was left."""

    CSS = STYLE.format(name="ChooseFilters")
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "leave")]

    def __init__(self, filters: Filters, labels: list[str]) -> None:
        super().__init__()
        self.filters, self.labels = filters, labels

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label("Which rows? Tab goes on, Enter in the last line ends", markup=False)
            yield _select("rule", "any rule", list(RULES), self.filters.rule)
            yield _select("label", "any given label", self.labels, self.filters.label)
            yield _select("split", "training and evaluation rows", ("train", "eval"), self.filters.split)
            yield _select("which", "", WHICH, self.filters.which)
            least = "" if self.filters.least is None else f"{self.filters.least:g}"
            yield Input(least, id="least", placeholder="suspicion from, 0 to 1", type="number")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer with the filters; a suspicion that is no number is refused."""
        chosen = {
            name: None if (value := self.query_one(f"#{name}", Select).selection) is None else str(value)
            for name in ("rule", "label", "split", "which")
        }
        try:
            least = float(event.value) if event.value.strip() else None
        except ValueError:  # half a number, as "0."
            self.notify("suspicion is a number from 0 to 1", severity="error", markup=False)
            return
        which = chosen["which"] or self.filters.which
        self.dismiss(Filters(chosen["rule"], chosen["label"], chosen["split"], least, which))


def _select(name: str, anything: str, values: Sequence[str], chosen: str | None) -> Select[str]:
    options = [(Text(clean(value)), value) for value in values]
    select: Select[str] = Select(options, prompt=anything, allow_blank=bool(anything), id=name)
    if chosen is not None and chosen in values:
        select.value = chosen
    return select
