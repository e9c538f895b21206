"""Lines and records of text tables, and the line that a row stands on.

Knows encodings, delimiters and quotes; leaves what cells mean to ``sources``. Standard library only: reports find lines
with it, and never wait for numpy.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from curate.files.reading import ending, memory_bytes, read_unpacked

DELIMITERS = (",", ";", "\t", "|")
JSON_LINES = (".jsonl", ".ndjson")
_END = re.compile(r"\r\n|\r|\n")


def lines_of(path: Path, positions: Collection[int], *, header: bool) -> dict[int, int]:
    """The line (from 1) on which each row of a .csv or .jsonl file begins, by its 0-based position among the rows.

    Positions past the end of the file have none. Raises ``OSError``.
    """
    if not positions:
        return {}
    wanted, last = set(positions), max(positions)
    text, _ = decode_text(read_unpacked(path, memory_bytes()))
    starts = _json_starts(text) if ending(path) in JSON_LINES else islice(_csv_starts(text), int(header), None)
    found = {place: at for place, at in enumerate(islice(starts, last + 1)) if place in wanted}
    numbers: dict[int, int] = {}
    line, at = 1, 0
    for place, start in found.items():  # in the order of the file
        line += sum(1 for _ in _END.finditer(text, at, start))
        numbers[place], at = line, start
    return numbers


def _json_starts(text: str) -> Iterator[int]:
    at = 0
    for line in split_lines(text):
        if line.strip():
            yield at
        at += len(line)


def _csv_starts(text: str) -> Iterator[int]:
    first = after_comments(text)
    if '"' not in text:  # then a record is a line
        at = first
        for line in split_lines(text[first:]):
            if line.rstrip("\r\n"):
                yield at
            at += len(line)
        return
    for start, _, fields in records(text[first:], find_delimiter(text[first:])):
        if fields != [(start, start)]:
            yield first + start


def after_comments(text: str) -> int:
    """Where a csv text begins after lines of comment: such that begin with # and have other cells than what follows.

    A first line like `#id,label` over rows of two cells names the columns. A line `sep=;` is for spreadsheets.
    """
    if text[:4].lower() == "sep=" and (first := _END.search(text, 4, 8)) is not None:
        return first.end()
    if not text.startswith("#"):
        return 0
    at, comments = 0, []
    for line in split_lines(text[: 2**18]):
        if line.strip() and not line.startswith("#"):
            break
        comments.append(line)
        at += len(line)
    rest = text[at:]
    if not rest:
        return 0
    sign = find_delimiter(rest)
    width = next((len(row) for row in csv.reader(io.StringIO(rest[: 2**18], newline=""), delimiter=sign) if row), 1)
    if width > 1 and comments[-1].count(sign) == width - 1:
        return at - len(comments[-1])
    return at


def split_lines(text: str) -> list[str]:
    """Lines with their ends; unlike ``str.splitlines`` only at line feeds and carriage returns.

    A text in a JSON line may hold other separators (U+2028, U+0085) as they are.
    """
    ends = [found.end() for found in _END.finditer(text)]
    parts = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    rest = text[ends[-1] if ends else 0 :]
    return [*parts, rest] if rest else parts


def records(text: str, delimiter: str) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(start, end, spans of the fields) of each record of a csv text, its line end included."""
    sign = re.escape(delimiter)
    field = re.compile(rf'("(?:[^"]|"")*"[^{sign}\r\n]*|[^{sign}\r\n]*)({sign}|\r\n|\r|\n|\Z)')
    start = at = 0
    fields: list[tuple[int, int]] = []
    while at < len(text):
        found = field.match(text, at)
        assert found is not None  # any text is a field
        fields.append(found.span(1))
        at = found.end()
        if found[2] == delimiter and at == len(text):
            fields.append((at, at))
        if found[2] != delimiter or at == len(text):
            yield start, at, fields
            start, fields = at, []


def decode_text(content: bytes) -> tuple[str, list[str]]:
    """Bytes as text, and a note where the encoding had to be guessed: UTF-8, UTF-16 by its mark, else Windows-1252."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), ["the file is not in UTF-8: read as Windows-1252"]


def find_delimiter(text: str) -> str:
    """The sign that parts the first fifty records into equal columns most often; a comma where none does.

    Where two do it alike, the comma is the one that belongs into numbers.
    """
    start = text[: 2**18]

    def quality(delimiter: str) -> tuple[float, bool, int]:
        try:
            records = islice(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter), 50)
            widths = [len(row) for row in records if row]
        except csv.Error:  # a field longer than the module allows
            widths = []
        common, count = Counter(widths).most_common(1)[0] if widths else (1, 0)
        return (count / len(widths), delimiter != ",", common) if common > 1 else (0.0, False, 0)

    return max(DELIMITERS, key=quality)
