"""A folder of class folders after verdicts: copies, links, or a list of the moves that lead to it.

Knows where a picture of another class lies; leaves which picture moves to ``changes``.
"""

import csv
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.errors import UsageError
from curate.export.changes import Change
from curate.files.cells import quoted
from curate.settings.media import MediaRoots, outside
from curate.sources import Source
from curate.sources.images import layout

MOVES = "moves.csv"
Part = tuple[Source, Mapping[int, Change]]


@dataclass(frozen=True)
class Move:
    """A picture, and where it goes: both below ``root``; None: it is dropped."""

    root: Path
    source: Path
    target: Path | None


def moves(parts: Sequence[Part]) -> list[Move]:
    """The moves of the sources below one root; a name that any file has gets the old class added."""
    root = Path(parts[0][0].location)
    folder, _, _ = layout(root)
    depth = len((folder or root).relative_to(root).parts)  # train/ or val/ before the class
    found = []
    for source, changes in parts:
        files = [_below(root, source, row) for row in range(len(source))]
        folders = {
            text: file.parts[depth] for file, text in zip(files, source.label_texts, strict=True) if text is not None
        }
        taken = {str(file) for file in files}
        for row, change in sorted(changes.items()):
            target = None
            if change.label is not None:
                target = root / _moved(files[row], depth, folders.get(change.label, change.label), root, taken)
            found.append(Move(root, root / files[row], target))
    return found


def export_pictures(parts: Sequence[Part], out: Path, how: Literal["copy", "link", "list"], roots: MediaRoots) -> None:
    """Write the pictures of the sources below ``out``. Raises ``UsageError`` where one lies outside of ``roots``."""
    root = Path(parts[0][0].location)
    found = moves(parts)
    out.mkdir(parents=True, exist_ok=True)
    if how == "list":
        names = [[_name(root, move.source), _name(root, move.target)] for move in found]
        with (out / MOVES).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["from", "to"], *([quoted(cell) for cell in row] for row in names)])
        return
    moved = {move.source: move.target for move in found}
    for source, _ in parts:
        for row in range(len(source)):
            path = root / _below(root, source, row)
            target = moved.get(path, path)
            if target is not None:
                if not roots.holds(path):
                    raise outside(path)
                _put(path, out / target.relative_to(root), how)


def _below(root: Path, source: Source, row: int) -> Path:
    path = source.file(row)
    assert path is not None  # a folder of class folders has a file for each row
    return path.relative_to(root)


def _name(root: Path, path: Path | None) -> str:
    return "" if path is None else os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _moved(file: Path, depth: int, folder: str, root: Path, taken: set[str]) -> Path:
    if not folder.strip() or folder in (".", "..") or "/" in folder or "\\" in folder or "\0" in folder:
        raise UsageError(f"'{folder}' is no name for a class folder", "Give the row another label.")
    parts = list(file.parts)
    old, parts[depth] = parts[depth], folder
    wanted = Path(*parts)
    target, number = wanted, 1
    while str(target) in taken or os.path.lexists(root / target):
        target = wanted.with_stem(f"{wanted.stem}-{old}" + (f"-{number}" if number > 1 else ""))
        number += 1
    taken.add(str(target))
    return target


def _put(path: Path, target: Path, how: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "link":
        os.symlink(path.resolve(), target)
    else:
        shutil.copy2(path, target)
