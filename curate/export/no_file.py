"""The changes of a data set that code makes: there is no file to write anew, so they are listed.

Knows the form of the list; leaves which row changes to ``changes``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.export.changes import Change
from curate.sources import Source

CHANGES = "changes.jsonl"


def export_changes(parts: Sequence[tuple[Source, Mapping[int, Change]]], out: Path) -> None:
    """Write ``CHANGES`` into the folder: a line for each row that changes, by its place in the data set.

    ``label`` and ``index`` (of the class, in the order of the model's outputs; None for a new class) are None where
    the row is dropped.
    """
    classes = parts[0][0].classes
    with (out / CHANGES).open("w", encoding="utf-8") as file:
        for split, (source, changes) in zip(("train", "eval"), parts, strict=False):
            for row, change in sorted(changes.items(), key=lambda item: source.positions[item[0]]):
                line = {
                    "split": split,
                    "position": source.positions[row],
                    "key": source.keys[row],
                    "verdict": "drop" if change.label is None else "relabel",
                    "given_label": change.given,
                    "label": change.label,
                    "index": classes.index(change.label) if change.label in classes else None,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
