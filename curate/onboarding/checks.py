"""One check of `curate doctor`: what was found, or why it failed, as plain facts.

Knows how a failure is caught and told; leaves what is checked to ``environment`` and ``doctor``, the layout to the
command line.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from curate.errors import CurateError

Facts = list[tuple[str, str]]
BUG_STATUS = 3


@dataclass(frozen=True)
class Check:
    """``facts`` are names and values; ``exit_status`` is that of the error, 0 where there is none."""

    name: str
    status: Literal["ok", "FAILED", "skipped"]
    facts: Facts = field(default_factory=list)
    error: str = ""
    hint: str = ""
    exit_status: int = 0

    def as_json(self) -> dict[str, Any]:
        """As plain values, the home folder written as ~."""
        plain: dict[str, Any] = {
            "name": self.name,
            "status": self.status,
            "facts": [{"name": name, "value": without_home(value)} for name, value in self.facts],
        }
        told = {"error": without_home(self.error), "hint": without_home(self.hint)}
        return plain | {key: value for key, value in told.items() if value}


def check(name: str, work: Callable[[Facts], None], debug: bool = False) -> Check:
    """Run one check; what it found before it failed is told as well."""
    facts: Facts = []
    try:
        work(facts)
    except CurateError as error:
        if debug:
            traceback.print_exc()
        return Check(name, "FAILED", facts, error.message, error.hint, error.exit_status)
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Check(name, "FAILED", facts, f"this is a bug in curate, not in your data: {reason}", "", BUG_STATUS)
    return Check(name, "ok", facts)


def skipped(name: str, why: str) -> Check:
    """A check that was not done, and why."""
    return Check(name, "skipped", error=why)


def without_home(text: str) -> str:
    """The person's home folder as ``~``: what is pasted in public does not name them."""
    for home in dict.fromkeys((str(Path.home()), str(Path.home().resolve()))):
        if len(home) > 1:
            text = "~".join(_split_at_folder(text, home))
    return text


def _split_at_folder(text: str, home: str) -> list[str]:
    """``text`` where ``home`` stands as a whole folder: ``/home/ann`` is no part of ``/home/anna``."""
    parts, start, place = [], 0, text.find(home)
    while place >= 0:
        after = text[place + len(home) : place + len(home) + 1]
        before = text[place - 1 : place] if place else ""
        if not (after.isalnum() or after in ("_", "-", ".") or before.isalnum() or before == "/"):
            parts.append(text[start:place])
            start = place + len(home)
        place = text.find(home, place + len(home))
    return [*parts, text[start:]]
