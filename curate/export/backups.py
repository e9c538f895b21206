"""Changing the scanned files themselves, and taking it back: a backup first, then all of the changes or none.

Knows files, folders and the record of a backup; leaves what changes to others. A change is a picture that moves (into
the backup, where it is dropped), or a file or folder whose place another one takes, made beside it before.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from curate.errors import DataError, UsageError
from curate.files import strict_json
from curate.files.reading import read_text
from curate.settings.specs import as_typed

RECORD = "record.json"


@dataclass(frozen=True)
class SavedFile:
    """A change of what lies at ``path`` (absolute)."""

    how: Literal["move", "replace"]
    path: str
    to: str | None = None
    """Where it moves; None: into the backup. For ``replace``: what takes its place."""
    before: str | None = None
    """For ``replace``: the digest of what was read, and of what takes its place."""
    after: str | None = None
    root: str = ""
    """For ``move``: folders below it that are left empty are taken away, as git does."""
    kept: str = ""
    """Its name in the backup."""

    def done(self, backup: Path) -> bool:
        """Does it stand as the change left it? Raises ``DataError`` where it is neither that nor as it was."""
        path = Path(self.path)
        if self.how == "replace":
            now = digest(path) if path.exists() else None
            if now not in (self.before, self.after):
                raise DataError(f"{path} has changed since", f"What it was is {backup / self.kept}.")
            return now == self.after
        moved = os.path.lexists(self.to or backup / self.kept)
        if moved == os.path.lexists(path):
            raise DataError(
                f"{path} {'is there again' if moved else 'is gone'}", f"The moves are listed in {backup / RECORD}."
            )
        return moved


@dataclass(frozen=True)
class Backup:
    """The folder of a backup, and the files that it can put back."""

    folder: Path
    entries: tuple[SavedFile, ...]

    @property
    def digest(self) -> str:
        """By this a database knows its own records from a stranger's."""
        plain = json.dumps([asdict(entry) for entry in self.entries], sort_keys=True)
        return hashlib.sha256(plain.encode("ascii")).hexdigest()

    def write(self) -> None:
        """The record, on the disk before anything else is touched."""
        text = json.dumps({"entries": [asdict(entry) for entry in self.entries]}, indent=1)
        partial = self.folder / f".{RECORD}"
        with partial.open("w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / RECORD)


def digest(path: Path) -> str:
    """sha256 of a file, or of the names and contents of all files of a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file_path in sorted(each for each in path.rglob("*") if each.is_file()):
        name = os.fsencode(file_path.relative_to(path))
        whole.update(str(len(name)).encode() + name + digest(file_path).encode())
    return whole.hexdigest()


def remove(path: Path) -> None:
    """Take away a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace_all(entries: Sequence[SavedFile], folder: Path, register: Callable[[Backup], None]) -> Backup:
    """Make the changes, after a backup of what they would lose. Raises ``CurateError`` with nothing changed.

    ``register`` makes the backup known where ``revert`` asks for it, before anything is changed.
    """
    if folder.exists():
        raise UsageError(f"The backup folder {folder.as_posix()} is there already", "Name another with --backup.")
    named = [replace(each, kept=f"{number}-{Path(each.path).name}") for number, each in enumerate(entries)]
    backup = Backup(folder.absolute(), tuple(named))
    begun: list[SavedFile] = []
    try:
        folder.mkdir(parents=True)
        for entry in named:
            if entry.how == "replace":
                _copy(Path(entry.path), folder / entry.kept)
                if digest(folder / entry.kept) != entry.before:
                    raise DataError(f"{entry.path} was changed while it was read", "Run the command again.")
        backup.write()
        register(backup)
        for entry in named:
            begun.append(entry)
            _do(entry, folder)
    except BaseException as error:
        broken = _take_back(begun, folder)
        if broken:
            raise UsageError(
                f"{_reason(error, folder)}, and {len(broken)} of the changes made before could not be taken back",
                f"Mend that, then `curate export --revert {as_typed(str(folder))}`.",
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise UsageError(_reason(error, folder), "Nothing was changed.") from error
        raise
    return backup


def _take_back(begun: Sequence[SavedFile], folder: Path) -> list[SavedFile]:
    """Undo the entries; those that could not be."""
    broken = []
    for entry in reversed(begun):
        try:
            _undo(entry, folder)
        except (OSError, DataError):
            broken.append(entry)
    return broken


def _reason(error: BaseException, folder: Path) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or folder} cannot be changed: {error.strerror or error}"
    return str(error) or type(error).__name__


def revert(backup: Backup, roots: Sequence[Path]) -> None:
    """Put back what ``replace_all`` changed. Raises ``CurateError`` where something has changed since, before any.

    Nothing outside of ``roots``, the files and folders of the data set, is written, moved or taken away.
    """
    folder = backup.folder
    for entry in backup.entries:
        _refuse_outside(entry, roots)
    for entry in backup.entries:
        if entry.done(folder) and entry.how == "replace" and digest(folder / entry.kept) != entry.before:
            raise DataError(f"{folder / entry.kept} is not what was put there", f"Nothing was changed. See {RECORD}.")
    try:
        for entry in reversed(backup.entries):
            _undo(entry, folder)
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder} cannot be put back: {error.strerror or error}",
            "Mend that, and run the command again: it goes on where it stopped.",
        ) from error


