"""JSON from strangers: what Python's reader lets pass in silence is refused here.

A key that stands twice (the last would win), half of a surrogate pair (no text of any file), nesting that ends the
interpreter. Standard library only.
"""

import json
from typing import Any

MOST_NESTED = 200


def loads(text: str) -> Any:
    """The value. Raises ``ValueError`` with what is wrong (``json.JSONDecodeError`` where a place can be told)."""
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\u" in text or not text.isascii():  # only then can there be such a sign
        _refuse_halves(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key[:60]}' stands twice")
        found[key] = value
    return found


def _refuse_halves(value: Any, depth: int = 0) -> None:
    if depth > MOST_NESTED:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = ord(error.object[error.start])
                raise ValueError(f"it holds half of a surrogate pair (\\u{half:04x})") from None
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_halves(key, depth + 1)
            _refuse_halves(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_halves(inner, depth + 1)
