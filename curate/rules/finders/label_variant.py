"""``label_variant``: two classes whose names are one name in two spellings."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from curate.reports.words import plural
from curate.rules.finders.found import Contents, Found

LEAST_STEM = 3
"""Letters that a name keeps without its plural: shorter ones are other words."""


def find(scan: Contents) -> Iterator[Found]:
    """Findings on classes: of those whose names are one but for case, signs or plural, on all but the largest."""
    rows = scan.data.train
    counts = Counter(rows.labels.tolist())
    same: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(rows.source.classes):
        same[spelling(name)].append(number)
    for numbers in same.values():
        first, *others = sorted(numbers, key=lambda number: (-counts[number], rows.source.classes[number]))
        for other in others:
            name, usual = rows.source.classes[other], rows.source.classes[first]
            sizes = f"'{name}' ({plural(counts[other], 'row')}) and '{usual}' ({plural(counts[first], 'row')})"
            why = f"{sizes} differ in spelling only: one class of {counts[other] + counts[first]:,} rows?"
            evidence: dict[str, object] = {"usual": usual, "rows": counts[other], "rows_of_usual": counts[first]}
            yield Found("train", None, "label_variant", "warning", None, why, evidence, subject="class", name=name)


def spelling(name: str) -> str:
    """A name without case, blanks, signs between words and the s of a plural."""
    plain = re.sub(r"[\s_\-.]+", " ", name.casefold()).strip()
    if len(plain) > LEAST_STEM and plain.endswith("s") and not plain.endswith("ss"):
        plain = plain[:-1]
    return plain
