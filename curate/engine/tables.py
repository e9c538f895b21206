"""Tables of rows. Too large for memory, they are in files without a name, which the system keeps as far as it has room.

Such a file is gone with the process, however that ends.
"""

import mmap
import os
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor


def on_disk(shape: Sequence[int], dtype: torch.dtype, folder: Path) -> Tensor:
    """An empty table ``shape`` in a file of this folder. Raises as `nameless_file` does."""
    size = prod(shape) * dtype.itemsize
    file = nameless_file(size, folder)
    try:
        return torch.frombuffer(mmap.mmap(file, size), dtype=dtype).view(*shape)
    finally:
        os.close(file)


def nameless_file(size: int, folder: Path) -> int:
    """The descriptor of a file of so many bytes.

    Raises `OSError`, which names the folder, if there is no room for it or nothing is to be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix=".curate-") as file:
        try:
            # A file with holes would end the process, untold, at the row for which the disk has no room.
            os.posix_fallocate(file.fileno(), 0, size)
        except AttributeError:  # a Mac
            os.ftruncate(file.fileno(), size)
        except OSError as error:
            error.filename = str(folder)
            raise
        return os.dup(file.fileno())


def let_go(*tables: Tensor) -> None:
    """Gives their memory back: whoever holds one of these has an empty table from now on."""
    for table in tables:
        if table._base is not None:  # a view holds what it is a view of
            table._base.data = table.new_empty(0)
        table.data = table.new_empty(0)
