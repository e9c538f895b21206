"""What an option is: how it is called, how its value is read and how it is told. Standard library only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from curate.settings.values import read_flag

_FLAGS = {"model_args": "model-arg"}


@dataclass(frozen=True)
class Option:
    """``read`` makes the value of ``key`` in ``ScanSettings`` from TOML or text; the rest says how it is told.

    ``place`` says what a relative value is relative to its file as: "data", "code", "path", "run" (a number is none),
    "classes", "keys" or "format". ``typed``: a number or a boolean where the form has such (TOML).
    ``switch``: a flag without a value on the command line, which turns the setting on, or off (``--no-cache``);
    ``short`` is its one letter there.
    ``otherwise`` is what holds without the option, ``more`` what only the reference page says.
    """

    key: str
    section: str
    read: Callable[[Any], Any]
    metavar: str | None
    help: str
    otherwise: str = ""
    more: str = ""
    place: str | None = None
    typed: bool = False
    several: bool = False
    switch: Literal["on", "off"] | None = None
    short: str = ""

    @property
    def flag(self) -> str:
        """The name in files, and with two dashes on the command line."""
        return _FLAGS.get(self.key, self.key.replace("_", "-"))

    @property
    def spelling(self) -> str:
        """As the command line has it: ``--seed``, ``--no-cache``."""
        return f"--no-{self.flag}" if self.switch == "off" else f"--{self.flag}"

    @property
    def sentence(self) -> str:
        """The help of the command line: what it is, and what holds without it."""
        return f"{self.help}  [{self.otherwise}]" if self.otherwise else self.help

    def opposite(self, value: Any) -> bool:
        """The value for ``no-<flag>``."""
        return not self.read(value)


def switched(
    key: str, section: str, switch: Literal["on", "off"], told: str, more: str = "", short: str = ""
) -> Option:
    """An option without a value on the command line, which turns its setting on, or off."""
    return Option(key, section, read_flag, None, told, more=more, typed=True, switch=switch, short=short)
