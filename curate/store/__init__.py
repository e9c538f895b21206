"""The curate database: one SQLite file that holds every run, and the verdicts of people.

Knows its schema and how to write and read it; leaves what the numbers mean to those who compute and render them.
"""

from curate.store.fingerprint import finding_fingerprint, row_digest, row_fingerprint
from curate.store.records import WARNING, ExampleRecord, FindingRecord, ReceiptRecord
from curate.store.reviews import VERDICTS, Review
from curate.store.store import Store

__all__ = [
    "VERDICTS",
    "WARNING",
    "ExampleRecord",
    "FindingRecord",
    "ReceiptRecord",
    "Review",
    "Store",
    "finding_fingerprint",
    "row_digest",
    "row_fingerprint",
]
