"""A folder of tables: a training and an evaluation table, shards of one, or pictures beside a table of their labels.

Knows which files of a folder belong to which split by their names; leaves the tables themselves to `tables`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from curate.errors import DataError
from curate.files.reading import ending
from curate.settings.specs import as_typed, is_pattern, matches
from curate.sources.base import DataOptions, Source
from curate.sources.splits import EVALUATION, TRAIN
from curate.sources.table_files import SUFFIXES, RawTable, read_table
from curate.sources.tables import TableSource, open_table, table_sources
from curate.sources.text_folders import open_texts

INNER = ("data", "default")
"""Folders that a clone of a hub keeps its shards in."""
_SHARD = re.compile(r"[-_.]?\d+[-_]of[-_]\d+$|[-_.]part[-_.]?\d+$", re.IGNORECASE)


def tables_in(root: Path) -> list[Path]:
    """Tables that lie in a folder, in the folder of a hub's data in it, or in folders named after splits."""
    places = [root, *(root / name for name in (*INNER, *TRAIN, *EVALUATION) if (root / name).is_dir())]
    found = [
        path
        for place in places
        for path in sorted(place.iterdir())
        if ending(path) in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    # Beside other tables a .json tells about them.
    return [path for path in found if ending(path) != ".json"] or found


def by_split(root: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """The files of each split, `train` and words of `EVALUATION`; under the empty word those that name none."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        words = re.split(r"[-_. ]+", path.stem.lower())
        if path.parent != root:
            words = [path.parent.name.lower(), *words]
        split = next((word for word in words if word in TRAIN or word in EVALUATION), "")
        found["train" if split in TRAIN else split].append(path)
    return dict(found)


def open_tables(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """Those of a table, of a folder of tables or texts, or of the files that a pattern means, joined."""
    path = Path(location)
    if path.is_dir():
        return open_folder(location, options) if tables_in(path) else open_texts(location, options)
    if path.exists() or not is_pattern(location):
        return open_table(location, options)
    files = [Path(name) for name in matches(location)]
    if not files:
        raise DataError(f"There is no file or folder {location}.", "No file has a name that this pattern means.")
    options = replace(options, name=options.name or files[0].parent.resolve().name)
    return _open(files, files[0].parent.as_posix(), options)


def open_folder(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """Training and evaluation set of a folder's tables. Raises ``DataError`` if their names do not tell them apart."""
    root = Path(location)
    splits = by_split(root, tables_in(root))
    unnamed = splits.pop("", [])
    if "train" not in splits and len({_base(path) for path in unnamed}) == 1:
        splits["train"] = unnamed
    if "train" not in splits:
        listed = ", ".join(path.relative_to(root).as_posix() for path in tables_in(root)[:6])
        first = tables_in(root)[0]
        raise DataError(
            f"{location} holds tables, and none is named as the training set: {listed}.",
            f"Name the one to read: curate scan {as_typed(first.as_posix())}.",
        )
    options = replace(options, name=options.name or root.resolve().name)
    before = _read(splits["train"], options)
    train, own_evaluation = table_sources(TableSource, before, _where(splits["train"], location), options)
    held_out = next((word for word in EVALUATION if word in splits), None)
    left = [path.name for word, paths in splits.items() if word not in ("train", held_out) for path in paths]
    left += [path.name for path in unnamed if path not in splits["train"]]
    if left:
        train.notes = [*train.notes, f"tables that were left out: {', '.join(left[:6])}"]
    if held_out is None:
        return train, own_evaluation
    asked = replace(options, classes=tuple(train.classes), evaluation=True, like=train, name=train.name)
    held = _read(splits[held_out], options)
    if isinstance(train, TableSource) and train.label in before.columns and train.label not in held.columns:
        told = f"{held_out} is no evaluation set: it has no column '{train.label}'"
        train.notes = [*train.notes, told]
        return train, own_evaluation
    return train, table_sources(TableSource, held, _where(splits[held_out], location), asked)[0]


def _open(files: list[Path], location: str, options: DataOptions) -> tuple[Source, Source | None]:
    return table_sources(TableSource, _read(files, options), _where(files, location), options)


def _read(files: list[Path], options: DataOptions) -> RawTable:
    """One file as it lies; of several the rows follow each other in the order given."""
    tables = [read_table(path.as_posix(), header=options.header) for path in files]
    return tables[0] if len(tables) == 1 else _joined(tables, files)


def _where(files: list[Path], location: str) -> str:
    return files[0].as_posix() if len(files) == 1 else location


def _joined(tables: list[RawTable], files: list[Path]) -> RawTable:
    import pyarrow

    names = list(tables[0].columns)
    for table, path in zip(tables, files, strict=True):
        if set(table.columns) != set(names):
            odd = sorted(set(table.columns) ^ set(names))
            raise DataError(
                f"{path.as_posix()} has other columns than {files[0].name}: {', '.join(odd[:4])}.",
                "Shards of one table have the same columns; name the table to read.",
            )
    columns: dict[str, pyarrow.ChunkedArray] = {}
    for name in names:
        parts = [table.columns[name] for table in tables]
        kind = parts[0].type
        try:
            columns[name] = pyarrow.chunked_array([chunk for part in parts for chunk in part.cast(kind).chunks], kind)
        except pyarrow.ArrowException as error:
            raise DataError(
                f"'{name}' is {kind} in {files[0].name} and of another type in some other shard: "
                f"{str(error).splitlines()[0]}."
            ) from error
    starts = [0]
    for table in tables:
        starts.append(starts[-1] + len(table.positions) + len(table.malformed))
    notes = [f"{len(files)} files are one table: {files[0].name} to {files[-1].name}"]
    return RawTable(
        columns,
        [start + place for start, table in zip(starts, tables, strict=False) for place in table.positions],
        [
            replace(row, position=start + row.position)
            for start, table in zip(starts, tables, strict=False)
            for row in table.malformed
        ],
        decimal_comma=any(table.decimal_comma for table in tables),
        notes=[*notes, *dict.fromkeys(note for table in tables for note in table.notes)],
        orders=tables[0].orders,
    )


def _base(path: Path) -> str:
    """The name without the number of a shard."""
    return _SHARD.sub("", path.stem)
