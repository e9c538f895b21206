"""A folder of class folders after verdicts: copies, links, or a list of the moves that lead to it.

Knows where a picture of another class lies; leaves which picture moves to ``changes``.
"""

import csv
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from curate.errors import UsageError
from curate.export.changes import Change
from curate.review.cells import quoted
from curate.sources import Source
from curate.sources.images import layout

MOVES = "moves.csv"


def export_pictures(
    parts: Sequence[tuple[Source, Mapping[int, Change]]], out: Path, how: Literal["copy", "link", "list"]
) -> None:
    """Write the pictures of the sources below ``out``; names that meet in one folder get their old class added."""
    root = Path(parts[0][0].location)
    folder, _, _ = layout(root)
    depth = len((folder or root).relative_to(root).parts)  # train/ or val/ before the class
    moves = []
    out.mkdir(parents=True, exist_ok=True)
    for source, changes in parts:
        folders = {
            text: PurePosixPath(key).parts[depth]
            for key, text in zip(source.keys, source.label_texts, strict=True)
            if text is not None
        }
        taken = {key for row, key in enumerate(source.keys) if row not in changes}
        for row, key in enumerate(source.keys):
            target: str | None = key
            if row in changes:
                label = changes[row].label
                target = None if label is None else _moved(key, depth, folders.get(label, label), taken)
                moves.append((key, target or ""))
            path = source.media_path(row)
            if target is not None and how != "list" and path is not None:
                _put(Path(path), out / target, how)
    if how == "list":
        with (out / MOVES).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["from", "to"], *([quoted(cell) for cell in move] for move in moves)])


def _moved(key: str, depth: int, folder: str, taken: set[str]) -> str:
    if not folder.strip() or folder in (".", "..") or "/" in folder or "\\" in folder:
        raise UsageError(f"'{folder}' is no name for a class folder", "Give the row another label.")
    parts = list(PurePosixPath(key).parts)
    old, parts[depth] = parts[depth], folder
    wanted = PurePosixPath(*parts)
    target, number = wanted, 1
    while target.as_posix() in taken:
        target = wanted.with_stem(f"{wanted.stem}-{old}" + (f"-{number}" if number > 1 else ""))
        number += 1
    taken.add(target.as_posix())
    return target.as_posix()


def _put(path: Path, target: Path, how: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "link":
        os.symlink(path.resolve(), target)
    else:
        shutil.copy2(path, target)
