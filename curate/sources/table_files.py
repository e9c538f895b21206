"""Files of tables: .csv (and .tsv), .parquet, .jsonl -> columns by name, and the rows that are malformed.

Knows encodings, delimiters, headers and what a broken line looks like. Cells of a csv file stay texts here: what they
mean is read in ``columns``.
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curate.errors import DataError, NothingScanned
from curate.files import strict_json
from curate.files.lines import after_comments, decode_text, find_delimiter, split_lines
from curate.files.reading import check_regular, ending, memory_bytes, read_unpacked
from curate.settings.specs import near_path
from curate.sources.images import LFS_REASON, is_lfs_pointer

if TYPE_CHECKING:
    import pyarrow

ARROW = (".arrow", ".feather", ".ipc")
SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".tar", *ARROW)
LISTS = (".txt", ".data", ".dat", ".tab")
"""Endings of text files that are tables if somebody names them; beside other files they may be anything."""
SHOWN = 60
"""Signs of a broken line that are shown."""


@dataclass(frozen=True)
class Malformed:
    """A row that cannot be taken apart: its 0-based place among the rows of the file, its text, and why."""

    position: int
    text: str
    reason: str


@dataclass(frozen=True)
class RawTable:
    """Columns by name, in the file's order, all of one length; ``positions`` are the rows' places in the file."""

    columns: dict[str, "pyarrow.ChunkedArray"]
    positions: list[int]
    malformed: list[Malformed] = field(default_factory=list)
    decimal_comma: bool = False
    """The delimiter leaves the comma free for decimals, as spreadsheets write them in much of Europe."""
    notes: list[str] = field(default_factory=list)
    orders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The classes of columns that have an order of their own."""
    unlike: str = ""
    """Why no label can be written back into a cell of the file, if none can."""


def read_table(location: str, *, header: bool) -> RawTable:
    """Raises ``DataError`` for a file that is no table, ``NothingScanned`` for one without rows."""
    path = Path(location)
    if not path.exists():
        raise DataError(f"There is no file or folder {location}.", near_path(path))
    if path.is_dir():
        raise DataError(f"{location} is a folder; `table:` reads one file: {', '.join(SUFFIXES)}.")
    try:
        check_regular(path, memory_bytes())
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise DataError(f"{location} cannot be read: {error.strerror or error}.") from error
    if is_lfs_pointer(head):
        raise DataError(f"{location} is {LFS_REASON}.")
    if not head:
        raise NothingScanned(f"{location} is empty, so nothing was scanned.")
    from curate.sources.containers import read_json, read_tar
    from curate.sources.text_lists import read_list

    readers: dict[str, Callable[[Path, str, bool], RawTable]] = {
        ".parquet": _parquet,
        ".pq": _parquet,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".json": read_json,
        ".tar": read_tar,
        **dict.fromkeys(ARROW, _arrow),
        **dict.fromkeys(LISTS, read_list),
    }
    try:
        table = readers.get(ending(path), _csv)(path, location, header)
    except OSError as error:
        raise DataError(f"{location} cannot be read: {error.strerror or error}.") from error
    if not table.positions and not table.malformed:
        raise NothingScanned(f"{location} holds no row, so nothing was scanned.")
    return table


def _parquet(path: Path, location: str, header: bool) -> RawTable:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{location} is no Parquet file, or was cut short ({str(error).splitlines()[0]}).", "Copy or save it again."
        ) from error
    return _of_arrow(table, location)


def _arrow(path: Path, location: str, header: bool) -> RawTable:
    """Arrow's own format, as a file (also called Feather) or as a stream, which the library `datasets` writes."""
    import pyarrow
    from pyarrow import ipc

    try:
        with pyarrow.memory_map(str(path)) as source:
            opened = ipc.open_file if source.read(6) == b"ARROW1" else ipc.open_stream
            source.seek(0)
            table = opened(source).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{location} is no Arrow file, or was cut short ({str(error).splitlines()[0]}).", "Copy or save it again."
        ) from error
    return _of_arrow(table, location)


def _of_arrow(table: "pyarrow.Table", location: str) -> RawTable:
    names = [str(name) for name in table.column_names]
    _refuse_twice(names, location)
    columns = dict(zip(names, table.columns, strict=True))
    orders = {name: order for name, order in _class_names(table.schema.metadata).items() if name in columns}
    for name, order in orders.items():
        columns[name] = name_numbers(columns[name], order)
    return RawTable(columns, list(range(table.num_rows)), orders=orders)


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Names of classes by column, as the library `datasets` writes them into a file's schema."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            str(name): tuple(str(one) for one in feature["names"])
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):  # another's metadata
        return {}


def name_numbers(cells: "pyarrow.ChunkedArray", names: Sequence[str]) -> "pyarrow.ChunkedArray":
    """Numbers of classes as their names; one below 0 is a blank, others stay as they are if some has no name."""
    import pyarrow

    numbers = cells.to_pylist()
    if not all(number is None or (isinstance(number, int) and number < len(names)) for number in numbers):
        return cells
    texts = [None if number is None or number < 0 else names[number] for number in numbers]
    return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])


