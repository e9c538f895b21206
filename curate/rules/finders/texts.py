"""Spoilt texts: without a word, with markup, or too long for the model that reads them."""

import re
from collections.abc import Callable, Iterator

from curate.reports.words import plural
from curate.rules.finders.found import Contents, Found

COMMON = 0.1
"""Share of the texts from which on markup is how they are, and no fault of theirs."""
MARKUP = re.compile(r"</?[A-Za-z][\w-]*(\s[^<>]*)?/?>|&(#\d+|#x[0-9a-fA-F]+|nbsp|amp|lt|gt|quot|apos);")
LOST = 1.0
"""Tokens that the model does not read, for each that it reads, from which a text is far too long."""


def find_empty(scan: Contents) -> Iterator[Found]:
    """Findings on texts without a letter or digit."""
    for split, row, text in _texts(scan):
        if not any(letter.isalnum() for letter in text):
            yield Found(split, row, "empty_text", "warning", None, "it holds no word", {"characters": len(text)})


def find_markup(scan: Contents) -> Iterator[Found]:
    """Findings on texts with tags or entities of HTML, unless many have them."""
    found = [(split, row, parts) for split, row, text in _texts(scan) if (parts := _markup(text))]
    if len(found) > COMMON * sum(len(rows) for rows in scan.splits.values()) and len(found) > 1:
        return
    for split, row, parts in found:
        why = f"it holds markup that was not taken out: {', '.join(dict.fromkeys(parts[:3]))}"
        yield Found(split, row, "markup_text", "note", None, why, {"tags": len(parts)})


def find_long(scan: Contents) -> Iterator[Found]:
    """Findings on texts of which the model reads less than half; none if it does not say how much it reads."""
    for split, rows in scan.splits.items():
        beyond: Callable[[str], tuple[int, int]] | None = getattr(rows.inputs.transform, "beyond", None)
        if beyond is None or rows.source.media != "text":
            continue
        for row, index in enumerate(rows.indices):
            read, lost = beyond(rows.source.text(index) or "")
            if lost > LOST * read:
                why = f"the model reads its first {plural(read, 'token')}, and not the other {lost:,}"
                yield Found(split, row, "long_text", "warning", None, why, {"read": read, "lost": lost})


def _texts(scan: Contents) -> Iterator[tuple[str, int, str]]:
    for split, rows in scan.splits.items():
        if rows.source.media == "text":
            for row, index in enumerate(rows.indices):
                yield split, row, rows.source.text(index) or ""


def _markup(text: str) -> list[str]:
    return [found.group() for found in MARKUP.finditer(text)]
