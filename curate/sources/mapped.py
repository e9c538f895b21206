"""A map-style data set as a source: all of its items are read once at opening, for content, labels and keys.

Knows the going over items: which differ from one read to the next, which cannot be read, what is kept in memory.
Leaves the form of an item to ``items``, the names of its classes to ``class_names``, and where the data set comes
from to ``python_data`` and ``torchvision_data``.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from curate.errors import CurateError, DataError, NothingScanned, UnreadableRow
from curate.process.frames import first_line, user_frame
from curate.sources import labels
from curate.sources.base import DataOptions, Item, Source
from curate.sources.class_names import declared_labels, name_labels, own_classes
from curate.sources.items import (
    OddItem,
    Value,
    as_input,
    as_key,
    as_label,
    content_of_labels,
    is_tensor,
    take_apart,
)

KEPT_BYTES = 2**30
"""Decoded items are kept up to this size; the others are read again when they are asked for."""
PROBED_ROWS, PROBES = 16, 3
"""Rows read several times at opening, to find data sets that draw at random."""
LABEL_ROWS = 32
"""Rows looked at to say what kind of labels these are, where they are not single."""

_EVALUATE = "Give the data set with the transform of evaluation: nothing random, such as crops, flips or noise."


class MappedSource(Source):
    """Rows in the data set's own order; keys are the items' own, else made from the content.

    ``where`` is the file of the person's code, whose lines are blamed; empty for a library's data set. ``train`` is
    the training set that came together with this evaluation set: the names of their classes mean the same.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        location: str,
        name: str,
        where: str,
        options: DataOptions,
        notes: Sequence[str] = (),
        train: Any = None,
    ) -> None:
        self.location, self.name, self.notes = location, name, list(notes)
        self._train = train
        self._dataset, self._where, self._options = dataset, where, options
        self._kept: dict[int, Any] = {}
        self._hashes: dict[int, str] = {}
        self._broken: dict[int, str] = {}
        self._keys: dict[int, str] = {}
        self._given: dict[int, Any] = {}
        count = self._count()
        self._refuse_random(count)
        self._read_all(count)
        self._take_labels(count)
        self.keys = self._make_keys(count)
        self.positions = list(range(count))

    def read(self, index: int) -> Item:
        if index in self._broken:
            raise UnreadableRow(self._broken[index])
        return Item(self._hashes[index], partial(self._decode, index))

    def text(self, index: int) -> str | None:
        return self._decode(index) if self.media == "text" and index not in self._broken else None

    def _decode(self, index: int) -> Any:
        if index in self._kept:
            value = self._kept[index]
            # A transform that works in place must not reach what is kept.
            return value if isinstance(value, str) else value.clone() if is_tensor(value) else value.copy()
        try:
            again = self._item(index)[0]
        except OddItem as odd:
            raise UnreadableRow(f"it {odd}") from odd
        if again.sha256 != self._hashes[index]:
            raise DataError(f"{self.location}: row {index} is not what it was when the data set was opened.", _EVALUATE)
        return again.value

    def _count(self) -> int:
        try:
            count = len(self._dataset)
        except Exception as error:
            raise DataError(
                f"{self.location}: the length of the data set is not known: {self._blame('__len__', error)}",
                "A map-style data set has __len__ and __getitem__.",
            ) from error
        if count == 0:
            raise NothingScanned(f"{self.location}: the data set has no row, so nothing was scanned.")
        return count

    def _item(self, index: int) -> tuple[Value, Any, Any]:
        """(input, label, key or None). Raises ``UnreadableRow``, ``OddItem``."""
        try:
            item = self._dataset[index]
        except CurateError:
            raise
        except Exception as error:
            raise UnreadableRow(self._blame("__getitem__", error)) from error
        if item is None:
            raise UnreadableRow("the data set gives None for it")
        x, y, key = take_apart(item, self._options)
        if x is None:
            raise UnreadableRow("its input is None")
        return as_input(x), as_label(y), key

    def _blame(self, doing: str, error: Exception) -> str:
        at = f" failed at {user_frame(error, self._where)} with" if self._where else ":"
        return f"{doing}{at} {type(error).__name__}: {first_line(error)}"

    def _refuse_random(self, count: int) -> None:
        for index in sorted({count * step // PROBED_ROWS for step in range(PROBED_ROWS)}):
            try:
                found = {self._item(index)[0].sha256 for _ in range(PROBES)}
            except (UnreadableRow, OddItem):
                continue  # told where all rows are read
            if len(found) > 1:
                raise DataError(
                    f"{self.location}: row {index} differs from one read to the next, so its data set draws at random.",
                    _EVALUATE,
                )

    def _read_all(self, count: int) -> None:
        import numpy as np

        left = KEPT_BYTES
        first: tuple[int, Value] | None = None
        not_finite: list[int] = []
        for index in range(count):
            try:
                value, label, key = self._item(index)
                if first is not None:
                    self._compare(index, value, *first)
                if isinstance(label, np.ndarray):
                    if first is None:
                        raise self._several(index, count)
                    raise OddItem(f"has {label.size} labels")
                self._keys |= {} if key is None else {index: as_key(key)}
            except UnreadableRow as error:
                self._broken[index] = str(error)
                continue
            except OddItem as odd:
                if first is None:  # the others will hardly be better
                    raise DataError(f"{self.location}: row {index} {odd}.", odd.hint) from odd
                self._broken[index] = f"it {odd}"
                continue
            first = first or (index, value)
            if not value.finite:
                not_finite.append(index)
            self._hashes[index], self._given[index] = value.sha256, label
            if value.size <= left:
                left -= value.size
                self._kept[index] = value.value
        if first is None:
            index, reason = next(iter(self._broken.items()))
            raise NothingScanned(f"{self.location}: none of the {count} rows can be read; row {index}: {reason}")
        if not_finite:
            raise DataError(
                f"{self.location}: {len(not_finite)} of {count} rows hold NaN or infinite numbers, the first is row "
                f"{not_finite[0]}.",
                "Fill them in or leave these rows out.",
            )
        self.media, self.ready = first[1].media, first[1].ready

    def _compare(self, index: int, value: Value, first_index: int, first: Value) -> None:
        if (value.media, value.ready) != (first.media, first.ready):
            raise OddItem(f"is of the kind '{value.media}', row {first_index} of the kind '{first.media}'")
        if value.media == "features" and value.shape != first.shape:
            raise DataError(
                f"{self.location}: row {index} holds {value.shape[0]} numbers and row {first_index} {first.shape[0]}.",
                "Features are as many in each row.",
            )

    def _several(self, start: int, count: int) -> DataError:
        """What kind of labels these are, in the words of ``labels``."""
        import numpy as np

        found: list[Any] = []
        for index in range(start, min(count, start + LABEL_ROWS)):
            try:
                found.append(self._item(index)[1])
            except (UnreadableRow, OddItem):
                continue
        where = f"{self.location}: the label"
        if len({getattr(label, "shape", ()) for label in found}) > 1:
            return DataError(f"{where} of row {start} holds several (multi-label).", labels.SCOPE)
        stacked = np.stack(found)
        try:
            labels.label_texts(stacked, where)
        except DataError as error:
            one_hot = "one-hot" in error.message
            return DataError(error.message, "Give the class's number: y.argmax()." if one_hot else error.hint)
        return DataError(f"{where} of row {start} holds several.", labels.SCOPE)

    def _take_labels(self, count: int) -> None:
        declared = declared_labels(self._dataset, count) if self._broken else None
        if declared is not None and all(declared[index] == label for index, label in self._given.items()):
            # Rows that cannot be read keep their labels, where the data set tells them apart from the items.
            self._given |= {index: declared[index] for index in self._broken}
        self.malformed = {index: why for index, why in self._broken.items() if self._given.get(index) is None}
        where = f"{self.location}: the label"
        raw = content_of_labels([self._given.get(index) for index in range(count)], where)
        texts = labels.label_texts(raw, where)
        names, options = own_classes(self._dataset), self._options
        together = self._train is not None and own_classes(self._train) == names
        texts, order = name_labels(texts, names, options.classes, foreign=options.evaluation and not together)
        shown = [self._keys.get(index) or str(index) for index in range(count)]
        encoded = labels.encode(texts, self.location, order, evaluation=options.evaluation, names=shown)
        self.classes, self.labels, self.label_texts = encoded.classes, encoded.indices, encoded.texts

    def _make_keys(self, count: int) -> list[str]:
        import numpy as np

        # What cannot be read has no content but its error, which says what is broken; lines move as code is edited.
        whys = {
            index: hashlib.sha256(re.sub(r"\.py:\d+", ".py", why).encode("utf-8", "backslashreplace")).hexdigest()
            for index, why in self._broken.items()
        }
        contents = [self._hashes.get(index) or whys[index] for index in range(count)]
        made = labels.content_keys(contents, self.label_texts)
        made = [f"unreadable-{key}" if index in whys else key for index, key in enumerate(made)]
        if not self._keys:
            return made
        given = [made[index] if index in whys else self._keys.get(index, "") for index in range(count)]
        return labels.given_keys(np.array(given), f"{self.location}: the key")
