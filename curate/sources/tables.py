"""Tables (``table:``): csv, parquet, jsonl -> rows of columns, of one text, of one picture file or of one vector.

Knows which columns are the label, the id, the split and the input, and makes keys and content hashes of rows.
Leaves files to ``table_files``, cells to ``columns``, numbers for a classifier to ``encoding``.
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
from curate.settings.specs import as_typed, did_you_mean, listed_names, whole
from curate.sources import labels
from curate.sources.base import DataOptions, Item, Source
from curate.sources.columns import InputColumn, classify, has_decimal_commas, numbers, texts_of
from curate.sources.images import item_of
from curate.sources.media_files import MediaFiles, folder_of, names_files, posix, relative
from curate.sources.splits import split_rows
from curate.sources.table_files import RawTable, read_table

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow

    Array = npt.NDArray[Any]

LABEL_NAMES = (*labels.LABEL_NAMES, "class", "category")
MEDIA = {"text": "text", "image": "image", "vector": "features"}
"""What a row is where one column of this kind is the whole input; columns of numbers and categories make a record."""

TOLD_AT_ONCE = 10_000
"""Rows whose cells are texts at a time: one by one takes 2 ms a row, all at once the memory of every cell."""

BEYOND = "the vector holds NaN, infinite numbers or some beyond 3.4e38"

FEW = 20
"""Below so many rows, cells that all differ may do so by chance."""


class TableSource(Source):
    """Rows of a table. ``inputs`` are its input columns, ``cells(column)`` what stands in them."""

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
        classes: tuple[str, ...] | None,
        notes: Sequence[str] = (),
    ) -> None:
        self.location, self.name = location, options.name or Path(location).name
        self.inputs, self._table, self._rows = inputs, table, list(rows)
        self._malformed = table.malformed if not options.evaluation or options.split is None else []
        self._folder = folder_of(location) if self.kind == "table" else Path()
        self.media = MEDIA.get(inputs[0].kind, "record") if len(inputs) == 1 else "record"
        where = f"{location}: '{label}'"
        positions = [table.positions[row] for row in self._rows]
        given, said = _labels(table.columns[label].take(self._rows), where, positions)
        ids = self._ids(options, positions)
        names = ids or [str(position) for position in positions]
        encoded = labels.encode(given, where, classes, evaluation=options.evaluation, names=names)
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
                f"It holds {_listed(list(self._table.columns))}.",
            ) from None

    def values(self, column: str, option: str = "--slice") -> list[str | None]:
        there = self._table.columns
        if column not in there:
            if column == "label":
                return self.label_texts
            hint = f"It holds {_listed(list(there))}. {did_you_mean(column, there)}".rstrip()
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

        kind = self._cells[self.inputs[0].name].type
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
    options, label = _chosen(table, location, options)
    like = options.like
    if isinstance(like, TableSource):
        inputs, notes = like.inputs, list[str]()
        for column in inputs:
            _column(table, column.name, location, "which the training set has")
    else:
        inputs, notes = _inputs(table, label, location, options, folder_of(location) if made.kind == "table" else None)
    notes = [*table.notes, *notes]
    order = options.classes if options.classes is not None else table.orders.get(label)

    def source(rows: Sequence[int], asked: DataOptions, order: tuple[str, ...] | None, said: list[str]) -> TableSource:
        return made(
            table, rows, location=location, options=asked, inputs=inputs, label=label, classes=order, notes=said
        )

    every = range(len(table.positions))
    if options.split is None or options.evaluation:
        return source(every, options, order, notes), None
    where = f"{location}: '{options.split}'"
    train, held_out, said = split_rows(texts_of(table.columns[options.split]), where)
    training = source(train, options, order, [*notes, *said])
    if held_out is None:
        return training, None
    asked = DataOptions(id=options.id, split=options.split, name=training.name, roots=options.roots, evaluation=True)
    return training, source(held_out, asked, tuple(training.classes), [])


def label_column(table: RawTable, location: str, options: DataOptions) -> str:
    """The name of the column that holds the labels."""
    return _chosen(table, location, options)[1]


def _chosen(table: RawTable, location: str, options: DataOptions) -> tuple[DataOptions, str]:
    """The options with the names of columns as the table spells them, and the column of the labels."""
    names = {
        option: _column(table, asked, location, f"--{option}")
        for option in ("label", "id", "split", "group")
        if (asked := getattr(options, option)) is not None and (option != "group" or _is_column(asked, options))
    }
    if options.evaluation and options.split is not None and "split" not in names:
        names["split"] = options.split
    label = names.get("label") or _usual_label(table, location, options)
    named, split = names.get("id"), names.get("split")
    return replace(options, label=label, id=named, split=split, group=names.get("group")), label


def _is_column(group: str, options: DataOptions) -> bool:
    """Whether ``--group`` must be a column here: a pattern is over keys, and an evaluation set may have none."""
    return "(" not in group and not options.evaluation


def _column(table: RawTable, asked: str, location: str, who: str) -> str:
    there = list(table.columns)
    if asked in there:
        return asked
    if (place := whole(asked.removeprefix("-"))) is not None and place < len(there) + asked.startswith("-"):
        return there[int(asked)]  # from the end where a sign stands before it
    raise DataError(
        f"{location} has no column '{asked}' ({who}).",
        f"It holds {_listed(there)}. {did_you_mean(asked, there)}".rstrip(),
    )


def _usual_label(table: RawTable, location: str, options: DataOptions) -> str:
    there = list(table.columns)
    if not options.header and there and all(name.isdigit() for name in there):
        raise DataError(
            f"{location} has {len(there)} columns without names; nobody said which one is the label.",
            "Number it from 0, or from the end: --label -1 is the last.",
        )
    found = [name for name in there if name.lower() in LABEL_NAMES]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{location}: {' and '.join(found)} could each be the label.", "Say which with --label.")
    raise DataError(
        f"{location}: no column is called {', '.join(LABEL_NAMES[:-1])} or {LABEL_NAMES[-1]}.",
        f"It holds {_listed(there)}. Name the one with the labels: --label {as_typed(_like_a_label(table))}.",
    )


def _like_a_label(table: RawTable) -> str:
    """The last column with few different cells, for the hint."""
    rows = len(table.positions)
    for name in reversed(table.columns):
        try:
            different = len(table.columns[name].unique())
        except NotImplementedError:  # lists and objects have no equality in Arrow
            continue
        if 2 <= different <= max(2, rows // 5):
            return name
    return next(reversed(table.columns), "NAME")


def _listed(names: list[str]) -> str:
    return listed_names(names)


def _inputs(
    table: RawTable, label: str, location: str, options: DataOptions, folder: Path | None
) -> tuple[tuple[InputColumn, ...], list[str]]:
    """The columns that are the input: those asked for, else the one with pictures, else all that are left."""
    asked = None
    if options.input is not None:
        whole = options.input in table.columns
        parts = [options.input] if whole else [part.strip() for part in options.input.split(",")]
        asked = [_column(table, part, location, "--input") for part in parts if part]
    taken = {label, options.id, options.split, options.group}
    names = asked if asked is not None else [name for name in table.columns if name not in taken]
    if not names:
        raise DataError(f"{location} has no column beside the label.", "Name the input with --input.")
    comma = table.decimal_comma and has_decimal_commas(table.columns[name] for name in names)
    notes = ["numbers are written with decimal commas"] if comma else []
    found: list[InputColumn] = []
    for name in names:
        column, said = classify(name, table.columns[name], comma)
        found.append(column)
        notes += said
    if asked is not None and len(found) == 1 and found[0].kind == "category":
        notes.append(f"{names[0]} is read as a category: few different cells, or single words")
    if folder is not None and not any(column.kind == "image" for column in found):
        found = [_as_names(column, table, folder, options) for column in found]
    alone = _alone(found, location, asked is not None)
    if alone is not None:
        others = [column.name for column in found if column is not alone]
        left = [f"the input is {alone.name}; columns not used: {_listed(others)}"] if others else []
        return (alone,), [*(note for note in notes if note.startswith(alone.name)), *left]
    odd = [column.name for column in found if column.kind == "other"]
    if odd:
        notes.append(f"columns that are neither numbers nor texts were left out: {_listed(odd)}")
        found = [column for column in found if column.kind != "other"]
    rows = len(table.positions)
    ids = _ids_among(found, table, rows)
    if ids and asked is None and len(found) > len(ids):
        notes.append(f"{_listed(ids)} left out: another value in each row, as an id has (--id makes it the key)")
        found = [column for column in found if column.name not in ids]
    if not found:
        raise DataError(f"{location} has no column that can be an input.", "Name one with --input.")
    parts = [
        f"{called} {_listed([column.name for column in found if column.kind == kind])}"
        for kind, called in (("number", "numbers in"), ("category", "categories in"), ("text", "free text in"))
        if any(column.kind == kind for column in found)
    ]
    return tuple(found), [f"input: {'; '.join(parts)}", *notes]


def _alone(found: list[InputColumn], location: str, asked: bool) -> InputColumn | None:
    """The column of pictures, else that of vectors: the whole input. Raises ``DataError`` if several could be."""
    for kind, what in (("image", "name pictures"), ("vector", "hold vectors")):
        special = [column for column in found if column.kind == kind]
        if len(special) > 1:
            listed = " and ".join(column.name for column in special)
            raise DataError(f"{location}: {listed} each {what}.", "Say which one is the input with --input.")
        if special and asked and len(found) > 1:
            name = special[0].name
            raise DataError(f"{location}: {name} can only be the input alone.", f"Give --input {name}.")
        if special:
            return special[0]
    return None


def _as_names(column: InputColumn, table: RawTable, folder: Path, options: DataOptions) -> InputColumn:
    """The column as one of pictures, if its cells are names of some without their endings."""
    cells = table.columns[column.name]
    if column.kind not in ("number", "category") or len(cells.unique()) < len(cells):
        return column
    names = [posix(text) if text else "" for text in texts_of(cells)]
    is_names = names_files(names, folder, [Path(root) for root in options.roots])
    return InputColumn(column.name, "image") if is_names else column


def _ids_among(found: list[InputColumn], table: RawTable, rows: int) -> list[str]:
    """No measurements: whole numbers that count up, single words that all differ, a name that says id over such."""
    if rows < 2:
        return []
    return [column.name for column in found if _is_id(column, table.columns[column.name], rows)]


def _is_id(column: InputColumn, cells: "pyarrow.ChunkedArray", rows: int) -> bool:
    import numpy as np

    if column.kind == "number" and rows >= FEW:
        with np.errstate(over="ignore", invalid="ignore"):
            if bool((np.diff(numbers(cells, column.comma)) == 1).all()):
                return True
    name = column.name.lower()
    named = (
        name in ("id", "index", "key", "uuid", "row", "idx")
        or name.endswith(("_id", " id"))
        or name.startswith(("unnamed", "__index_level_"))
    )
    return (named or (column.kind == "category" and rows >= FEW)) and len(cells.unique()) == rows


def _vector(values: Any) -> Item:
    import numpy as np

    from curate.sources.arrays import row_hashes

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
