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


class CurateError(Exception):
    """An error that a person can mend. ``exit_status`` is what the command ends with."""

    exit_status = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


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
    """One row that cannot be read; the text is the reason, shown in the finding."""
