"""Fingerprints: what verdicts and baselines hang on.

A fingerprint lives exactly as long as the data set's name, the key, the content and the label text stay the same.
It never holds a position, a path of this machine or a class index.
"""

import hashlib
import json

LENGTH = 32  # hex digits: 128 bits, plenty for any data set and short enough to read


def row_fingerprint(dataset: str, key: str, content_sha256: str, label: str | None) -> str:
    """Fingerprint of a row; a missing label differs from an empty one."""
    return _digest([dataset, key, content_sha256, label])


def finding_fingerprint(dataset: str, key: str, content_sha256: str, label: str | None, rule: str) -> str:
    """Fingerprint of a finding: the row's facts and the rule it broke."""
    return _digest([dataset, key, content_sha256, label, rule])


def _digest(facts: list[str | None]) -> str:
    # JSON, not a joined string: ["a", "bc"] and ["ab", "c"] must differ.
    text = json.dumps(facts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:LENGTH]
