"""Labels that are no single column: one column a class, one column an annotator, one row an annotation.

Makes one column of labels of them. Votes that made a label are not counted beside it: as experts they would explain
it, and take the say from those that do not know it (measured: docs/how-to/labels.md). If one column is the label, what
other annotators say is kept as their votes; what these are worth is left to suspicion.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from curate.errors import DataError
from curate.settings.specs import listed_names
from curate.sources.base import DataOptions
from curate.sources.columns import texts_of
from curate.sources.labels import LABEL_NAMES, SCOPE
from curate.sources.table_files import RawTable

if TYPE_CHECKING:
    pass

MADE = "label"
"""The name of a column of labels that was made of others, if it is free."""
MOST_ANNOTATORS = 8
"""Beyond so many annotators all of them count as one judge, who may give a row several labels."""
MOST_ITEMS = 2 / 3
"""Share of the rows that the items may be, at most, if a row is one annotation of an item."""
_PEOPLE = r"annotator|annotater|rater|coder|labell?er|worker|judge|expert|reviewer|crowd(?:worker)?|turker|human"
_ONE_OF_SEVERAL = re.compile(rf"(?:{_PEOPLE}|annotation|vote)s?[-_ ]?(?:\d+|[a-z])(?:[-_ ]?label)?", re.IGNORECASE)
_WHO = re.compile(rf"(?:{_PEOPLE})(?:[-_ ]?(?:id|name))?", re.IGNORECASE)
_YES = {"1", "1.0", "true", "yes", "y", "x"}
_NO = {"0", "0.0", "false", "no", "n", None}


@dataclass(frozen=True)
class Labelled:
    """A table with one column of labels; ``votes`` by annotator who had no part in it, a label or None a row."""

    table: RawTable
    options: DataOptions
    votes: Mapping[str, Sequence[str | None]]


def one_label_each(table: RawTable, location: str, options: DataOptions) -> Labelled:
    """The table with its labels in one column. Raises ``DataError`` if a row of classes has several."""
    there = list(table.columns)
    asked = options.label
    if asked is not None and asked not in there and "," in asked:
        parts = [part.strip() for part in asked.split(",") if part.strip()]
        if len(parts) > 1 and set(parts) <= set(there):
            cells = {name: texts_of(table.columns[name]) for name in parts}
            made = _of_classes if _are_flags(cells) else _of_annotators
            return made(table, cells, options, location)
    usual = asked or next((name for name in there if name.lower() in (*LABEL_NAMES, "class", "category")), None)
    people = [name for name in there if _ONE_OF_SEVERAL.fullmatch(name) and name not in (asked, options.id)]
    if len(people) > 1 and options.input is None:
        cells = {name: texts_of(table.columns[name]) for name in people}
        if usual is None and _speak_alike(cells):
            return _of_annotators(table, cells, options, location)
        if usual in there and usual is not None and _speak_of(cells, texts_of(table.columns[usual])):
            said = f"{listed_names(people)}: what annotators say of '{usual}', counted as their votes and no input"
            return Labelled(_without(table, people, said), options, cells)
    who = next((name for name in there if _WHO.fullmatch(name) and name not in (asked, options.id)), None)
    if who is not None and usual in there and usual is not None:
        return _of_annotations(table, who, usual, options) or Labelled(table, options, {})
    return Labelled(table, options, {})


def flags_among(table: RawTable) -> list[str]:
    """The last columns of a table that are a class each: 1 in one of them in every row, 0 in the others."""
    found: dict[str, list[str | None]] = {}
    for name in reversed(table.columns):
        cells = _plain(texts_of(table.columns[name]))
        if not set(cells) <= _YES | _NO:
            break
        found[name] = cells
        if len(found) > 1 and all(sum(cell in _YES for cell in row) == 1 for row in zip(*found.values(), strict=True)):
            return list(found)[::-1]
    return []


def _plain(cells: Sequence[str | None]) -> list[str | None]:
    return [None if cell is None else cell.strip().lower() for cell in cells]


def _are_flags(cells: Mapping[str, Sequence[str | None]]) -> bool:
    return all(set(_plain(column)) <= _YES | _NO for column in cells.values())


def _of_classes(
    table: RawTable, cells: Mapping[str, Sequence[str | None]], options: DataOptions, location: str
) -> Labelled:
    """The name of the column that says yes; none of them is a blank label."""
    texts: list[str | None] = []
    for position, row in zip(table.positions, zip(*map(_plain, cells.values()), strict=True), strict=True):
        yes = [name for name, cell in zip(cells, row, strict=True) if cell in _YES]
        if len(yes) > 1:
            raise DataError(f"{location}: row {position} is {' and '.join(yes[:3])} at once.", SCOPE)
        texts.append(yes[0] if yes else None)
    said = f"the label is the column that says yes: {listed_names(list(cells))}"
    table, name = _with(_without(table, list(cells), said), texts)
    return Labelled(table, replace(options, label=name), {})


def _of_annotators(
    table: RawTable, cells: Mapping[str, Sequence[str | None]], options: DataOptions, location: str
) -> Labelled:
    """What most annotators say; of a tie what is said more often in all."""
    texts, ties = _majority([list(row) for row in zip(*cells.values(), strict=True)])
    said = f"the label is what most of {listed_names(list(cells))} say{_told_ties(ties)}"
    table, name = _with(_without(table, list(cells), said), texts)
    return Labelled(table, replace(options, label=name), {})


def _of_annotations(table: RawTable, who: str, label: str, options: DataOptions) -> Labelled | None:
    """A row for each item of a table with a row for each annotation; None if it is none."""
    people = texts_of(table.columns[who])
    item = _item_column(table, people, {who, label, options.split, options.group}, options)
    if item is None:
        return None
    places: dict[str | None, list[int]] = defaultdict(list)
    for row, value in enumerate(texts_of(table.columns[item])):
        places[value].append(row)
    given = texts_of(table.columns[label])
    texts, ties = _majority([[given[row] for row in rows] for rows in places.values()])
    first = [rows[0] for rows in places.values()]
    said = (
        f"{len(given):,} annotations by {len(set(people) - {None}):,} in '{who}' are {len(first):,} rows, one for each "
        f"'{item}'; the label is what most of them say{_told_ties(ties)}"
    )
    kept = {name: column.take(first) for name, column in table.columns.items()}
    positions = [table.positions[row] for row in first]
    table, _ = _with(_without(replace(table, columns=kept, positions=positions), [who, label], said), texts, label)
    return Labelled(table, options, {})


def _item_column(
    table: RawTable, people: Sequence[str | None], taken: set[str | None], options: DataOptions
) -> str | None:
    """The column that says which item an annotation is of: with many values, each from an annotator once."""
    names = [options.id] if options.id in table.columns else [name for name in table.columns if name not in taken]
    found: list[tuple[int, str]] = []
    for name in filter(None, names):
        try:
            values = texts_of(table.columns[name])
        except NotImplementedError:
            continue
        items = len(set(values))
        if 1 < items <= MOST_ITEMS * len(values) and len(set(zip(values, people, strict=True))) == len(values):
            found.append((items, name))
    return max(found)[1] if found else None


def _majority(votes: Sequence[Sequence[str | None]]) -> tuple[list[str | None], int]:
    """The label that most say of each row, None if nobody says one, and how many rows are ties."""
    often = Counter(label.strip() for row in votes for label in row if label is not None)
    found: list[str | None] = []
    ties = 0
    for row in votes:
        counts = Counter(label.strip() for label in row if label is not None)
        most = max(counts.values(), default=0)
        best = [label for label, count in counts.items() if count == most]
        ties += len(best) > 1
        found.append(min(best, key=lambda label: (-often[label], label), default=None))
    return found, ties


def _told_ties(ties: int) -> str:
    return f" ({ties:,} are ties: the label that is more frequent in all)" if ties else ""


def _speak_alike(cells: Mapping[str, Sequence[str | None]]) -> bool:
    """Whether these columns hold the same few labels."""
    values = [{cell for cell in column if cell is not None} for column in cells.values()]
    every = set().union(*values)
    rows = max(len(column) for column in cells.values())
    return 2 <= len(every) <= max(10, rows // 5) and all(2 * len(own) >= len(every) for own in values)


def _speak_of(cells: Mapping[str, Sequence[str | None]], given: Sequence[str | None]) -> bool:
    known = {text.strip() for text in given if text is not None}
    said = [cell.strip() for column in cells.values() for cell in column if cell is not None]
    return bool(said) and sum(cell in known for cell in said) >= 0.9 * len(said)


def _without(table: RawTable, names: Sequence[str], said: str) -> RawTable:
    columns = {name: column for name, column in table.columns.items() if name not in names}
    return replace(table, columns=columns, notes=[*table.notes, said])


def _with(table: RawTable, texts: Sequence[str | None], name: str = MADE) -> tuple[RawTable, str]:
    """The table with a column of labels, and what that is called."""
    import pyarrow

    while name in table.columns:
        name = f"{name} (of several)"
    column: pyarrow.ChunkedArray = pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])
    return replace(table, columns={**table.columns, name: column}, unlike="the labels are made of several cells"), name