def _refuse_outside(entry: SavedFile, roots: Sequence[Path]) -> None:
    """A folder may be made, moved or linked by anybody since: where a path leads is looked at now."""
    own = Path(entry.kept)
    named = [entry.path, *([entry.to] if entry.to is not None and entry.how == "move" else [])]
    sound = own.name == entry.kept and entry.kept not in ("", ".", "..")
    for name in named:
        path = Path(name)
        place = path.parent.resolve() / path.name
        inside = any(place == root or place.is_relative_to(root) for root in roots)
        sound = sound and path.is_absolute() and path.name not in ("", ".", "..") and inside
    if entry.root:
        sound = sound and any(Path(entry.root).resolve() == root for root in roots)
    if not sound:
        raise UsageError(f"{entry.path} lies outside of the data set: nothing was put back", f"See {RECORD}.")


def read_record(folder: Path) -> Backup:
    """The record of a backup. Raises ``UsageError`` where there is none."""
    try:
        told: dict[str, Any] = strict_json.loads(read_text(folder / RECORD))
        return Backup(folder.absolute(), tuple(SavedFile(**entry) for entry in told["entries"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{folder.as_posix()} is no backup of curate's: it has no readable {RECORD}",
            "Name the folder that `curate export --in-place` told.",
        ) from None


def _do(entry: SavedFile, backup: Path) -> None:
    path = Path(entry.path)
    if entry.how == "replace":
        assert entry.to is not None
        if digest(path) != entry.before:
            raise DataError(f"{path} was changed while it was read", "Run the command again.")
        _take_place(Path(entry.to), path)
        return
    target = Path(entry.to) if entry.to is not None else backup / entry.kept
    if os.path.lexists(target):
        raise DataError(f"{target} is there already", "Scan again, then export.")
    target.parent.mkdir(parents=True, exist_ok=True)
    _rename(path, target)
    _tidy(path.parent, entry.root)


def _undo(entry: SavedFile, backup: Path) -> None:
    path, target = Path(entry.path), Path(entry.to or "")
    if not entry.done(backup):
        if entry.how == "move" and entry.to is not None:
            _tidy(target.parent, entry.root)  # a folder that was made for it
        return
    if entry.how == "replace":
        beside = path.with_name(f".{path.name}.curate-back")
        _copy(backup / entry.kept, beside)
        _take_place(beside, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _rename(Path(entry.to or backup / entry.kept), path)
    if entry.to is not None:
        _tidy(target.parent, entry.root)


def _rename(path: Path, to: Path) -> None:
    """Not shutil.move, which leaves a copy behind where the file may be read but not taken away."""
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(path, to, follow_symlinks=False)
        try:
            path.unlink()
        except OSError:
            to.unlink()
            raise


def _tidy(folder: Path, root: str) -> None:
    """Take away folders below the root that are empty, from this one upwards."""
    while folder.is_relative_to(root) and folder != Path(root) and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _take_place(new: Path, path: Path) -> None:
    """A file is replaced at once; of a folder there is none for the moment between two renames."""
    if not new.is_dir():
        shutil.copymode(path, new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
        return
    old = path.with_name(f".{path.name}.curate-old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old)


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copy2(path, to)
