"""``.npz`` files from strangers: what a member holds is known from its header before anything is unpacked.

numpy and zipfile allocate what a header claims, and raise nearly anything on a broken one. Here a member that is
encrypted, packed in an unknown way, no array, an object array, or larger than what stands behind it or than this
machine's memory is a ``ValueError`` that says so. Knows nothing of what the arrays mean.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from curate.files.reading import memory_bytes, size_text

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
OBJECTS = "an object array"
PART = 2**20
"""Bytes unpacked at a time."""
MAPPED = 2**26
"""Bytes from which an array that is not packed is left in the file, and read as it is asked for: processes that scan
together hold it once. Who changes it gets pages of its own."""
LOCAL_HEADER = 30
"""Bytes of a member's header before its name."""


class Arrays:
    """An open ``.npz`` file. Raises ``ValueError`` for what is none."""

    def __init__(self, file: IO[bytes]) -> None:
        with _broken("no zip archive"):
            self._zip = zipfile.ZipFile(file)
        self._file = file
        members = [info for info in self._zip.infolist() if info.filename.endswith(".npy")]
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        if len(self._members) < len(members):
            raise ValueError("an array's name stands twice in it")
        self.names = list(self._members)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def take(self, name: str) -> "Array":
        """The array. Raises ``KeyError`` for a name that is not there, ``ValueError`` for what cannot be read."""
        import numpy as np

        info = self._members[name]
        if info.flag_bits & 1:
            raise ValueError(f"'{name}' is encrypted")
        if info.compress_type not in PACKED:
            raise ValueError(f"'{name}' is compressed in a way that Python does not know")
        with _broken(f"'{name}' cannot be read"), self._zip.open(info) as member:
            shape, fortran, dtype, start = _header(member)
            if dtype.hasobject:
                raise ValueError(f"'{name}' is {OBJECTS}")
            size = math.prod(shape) * dtype.itemsize
            if size != info.file_size - start:
                raise ValueError(f"'{name}': its header tells of {size_text(size)}, and other data follows")
            if size > memory_bytes() // 2:
                raise ValueError(f"'{name}' takes {size_text(size)}, more than half of this machine's memory")
            if info.compress_type == zipfile.ZIP_STORED and size >= MAPPED:
                content = self._mapped(name, start, size)
            else:
                content = np.empty(size, np.uint8)  # memory is taken as it is filled, not for what is claimed
                if _fill(content, member) != size:
                    raise ValueError(f"'{name}' was cut short")
        array: Array = content.view(dtype) if size else np.empty(0, dtype)
        return array.reshape(shape[::-1]).transpose() if fortran else array.reshape(shape)

    def _mapped(self, name: str, start: int, size: int) -> "Array":
        """The content of a member that is not packed, ``start`` bytes of header aside, as it lies in the file."""
        import numpy as np

        info = self._members[name]
        self._file.seek(info.header_offset)
        head = self._file.read(LOCAL_HEADER)
        data = info.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", head[-4:]))  # its name and more stand there
        content: Array = np.asarray(np.memmap(self._file, np.uint8, "c", data + start, (size,)))
        self._file.seek(data)
        sum_of_all = zlib.crc32(self._file.read(start))
        for at in range(0, size, PART):
            sum_of_all = zlib.crc32(content[at : at + PART].data, sum_of_all)
        if sum_of_all != info.CRC:
            raise ValueError(f"'{name}' is damaged: its checksum is another one")
        return content


def _fill(content: "Array", member: IO[bytes]) -> int:
    """Number of bytes read, at most as many as there is room for."""
    room, at = content.data, 0
    while at < len(room) and (part := member.read(min(PART, len(room) - at))):
        room[at : at + len(part)] = part
        at += len(part)
    return at


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, Any, int]:
    """Shape, whether it is in Fortran's order, type, and the number of bytes of the header."""
    from numpy.lib import format as npy

    version = npy.read_magic(member)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version} of the format is unknown")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(member)
    if any(length < 0 for length in shape):
        raise ValueError("a negative length")
    return shape, bool(fortran), dtype, member.tell()


@contextmanager
def _broken(what: str) -> Iterator[None]:
    """A boundary: zipfile, its codecs and numpy's header parser raise nearly anything on foreign bytes."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith("'"):  # one of ours
            raise
        raise ValueError(f"{what}: {_first_line(error)}") from error
    except Exception as error:
        raise ValueError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
