"""Data sets that a caller has in memory: arrays, tables of pandas, polars and pyarrow, map-style data sets.

Knows what kind of thing was given and how it becomes rows, by the same readers as files have. Leaves settings to the
caller. Nothing here imports torch, pandas or polars: where they were not imported there is nothing of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from curate.errors import DataError, NothingScanned, UsageError
from curate.sources import labels
from curate.sources.arrays import ArraySource
from curate.sources.base import DataOptions, Item, Source
from curate.sources.hf import hf_table
from curate.sources.items import OddItem, as_label, content_of_labels, is_tensor
from curate.sources.mapped import MappedSource
from curate.sources.python_data import parts_of, refuse_columns
from curate.sources.table_files import RawTable
from curate.sources.tables import TableSource, table_sources

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NAME = "memory"
"""The data set's name where nobody gave one."""


class MemoryArrays(ArraySource):
    """Rows of an array that the caller holds."""

    kind: ClassVar[str] = "memory"


class MemoryTable(TableSource):
    """Rows of a table that the caller holds; names of files in it are relative to the current folder."""

    kind: ClassVar[str] = "memory"


class MemorySet(MappedSource):
    """A map-style data set that the caller holds."""

    kind: ClassVar[str] = "memory"


class WithFeatures(Source):
    """A source whose rows are seen as numbers that the caller made of them; all else is the source's own."""

    kind: ClassVar[str] = "memory"
    media = "features"

    def __init__(self, source: Source, features: "Array") -> None:
        self._source, self._features = source, features
        self.kind, self.name, self.location = source.kind, source.name, source.location  # type: ignore[misc]
        self.classes, self.keys, self.labels = source.classes, source.keys, source.labels
        self.label_texts, self.positions, self.malformed = source.label_texts, source.positions, source.malformed
        self.notes = [*source.notes, f"features were given: {features.shape[1]:,} numbers a row"]

    def read(self, index: int) -> Item:
        """The row's content, and the features given for it."""
        return Item(self._source.read(index).content_sha256, lambda: self._features[index])

    def media_path(self, index: int) -> str | None:
        return self._source.media_path(index)

    def file(self, index: int) -> Path | None:
        return self._source.file(index)

    def values(self, column: str, option: str = "--slice") -> list[str | None]:
        return self._source.values(column, option)

    def text(self, index: int) -> str | None:
        return self._source.text(index)


@dataclass(frozen=True)
class GivenRows:
    """What a caller holds of the data sets; the settings hold a word in its place. None: the settings name it."""

    train: Any = None
    evaluation: Any = None
    features: Any = None
    """``[n d]``, a row for each training row."""
    evaluation_features: Any = None
    pred_probs: Any = None
    """``[n C]``, columns in the order of the classes."""


