"""What a terminal with colours draws beyond the words of a report: small pictures, a curve, a table of confusions.

Knows how to draw in cells; leaves the words to ``terminal.py`` and pixels to ``halfblocks.py``. Nothing is drawn that
the words do not tell as well: other terminals miss no fact.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from curate.reports.gallery import Confusion, Distribution, confusion_of, distribution_of
from curate.reports.halfblocks import half_blocks, opened
from curate.reports.layout import Column, Page, cell
from curate.reports.report import MislabeledRow
from curate.reports.words import brief, clean, shorten
from curate.store import Store

ACROSS, DOWN = 14, 7  # cells of a picture
GAP = 2
STRIPS = 2
LEAST_WIDTH = 60
WIDE = 90
LEAST_CLASSES = 3
LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Sketch:
    """``pictures``: thumbnails by key as people read it."""

    pictures: Mapping[str, bytes] = field(default_factory=dict)
    distribution: Distribution | None = None
    confusion: Confusion | None = None

    @classmethod
    def of_run(cls, store: Store, run_id: int, rows: Sequence[MislabeledRow]) -> "Sketch":
        """For these rows of the run."""
        found: dict[str, bytes] = {}
        for row in rows:
            # One at a time, by the index of keys: the full key of an evaluation row is no column.
            found |= {
                each["key"]: each["thumbnail"]
                for each in store.query(
                    "SELECT e.key, e.thumbnail FROM named_examples AS e JOIN findings AS f "
                    "ON f.run_id = ? AND f.example_id = e.id AND f.rule = 'mislabeled' "
                    "WHERE e.plain_key IN (?, ?) AND e.key = ? AND e.thumbnail IS NOT NULL",
                    [run_id, row.key, row.key.removeprefix("eval:"), row.key],
                )
            }
        return cls(found, distribution_of(store, run_id), confusion_of(store, run_id))


def can_draw(page: Page) -> bool:
    """A terminal with 256 colours or more, that shows more than ASCII."""
    console = page.console
    return (
        console.is_terminal
        and console.color_system in ("256", "truecolor", "windows")
        and not console.options.ascii_only
        and page.width >= LEAST_WIDTH
    )


def strips(page: Page, sketch: Sketch, rows: Sequence[MislabeledRow]) -> None:
    """The pictures of the first rows, side by side, each under its number and over its labels."""
    room = (page.width - 2 + GAP) // (ACROSS + GAP)
    drawn = []
    for number, row in enumerate(rows[: STRIPS * room], 1):
        picture = opened(sketch.pictures[row.key], 4 * ACROSS) if row.key in sketch.pictures else None
        if picture is not None:
            drawn.append((number, row, half_blocks(picture, ACROSS, DOWN)))
    for start in range(0, len(drawn), room):
        strip = drawn[start : start + room]
        _side_by_side(page, [Text(str(number), "dim") for number, _, _ in strip])
        for line in range(DOWN):
            _side_by_side(page, [lines[line] if line < len(lines) else Text() for _, _, lines in strip])
        _side_by_side(page, [_caption(page, row.given_label or "(none)", "") for _, row, _ in strip])
        arrow = f"{page.signs.arrow} "
        _side_by_side(page, [_caption(page, row.suggested_label or "-", arrow) for _, row, _ in strip])
        page.line()


def _caption(page: Page, label: str, before: str) -> Text:
    room = ACROSS - len(before)
    return Text.assemble((before, "dim"), (shorten(clean(label), room, page.signs.dots), "bold" if before else ""))


def _side_by_side(page: Page, parts: Sequence[Text]) -> None:
    line = Text("  ")
    for part in parts:
        line = line + part + Text(" " * (ACROSS + GAP - part.cell_len))
    page.line(line)


def curve(page: Page, distribution: Distribution) -> None:
    """Training rows by suspicion, a column or two a bin, on a logarithmic scale."""
    wide = 2 if page.width >= WIDE else 1
    most = math.log10(max(distribution.counts) + 1) or 1.0
    line = Text("  suspicion 0 ", "dim")
    for place, count in enumerate(distribution.counts):
        level = math.ceil((len(LEVELS) - 1) * math.log10(count + 1) / most)
        over = (place + 0.5) / len(distribution.counts) > distribution.cut
        line.append(wide * LEVELS[level], "red" if over else "cyan")
    line.append(" 1", "dim").append("  rows, log scale; " if wide > 1 else "  ", "dim")
    line.append(f"cut {brief(distribution.cut)}", "dim")
    page.line(line)  # one line, never wrapped: an empty bin is a space


def matrix(page: Page, confusion: Confusion) -> bool:
    """The table of confused classes, where all of them fit; False where they do not."""
    labels = confusion.labels
    longest = max(len(clean(label)) for label in labels)
    across = min(max(longest, 5), 12)
    if confusion.left_out or len(labels) < LEAST_CLASSES:
        return False
    if 2 + min(longest, 20) + len(labels) * (across + GAP) > page.width:
        return False
    most = max(value for row in confusion.expected for value in row)
    columns = [Column("given \\ probably" if longest >= 16 else "", shrinks=True)]
    columns += [Column(shorten(clean(label), across, page.signs.dots), right=True) for label in labels]
    cells = [
        [cell(label), *(_count(value, most, given == place) for place, value in enumerate(row))]
        for given, (label, row) in enumerate(zip(labels, confusion.expected, strict=True))
    ]
    page.table(columns, cells, indent=2)
    return True


def _count(value: float, most: float, same: bool) -> Text:
    if same:
        return Text("\\", "dim")
    if value < 0.5:
        return Text("·", "dim")
    share = math.sqrt(value / most)
    return Text(f"{value:,.0f}", "bold red" if share > 0.75 else "yellow" if share > 0.5 else "")
