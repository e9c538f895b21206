"""``leak``: content of a given evaluation set that is in the training set too, or another row of its group."""

from collections import defaultdict
from collections.abc import Collection, Iterator

import numpy as np

from curate.process.numbers import percent
from curate.reports.words import plural
from curate.rules.finders.found import Contents, Found, Scan


def find(scan: Contents) -> Iterator[Found]:
    """Findings on evaluation rows, with what all of them together do to the accuracy."""
    if scan.data.own_evaluation:
        return
    train: dict[str, list[str]] = defaultdict(list)
    for sha, key in zip(scan.data.train.sha256, scan.data.train.keys, strict=True):
        train[sha].append(key)
    groups = scan.data.groups
    shared = groups.shared() if groups is not None else {}
    same = {row: train[sha] for row, sha in enumerate(scan.data.evaluation.sha256) if sha in train}
    effect, said = effect_of(scan, shared.keys() | same.keys(), ("row that leaks", "rows that leak"))
    for row in sorted(shared.keys() | same.keys()):
        if row in same:
            evidence: dict[str, object] = {"train": same[row]}
            why = f"the same content is in the training set: {', '.join(same[row][:3])}"
        else:
            assert groups is not None
            evidence = {"group": shared[row][0], "rows": shared[row][1]}
            why = f"{groups.name} {shared[row][0]} is in the training set too, with {plural(shared[row][1], 'row')}"
        yield Found("eval", row, "leak", "error", None, why + said, evidence | effect)


def effect_of(scan: Contents, leaked: Collection[int], named: tuple[str, str]) -> tuple[dict[str, object], str]:
    """Accuracy on the evaluation set with and without these rows, as evidence and as the end of a sentence that calls
    one and several of them as ``named``; nothing if it is not known or no other row is left."""
    count = len(leaked)
    if not isinstance(scan, Scan) or not 0 < count < len(scan.data.evaluation):
        return {}, ""
    right = scan.right_on_evaluation
    whole, rest = float(right.mean()), float(np.delete(right, list(leaked)).mean())
    end = f"; accuracy on this set is {percent(whole)}, and {percent(rest)} without its {plural(count, *named)}"
    return {"accuracy": {"with": whole, "without": rest, "rows": count}}, end
