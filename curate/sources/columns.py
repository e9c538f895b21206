"""What the columns of a table hold: numbers, categories, text, names of picture files, vectors.

Knows how a cell becomes a number, in English and in continental spelling, and which cells say "missing". Leaves which
columns are wanted to ``tables`` and the encoding for a classifier to ``encoding``.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from curate.sources.cell_texts import are_packed_pictures, are_vectors, numbers_of
from curate.sources.images import SUFFIXES

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow

    Array = npt.NDArray[Any]

Kind = Literal["number", "category", "text", "image", "vector", "other"]

MISSING = ("", "?", "na", "n/a", "nan", "null", "none", "-", "#n/a", "<na>")
ODD_CELLS = 0.05
"""Share of cells that are no numbers up to which a column still counts as numbers; those cells are then missing."""
MARKED_CELLS = 0.2
"""The same for cells that hold a number and more: a limit (<5), a unit (2.8 kg). They count as that number."""
WORDS_OF_A_TEXT = 2.5
"""Mean number of words from which a column of mostly different cells is free text, not a category."""
LOOKED_AT = 1000
"""Cells looked at to tell what a column holds."""

UNITS_OF_A_DAY = {"s": 86_400.0, "ms": 86_400e3, "us": 86_400e6, "ns": 86_400e9}

_UNITS = r"^[€$£]\s*|\s*[€$£%]$|[\x{a0}\x{202f}]"  # beside a number; the last two part thousands in French
_GROUPED_POINT = r"^[+-]?\d{1,3}(\.\d{3})*(,\d+)?$|^[+-]?\d+(,\d+)?$"  # 1.234,5
_DECIMAL_COMMA = r"^\s*[€$£]?\s*[+-]?[\d.\x{a0}\x{202f}]*,\d+\s*[€$£%]?\s*$"
_GROUPED_COMMA = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"  # 1,234.5
_MARKED = re.compile(
    r"(?:[<>≤≥~≈]=?|ca\.?)?\s*([+-]?\d+(?:[.,]\d+)?)\s*(?:[A-Za-zµμ°Ω²³/%]{1,6})?"
)  # <5, 2.8 kg, 2,8 kg
_DURATION = re.compile(
    r"(?P<sign>-)?(?:(?P<days>\d+) days?,? \+?)?(?P<hours>\d{1,4}):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?)"
)
_LEADING_ZERO = re.compile(r"\s*0\d+\s*")


@dataclass(frozen=True)
class InputColumn:
    """A column that is part of the input. ``comma`` says that the file writes decimal commas."""

    name: str
    kind: Kind
    comma: bool = False


def classify(name: str, cells: "pyarrow.ChunkedArray", comma: bool) -> tuple[InputColumn, list[str]]:
    """What the column holds, and notes on what had to be decided."""
    import pyarrow
    from pyarrow import types

    kind = cells.type
    if types.is_dictionary(kind):
        return classify(name, cells.cast(kind.value_type), comma)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or _is_time(kind):
        return InputColumn(name, "number"), []
    if types.is_boolean(kind):
        return InputColumn(name, "category"), []
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        return InputColumn(name, "vector" if types.is_integer(inner) or types.is_floating(inner) else "other"), []
    if types.is_struct(kind) and "bytes" in {part.name for part in kind}:
        return InputColumn(name, "image"), []
    if types.is_binary(kind) or types.is_large_binary(kind):
        return InputColumn(name, "image"), []
    if not (types.is_string(kind) or types.is_large_string(kind)) or isinstance(kind, pyarrow.BaseExtensionType):
        return InputColumn(name, "other"), []
    return _of_texts(name, cells, comma)


def _of_texts(name: str, cells: "pyarrow.ChunkedArray", comma: bool) -> tuple[InputColumn, list[str]]:
    """What a column of texts holds, and notes on what had to be decided."""
    given = [text for text in cells.slice(0, LOOKED_AT).to_pylist() if not is_missing(text)]
    if not given:  # look further: the first rows may be blank
        given = [text for text in cells.to_pylist() if not is_missing(text)][:LOOKED_AT]
    if not given:
        return InputColumn(name, "number"), []
    if are_packed_pictures(given):
        return InputColumn(name, "image"), []
    if are_vectors(given):
        return InputColumn(name, "vector"), [
            f"{name}: texts of {len(numbers_of(given[0]) or ()):,} numbers are vectors"
        ]
    if sum(PurePosixPath(text.strip()).suffix.lower() in SUFFIXES for text in given) >= 0.9 * len(given):
        return InputColumn(name, "image"), []
    if any(_LEADING_ZERO.fullmatch(text) for text in given):
        return InputColumn(name, "category"), [f"{name}: numbers with leading zeros are names, as postal codes are"]
    values = numbers(cells, comma, plain=True)
    odd = odd_cells(cells, values)
    marked = [text for text in odd if _MARKED.fullmatch(text.strip())]
    if len(odd) - len(marked) <= ODD_CELLS * len(values) and len(marked) <= MARKED_CELLS * len(values):
        notes = []
        if marked:
            read = _number(_unmarked(marked[0]))
            notes.append(f"{name}: {len(marked):,} cells hold more than a number ('{marked[0]}' is read as {read:g})")
        if other := [text for text in odd if not _MARKED.fullmatch(text.strip())]:
            notes.append(f"{name}: {len(other):,} cells are no numbers and count as missing ('{other[0]}')")
        return InputColumn(name, "number", comma), notes
    if dates(cells) is not None:
        return InputColumn(name, "number"), []
    words = sum(len(text.split()) for text in given) / len(given)
    different = len(set(given)) / len(given)
    is_text = words >= WORDS_OF_A_TEXT and different >= 0.5
    return InputColumn(name, "text" if is_text else "category"), []


def _is_time(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    return bool(types.is_temporal(kind)) and not types.is_interval(kind)  # months have no length


def has_decimal_commas(columns: Iterable["pyarrow.ChunkedArray"]) -> bool:
    """Whether some column of texts is all numbers if 1.234,5 is one, and holds a comma."""
    import numpy as np
    import pyarrow.compute as compute
    from pyarrow import types

    for cells in columns:
        if types.is_string(cells.type) and compute.any(compute.match_substring_regex(cells, _DECIMAL_COMMA)).as_py():
            values = numbers(cells, comma=True, plain=True)
            given = sum(not is_missing(text) for text in cells.to_pylist())
            if np.count_nonzero(~np.isnan(values)) >= (1 - ODD_CELLS) * given:
                return True
    return False


def is_missing(text: str | None) -> bool:
    """Does the text stand for no value?"""
    return text is None or text.strip().lower() in MISSING


def odd_cells(cells: "pyarrow.ChunkedArray", values: "Array") -> list[str]:
    """Cells that are neither a number nor missing."""
    import numpy as np

    return [text for row in np.flatnonzero(np.isnan(values)).tolist() if not is_missing(text := cells[row].as_py())]


def numbers(cells: "pyarrow.ChunkedArray", comma: bool = False, *, plain: bool = False) -> "Array":
    """float64, NaN where a cell is missing or no number; dates as days since 1970.

    A cell with a limit or a unit (<5, 2.8 kg) is its number, unless only ``plain`` ones are asked for.
    """
    import numpy as np
    import pyarrow
    import pyarrow.compute as compute
    from pyarrow import types

    if types.is_temporal(cells.type):
        cells = _days(cells)
    if not (types.is_string(cells.type) or types.is_large_string(cells.type)):
        return _finite(cells.cast(pyarrow.float64(), safe=False))
    texts = compute.utf8_trim_whitespace(cells.cast(pyarrow.string()))
    texts = compute.replace_substring_regex(texts, _UNITS, "")
    if comma:
        grouped = compute.match_substring_regex(texts, _GROUPED_POINT)
        plain = compute.replace_substring(compute.replace_substring(texts, ".", ""), ",", ".")
        texts = compute.if_else(grouped, plain, texts)
    else:
        grouped = compute.match_substring_regex(texts, _GROUPED_COMMA)
        texts = compute.if_else(grouped, compute.replace_substring(texts, ",", ""), texts)
    missing = compute.is_in(compute.utf8_lower(texts), value_set=pyarrow.array(MISSING))
    texts = compute.if_else(missing, None, texts)
    try:
        return _finite(texts.cast(pyarrow.float64()))
    except pyarrow.ArrowInvalid:  # some cell is none: one by one
        found = [_number(text) for text in texts.to_pylist()]
        if all(np.isnan(found)) and (days := dates(cells)) is not None:
            return days
        if not plain:
            found = [
                _number(_unmarked(text)) if math.isnan(value) and text is not None else value
                for value, text in zip(found, texts.to_pylist(), strict=True)
            ]
        return np.array(found, dtype=np.float64)


def _unmarked(text: str) -> str | None:
    """The number of a cell with a limit or a unit; None if it is another text."""
    found = _MARKED.fullmatch(text.strip())
    return found[1].replace(",", ".") if found is not None else None


def _days(cells: "pyarrow.ChunkedArray") -> "pyarrow.ChunkedArray":
    """Dates as days since 1970, times and durations as days."""
    import pyarrow
    import pyarrow.compute as compute
    from pyarrow import types

    try:
        return compute.divide(cells.cast(pyarrow.timestamp("ms")).cast(pyarrow.int64()), 86_400_000.0)
    except pyarrow.ArrowException:  # no moment, or finer or farther than milliseconds hold
        whole = cells.cast(pyarrow.int32() if types.is_time32(cells.type) else pyarrow.int64())
        return compute.divide(whole.cast(pyarrow.float64(), safe=False), UNITS_OF_A_DAY[cells.type.unit])


def _finite(cells: "pyarrow.ChunkedArray") -> "Array":
    import numpy as np

    values = np.array(cells.to_numpy(zero_copy_only=False), dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _number(text: str | None) -> float:
    try:
        value = float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")
    return value if abs(value) != float("inf") else float("nan")


def dates(cells: "pyarrow.ChunkedArray") -> "Array | None":
    """Days since 1970 if every cell that is given is a date: 2024-01-31, with a time and its zone or not, 31.1.2024 or
    1/31/2024; or a part of a day if every one is a time, 23:59 or 23:59:59.

    With slashes the month stands first if every cell allows it.
    """
    import numpy as np
    import pyarrow
    import pyarrow.compute as compute

    texts = compute.utf8_trim_whitespace(cells.cast(pyarrow.string()))
    texts = compute.if_else(compute.is_in(compute.utf8_lower(texts), value_set=pyarrow.array(MISSING)), None, texts)
    if texts.null_count == len(texts):
        return None
    if (days := _durations(texts)) is not None:
        return days
    for form in (None, "UTC", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%H:%M:%S", "%H:%M"):
        try:
            if form is None or form == "UTC":
                moments = texts.cast(pyarrow.timestamp("ms", form))
            else:
                moments = compute.strptime(texts, format=form, unit="ms")
        except pyarrow.ArrowInvalid:
            continue
        milliseconds = moments.cast(pyarrow.int64()).cast(pyarrow.float64())
        days = np.asarray(compute.divide(milliseconds, 86_400_000.0).to_numpy(zero_copy_only=False), dtype=np.float64)
        return days % 1 if form is not None and form.startswith("%H") else days  # a time stands on some day of its own
    return None


def _durations(texts: "pyarrow.ChunkedArray") -> "Array | None":
    """Days if every cell that is given is a duration: as pandas writes it (1 days 02:03:04), or 26:03:04."""
    import numpy as np

    first = texts.drop_null()[0].as_py()
    if _DURATION.fullmatch(first) is None:  # of a column of words no other cell is looked at
        return None
    found = [None if text is None else _DURATION.fullmatch(text) for text in texts.to_pylist()]
    given = [match for match in found if match is not None]
    # Hours of a day are a time of the day.
    if len(given) < len(texts) - texts.null_count or not any(m["days"] or int(m["hours"]) > 23 for m in given):
        return None
    days = [np.nan if match is None else _days_of(match) for match in found]
    return np.asarray(days, dtype=np.float64)


def _days_of(duration: re.Match[str]) -> float:
    """-2 days +06:00:00 is a quarter more than -2 days, -06:00:00 a quarter less than nothing."""
    sign = -1 if duration["sign"] else 1
    seconds = int(duration["hours"]) * 3600 + int(duration["minutes"]) * 60 + float(duration["seconds"])
    if duration["days"] is None:
        return sign * seconds / 86_400
    return sign * int(duration["days"]) + seconds / 86_400


def texts_of(cells: "pyarrow.ChunkedArray") -> list[str | None]:
    """Cells as people read them; None where one is missing or blank."""
    from pyarrow import types

    if types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if types.is_boolean(cells.type):
        return [None if value is None else str(value) for value in cells.to_pylist()]
    if types.is_floating(cells.type):
        return [None if v is None or v != v else f"{v:g}" for v in cells.to_pylist()]
    return [None if value is None or not str(value).strip() else str(value) for value in _plain(cells)]


def _plain(cells: "pyarrow.ChunkedArray") -> list[Any]:
    import pyarrow

    try:
        return list(cells.to_pylist())
    except (OverflowError, ValueError):  # a moment beyond Python's calendar
        return list(cells.cast(pyarrow.int64()).to_pylist())
