"""``conflict``: rows of one content under several labels."""

from collections import defaultdict
from collections.abc import Iterator

from curate.rules.finders.found import Contents, Found


def find(scan: Contents) -> Iterator[Found]:
    """Findings within each split; a note in a table, for the same measurement may have two outcomes."""
    for split, rows in scan.splits.items():
        severity = "error" if rows.one_label_each else "note"
        groups: dict[str, list[int]] = defaultdict(list)
        for row, sha in enumerate(rows.sha256):
            groups[sha].append(row)
        labels, keys = rows.labels.tolist(), rows.keys
        for members in groups.values():
            if len({labels[row] for row in members}) < 2:
                continue
            for row in members:
                others = [other for other in members if labels[other] != labels[row]]
                named = ", ".join(f"{keys[other]} ({rows.source.classes[labels[other]]})" for other in others[:3])
                why = f"the same content stands under another label: {named}"
                same = [keys[other] for other in members if other != row]
                yield Found(split, row, "conflict", severity, None, why, {"same_content": same})
