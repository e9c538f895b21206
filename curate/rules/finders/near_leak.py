"""``near_leak``: rows of a given evaluation set that are near copies of training rows."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from curate.process.numbers import percent
from curate.reports.words import plural
from curate.rules.finders.copies import copies_between, said_of
from curate.rules.finders.found import Contents, Found, Scan


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
    leaked = np.array([row in copies or sha in contents for row, sha in enumerate(evaluation.sha256)])
    effect, said = _effect(scan, leaked)
    for row, found in sorted(copies.items()):
        found.sort()
        named = ", ".join(said_of(train, other) for _, other in found[:3])
        why = f"a near copy of the training set's {named}{said}"
        evidence: dict[str, object] = {
            "train": [train.keys[other] for _, other in found],
            "difference": round(found[0][0], 4),
            **({"accuracy": effect} if effect else {}),
        }
        yield Found("eval", row, "near_leak", "error", 1 - found[0][0], why, evidence)


def _effect(scan: Contents, leaked: np.ndarray) -> tuple[dict[str, float], str]:
    """Accuracy on the evaluation set with and without the rows that are in the training set too, and a sentence."""
    if not isinstance(scan, Scan) or leaked.all():
        return {}, ""
    right = scan.right_on_evaluation
    effect = {"with": float(right.mean()), "without": float(right[~leaked].mean()), "rows": int(leaked.sum())}
    return effect, (
        f"; accuracy on this set is {percent(effect['with'])}, and {percent(effect['without'])} without its "
        f"{plural(int(effect['rows']), 'copy', 'copies')} of training rows"
    )
