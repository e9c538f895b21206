"""``near_leak``: rows of a given evaluation set that are near copies of training rows."""

from collections import defaultdict
from collections.abc import Iterator

from curate.rules.finders.copies import copies_between, said_of
from curate.rules.finders.found import Contents, Found
from curate.rules.finders.leak import effect_of


def find(scan: Contents) -> Iterator[Found]:
    """Findings on evaluation rows, with what they and exact copies do to the accuracy."""
    train, evaluation = scan.data.train, scan.data.evaluation
    contents = set(train.sha256)
    copies: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for one, other, difference in copies_between(scan):
        if evaluation.sha256[one] not in contents:  # else it is a leak
            copies[one].append((difference, other))
    if not copies:
        return
    leaked = {row for row, sha in enumerate(evaluation.sha256) if row in copies or sha in contents}
    effect, said = effect_of(scan, leaked, ("copy of training rows", "copies of training rows"))
    for row, found in sorted(copies.items()):
        found.sort()
        named = ", ".join(said_of(train, other) for _, other in found[:3])
        why = f"a near copy of the training set's {named}{said}"
        evidence: dict[str, object] = {
            "train": [train.keys[other] for _, other in found],
            "difference": round(found[0][0], 4),
            **effect,
        }
        yield Found("eval", row, "near_leak", "error", 1 - found[0][0], why, evidence)
