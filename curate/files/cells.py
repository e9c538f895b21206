"""Cells that a spreadsheet would run as formulas: made plain text in what curate writes, and taken back on reading.

Knows the signs a formula begins with; leaves files to others.
"""

import re

# After https://owasp.org/www-community/attacks/CSV_Injection; full-width signs count in some spreadsheets.
_FORMULA = re.compile(r"^'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"^[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?$")


def is_formula(text: str) -> bool:
    """Would a spreadsheet run this cell? A number with a sign is none."""
    return _FORMULA.match(text) is not None and not _NUMBER.match(text)


def quoted(text: str) -> str:
    """The cell as a spreadsheet shows it, not runs it: with a ' before it. ``unquoted`` takes it off."""
    return f"'{text}" if is_formula(text) else text


def unquoted(text: str) -> str:
    """The text without the sign that keeps a formula from acting."""
    return text[1:] if text.startswith("'") and is_formula(text) else text
