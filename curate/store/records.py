"""The plain rows that the computing half hands to the store.

Knows their fields and units; leaves SQL to ``store.py`` and fingerprints to ``fingerprint.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WARNING = "warning: "
"""A run's note that begins so makes its results doubtful: reports say it before everything else."""


@dataclass(frozen=True, slots=True)
class ExampleRecord:
    """One version of a row, as the source gave it. ``content_sha256`` is "" where the content could not be read."""

    split: str  # "train" or "eval"
    key: str
    position: int  # 0-based in the source, before any split or skip
    content_sha256: str
    label: str | None
    media_path: str | None = None
    text: str | None = None
    thumbnail: bytes | None = None
    seen: bool | None = None  # was it in the model's training


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """A row, or another subject, and the rule it broke, with the evidence and one sentence for a person.

    A cluster is told by a finding on each of its rows; a class or a column has no row.
    """

    example_id: int | None
    rule: str
    severity: str  # error, warning, note
    score: float | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    subject: str = "row"  # row, cluster, class, column
    name: str | None = None  # of the class or column; of a cluster, the key of the row that stands for it
    members: Sequence[str] = ()  # content hashes of a cluster's rows: it is another one if they change


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    """How one quantity was solved. What was not measured stays None: never a guess."""

    quantity: str
    solver: str
    curvature: str | None = None
    parameters: str | None = None
    damping_asked: float | None = None
    damping: float | None = None
    residual: float | None = None  # relative to the right-hand side
    score_error: float | None = None  # relative, of the scores themselves
    steps: int | None = None
    seconds: float | None = None
    recall: float | None = None  # of the prefilter, with its 95 % interval
    recall_low: float | None = None
    recall_high: float | None = None
    rank_stability: Mapping[str, Any] | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
