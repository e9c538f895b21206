"""What `init` found: a value for a setting, why it, and what else was seen.

Knows no kind of thing; those who look fill it in, ``text`` writes it down.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FoundSetting:
    """A line of the file. ``failed`` is why it is written as a comment; ``guess`` that a person should look at it."""

    value: Any
    why: str
    guess: bool = False
    failed: str = ""


@dataclass
class Discovery:
    """Settings by their key, and ``remarks`` by the key under which they are written: what else there is."""

    settings: dict[str, FoundSetting] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def remark(self, key: str, text: str) -> None:
        """Note what else there is for a setting."""
        self.remarks.setdefault(key, []).append(text)


def inside(path: Path, folder: Path) -> str:
    """``path`` as the file in ``folder`` names it."""
    return path.relative_to(folder).as_posix()


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name; hidden things and names that no settings file can hold are left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name.isprintable())
    except OSError:
        return []


def listed(names: list[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
