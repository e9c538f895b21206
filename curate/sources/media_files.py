"""Files that a column of a table names: where they lie.

A name is a path from the table's folder, or from a folder that was given. If none of the names leads anywhere so, other
ways are tried: folders beside the table, and the tail of paths that another machine wrote; a name without an ending
stands for the one picture that has it. A way is taken if it alone leads to a file for every row. Leaves what is in the
files to `images`.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from curate.errors import UnreadableRow
from curate.files.reading import read_regular
from curate.sources.images import LFS_REASON, LITTER, SUFFIXES, is_lfs_pointer
from curate.sources.pixels import FRAMES, MOST_HEADERS, told_frames

LOOKED_AT = 64
"""Names, from all over the column, that show whether it leads anywhere as it is."""
MOST_FOLDERS = 200
"""Folders beside a table that are looked into."""
MOST_ARE_THERE = 0.95
"""Share of the names whose files a folder beside the table must hold."""
NO_FILE = "no such file"


@dataclass(frozen=True)
class Way:
    """From a name to a file: the folders that it may lie in, and how many leading parts of the name are left off."""

    roots: tuple[Path, ...]
    dropped: int = 0

    def file(self, name: str) -> Path | None:
        """The file; None if there is none, or more than one."""
        parts = PurePosixPath(name).parts[self.dropped :]
        found = {_there(root.joinpath(*parts)) for root in self.roots} - {None} if parts else set()
        return found.pop() if len(found) == 1 else None

    def share(self, names: Sequence[str]) -> float:
        """Of the names that lead to a file."""
        return sum(self.file(name) is not None for name in names) / max(1, len(names))

    @property
    def told(self) -> str:
        """Its folders."""
        shown = " and ".join(f"{root.as_posix()}/" for root in self.roots[:3])
        return shown + (" ..." if len(self.roots) > 3 else "")


class MediaFiles:
    """The files of one column; ``hint`` says what to do if they are not there."""

    def __init__(self, column: str, names: Sequence[str], folder: Path, roots: Sequence[Path]) -> None:
        """``names`` as `posix` gives them; ``folder`` is the table's."""
        self.column, self._folder, self._names = column, folder, names
        self._note: str | None = None
        self.hint = f"Say where the files of '{column}' lie: --media-root FOLDER."
        self._ways = [Way((folder,)), *(Way((root,)) for root in roots)]
        if any(self._known(name) for name in _spread(names)):
            return
        distinct = [name for name in dict.fromkeys(names) if name]
        fitting = list(_fitting(distinct, [folder, *roots, *_beside(folder)]))
        if len(fitting) == 1:
            self._ways = [fitting[0][0]]
            self._note = f"{column}: {fitting[0][1]}"
        elif fitting:
            told = " and ".join(way.told for way, _ in fitting[:3])
            self.hint = f"Files of these names lie in {told}: say which with --media-root."
        elif any("://" in name for name in names[:LOOKED_AT]):
            self.hint = "These are addresses, and nothing is downloaded: fetch the files, and give --media-root FOLDER."

    @property
    def notes(self) -> list[str]:
        """How they were found, if not as the names say, and whether they hold several frames."""
        framed = [name for name in self._names if PurePosixPath(name).suffix.lower() in FRAMES]
        return [*filter(None, [self._note]), *told_frames(self.path(name) for name in framed[:MOST_HEADERS])]

    def path(self, name: str) -> Path:
        """Where the file of this name lies; where it would lie from the table's folder if it is not there."""
        return self._known(name) or self._folder / name

    def _known(self, name: str) -> Path | None:
        return next(filter(None, (way.file(name) for way in self._ways)), None)

    def content(self, name: str) -> bytes:
        """The bytes of the file of this name. Raises `UnreadableRow`."""
        path = self.path(name)
        try:
            content = read_regular(path)
        except FileNotFoundError as error:
            tried = f" (nor in {self._ways[1].told})" if len(self._ways) > 1 else ""
            said = f"{name} cannot be opened: there is no file {path.as_posix()}{tried}, named by '{self.column}'"
            raise UnreadableRow(said, NO_FILE, self._like_it(path) or self.hint) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UnreadableRow(f"{name} cannot be opened: {reason}", reason) from error
        if not content:
            raise UnreadableRow("the file is empty")
        if is_lfs_pointer(content[:64]):
            raise UnreadableRow(LFS_REASON)
        return content

    def _like_it(self, path: Path) -> str:
        """What to do if a picture of this name with another ending lies there."""
        other = _there(path.with_suffix("")) if path.suffix else None
        if other is None:
            return ""
        return f"{other.as_posix()} is there: do the names in '{self.column}' have another ending than the files?"


