"""Rows in memory: an ``.npz`` file (``arrays:``) and scikit-learn's small data sets (``sklearn:``).

Knows arrays: which one is the input, their shapes, content hashes and what may not stand in them.
Leaves labels to ``labels`` and tensors to ``transforms``.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from curate.errors import DataError, NothingScanned, UsageError
from curate.files.reading import check_regular, memory_bytes
from curate.settings.specs import did_you_mean, listed_names, near_path
from curate.sources import labels
from curate.sources.base import DataOptions, Item, Source
from curate.sources.images import LFS_REASON, is_lfs_pointer
from curate.sources.loose_arrays import TENSORS, FileOfTensors, FilesOfArrays
from curate.sources.npz import OBJECTS, Arrays
from curate.sources.splits import split_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

INPUT_NAMES = ("x", "X", "images", "features", "data")
TRAIN_WORDS = ("train", "training")
EVALUATION_WORDS = ("val", "valid", "validation", "dev", "test", "testing")
"""In the order of preference."""
ROWS_AT_ONCE = 4_096
SKLEARN_SETS = ("breast_cancer", "digits", "iris", "wine")


class ArraySource(Source):
    """Rows of one numeric array ``rows`` [n, ...]."""

    kind: ClassVar[str] = "arrays"

    def __init__(
        self,
        rows: "Array",
        texts: list[str | None],
        *,
        location: str,
        options: DataOptions,
        ids: list[str] | None = None,
        positions: list[int] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.location, self.name, self.notes = location, options.name or location, notes
        self.positions = list(range(len(texts))) if positions is None else positions
        self.media, self._rows = _media(rows, location)
        self._hashes = row_hashes(self._rows)
        names = ids or [str(row) for row in self.positions]
        encoded = labels.encode(texts, location, options.classes, evaluation=options.evaluation, names=names)
        self.classes, self.labels, self.label_texts = encoded.classes, encoded.indices, encoded.texts
        self.keys = ids if ids is not None else labels.content_keys(self._hashes, self.label_texts)

    def read(self, index: int) -> Item:
        return Item(self._hashes[index], partial(self._decode, index))

    def _decode(self, index: int) -> "Array":
        row: Array = self._rows[index]
        row = row if row.flags.aligned else row.copy()  # of a file
        # uint8 [C, H, W] -> [H, W, C]: the one order that `media = "image"` promises
        return row.transpose(1, 2, 0) if self.media == "image" and channels_first(row.shape) else row


class SklearnSource(ArraySource):
    """One of scikit-learn's small data sets."""

    kind: ClassVar[str] = "sklearn"


