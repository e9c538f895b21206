"""What others say of the training rows: class probabilities of the user's own, and the labels that a judge gave.

Knows how both stand in files and how their rows find those of the data set: by key, else by order. What they are worth
is left to suspicion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import UsageError
from curate.files.reading import check_regular, ending, memory_bytes
from curate.settings.specs import did_you_mean
from curate.sources.base import Source
from curate.sources.columns import numbers, texts_of
from curate.sources.label_columns import MOST_ANNOTATORS
from curate.sources.npz import Arrays
from curate.sources.table_files import SUFFIXES, RawTable, read_table

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

KEYS = ("key", "id")
ARRAYS = ("pred_probs", "probabilities", "probs", "p")
ROUNDED = 0.01
"""A row of probabilities may miss one by so much: files round them."""
MOST_UNKNOWN = 0.5
"""From this share of labels that are no classes on, the file speaks of other classes."""


@dataclass(frozen=True)
class Outside:
    """By name, what others say of all rows of a data set: ``probabilities`` ``[n C]`` whose rows sum to one or, if
    nothing is said of a row, to zero; ``votes`` ``[n C]``, how often a judge gave each label."""

    keys: tuple[str, ...] = ()
    probabilities: Mapping[str, "Array"] = field(default_factory=dict)
    votes: Mapping[str, "Array"] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, keys: Sequence[str]) -> "Outside":
        """The same of some rows, in their order."""
        if not self.probabilities and not self.votes:
            return self
        place = {key: row for row, key in enumerate(self.keys)}
        rows = [place[key] for key in keys]
        return Outside(
            tuple(keys),
            {name: said[rows] for name, said in self.probabilities.items()},
            {name: said[rows] for name, said in self.votes.items()},
            self.notes,
        )


def read_outside(source: Source, pred_probs: "str | Array | None", votes: Sequence[str]) -> Outside:
    """What files, or an array of probabilities, say of the rows of ``source``; ``UsageError`` if they do not fit."""
    if pred_probs is None and not votes and not source.votes:
        return Outside()
    notes: list[str] = []
    probabilities = {} if pred_probs is None else {"pred_probs": _probabilities(pred_probs, source, notes)}
    judges = _own_votes(source)
    for file in votes:
        for name, said in _votes(file, source, notes).items():
            judges[name if name not in judges else f"{name} ({len(judges) + 1})"] = said
    return Outside(tuple(source.keys), probabilities, judges, tuple(notes))


def _own_votes(source: Source) -> dict[str, "Array"]:
    """What the table itself has of annotators; of many, all as one judge."""
    import numpy as np

    number = {name: index for index, name in enumerate(source.classes)}
    several = len(source.votes) > MOST_ANNOTATORS
    found: dict[str, Array] = {}
    for name, cells in source.votes.items():
        said = found.setdefault(
            f"{len(source.votes)} annotators" if several else name, np.zeros((len(source), len(source.classes)))
        )
        for row, label in enumerate(cells):
            if label is not None and label.strip() in number:
                said[row, number[label.strip()]] += 1
    return {name: said for name, said in found.items() if said.any()}


def _probabilities(given: "str | Array", source: Source, notes: list[str]) -> "Array":
    import numpy as np

    location = given if isinstance(given, str) else "(an array)"
    if isinstance(given, str) and ending(given) in SUFFIXES:
        table = _table(location, "--pred-probs")
        missing = [name for name in source.classes if name not in table.columns]
        if missing:
            raise UsageError(
                f"--pred-probs {location}: no column for class '{missing[0]}'"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                did_you_mean(missing[0], list(table.columns)) or "One column a class, named as the labels are.",
            )
        columns = [numbers(table.columns[name], table.decimal_comma) for name in source.classes]
        found, rows = np.stack(columns, axis=1), _rows_of(table, source, location, "--pred-probs", notes)
    else:
        found = (_array(given) if isinstance(given, str) else given).astype(np.float64)
        if found.ndim != 2 or found.shape[1] != len(source.classes):
            raise UsageError(
                f"--pred-probs {location}: an array of {' x '.join(map(str, found.shape)) or 'one number'}, where a "
                f"row of {len(source.classes)} probabilities is needed for each row",
                f"Columns are in the order of the classes: {', '.join(source.classes[:5])} ...",
            )
        rows = _in_order(len(found), source, f"--pred-probs {location}")
    total = found.sum(1)
    wrong = ~((np.abs(total - 1) <= ROUNDED) & (found >= 0).all(1))
    said = ~np.isnan(found).all(1)
    if (wrong & said).any():
        row = int(np.flatnonzero(wrong & said)[0])
        raise UsageError(
            f"--pred-probs {location}: row {row} sums to {total[row]:.4g}"
            + (", a number is negative" if (found[row] < 0).any() else ""),
            "Probabilities are needed, not logits: each row's sum to one.",
        )
    result = np.zeros((len(source), len(source.classes)))
    held = said & (rows >= 0)
    result[rows[held]] = found[held] / total[held, None]
    _tell_silence(f"--pred-probs {location}", result, source, notes)
    return result


def _votes(location: str, source: Source, notes: list[str]) -> dict[str, "Array"]:
    import numpy as np

    table = _table(location, "--votes")
    rows = _rows_of(table, source, location, "--votes", notes)
    judges = [name for name in table.columns if name not in KEYS]
    if not judges:
        raise UsageError(f"--votes {location}: no column beside the keys", "One column a judge holds the labels given.")
    number = {name: index for index, name in enumerate(source.classes)}
    found: dict[str, Array] = {}
    for name in judges:
        said = np.zeros((len(source), len(source.classes)))
        unknown: list[str] = []
        given = 0
        for row, label in zip(rows.tolist(), texts_of(table.columns[name]), strict=True):
            if label is None or row < 0:
                continue
            given += 1
            index = number.get(label.strip())
            if index is None:
                unknown.append(label)
            else:
                said[row, index] += 1
        if unknown and len(unknown) >= MOST_UNKNOWN * given:
            raise UsageError(
                f"--votes {location}: {len(unknown):,} of {given:,} labels in '{name}' are no classes, the first is "
                f"'{unknown[0]}'",
                did_you_mean(unknown[0], source.classes) or f"The classes are {', '.join(source.classes[:5])} ...",
            )
        if unknown:
            notes.append(
                f"--votes {location}: {len(unknown):,} of {given:,} labels in '{name}' are no classes and count as no "
                f"vote, the first is '{unknown[0]}'"
            )
        _tell_silence(f"--votes {location} ('{name}')", said, source, notes)
        found[f"{Path(location).stem}:{name}" if len(judges) > 1 else Path(location).stem] = said
    return found


def _table(location: str, option: str) -> RawTable:
    if ending(location) not in SUFFIXES:
        raise UsageError(f"{option} {location} is no table", f"One of {', '.join(SUFFIXES)}.")
    table = read_table(location, header=True)
    if table.malformed:
        broken = table.malformed[0]
        raise UsageError(f"{option} {location}: row {broken.position} cannot be read: {broken.reason}")
    return table


def _array(location: str) -> "Array":
    """The array of an .npy file, or the one of an .npz file that holds probabilities."""
    import numpy as np

    path = Path(location)
    try:
        check_regular(path, memory_bytes())
        with path.open("rb") as file:
            if path.suffix.lower() == ".npz":
                arrays = Arrays(file)
                names = [name for name in ARRAYS if name in arrays.names] or arrays.names
                if not names:
                    raise ValueError("it holds no array")
                found = arrays.take(names[0])
            else:
                found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
        raise UsageError(
            f"--pred-probs {location} cannot be read: {reason}", f"An .npy or .npz array, or {', '.join(SUFFIXES)}."
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise UsageError(f"--pred-probs {location} holds no numbers", "Save the probabilities as an array of floats.")
    return found


def _rows_of(table: RawTable, source: Source, location: str, option: str, notes: list[str]) -> "Array":
    """The row of ``source`` that each row of the table speaks of; -1 if there is none."""
    import numpy as np

    name = next((name for name in KEYS if name in table.columns and name not in source.classes), None)
    if name is None:
        return _in_order(len(table.positions), source, f"{option} {location}")
    place = {key: row for row, key in enumerate(source.keys)}
    keys = texts_of(table.columns[name])
    rows = np.array([-1 if key is None else place.get(key, -1) for key in keys], dtype=np.int64)
    strangers = int((rows < 0).sum())
    if strangers == len(rows):
        raise UsageError(
            f"{option} {location}: none of its keys is a row's, the first is '{keys[0]}'",
            f"A row's key is like '{source.keys[0]}': `curate show` and the reports name them.",
        )
    if strangers:
        notes.append(f"{option} {location}: {strangers:,} of {len(rows):,} keys are no row's and count for nothing")
    return rows


def _in_order(count: int, source: Source, told: str) -> "Array":
    """Rows without keys speak of the rows of the data set, or of all rows of its file."""
    import numpy as np

    rows = np.arange(count)
    if count == len(source):
        return rows
    if source.positions and count == max(source.positions) + 1:
        place = dict(zip(source.positions, range(len(source)), strict=True))
        return np.array([place.get(position, -1) for position in range(count)])
    raise UsageError(
        f"{told} has {count:,} rows, the training set {len(source):,}", "Give it a column `key` with the rows' keys."
    )


def _tell_silence(told: str, said: "Array", source: Source, notes: list[str]) -> None:
    silent = int((said.sum(1) == 0).sum())
    if silent == len(source):
        raise UsageError(f"{told} says nothing of any row")
    if silent:
        notes.append(f"{told} says nothing of {silent:,} of {len(source):,} rows")
