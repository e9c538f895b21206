"""Which column of a table is the label, the key, the split and the input.

Knows names, and what the cells of a column look like; leaves making rows of them to `tables`.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from curate.errors import DataError
from curate.settings.specs import as_typed, did_you_mean, listed_names, whole
from curate.sources import labels
from curate.sources.base import DataOptions
from curate.sources.columns import InputColumn, classify, has_decimal_commas, numbers, texts_of
from curate.sources.label_columns import flags_among, one_label_each
from curate.sources.media_files import names_files, posix
from curate.sources.splits import EVALUATION, TRAIN
from curate.sources.table_files import RawTable

if TYPE_CHECKING:
    import pyarrow

LABEL_NAMES = (*labels.LABEL_NAMES, "class", "category")

SPLIT_NAMES = ("split", "subset", "partition", "part", "set", "fold", "usage", "phase", "dataset", "data_split")
"""Columns of these names that hold nothing but words for splits part the rows, if nobody says anything else."""

MOST_WORDS = 0.8
"""Share of the rows that such a column must have words for splits in; others are left out, and said."""

FEW = 20
"""Below so many rows, cells that all differ may do so by chance."""


def label_column(table: RawTable, location: str, options: DataOptions) -> str:
    """The name of the column that holds the labels. Raises ``DataError`` if no one column does."""
    if unlike := one_label_each(table, location, options).table.unlike:
        raise DataError(
            f"{location}: no label can be written back into it ({unlike}).",
            "Export the verdicts with --verdicts, or write the labels into a column first.",
        )
    return chosen(table, location, options)[1]


def chosen(table: RawTable, location: str, options: DataOptions) -> tuple[DataOptions, str]:
    """The options with the names of columns as the table spells them, and the column of the labels."""
    names = {
        option: column_named(table, asked, location, f"--{option}")
        for option in ("label", "id", "split", "group")
        if (asked := getattr(options, option)) is not None and (option != "group" or _is_column(asked, options))
    }
    if options.evaluation and options.split is not None and "split" not in names:
        names["split"] = options.split
    label = names.get("label") or _usual_label(table, location, options)
    named, split = names.get("id"), names.get("split")
    if split is None and options.input is None and not options.evaluation:
        split = _usual_split(table, label)
    return replace(options, label=label, id=named, split=split, group=names.get("group")), label


def _is_column(group: str, options: DataOptions) -> bool:
    """Whether ``--group`` must be a column here: a pattern is over keys, and an evaluation set may have none."""
    return "(" not in group and not options.evaluation


def column_named(table: RawTable, asked: str, location: str, who: str) -> str:
    """The column of this name or number; ``who`` asks for it. Raises ``DataError``."""
    there = list(table.columns)
    if asked in there:
        return asked
    if (place := whole(asked.removeprefix("-"))) is not None and place < len(there) + asked.startswith("-"):
        return there[int(asked)]  # from the end where a sign stands before it
    raise DataError(
        f"{location} has no column '{asked}' ({who}).",
        f"It holds {listed_names(there)}. {did_you_mean(asked, there)}".rstrip(),
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
    flags = flags_among(table)
    which = "Name the columns of the classes" if flags else "Name the one with the labels"
    asked = as_typed(",".join(flags) if flags else _like_a_label(table))
    raise DataError(
        f"{location}: no column is called {', '.join(LABEL_NAMES[:-1])} or {LABEL_NAMES[-1]}.",
        f"It holds {listed_names(there)}. {which}: --label {asked}.",
    )


def _usual_split(table: RawTable, label: str) -> str | None:
    """The column that says train and val, or such words, in nearly every row, if its name says so too; noted."""
    for name in table.columns:
        if name.lower() in SPLIT_NAMES and name != label:
            words = Counter((text or "").strip().lower() for text in texts_of(table.columns[name]))
            known = {word: count for word, count in words.items() if word in TRAIN or word in EVALUATION}
            if words.keys() & TRAIN and known.keys() - TRAIN and sum(known.values()) >= MOST_WORDS * words.total():
                table.notes.append(f"'{name}' says which rows train and which evaluate ({', '.join(sorted(known))})")
                return name
    return None


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


def input_columns(
    table: RawTable, label: str, location: str, options: DataOptions, folder: Path | None
) -> tuple[tuple[InputColumn, ...], list[str]]:
    """The columns that are the input: those asked for, else the one with pictures, else all that are left."""
    asked = None
    if options.input is not None:
        whole = options.input in table.columns
        parts = [options.input] if whole else [part.strip() for part in options.input.split(",")]
        asked = [column_named(table, part, location, "--input") for part in parts if part]
    taken = {label, options.id, options.split, options.group}
    names = asked if asked is not None else [name for name in table.columns if name not in taken]
    blank = [name for name in names if asked is None and _is_blank(table.columns[name])]
    names = [name for name in names if name not in blank]
    if not names:
        raise DataError(f"{location} has no column beside the label.", "Name the input with --input.")
    comma = table.decimal_comma and has_decimal_commas(table.columns[name] for name in names)
    notes = ["numbers are written with decimal commas"] if comma else []
    notes += [f"columns without a value were left out: {listed_names(blank)}"] if blank else []
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
        left = [f"the input is {alone.name}; columns not used: {listed_names(others)}"] if others else []
        return (alone,), [*(note for note in notes if note.startswith(alone.name)), *left]
    odd = [column.name for column in found if column.kind == "other"]
    if odd:
        notes.append(f"columns that are neither numbers nor texts were left out: {listed_names(odd)}")
        found = [column for column in found if column.kind != "other"]
    rows = len(table.positions)
    ids = _ids_among(found, table, rows)
    if ids and asked is None and len(found) > len(ids):
        notes.append(f"{listed_names(ids)} left out: another value in each row, as an id has (--id makes it the key)")
        found = [column for column in found if column.name not in ids]
    if not found:
        raise DataError(f"{location} has no column that can be an input.", "Name one with --input.")
    parts = [
        f"{called} {listed_names([column.name for column in found if column.kind == kind])}"
        for kind, called in (("number", "numbers in"), ("category", "categories in"), ("text", "free text in"))
        if any(column.kind == kind for column in found)
    ]
    return tuple(found), [f"input: {'; '.join(parts)}", *notes]


def _is_blank(cells: "pyarrow.ChunkedArray") -> bool:
    """Whether no cell holds anything, as a comma at the end of every line leaves a column."""
    from pyarrow import types

    if cells.null_count == len(cells) or not types.is_string(cells.type):
        return bool(cells.null_count == len(cells))
    return not any(cells.to_pylist())


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
