"""Reading files whose names come from strangers: regular ones only, and none beyond a stated size.

A pipe would wait for ever, a device never ends, and a file larger than memory ends the process. Knows nothing of what
a file means, but for a list of names.
"""

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import zlib
from pathlib import Path
from typing import Any

from curate.errors import UsageError

PACKED = (".gz", ".bz2", ".xz", ".zst")
LARGEST_FILE = 2**28
"""Bytes of a picture, a checkpoint's note, a file of settings or of verdicts: 256 MiB. Beyond, it is not read."""
UNPACKED_PART = 2**24
"""Bytes that are unpacked at a time."""


def read_regular(path: str | Path, most: int = LARGEST_FILE) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes. Raises ``OSError`` for anything else, with the reason."""
    # Without O_NONBLOCK a pipe is waited for on opening it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        refuse_irregular(found, path, most)
        # Files without a size (/proc) have no end either, as far as anyone knows.
        content = file.read() if found.st_size else file.read(min(most, LARGEST_FILE) + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {size_text(most)}, and not read", str(path))
    return content


def ending(path: str | Path) -> str:
    """The ending that says the kind of a file, in small letters: of `x.csv.gz` it is `.csv`."""
    plain = Path(path)
    suffixes = [suffix.lower() for suffix in plain.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_unpacked(path: str | Path, most: int = LARGEST_FILE) -> bytes:
    """The same, unpacked if the name ends so; ``most`` holds for what is unpacked too. Raises ``OSError``."""
    content = read_regular(path, most)
    kind = Path(path).suffix.lower()
    if kind not in PACKED:
        return content
    found = bytearray()
    try:
        with _unpacking(content, kind) as file:
            while part := file.read(UNPACKED_PART):  # to ask for all that is allowed would take that much memory
                found += part
                if len(found) > most:
                    break
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise OSError(errno.EIO, f"no {kind[1:]} file, or cut short ({error})", str(path)) from error
    if len(found) > most:
        raise OSError(errno.EFBIG, f"unpacked larger than {size_text(most)}, and not read", str(path))
    return bytes(found)


def _unpacking(content: bytes, kind: str) -> Any:
    """A file to read what was packed from."""
    source = io.BytesIO(content)
    if kind == ".gz":
        return gzip.GzipFile(fileobj=source)
    if kind == ".bz2":
        return bz2.BZ2File(source)
    if kind == ".xz":
        return lzma.LZMAFile(source)
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd")


def read_text(path: str | Path, most: int = LARGEST_FILE) -> str:
    """The same as UTF-8, without a byte order mark. Raises ``OSError`` and ``UnicodeDecodeError``."""
    return read_regular(path, most).decode("utf-8-sig")


def read_names(path: str | Path, called: str) -> list[str]:
    """The names in a file, one on each line; blank lines are none. Raises ``UsageError``; ``called`` is the option."""
    try:
        return [name for line in read_text(path).splitlines() if (name := line.strip())]
    except UnicodeDecodeError as error:
        raise UsageError(f"{called}: {path} is not in UTF-8: byte {error.start}.", "Save it as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"{called}: {path} cannot be read: {error.strerror or error}.") from None


def check_regular(path: str | Path, most: int) -> None:
    """Raises ``OSError`` where ``read_regular`` would, without reading the file."""
    refuse_irregular(os.stat(path), path, most)


def refuse_irregular(found: os.stat_result, path: str | Path, most: int) -> None:
    """Raise ``OSError`` if this is no regular file, or a larger one than ``most`` bytes."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no regular file (a pipe, a device or a socket)", str(path))
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"larger than {size_text(most)}, and not read", str(path))


def memory_bytes() -> int:
    """What this machine has: a table or an array beyond it cannot be held."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no Unix
        return 2**36


def size_text(size: int) -> str:
    """``256 MiB``, ``7.0 TiB``."""
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if value == int(value) else f"{value:.1f} {units[0]}"
