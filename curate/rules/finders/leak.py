"""``leak``: content of a given evaluation set that is in the training set too, or another row of its group."""

from collections import defaultdict
from collections.abc import Iterator

from curate.reports.words import plural
from curate.rules.finders.found import Contents, Found


def find(scan: Contents) -> Iterator[Found]:
    """Findings on evaluation rows."""
    if scan.data.own_evaluation:
        return
    train: dict[str, list[str]] = defaultdict(list)
    for sha, key in zip(scan.data.train.sha256, scan.data.train.keys, strict=True):
        train[sha].append(key)
    groups = scan.data.groups
    shared = groups.shared() if groups is not None else {}
    for row, sha in enumerate(scan.data.evaluation.sha256):
        if sha not in train and row in shared and groups is not None:
            value, count = shared[row]
            why = f"{groups.name} {value} is in the training set too, with {plural(count, 'row')}"
            yield Found("eval", row, "leak", "error", None, why, {"group": value, "rows": count})
        if sha in train:
            why = f"the same content is in the training set: {', '.join(train[sha][:3])}"
            yield Found("eval", row, "leak", "error", None, why, {"train": train[sha]})
