"""Geometry of the page's plots, as plain numbers; the templates draw them.

Knows scales and ticks; leaves colours to the style sheet and what is counted to ``gallery.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from curate.reports.gallery import Confusion, Distribution
from curate.reports.report import ClassRow

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 22, 34
LEVELS = 4
MOST_CLASSES = 100


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin of suspicion, ``low`` to ``high``, as a rectangle in units of the plot's ``WIDTH`` and ``HEIGHT``."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    count: int
    under: float  # how much of its width is below the cut


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where it stands, in the plot's units, and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Rows by suspicion; the upward scale is logarithmic, since most rows are near 0 and the few others matter."""

    bars: tuple[Bar, ...]
    across: tuple[Tick, ...]
    upward: tuple[Tick, ...]
    cut: float
    cut_at: float
    rows: int
    over: int  # rows over the cut


def histogram(distribution: Distribution) -> Histogram:
    """Bars as high as log10(count + 1), a tick at each quarter of suspicion and at each power of ten."""
    counts, cut = distribution.counts, distribution.cut
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    most = max(1, math.ceil(math.log10(max(counts) + 1)))

    def upward(count: float) -> float:
        return HEIGHT - BOTTOM - tall * math.log10(count + 1) / most

    bars = []
    for place, count in enumerate(counts):
        low, high = place / len(counts), (place + 1) / len(counts)
        top, width = upward(count), wide / len(counts) - 2
        share = min(max((cut - low) * len(counts), 0.0), 1.0)
        bars.append(
            Bar(
                x=round(LEFT + wide * low + 1, 1),
                y=round(top, 1),
                width=round(width, 1),
                height=round(HEIGHT - BOTTOM - top, 1),
                low=low,
                high=high,
                count=count,
                under=round(share * width, 1),
            )
        )
    return Histogram(
        bars=tuple(bars),
        across=tuple(Tick(round(LEFT + wide * share, 1), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)),
        upward=tuple(
            Tick(round(upward(10**power), 1), _thousands(10**power)) for power in range(most + 1) if power < most
        ),
        cut=cut,
        cut_at=round(LEFT + wide * cut, 1),
        rows=sum(counts),
        over=distribution.over,
    )


def _thousands(count: int) -> str:
    return f"{count}" if count < 1000 else f"{count // 1000}k" if count < 10**6 else f"{count // 10**6}M"


@dataclass(frozen=True, slots=True)
class Cell:
    """A given and a suggested label, and the rows that are expected to be so confused."""

    given: str
    suggested: str
    expected: float
    level: int  # 0 to LEVELS


@dataclass(frozen=True, slots=True)
class Matrix:
    """Confused classes: one row a given label; ``left_out`` counts the classes that did not fit."""

    labels: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int


def matrix(confusion: Confusion) -> Matrix:
    """Every pair of the labels, with a level of 0 to `LEVELS` by its size beside the largest."""
    most = max((value for row in confusion.expected for value in row), default=0.0)
    rows = [
        tuple(
            Cell(given, suggested, expected, _level(expected, most))
            for suggested, expected in zip(confusion.labels, row, strict=True)
        )
        for given, row in zip(confusion.labels, confusion.expected, strict=True)
    ]
    return Matrix(confusion.labels, tuple(rows), confusion.left_out)


def _level(expected: float, most: float) -> int:
    """By the square root: a few large pairs must not make all others look alike."""
    return math.ceil(LEVELS * math.sqrt(expected / most)) if expected >= 0.5 and most > 0 else 0


@dataclass(frozen=True, slots=True)
class Noise:
    """A class and its bar: ``width`` is its share of wrong labels in per cent of the largest share."""

    row: ClassRow
    share: float  # estimated share of wrong labels
    width: float  # of 100


def noise(classes: Sequence[ClassRow]) -> list[Noise]:
    """Classes by their estimated share of wrong labels, most first."""
    shares = [(row, row.share if row.expected is None else row.expected / row.rows) for row in classes if row.rows]
    most = max((share for _, share in shares), default=0.0) or 1.0
    shares.sort(key=lambda pair: (-pair[1], pair[0].label))
    return [Noise(row, share, round(100 * share / most, 1)) for row, share in shares[:MOST_CLASSES]]
