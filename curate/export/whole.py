"""A new folder that is written whole or not at all: what fills it is moved into place at the end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import UsageError


def refuse_filled(folder: Path) -> None:
    """Raise ``UsageError`` if the folder holds something, or is a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder.as_posix()} is there already", "Name a new folder, or an empty one.")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """The folder to write into, which becomes ``folder`` if all goes well. Raises ``UsageError`` if it cannot."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise UsageError(
            f"{folder.as_posix()} cannot be written: {error.strerror or error}", "Nothing was left there; name another."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