def _jsonl(path: Path, location: str, header: bool) -> RawTable:
    rows: list[dict[str, Any]] = []
    positions: list[int] = []
    malformed: list[Malformed] = []
    text, notes = decode_text(read_unpacked(path, memory_bytes()))
    lines = [(n, line.rstrip("\r\n")) for n, line in enumerate(split_lines(text), start=1) if line.strip()]
    for position, (number, line) in enumerate(lines):
        try:
            row = strict_json.loads(line)
        except ValueError as error:
            malformed.append(Malformed(position, line, f"line {number} is no JSON: {error}"))
            continue
        if not isinstance(row, dict):
            malformed.append(Malformed(position, line, f"line {number} is a {type(row).__name__}, not an object"))
            continue
        rows.append(row)
        positions.append(position)
    if lines and not rows:
        raise DataError(
            f"{location}: no line is a JSON object; {malformed[0].reason}.",
            'One object a line: {"text": "...", "label": "..."}.',
        )
    from curate.sources.json_rows import plain_rows

    rows, said = plain_rows(rows)
    table = rows_table(rows)
    return replace(
        table, positions=positions, malformed=malformed, notes=[*notes, *said], unlike=said[0] if said else ""
    )


def rows_table(rows: Sequence[Mapping[str, Any]]) -> RawTable:
    """A table of objects; a name that some have and others lack is missing there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _json_column([row.get(name) for row in rows]) for name in names}
    return RawTable(columns, list(range(len(rows))))


def _json_column(values: list[Any]) -> "pyarrow.ChunkedArray":
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        values = [None if value is None else _float(value) for value in values]
    elif len(kinds) > 1:
        values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    try:
        return pyarrow.chunked_array([pyarrow.array(values)])
    except (pyarrow.ArrowException, OverflowError):  # objects of several shapes
        texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of 400 digits
        return math.inf if value > 0 else -math.inf


def _csv(path: Path, location: str, header: bool) -> RawTable:
    return csv_table(*decode_text(read_unpacked(path, memory_bytes())), location, header)


def csv_table(text: str, notes: list[str], location: str, header: bool) -> RawTable:
    """The table in a csv text. Raises ``DataError``."""
    if begins := after_comments(text):
        notes = [*notes, f"comment above the table was skipped: {text[: min(begins, SHOWN)].splitlines()[0].strip()}"]
        text = text[begins:]
    delimiter = find_delimiter(text)
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error as error:  # a field longer than the module allows
        raise DataError(f"{location} cannot be read as a table: {error} in the first line.") from error
    names = [cell.strip() for cell in first] if header else [str(number) for number in range(len(first))]
    if header:
        names = _named(names, location)
    table, malformed = _parsed(text, delimiter, len(first), location, header)
    unlike = ""
    if malformed and '\\"' in text:  # another way to write a quotation mark in a cell
        escaped, left = _parsed(text, delimiter, len(first), location, header, escape="\\")
        if len(left) < len(malformed):
            table, malformed = escaped, left
            unlike = 'quotation marks in cells are written \\"'
            notes = [*notes, unlike]
    if len(names) != table.num_columns:
        raise DataError(
            f"{location} cannot be read as a table: its first line has {len(names)} cells by one reader and "
            f"{table.num_columns} by another.",
            "Is a quotation mark open, or a line end in a name?",
        )
    columns = {name: column.slice(int(header)) for name, column in zip(names, table.columns, strict=True)}
    bad = {row.position for row in malformed}
    total = table.num_rows - int(header) + len(malformed)
    positions = [position for position in range(total) if position not in bad]
    if malformed and not positions:
        raise DataError(
            f"{location}: no row has as many cells as the first line; {malformed[0].reason}.",
            f"Give each row a cell for each column; a cell with '{delimiter}' in it stands in quotation marks.",
        )
    return RawTable(columns, positions, malformed, decimal_comma=delimiter != ",", notes=notes, unlike=unlike)


def _parsed(
    text: str, delimiter: str, width: int, location: str, header: bool, *, escape: str | Literal[False] = False
) -> tuple["pyarrow.Table", list[Malformed]]:
    """The cells of a csv text as texts, its first line a row too, and the rows of another width."""
    import pyarrow
    from pyarrow import csv as reader

    malformed: list[Malformed] = []

    def broken(row: Any) -> str:
        malformed.append(_malformed(row, header))
        return "skip"

    content = text.encode()
    try:
        table = reader.read_csv(
            pyarrow.BufferReader(content),
            # one block, one thread: only so are the rows numbered, and may a cell hold any number of lines
            reader.ReadOptions(autogenerate_column_names=True, use_threads=False, block_size=max(len(content), 2**16)),
            reader.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=broken, escape_char=escape
            ),
            reader.ConvertOptions(
                column_types={f"f{number}": pyarrow.string() for number in range(width)}, strings_can_be_null=False
            ),
        )
    except pyarrow.ArrowException as error:
        raise DataError(f"{location} cannot be read as a table: {str(error).splitlines()[0]}.") from error
    return table, malformed


def _malformed(row: Any, header: bool) -> Malformed:
    """What pyarrow tells of a row with another number of cells."""
    shown = row.text if len(row.text) <= SHOWN else row.text[:SHOWN] + "..."
    found = f"{row.actual_columns} cell{'' if row.actual_columns == 1 else 's'}"
    reason = f"row {row.number} has {found} where {row.expected_columns} were expected: {shown}"
    return Malformed(row.number - 1 - header, row.text, reason)


def _named(names: list[str], location: str) -> list[str]:
    """Column names of a first line that is one; pandas and R leave the index column without a name."""
    if any(_is_number(name) for name in names):
        number = next(name for name in names if _is_number(name))
        raise DataError(
            f"{location}: the first line holds the number {number}, so it looks like a row, not like column names.",
            "Give --no-header, and number the columns from 0: --label 4, or -1 for the last.",
        )
    names = [name or f"unnamed {place}" for place, name in enumerate(names)]
    _refuse_twice(names, location)
    return names


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _refuse_twice(names: list[str], location: str) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{location}: two columns are called '{twice}'.", "Give each column a name of its own.")
