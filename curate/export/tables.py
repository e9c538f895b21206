"""A table with some labels changed and some rows left out; all else as it stood, cell by cell.

Knows how to touch one cell of a .csv or .jsonl file and leave every other byte; leaves which cell to ``changes``. How a
file is read is ``curate.sources.table_files``'s affair: rows are counted as there.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.config import ScanSettings
from curate.errors import DataError, UsageError
from curate.export.changes import Change
from curate.sources import Source
from curate.sources.base import DataOptions
from curate.sources.table_files import find_delimiter, read_table
from curate.sources.tables import label_column

if TYPE_CHECKING:
    import pyarrow

Part = tuple[Source, Mapping[int, Change]]
_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def export_table(parts: Sequence[Part], settings: ScanSettings, target: Path) -> None:
    """Write the table that the sources share. ``UsageError`` for a label that the column cannot hold."""
    path = Path(parts[0][0].location)
    changes = {source.positions[row]: change for source, changed in parts for row, change in changed.items()}
    if not changes:
        shutil.copyfile(path, target)
        return
    texts = {source.positions[row]: text for source, _ in parts for row, text in enumerate(source.label_texts) if text}
    table = read_table(str(path), header=settings.header)
    options = DataOptions(label=settings.label, header=settings.header)
    label = label_column(table, str(path), options)
    writer = {".parquet": _parquet, ".pq": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}.get(path.suffix.lower(), _csv)
    place = list(table.columns).index(label)
    writer(path, target, place, label, settings.header, texts, changes)


def as_stored(wanted: str, values: Mapping[int, Any], texts: Mapping[int, str], seen: dict[str, Any]) -> Any:
    """The label as other rows hold it; ``KeyError`` where none does. ``seen`` is filled at the first call."""
    if not seen:
        for position, text in texts.items():
            seen.setdefault(text, values[position])
    return seen[wanted]


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


def _csv(
    path: Path,
    target: Path,
    place: int,
    label: str,
    header: bool,
    texts: Mapping[int, str],
    changes: Mapping[int, Change],
) -> None:
    text, encoding = _decoded(path.read_bytes())
    delimiter = find_delimiter(text.removeprefix("\ufeff"))
    lines = [record for record in records(text, delimiter) if record[2] != [(record[0], record[0])]]  # no empty ones
    rows = lines[int(header) :]
    cells = {
        position: _unquoted(text[slice(*rows[position][2][place])])
        for position in texts
        if place < len(rows[position][2])
    }
    seen: dict[str, Any] = {}
    out, copied = [], 0
    for position in sorted(changes):
        start, end, spans = rows[position]
        change = changes[position]
        if change.label is None:
            out.append(text[copied:start])
            copied = end
            continue
        old = slice(*spans[place])
        try:
            new = as_stored(change.label, cells, texts, seen)
        except KeyError:
            new = change.label
        out += [text[copied : old.start], _cell(new, text[old], delimiter)]
        copied = old.stop
    out.append(text[copied:])
    try:
        target.write_bytes("".join(out).encode(encoding, "surrogateescape"))
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{path.as_posix()} is in {encoding}, which cannot write {error.object[error.start]!r}"
        ) from None


def _decoded(content: bytes) -> tuple[str, str]:
    """The text with its byte order mark, and the encoding that gives the same bytes back."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "surrogatepass"), encoding
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("cp1252", "surrogateescape"), "cp1252"


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _cell(value: str, old: str, delimiter: str) -> str:
    """Quoted where the old cell was, or where it must be."""
    if old.startswith('"'):
        return '"' + value.replace('"', '""') + '"'
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerow([value])
    return out.getvalue().removesuffix("\r\n")


def _jsonl(
    path: Path,
    target: Path,
    place: int,
    label: str,
    header: bool,
    texts: Mapping[int, str],
    changes: Mapping[int, Change],
) -> None:
    text, encoding = _decoded(path.read_bytes())
    lines = text.splitlines(keepends=True)
    numbers = [number for number, line in enumerate(lines) if line.lstrip("\ufeff").strip()]
    values = {position: json.loads(lines[numbers[position]].lstrip("\ufeff")).get(label) for position in texts}
    seen: dict[str, Any] = {}
    for position, change in changes.items():
        number = numbers[position]
        line = lines[number]
        body = line.lstrip("\ufeff").rstrip("\r\n")
        if change.label is None:
            lines[number] = ""
            continue
        row = json.loads(body)
        try:
            row[label] = as_stored(change.label, values, texts, seen)
        except KeyError:
            if not isinstance(row[label], str):
                raise _no_such_label(path, label, change.label) from None
            row[label] = change.label
        signs = (", ", ": ") if '": ' in body else (",", ":")
        new = json.dumps(row, ensure_ascii=body.isascii(), separators=signs)
        lines[number] = line.replace(body, new, 1)
    target.write_bytes("".join(lines).encode(encoding, "surrogateescape"))


def _no_such_label(path: Path, label: str, wanted: str) -> UsageError:
    return UsageError(
        f"{path.as_posix()}: the column {label} cannot hold '{wanted}', which no row of it has",
        "Give a label that it has.",
    )


def _parquet(
    path: Path,
    target: Path,
    place: int,
    label: str,
    header: bool,
    texts: Mapping[int, str],
    changes: Mapping[int, Change],
) -> None:
    import pyarrow
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    table = file.read()
    kind = table.schema.field(label).type
    plain = table.column(label).cast(kind.value_type) if pyarrow.types.is_dictionary(kind) else table.column(label)
    values = plain.to_pylist()
    known = {position: values[position] for position in texts}
    seen: dict[str, Any] = {}
    for position, change in changes.items():
        if change.label is None:
            continue
        try:
            values[position] = as_stored(change.label, known, texts, seen)
        except KeyError:
            if not pyarrow.types.is_string(plain.type) and not pyarrow.types.is_large_string(plain.type):
                raise _no_such_label(path, label, change.label) from None
            values[position] = change.label
    new = pyarrow.chunked_array([pyarrow.array(values, plain.type)])
    if pyarrow.types.is_dictionary(kind):
        new = _in_dictionary(new, table.column(label), kind)
    table = table.set_column(place, table.schema.field(label), new)
    dropped = {position for position, change in changes.items() if change.label is None}
    table = table.take([row for row in range(table.num_rows) if row not in dropped]) if dropped else table
    if not table.schema.equals(file.schema_arrow, check_metadata=True):
        raise DataError(f"{path.as_posix()}: its schema cannot be written back", "Export the verdicts with --verdicts.")
    groups = file.metadata
    codec = groups.row_group(0).column(0).compression.lower() if groups.num_row_groups else "snappy"
    size = max((groups.row_group(group).num_rows for group in range(groups.num_row_groups)), default=None)
    parquet.write_table(table, target, compression="none" if codec == "uncompressed" else codec, row_group_size=size)


def _in_dictionary(values: "pyarrow.ChunkedArray", old: "pyarrow.ChunkedArray", kind: "pyarrow.DataType") -> Any:
    """Encoded by the column's own dictionary, in its order; a label that it lacks comes last."""
    import pyarrow
    import pyarrow.compute as compute

    words = pyarrow.concat_arrays([chunk.dictionary for chunk in old.chunks]).unique()
    words = pyarrow.concat_arrays([words, values.drop_null().unique()]).unique()
    places = compute.index_in(values.combine_chunks(), value_set=words).cast(kind.index_type)
    return pyarrow.chunked_array([pyarrow.DictionaryArray.from_arrays(places, words, ordered=kind.ordered)])
