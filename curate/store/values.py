"""What may go into a column: plain, finite and storable values.

The computing half may hand over numpy scalars and file names that are no valid text; neither may reach SQLite as it is
(a numpy float32 would be stored as bytes, a NaN as NULL).
"""

import json
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any


def plain_list(values: Sequence[Any]) -> list[Any]:
    """A list, also of a NumPy array, whose numbers become plain at once."""
    found: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return found


def number(value: Any, column: str) -> float | None:
    """A finite float, or None for a missing one."""
    if value is None:
        return None
    plain = float(value)
    if not math.isfinite(plain):
        raise ValueError(f"{column} is not finite: {plain}")
    return plain


def integer(value: Any, column: str) -> int | None:
    """A plain int, also from NumPy's; None stays. Raises ``ValueError`` for what is no whole number."""
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{column} is not an integer: {value!r}") from None


def text(value: str | None) -> str | None:
    """Text that SQLite can hold: bytes of a file name that are no UTF-8 become visible escapes."""
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def json_text(value: Any, column: str) -> str:
    """JSON for a column. Raises ``ValueError`` for NaN, infinities and what has no plain value."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError as error:
        raise ValueError(f"{column} cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    for method in ("tolist", "isoformat", "__fspath__"):
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise ValueError(f"{type(value).__name__} is no plain value")
