"""Tables (``table:``): csv, parquet, jsonl -> rows of columns, of one text, of one picture file or of one vector.

Makes keys and content hashes of rows. Leaves files to ``table_files``, which column is what to ``roles``, cells to
``columns``, numbers for a classifier to ``encoding``.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from curate.errors import DataError, UnreadableRow, UsageError
from curate.settings.specs import did_you_mean, listed_names
from curate.sources import labels
from curate.sources.base import DataOptions, Item, Source
from curate.sources.cell_texts import are_packed_pictures, numbers_of, unpacked_picture
from curate.sources.columns import InputColumn, numbers, texts_of
from curate.sources.images import item_of
from curate.sources.label_columns import one_label_each
from curate.sources.media_files import MediaFiles, folder_of, posix, relative
from curate.sources.roles import chosen, column_named, input_columns
from curate.sources.splits import split_rows
from curate.sources.table_files import RawTable, read_table

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow

    Array = npt.NDArray[Any]

MEDIA = {"text": "text", "image": "image", "vector": "features"}
"""What a row is where one column of this kind is the whole input; columns of numbers and categories make a record."""

TOLD_AT_ONCE = 10_000
"""Rows whose cells are texts at a time: one by one takes 2 ms a row, all at once the memory of every cell."""

BEYOND = "the vector holds NaN, infinite numbers or some beyond 3.4e38"


class TableSource(Source):
    """Rows of a table. ``inputs`` are its input columns, ``label`` that of labels, ``cells(column)`` what one holds."""

    kind: ClassVar[str] = "table"

    def __init__(
        self,
        table: RawTable,
        rows: Sequence[int],
        *,
        location: str,
        options: DataOptions,
        inputs: tuple[InputColumn, ...],
        label: str,
        notes: Sequence[str] = (),
    ) -> None:
        self.location, self.name = location, options.name or Path(location).name
        self.inputs, self.label, self._table, self._rows = inputs, label, table, list(rows)
        self._malformed = table.malformed if not options.evaluation or options.split is None else []
        self._folder = folder_of(location) if self.kind == "table" else Path()
        self.media = MEDIA.get(inputs[0].kind, "record") if len(inputs) == 1 else "record"
        self.by_threads = self.media == "image"
        where = f"{location}: '{label}'"
        positions = [table.positions[row] for row in self._rows]
        given, said = _labels(table.columns[label].take(self._rows), where, positions)
        ids = self._ids(options, positions)
        names = ids or [str(position) for position in positions]
        encoded = labels.encode(given, where, options.classes, evaluation=options.evaluation, names=names)
        extra = len(self._malformed)
        self.classes = encoded.classes
        self.labels = encoded.indices + [-1] * extra
        self.label_texts = encoded.texts + [None] * extra
        self.positions = positions + [row.position for row in self._malformed]
        self._cells = {column.name: table.columns[column.name].take(self._rows) for column in inputs}
        self._values = {column.name: self._typed(column) for column in inputs if self.media == "record"}
        self._files = MediaFiles(inputs[0].name, self._names, self._folder, [Path(root) for root in options.roots])
        broken = [hashlib.sha256(row.text.encode()).hexdigest() for row in self._malformed]
        self.keys = [*(ids or self._content_keys()), *labels.content_keys(broken, [None] * extra)]
        self.malformed = {len(rows) + number: row.reason for number, row in enumerate(self._malformed)}
        self.notes = [*notes, *said, *self._files.notes]

    def cells(self, column: InputColumn) -> "pyarrow.ChunkedArray":
        """The column as it stands in the file, readable rows only. Raises ``DataError`` where there is none."""
        try:
            return self._table.columns[column.name].take(self._rows)
        except KeyError:
            raise DataError(
                f"{self.location} has no column '{column.name}', which the training set has.",
                f"It holds {listed_names(list(self._table.columns))}.",
            ) from None

    def values(self, column: str, option: str = "--slice") -> list[str | None]:
        there = self._table.columns
        if column not in there:
            if column == "label":
                return self.label_texts
            hint = f"It holds {listed_names(list(there))}. {did_you_mean(column, there)}".rstrip()
            raise UsageError(f"{option} {column}: {self.location} has no such column.", hint)
        return texts_of(there[column].take(self._rows)) + [None] * len(self._malformed)

    def read(self, index: int) -> Item:
        if index in self.malformed:
            raise UnreadableRow(self.malformed[index])
        if self.media == "record":
            return Item(self._hash(index), partial(self._record, index))
        value = self._cells[self.inputs[0].name][index].as_py()
        if self.media == "text":
            if value is None or not value.strip():
                raise UnreadableRow("the text is blank")
            return Item(hashlib.sha256(value.encode()).hexdigest(), lambda: value)
        if self.media == "image":
            content = self._picture(self._names[index] if self._is_path else value)
            return item_of(content)
        return _vector(value)

    def media_path(self, index: int) -> str | None:
        if self.media != "image" or index in self.malformed:
            return None
        return self._files.path(self._names[index]).as_posix() if self._is_path and self._names[index] else None

    def text(self, index: int) -> str | None:
        if index in self.malformed or self.media not in ("text", "record"):
            return None
        if self.media == "text":
            return self._cells[self.inputs[0].name][index].as_py()  # type: ignore[no-any-return]
        return self._told[index]

    @cached_property
    def _told(self) -> list[str]:
        """Records as people read them; as they stand in the file: 3.2.2024, not the number of days the encoders see."""
        told: list[str] = []
        for start in range(0, len(self._rows), TOLD_AT_ONCE):
            columns = [texts_of(cells.slice(start, TOLD_AT_ONCE)) for cells in self._cells.values()]
            told += [
                ", ".join(
                    f"{name}={'-' if value is None else value}" for name, value in zip(self._cells, row, strict=True)
                )
                for row in zip(*columns, strict=True)
            ]
        return told

    def _typed(self, column: InputColumn) -> list[Any]:
        """Values of a record's column: a float, a text, or None."""
        cells = self._cells[column.name]
        if column.kind == "number":
            return [None if math.isnan(value) else value for value in numbers(cells, column.comma).tolist()]
        return texts_of(cells)

    def _record(self, index: int) -> dict[str, Any]:
        return {name: values[index] for name, values in self._values.items()}

    def _hash(self, index: int) -> str:
        # Sorted by name: a table whose columns were put in another order holds the same rows.
        record = json.dumps(self._record(index), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(record.encode("utf-8", "surrogatepass")).hexdigest()

    def _picture(self, value: Any) -> bytes:
        if isinstance(value, dict):  # as the library `datasets` stores pictures
            value = value.get("bytes") or value.get("path")
        if value is None or (isinstance(value, str) and not value.strip()):
            raise UnreadableRow("no file is named")
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise UnreadableRow(f"the cell holds a {type(value).__name__}, no picture and no file's name")
        if are_packed_pictures([value]):
            return _unpacked(value)
        return self._files.content(value)

    def _ids(self, options: DataOptions, positions: list[int]) -> list[str] | None:
        if options.id is None:
            return None
        where = f"{self.location}: '{options.id}'"
        return labels.unique_keys(texts_of(self._table.columns[options.id].take(self._rows)), where, positions)

    def _content_keys(self) -> list[str]:
        texts = self.label_texts[: len(self._rows)]
        if self.media == "image" and self._is_path:
            return labels.numbered(relative(self._names, self._folder), texts)
        hashes = []
        for index in range(len(self._rows)):
            try:
                hashes.append(self.read(index).content_sha256)
            except UnreadableRow:
                hashes.append(hashlib.sha256(b"").hexdigest())
        return labels.content_keys(hashes, texts)

    @cached_property
    def _is_path(self) -> bool:
        from pyarrow import types

        cells = self._cells[self.inputs[0].name]
        kind = cells.type
        if types.is_string(kind) and are_packed_pictures(cells.slice(0, 1000).drop_null().to_pylist()):
            return False
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))

    @cached_property
    def _names(self) -> list[str]:
        """What the cells of pictures name, blank where nothing."""
        cells = texts_of(self._cells[self.inputs[0].name]) if self.media == "image" and self._is_path else []
        return [posix(cell) if cell else "" for cell in cells]


