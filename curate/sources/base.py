"""The shape of a data source: keys, labels and rows, in a fixed order.

Knows what every kind of data has in common; leaves reading to one file a kind, and tensors to ``transforms``.
Nothing here needs torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from curate.errors import UsageError

if TYPE_CHECKING:
    import pyarrow

    from curate.sources.columns import InputColumn


@dataclass(frozen=True)
class Item:
    """One row as read, not yet decoded.

    ``content_sha256`` is over the file's bytes for images, over dtype, shape and little-endian C-order bytes for
    arrays, the UTF-8 bytes for texts, names and values of the input columns for records. ``decode`` gives what the
    source's ``media`` promises, or raises ``UnreadableRow``. ``small`` is given where a picture can be decoded quicker
    if so many pixels a side are enough.
    """

    content_sha256: str
    decode: Callable[[], Any]
    small: Callable[[int], Any] | None = None


class Source(ABC):
    """A data set, opened: everything but the contents of its rows is known.

    ``media`` says what a decoded row is: ``"image"`` (PIL image in RGB, upright, of which `pixels.as_read`
    tells what it was in its file; or HxW / HxWxC uint8 array),
    ``"features"`` (1-d numeric row), ``"array"`` (a numeric row of two or more dimensions that is no image: for a model
    only), ``"text"`` (a str), ``"record"`` (a dict of column and value: number, text or None).
    ``classes`` stands in the order of the model's outputs when it was given, else sorted.
    ``labels`` index into it; -1 is a blank label. ``keys`` are unique and never positions. ``malformed`` says why the
    rows that it names (by index) cannot be read, where opening the data showed it: they have no label.
    ``notes`` are sentences for the report: what was found or chosen. ``inputs`` are the columns of a
    table. ``ready`` rows are tensors that the data set itself has made for the model: no transform is due.
    ``feature_names`` are those of the numbers in a row, where they have some. ``votes`` are labels that annotators
    gave the rows, by annotator. ``by_threads``: several threads may read and decode rows at once.
    """

    kind: ClassVar[str]
    media: str
    name: str
    location: str
    classes: list[str]
    keys: list[str]
    labels: list[int]
    label_texts: list[str | None]
    positions: list[int]
    malformed: Mapping[int, str] = MappingProxyType({})
    notes: Sequence[str] = ()
    inputs: "tuple[InputColumn, ...]" = ()
    ready: bool = False
    feature_names: tuple[str, ...] = ()
    votes: Mapping[str, Sequence[str | None]] = MappingProxyType({})
    by_threads: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def columns(self) -> "tuple[InputColumn, ...]":
        """The columns of a table that the rows are made of, encoded or not."""
        return self.inputs

    @abstractmethod
    def read(self, index: int) -> Item:
        """Row ``index`` (0-based, in this source's order); raises ``UnreadableRow``."""

    def media_path(self, index: int) -> str | None:
        """The path of the row's file as found (relative to where the location is relative to), None for arrays."""
        return None

    def file(self, index: int) -> Path | None:
        """The row's own file, where the data set is a folder of files; its name need not be valid text."""
        return None

    def cells(self, column: "InputColumn") -> "pyarrow.ChunkedArray":
        """A column of a source of records, as it stands in the file: its readable rows, which come first."""
        raise NotImplementedError

    def values(self, column: str, option: str = "--slice") -> list[str | None]:
        """What each row has in a column, as text; `label` is the given label. Raises ``UsageError`` for no column."""
        if column == "label":
            return self.label_texts
        ways = {
            "--slice": "Give --slice label=CLASS, or name rows with --eval-rows KEY,...|FILE.",
            "--group": "Give --group a regular expression over keys, as '(patient[0-9]+)'.",
        }
        raise UsageError(f"{option} {column}: {self.location} has no columns beside its labels.", ways[option])

    def text(self, index: int) -> str | None:
        """The row as people read it, where it is a text or a record; None for pictures and plain numbers."""
        return None


@dataclass(frozen=True)
class DataOptions:
    """What a person may say about a data set beside where it is; a kind that has no use for one refuses it."""

    input: str | None = None
    label: str | None = None
    id: str | None = None
    split: str | None = None
    header: bool = True
    classes: tuple[str, ...] | None = None
    name: str | None = None
    group: str | None = None  # a column that says which rows belong together
    roots: tuple[str, ...] = ()  # folders in which files that a table names may lie
    evaluation: bool = False  # an evaluation set may hold one class only
    like: Source | None = None  # the training set: its columns are read alike
