"""What a call gives to a person: fields for programs, and a page where it is printed or is a cell's last value."""

from typing import Any


class Spoken:
    """A result whose ``str`` is the page that the command prints; a notebook shows it in place of its fields."""

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))
