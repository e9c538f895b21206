"""Texts of cells that stand for something else: a list of numbers as pandas writes it, a picture in base64.

Knows how they look and how they are read; leaves what a column of them is to `columns`.
"""

import base64
import binascii
import re
from collections.abc import Sequence

LEAST_NUMBERS = 8
"""Numbers in a text without brackets from which it may be a row of them, as pixels in a csv are."""
_PICTURES = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk0", "data:image/")
"""How PNG, JPEG, GIF, WebP and BMP begin in base64, and addresses that hold the picture."""
_SEPARATOR = re.compile(r"[\s,;]+")
_LIST = re.compile(r"[\[(]?[\s\d.,;eE+\-naif]+[\])]?")


def numbers_of(text: str) -> list[float] | None:
    """The numbers of ``[0.1, 2]``, ``[0.1 2.]`` or ``12 34 56 ...``; None if the text is no such list."""
    text = text.strip()
    bracketed = text[:1] in "[(" and text[-1:] in "])"
    if not text or _LIST.fullmatch(text) is None:
        return None
    parts = [part for part in _SEPARATOR.split(text.strip("[]() \t\r\n")) if part]
    if len(parts) < (2 if bracketed else LEAST_NUMBERS):
        return None
    try:
        return [float(part) for part in parts]
    except ValueError:
        return None


def are_vectors(texts: Sequence[str]) -> bool:
    """Whether each is a list of numbers, all of one length."""
    first = numbers_of(texts[0]) if texts else None
    if first is None:
        return False
    return all((row := numbers_of(text)) is not None and len(row) == len(first) for text in texts)


def are_packed_pictures(texts: Sequence[str]) -> bool:
    """Whether each begins as a picture in base64 does."""
    return bool(texts) and all(text.lstrip().startswith(_PICTURES) and len(text) > 60 for text in texts)


def unpacked_picture(text: str) -> bytes:
    """The bytes of a picture in base64. Raises ``ValueError``."""
    text = text.strip()
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=False)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error