def open_table(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """The training set, and the evaluation set where ``--split`` names a column that holds one."""
    return table_sources(TableSource, read_table(location, header=options.header), location, options)


def table_sources(
    made: type[TableSource],
    table: RawTable,
    location: str,
    options: DataOptions,
) -> tuple[TableSource, TableSource | None]:
    """Sources of a table that is in memory."""
    labelled = one_label_each(table, location, options)
    table, (options, label) = labelled.table, chosen(labelled.table, location, labelled.options)
    like = options.like
    if isinstance(like, TableSource):
        inputs, notes = like.inputs, list[str]()
        for column in inputs:
            column_named(table, column.name, location, "which the training set has")
    else:
        inputs, notes = input_columns(
            table, label, location, options, folder_of(location) if made.kind == "table" else None
        )
    notes = [*table.notes, *notes]
    if options.classes is None:
        options = replace(options, classes=table.orders.get(label))

    def source(rows: Sequence[int], asked: DataOptions, said: list[str]) -> TableSource:
        found = made(table, rows, location=location, options=asked, inputs=inputs, label=label, notes=said)
        extra = [None] * (len(found) - len(rows))
        found.votes = {name: [*(cells[row] for row in rows), *extra] for name, cells in labelled.votes.items()}
        return found

    every = range(len(table.positions))
    if options.split is None or options.evaluation:
        return source(every, options, notes), None
    where = f"{location}: '{options.split}'"
    train, held_out, said = split_rows(texts_of(table.columns[options.split]), where)
    training = source(train, options, [*notes, *said])
    if held_out is None:
        return training, None
    asked = DataOptions(
        id=options.id,
        split=options.split,
        classes=tuple(training.classes),
        name=training.name,
        roots=options.roots,
        evaluation=True,
    )
    return training, source(held_out, asked, [])


def _unpacked(text: str) -> bytes:
    try:
        return unpacked_picture(text)
    except ValueError as error:
        raise UnreadableRow(f"the cell holds {error}") from error


def _vector(values: Any) -> Item:
    import numpy as np

    from curate.sources.arrays import row_hashes

    values = numbers_of(values) if isinstance(values, str) else values
    with np.errstate(over="ignore"):
        row = np.array(values if values is not None else [], dtype=np.float32)
    if row.size == 0 or not np.isfinite(row).all():
        raise UnreadableRow("the vector is empty" if row.size == 0 else BEYOND)
    return Item(row_hashes(row[None])[0], lambda: row)


def _labels(cells: "pyarrow.ChunkedArray", where: str, positions: Sequence[int]) -> tuple[list[str | None], list[str]]:
    """Label texts of a column, and notes on them; one clear message for what is no single label."""
    from pyarrow import types

    if types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    kind = cells.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        if types.is_struct(inner):
            raise DataError(f"{where} holds lists of objects: this looks like object detection.", labels.SCOPE)
        soft = types.is_floating(inner)
        what = "soft labels" if soft else "several labels a row (multi-label)"
        raise DataError(f"{where} holds lists: this looks like {what}.", labels.SCOPE)
    if types.is_struct(kind):
        boxes = {part.name.lower() for part in kind} & {"bbox", "bboxes", "boxes", "box"}
        what = "object detection" if boxes else "soft labels"
        raise DataError(f"{where} holds objects: this looks like {what}.", labels.SCOPE)
    if types.is_integer(kind) or types.is_boolean(kind):
        return [None if value is None else str(value) for value in cells.to_pylist()], []
    if types.is_string(kind) or types.is_large_string(kind):
        return labels.number_texts(cells.to_pylist(), where, positions)
    return labels.label_texts(cells.to_numpy(), where), []