def open_memory(value: Any, location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """Training set, and evaluation set if the value holds both. Raises ``DataError``, ``UsageError``."""
    options = replace(options, name=options.name or NAME)
    if is_table(value):
        return _table(value, location, options)
    if is_pair(value):
        return _arrays(value[0], value[1], location, options), None
    if hasattr(value, "__array__"):
        raise UsageError(f"{location} is an array without labels.", "Give the pair (x, y).")
    notes: list[str] = []
    train, held_out = parts_of(value, location, notes)
    if options.evaluation and held_out is not None:
        train, held_out = held_out, None
    source, split = _one(train, location, options, notes, None)
    if held_out is None:
        return source, split
    asked = replace(options, classes=tuple(source.classes), like=source, evaluation=True)
    return source, _one(held_out, location, asked, [], train)[0]


def with_features(source: Source, features: Any, called: str) -> Source:
    """The source with these features for its rows. Raises ``UsageError`` if they do not fit."""
    import numpy as np

    rows = as_array(features, called)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf" or 0 in rows.shape:
        raise UsageError(
            f"{called} has the shape {_shape(rows)} and the type {rows.dtype}.", "Give numbers, [rows, features]."
        )
    if len(rows) != len(source):
        raise UsageError(
            f"{called} has {len(rows):,} rows, and {source.location} {len(source):,}.", "Each row needs its own."
        )
    with np.errstate(over="ignore"):  # all is computed in float32
        rows = rows.astype(np.float32, copy=False)
    odd = ~np.isfinite(rows).all(axis=1)
    if odd.any():
        raise UsageError(
            f"{called}: {int(odd.sum()):,} rows hold NaN, infinite numbers or some beyond 3.4e38, the first is row "
            f"{int(odd.argmax())}.",
            "Fill them in or leave these rows out.",
        )
    return WithFeatures(source, rows)


def is_table(value: Any) -> bool:
    """Is it a table of pandas, polars or pyarrow, or a data set of the library datasets?"""
    return (
        library_of(value) in ("pandas", "polars", "pyarrow", "datasets")
        and (hasattr(value, "columns") or hasattr(value, "column_names"))
        and not isinstance(value, dict)
    )


def is_labels(value: Any) -> bool:
    """Is it one value a row: an array of one dimension, or a list of texts or numbers?"""
    if isinstance(value, list):
        return bool(value) and all(_is_single(one) for one in value[:1000])
    return not is_table(value) and hasattr(value, "__array__") and len(getattr(value, "shape", ())) == 1


def _is_single(one: Any) -> bool:
    return one is None or isinstance(one, str | int | float) or getattr(one, "shape", None) == ()


def is_pair(value: Any) -> bool:
    """Is it inputs and labels side by side, and not two data sets?"""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    first, second = value
    return (
        first is None
        or is_table(first)
        or hasattr(first, "__array__")
        or (isinstance(first, list) and is_labels(second))
    )


def as_array(value: Any, called: str) -> "Array":
    """Arrays of any library as numpy's. Raises ``UsageError``."""
    import numpy as np

    try:
        if is_tensor(value):
            value = value.detach().cpu()
            return np.asarray((value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy())
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{called} is no array: {error}.", "Give numbers of one shape a row.") from error


def label_values(y: Any, where: str) -> list[str | None]:
    """Labels of any library as texts, None if blank. Raises ``DataError``."""
    raw = as_array(y, where)
    if raw.dtype.kind == "O" and raw.ndim:
        try:
            raw = content_of_labels([as_label(None if _is_missing(one) else one) for one in raw.tolist()], where)
        except OddItem as odd:
            raise DataError(f"{where}: a row {odd}.", odd.hint) from odd
    return labels.label_texts(raw, where)


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType")  # pandas has blanks of its own


def _one(
    part: Any, location: str, options: DataOptions, notes: Sequence[str], train: Any
) -> tuple[Source, Source | None]:
    if is_table(part):
        return _table(part, location, options)
    refuse_columns(location, options)
    name = options.name or NAME
    return MemorySet(part, location=location, name=name, where="", options=options, notes=notes, train=train), None


def _arrays(x: Any, y: Any, location: str, options: DataOptions) -> Source:
    named = {"input": options.input, "label": options.label, "id": options.id, "split": options.split}
    for option, value in named.items():
        if value is not None:
            raise UsageError(f"{option}={value!r} names a column, and {location} is a pair of arrays.", "Leave it out.")
    if is_table(x):
        raise UsageError(f"{location} is a pair of a table and labels.", "Give the table, and label='COLUMN' of it.")
    rows, texts = as_array(x, f"{location}: x"), label_values(y, f"{location}: y")
    if _are_texts(rows) and len(rows) == len(texts):
        import pyarrow

        held = pyarrow.table({"text": pyarrow.array(rows.tolist(), pyarrow.large_string()), "label": texts})
        return _table(held, location, replace(options, input="text", label="label"))[0]
    if rows.ndim == 0 or len(rows) == 0:
        raise NothingScanned(f"{location}: x holds no row, so nothing was scanned.")
    if len(rows) != len(texts):
        raise DataError(f"{location}: x has {len(rows):,} rows, y has {len(texts):,}.", "Each row needs one of each.")
    options = replace(options, name=options.name or NAME)
    return MemoryArrays(rows, texts, location=location, options=options)


def _are_texts(rows: "Array") -> bool:
    return rows.ndim == 1 and (rows.dtype.kind == "U" or all(isinstance(row, str) for row in rows[:1000].tolist()))


def _table(value: Any, location: str, options: DataOptions) -> tuple[Source, Source | None]:
    table = _raw_table(value, location)
    if not table.positions:
        raise NothingScanned(f"{location} holds no row, so nothing was scanned.")
    return table_sources(MemoryTable, table, location, options)


def _raw_table(value: Any, location: str) -> RawTable:
    import pyarrow

    library = library_of(value)
    if library == "datasets":
        return hf_table(value)
    try:
        if library == "pandas":
            value = pyarrow.Table.from_pandas(value, preserve_index=False)
        elif library == "polars":
            value = value.to_arrow()
        elif not isinstance(value, pyarrow.Table):  # a batch of records
            value = pyarrow.table(value)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{location}: the table cannot be read: {str(error).splitlines()[0]}.", "Each column has one type of cells."
        ) from error
    names = [str(name) for name in value.column_names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{location} has two columns called '{twice}'.", "Rename one of them.")
    columns = {name: _plain(column) for name, column in zip(names, value.columns, strict=True)}
    return RawTable(columns, list(range(value.num_rows)))


def _plain(column: Any) -> Any:
    """Texts in the layout that files have."""
    import pyarrow

    return column.cast(pyarrow.large_string()) if str(column.type) == "string_view" else column


def library_of(value: Any) -> str:
    """The name of the package that its class comes from."""
    return type(value).__module__.partition(".")[0]


def _shape(rows: "Array") -> str:
    return " x ".join(map(str, rows.shape)) or "a single value"
