"""A table with some labels changed and some rows left out; all else as it stood, cell by cell.

Knows how to touch one cell of a .csv or .jsonl file and leave every other byte; leaves which cell to ``changes``. How a
file is read is ``curate.sources.table_files``'s affair: rows are counted as there.
"""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import DataError, UsageError
from curate.export.changes import Change
from curate.export.patch import Splice, spliced, unified
from curate.files.lines import after_comments, find_delimiter, records, split_lines
from curate.files.reading import PACKED
from curate.settings.merge import ScanSettings
from curate.sources import Source
from curate.sources.base import DataOptions
from curate.sources.roles import label_column
from curate.sources.table_files import LISTS, read_table

if TYPE_CHECKING:
    import pyarrow

Part = tuple[Source, Mapping[int, Change]]
_PARQUET = (".parquet", ".pq")
NOT_WRITTEN = (*PACKED, ".json", ".tar", ".arrow", ".feather", ".ipc", *LISTS)
_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def export_table(parts: Sequence[Part], settings: ScanSettings, target: Path) -> None:
    """Write the table that the sources share. ``UsageError`` for a label that the column cannot hold."""
    asked = _asked(parts, settings)
    if not asked.changes:
        shutil.copyfile(asked.path, target)
    elif asked.path.suffix.lower() in _PARQUET:
        _parquet(asked, target)
    else:
        text, encoding, splices = _splices(asked)
        target.write_bytes(_encoded(spliced(text, splices), encoding, asked.path))


def is_text_table(path: Path) -> bool:
    """Can a diff of lines hold it: no Parquet, and none of UTF-16's null bytes?"""
    if path.suffix.lower() in _PARQUET:
        return False
    with path.open("rb") as file:
        return not file.read(2).startswith(tuple(mark for mark, _ in _MARKS))


def table_patch(parts: Sequence[Part], settings: ScanSettings, name: str) -> bytes:
    """The same as a unified diff of the text table ``name``."""
    asked = _asked(parts, settings)
    text, encoding, splices = _splices(asked)
    return _encoded(unified(name, text, splices), encoding, asked.path)


@dataclass(frozen=True)
class _Asked:
    path: Path
    label: str
    place: int
    """Of the label's column."""
    header: bool
    texts: Mapping[int, str]
    """Given labels by position, as the scan read them."""
    changes: Mapping[int, Change]


def _asked(parts: Sequence[Part], settings: ScanSettings) -> _Asked:
    path = Path(parts[0][0].location)
    if path.suffix.lower() in NOT_WRITTEN or path.is_dir():
        raise UsageError(
            f"{path.as_posix()}: this kind of table is read, and not written",
            "Export the verdicts with --verdicts, or scan it as .csv, .jsonl or .parquet.",
        )
    table = read_table(str(path), header=settings.header)
    label = label_column(table, str(path), DataOptions(label=settings.label, header=settings.header))
    return _Asked(
        path=path,
        label=label,
        place=list(table.columns).index(label),
        header=settings.header,
        texts={
            source.positions[row]: text for source, _ in parts for row, text in enumerate(source.label_texts) if text
        },
        changes={source.positions[row]: change for source, changed in parts for row, change in changed.items()},
    )


def _splices(asked: _Asked) -> tuple[str, str, list[Splice]]:
    """(text, its encoding, what is replaced in it)."""
    text, encoding = _decoded(asked.path.read_bytes())
    splice = _jsonl if asked.path.suffix.lower() in (".jsonl", ".ndjson") else _csv
    return text, encoding, splice(asked, text)


def _encoded(text: str, encoding: str, path: Path) -> bytes:
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{path.as_posix()} is in {encoding}, which cannot write {error.object[error.start]!r}"
        ) from None


def as_stored(wanted: str, values: Mapping[int, Any], texts: Mapping[int, str], seen: dict[str, Any]) -> Any:
    """The label as other rows hold it; ``KeyError`` where none does. ``seen`` is filled at the first call."""
    if not seen:
        for position, text in texts.items():
            seen.setdefault(text, values[position])
    return seen[wanted]


