"""``leak``: content of a given evaluation set that is in the training set too."""

from collections import defaultdict
from collections.abc import Iterator

from curate.rules.finders.found import Contents, Found


def find(scan: Contents) -> Iterator[Found]:
    """Findings on evaluation rows."""
    if scan.data.own_evaluation:
        return
    train: dict[str, list[str]] = defaultdict(list)
    for sha, key in zip(scan.data.train.sha256, scan.data.train.keys, strict=True):
        train[sha].append(key)
    for row, sha in enumerate(scan.data.evaluation.sha256):
        if sha in train:
            why = f"the same content is in the training set: {', '.join(train[sha][:3])}"
            yield Found("eval", row, "leak", "error", None, why, {"train": train[sha]})
