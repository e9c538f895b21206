"""Tables in plain text files (.txt, .data): labelled lines of fastText, lists of pictures, columns parted by blanks.

Knows these by the look of their lines; any other text is read as a csv file is.
"""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from curate.errors import DataError
from curate.files.lines import decode_text, find_delimiter, split_lines
from curate.files.reading import memory_bytes, read_unpacked
from curate.sources.images import SUFFIXES as PICTURES
from curate.sources.labels import SCOPE
from curate.sources.table_files import RawTable, csv_table, rows_table

FASTTEXT = "__label__"
LOOKED_AT = 200
"""Lines that show what a text file is."""


def read_list(path: Path, location: str, header: bool) -> RawTable:
    """The rows of a text file. Raises ``DataError``."""
    text, notes = decode_text(read_unpacked(path, memory_bytes()))
    lines = [line.strip("\r\n") for line in split_lines(text) if line.strip()]
    some = lines[:LOOKED_AT]
    if some and all(line.lstrip().startswith(FASTTEXT) for line in some):
        return _listed(lines, "label", "text", _of_fasttext, notes, location)
    if some and all(_names_picture(line) for line in some):
        return _listed(lines, "file", "label", lambda line: _parts(line.strip().rsplit(None, 1)), notes, location)
    widths = {len(line.split()) for line in some}
    if len(widths) == 1 and widths.pop() > 1 and not _is_delimited(some):
        text = "\n".join("\t".join(line.split()) for line in lines)
        notes = [*notes, "columns are parted by blanks"]
    return csv_table(text, notes, location, header)


def _listed(
    lines: Sequence[str],
    first: str,
    second: str,
    parts: Callable[[str], tuple[str, str]],
    notes: list[str],
    location: str,
) -> RawTable:
    """A table of two columns, a row for each line."""
    try:
        rows = [dict(zip((first, second), parts(line), strict=True)) for line in lines]
    except ValueError as error:
        raise DataError(f"{location}: {error}.", SCOPE) from error
    table = rows_table(rows)
    table.notes.extend([*notes, f"each line is a {first} and a {second}"])
    return table


def _of_fasttext(line: str) -> tuple[str, str]:
    label, _, text = line.strip().partition(" ")
    if text.lstrip().startswith(FASTTEXT):
        raise ValueError(f"a line has several labels ({line[:60]})")
    return label.removeprefix(FASTTEXT), text


def _parts(found: list[str]) -> tuple[str, str]:
    return (found[0], found[1]) if len(found) == 2 else (found[0], "")


def _names_picture(line: str) -> bool:
    found = line.strip().rsplit(None, 1)
    return len(found) == 2 and PurePosixPath(found[0]).suffix.lower() in PICTURES and "," not in found[1]


def _is_delimited(lines: Sequence[str]) -> bool:
    """Whether a delimiter of csv files parts the lines alike."""
    sign = find_delimiter("\n".join(lines))
    widths = {line.count(sign) for line in lines}
    return len(widths) == 1 and widths != {0}
