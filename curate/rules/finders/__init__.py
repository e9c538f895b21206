"""Which rows break which rule: one file a rule, found by its entry in ``RULES``. Imported by the scan alone."""

from collections.abc import Collection
from dataclasses import replace
from importlib import import_module

from curate.rules.finders.found import Contents, Found, Scan
from curate.rules.rule import RULES

NEAREST = 5
"""Nearest rows that are named on a finding."""
NO_CLASS = "; it is a stranger too, so that no label is suggested"


def find_all(scan: Contents, asked: Collection[str] = tuple(RULES)) -> list[Found]:
    """The findings of the rules that are asked for; of those of contents alone if nothing else is known."""
    found: list[Found] = []
    for rule in RULES.values():
        if rule.name not in asked or not (rule.of_contents or isinstance(scan, Scan)):
            continue
        module, _, function = rule.finder.partition(":")
        found += getattr(import_module(module), function)(scan)
    if isinstance(scan, Scan):
        _name_nearest(scan, found)
    return without_suggestion(found)


def without_suggestion(found: list[Found]) -> list[Found]:
    """The findings, those of a wrong label telling of a row that is a stranger too that no label is suggested."""
    strange = strangers_of(found)
    return [
        replace(each, why=each.why + NO_CLASS)
        if each.rule == "mislabeled" and each.split == "train" and each.row in strange
        else each
        for each in found
    ]


def strangers_of(found: list[Found]) -> frozenset[int]:
    """The training rows that are found to belong to no class, for which any suggested label would be absurd."""
    return frozenset(each.row for each in found if each.rule == "stranger" and each.row is not None)


def _name_nearest(scan: Scan, found: list[Found]) -> None:
    """Add the nearest training rows of other content to the evidence of findings that ask for them, all at once."""
    train = scan.data.train
    asked = [each for each in found if each.near and each.split == "train"]
    rows = sorted({each.row for each in asked if each.row is not None})
    if not rows:
        return
    known = (scan.judged.near or scan.neighbours).among(4 * NEAREST)
    near, similarity = (column[rows] for column in known)
    keys, labels, sha, classes = train.keys, train.labels.tolist(), train.sha256, train.source.classes
    named = {
        row: [
            {"key": keys[other], "label": classes[labels[other]], "similarity": round(value, 4)}
            for other, value in zip(others, alike, strict=True)
            if sha[other] != sha[row]
        ][:NEAREST]
        for row, others, alike in zip(rows, near.tolist(), similarity.tolist(), strict=True)
    }
    for each in asked:
        if each.row is not None:
            each.evidence["nearest"] = named[each.row]