def open_arrays(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """An ``.npz`` file, ``.npy`` files or tensors with an input and a label array of equal length."""
    with Archive(location) as archive:
        pairs = {} if options.input or options.label or options.split else _pairs(archive.names)
    if "train" in pairs:
        return _open_pairs(location, pairs, options)
    if Path(location).suffix.lower() == ".npy" and options.input is None:
        options = replace(options, input=Path(location).stem)
    with Archive(location) as archive:
        x_name = archive.choose(options.input, INPUT_NAMES, "--input")
        y_name = archive.choose(options.label, labels.LABEL_NAMES, "--label")
        id_name = archive.choose(options.id, (), "--id") if options.id is not None else None
        rows, given = archive.take(x_name), archive.take(y_name)
        id_array = archive.take(id_name) if id_name is not None else None
        split_name = archive.choose(options.split, (), "--split") if options.split and not options.evaluation else None
        split_array = archive.take(split_name) if split_name is not None else None
    if rows.ndim == 0 or len(rows) == 0:
        raise NothingScanned(f"{location}: '{x_name}' holds no row, so nothing was scanned.")
    texts = labels.label_texts(given, f"{location}: '{y_name}'")
    ids = labels.given_keys(id_array, f"{location}: '{id_name}'") if id_array is not None else None
    words = labels.label_texts(split_array, f"{location}: '{split_name}'") if split_array is not None else None
    for other, found in ((y_name, texts), (id_name, ids), (split_name, words)):
        if found is not None and (length := len(found)) != len(rows):
            raise DataError(
                f"{location}: '{x_name}' has {len(rows)} rows and '{other}' has {length}.",
                "Each row needs one of each: name the arrays with --input, --label, --id and --split.",
            )
    options = replace(options, name=options.name or Path(location).name)

    def source(chosen: list[int] | None, asked: DataOptions, said: list[str]) -> Source:
        return ArraySource(
            rows if chosen is None else rows[chosen],
            texts if chosen is None else [texts[row] for row in chosen],
            location=location,
            options=asked,
            positions=chosen,
            notes=said,
            ids=ids if ids is None or chosen is None else [ids[row] for row in chosen],
        )

    if words is None:
        return source(None, options, []), None
    train, held_out, said = split_rows(words, f"{location}: '{split_name}'")
    training = source(train, options, said)
    if held_out is None:
        return training, None
    asked = replace(options, evaluation=True, classes=tuple(training.classes))
    return training, source(held_out, asked, [])


def _pairs(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Names of input and labels by split, `train` and `eval`, of a file with arrays like x_train or train_images."""
    if any(name in names for name in INPUT_NAMES):
        return {}
    parts = {name.lower(): name for name in names}

    def named(usual: Sequence[str], word: str) -> str | None:
        found = {
            parts[way] for one in usual for way in (f"{one}_{word}".lower(), f"{word}_{one}".lower()) if way in parts
        }
        return found.pop() if len(found) == 1 else None

    def pair(words: Sequence[str]) -> tuple[str, str] | None:
        for word in words:
            x, y = named(INPUT_NAMES, word), named(labels.LABEL_NAMES, word)
            if x is not None and y is not None:
                return x, y
        return None

    found = {"train": pair(TRAIN_WORDS), "eval": pair(EVALUATION_WORDS)}
    return {split: names for split, names in found.items() if names is not None}


def _open_pairs(location: str, pairs: dict[str, tuple[str, str]], options: DataOptions) -> tuple[Source, Source | None]:
    """Training and evaluation set of a file that has a pair of arrays for each."""
    with Archive(location) as archive:
        left = [name for name in archive.names if name not in {name for pair in pairs.values() for name in pair}]
    said = [f"{location}: arrays that were left out: {listed_names(left)}"] if left else []
    wanted = "eval" if options.evaluation and "eval" in pairs else "train"
    x_name, y_name = pairs[wanted]
    first, _ = open_arrays(location, replace(options, input=x_name, label=y_name))
    first.notes = [*first.notes, *said]
    if options.evaluation or "eval" not in pairs:
        return first, None
    x_name, y_name = pairs["eval"]
    asked = replace(options, input=x_name, label=y_name, evaluation=True, classes=tuple(first.classes), name=first.name)
    return first, open_arrays(location, asked)[0]


def open_sklearn(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """One of scikit-learn's built-in classification sets, by the name in its ``load_*`` function."""
    named = {"--input": options.input, "--label": options.label, "--id": options.id, "--split": options.split}
    for option, value in named.items():
        if value is not None:
            raise UsageError(f"{option} has no meaning for sklearn:{location}.", f"Leave out {option}.")
    name = location.removeprefix("load_")
    if name in ("diabetes", "linnerud"):
        raise DataError(f"sklearn:{name} is a regression set.", labels.SCOPE)
    if name not in SKLEARN_SETS:
        raise DataError(
            f"There is no sklearn:{location}.",
            did_you_mean(name, SKLEARN_SETS) or f"The sets are {', '.join(SKLEARN_SETS)}.",
        )
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    names = [str(text) for text in bunch.target_names]
    texts: list[str | None] = [names[number] for number in bunch.target]
    # scikit-learn's own order (malignant before benign), not the alphabet's
    classes = options.classes if options.classes is not None else tuple(names)
    options = replace(options, classes=classes, name=options.name or name)
    return SklearnSource(bunch.data, texts, location=f"sklearn:{name}", options=options), None


def row_hashes(rows: "Array") -> list[str]:
    """``row_hash`` of each row."""
    return [row_hash(row) for row in rows]


def row_hash(row: "Array") -> str:
    """sha256 of dtype, shape and little-endian C-order bytes, so that machines agree."""
    import numpy as np

    dtype = row.dtype.newbyteorder("<")
    head = f"{dtype.str}{row.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(row, dtype).tobytes()).hexdigest()


def channels_first(shape: tuple[int, ...]) -> bool:
    """Does a uint8 row of this shape hold a picture as [c, h, w]?"""
    return len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3, 4)


def _media(rows: "Array", where: str) -> tuple[str, "Array"]:
    import numpy as np

    if rows.dtype.kind in "SU":
        raise DataError(
            f"{where}: the input is text ({rows.dtype}); this version reads numbers and pictures.",
            "Give features of the text, such as the embeddings of a language model.",
        )
    if rows.dtype.kind not in "biuf":
        raise DataError(f"{where}: the input has the type {rows.dtype}, which is no number.")
    if rows.ndim == 1:
        rows = rows[:, None]
    if 0 in rows.shape[1:]:
        raise DataError(f"{where}: the rows of the input are empty (shape {rows.shape}).")
    if rows.dtype.kind == "f":
        bad = np.zeros(len(rows), dtype=bool)
        with np.errstate(over="ignore"):  # all is computed in float32
            for first in range(0, len(rows), ROWS_AT_ONCE):
                some = rows[first : first + ROWS_AT_ONCE]
                flat = some.reshape(len(some), -1).astype(np.float32, copy=False)
                bad[first : first + ROWS_AT_ONCE] = ~np.isfinite(flat).all(axis=1)
        if bad.any():
            raise DataError(
                f"{where}: {int(bad.sum())} of {len(rows)} rows hold NaN, infinite numbers or some beyond 3.4e38, "
                f"the first is row {int(bad.argmax())}.",
                "Fill them in or leave these rows out.",
            )
    if rows.dtype == np.uint8 and (rows.ndim == 3 or (rows.ndim == 4 and is_picture(rows.shape[1:]))):
        return "image", rows
    return ("features" if rows.ndim == 2 else "array"), rows


def is_picture(shape: tuple[int, ...]) -> bool:
    """Does a uint8 row of these three dimensions hold a picture with channels?"""
    return shape[2] in (1, 3, 4) or channels_first(shape)


class Archive:
    """An ``.npz`` file, a folder of ``.npy`` files or a file of tensors: names, and one array at a time.

    Pickled (object) arrays are never loaded.
    """

    def __init__(self, location: str) -> None:
        path = Path(location)
        if not path.exists():
            raise DataError(f"There is no file or folder {location}.", near_path(path))
        self.location = location
        self._file: IO[bytes] | None = None
        self._arrays: Arrays | FilesOfArrays | FileOfTensors
        if path.is_dir() or path.suffix.lower() == ".npy":
            self._arrays = FilesOfArrays(path if path.is_dir() else path.parent)
        elif path.suffix.lower() in TENSORS:
            try:
                self._arrays = FileOfTensors(path)
            except ValueError as error:
                raise DataError(
                    f"{location} is read as tensors: {error}.", "Save {'x': x, 'y': y}, or give --weights FILE."
                ) from error
        else:
            self._arrays = self._packed(path)

    def _packed(self, path: Path) -> Arrays:
        try:
            check_regular(path, memory_bytes())
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(f"{self.location} cannot be read: {error.strerror or error}.") from error
        try:
            head = self._file.read(64)
            if is_lfs_pointer(head):
                raise DataError(f"{self.location} is {LFS_REASON}.")
            if head.startswith(b"\x93NUMPY"):
                raise DataError(
                    f"{self.location} holds one array without a name.", "Save it as .npz with the arrays x and y."
                )
            self._file.seek(0)
            return Arrays(self._file)
        except (OSError, ValueError) as error:
            self._file.close()
            raise self._broken(error) from error
        except DataError:
            self._file.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._arrays.close()
        if self._file is not None:
            self._file.close()

    def choose(self, asked: str | None, usual: tuple[str, ...], option: str) -> str:
        """The array that ``option`` asks for, else the one with a usual name."""
        there = self._arrays.names
        listed = f"The file holds {listed_names(there) or 'no array'}."
        if asked is not None:
            if asked in there:
                return asked
            raise DataError(
                f"{self.location}: there is no array '{asked}' ({option}).",
                f"{listed} {did_you_mean(asked, there)}".rstrip(),
            )
        found = [name for name in usual if name in there]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"{self.location}: {' and '.join(found)} could each be meant.", f"Say which with {option}.")
        raise DataError(
            f"{self.location}: no array is called {', '.join(usual[:-1])} or {usual[-1]}.",
            f"{listed} Name the one to read with {option}.",
        )

    @property
    def names(self) -> list[str]:
        """Of the arrays in the file."""
        return self._arrays.names

    def take(self, name: str) -> "Array":
        """The array of this name. Raises ``DataError`` if it cannot be read."""
        try:
            return self._arrays.take(name)
        except ValueError as error:
            if OBJECTS not in str(error):
                raise self._broken(error) from error
            raise DataError(
                f"{self.location}: '{name}' is an object array; it could run code on loading and is refused.",
                "Save it with a type of its own: numbers, or strings by y.astype(str).",
            ) from error

    def _broken(self, error: Exception) -> DataError:
        return DataError(
            f"{self.location} is no .npz file, or was cut short ({error}).", "Save it again with numpy.savez."
        )
