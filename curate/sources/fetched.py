"""Copies on this machine of what lies elsewhere or packed: addresses that fsspec opens, zip and tar archives.

A copy is made once, in the user's cache folder, under a name that changes with what it was made of; deleting the folder
costs nothing but time. Knows nothing of what is in it.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.errors import DataError

ARCHIVES = (".zip", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar")
BACKENDS = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "az": "adlfs",
    "abfs": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "sftp": "paramiko",
}
"""The package that opens addresses of a kind, beside fsspec."""


def cache_folder() -> Path:
    """Where copies are kept: ``$XDG_CACHE_HOME/curate``, ``~/.cache/curate``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curate"


def is_copy(path: Path) -> bool:
    """Whether it lies in the cache folder."""
    return path.resolve().is_relative_to(cache_folder().resolve())


def is_archive(path: Path) -> bool:
    """Whether its name ends as that of an archive of several files."""
    return path.name.lower().endswith(ARCHIVES)


def fetched(address: str) -> Path:
    """The copy of the file or folder at an address. Raises ``DataError`` that says what is missing if it has none."""
    scheme = address.partition("://")[0].lower()
    if scheme in ("file", "local"):
        return Path(address.partition("://")[2])
    try:
        import fsspec
    except ImportError as error:
        hint = f"pip install fsspec {BACKENDS.get(scheme, '')}".rstrip()
        raise DataError(f"{address} needs fsspec, which is not installed.", f"`{hint}`, or copy the data.") from error
    try:
        files, inner = fsspec.core.url_to_fs(address)
        if not files.exists(inner):
            raise DataError(f"There is no file or folder {address}.", "Is the address whole, and may you read it?")
        is_folder = bool(files.isdir(inner)) and not files.isfile(inner)
        state = _state(files, inner, is_folder)
        return _kept(f"{address} {state}", Path(inner).name or "data", lambda to: _copy(files, inner, to, is_folder))
    except ImportError as error:
        package = BACKENDS.get(scheme)
        hint = f"`pip install {package}`, or copy the data." if package else "Copy the data."
        raise DataError(f"{address}: a package for {scheme}:// is missing ({error}).", hint) from error
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{address} cannot be read: {reason}.", "Check the address and your access to it.") from error


def unpacked(path: Path) -> Path:
    """The folder with an archive's files, or the one file that it holds. Raises ``DataError``."""
    found = path.stat()
    what = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
    name = path.name[: -len(next(end for end in sorted(ARCHIVES, key=len, reverse=True) if is_named(path, end)))]
    folder = _kept(what, name or "data", lambda to: _unpack(path, to))
    inside = [child for child in folder.iterdir() if child.name != "__MACOSX" and not child.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_file() else folder


def is_named(path: Path, end: str) -> bool:
    """Whether the name ends so, in letters of any case."""
    return path.name.lower().endswith(end)


def _state(files: Any, inner: str, is_folder: bool) -> str:
    """What changes if the data at an address do: names and sizes, and a mark of the content if there is one."""
    if not is_folder:
        told = files.info(inner)
        marks = [told.get(key) for key in ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "created")]
        return repr([str(mark) for mark in marks])
    return repr(sorted((name, told.get("size")) for name, told in files.find(inner, detail=True).items()))


def _copy(files: Any, inner: str, to: Path, is_folder: bool) -> None:
    if not is_folder:
        files.get_file(inner, str(to))
        return
    base = inner.rstrip("/")
    for name in files.find(inner):
        target = to / name[len(base) :].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(name, str(target))


def _unpack(path: Path, to: Path) -> None:
    to.mkdir()
    try:
        if is_named(path, ".zip"):
            with zipfile.ZipFile(path) as packed:
                if any(member.flag_bits & 1 for member in packed.infolist()):
                    raise DataError(f"{path.as_posix()} is locked by a password.", "Unpack it, and name the folder.")
                _refuse_size(path, sum(member.file_size for member in packed.infolist()), to)
                packed.extractall(to)
        else:
            with tarfile.open(path) as archive:
                _refuse_size(path, sum(member.size for member in archive), to)
                _extract(archive, to)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path.as_posix()} is no archive, or was cut short ({error}).", "Copy it again.") from error
    except OSError as error:
        raise DataError(f"{path.as_posix()} cannot be unpacked: {error.strerror or error}.") from error


def _extract(archive: tarfile.TarFile, to: Path) -> None:
    """Files and folders, none outside of ``to``; of a link what it leads to within the archive. Pythons before 3.11.4
    have no filter that does so."""
    inside = to.resolve()
    for member in archive:
        target = (to / member.name).resolve()
        if not target.is_relative_to(inside):
            raise tarfile.TarError(f"{member.name!r} would be outside the destination")
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        try:
            content = archive.extractfile(member)
        except KeyError as error:
            raise tarfile.TarError(f"{member.name!r} is a link to what is not there") from error
        if content is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as copy:
                shutil.copyfileobj(content, copy)


def _refuse_size(path: Path, size: int, to: Path) -> None:
    if size > shutil.disk_usage(to).free:
        raise DataError(f"{path.as_posix()} unpacked would not fit on the disk of {to.parent.as_posix()}.")


def _kept(what: str, name: str, make: Callable[[Path], None]) -> Path:
    """The copy of this, made by ``make`` if it is not there; one that was begun and not ended is none."""
    folder = cache_folder() / "copies" / hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    there = folder / name
    if there.exists():
        return there
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        begun = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".begun-"))
    except OSError as error:
        raise DataError(
            f"No copy can be made in {cache_folder()}: {error.strerror or error}.",
            "Name another folder by the variable XDG_CACHE_HOME, or copy the data yourself.",
        ) from error
    try:
        make(begun / name)
        try:
            begun.rename(folder)
        except OSError:  # another process was faster
            if not there.exists():
                raise
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return there
