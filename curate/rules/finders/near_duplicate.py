"""``near_duplicate``: training rows that are copies of one another but for an edit, in clusters."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from curate.engine.influence.causes import connected
from curate.rules.finders.copies import copies_within, said_of
from curate.rules.finders.found import Contents, Found
from curate.stages.forward import Forward

RULE = "near_duplicate"
NAMED = 3
"""Copies that a sentence names."""


def find(scan: Contents) -> Iterator[Found]:
    """A finding on each row of a cluster but the one that stands for it: to `drop` the cluster is to keep that one.

    With several labels an error, and on that row too. Copies of one content are a cluster too, unless they have
    several labels: then they are a `conflict`.
    """
    rows = scan.data.train
    if not rows.one_label_each:
        return
    pairs = list(copies_within(scan))
    nearest = _nearest(pairs)
    labels, keys, classes = rows.labels.tolist(), rows.keys, rows.source.classes
    for members in _clusters(rows, pairs):
        counts = Counter(labels[row] for row in members)
        if len(counts) > 1 and len({rows.sha256[row] for row in members}) == 1:
            continue
        first = _representative(rows, members, nearest)
        severity = "error" if len(counts) > 1 else "note"
        named = {classes[label]: count for label, count in sorted(counts.items())}
        evidence: dict[str, object] = {"representative": keys[first], "rows": len(members), "labels": named}
        contents = sorted({rows.sha256[row] for row in members})
        for row in members:
            if severity == "note" and row == first:
                continue
            others = sorted((other for other in members if other != row), key=lambda other: other != first)
            said = ", ".join(said_of(rows, other) for other in others[:NAMED])
            more = f" and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
            why = f"a near copy of {said}{more}"
            if severity == "error":
                why += f": one picture or text under {len(counts)} labels"
            difference = nearest.get(row, 0.0)
            told = {**evidence, "copies": [keys[other] for other in others[:20]], "difference": round(difference, 4)}
            yield Found(
                "train", row, RULE, severity, 1 - difference, why, told, False, "cluster", keys[first], contents
            )


def _nearest(pairs: list[tuple[int, int, float]]) -> dict[int, float]:
    """The least difference of each row from a near copy."""
    least: dict[int, float] = defaultdict(lambda: 1.0)
    for one, other, difference in pairs:
        least[one], least[other] = min(least[one], difference), min(least[other], difference)
    return dict(least)


def _clusters(rows: Forward, pairs: list[tuple[int, int, float]]) -> list[list[int]]:
    """Rows that are joined by near copies, or by one content."""
    first: dict[str, int] = {}
    same = [(first.setdefault(sha, row), row) for row, sha in enumerate(rows.sha256)]
    joined = np.array([*same, *((one, other) for one, other, _ in pairs)])
    numbers = connected(joined, len(rows))
    members: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(numbers.tolist()):
        members[number].append(row)
    return [rows_of for rows_of in members.values() if len(rows_of) > 1]


def _representative(rows: Forward, members: list[int], nearest: dict[int, float]) -> int:
    """The row with most pixels, else the first by key: a resized or cropped copy has fewer."""
    if rows.looks is None:
        return min(members, key=lambda row: rows.keys[row])
    pixels = rows.looks.taken(members)
    sizes = pixels.measure("width") * pixels.measure("height")
    return min(zip(members, sizes.tolist(), strict=True), key=lambda pair: (-pair[1], rows.keys[pair[0]]))[0]
