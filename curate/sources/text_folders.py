"""A folder of class folders of text files: one file a row, the folder's name is the label.

Knows which files are texts; how class folders lie is told by their paths, splits and all.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from curate.errors import NothingScanned
from curate.files.lines import decode_text
from curate.files.reading import read_regular
from curate.settings.specs import plain_text
from curate.sources.base import DataOptions, Source
from curate.sources.images import LITTER
from curate.sources.splits import EVALUATION, TRAIN
from curate.sources.table_files import rows_table
from curate.sources.tables import TableSource, table_sources

TEXTS = (".txt", ".text", "")
"""Endings of texts; mails and news often have none."""
UNLABELLED = ("unsup", "unlabeled", "unlabelled")
"""Folders of rows without a label, beside those of classes."""
BLANKS = 8192
"""First bytes that show whether a file is a text: no byte of them is 0."""
FEW = 200
"""Files that show whether a folder is one of texts."""


def holds_texts(root: Path) -> bool:
    """Whether class folders of texts lie there, two at least."""
    return any(_is_text(path) for path, _, _ in islice(_texts(root), FEW)) and len({one[2] for one in _texts(root)}) > 1


def open_texts(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """Training and evaluation set. Raises ``NothingScanned`` if no text lies in a class folder."""
    root = Path(location)
    rows = [
        {
            "file": plain_text(path.relative_to(root).as_posix()),
            "text": _content(path),
            "label": None if label in UNLABELLED else plain_text(label),
            **({"split": split} if split else {}),
        }
        for path, split, label in _texts(root)
        if _is_text(path)
    ]
    if not rows:
        raise NothingScanned(
            f"{location}: no text was found, so nothing was scanned.", f"Expected {location}/CLASS/x.txt."
        )
    table = rows_table(rows)
    table.notes.append(f"texts of {len(rows):,} files; the label is the folder's name")
    asked = DataOptions(
        input="text",
        label="label",
        id="file",
        split="split" if "split" in table.columns else None,
        classes=options.classes,
        name=options.name or root.resolve().name,
        group=options.group,
        evaluation=options.evaluation,
        like=options.like,
    )
    return table_sources(TableSource, table, location, asked)


def _texts(root: Path) -> Iterator[tuple[Path, str | None, str]]:
    """(file, split or None, label) of each file in a class folder, in the order of the paths."""
    found: list[tuple[Path, tuple[str, ...]]] = []
    for here, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name.lower() not in LITTER)
        parts = Path(here).relative_to(root).parts
        found += [(Path(here, name), parts) for name in sorted(files) if _may_be_text(name)]
    while found and len({parts[:1] for _, parts in found}) == 1 and len(found[0][1]) > 1:
        found = [(path, parts[1:]) for path, parts in found]  # one folder alone in another
    words = {*TRAIN, *EVALUATION}
    has_splits = any(parts[:1] and parts[0].lower() in TRAIN and len(parts) > 1 for _, parts in found)
    for path, parts in found:
        if not has_splits and parts:
            yield path, None, parts[0]
        elif has_splits and len(parts) > 1 and parts[0].lower() in words:
            yield path, parts[0].lower(), parts[1]


def _may_be_text(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    return not name.startswith(".") and (suffix in TEXTS or suffix[1:].isdigit())


def _content(path: Path) -> str | None:
    try:
        return decode_text(read_regular(path))[0]
    except OSError:  # a text that is not there is an unreadable row
        return None


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(BLANKS)
    except OSError:
        return False
