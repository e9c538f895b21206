"""The error tree: one class for each exit status a person or a CI job can meet.

    CurateError
    ├── UsageError          2   an option, a setting or a command that cannot be followed
    ├── LoadError           2   something that could not be loaded
    │   ├── DataError           a data set
    │   ├── ModelError          a model, its weights or its outputs
    │   └── StoreError          a curate database
    ├── NumericalError      4   a number that the result rests on cannot be trusted
    └── NothingScanned      5   no row, or no readable row
    UnreadableRow               one row that cannot be read: becomes a finding, never ends a scan

Each message is one or two lines: what is wrong and where, then what to do (``hint``).
"""

import errno
from pathlib import Path

LONGEST_MESSAGE, LONGEST_HINT = 360, 220
"""Signs of what is said of an error, and of what to do: 600 with the line ends."""


class CurateError(Exception):
    """An error that a person can mend. ``exit_status`` is what the command ends with.

    As a text it has a bounded length, whatever stands in a name or a label; ``message`` and ``hint`` are whole.
    """

    exit_status = 2

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = sentence(message)
        self.hint = sentence(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        said = [self.message, self.hint] if self.hint else [self.message]
        if sum(map(len, said)) > LONGEST_MESSAGE + LONGEST_HINT:
            said = [_shortened(*part) for part in zip(said, (LONGEST_MESSAGE, LONGEST_HINT), strict=False)]
        return "\n".join(said)


def sentence(text: str) -> str:
    """The text with a full stop, so that all errors read alike."""
    return text if not text or text[-1] in ".?!:" or "://" in text.rsplit(maxsplit=1)[-1] else f"{text}."


def _shortened(text: str, most: int) -> str:
    """The text without its middle if it is longer; of terminals, where signs have widths, ``reports.words`` knows."""
    return text if len(text) <= most else f"{text[: most // 3]}...{text[most // 3 + 3 - most :]}"


class UsageError(CurateError):
    """An option, a setting or a combination of them that cannot be followed."""


class LoadError(CurateError):
    """Something that could not be loaded."""


class DataError(LoadError):
    """A data set that could not be read."""


class ModelError(LoadError):
    """A model, its weights or its outputs that could not be used."""


class StoreError(LoadError):
    """A database that is missing, foreign, newer than this version, or lacks the run asked for."""


class NumericalError(CurateError):
    """A number that the gate or the report's ranking rests on is not finite or did not converge."""

    exit_status = 4


class NothingScanned(CurateError):
    """No row, or no readable row: never a success."""

    exit_status = 5


class UnreadableRow(Exception):
    """One row that cannot be read; the text is the reason, shown in the finding.

    ``shared`` is the reason without what is the row's own, ``hint`` what to do if many rows have it.
    """

    def __init__(self, reason: str, shared: str = "", hint: str = "") -> None:
        super().__init__(reason)
        self.shared, self.hint = shared or reason, hint


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_THE_MACHINE = (*_NO_ROOM, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
_OF_A_FILE = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EBUSY,
    errno.ETXTBSY,
    errno.EINVAL,
    errno.ENXIO,
    errno.ENODEV,
)


def of_environment(error: BaseException) -> CurateError | None:
    """What the machine refused, as an error that a person can mend; None if the code is to blame.

    A full disk or a machine without memory is nobody's bug. A name that cannot be opened is none if it is told and is
    not a file of curate's own. All else (a descriptor that was closed, say) is.
    """
    if isinstance(error, OSError):
        name = error.filename if isinstance(error.filename, str | bytes) else None
        path = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        reason = error.strerror or str(error)
        if error.errno in _OF_THE_MACHINE or isinstance(error, ConnectionError | TimeoutError):
            hint = "Free some space" if error.errno in _NO_ROOM else "--debug shows where it happened"
            return CurateError(reason if path is None else f"{path}: {reason}", hint)
        if path and error.errno in _OF_A_FILE and not Path(path).is_relative_to(Path(__file__).parent):
            return CurateError(f"{path}: {reason}", "--debug shows where it happened")
        return None
    if out_of_memory(error):
        said = f": {error}" if str(error) else ""
        return CurateError(
            f"There is not enough memory{said}", "Scan fewer rows (--limit N), or on a machine with more"
        )
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory. Torch has errors of its own for it: on a GPU a class, on the CPU a RuntimeError."""
    torches = type(error).__name__ == "OutOfMemoryError"
    torches |= isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return torches or isinstance(error, MemoryError)
