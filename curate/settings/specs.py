"""How a spec is taken apart: ``kind:location`` for data, ``file.py:name`` and ``family:NAME`` for models.

Knows the grammar only, and only the standard library: what a kind means is left to ``curate.sources``,
what a file may name to ``curate.settings.merge``.
"""

import os
import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from glob import glob
from pathlib import Path

from curate.plugs import FAMILIES

MEMORY = "memory"
"""The kind of what a caller gives in Python: ``memory:train`` is its name, by which it cannot be opened."""

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
MOST_SHARDS = 100_000
"""The last number that a pattern with braces may count to."""
_BRACES = re.compile(r"\{(?:(?P<first>\d{1,9})\.\.(?P<last>\d{1,9})|(?P<words>[^{},]*(?:,[^{},]*)+))\}")
_PLAIN = re.compile(r"[\w%+,./:@-]+")
# Two signs at least: `C:\data` is a drive, not a kind.
_KIND = re.compile(r"^([A-Za-z][A-Za-z0-9_+.-]+):(.*)$", re.DOTALL)


def split_kind(spec: str) -> tuple[str | None, str]:
    """``"arrays:x.npz"`` -> ``("arrays", "x.npz")``; ``"data/x"`` and ``"C:\\data"`` -> ``(None, as given)``."""
    found = _KIND.match(spec)
    if found is None or "/" in found[1] or "\\" in found[1]:
        return None, spec
    return found[1], found[2]


def is_address(location: str) -> bool:
    """Whether it is an address (`s3://bucket/rows.csv`), not a path."""
    return _ADDRESS.match(location) is not None


def split_model(spec: str) -> tuple[str | None, str]:
    """``"timm:resnet18"`` -> ``("timm", "resnet18")``; Python code -> ``(None, as given)``, for ``split_code``."""
    family, colon, name = spec.partition(":")
    return (family, name) if colon and family in FAMILIES else (None, spec)


def split_code(spec: str) -> tuple[str, str | None]:
    """``"a/b.py:make"`` -> ``("a/b.py", "make")``; no name after the last colon -> ``(spec, None)``."""
    if spec.endswith(".py"):
        return spec, None
    where, colon, name = spec.rpartition(":")
    return (where, name) if colon and where and name else (spec.rstrip(":"), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"Did you mean ...?"`` or an empty string."""
    close = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(map(as_typed, close))}?" if close else ""


def as_typed(name: str) -> str:
    """A name as a shell takes it, and as it stands apart in a sentence: quoted where it has spaces or signs."""
    return name if _PLAIN.fullmatch(name) else shlex.quote(name)


MOST_WHOLE = 2**63 - 1
"""The largest whole number that a database can hold."""


def whole(text: str, most: int = MOST_WHOLE) -> int | None:
    """A whole number from 0 to ``most``, in digits of ASCII; None for anything else, however long it is."""
    if not text.isascii() or not text.isdecimal() or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text)
    return number if number <= most else None


def plain_text(text: str) -> str:
    """Text that any file and database can hold: bytes of a name that are no UTF-8 become visible escapes."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def listed_names(names: list[str], most: int = 12) -> str:
    """The first names of a list, each cut to a length that a message has room for."""
    shown = ", ".join(name if len(name) <= 40 else f"{name[:37]}..." for name in names[:most])
    return shown + (f" ... ({len(names)})" if len(names) > most else "")


def is_file(text: str) -> bool:
    """Whether a text that may be a list of names is the path of a file; what no path can be is none."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def near_path(path: Path) -> str:
    """A hint for a path that is not there: near names in the deepest folder that is, else that folder."""
    here, missing = path, path.name
    while not os.path.exists(here) and here != here.parent:  # pathlib raises for a name longer than a path may be
        missing, here = here.name, here.parent
    try:
        names = sorted(child.name for child in here.iterdir() if not child.name.startswith("."))
    except OSError:
        return ""
    close = get_close_matches(missing, names, n=3, cutoff=0.6)
    if close:
        return "Did you mean " + " or ".join((here / name).as_posix() for name in close) + "?"
    if here == Path():
        return f"The current folder holds no '{missing}'."
    return f"The folder {here.as_posix()} is there, but holds no '{missing}'."


def in_order(locations: Iterable[str]) -> tuple[str, ...]:
    """Checkpoints, those that a pattern (`run/checkpoint-*`) means in the order of their steps.

    Raises ``ValueError`` with a pattern that means nothing.
    """
    found: list[str] = []
    for location in locations:
        if Path(location).exists() or not is_pattern(location):
            found.append(location)
        elif named := matches(location):
            found += named
        else:
            raise ValueError(location)
    return tuple(found)


def is_pattern(location: str) -> bool:
    """Whether it may mean several files: `shard-*.csv`, `shard-{000..003}.tar`, `{a,b}.csv`."""
    return bool(set("*?[") & set(location)) or _BRACES.search(location) is not None


def matches(pattern: str) -> list[str]:
    """The files and folders that a pattern means, in the order of the numbers in their names."""
    found = {name.rstrip("/") for plain in _without_braces(pattern) for name in glob(plain)}
    return sorted(found, key=lambda name: ([int(part) for part in re.findall(r"\d+", name)], name))


def _without_braces(pattern: str) -> list[str]:
    """The patterns that a shell would make of one with braces."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, words = found["first"], found["last"], found["words"]
    if words is None:
        words = ",".join(str(number).zfill(len(first)) for number in range(int(first), min(int(last), MOST_SHARDS) + 1))
    return [
        plain
        for word in words.split(",")
        for plain in _without_braces(pattern[: found.start()] + word + pattern[found.end() :])
    ]
