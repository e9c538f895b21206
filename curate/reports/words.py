"""Numbers and foreign text as people read them, safely.

Knows how to say a number, and how to keep a key, a label or a text from steering the terminal; leaves layout to
``layout.py``.
"""

import unicodedata
from collections.abc import Sized
from datetime import datetime

from rich.cells import cell_len

LONGEST_TEXT = 180
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Control, format (direction overrides hide the true order of a name), surrogates, line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # needed to write Persian, Hindi and emoji; they steer nothing


def clean(text: object) -> str:
    """Text of the user's made harmless: what could steer a terminal is shown as an escape."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(_clean(sign) for sign in plain)


def _clean(sign: str) -> str:
    if sign in _JOINERS or unicodedata.category(sign) not in _UNSAFE:
        return sign
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    code = ord(sign)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def shorten(text: str, width: int, dots: str = "...") -> str:
    """At most ``width`` cells, the middle left out: both the folder and the end of a file name tell rows apart."""
    if cell_len(text) <= width:
        return text
    room = max(width - cell_len(dots), 0)
    if room == 0:
        return dots[: max(width, 0)]
    tail = _fit(text[::-1], room - room // 3)[::-1]
    return _fit(text, room // 3) + dots + tail


def _fit(text: str, width: int) -> str:
    used, kept = 0, []
    for sign in text:
        used += cell_len(sign)
        if used > width:
            break
        kept.append(sign)
    return "".join(kept)


def quoted(text: str | None) -> str:
    """The row's own text, shortened: a key made of its content tells a reader nothing."""
    return "" if not text else f'"{shorten(" ".join(text.split()), LONGEST_TEXT)}"'


def plural(count: int, one: str, many: str = "") -> str:
    """The count, commas at thousands, and its noun; ``many`` is the plural if an s does not make it."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def first_shown(shown: Sized, total: int) -> str:
    """What a heading adds if a list is cut."""
    return f"; the first {len(shown):,}" if 0 < len(shown) < total else ""


def brief(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:.3g}"


def signed(value: float | None) -> str:
    """Three significant digits with a sign; "-" if it is not known."""
    return "-" if value is None else f"{value:+.3g}"


def moment(time: str | None) -> str:
    """2025-01-31 12:34 UTC, from ISO 8601."""
    if not time:
        return "-"
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return clean(time)
