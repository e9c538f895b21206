"""Headings, paragraphs and tables as lines of styled text.

Knows widths, colours and which signs an output can show; leaves what is said to the renderers. rich's own tables
would break a long key over several lines, so the columns are set here.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from curate.reports.words import clean, shorten

TEXT_WIDTH = 100
LEAST_COLUMN = 8
GAP = 2

SEVERITY_STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}


@dataclass(frozen=True, slots=True)
class Signs:
    """The few signs beyond plain words."""

    arrow: str
    dots: str
    full: str
    empty: str
    rule: str
    dot: str


PLAIN = Signs(arrow="->", dots="...", full="#", empty=".", rule="-", dot="|")
FANCY = Signs(arrow="→", dots="…", full="━", empty="─", rule="─", dot="·")


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, where its cells stand, and whether it gives way when the line is too long."""

    heading: str
    right: bool = False
    shrinks: bool = False


class Page:
    """Lines of one report, set for one console."""

    def __init__(self, console: Console, signs: Signs | None = None) -> None:
        self.console = console
        self.width = max(console.width, 40)
        self.signs = signs or (PLAIN if console.options.ascii_only else FANCY)

    @classmethod
    def plain(cls, signs: Signs = PLAIN) -> "Page":
        """A page for a file: no colour, one width, and an ASCII layout unless other signs are given."""
        console = Console(file=io.StringIO(), width=TEXT_WIDTH, color_system=None, legacy_windows=False, _environ={})
        return cls(console, signs)

    @property
    def written(self) -> str:
        """What a plain page holds."""
        file = self.console.file
        assert isinstance(file, io.StringIO)
        return file.getvalue()

    def line(self, text: Text | str = "") -> None:
        """Print one line without its trailing spaces; it is neither cut nor wrapped here."""
        text = Text(text) if isinstance(text, str) else text
        text.rstrip()
        # Lines are set to fit; if one word is longer than the page, the terminal wraps it, which loses nothing.
        self.console.print(text, no_wrap=True, overflow="ignore", crop=False, highlight=False, soft_wrap=True)

    def heading(self, title: str, remark: str = "") -> None:
        """Print an empty line and a bold title, with a dim remark after it."""
        self.line()
        self.paragraph(Text.assemble((title, "bold"), "  " if remark else "", (remark, "dim")), follow=2)

    def rule(self) -> None:
        """Print a line of the rule's sign, across the page but at most 120 cells."""
        self.line(Text(self.signs.rule * min(self.width, 120), "dim"))

    def paragraph(self, text: Text | str, indent: int = 0, follow: int | None = None, style: str = "") -> None:
        """Wrapped text; ``follow`` indents the second line and those after it."""
        text = Text(text, style) if isinstance(text, str) else text
        follow = indent if follow is None else follow
        room = self.width - max(indent, follow)
        for number, part in enumerate(text.wrap(self.console, max(room, 20))):
            part.rstrip()
            self.line(Text(" " * (indent if number == 0 else follow)) + part)

    def items(self, items: Sequence[str], indent: int = 0) -> None:
        """Short texts with commas between them, none of them broken."""
        lines: list[str] = []
        for number, item in enumerate(items):
            part = item + ("," if number + 1 < len(items) else "")
            if lines and indent + len(lines[-1]) + 1 + len(part) <= self.width:
                lines[-1] += f" {part}"
            else:
                lines.append(part)
        for line in lines:
            self.line(" " * indent + line)

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Name and value, the values under one another."""
        facts = list(facts)
        start = max((len(name) for name, _ in facts), default=0) + GAP
        for name, value in facts:
            parts = Text(value).wrap(self.console, max(self.width - start, 20))
            for number, part in enumerate(parts):
                part.rstrip()
                self.line(Text(f"{name if number == 0 else '':{start}}", "dim") + part)

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Text]],
        details: Sequence[Sequence[str]] = (),
        indent: int = 0,
    ) -> None:
        """One line a row, cells shortened to fit, and under it its details if there are some."""
        natural = [
            max([len(column.heading), *(row[place].cell_len for row in rows)]) for place, column in enumerate(columns)
        ]
        widths = self._fitted(columns, natural, self.width - indent)
        headings = [Text(column.heading, "dim") for column in columns]
        self._row(columns, widths, headings, indent)
        for number, row in enumerate(rows):
            self._row(columns, widths, row, indent)
            for detail in details[number] if details else ():
                if detail:
                    self.paragraph(Text(clean(detail), "dim"), indent=indent + widths[0] + GAP)

    def _fitted(self, columns: Sequence[Column], natural: list[int], room: int) -> list[int]:
        widths = list(natural)
        while sum(widths) + GAP * (len(widths) - 1) > room:
            giving = [place for place, column in enumerate(columns) if column.shrinks and widths[place] > LEAST_COLUMN]
            if not giving:
                break
            widths[max(giving, key=lambda place: widths[place])] -= 1
        return widths

    def _row(self, columns: Sequence[Column], widths: list[int], cells: Sequence[Text], indent: int) -> None:
        line = Text(" " * indent)
        for place, (column, width, cell) in enumerate(zip(columns, widths, cells, strict=True)):
            if cell.cell_len > width:
                cell = Text(shorten(cell.plain, width, self.signs.dots), cell.style)
            pad = Text(" " * (width - cell.cell_len))
            line = line + (Text(" " * GAP) if place else Text()) + (pad + cell if column.right else cell + pad)
        self.line(line)

    def bar(self, share: float | None, style: str, width: int = 10) -> Text:
        """A small bar for a share of 0 to 1."""
        filled = round(width * min(max(share or 0.0, 0.0), 1.0))
        return Text.assemble((self.signs.full * filled, style), (self.signs.empty * (width - filled), "dim"))


def cell(value: object, style: str = "") -> Text:
    """A cell of the user's text, harmless."""
    return Text(clean(value), style)
