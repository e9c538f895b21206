"""``--split``: which rows of one table or file train and which evaluate.

Knows the words that people write for it; leaves reading the column to the kinds.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from curate.errors import DataError

TRAIN = frozenset({"train", "training", "fit"})
EVALUATION = (
    "val",
    "valid",
    "validation",
    "dev",
    "eval",
    "evaluation",
    "test",
    "testing",
    "publictest",
    "privatetest",
    "holdout",
)
"""In the order of preference: rows to choose a model by come before those of the last word."""


def split_folders(folders: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """The one that is named as the training part, and those of the others in the order of preference."""
    by_word: dict[str, Path] = {}
    for folder in folders:
        by_word.setdefault(folder.name.lower(), folder)
    train = by_word.get("train") or next((by_word[word] for word in by_word if word in TRAIN), None)
    return train, [by_word[word] for word in EVALUATION if word in by_word]


def split_rows(values: Sequence[str | None], where: str) -> tuple[list[int], list[int] | None, list[str]]:
    """(training rows, evaluation rows or None, notes on the rows of other splits). Raises ``DataError``."""
    words = [(value or "").strip().lower() for value in values]
    counts = Counter(words)
    train = [row for row, word in enumerate(words) if word in TRAIN]
    if not train:
        there = ", ".join(f"'{word}'" for word, _ in counts.most_common(6))
        raise DataError(
            f"{where} holds no row of a split called {', '.join(sorted(TRAIN, reverse=True))}; it holds {there}.",
            "Name another column with --split.",
        )
    chosen = next((word for word in EVALUATION if word in counts), None)
    evaluation = None if chosen is None else [row for row, word in enumerate(words) if word == chosen]
    left = [f"{word or 'blank'} ({count:,})" for word, count in counts.items() if word not in TRAIN | {chosen}]
    notes = [f"rows of other splits were left out: {', '.join(sorted(left)[:6])}"] if left else []
    return train, evaluation, notes
