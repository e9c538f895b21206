"""Verdicts from and to files, for people with scripts and spreadsheets.

Knows files of verdicts and how they meet the rows of a database; leaves the rules of a verdict to ``curate.store`` and
the cleaned data set to ``curate.export``. Never imports torch.
"""

from curate.review.files import Entry, read_entries, write_csv, write_jsonl
from curate.review.marking import Marked, mark_entries
from curate.review.words import all_words

__all__ = ["Entry", "Marked", "all_words", "mark_entries", "read_entries", "write_csv", "write_jsonl"]
