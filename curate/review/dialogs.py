"""What ``curate review`` asks for: another label, a note, filters.

Knows widgets; leaves what an answer does to ``app.py``. Options carry ``Text``, never markup.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Label, OptionList, Select
from textual.widgets.option_list import Option

from curate.reports.words import clean, plural
from curate.review.queue import Filters
from curate.rules.rule import RULES

STYLE = """
{name} {{ align: center middle; }}
{name} > Vertical {{ width: 70; max-width: 95%; height: auto; max-height: 90%; padding: 1 2; background: $panel; }}
{name} OptionList {{ max-height: 16; }}
"""


WAITING = {
    "open": "nobody has spoken on",
    "mine": "you have not spoken on",
    "second": "others have spoken on, and you have not",
}
"""Which rows wait (``queue.WHICH``), in words."""


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


HELP = (
    ("r", "the label is wrong, and the suggested one is right{suggested}"),
    ("l", "the label is wrong: choose the right one"),
    ("k", "the label is right: keep it, and the gate counts the row no more"),
    ("d", "take the row out of the data set"),
    ("o", "no class fits (off-topic): out of the data set, too"),
    ("u", "unsure: counts as neither right nor wrong"),
    ("s b", "on to the next row and say nothing; back to the row before"),
    ("z", "take back your newest verdict, or all that you gave at once"),
    ("n", "a note that goes with your next verdict on this row"),
    ("f", "choose rows: by rule, labels, suspicion, who has spoken"),
    ("a", "one verdict on all rows that f chose and that wait"),
    ("q", "end; each verdict is stored already"),
)
"""Keys, and what they say of a row."""


class Keys(ModalScreen[None]):
    """The help: what each key means for the row that is shown."""

    CSS = STYLE.format(name="Keys") + "Keys Label { width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,question_mark,enter", "dismiss(None)", "leave")]

    def __init__(self, suggested: str | None) -> None:
        super().__init__()
        told = f" (here: {suggested})" if suggested is not None else " (none is sure enough here)"
        lines = [(key, meaning.format(suggested=clean(told))) for key, meaning in HELP]
        self.text = Text("\n").join(Text.assemble((f"{key:5}", "bold"), meaning) for key, meaning in lines)

    def compose(self) -> ComposeResult:
        """The keys, one a line."""
        with Vertical():
            yield Label(self.text, markup=False)


MANY = {
    "relabel": "relabel each to its suggested label",
    "keep": "keep: all labels are right",
    "drop": "drop them all",
    "none": "none: no class fits any of them",
    "unsure": "unsure",
}
"""Verdicts on many rows, and what they mean there."""


class ChooseVerdict(ModalScreen[str | None]):
    """One verdict for many rows; None if the question was left."""

    CSS = STYLE.format(name="ChooseVerdict") + "ChooseVerdict Label { width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "leave")]

    def __init__(self, rows: int, filters: str) -> None:
        super().__init__()
        self.question = f"One verdict on {plural(rows, 'row')} ({filters or 'no filter: all that wait'})"

    def compose(self) -> ComposeResult:
        """The question, and what can be answered."""
        with Vertical():
            yield Label(clean(self.question), markup=False)
            yield OptionList(*(Option(Text(told), id=verdict) for verdict, told in MANY.items()), id="many")
            yield Label("Enter takes it, Escape leaves; z takes all of it back", markup=False)

    def on_mount(self) -> None:
        """The list has the keys."""
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer with the chosen verdict."""
        self.dismiss(event.option_id)


class ChooseFilters(ModalScreen[Filters | None]):
    """Other filters; None if the question was left."""

    CSS = (
        STYLE.format(name="ChooseFilters")
        + "ChooseFilters .field { height: auto; } ChooseFilters .field Label { width: 14; }"
        + "ChooseFilters .field Select { width: 1fr; } ChooseFilters .field Input { width: 1fr; }"
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "leave")]

    def __init__(self, filters: Filters, labels: list[str]) -> None:
        super().__init__()
        self.filters, self.labels = filters, labels

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label("Which rows? Tab goes on, Enter in the last line ends", markup=False)
            for title, field in self._fields():
                with Horizontal(classes="field"):
                    yield Label(title, markup=False)
                    yield field

    def _fields(self) -> Iterator[tuple[str, Widget]]:
        chosen = self.filters
        yield "rule", _select("rule", "any", list(RULES), chosen.rule)
        yield "given label", _select("label", "any", self.labels, chosen.label)
        yield "suggested", _select("suggested", "any", self.labels, chosen.suggested)
        yield "split", _select("split", "training and evaluation", ("train", "eval"), chosen.split)
        yield "rows that", _select("which", WAITING["open"], list(WAITING)[1:], chosen.which, WAITING)
        least = "" if chosen.least is None else f"{100 * chosen.least:g}"
        yield (
            "suspicion",
            Input(least, id="least", placeholder="from this many per cent on", type="number", compact=True),
        )

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer with the filters; a suspicion that is no number is refused."""
        chosen = {
            name: None if (value := self.query_one(f"#{name}", Select).selection) is None else str(value)
            for name in ("rule", "label", "suggested", "split", "which")
        }
        try:
            least = float(event.value) / 100 if event.value.strip() else None
        except ValueError:  # half a number, as "0."
            self.notify("suspicion is a number of per cent, 0 to 100", severity="error", markup=False)
            return
        which = chosen.pop("which") or "open"
        self.dismiss(Filters(**chosen, least=least, cluster=self.filters.cluster, which=which))


def _select(
    name: str, anything: str, values: Sequence[str], chosen: str | None, told: Mapping[str, str] = MappingProxyType({})
) -> Select[str]:
    """``anything`` stands for no choice; ``told`` says a value in words."""
    options = [(Text(clean(told.get(value, value))), value) for value in values]
    select: Select[str] = Select(options, prompt=anything, id=name, compact=True)
    if chosen is not None and chosen in values:
        select.value = chosen
    return select
