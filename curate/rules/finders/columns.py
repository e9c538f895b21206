"""Spoilt tables: columns of one value, columns that repeat another, values that cannot be.

A value cannot be if the column's name says so (an age of 200), or if it stands for a missing one: 0, -1, 99 and the
like, far from all others.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from curate.rules.finders.found import Contents, Found
from curate.stages.forward import Forward

LIMITS = {
    r"age|alter": (0, 130),
    r"percent|percentage|pct": (-100, 1000),
    r"lat|latitude": (-90, 90),
    r"lon|lng|longitude": (-180, 360),
    r"month": (0, 12),
    r"day": (0, 366),
    r"hour|hours": (0, 8784),
    r"year": (-10000, 2200),
    r"count|height|width|length|weight|size|price|duration|distance|area|volume": (0, np.inf),
}
"""What a column may hold if one of these is a word of its name."""
SENTINELS = (0.0, -1.0, *(sign * (10.0**digits - 1) for digits in range(1, 8) for sign in (-1, 1)))
"""Values that stand for missing ones: 0, -1, 9, 99, 999 ... and below zero."""
GAP, GAP_OF_ZERO = 1.0, 0.2
"""Range of all other values that must lie between them and such a value; numbers near zero are often real."""
FARTHEST = 10.0
"""Times the largest other magnitude from which a value is one of another unit."""
FEW_VALUES = 0.1
"""Values for each row up to which two columns are compared by what they tell apart: of a value in each row they all
tell the same."""
FEW_ROWS, COMMON = 50, 0.1
"""No value is judged among fewer rows, and none that so many rows have."""


@dataclass(frozen=True)
class _Cells:
    """A column of one split's rows: as texts, and as numbers if it is one of numbers."""

    name: str
    texts: list[str | None]
    numbers: Float[np.ndarray, " n"] | None


def find_constant(scan: Contents) -> Iterator[Found]:
    """Findings on input columns that hold one value in all training rows."""
    for cells in _columns(scan.data.train):
        values = set(cells.texts)
        if len(values) == 1 and len(cells.texts) > 1:
            (value,) = values
            why = f"{cells.name} is {'missing' if value is None else value} in all {len(cells.texts):,} rows"
            evidence: dict[str, object] = {"value": value}
            yield _on_column("constant_column", cells.name, why, evidence)


def find_duplicate(scan: Contents) -> Iterator[Found]:
    """Findings on input columns that tell the same as one before them: its values, or its few values in other words."""
    seen: dict[tuple[object, ...], str] = {}
    for cells in _columns(scan.data.train):
        codes, values = _codes(cells.texts)
        if values == 1:
            continue
        told = tuple(codes) if values <= FEW_VALUES * len(codes) else tuple(cells.texts)
        first = seen.setdefault(told, cells.name)
        if first != cells.name:
            why = f"{cells.name} tells the same as {first} in all rows: one of them weighs twice"
            yield _on_column("duplicate_column", cells.name, why, {"of": first})


def find_impossible(scan: Contents) -> Iterator[Found]:
    """Findings on rows with values that cannot be, or that stand for missing ones."""
    for split, rows in scan.splits.items():
        said: dict[int, dict[str, tuple[float, str]]] = defaultdict(dict)
        for cells in _columns(rows):
            if cells.numbers is None or len(cells.numbers) < FEW_ROWS:
                continue
            for broken, reason in (_beyond_limits(cells), _stands_for_missing(cells.numbers), _far(cells.numbers)):
                for row in np.flatnonzero(broken).tolist() if broken.mean() <= COMMON else []:
                    said[row].setdefault(cells.name, (float(cells.numbers[row]), reason))
        for row, values in sorted(said.items()):
            why = "; ".join(f"{name} is {value:g}, {reason}" for name, (value, reason) in values.items())
            evidence: dict[str, object] = {"values": {name: value for name, (value, _) in values.items()}}
            yield Found(split, row, "impossible_value", "warning", None, why, evidence)


def _on_column(rule: str, name: str, why: str, evidence: dict[str, object]) -> Found:
    return Found("train", None, rule, "note", None, why, evidence, subject="column", name=name)


def _columns(rows: Forward) -> Iterator[_Cells]:
    """The input columns of a table of more than one; none of other data."""
    if rows.source.media != "record":
        return
    for column in rows.source.columns:
        all_texts = rows.source.values(column.name)
        texts = [all_texts[index] for index in rows.indices]
        yield _Cells(column.name, texts, _numbers(texts) if column.kind == "number" else None)


def _numbers(texts: list[str | None]) -> Float[np.ndarray, " n"] | None:
    try:
        return np.array([np.nan if text is None else float(text) for text in texts])
    except ValueError:  # dates, numbers with units
        return None


def _codes(texts: list[str | None]) -> tuple[list[int], int]:
    """Values numbered in the order of their first row, equal for columns that tell the same; and how many there are."""
    numbers: dict[str | None, int] = {}
    return [numbers.setdefault(text, len(numbers)) for text in texts], len(numbers)


def _beyond_limits(cells: _Cells) -> tuple[Bool[np.ndarray, " n"], str]:
    words = [word for word in re.split(r"[^a-z]+", cells.name.lower()) if word]
    low, high = -np.inf, np.inf
    for names, limits in LIMITS.items():
        if any(re.fullmatch(names, word) for word in words):
            low, high = limits
    assert cells.numbers is not None
    reason = f"which a column of this name does not hold ({low:g} to {high:g})"
    return (cells.numbers < low) | (cells.numbers > high), reason


def _stands_for_missing(numbers: Float[np.ndarray, " n"]) -> tuple[Bool[np.ndarray, " n"], str]:
    """Rows with a value of `SENTINELS` that lies apart from all others."""
    broken = np.zeros(len(numbers), dtype=bool)
    for value in (value for value in SENTINELS if (numbers == value).any()):
        others = numbers[np.isfinite(numbers) & (numbers != value)]
        if len(others) < FEW_ROWS or others.min() == others.max():
            continue
        gap = (GAP if value else GAP_OF_ZERO) * (others.max() - others.min())
        if value < others.min() - gap or value > others.max() + gap:
            broken |= numbers == value
    return broken, "far from all others, as what stands for a missing value or for more"


def _far(numbers: Float[np.ndarray, " n"]) -> tuple[Bool[np.ndarray, " n"], str]:
    """Rows whose values are many times as large as the largest of the others: behind a gap in the last hundredth."""
    reason = "many times as much as any other: another unit, or a slip"
    sizes = np.sort(np.abs(numbers[np.isfinite(numbers)]))
    from_here = max(1, int(0.99 * len(sizes)))
    tail = sizes[from_here - 1 :]
    gaps = np.flatnonzero((tail[1:] > FARTHEST * tail[:-1]) & (tail[:-1] > 0))
    if not len(gaps):
        return np.zeros(len(numbers), dtype=bool), reason
    return np.abs(numbers) > tail[gaps[0]], reason
