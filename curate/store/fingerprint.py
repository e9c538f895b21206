"""Fingerprints: what verdicts and baselines hang on.

A fingerprint lives exactly as long as the data set's name, the key, the content and the label text stay the same.
It never holds a position, a path of this machine or a class index.
"""

import hashlib
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii

LENGTH = 32  # hex digits: 128 bits, plenty for any data set and short enough to read
ROW_LENGTH = 12


def row_fingerprint(dataset: str, key: str, content_sha256: str, label: str | None) -> str:
    """Fingerprint of a row; a missing label differs from an empty one."""
    return _digest([dataset, key, content_sha256, label])


def finding_fingerprint(dataset: str, key: str, content_sha256: str, label: str | None, rule: str) -> str:
    """Fingerprint of a finding: the row's facts and the rule it broke."""
    return _digest([dataset, key, content_sha256, label, rule])


def rule_fingerprint(subject: str, rule: str) -> str:
    """Fingerprint of a finding that is on no row: its subject's, and the rule it broke."""
    return _digest([subject, rule])


def subject_fingerprint(dataset: str, subject: str, name: str | None, members: Iterable[str] = ()) -> str:
    """Fingerprint of a class or column by its name, of a cluster by the contents of its rows."""
    named: list[str | None] = [*sorted(members)] or [name]
    return _digest([subject, dataset, *named])


def row_digest(content_sha256: str, label: str | None, key: str) -> str:
    """What tells a row whose content or label is new from one that stood before, under whatever name.

    The key counts only where the content could not be read. Short, because a baseline holds one for each row: of a
    million rows one in 300 million new ones is taken for an old one.
    """
    return _digest(["", content_sha256, label] if content_sha256 else ["unreadable", key, label])[:ROW_LENGTH]


def _digest(facts: list[str | None]) -> str:
    # JSON, not a joined string: ["a", "bc"] and ["ab", "c"] must differ.
    # By its parts, which is three times as fast as json.dumps: there are millions of rows.
    text = ",".join("null" if fact is None else encode_basestring_ascii(fact) for fact in facts)
    return hashlib.sha256(f"[{text}]".encode("ascii")).hexdigest()[:LENGTH]