def names_files(names: Sequence[str], folder: Path, roots: Sequence[Path]) -> bool:
    """Whether these texts are names of pictures without their endings: each another one, and each leads to one."""
    if len(set(names)) < len(names) or any(len(name) > 255 for name in names):
        return False
    places = [folder, *roots, *_beside(folder)]
    return any(way.share(names) == 1 for way in [*(Way((root,)) for root in places), _together(names, places)])


def posix(name: str) -> str:
    """A path as this system has it: backslashes of Windows turned."""
    name = name.strip()
    return PureWindowsPath(name).as_posix() if "\\" in name and "/" not in name else name


def relative(names: Sequence[str], folder: Path) -> list[str]:
    """Names as keys: relative to the table's folder, or to what all absolute ones lie in."""
    absolute = [name for name in names if _is_absolute(name)]
    if not absolute:
        return [name or "no file" for name in names]
    folder = folder.resolve()
    inside = all(Path(name).is_relative_to(folder) for name in absolute)
    base = folder.as_posix() if inside else os.path.commonpath([PurePosixPath(name).parent for name in absolute])
    return [Path(os.path.relpath(name, base)).as_posix() if _is_absolute(name) else name or "no file" for name in names]


def _is_absolute(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or (PureWindowsPath(name).is_absolute() and name[1:2] == ":")


def _fitting(names: Sequence[str], places: Sequence[Path]) -> Iterator[tuple[Way, str]]:
    """Ways under which every name leads to a file, each to another one; of ways to the same files the first."""
    seen: set[tuple[Path | None, ...]] = set()
    shortest = min((len(PurePosixPath(name).parts) for name in names), default=0)
    ways = [Way((root,), dropped) for dropped in range(shortest) for root in places]
    for way in [*ways, _together(names, places)]:
        if len(way.roots) > 1 and seen:
            return
        # A path of another machine says less of where its file lies here: there all must be found.
        least = MOST_ARE_THERE if way.dropped == 0 else 1.0
        if way.share(_spread(names)) < least or way.share(names) < least:
            continue
        files = tuple(way.file(name) for name in names)
        known = [file for file in files if file is not None]
        if len(set(known)) == len(known) and files not in seen:
            seen.add(files)
            yield way, _said(way, names[0])


def _together(names: Sequence[str], places: Sequence[Path]) -> Way:
    """The folders that hold some of the names, as one."""
    return Way(tuple(root for root in places if any(Way((root,)).file(name) for name in _spread(names))))


def _said(way: Way, name: str) -> str:
    where = f"the files were found in {way.told}"
    if not way.dropped:
        return where
    tail = "/".join(PurePosixPath(name).parts[way.dropped :])
    return f"no path leads to a file here; {where} by the tails of the paths ({tail}), each only once"


def _spread(names: Sequence[str]) -> Sequence[str]:
    return names[:: max(1, len(names) // LOOKED_AT)]


def _beside(folder: Path) -> list[Path]:
    """Folders in that of the table, and those in them."""
    found: list[Path] = []
    level = [folder]
    for _ in range(2):
        level = [
            child
            for place in level
            for child in sorted(place.iterdir())
            if child.is_dir() and not child.name.startswith(".") and child.name.lower() not in LITTER
        ][:MOST_FOLDERS]
        found += level
    return found


def _there(path: Path) -> Path | None:
    """The file; else the one picture whose name is the same but for case and form of letters, or has an ending more.

    None if there is none, or several: macOS writes accents as signs of their own, Windows knows no case.
    """
    try:
        if path.is_file():
            return path
        names = _by_name(path.parent, path.parent.stat().st_mtime_ns)
    except (OSError, ValueError):  # a name that no file can have
        return None
    named = names.get(_folded(path.name), ())
    return named[0] if len(named) == 1 else None


@cache
def _by_name(folder: Path, _changed: int) -> dict[str, list[Path]]:
    """Pictures of a folder by their names, with and without ending; read anew if the folder changed."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir():
        if path.suffix.lower() in SUFFIXES:
            found[_folded(path.name)].append(path)
            found[_folded(path.stem)].append(path)
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def folder_of(location: str) -> Path:
    """The folder that names in a table are relative to: of shards, theirs."""
    path = Path(location)
    return path if path.is_dir() else path.parent