def _csv(asked: _Asked, text: str) -> list[Splice]:
    mark = len(text) - len(text.removeprefix("\ufeff"))
    begins = mark + after_comments(text[mark:])
    delimiter = find_delimiter(text[begins:])
    lines = [
        (start + begins, end + begins, [(left + begins, right + begins) for left, right in spans])
        for start, end, spans in records(text[begins:], delimiter)
        if spans != [(start, start)]  # no empty ones
    ]
    rows, place = lines[int(asked.header) :], asked.place
    cells = {at: _unquoted(text[slice(*rows[at][2][place])]) for at in asked.texts if place < len(rows[at][2])}
    seen: dict[str, Any] = {}
    found: list[Splice] = []
    for position, change in sorted(asked.changes.items()):
        start, end, spans = rows[position]
        if change.label is None:
            found.append((start, end, ""))
            continue
        old = slice(*spans[place])
        try:
            new = as_stored(change.label, cells, asked.texts, seen)
        except KeyError:
            new = change.label
        found.append((old.start, old.stop, _cell(new, text[old], delimiter)))
    return found


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


def _jsonl(asked: _Asked, text: str) -> list[Splice]:
    lines, at = [], 0  # (start, line) of those that are not blank
    for line in split_lines(text):
        if line.lstrip("\ufeff").strip():
            lines.append((at, line))
        at += len(line)
    label = asked.label
    values = {position: json.loads(lines[position][1].lstrip("\ufeff")).get(label) for position in asked.texts}
    seen: dict[str, Any] = {}
    found: list[Splice] = []
    for position, change in sorted(asked.changes.items()):
        start, line = lines[position]
        if change.label is None:
            found.append((start, start + len(line), ""))
            continue
        body = line.lstrip("\ufeff").rstrip("\r\n")
        row = json.loads(body)
        try:
            row[label] = as_stored(change.label, values, asked.texts, seen)
        except KeyError:
            if not isinstance(row[label], str):
                raise _no_such_label(asked.path, label, change.label) from None
            row[label] = change.label
        start += line.index(body)
        signs = (", ", ": ") if '": ' in body else (",", ":")
        found.append((start, start + len(body), json.dumps(row, ensure_ascii=body.isascii(), separators=signs)))
    return found


def _no_such_label(path: Path, label: str, wanted: str) -> UsageError:
    return UsageError(
        f"{path.as_posix()}: the column {label} cannot hold '{wanted}', which no row of it has",
        "Give a label that it has.",
    )


def _parquet(asked: _Asked, target: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path, label, changes = asked.path, asked.label, asked.changes
    file = parquet.ParquetFile(path)
    table = file.read()
    kind = table.schema.field(label).type
    plain = table.column(label).cast(kind.value_type) if pyarrow.types.is_dictionary(kind) else table.column(label)
    values = plain.to_pylist()
    known = {position: values[position] for position in asked.texts}
    seen: dict[str, Any] = {}
    for position, change in changes.items():
        if change.label is None:
            continue
        try:
            values[position] = as_stored(change.label, known, asked.texts, seen)
        except KeyError:
            if not pyarrow.types.is_string(plain.type) and not pyarrow.types.is_large_string(plain.type):
                raise _no_such_label(path, label, change.label) from None
            values[position] = change.label
    new = pyarrow.chunked_array([pyarrow.array(values, plain.type)])
    if pyarrow.types.is_dictionary(kind):
        new = _in_dictionary(new, table.column(label), kind)
    table = table.set_column(asked.place, table.schema.field(label), new)
    dropped = {position for position, change in changes.items() if change.label is None}
    if dropped:
        # not take(), whose offsets overflow where a column of texts or pictures is over 2 GiB
        table = table.filter(pyarrow.array([row not in dropped for row in range(table.num_rows)]))
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
